//! Processes by their descriptors: how they ended, and signals to them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use model::ExitStatus;
use rustix::process::{Pid, PidfdFlags, WaitIdOptions};

/// How the process of a descriptor ended, reaping it; none while it runs.
#[must_use]
pub fn exit_of(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd), options) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Code(-1),
        }),
        Ok(None) | Err(rustix::io::Errno::INTR) => None,
        // Not our child any more: nobody can tell how it ended.
        Err(_) => Some(ExitStatus::Code(-1)),
    }
}

/// Sends a signal by number, real-time ones too.
///
/// # Errors
/// Those of pidfd_send_signal(2).
pub fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    hostos::signal::send(pidfd, number)
}

/// Opens the process descriptor of a process id.
#[must_use]
pub fn pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}
