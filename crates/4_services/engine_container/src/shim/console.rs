//! The guest's console: read once, logged, shown to every client that looks on; keys go from clients to the guest.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use super::log::Log;
use super::reactor::{Interest, Reactor, Token};
use crate::container::ConsoleEnd;

/// Bytes read from the console in one turn, so that a loud guest leaves turns to everybody else.
const TURN: usize = 64 * 1024;
/// Bytes kept for a client that reads slowly; what comes beyond is in the log only.
const LAG: usize = 256 * 1024;
/// Keys kept for a guest that does not read its console.
const KEYS: usize = 4096;
/// Bytes of the log that a new client is shown first.
pub const SCROLLBACK: u64 = 64 * 1024;

struct Viewer {
    socket: UnixStream,
    unsent: VecDeque<u8>,
    writing: bool,
    /// Forgotten as soon as everything is sent.
    ending: bool,
}

/// The console and its clients.
pub struct Console {
    end: Option<ConsoleEnd>,
    log: Log,
    viewers: BTreeMap<u32, Viewer>,
    keys: VecDeque<u8>,
    size: Option<(u16, u16)>,
}

impl Console {
    /// A console that nothing is connected to.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Console {
            end: None,
            log,
            viewers: BTreeMap::new(),
            keys: VecDeque::new(),
            size: None,
        }
    }

    /// Connects the console of a new start.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn connect(&mut self, end: ConsoleEnd, reactor: &Reactor) -> io::Result<()> {
        reactor.add(end.reading(), Token::Console, Interest::Read)?;
        self.keys.clear();
        self.end = Some(end);
        if let Some((rows, cols)) = self.size {
            self.resize(rows, cols);
        }
        Ok(())
    }

    /// Takes what is left after the guest's end and lets the console go.
    pub fn disconnect(&mut self, reactor: &Reactor) {
        for _ in 0..64 {
            if !self.read(reactor) {
                break;
            }
        }
        if let Some(end) = self.end.take() {
            reactor.remove(end.reading());
        }
    }

    /// One turn of reading; whether there was something.
    pub fn read(&mut self, reactor: &Reactor) -> bool {
        let Some(end) = &self.end else {
            return false;
        };
        let mut buffer = [0; TURN];
        match rustix::io::read(end.reading(), &mut buffer) {
            Ok(0) => {
                reactor.remove(end.reading());
                self.end = None;
                false
            }
            Ok(count) => {
                self.show(&buffer[..count], reactor);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => {
                reactor.remove(end.reading());
                self.end = None;
                false
            }
        }
    }

    fn show(&mut self, bytes: &[u8], reactor: &Reactor) {
        self.log.write(bytes);
        let mut gone = Vec::new();
        for (number, viewer) in &mut self.viewers {
            if viewer.unsent.len() + bytes.len() <= LAG {
                viewer.unsent.extend(bytes);
            }
            if !viewer.flush(*number, reactor) {
                gone.push(*number);
            }
        }
        for number in gone {
            self.remove_viewer(number, reactor);
        }
    }

    /// Lets a client look on: its end of a socket pair, and how many bytes of scrollback come first.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn add_viewer(&mut self, number: u32, reactor: &Reactor) -> io::Result<(OwnedFd, u64)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        reactor.add(&ours, Token::Viewer(number), Interest::Read)?;
        let scrollback = self.log.tail(SCROLLBACK);
        let length = scrollback.len() as u64;
        let mut viewer = Viewer {
            socket: ours,
            unsent: scrollback.into(),
            writing: false,
            ending: false,
        };
        viewer.flush(number, reactor);
        self.viewers.insert(number, viewer);
        Ok((theirs.into(), length))
    }

    /// A client's end is ready.
    pub fn viewer_ready(&mut self, number: u32, readable: bool, reactor: &Reactor) {
        let room = self.keys.len() < KEYS;
        let Some(viewer) = self.viewers.get_mut(&number) else {
            return;
        };
        let mut alive = viewer.flush(number, reactor);
        alive &= !(viewer.ending && viewer.unsent.is_empty());
        if alive && readable && room {
            let mut buffer = [0; 1024];
            match rustix::io::read(&viewer.socket, &mut buffer) {
                Ok(0) => alive = false,
                Ok(count) => self.keys.extend(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => alive = false,
            }
        } else if alive && readable {
            // A guest that does not read gets no more keys; whoever types goes on typing into nothing.
            let mut buffer = [0; 1024];
            alive = !matches!(rustix::io::read(&viewer.socket, &mut buffer), Ok(0));
        }
        if !alive {
            self.remove_viewer(number, reactor);
        }
        self.press(reactor);
    }

    /// Hands keys to the guest, as many as it takes.
    pub fn press(&mut self, reactor: &Reactor) {
        let Some(ConsoleEnd::Terminal { pty }) = &self.end else {
            self.keys.clear();
            return;
        };
        let was_waiting = !self.keys.is_empty();
        while !self.keys.is_empty() {
            let (first, _) = self.keys.as_slices();
            match rustix::io::write(&pty.master, first) {
                Ok(count) => drop(self.keys.drain(..count)),
                Err(_) => break,
            }
        }
        if was_waiting {
            let interest = Interest::read_and(!self.keys.is_empty());
            reactor.change(&pty.master, Token::Console, interest);
        }
    }

    /// Whether keys wait for the guest.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Sets the size of the terminal, now and for the next start.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.size = Some((rows, cols));
        if let Some(ConsoleEnd::Terminal { pty }) = &self.end {
            let _ = crate::pty::resize(&pty.master, rows, cols);
        }
    }

    /// Forgets a client.
    pub fn remove_viewer(&mut self, number: u32, reactor: &Reactor) {
        if let Some(viewer) = self.viewers.remove(&number) {
            reactor.remove(&viewer.socket);
        }
    }

    /// Ends the sessions of all clients, after the guest has stopped for good.
    pub fn dismiss(&mut self, reactor: &Reactor) {
        for number in self.viewers.keys().copied().collect::<Vec<_>>() {
            self.end_viewer(number, reactor);
        }
    }

    /// Ends the session of a client once it has got everything.
    pub fn end_viewer(&mut self, number: u32, reactor: &Reactor) {
        if let Some(viewer) = self.viewers.get_mut(&number) {
            viewer.ending = true;
            if viewer.unsent.is_empty() {
                self.remove_viewer(number, reactor);
            }
        }
    }
}

impl ConsoleEnd {
    fn reading(&self) -> BorrowedFd<'_> {
        match self {
            ConsoleEnd::Terminal { pty } => pty.master.as_fd(),
            ConsoleEnd::Output { pipe } => pipe.as_fd(),
        }
    }
}

impl Viewer {
    /// Sends what the client takes; false when it is gone.
    fn flush(&mut self, number: u32, reactor: &Reactor) -> bool {
        while !self.unsent.is_empty() {
            let (first, _) = self.unsent.as_slices();
            match rustix::net::send(&self.socket, first, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        let writing = !self.unsent.is_empty();
        if writing != self.writing {
            self.writing = writing;
            reactor.change(&self.socket, Token::Viewer(number), Interest::read_and(writing));
        }
        true
    }
}
