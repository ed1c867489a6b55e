//! Processes: fork, clone3 and the controlling terminal.
#![allow(unsafe_code)] // fork(2) and clone3(2) are as unsafe as calls can be.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Flags of [`clone_into`], of clone(2).
pub mod flag {
    /// New mount namespace.
    pub const NEW_MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// New pid namespace.
    pub const NEW_PID: u64 = libc::CLONE_NEWPID as u64;
    /// New cgroup namespace.
    pub const NEW_CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// The caller's parent becomes the child's parent.
    pub const SIBLING: u64 = libc::CLONE_PARENT as u64;
    /// All signals at their default actions in the child.
    pub const CLEAR_SIGNALS: u64 = 0x1_0000_0000;
    const _: () = assert!(libc::CLONE_NEWNS > 0 && libc::CLONE_NEWPID > 0 && libc::CLONE_PARENT > 0);
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn run(child: impl FnOnce() -> i32) -> ! {
    let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
    // SAFETY: ends the child without running exit handlers or destructors that belong to the parent.
    unsafe { libc::_exit(code) }
}

/// Runs `child` in a forked process, which ends with the code it returns; returns the process id. In a program with
/// several threads the child may rely on memory allocation (glibc sees to that), but not on locks of others.
///
/// # Errors
/// Those of fork(2).
pub fn fork_into(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the child runs only `child` and then leaves by _exit.
    match unsafe { libc::fork() } {
        0 => run(child),
        pid if pid > 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// As [`fork_into`] with flags of [`flag`], by clone3(2); born in a cgroup (v2) when one is given. Only for processes
/// with one thread, because no handlers of fork run.
///
/// # Errors
/// Those of clone3(2).
pub fn clone_into(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<i32> {
    let mut args = CloneArgs {
        flags,
        ..CloneArgs::default()
    };
    if flags & flag::SIBLING == 0 {
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the structure has the layout of clone3(2); without CLONE_VM the child gets a copy of all memory and
    // goes on on its own copy of this stack, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match i32::try_from(pid) {
        Ok(0) => run(child),
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves the calling thread into new namespaces (unshare(2)). Descriptors stay shared.
///
/// # Errors
/// Those of unshare(2); EINVAL for flags that are no namespaces.
pub fn unshare(spaces: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    use rustix::thread::UnshareFlags as F;
    if spaces.intersects(F::FILES | F::FS | F::SYSVSEM) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: what makes unshare unsafe is the descriptor table, which stays as it is.
    unsafe { rustix::thread::unshare_unsafe(spaces) }
}

/// Blocks one signal more.
///
/// # Errors
/// EINVAL for a number that is no signal.
pub fn block_signal(signal: i32) -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before it is read.
    let done = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal)
            | libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

/// Blocks no signal any more, and lets SIGPIPE end the process again (Rust's runtime has it ignored, which exec would
/// hand on).
pub fn unblock_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is read; no handler is set.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Blocks the signals and returns a descriptor from which they are read (signalfd(2)).
///
/// # Errors
/// Those of signalfd(2).
pub fn signals_as_descriptor(signals: &[i32]) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: the set is initialised before it is read; the descriptor is new and ours.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
    }
}

/// Takes one signal out of a descriptor of [`signals_as_descriptor`]: its number and the process that sent it or, for
/// SIGCHLD, that changed. None when there is none.
///
/// # Errors
/// Those of read(2).
pub fn next_signal(descriptor: impl std::os::fd::AsFd) -> io::Result<Option<(i32, u32)>> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; SIZE];
    match rustix::io::read(descriptor, &mut buffer) {
        Ok(SIZE) => {
            let word =
                |at: usize| u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
            let signo = word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo));
            Ok(Some((
                signo.cast_signed(),
                word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_pid)),
            )))
        }
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
