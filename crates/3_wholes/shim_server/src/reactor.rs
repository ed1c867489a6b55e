//! The waiting: epoll with names instead of numbers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// What a descriptor is to the shim; the numbers name clients, sessions and runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// SIGTERM and friends.
    Signals,
    /// shim.sock.
    Shim,
    /// attach.sock.
    Attach,
    /// A connection of the daemon.
    Client(u32),
    /// A connection of a local client.
    Attached(u32),
    /// The process of a local client's session.
    Session(u32),
    /// The guest's console.
    Console,
    /// Standard error of a command, beside its output.
    Errors,
    /// A client's end of the console.
    Viewer(u32),
    /// Process 1.
    First,
    /// A process run to its end.
    Run(u32),
    /// Its standard input.
    RunInput(u32),
    /// Its output.
    RunOutput(u32),
    /// A process that copies files.
    Copy(u32),
    /// The memory limit.
    OutOfMemory,
    /// What the guest's service manager tells.
    Boot,
    /// What the engine tells.
    News,
}

impl Token {
    fn number(self) -> u64 {
        let (kind, index) = match self {
            Token::Signals => (0, 0),
            Token::Shim => (1, 0),
            Token::Attach => (2, 0),
            Token::Client(n) => (3, n),
            Token::Attached(n) => (4, n),
            Token::Session(n) => (5, n),
            Token::Console => (6, 0),
            Token::Viewer(n) => (7, n),
            Token::First => (8, 0),
            Token::Run(n) => (9, n),
            Token::RunInput(n) => (10, n),
            Token::RunOutput(n) => (11, n),
            Token::Copy(n) => (12, n),
            Token::OutOfMemory => (13, 0),
            Token::Errors => (14, 0),
            Token::Boot => (15, 0),
            Token::News => (16, 0),
        };
        kind << 32 | u64::from(index)
    }

    fn of(number: u64) -> Option<Token> {
        let n = u32::try_from(number & 0xffff_ffff).ok()?;
        Some(match number >> 32 {
            0 => Token::Signals,
            1 => Token::Shim,
            2 => Token::Attach,
            3 => Token::Client(n),
            4 => Token::Attached(n),
            5 => Token::Session(n),
            6 => Token::Console,
            7 => Token::Viewer(n),
            8 => Token::First,
            9 => Token::Run(n),
            10 => Token::RunInput(n),
            11 => Token::RunOutput(n),
            12 => Token::Copy(n),
            13 => Token::OutOfMemory,
            14 => Token::Errors,
            15 => Token::Boot,
            16 => Token::News,
            _ => return None,
        })
    }
}

/// What a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// To be read.
    Read,
    /// To be written.
    Write,
    /// Either.
    Both,
    /// Exceptional conditions.
    Exceptional,
    /// Only its end.
    Nothing,
}

impl Interest {
    /// Reading, and writing when there is something to write.
    #[must_use]
    pub fn read_and(write: bool) -> Interest {
        if write { Interest::Both } else { Interest::Read }
    }

    fn flags(self) -> EventFlags {
        match self {
            Interest::Read => EventFlags::IN,
            Interest::Write => EventFlags::OUT,
            Interest::Both => EventFlags::IN | EventFlags::OUT,
            Interest::Exceptional => EventFlags::PRI,
            Interest::Nothing => EventFlags::empty(),
        }
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Which.
    pub token: Token,
    /// It can be written, or has ended.
    pub writable: bool,
    /// It can be read, or has ended.
    pub readable: bool,
}

/// The set of descriptors. Closing a descriptor takes it out only when no copy is left: whoever hands copies to
/// others calls [`Reactor::remove`] first.
pub struct Reactor {
    epoll: OwnedFd,
}

impl Reactor {
    /// An empty set.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        Ok(Reactor {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Puts a descriptor in.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(token.number());
        epoll::add(&self.epoll, fd, data, interest.flags())?;
        Ok(())
    }

    /// Changes what it is waited for.
    pub fn change(&self, fd: impl AsFd, token: Token, interest: Interest) {
        let data = EventData::new_u64(token.number());
        let _ = epoll::modify(&self.epoll, fd, data, interest.flags());
    }

    /// Takes it out.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until something is ready or the time has come.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub fn wait(&self, until: Option<Instant>) -> io::Result<Vec<Ready>> {
        let timeout = until.map(|until| {
            // A little late rather than a little early, which would spin.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 32];
        let count = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let ended = EventFlags::HUP | EventFlags::ERR;
        Ok(events[..count]
            .iter()
            .filter_map(|event| {
                let flags = event.flags;
                Some(Ready {
                    token: Token::of(event.data.u64())?,
                    writable: flags.intersects(EventFlags::OUT | ended),
                    readable: flags.intersects(EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP | ended),
                })
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_found_again() {
        for token in [
            Token::Signals,
            Token::Client(7),
            Token::Viewer(u32::MAX),
            Token::RunOutput(0),
            Token::OutOfMemory,
            Token::News,
        ] {
            assert_eq!(Token::of(token.number()), Some(token));
        }
    }
}
