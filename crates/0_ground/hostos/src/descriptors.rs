//! Descriptors: closing ranges of them, and taking over those that a parent handed on by number.
#![allow(unsafe_code)] // close_range(2) and the birth of OwnedFd from a number have no safe wrapper.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Closes every descriptor from `first` on (close_range(2)). For a process that is about to execute another program
/// or just came out of a fork; descriptors owned by live values of this process must not be used afterwards.
///
/// # Errors
/// Those of close_range(2).
pub fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first, 0)
}

/// Marks every descriptor from `first` on to be closed by exec.
///
/// # Errors
/// Those of close_range(2); EINVAL before Linux 5.11.
pub fn close_from_on_exec(first: RawFd) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: RawFd, flags: libc::c_uint) -> io::Result<()> {
    let first = libc::c_uint::try_from(first).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: no memory is involved; the caller promises not to use the descriptors any more.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes over an open descriptor that the process inherited under an agreed number. Nobody else in the process may
/// own it.
///
/// # Errors
/// EBADF when it is not open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD touches no memory and answers EBADF for a closed descriptor.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by the contract of this function nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives a descriptor this number, closing what had it before, and marks it to be closed by exec. What it was before
/// stays open until [`close_from`]. For the last steps before exec, when nothing else owns descriptors any more.
///
/// # Errors
/// Those of dup3(2).
pub fn place(fd: OwnedFd, number: RawFd) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    let from = fd.into_raw_fd();
    // SAFETY: dup3 touches no memory; that nobody uses `number` any more is the contract of this function.
    if unsafe { libc::dup3(from, number, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the child of a command inherit descriptors under their present numbers. The command keeps them open.
pub fn inherit(command: &mut std::process::Command, descriptors: Vec<std::sync::Arc<OwnedFd>>) {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let keep = move || {
        for fd in &descriptors {
            // SAFETY: fcntl on a number touches no memory.
            if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure calls fcntl only, which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(keep) };
}
