//! The network process gives up everything that it does not need, before it reads the first byte.
#![allow(unsafe_code)] // unshare(2) is marked unsafe in rustix, because of file descriptor tables; close_range(2).

use std::collections::BTreeMap;
use std::io;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Resource, Rlimit, chdir, pivot_root, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, UnshareFlags, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// The user `nobody` of every distribution.
const NOBODY: u32 = 65534;
/// Descriptors: two for every forwarded connection.
const FILES: u64 = 65536;

/// Confines the calling process, which must have one thread.
///
/// Afterwards it sees an empty root, has no capability and no way to get one, may open sockets of the Internet
/// families and nothing else.
pub(super) fn confine() -> io::Result<()> {
    raise_file_limit();
    empty_root()?;
    drop_privileges()?;
    filter()
}

/// Closes every descriptor but the standard three: whatever leaked from the daemon's parents ends here. Called before
/// anything else is open.
pub(super) fn close_inherited() {
    // SAFETY: the call takes numbers only; nothing in this process owns a descriptor above 2 yet. A kernel without it
    // (before 5.9) answers with an error, and nothing is closed.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

fn raise_file_limit() {
    let wanted = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
    }
}

/// Moves into a mount namespace whose only mount is an empty read-only tmpfs.
fn empty_root() -> io::Result<()> {
    // SAFETY: the flags do not touch the table of file descriptors.
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS)?
    };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Any directory serves; every Linux has this one.
    mount("tmpfs", "/proc", "tmpfs", flags, c"size=4k,mode=555")?;
    chdir("/proc")?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    rustix::mount::mount_remount("/", flags | MountFlags::RDONLY, c"")?;
    Ok(())
}

fn drop_privileges() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        // Refused for those that this kernel does not know.
        let _ = remove_capability_from_bounding_set(capability);
    }
    set_thread_groups(&[])?;
    let (uid, gid) = (rustix::thread::Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Everything that tokio's one-threaded runtime, sockets and the allocator call.
const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_tgkill,
];

fn filter() -> io::Result<()> {
    let program = program().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let equal = |index, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let family = |family: i32| SeccompRule::new(vec![equal(0, family as u64)?]);
    rules.insert(
        libc::SYS_socket,
        vec![family(libc::AF_INET)?, family(libc::AF_INET6)?],
    );
    rules.insert(
        libc::SYS_ioctl,
        vec![SeccompRule::new(vec![equal(1, libc::FIONBIO)?])?],
    );
    let executable = libc::PROT_EXEC as u64;
    let never = SeccompCmpOp::MaskedEq(executable);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let data = SeccompCondition::new(2, SeccompCmpArgLen::Dword, never.clone(), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![data])?]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_for_this_machine() {
        assert!(program().unwrap().len() > CALLS.len());
    }
}
