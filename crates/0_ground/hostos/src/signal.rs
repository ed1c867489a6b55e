//! Sending signals by number, real-time ones too.
#![allow(unsafe_code)] // rustix knows named signals only.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends a signal to the process of a descriptor (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH when it has ended, EINVAL when the number is no signal.
pub fn send(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the length of the call and no structure is handed over.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, none, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
