//! Sessions of local clients: tickets, and the processes and consoles behind them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use engine::protocol::{Attach, AttachControl, AttachEvent, Attached, TICKET_UNKNOWN};
use engine::wire::{Filled, Wire};
use engine::{ExecPlan, ExecStreams};
use fault::{Fault, OrFault, Result};
use model::{ExitStatus, Phase};
use serde::Serialize;

use super::loops::Server;
use super::reactor::{Interest, Ready, Token};
use super::set_up;
use crate::process::{exit_of, send_signal};

/// How long a ticket is good for.
const TICKET_TIME: Duration = Duration::from_secs(60);
/// Tickets and sessions at once.
const MOST: usize = 256;

/// What a ticket is for.
pub enum Wish {
    /// A process beside the guest's own.
    Exec(ExecPlan),
    /// The console.
    Console,
}

/// What a client has got.
enum State {
    /// It has not shown its ticket yet.
    Asking,
    /// It looks at the console.
    Console,
    /// Its process; the terminal, for its size.
    Process {
        pidfd: OwnedFd,
        terminal: Option<OwnedFd>,
    },
    /// Its process has ended.
    Over,
}

struct Session {
    wire: Option<Wire>,
    state: State,
}

/// Tickets given out and sessions held.
#[derive(Default)]
pub struct Sessions {
    tickets: BTreeMap<String, (Wish, Instant)>,
    sessions: BTreeMap<u32, Session>,
}

impl Sessions {
    /// A new ticket; those that nobody showed in time are forgotten.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub fn ticket(&mut self, wish: Wish) -> Result<String> {
        self.tickets.retain(|_, (_, since)| since.elapsed() < TICKET_TIME);
        while self.tickets.len() >= MOST {
            let oldest = self.tickets.iter().min_by_key(|(_, (_, since))| *since);
            let Some(oldest) = oldest.map(|(ticket, _)| ticket.clone()) else {
                break;
            };
            self.tickets.remove(&oldest);
        }
        let mut bytes = [0u8; 16];
        let flags = rustix::rand::GetRandomFlags::empty();
        rustix::rand::getrandom(&mut bytes, flags).or_fault(|| set_up("a ticket"))?;
        let ticket: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.tickets.insert(ticket.clone(), (wish, Instant::now()));
        Ok(ticket)
    }

    fn redeem(&mut self, ticket: &str) -> Result<Wish> {
        match self.tickets.remove(ticket) {
            Some((wish, since)) if since.elapsed() < TICKET_TIME => Ok(wish),
            _ => Err(Fault::new(TICKET_UNKNOWN)),
        }
    }

    /// Whether no more clients are let in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sessions.len() >= MOST
    }

    /// Lets a client in.
    pub fn enter(&mut self, number: u32, wire: Wire) {
        let session = Session {
            wire: Some(wire),
            state: State::Asking,
        };
        self.sessions.insert(number, session);
    }
}

impl Server {
    /// A local client's connection is ready.
    pub fn attached_ready(&mut self, number: u32, ready: Ready) {
        if ready.readable && !self.read_attached(number) {
            self.leave_session(number);
            return;
        }
        self.flush_session(number);
    }

    fn read_attached(&mut self, number: u32) -> bool {
        let Some(wire) = self
            .sessions
            .sessions
            .get_mut(&number)
            .and_then(|s| s.wire.as_mut())
        else {
            return true;
        };
        match wire.fill() {
            Ok(Filled::Data) => {}
            Ok(Filled::Nothing) => return true,
            Ok(Filled::End) | Err(_) => return false,
        }
        loop {
            let Some(session) = self.sessions.sessions.get_mut(&number) else {
                return true;
            };
            let Some(wire) = session.wire.as_mut() else {
                return true;
            };
            if matches!(session.state, State::Asking) {
                match wire.take::<Attach>() {
                    Ok(Some((attach, _))) => self.redeem(number, &attach.ticket),
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            } else {
                match wire.take::<AttachControl>() {
                    Ok(Some((control, _))) => self.control(number, &control),
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        }
    }

    fn redeem(&mut self, number: u32, ticket: &str) {
        let opened = match self.sessions.redeem(ticket) {
            Ok(Wish::Exec(plan)) => self.open_process(number, &plan),
            Ok(Wish::Console) => self.open_console(number),
            Err(fault) => Err(fault),
        };
        let (attached, fds, state) =
            opened.unwrap_or_else(|fault| (Attached::Fault(fault), Vec::new(), State::Over));
        if let Some(session) = self.sessions.sessions.get_mut(&number) {
            session.state = state;
        }
        self.send_session(number, &attached, fds);
    }

    fn open_console(&mut self, number: u32) -> Result<(Attached, Vec<OwnedFd>, State)> {
        let phase = self.guest.status().phase;
        let (fds, scrollback) = self
            .console
            .add_viewer(number, !self.guest.jailed().runs(), &self.reactor)
            .or_fault(|| set_up("the console"))?;
        let awaits_start = phase == Phase::Starting;
        if !self.guest.jailed().runs() && !awaits_start {
            // Nothing more will come: what there was is shown, then the session ends.
            self.console.end_viewer(number, &self.reactor);
        }
        Ok((Attached::Console { scrollback }, fds, State::Console))
    }

    fn open_process(&mut self, number: u32, plan: &ExecPlan) -> Result<(Attached, Vec<OwnedFd>, State)> {
        let (_, pidfd, streams) = self
            .guest
            .executing()
            .ok_or_else(|| super::requests::facet("exec"))?
            .exec(plan)?;
        let fault = || set_up("the session");
        self.reactor
            .add(&pidfd, Token::Session(number), Interest::Read)
            .or_fault(fault)?;
        Ok(match streams {
            ExecStreams::Terminal(master) => {
                let terminal = Some(master.try_clone().or_fault(fault)?);
                (
                    Attached::Terminal,
                    vec![master],
                    State::Process { pidfd, terminal },
                )
            }
            ExecStreams::Pipes(stdin, stdout, stderr) => {
                let state = State::Process {
                    pidfd,
                    terminal: None,
                };
                (Attached::Pipes, vec![stdin, stdout, stderr], state)
            }
        })
    }

    fn control(&mut self, number: u32, control: &AttachControl) {
        let Some(session) = self.sessions.sessions.get(&number) else {
            return;
        };
        match (control, &session.state) {
            (AttachControl::Resize { size }, State::Console) => self.console.resize(size.rows, size.cols),
            (
                AttachControl::Resize { size },
                State::Process {
                    terminal: Some(terminal),
                    ..
                },
            ) => drop(crate::pty::resize(terminal, size.rows, size.cols)),
            (AttachControl::Signal { signal }, State::Process { pidfd, .. }) => {
                let _ = send_signal(pidfd.as_fd(), *signal);
            }
            _ => {}
        }
    }

    /// The process of a session has ended.
    pub fn session_ended(&mut self, number: u32) {
        let Some(session) = self.sessions.sessions.get_mut(&number) else {
            return;
        };
        let State::Process { pidfd, .. } = &session.state else {
            return;
        };
        let Some(exit) = exit_of(pidfd.as_fd()) else {
            return;
        };
        self.reactor.remove(pidfd);
        session.state = State::Over;
        if session.wire.is_none() {
            self.sessions.sessions.remove(&number);
            return;
        }
        self.send_session(number, &AttachEvent::Exited { exit }, Vec::new());
    }

    /// The guest has ended for good: whoever looks at its console is told how.
    pub fn console_ended(&mut self, exit: ExitStatus) {
        let looking = |session: &Session| matches!(session.state, State::Console);
        let all = self.sessions.sessions.iter();
        let numbers: Vec<u32> = all
            .filter(|(_, s)| looking(s))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.send_session(number, &AttachEvent::Exited { exit }, Vec::new());
        }
    }

    fn send_session(&mut self, number: u32, message: &impl Serialize, fds: Vec<OwnedFd>) {
        let session = self.sessions.sessions.get_mut(&number);
        if let Some(wire) = session.and_then(|session| session.wire.as_mut()) {
            let _ = wire.push(message, fds);
        }
        self.flush_session(number);
    }

    fn flush_session(&mut self, number: u32) {
        let Some(session) = self.sessions.sessions.get_mut(&number) else {
            return;
        };
        let Some(wire) = &mut session.wire else {
            return;
        };
        match wire.flush() {
            Ok(done) => {
                let interest = Interest::read_and(!done);
                self.reactor
                    .change(wire.socket(), Token::Attached(number), interest);
            }
            Err(_) => self.leave_session(number),
        }
    }

    /// The client is gone: its terminal closes (and hangs up), its process is reaped when it ends.
    fn leave_session(&mut self, number: u32) {
        self.console.remove_viewer(number, &self.reactor);
        let Some(session) = self.sessions.sessions.get_mut(&number) else {
            return;
        };
        if let Some(wire) = session.wire.take() {
            self.reactor.remove(wire.socket());
        }
        match &mut session.state {
            State::Process { terminal, .. } => *terminal = None,
            _ => drop(self.sessions.sessions.remove(&number)),
        }
    }
}
