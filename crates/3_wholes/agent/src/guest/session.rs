//! One session: a process or job, its streams with their windows, and its end.
//!
//! ```text
//! starting ──word──▶ running ──child ends──▶ draining ──streams empty──▶ ended (End is sent)
//!     └── fault ────────────────────────────────▲
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use fault::{Fault, OrFault, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::ends::{self, size};
use super::exec::become_program;
use super::outbox::Outbox;
use super::reaper::{Reaper, reap};
use super::{jobs, sys};
use crate::codes::{JOB_FAILED, SET_UP_FAILED};
use crate::protocol::{Ending, Exec, Exit, FromGuest, Request, Stream, WINDOW};
use crate::wire::{Broken, DATA_LIMIT};

/// Most bytes of a child's word.
const WORD_LIMIT: usize = 512 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Exec {
        terminal: bool,
    },
    Job,
    /// Ends by the end of its input and must not be killed.
    Freeze,
}

#[derive(Debug, Default)]
struct Output {
    fd: Option<OwnedFd>,
    credit: u64,
    /// Nobody reads it, but it has to be emptied.
    discard: bool,
}

/// A descriptor of a session that the loop polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// What the child says of itself.
    Word,
    /// Its input.
    Input,
    /// Standard output (0) or error (1).
    Output(usize),
}

/// A session between its opening and its end.
#[derive(Debug)]
pub struct Session {
    number: u32,
    kind: Kind,
    pid: i32,
    exit: Option<Exit>,
    started: bool,
    word: Option<OwnedFd>,
    said: Vec<u8>,
    input: Option<OwnedFd>,
    pending: VecDeque<u8>,
    input_ends: bool,
    outputs: [Output; 2],
    deadline: Option<Instant>,
}

/// A child whose session is over.
#[derive(Debug)]
pub struct Dying {
    /// Its process.
    pub pid: i32,
    /// When it is killed; none when it ends by itself.
    pub deadline: Option<Instant>,
}

impl Session {
    /// Starts what the request asks for. Forks.
    ///
    /// # Errors
    /// `AGT007`.
    pub fn open(number: u32, request: &Request, reaper: &Reaper) -> Result<Session> {
        let set_up = |what: &'static str| move || Fault::new(SET_UP_FAILED).arg("what", what);
        let kind = match request {
            Request::Exec(exec) => Kind::Exec {
                terminal: exec.terminal.is_some(),
            },
            Request::Freeze { .. } => Kind::Freeze,
            _ => Kind::Job,
        };
        let ends = match request {
            Request::Exec(Exec {
                terminal: Some((rows, cols)),
                ..
            }) => ends::terminal(*rows, *cols),
            Request::Exec(_) => ends::pipes(true, true, true),
            Request::ReadFiles { .. } => ends::pipes(false, true, false),
            Request::WriteFiles { .. } | Request::Freeze { .. } => ends::pipes(true, false, false),
            _ => ends::pipes(false, false, false),
        };
        let ends = ends.or_fault(set_up("a terminal or pipes"))?;
        let (word, tell) = pipe_with(PipeFlags::CLOEXEC).or_fault(set_up("a pipe"))?;
        rustix::io::ioctl_fionbio(&word, true).or_fault(set_up("a pipe"))?;
        let forked = match request {
            Request::Exec(exec) => hostos::process::fork_into(|| {
                let fault = become_program(exec, &ends.streams);
                let text = serde_json::to_vec(&Ending::Fault(fault)).unwrap_or_default();
                let _ = rustix::io::write(&tell, &text);
                127
            }),
            job => jobs::start(job, &ends.streams, &tell),
        };
        let pid = forked.or_fault(set_up("a process"))?;
        if let Err(error) = reaper.watch(pid) {
            let _ = sys::kill(pid, libc::SIGKILL);
            let _ = reap(pid);
            return Err(set_up("a thread")().because(error));
        }
        let output = |fd| Output {
            fd,
            credit: WINDOW.into(),
            discard: false,
        };
        Ok(Session {
            number,
            kind,
            pid,
            exit: None,
            started: false,
            word: Some(word),
            said: Vec::new(),
            input: ends.input,
            pending: VecDeque::new(),
            input_ends: false,
            outputs: ends.outputs.map(output),
            deadline: jobs::patience(request).map(|patience| Instant::now() + patience),
        })
    }

    /// Its process, until that has been reaped.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.exit.is_none().then_some(self.pid)
    }

    /// When its job takes too long.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Calls `add` with each descriptor that shall be polled now.
    pub fn interests<'a>(&'a self, room: bool, mut add: impl FnMut(Which, BorrowedFd<'a>, PollFlags)) {
        if let Some(word) = &self.word {
            add(Which::Word, word.as_fd(), PollFlags::IN);
        }
        if let Some(input) = &self.input
            && !self.pending.is_empty()
        {
            add(Which::Input, input.as_fd(), PollFlags::OUT);
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(fd) = &output.fd
                && (output.discard || (output.credit > 0 && room))
            {
                add(Which::Output(index), fd.as_fd(), PollFlags::IN);
            }
        }
    }

    /// Does what a descriptor is ready for.
    pub fn ready(&mut self, which: Which, outbox: &mut Outbox, scratch: &mut [u8; DATA_LIMIT]) {
        match which {
            Which::Word => self.listen(outbox, scratch),
            Which::Input => self.feed(outbox),
            Which::Output(index) => self.read(index, outbox, scratch),
        }
    }

    fn listen(&mut self, outbox: &mut Outbox, scratch: &mut [u8; DATA_LIMIT]) {
        let Some(word) = &self.word else { return };
        match rustix::io::read(word, &mut scratch[..]) {
            Ok(count @ 1..) => {
                let room = WORD_LIMIT.saturating_sub(self.said.len());
                self.said.extend_from_slice(&scratch[..count.min(room)]);
                // A freeze says with an empty line that it holds.
                if self.kind == Kind::Freeze && self.said == b"\n" {
                    self.start(outbox);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                self.word = None;
                if self.said.is_empty() && matches!(self.kind, Kind::Exec { .. }) {
                    self.start(outbox);
                }
            }
        }
    }

    fn start(&mut self, outbox: &mut Outbox) {
        if !self.started {
            self.started = true;
            outbox.say(self.number, &FromGuest::Started);
        }
    }

    /// Takes input of the host.
    ///
    /// # Errors
    /// When it is more than the window allows.
    pub fn input(&mut self, data: &[u8], outbox: &mut Outbox) -> Result<(), Broken> {
        if self.pending.len() + data.len() > WINDOW as usize {
            return Err(Broken);
        }
        self.pending.extend(data);
        self.feed(outbox);
        Ok(())
    }

    /// No more input comes.
    pub fn input_end(&mut self, outbox: &mut Outbox) {
        // The end of a terminal's input is a character of its own, which the host would have sent.
        if self.kind != (Kind::Exec { terminal: true }) {
            self.input_ends = true;
            self.feed(outbox);
        }
    }

    /// Writes what the child takes; the host gets credit for it. What nobody reads any more is dropped.
    fn feed(&mut self, outbox: &mut Outbox) {
        let before = self.pending.len();
        while let (Some(input), false) = (&self.input, self.pending.is_empty()) {
            match rustix::io::write(input, self.pending.as_slices().0) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.input = None,
            }
        }
        if self.input.is_none() {
            self.pending.clear();
        }
        let bytes = u32::try_from(before - self.pending.len()).unwrap_or(0);
        if bytes > 0 {
            outbox.say(self.number, &FromGuest::Credit { bytes });
        }
        if self.input_ends && self.pending.is_empty() {
            self.input = None;
        }
    }

    fn read(&mut self, index: usize, outbox: &mut Outbox, scratch: &mut [u8; DATA_LIMIT]) {
        let output = &mut self.outputs[index];
        let Some(fd) = &output.fd else { return };
        let most = if output.discard {
            DATA_LIMIT
        } else {
            usize::try_from(output.credit).map_or(DATA_LIMIT, |credit| credit.min(DATA_LIMIT))
        };
        if most == 0 {
            return;
        }
        match rustix::io::read(fd, &mut scratch[..most]) {
            Ok(count @ 1..) => {
                if !output.discard {
                    output.credit = output.credit.saturating_sub(count as u64);
                    let stream = [Stream::Stdout, Stream::Stderr][index];
                    outbox.output(self.number, stream, &scratch[..count]);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal says EIO when nobody holds its other end.
            Ok(_) | Err(_) => output.fd = None,
        }
    }

    /// The host takes more of a stream.
    pub fn credit(&mut self, stream: Stream, bytes: u32) {
        let output = &mut self.outputs[index_of(stream)];
        output.credit = output.credit.saturating_add(bytes.into());
    }

    /// The host takes nothing of a stream any more: a pipe breaks, a terminal is emptied.
    pub fn output_end(&mut self, stream: Stream) {
        let terminal = self.kind == (Kind::Exec { terminal: true });
        let output = &mut self.outputs[index_of(stream)];
        output.discard = terminal;
        if !terminal {
            output.fd = None;
        }
    }

    /// Tells the terminal its size.
    pub fn resize(&self, rows: u16, cols: u16) {
        if self.kind == (Kind::Exec { terminal: true })
            && let Some(master) = &self.input
        {
            let _ = rustix::termios::tcsetwinsize(master, size(rows, cols));
        }
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: i32) {
        if let (Kind::Exec { .. }, Some(pid)) = (self.kind, self.pid()) {
            let _ = sys::kill(pid, signal);
        }
    }

    /// Its child has ended: takes its status.
    pub fn child_ended(&mut self) {
        self.exit = Some(reap(self.pid));
        self.input = None;
    }

    /// How it ended, once the child has and everything that it wrote has been sent; whoever of its own children still
    /// holds the streams is not waited for.
    pub fn ending(&mut self) -> Option<Ending> {
        let exit = self.exit?;
        for output in &mut self.outputs {
            if output.fd.as_ref().is_some_and(|fd| !readable(fd)) {
                output.fd = None;
            }
        }
        if self.word.is_some() || self.outputs.iter().any(|output| output.fd.is_some()) {
            return None;
        }
        let said = serde_json::from_slice(&self.said).ok();
        Some(match (self.kind, said) {
            (_, Some(ending)) => ending,
            (Kind::Exec { .. }, None) => Ending::Exited(exit),
            (Kind::Job | Kind::Freeze, None) => {
                Ending::Fault(Fault::new(JOB_FAILED).because_of(format!("{exit:?}")))
            }
        })
    }

    /// Hangs up: the terminal closes, the process group gets SIGHUP, and at the deadline SIGKILL. None when the child
    /// has ended already.
    pub fn bury(self, deadline: Instant) -> Option<Dying> {
        let pid = self.pid()?;
        let deadline = match self.kind {
            Kind::Exec { .. } => {
                for signal in [libc::SIGHUP, libc::SIGCONT] {
                    // It may not have its group yet.
                    if sys::kill(-pid, signal).is_err() {
                        let _ = sys::kill(pid, signal);
                    }
                }
                Some(deadline)
            }
            Kind::Job => {
                kill_group(pid);
                Some(deadline)
            }
            Kind::Freeze => None,
        };
        Some(Dying { pid, deadline })
    }
}

/// Kills a child that has not been reaped yet, and all of its group.
pub fn kill_group(pid: i32) {
    let _ = sys::kill(-pid, libc::SIGKILL);
    let _ = sys::kill(pid, libc::SIGKILL);
}

fn index_of(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::IN)
}
