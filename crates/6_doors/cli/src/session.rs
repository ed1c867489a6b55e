//! A session with a process or the console of a guest: bytes go between this terminal and the shim's descriptors.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use engine::attach::{Control, Session};
use engine::protocol::{AttachEvent, Attached};
use fault::{Fault, OrFault, Result};
use model::{ExitStatus, api};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

use crate::codes;
use crate::terminal::{Raw, Signals, size};

/// Largest piece written at once: what a pipe or terminal takes whole when it is writable at all.
const PIECE: usize = 512;
/// How long output is still collected after the process has ended; others may hold its pipes open.
const AFTERMATH: Duration = Duration::from_millis(500);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ended.
    Exited(ExitStatus),
    /// A signal to this program ended the session; the process or guest may go on.
    Interrupted(i32),
    /// The user left, or the shim closed the session; the guest goes on.
    Left,
}

impl End {
    /// Whether a signal to this program ended the session, and not the process inside.
    pub(crate) fn is_interrupted(self) -> bool {
        matches!(self, End::Interrupted(_))
    }

    /// The exit status of this program: the process's own, or 128 and the signal's number as shells do.
    pub(crate) fn status(self) -> u8 {
        match self {
            End::Exited(ExitStatus::Code(code)) => u8::try_from(code & 0xff).unwrap_or(1),
            End::Exited(ExitStatus::Signal(signal)) | End::Interrupted(signal) => {
                u8::try_from((128 + signal) & 0xff).unwrap_or(1)
            }
            End::Exited(ExitStatus::Poweroff | ExitStatus::Reboot) | End::Left => 0,
        }
    }
}

/// Takes up a session that the daemon has prepared.
pub(crate) fn open(session: &api::Session) -> Result<Session> {
    Session::open(Path::new(&session.socket), &session.ticket)
}

/// What is typed to leave a console: Ctrl-a x.
const ESCAPE: u8 = 0x01;

/// Whether the user can leave a session that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// All keys are the guest's.
    Never,
    /// Ctrl-a x leaves, Ctrl-a a sends Ctrl-a.
    ByKeys,
}

/// Carries bytes until the session ends. With `input`, standard input is handed on.
pub(crate) fn run(session: Session, input: bool, leaving: Leaving) -> Result<End> {
    let lost = || Fault::new(codes::SESSION_LOST);
    let Session { kind, fds, control } = session;
    let raw_wanted = kind != Attached::Pipes && input && io::stdin().is_terminal();
    // In raw mode Ctrl-C is a key like others.
    let watched: &[i32] = match kind {
        Attached::Pipes => &[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2],
        _ if raw_wanted => &[SIGWINCH, SIGTERM, SIGHUP],
        _ => &[SIGWINCH, SIGINT, SIGTERM, SIGHUP],
    };
    let signals = Signals::watch(watched).or_fault(lost)?;
    let raw = if raw_wanted {
        Some(Raw::enter().or_fault(lost)?)
    } else {
        None
    };
    let escapes = raw.is_some() && leaving == Leaving::ByKeys;
    let mut pump = Pump::new(kind, fds, control, input, escapes);
    let outcome = pump.run(&signals);
    drop(raw);
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Fault::new(codes::OUTPUT_CLOSED),
        _ => lost().because(error),
    })
}

/// One direction out of the guest.
struct Stream {
    from: OwnedFd,
    errors: bool,
    open: bool,
}

struct Pump {
    kind: Attached,
    control: Control,
    control_open: bool,
    input_open: bool,
    to_guest: Option<OwnedFd>,
    pending: Vec<u8>,
    outputs: Vec<Stream>,
    escape: Option<Escape>,
    ended: Option<(End, Instant)>,
}

impl Pump {
    fn new(kind: Attached, mut fds: Vec<OwnedFd>, control: Control, input: bool, escapes: bool) -> Self {
        let escape = escapes.then(Escape::default);
        let mut outputs = Vec::new();
        let to_guest = if kind == Attached::Pipes {
            let errors = fds.pop();
            let output = fds.pop();
            outputs.extend(output.map(|from| Stream {
                from,
                errors: false,
                open: true,
            }));
            outputs.extend(errors.map(|from| Stream {
                from,
                errors: true,
                open: true,
            }));
            fds.pop()
        } else {
            // A command's standard error comes beside its output.
            let errors = (fds.len() > 1).then(|| fds.pop()).flatten();
            outputs.extend(errors.map(|from| Stream {
                from,
                errors: true,
                open: true,
            }));
            let both = fds.pop();
            let input = both.as_ref().and_then(|fd| fd.try_clone().ok());
            outputs.extend(both.map(|from| Stream {
                from,
                errors: false,
                open: true,
            }));
            input
        };
        // Without input the guest's process sees the end of its standard input at once.
        let to_guest = if input || kind != Attached::Pipes {
            to_guest
        } else {
            None
        };
        Pump {
            kind,
            control,
            control_open: true,
            input_open: input,
            to_guest,
            pending: Vec::new(),
            outputs,
            escape,
            ended: None,
        }
    }

    fn run(&mut self, signals: &Signals) -> io::Result<End> {
        if self.kind != Attached::Pipes {
            let _ = self.control.resize(size());
        }
        loop {
            if let Some(end) = self.is_over() {
                return Ok(end);
            }
            let ready = self.wait(signals)?;
            if ready.interest(Source::Control) {
                self.take_news();
            }
            for (index, (number, pipe)) in signals.pipes.iter().enumerate() {
                if ready.interest(Source::Signal(index)) {
                    let mut bytes = [0; 64];
                    let _ = io::Read::read(&mut &*pipe, &mut bytes);
                    if let Some(end) = self.signalled(*number) {
                        return Ok(end);
                    }
                }
            }
            for index in 0..self.outputs.len() {
                if ready.interest(Source::Output(index)) {
                    self.take_output(index)?;
                }
            }
            if ready.interest(Source::Guest) {
                self.give_input();
            }
            if ready.interest(Source::Input)
                && let Some(end) = self.take_input()?
            {
                return Ok(end);
            }
        }
    }

    /// The end, once the process has ended and all its output has come.
    fn is_over(&self) -> Option<End> {
        let drained = self.outputs.iter().all(|stream| !stream.open);
        match self.ended {
            Some((end, since)) if drained || since.elapsed() > AFTERMATH => Some(end),
            None if drained && !self.control_open => Some(End::Left),
            // A console has no end of its own: it is over when the shim closes it.
            None if drained && matches!(self.kind, Attached::Console { .. }) => Some(End::Left),
            _ => None,
        }
    }

    fn wait(&self, signals: &Signals) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut wanted: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        if self.control_open {
            wanted.push((Source::Control, self.control.as_fd(), PollFlags::IN));
        }
        for (index, (_, pipe)) in signals.pipes.iter().enumerate() {
            wanted.push((Source::Signal(index), pipe.as_fd(), PollFlags::IN));
        }
        for (index, stream) in self.outputs.iter().enumerate() {
            if stream.open {
                wanted.push((Source::Output(index), stream.from.as_fd(), PollFlags::IN));
            }
        }
        match &self.to_guest {
            Some(fd) if !self.pending.is_empty() => wanted.push((Source::Guest, fd.as_fd(), PollFlags::OUT)),
            Some(_) if self.input_open => wanted.push((Source::Input, stdin.as_fd(), PollFlags::IN)),
            _ => {}
        }
        let mut fds: Vec<PollFd<'_>> = wanted
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let timeout = self.ended.is_some().then_some(Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = wanted.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(Ready(ready.map(|((source, ..), _)| *source).collect()))
    }

    fn take_news(&mut self) {
        match self.control.poll() {
            Ok(Some(AttachEvent::Exited { exit })) => {
                self.ended.get_or_insert((End::Exited(exit), Instant::now()));
                self.input_open = false;
            }
            Ok(None) => {}
            Err(_) => {
                self.control_open = false;
                self.ended.get_or_insert((End::Left, Instant::now()));
            }
        }
    }

    /// Hands a signal on to the process; what has none, and a terminal whose user hung up, is left.
    fn signalled(&mut self, number: i32) -> Option<End> {
        if number == SIGWINCH {
            let _ = self.control.resize(size());
            return None;
        }
        let process = match self.kind {
            Attached::Pipes => true,
            Attached::Terminal => number != SIGHUP,
            _ => false,
        };
        if process {
            let _ = self.control.signal(number);
            return None;
        }
        Some(End::Interrupted(number))
    }

    fn take_output(&mut self, index: usize) -> io::Result<()> {
        let stream = &mut self.outputs[index];
        let mut bytes = [0_u8; 32 << 10];
        match rustix::io::read(&stream.from, &mut bytes[..]) {
            // The other end of a terminal is told by EIO.
            Ok(0) | Err(rustix::io::Errno::IO) => stream.open = false,
            Ok(count) if stream.errors => io::stderr().write_all(&bytes[..count])?,
            Ok(count) => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes[..count])?;
                out.flush()?;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => stream.open = false,
        }
        Ok(())
    }

    fn give_input(&mut self) {
        let Some(fd) = &self.to_guest else { return };
        let piece = self.pending.len().min(PIECE);
        match rustix::io::write(fd, &self.pending[..piece]) {
            Ok(count) => {
                self.pending.drain(..count);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => {
                // Nobody reads it any more.
                self.pending.clear();
                self.input_open = false;
                self.to_guest = None;
            }
        }
        self.close_input_when_done();
    }

    fn take_input(&mut self) -> io::Result<Option<End>> {
        let mut bytes = [0_u8; 4096];
        match rustix::io::read(io::stdin(), &mut bytes[..]) {
            Ok(0) => self.input_open = false,
            Ok(count) => {
                let leave = match &mut self.escape {
                    Some(escape) => escape.filter(&bytes[..count], &mut self.pending),
                    None => {
                        self.pending.extend_from_slice(&bytes[..count]);
                        false
                    }
                };
                if leave {
                    return Ok(Some(End::Left));
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.close_input_when_done();
        Ok(None)
    }

    /// The end of standard input reaches the process once everything before it has.
    fn close_input_when_done(&mut self) {
        if self.input_open || !self.pending.is_empty() {
            return;
        }
        match self.kind {
            Attached::Pipes => self.to_guest = None,
            // A terminal's end of input is a character.
            Attached::Terminal => {
                if let Some(fd) = self.to_guest.take() {
                    let _ = rustix::io::write(&fd, &[0x04]);
                }
            }
            _ => {
                if let Some(fd) = self.to_guest.take() {
                    let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Write);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Control,
    Signal(usize),
    Output(usize),
    Guest,
    Input,
}

struct Ready(Vec<Source>);

impl Ready {
    fn interest(&self, source: Source) -> bool {
        self.0.contains(&source)
    }
}

/// Ctrl-a x leaves, Ctrl-a a sends Ctrl-a.
#[derive(Default)]
struct Escape {
    begun: bool,
}

impl Escape {
    /// Hands typed bytes on; true when the user wants to leave.
    fn filter(&mut self, typed: &[u8], into: &mut Vec<u8>) -> bool {
        for byte in typed {
            match (self.begun, *byte) {
                (false, ESCAPE) => self.begun = true,
                (false, byte) => into.push(byte),
                (true, b'x' | b'X') => return true,
                (true, b'a' | b'A' | ESCAPE) => {
                    into.push(ESCAPE);
                    self.begun = false;
                }
                (true, byte) => {
                    into.extend([ESCAPE, byte]);
                    self.begun = false;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_leaves_and_ctrl_a_a_sends_ctrl_a() {
        let typed = |pieces: &[&[u8]]| {
            let (mut escape, mut out) = (Escape::default(), Vec::new());
            let left = pieces.iter().any(|piece| escape.filter(piece, &mut out));
            (left, out)
        };
        assert_eq!(typed(&[b"ls\r"]), (false, b"ls\r".to_vec()));
        assert_eq!(typed(&[b"a\x01", b"x"]), (true, b"a".to_vec()));
        assert_eq!(typed(&[b"\x01a\x01\x01"]), (false, b"\x01\x01".to_vec()));
        assert_eq!(typed(&[b"\x01q"]), (false, b"\x01q".to_vec()));
    }

    #[test]
    fn a_process_ended_by_a_signal_gives_the_status_that_shells_give() {
        assert_eq!(End::Exited(ExitStatus::Signal(9)).status(), 137);
        assert_eq!(End::Exited(ExitStatus::Code(7)).status(), 7);
        assert_eq!(End::Left.status(), 0);
    }
}
