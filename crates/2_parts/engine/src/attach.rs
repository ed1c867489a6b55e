//! A local client's side of a session: show the ticket, get the descriptors. Blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fault::{Fault, OrFault, Result};
use model::ExitStatus;
use model::api::TerminalSize;

use crate::protocol::{Attach, AttachControl, AttachEvent, Attached, MESSAGE_BROKEN, SHIM_SILENT};
use crate::wire::{Filled, Wire};

/// A session: its kind, its descriptors in the order that [`Attached`] tells, and its control connection.
pub struct Session {
    /// Terminal, pipes or console.
    pub kind: Attached,
    /// One for a terminal; standard input, output and error for pipes; one for the console of a system, two for the
    /// output and error of a command.
    pub fds: Vec<OwnedFd>,
    /// Resizing, signals, and the end.
    pub control: Control,
}

/// The control connection of a session. Dropping it tells the shim that the client is gone.
pub struct Control(Wire);

impl Session {
    /// Connects to `attach.sock` and takes up the session of a ticket; an exec session's process starts now.
    ///
    /// # Errors
    /// `SHM004` for a ticket that is unknown or used, `SHM001` when the shim is gone, or why the process did not start.
    pub fn open(socket: &Path, ticket: &str) -> Result<Session> {
        let silent = || Fault::new(SHIM_SILENT).arg("path", socket.display());
        let mut wire = Wire::new(crate::shim::connect_short(socket).or_fault(silent)?);
        let ticket = Attach {
            ticket: ticket.to_owned(),
        };
        wire.push(&ticket, Vec::new())?;
        wire.flush().or_fault(silent)?;
        loop {
            match wire.take::<Attached>()? {
                Some((Attached::Fault(fault), _)) => return Err(fault),
                Some((kind, fds)) => {
                    let expected = match kind {
                        Attached::Pipes => 3..=3,
                        Attached::Console { .. } => 1..=2,
                        _ => 1..=1,
                    };
                    if !expected.contains(&fds.len()) {
                        return Err(Fault::new(MESSAGE_BROKEN).because_of("descriptors are missing"));
                    }
                    return Ok(Session {
                        kind,
                        fds,
                        control: Control(wire),
                    });
                }
                None => {
                    if wire.fill().or_fault(silent)? == Filled::End {
                        return Err(silent());
                    }
                }
            }
        }
    }
}

impl Control {
    /// Tells the size of the terminal.
    ///
    /// # Errors
    /// When the shim is gone.
    pub fn resize(&mut self, size: TerminalSize) -> Result<()> {
        self.send(&AttachControl::Resize { size })
    }

    /// Sends the process a signal, by number.
    ///
    /// # Errors
    /// When the shim is gone.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        self.send(&AttachControl::Signal { signal })
    }

    /// Waits for the end of the process; `None` when the session ends without one (a console, or a shim that died).
    ///
    /// # Errors
    /// When the shim breaks the protocol.
    pub fn wait(&mut self) -> Result<Option<ExitStatus>> {
        loop {
            if let Some((AttachEvent::Exited { exit }, _)) = self.0.take()? {
                return Ok(Some(exit));
            }
            match self.0.fill() {
                Ok(Filled::Data) => {}
                Ok(Filled::Nothing) => {
                    rustix::event::poll(
                        &mut [rustix::event::PollFd::new(
                            &self.0.socket(),
                            rustix::event::PollFlags::IN,
                        )],
                        None,
                    )
                    .or_fault(|| Fault::new(SHIM_SILENT))?;
                }
                Ok(Filled::End) | Err(_) => return Ok(None),
            }
        }
    }

    /// What has come, without waiting: call it when the descriptor is readable. `Err` of kind `UnexpectedEof` when the
    /// session is over without a word.
    ///
    /// # Errors
    /// When the shim is gone or breaks the protocol.
    pub fn poll(&mut self) -> io::Result<Option<AttachEvent>> {
        let broken = |fault: Fault| io::Error::new(io::ErrorKind::InvalidData, fault);
        loop {
            if let Some((event, _)) = self.0.take().map_err(broken)? {
                return Ok(Some(event));
            }
            let ready = rustix::event::poll(
                &mut [rustix::event::PollFd::new(
                    &self.0.socket(),
                    rustix::event::PollFlags::IN,
                )],
                Some(&rustix::event::Timespec::default()),
            )?;
            if ready == 0 {
                return Ok(None);
            }
            if self.0.fill()? == Filled::End {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn send(&mut self, control: &AttachControl) -> Result<()> {
        let silent = || Fault::new(SHIM_SILENT);
        self.0.push(control, Vec::new())?;
        self.0.flush().or_fault(silent).map(drop)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket().as_fd()
    }
}
