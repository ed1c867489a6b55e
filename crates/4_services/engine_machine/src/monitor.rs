//! The shim's side of the connection to the machine's process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::wire::{Filled, Wire};
use fault::{Fault, OrFault, Result};
use machine::control::{Event, Order, Said};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::SILENT;

/// How long the machine may take to answer what it answers at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connection.
pub struct Monitor {
    wire: Wire,
    name: String,
    events: Vec<Event>,
}

impl Monitor {
    /// Over one end of a socket pair, whose other end the machine has.
    pub fn new(socket: UnixStream, name: &str) -> Result<Monitor> {
        socket
            .set_nonblocking(true)
            .or_fault(|| Fault::new(SILENT).arg("name", name))?;
        Ok(Monitor {
            wire: Wire::new(socket),
            name: name.to_owned(),
            events: Vec::new(),
        })
    }

    fn silent(&self) -> Fault {
        Fault::new(SILENT).arg("name", &self.name)
    }

    /// Gives an order and waits for what is said to it.
    ///
    /// # Errors
    /// The machine's own fault; `MAC014` when it does not answer.
    pub fn ask(&mut self, order: &Order, fds: Vec<OwnedFd>) -> Result<(Said, Vec<OwnedFd>)> {
        let until = Instant::now() + PATIENCE;
        self.wire.push(order, fds)?;
        while !self.wire.flush().or_fault(|| self.silent())? {
            self.wait(PollFlags::OUT, until)?;
        }
        loop {
            match self.wire.take::<Said>()? {
                Some((Said::Event { event }, _)) => self.events.push(event),
                Some((Said::Fault { fault }, _)) => return Err(fault),
                Some((said, fds)) => return Ok((said, fds)),
                None => self.fill(until)?,
            }
        }
    }

    fn fill(&mut self, until: Instant) -> Result<()> {
        match self.wire.fill().or_fault(|| self.silent())? {
            Filled::Data => Ok(()),
            Filled::Nothing => self.wait(PollFlags::IN, until),
            Filled::End => Err(self.silent()),
        }
    }

    fn wait(&self, what: PollFlags, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(self.wire.socket(), what)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => Err(self.silent()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(self.silent().because(error)),
        }
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        while let Ok(Filled::Data) = self.wire.fill() {}
        while let Ok(Some((said, _))) = self.wire.take::<Said>() {
            if let Said::Event { event } = said {
                self.events.push(event);
            }
        }
        std::mem::take(&mut self.events)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.socket().as_fd()
    }
}
