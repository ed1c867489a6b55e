//! The loop: one thread, one poll(2), every descriptor non-blocking.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::connection::{Common, Connection};
use super::doors::{Door, Doors};
use super::ground::Ground;
use super::reaper::{Reaper, reap};
use super::session::{Which, kill_group};
use crate::protocol::{FEATURES, Hello, PROTOCOL_VERSION};
use crate::wire::DATA_LIMIT;

/// Most connections at once.
const CONNECTION_LIMIT: usize = 64;

/// What the loop waits for.
#[derive(Clone, Copy)]
enum Token {
    Reaper,
    Door(Door),
    Stream(usize),
    Session(usize, u32, Which),
}

/// The agent at work.
#[derive(Debug)]
pub struct Server {
    common: Common,
    connections: Vec<Connection>,
    doors: Doors,
    /// Counts turns, so that no session is always served first.
    turns: usize,
}

impl Server {
    /// An agent behind these doors; `follow`: it works in the root directory of process 1.
    ///
    /// # Errors
    /// Those of pipe2(2).
    pub fn new(doors: Doors, follow: bool) -> io::Result<Self> {
        let system = rustix::system::uname();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: system.release().to_string_lossy().into_owned(),
            features: FEATURES.map(str::to_owned).to_vec(),
        };
        Ok(Server {
            common: Common {
                hello,
                reaper: Reaper::new()?,
                dying: Vec::new(),
                ground: Ground::new(follow),
                scratch: Box::new([0; DATA_LIMIT]),
            },
            connections: Vec::new(),
            doors,
            turns: 0,
        })
    }

    /// Serves a stream that is there already; `port`: one without connections.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn add(&mut self, stream: OwnedFd, port: bool) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&stream, true)?;
        self.connections.push(Connection::new(stream, port));
        Ok(())
    }

    /// Works until no door, no connection and no child is left: with doors, for ever.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn run(&mut self) -> io::Result<()> {
        while self.doors.any() || !self.connections.is_empty() || !self.common.dying.is_empty() {
            self.open_doors();
            for (token, flags) in self.wait()? {
                self.dispatch(token, flags);
            }
            let now = Instant::now();
            for connection in &mut self.connections {
                connection.turn(now, &mut self.common);
            }
            self.connections.retain(|connection| !connection.is_dead());
            for dying in &mut self.common.dying {
                if dying.deadline.is_some_and(|at| at <= now) {
                    kill_group(dying.pid);
                    dying.deadline = None;
                }
            }
            self.turns = self.turns.wrapping_add(1);
        }
        Ok(())
    }

    fn open_doors(&mut self) {
        let busy = self.connections.iter().any(Connection::is_busy);
        let port = self.connections.iter().any(Connection::is_port);
        if self.doors.is_due(Instant::now()) {
            let moved = self.common.ground.follow();
            if let Some(stream) = self.doors.open(moved, port, busy) {
                self.connections.push(Connection::new(stream, true));
            }
        }
    }

    fn wait(&self) -> io::Result<Vec<(Token, PollFlags)>> {
        let mut tokens = vec![Token::Reaper];
        let mut polled = vec![PollFd::new(&self.common.reaper, PollFlags::IN)];
        if self.connections.len() < CONNECTION_LIMIT {
            self.doors.interests(|door, fd| {
                tokens.push(Token::Door(door));
                polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            });
        }
        for (index, connection) in self.connections.iter().enumerate() {
            connection.interests(|what, fd, flags| {
                tokens.push(match what {
                    None => Token::Stream(index),
                    Some((number, which)) => Token::Session(index, number, which),
                });
                polled.push(PollFd::from_borrowed_fd(fd, flags));
            });
        }
        let timeout = self.timeout();
        let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or_default());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = polled.iter().map(PollFd::revents);
        let mut ready: Vec<_> = tokens
            .into_iter()
            .zip(flags)
            .filter(|(_, flags)| !flags.is_empty())
            .collect();
        if !ready.is_empty() {
            let first = self.turns % ready.len();
            ready.rotate_left(first);
        }
        Ok(ready)
    }

    fn timeout(&self) -> Option<Duration> {
        let connections = self.connections.iter().filter_map(Connection::deadline);
        let dying = self.common.dying.iter().filter_map(|dying| dying.deadline);
        let next = connections.chain(dying).chain(self.doors.deadline()).min()?;
        // A millisecond more: waking up early would only mean to sleep again.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn dispatch(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Reaper => self.reap(),
            Token::Door(door) => {
                if let Some(stream) = self.doors.accept(door) {
                    self.connections.push(Connection::new(stream, false));
                }
            }
            Token::Stream(index) => {
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.ready(flags, &mut self.common);
                }
            }
            Token::Session(index, number, which) => {
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.session_ready(number, which, &mut self.common);
                }
            }
        }
    }

    fn reap(&mut self) {
        while let Some(pid) = self.common.reaper.next() {
            if let Some(index) = self.common.dying.iter().position(|dying| dying.pid == pid) {
                // What is left of its group goes with it.
                kill_group(pid);
                let _ = reap(pid);
                self.common.dying.swap_remove(index);
                continue;
            }
            for connection in &mut self.connections {
                if let Some(number) = connection.session_of(pid) {
                    connection.child_ended(number);
                }
            }
        }
    }
}
