//! One connection with its sessions: takes frames apart, hands them to sessions, and queues what goes back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use fault::Fault;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::ground::Ground;
use super::outbox::Outbox;
use super::reaper::Reaper;
use super::session::{Dying, Session, Which};
use crate::codes::{JOB_FAILED, REQUEST_UNKNOWN, SESSION_CLOSED, SESSIONS_EXHAUSTED, VALUE_REFUSED};
use crate::protocol::{Ending, FromGuest, FromHost, Hello, Request, SESSION_LIMIT};
use crate::wire::{Broken, DATA_LIMIT, Decoder, Item, greeting};

/// How long a process may live after its terminal has hung up.
const GRACE: Duration = Duration::from_secs(3);
/// How long a port is left alone that nobody holds on the host.
const PORT_PAUSE: Duration = Duration::from_millis(500);

/// What all connections share.
#[derive(Debug)]
pub struct Common {
    /// Who we are.
    pub hello: Hello,
    /// Where children are watched.
    pub reaper: Reaper,
    /// Children whose sessions are over.
    pub dying: Vec<Dying>,
    /// The root directory.
    pub ground: Ground,
    /// Where reads go to.
    pub scratch: Box<[u8; DATA_LIMIT]>,
}

/// A byte stream and what runs on it.
#[derive(Debug)]
pub struct Connection {
    stream: OwnedFd,
    port: bool,
    decoder: Decoder,
    outbox: Outbox,
    sessions: BTreeMap<u32, Session>,
    /// It is over.
    dead: bool,
    /// Until then the port is not looked at.
    rests: Option<Instant>,
}

impl Connection {
    /// Takes over a non-blocking stream; `port`: it is one without connections.
    #[must_use]
    pub fn new(stream: OwnedFd, port: bool) -> Self {
        Connection {
            stream,
            port,
            decoder: Decoder::new(port),
            outbox: Outbox::default(),
            sessions: BTreeMap::new(),
            dead: false,
            rests: None,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether it is a port.
    #[must_use]
    pub fn is_port(&self) -> bool {
        self.port
    }

    /// Whether anything runs on it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// The next moment at which something has to be done without being told.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let jobs = self.sessions.values().filter_map(Session::deadline);
        jobs.chain(self.rests).min()
    }

    /// Whether a session has this child.
    #[must_use]
    pub fn session_of(&self, pid: i32) -> Option<u32> {
        let mut sessions = self.sessions.iter();
        sessions
            .find(|(_, session)| session.pid() == Some(pid))
            .map(|(number, _)| *number)
    }

    /// Calls `add` with each descriptor that shall be polled now; `None` is the stream itself.
    pub fn interests<'a>(&'a self, mut add: impl FnMut(Option<(u32, Which)>, BorrowedFd<'a>, PollFlags)) {
        if self.rests.is_none() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !self.outbox.is_overfull());
            flags.set(PollFlags::OUT, !self.outbox.is_empty());
            add(None, self.stream.as_fd(), flags);
        }
        let room = self.outbox.has_room();
        for (number, session) in &self.sessions {
            session.interests(room, |which, fd, flags| add(Some((*number, which)), fd, flags));
        }
    }

    /// The stream is ready.
    pub fn ready(&mut self, flags: PollFlags, common: &mut Common) {
        if flags.contains(PollFlags::OUT) {
            self.flush(common);
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !self.outbox.is_overfull() {
            self.fill(common);
        }
    }

    /// A descriptor of a session is ready.
    pub fn session_ready(&mut self, number: u32, which: Which, common: &mut Common) {
        // Several may have been ready at once and filled the outbox.
        if matches!(which, Which::Output(_)) && !self.outbox.has_room() {
            return;
        }
        if let Some(session) = self.sessions.get_mut(&number) {
            session.ready(which, &mut self.outbox, &mut common.scratch);
            self.conclude(number);
        }
    }

    /// The child of a session has ended.
    pub fn child_ended(&mut self, number: u32) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.child_ended();
            self.conclude(number);
        }
    }

    /// Sends what can be sent, ends jobs whose time is over, and wakes a resting port.
    pub fn turn(&mut self, now: Instant, common: &mut Common) {
        let late = self.sessions.iter();
        let late: Vec<u32> = late
            .filter(|(_, session)| session.deadline().is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            let fault = Fault::new(JOB_FAILED).because_of("it took too long");
            self.close(number, fault, common);
        }
        if self.rests.is_some_and(|until| until <= now) {
            self.rests = None;
        }
        if self.rests.is_none() {
            self.flush(common);
        }
    }

    fn flush(&mut self, common: &mut Common) {
        if self.outbox.flush(&self.stream).is_err() {
            self.end(common);
        }
    }

    fn fill(&mut self, common: &mut Common) {
        match rustix::io::read(&self.stream, &mut common.scratch[..]) {
            Ok(count @ 1..) => {
                self.decoder.push(&common.scratch[..count]);
                self.take(common);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.end(common),
        }
    }

    fn take(&mut self, common: &mut Common) {
        while !self.dead {
            match self.decoder.take() {
                Ok(None) => return,
                Ok(Some(Item::Greeting(token))) => {
                    self.drop_sessions(common);
                    self.outbox.raw(&greeting(token));
                    self.outbox.say(0, &FromGuest::Hello(common.hello.clone()));
                }
                Ok(Some(Item::Frame(frame))) => {
                    let heard = frame
                        .parse()
                        .and_then(|(number, message)| self.hear(number, message, &frame.data, common));
                    if heard.is_err() {
                        self.broken(common);
                    }
                }
                Err(Broken) => self.broken(common),
            }
        }
    }

    /// What came is no frame: a socket is closed, on a port somebody new may be speaking.
    fn broken(&mut self, common: &mut Common) {
        if self.port {
            self.drop_sessions(common);
            self.decoder.resync();
        } else {
            self.end(common);
        }
    }

    /// The host is gone.
    fn end(&mut self, common: &mut Common) {
        self.drop_sessions(common);
        if self.port {
            self.outbox.clear();
            self.decoder = Decoder::new(true);
            self.rests = Some(Instant::now() + PORT_PAUSE);
        } else {
            self.dead = true;
        }
    }

    fn drop_sessions(&mut self, common: &mut Common) {
        let deadline = Instant::now() + GRACE;
        for (_, session) in std::mem::take(&mut self.sessions) {
            common.dying.extend(session.bury(deadline));
        }
    }

    /// Does what the host says.
    ///
    /// # Errors
    /// When it breaks the protocol.
    fn hear(
        &mut self,
        number: u32,
        message: Option<FromHost>,
        data: &[u8],
        common: &mut Common,
    ) -> Result<(), Broken> {
        let known = self.sessions.get_mut(&number);
        match (message, known) {
            (Some(FromHost::Open(request)), None) if number != 0 => self.open(number, &request, common),
            (Some(FromHost::Open(_)), _) => return Err(Broken),
            (None, None) => {
                let fault = Fault::new(REQUEST_UNKNOWN);
                self.outbox.say(number, &FromGuest::End(Ending::Fault(fault)));
            }
            // A word of the future, or one for a session that has just ended.
            (None, Some(_)) | (Some(_), None) => {}
            (Some(message), Some(session)) => {
                match message {
                    FromHost::Input => session.input(data, &mut self.outbox)?,
                    FromHost::InputEnd => session.input_end(&mut self.outbox),
                    FromHost::Credit { stream, bytes } => session.credit(stream, bytes),
                    FromHost::OutputEnd { stream } => session.output_end(stream),
                    FromHost::Resize { rows, cols } => session.resize(rows, cols),
                    FromHost::Signal { signal } => session.signal(signal),
                    FromHost::Close => {
                        self.close(number, Fault::new(SESSION_CLOSED), common);
                        return Ok(());
                    }
                    FromHost::Open(_) => return Err(Broken),
                }
                self.conclude(number);
            }
        }
        Ok(())
    }

    fn open(&mut self, number: u32, request: &Request, common: &mut Common) {
        let ending = match request {
            _ if self.sessions.len() >= SESSION_LIMIT => {
                Ending::Fault(Fault::new(SESSIONS_EXHAUSTED).arg("limit", SESSION_LIMIT))
            }
            Request::Ping => Ending::Done,
            Request::SetTime { unix_ns } => set_time(*unix_ns).map_or_else(Ending::Fault, |()| Ending::Done),
            _ => {
                common.ground.follow();
                match Session::open(number, request, &common.reaper) {
                    Ok(session) => {
                        self.sessions.insert(number, session);
                        return;
                    }
                    Err(fault) => Ending::Fault(fault),
                }
            }
        };
        self.outbox.say(number, &FromGuest::End(ending));
    }

    fn close(&mut self, number: u32, fault: Fault, common: &mut Common) {
        if let Some(session) = self.sessions.remove(&number) {
            common.dying.extend(session.bury(Instant::now() + GRACE));
            self.outbox.say(number, &FromGuest::End(Ending::Fault(fault)));
        }
    }

    /// Says how a session ended when nothing of it is left.
    fn conclude(&mut self, number: u32) {
        let ending = self.sessions.get_mut(&number).and_then(Session::ending);
        if let Some(ending) = ending {
            self.sessions.remove(&number);
            self.outbox.say(number, &FromGuest::End(ending));
        }
    }
}

/// Sets the clock (clock_settime(2)).
fn set_time(unix_ns: u64) -> fault::Result<()> {
    let refused = || Fault::new(VALUE_REFUSED).arg("what", "time");
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(unix_ns / 1_000_000_000).map_err(|_| refused())?,
        tv_nsec: i64::try_from(unix_ns % 1_000_000_000).map_err(|_| refused())?,
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time)
        .map_err(|error| refused().because(io::Error::from(error)))
}
