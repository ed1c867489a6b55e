//! The guest's console: read once, logged, shown to every client that looks on; keys go from clients to the guest.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use engine::Plan;
use model::{Init, Input};
use rustix::io::Errno;

use super::log::Log;
use super::reactor::{Interest, Reactor, Token};
use crate::guest::ConsoleEnd;

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

/// A socket of a client.
struct Lane {
    socket: UnixStream,
    unsent: VecDeque<u8>,
    /// Keys are taken from it.
    reading: bool,
    watched: Interest,
}

struct Viewer {
    /// One for a terminal; output and error for a command.
    lanes: Vec<Lane>,
    /// It was there before the command began, as if the command ran in its terminal: it misses nothing, and the
    /// command waits for it as for any slow reader of its output.
    patient: bool,
    /// It has closed its side: no more keys come.
    silent: bool,
    /// Forgotten as soon as everything is sent.
    ending: bool,
}

/// The console and its clients.
pub struct Console {
    end: Option<ConsoleEnd>,
    log: Log,
    lanes: usize,
    command: bool,
    viewers: BTreeMap<u32, Viewer>,
    keys: VecDeque<u8>,
    size: Option<(u16, u16)>,
    /// Nothing is read, because a patient client has not taken what it was sent.
    paused: bool,
    /// The command's standard input ends when the keys are through.
    no_more_keys: bool,
}

impl Console {
    /// The console of a plan; nothing is connected to it yet.
    #[must_use]
    pub fn new(plan: &Plan, log: Log) -> Self {
        let command = plan.init != Init::System;
        let terminal = !command || plan.input == Input::Terminal;
        Console {
            end: None,
            log,
            lanes: if terminal { 1 } else { 2 },
            command,
            viewers: BTreeMap::new(),
            keys: VecDeque::new(),
            size: None,
            paused: false,
            no_more_keys: false,
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
        self.end = Some(end);
        if let Some((rows, cols)) = self.size {
            self.resize(rows, cols);
        }
        self.press(reactor);
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
        self.keys.clear();
        self.no_more_keys = false;
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
            patient: before_start && self.command,
            silent: false,
            ending: false,
        };
        let mut ends = Vec::new();
        for _ in 0..self.lanes {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            viewer.lanes.push(Lane {
                socket: ours,
                unsent: VecDeque::new(),
                reading: true,
                watched: Interest::Read,
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
        let room = self.keys.len() < KEYS && self.end.is_some();
        let Some(viewer) = self.viewers.get_mut(&number) else {
            return;
        };
        let mut alive = viewer.flush(number, reactor);
        alive &= !(viewer.ending && viewer.is_served());
        for lane in viewer.lanes.iter_mut().filter(|lane| readable && lane.reading) {
            let mut buffer = [0; 1024];
            match rustix::io::read(&lane.socket, &mut buffer) {
                Ok(0) => {
                    lane.reading = false;
                    viewer.silent = true;
                }
                // A guest that does not read gets no more keys; whoever types goes on typing into nothing.
                Ok(count) if room || viewer.patient => self.keys.extend(&buffer[..count]),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => alive = false,
            }
        }
        self.no_more_keys |= viewer.patient && viewer.silent;
        if !alive {
            self.remove_viewer(number, reactor);
        }
        self.pause_or_go_on(reactor);
        self.press(reactor);
    }

    /// Hands keys to the guest, as many as it takes.
    pub fn press(&mut self, reactor: &Reactor) {
        match &self.end {
            Some(ConsoleEnd::Terminal { pty }) => {
                let was_waiting = !self.keys.is_empty();
                write_keys(&mut self.keys, &pty.master);
                if was_waiting {
                    let interest = Interest::read_and(!self.keys.is_empty());
                    reactor.change(&pty.master, Token::Console, interest);
                }
            }
            Some(ConsoleEnd::Output {
                input: Some(input), ..
            }) => {
                let heard = write_keys(&mut self.keys, input);
                reactor.remove(input);
                if !self.keys.is_empty() {
                    let _ = reactor.add(input, Token::Console, Interest::Write);
                } else if self.no_more_keys || !heard {
                    self.close_input();
                }
            }
            Some(ConsoleEnd::Output { input: None, .. }) => self.keys.clear(),
            // Whoever waits for the start may type ahead.
            None => {}
        }
        self.take_keys_where_there_is_room(reactor);
    }

    /// The command reads the end of its input.
    fn close_input(&mut self) {
        if let Some(ConsoleEnd::Output { input, .. }) = &mut self.end {
            *input = None;
        }
    }

    /// Leaves keys of patient clients in their sockets while the guest has not taken those before.
    fn take_keys_where_there_is_room(&mut self, reactor: &Reactor) {
        let room = self.keys.len() < KEYS;
        for (number, viewer) in &mut self.viewers {
            if !viewer.patient || viewer.silent {
                continue;
            }
            for lane in &mut viewer.lanes {
                lane.reading = room;
                lane.watch(*number, reactor);
            }
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
        self.watch(number, reactor);
        true
    }

    /// Waits for what matters now.
    fn watch(&mut self, number: u32, reactor: &Reactor) {
        let wanted = match (self.reading, self.unsent.is_empty()) {
            (true, true) => Interest::Read,
            (true, false) => Interest::Both,
            (false, false) => Interest::Write,
            (false, true) => Interest::Nothing,
        };
        if wanted != self.watched {
            self.watched = wanted;
            reactor.change(&self.socket, Token::Viewer(number), wanted);
        }
    }
}

/// Writes keys as long as they are taken; whether anybody reads them.
fn write_keys(keys: &mut VecDeque<u8>, to: impl AsFd) -> bool {
    while !keys.is_empty() {
        let (first, _) = keys.as_slices();
        match rustix::io::write(&to, first) {
            Ok(count) => drop(keys.drain(..count)),
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => {}
            Err(_) => {
                keys.clear();
                return false;
            }
        }
    }
    true
}
