//! Learning of the end of children without signals: one waiting thread per child, which tells the loop through a pipe.
//!
//! Threads and no pidfd (Linux 5.3) and no SIGCHLD: it works on every kernel and beside whatever else the process
//! does. A child is only waited *for* there; the loop takes its status, so that until then its number stays its own
//! and may be signalled.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use crate::protocol::Exit;

const STACK: usize = 64 << 10;

/// The pipe on which ends are told.
#[derive(Debug)]
pub struct Reaper {
    ended: OwnedFd,
    tell: Arc<OwnedFd>,
}

impl Reaper {
    /// A reaper without children.
    ///
    /// # Errors
    /// Those of pipe2(2).
    pub fn new() -> io::Result<Self> {
        let (ended, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ended, true)?;
        Ok(Reaper {
            ended,
            tell: Arc::new(tell),
        })
    }

    /// Watches a child of this process.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn watch(&self, pid: i32) -> io::Result<()> {
        let tell = Arc::clone(&self.tell);
        let id = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let wait = move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(id), options), Err(Errno::INTR)) {}
            // Four bytes are written whole or not at all; without a reader nobody wants to know.
            while rustix::io::write(&*tell, &pid.to_ne_bytes()) == Err(Errno::INTR) {}
        };
        let thread = std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(STACK);
        thread.spawn(wait).map(drop)
    }

    /// A child that has ended, if any: call it when the descriptor is readable. Whoever gets it calls [`reap`].
    pub fn next(&self) -> Option<i32> {
        let mut pid = [0; 4];
        match rustix::io::read(&self.ended, &mut pid) {
            Ok(4) => Some(i32::from_ne_bytes(pid)),
            _ => None,
        }
    }
}

impl AsFd for Reaper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

/// Takes the status of a child that has ended, waiting if need be; its number is not its own any more then.
#[must_use]
pub fn reap(pid: i32) -> Exit {
    loop {
        match waitpid(Pid::from_raw(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    _ => continue,
                };
            }
            Ok(None) | Err(_) => return Exit::Code(127),
        }
    }
}
