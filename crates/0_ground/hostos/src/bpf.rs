//! Programs that decide which devices the processes of a cgroup may use; what they say is the business of `jail`.
#![allow(unsafe_code)] // bpf(2) takes its arguments by pointer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// BPF_PROG_LOAD and BPF_PROG_ATTACH of linux/bpf.h.
const LOAD: libc::c_long = 5;
const ATTACH: libc::c_long = 8;
/// BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI.
const PROGRAM_TYPE: u32 = 15;
const ATTACH_TYPE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for BPF_PROG_LOAD; what follows is zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Has the kernel verify and take a device program: instructions of `struct bpf_insn`, as eight bytes each.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN or CAP_SYS_ADMIN, EINVAL or EACCES for a program that the verifier refuses.
pub fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    let attributes = Load {
        program_type: PROGRAM_TYPE,
        count: u32::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        instructions: instructions.as_ptr() as u64,
        licence: c"Dual MIT/GPL".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the attributes have the layout of union bpf_attr, and what they point to outlives the call, in which the
    // kernel copies it. A result that is not negative is a descriptor of ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, LOAD, &raw const attributes, size_of::<Load>());
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Binds a device program to a cgroup of version 2, beside those that are there; it lasts as long as the cgroup.
///
/// # Errors
/// EPERM, EBADF when the directory is no cgroup.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
    let attributes = Attach {
        target: number(cgroup),
        program: number(program),
        attach_type: ATTACH_TYPE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attributes have the layout of union bpf_attr and outlive the call; the kernel only reads them.
    let done = unsafe { libc::syscall(libc::SYS_bpf, ATTACH, &raw const attributes, size_of::<Attach>()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
