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

/// Where bytes of the console come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The terminal of a system, or the standard output of a command.
    Output,
    /// The standard error of a command.
    Errors,
}

/// One direction towards a client.
struct Lane {
    socket: UnixStream,
    unsent: VecDeque<u8>,
    writing: bool,
}

struct Viewer {
    /// One for a terminal; output and error for a command.
    lanes: Vec<Lane>,
    /// It was there before the command began, as if the command ran in its terminal: it misses nothing, and the
    /// command waits for it as for any slow reader of its output.
    patient: bool,
    /// Forgotten as soon as everything is sent.
    ending: bool,
}

/// The console and its clients.
pub struct Console {
    end: Option<ConsoleEnd>,
    log: Log,
    lanes: usize,
    viewers: BTreeMap<u32, Viewer>,
    keys: VecDeque<u8>,
    size: Option<(u16, u16)>,
    /// Nothing is read, because a patient client has not taken what it was sent.
    paused: bool,
}

impl Console {
    /// A console that nothing is connected to; `lanes` is 1 for a terminal, 2 for a command's output and error.
    #[must_use]
    pub fn new(log: Log, lanes: usize) -> Self {
        Console {
            end: None,
            log,
            lanes,
            viewers: BTreeMap::new(),
            keys: VecDeque::new(),
            size: None,
            paused: false,
        }
    }

    /// Connects the console of a new start.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn connect(&mut self, end: ConsoleEnd, reactor: &Reactor) -> io::Result<()> {
        for (fd, token) in end.reading() {
            reactor.add(fd, token, Interest::Read)?;
        }
        self.paused = false;
        self.keys.clear();
        self.end = Some(end);
        if let Some((rows, cols)) = self.size {
            self.resize(rows, cols);
        }
        Ok(())
    }

    /// Takes what is left after the guest's end and lets the console go.
    pub fn disconnect(&mut self, reactor: &Reactor) {
        for source in [Source::Output, Source::Errors] {
            for _ in 0..64 {
                if !self.read(source, reactor) {
                    break;
                }
            }
        }
        if let Some(end) = self.end.take() {
            for (fd, _) in end.reading() {
                reactor.remove(fd);
            }
        }
    }

    /// One turn of reading; whether there was something.
    pub fn read(&mut self, source: Source, reactor: &Reactor) -> bool {
        let Some(from) = self.end.as_ref().and_then(|end| end.source(source)) else {
            return false;
        };
        let mut buffer = [0; TURN];
        match rustix::io::read(from, &mut buffer) {
            Ok(count) if count > 0 => {
                self.show(source, &buffer[..count], reactor);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Ok(_) | Err(_) => {
                reactor.remove(from);
                false
            }
        }
    }

    fn show(&mut self, source: Source, bytes: &[u8], reactor: &Reactor) {
        self.log.write(bytes);
        let mut gone = Vec::new();
        for (number, viewer) in &mut self.viewers {
            let patient = viewer.patient;
            let lane = match source {
                Source::Errors => viewer.lanes.last_mut(),
                Source::Output => viewer.lanes.first_mut(),
            };
            if let Some(lane) = lane
                && (patient || lane.unsent.len() + bytes.len() <= LAG)
            {
                lane.unsent.extend(bytes);
            }
            if !viewer.flush(*number, reactor) {
                gone.push(*number);
            }
        }
        for number in gone {
            self.remove_viewer(number, reactor);
        }
        self.pause_or_go_on(reactor);
    }

    /// Leaves the guest's output in its pipe while a patient client lags behind.
    fn pause_or_go_on(&mut self, reactor: &Reactor) {
        let limit = if self.paused { LAG / 2 } else { LAG };
        let behind = |lane: &Lane| lane.unsent.len() > limit;
        let pause = self
            .viewers
            .values()
            .any(|viewer| viewer.patient && viewer.lanes.iter().any(behind));
        if pause == self.paused {
            return;
        }
        self.paused = pause;
        for (fd, token) in self.end.iter().flat_map(ConsoleEnd::reading) {
            if pause {
                reactor.remove(fd);
            } else {
                // A pipe that has ended says so once more.
                let _ = reactor.add(fd, token, Interest::Read);
            }
        }
    }

    /// Lets a client look on: its ends of socket pairs, and how many bytes of scrollback come first. `before_start`
    /// means that the client is to miss nothing.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn add_viewer(
        &mut self,
        number: u32,
        before_start: bool,
        reactor: &Reactor,
    ) -> io::Result<(Vec<OwnedFd>, u64)> {
        let scrollback = self.log.tail(SCROLLBACK);
        let length = scrollback.len() as u64;
        let mut viewer = Viewer {
            lanes: Vec::new(),
            patient: before_start && self.lanes > 1,
            ending: false,
        };
        let mut ends = Vec::new();
        for _ in 0..self.lanes {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            viewer.lanes.push(Lane {
                socket: ours,
                unsent: VecDeque::new(),
                writing: false,
            });
            ends.push(theirs.into());
        }
        for lane in &viewer.lanes {
            reactor.add(&lane.socket, Token::Viewer(number), Interest::Read)?;
        }
        if let Some(first) = viewer.lanes.first_mut() {
            first.unsent = scrollback.into();
        }
        viewer.flush(number, reactor);
        self.viewers.insert(number, viewer);
        Ok((ends, length))
    }

    /// A client's end is ready.
    pub fn viewer_ready(&mut self, number: u32, readable: bool, reactor: &Reactor) {
        let room = self.keys.len() < KEYS;
        let Some(viewer) = self.viewers.get_mut(&number) else {
            return;
        };
        let mut alive = viewer.flush(number, reactor);
        alive &= !(viewer.ending && viewer.is_served());
        for lane in viewer.lanes.iter().filter(|_| readable) {
            let mut buffer = [0; 1024];
            match rustix::io::read(&lane.socket, &mut buffer) {
                Ok(0) => alive = false,
                // A guest that does not read gets no more keys; whoever types goes on typing into nothing.
                Ok(count) if room => self.keys.extend(&buffer[..count]),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => alive = false,
            }
        }
        if !alive {
            self.remove_viewer(number, reactor);
        }
        self.pause_or_go_on(reactor);
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
            for lane in &viewer.lanes {
                reactor.remove(&lane.socket);
            }
            self.pause_or_go_on(reactor);
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
            if viewer.is_served() {
                self.remove_viewer(number, reactor);
            }
        }
    }
}

impl ConsoleEnd {
    fn source(&self, source: Source) -> Option<BorrowedFd<'_>> {
        match (self, source) {
            (ConsoleEnd::Terminal { pty }, Source::Output) => Some(pty.master.as_fd()),
            (ConsoleEnd::Terminal { .. }, Source::Errors) => None,
            (ConsoleEnd::Output { output, .. }, Source::Output) => Some(output.as_fd()),
            (ConsoleEnd::Output { errors, .. }, Source::Errors) => Some(errors.as_fd()),
        }
    }

    fn reading(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Token)> {
        let all = [(Source::Output, Token::Console), (Source::Errors, Token::Errors)];
        all.into_iter()
            .filter_map(|(source, token)| Some((self.source(source)?, token)))
    }
}

impl Viewer {
    /// Whether it has got everything.
    fn is_served(&self) -> bool {
        self.lanes.iter().all(|lane| lane.unsent.is_empty())
    }

    /// Sends what the client takes; false when it is gone.
    fn flush(&mut self, number: u32, reactor: &Reactor) -> bool {
        self.lanes.iter_mut().all(|lane| lane.flush(number, reactor))
    }
}

impl Lane {
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
