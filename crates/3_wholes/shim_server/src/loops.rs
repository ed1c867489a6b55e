//! The loop: who is ready, and what time it is.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use engine::Stop;
use engine::protocol::{Answer, Hello, PROTOCOL_VERSION, Reply, Told};
use engine::wire::{Filled, Wire};
use fault::{Fault, OrFault, Result};
use jail::cgroup::OomWatch;
use model::{ExitStatus, Init, Phase, Reaction};
use rustix::net::SocketFlags;

use super::boot::{self, BootWatch};
use super::console::{Console, Source};
use super::deferred::{Awaited, Deferred};
use super::log::Log;
use super::reactor::{Interest, Reactor, Ready, Token};
use super::runs::Run;
use super::sessions::Sessions;
use super::set_up;
use crate::guest::Guest;

/// Bytes that wait for a client which does not read before it is dropped.
const SLOW_CLIENT: usize = 4 << 20;
/// Connections at once.
const CLIENTS: usize = 256;
/// A guest that ran this long has not crashed at once: the waiting between restarts begins anew.
const STEADY: Duration = Duration::from_secs(60);
/// Longest wait between restarts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What a guest gets to end when the shim itself is asked to (the host shuts down).
const OWN_DEADLINE_MS: u64 = 30_000;

/// A connection of the daemon.
pub struct Client {
    pub wire: Wire,
    pub subscribed: bool,
    /// Dropped as soon as everything is sent.
    pub closing: bool,
}

/// Everything that one shim holds.
pub struct Server {
    pub reactor: Reactor,
    pub guest: Box<dyn Guest>,
    pub console: Console,
    pub clients: BTreeMap<u32, Client>,
    pub sessions: Sessions,
    pub runs: BTreeMap<u32, Run>,
    pub copies: BTreeMap<u32, OwnedFd>,
    pub deferred: Vec<Deferred>,
    pub kill_at: Option<Instant>,
    pub again_at: Option<Instant>,
    pub leave: bool,
    leave_when_stopped: bool,
    quick_ends: u32,
    next: u32,
    oom: Option<OomWatch>,
    boot: Option<BootWatch>,
    signals: OwnedFd,
    shim: UnixListener,
    attach: UnixListener,
}

impl Server {
    /// Over a guest and two listening sockets.
    pub fn new(guest: Box<dyn Guest>, shim: UnixListener, attach: UnixListener) -> Result<Server> {
        let loops = || set_up("the event loop");
        let signals = hostos::process::signals_as_descriptor(&[1, 2, 15]).or_fault(loops)?;
        let reactor = Reactor::new().or_fault(loops)?;
        for (fd, token) in [
            (std::os::fd::AsFd::as_fd(&signals), Token::Signals),
            (std::os::fd::AsFd::as_fd(&shim), Token::Shim),
            (std::os::fd::AsFd::as_fd(&attach), Token::Attach),
        ] {
            reactor.add(fd, token, Interest::Read).or_fault(loops)?;
        }
        let plan = guest.jailed().plan();
        let log = Log::open(plan.state_dir.join("console.log"), plan.console_log_limit);
        let system = plan.init == Init::System;
        let boot = if system {
            Some(BootWatch::listen(&plan.run_dir)?)
        } else {
            None
        };
        Ok(Server {
            reactor,
            console: Console::new(plan, log),
            guest,
            clients: BTreeMap::new(),
            sessions: Sessions::default(),
            runs: BTreeMap::new(),
            copies: BTreeMap::new(),
            deferred: Vec::new(),
            kill_at: None,
            again_at: None,
            leave: false,
            leave_when_stopped: false,
            quick_ends: 0,
            next: 0,
            oom: None,
            boot,
            signals,
            shim,
            attach,
        })
    }

    /// Serves until the guest is deleted; the exit code of the shim.
    pub fn run(&mut self) -> i32 {
        while !self.leave {
            let until = [self.kill_at, self.again_at].into_iter().flatten().min();
            let ready = match self.reactor.wait(until) {
                Ok(ready) => ready,
                Err(error) => {
                    eprintln!("epoll: {error}");
                    return 1;
                }
            };
            for ready in ready {
                self.dispatch(ready);
            }
            self.clock();
        }
        for client in self.clients.values_mut() {
            let _ = client.wire.flush();
        }
        0
    }

    /// A number for something new.
    pub fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn dispatch(&mut self, ready: Ready) {
        match ready.token {
            Token::Signals => self.signalled(),
            Token::Shim => self.accept_client(),
            Token::Attach => self.accept_attached(),
            Token::Client(number) => self.client_ready(number, ready),
            Token::Attached(number) => self.attached_ready(number, ready),
            Token::Session(number) => self.session_ended(number),
            Token::Console => {
                if ready.readable {
                    self.console.read(Source::Output, &self.reactor);
                }
                if ready.writable && self.console.has_keys() {
                    self.console.press(&self.reactor);
                }
            }
            Token::Errors => drop(self.console.read(Source::Errors, &self.reactor)),
            Token::Viewer(number) => self.console.viewer_ready(number, ready.readable, &self.reactor),
            Token::First => self.first_ended(),
            Token::Run(number) => self.run_ended(number),
            Token::RunInput(number) => self.run_input(number),
            Token::RunOutput(number) => self.run_output(number),
            Token::Copy(number) => self.copy_ended(number),
            Token::Boot => {
                if let Some(boot) = &mut self.boot
                    && boot.take() != boot::Told::Nothing
                {
                    self.boot = None;
                    self.guest.jailed_mut().set_booted();
                }
            }
            Token::News => {
                for told in self.guest.take_news() {
                    self.tell(&told);
                }
            }
            Token::OutOfMemory => {
                if let Some(watch) = &self.oom {
                    watch.acknowledge();
                    self.tell(&Told::OutOfMemory);
                }
            }
        }
    }

    fn clock(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.guest.jailed_mut().kill();
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.start_again();
        }
    }

    fn signalled(&mut self) {
        while let Ok(Some((signal, _))) = hostos::process::next_signal(&self.signals) {
            if signal == 1 {
                continue;
            }
            self.leave_when_stopped = true;
            self.again_at = None;
            let how = Stop::Graceful {
                deadline_ms: OWN_DEADLINE_MS,
            };
            if !self.guest.jailed().runs() || self.begin_stop(how).is_err() {
                self.depart();
            }
        }
    }

    fn accept_client(&mut self) {
        let Some(wire) = accept(&self.shim) else {
            return;
        };
        if self.clients.len() >= CLIENTS {
            return;
        }
        let number = self.number();
        let interest = Interest::Read;
        if self
            .reactor
            .add(wire.socket(), Token::Client(number), interest)
            .is_err()
        {
            return;
        }
        let client = Client {
            wire,
            subscribed: false,
            closing: false,
        };
        self.clients.insert(number, client);
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.guest.engine().to_owned(),
            guest: self.guest.jailed().plan().id.0.clone(),
            pid: std::process::id(),
        };
        self.send(number, &hello, Vec::new());
    }

    fn accept_attached(&mut self) {
        let Some(wire) = accept(&self.attach) else {
            return;
        };
        if self.sessions.is_full() {
            return;
        }
        let number = self.number();
        let interest = Interest::Read;
        if self
            .reactor
            .add(wire.socket(), Token::Attached(number), interest)
            .is_ok()
        {
            self.sessions.enter(number, wire);
        }
    }

    fn client_ready(&mut self, number: u32, ready: Ready) {
        if ready.readable && !self.read_client(number) {
            self.drop_client(number);
            return;
        }
        self.flush(number);
    }

    /// Takes what a client says; false when it is gone or talks nonsense.
    fn read_client(&mut self, number: u32) -> bool {
        let Some(client) = self.clients.get_mut(&number) else {
            return true;
        };
        match client.wire.fill() {
            Ok(Filled::Data) => {}
            Ok(Filled::Nothing) => return true,
            Ok(Filled::End) | Err(_) => return false,
        }
        loop {
            let Some(client) = self.clients.get_mut(&number).filter(|client| !client.closing) else {
                return true;
            };
            match client.wire.take_raw() {
                Ok(Some((body, _))) => self.message(number, &body),
                Ok(None) => return true,
                Err(fault) => {
                    self.refuse(number, fault);
                    return true;
                }
            }
        }
    }

    /// Tells a client what is wrong with its message, and closes.
    pub fn refuse(&mut self, number: u32, fault: Fault) {
        self.answer(number, 0, Reply::Fault(fault), Vec::new());
        if let Some(client) = self.clients.get_mut(&number) {
            client.closing = true;
        }
        self.flush(number);
    }

    /// Answers a call.
    pub fn answer(&mut self, client: u32, call: u64, reply: Reply, fds: Vec<OwnedFd>) {
        self.send(client, &Answer { call, reply }, fds);
    }

    fn send(&mut self, number: u32, message: &impl serde::Serialize, fds: Vec<OwnedFd>) {
        if let Some(client) = self.clients.get_mut(&number)
            && let Err(fault) = client.wire.push(message, fds)
        {
            eprintln!("{fault}");
        }
        self.flush(number);
    }

    fn flush(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let done = client.wire.flush();
        let waiting = client.wire.waiting();
        let keep = match done {
            Ok(true) => !client.closing,
            Ok(false) => waiting < SLOW_CLIENT,
            Err(_) => false,
        };
        if keep {
            let interest = Interest::read_and(waiting > 0);
            self.reactor
                .change(client.wire.socket(), Token::Client(number), interest);
        } else {
            self.drop_client(number);
        }
    }

    fn drop_client(&mut self, number: u32) {
        if let Some(client) = self.clients.remove(&number) {
            self.reactor.remove(client.wire.socket());
        }
        self.deferred.retain(|deferred| deferred.client != number);
        self.abandon_runs(number);
    }

    /// Tells every subscriber.
    pub fn tell(&mut self, told: &Told) {
        let subscribers: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, client)| client.subscribed)
            .map(|(number, _)| *number)
            .collect();
        for number in subscribers {
            self.send(number, told, Vec::new());
        }
    }

    /// Runs process 1 and looks after it.
    pub fn start_guest(&mut self) -> Result<()> {
        self.again_at = None;
        let plan = self.guest.jailed().plan();
        if plan.init == Init::System {
            self.boot = Some(BootWatch::listen(&plan.run_dir)?);
        }
        self.guest.start()?;
        if !self.guest.status().booting {
            self.boot = None;
        }
        if let Some(boot) = &self.boot {
            let loops = || set_up("the watch on the boot");
            self.reactor
                .add(boot, Token::Boot, Interest::Read)
                .or_fault(loops)?;
        }
        let fault = || set_up("the watch on process 1");
        if let Some(first) = self.guest.jailed().first() {
            self.reactor
                .add(first, Token::First, Interest::Read)
                .or_fault(fault)?;
        }
        if let Some(news) = self.guest.news() {
            self.reactor
                .add(news, Token::News, Interest::Read)
                .or_fault(fault)?;
        }
        if let Some(end) = self.guest.take_console() {
            self.console.connect(end, &self.reactor).or_fault(fault)?;
        }
        if self.oom.is_none() {
            self.watch_memory();
        }
        if let Some(pid) = self.guest.status().pid {
            self.tell(&Told::Started { pid });
        }
        Ok(())
    }

    fn watch_memory(&mut self) {
        let Some(watch) = self.guest.jailed().watch_oom() else {
            return;
        };
        let interest = if watch.is_exceptional() {
            Interest::Exceptional
        } else {
            Interest::Read
        };
        if self.reactor.add(&watch, Token::OutOfMemory, interest).is_ok() {
            self.oom = Some(watch);
        }
    }

    /// Begins to end the guest; a second wish can only hasten it.
    pub fn begin_stop(&mut self, how: Stop) -> Result<()> {
        if !self.guest.jailed().asked_to_stop() || how == Stop::Forced {
            self.guest.stop(how)?;
        }
        if let Stop::Graceful { deadline_ms } = how {
            let deadline = Duration::from_millis(deadline_ms.min(u64::from(u32::MAX)));
            let at = Instant::now() + deadline;
            self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        }
        Ok(())
    }

    fn first_ended(&mut self) {
        let asked = self.guest.jailed().asked_to_stop();
        if let Some(first) = self.guest.jailed().first() {
            self.reactor.remove(first);
        }
        let Some((exit, ran)) = self.guest.jailed_mut().reap() else {
            return;
        };
        self.kill_at = None;
        if let Some(news) = self.guest.news() {
            self.reactor.remove(news);
        }
        self.console.disconnect(&self.reactor);
        let restart = self.awaits(&Awaited::Restart) && !self.awaits(&Awaited::Stop);
        let reaction = match (asked, restart, self.leave_when_stopped) {
            (_, _, true) | (true, false, _) => Reaction::Stop,
            (true, true, _) => Reaction::Restart,
            (false, ..) => self.reaction(exit),
        };
        let again = reaction == Reaction::Restart;
        self.tell(&Told::Ended {
            exit,
            again,
            destroy: reaction == Reaction::Destroy,
        });
        if again {
            let wait = if asked {
                Duration::ZERO
            } else {
                self.pause_before_restart(exit, ran)
            };
            self.guest.jailed_mut().set_phase(Phase::Starting);
            if wait.is_zero() {
                self.start_again();
            } else {
                self.again_at = Some(Instant::now() + wait);
            }
        } else {
            self.ended_for_good();
        }
    }

    fn reaction(&self, exit: ExitStatus) -> Reaction {
        let policies = &self.guest.jailed().plan().policies;
        match exit {
            ExitStatus::Poweroff | ExitStatus::Code(0) => policies.on_poweroff,
            ExitStatus::Reboot => policies.on_reboot,
            ExitStatus::Code(_) | ExitStatus::Signal(_) => policies.on_crash,
        }
    }

    /// Guests that end soon after every start are started ever more slowly: 1, 2, 4… seconds; the first reboot at once.
    fn pause_before_restart(&mut self, exit: ExitStatus, ran: Duration) -> Duration {
        self.quick_ends = if ran < STEADY { self.quick_ends + 1 } else { 0 };
        let free = if exit == ExitStatus::Reboot { 3 } else { 0 };
        match self.quick_ends.checked_sub(free + 1) {
            None => Duration::ZERO,
            Some(power) => Duration::from_secs(1 << power.min(6)).min(LONGEST_WAIT),
        }
    }

    fn start_again(&mut self) {
        self.guest.jailed_mut().count_restart();
        match self.start_guest() {
            Ok(()) => self.answer_all(&Awaited::Restart, || Reply::Done),
            Err(fault) => {
                eprintln!("{fault}");
                self.answer_all(&Awaited::Restart, || Reply::Fault(fault.clone()));
                self.guest.jailed_mut().set_phase(Phase::Stopped);
                let exit = self.guest.status().exit.unwrap_or(ExitStatus::Code(-1));
                self.tell(&Told::Ended {
                    exit,
                    again: false,
                    destroy: false,
                });
                self.ended_for_good();
            }
        }
    }

    /// Everybody who waited for the end is told.
    pub fn ended_for_good(&mut self) {
        let status = self.guest.status();
        if let Some(exit) = status.exit {
            self.console_ended(exit);
        }
        self.console.dismiss(&self.reactor);
        self.answer_all(&Awaited::Stop, || Reply::Status(status.clone()));
        self.answer_all(&Awaited::End, || Reply::Status(status.clone()));
        let name = self.guest.jailed().plan().name.clone();
        self.answer_all(&Awaited::Restart, || {
            Reply::Fault(
                Fault::new(crate::ENDED_EARLY)
                    .arg("name", &name)
                    .arg("exit", "stop"),
            )
        });
        if self.leave_when_stopped {
            self.depart();
        }
    }

    /// Gives everything back and leaves the loop.
    fn depart(&mut self) {
        if let Err(fault) = self.guest.delete() {
            eprintln!("{fault}");
        }
        crate::cleanup::remove_files(&self.guest.jailed().plan().run_dir);
        self.leave = true;
    }
}

fn accept(listener: &UnixListener) -> Option<Wire> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let accepted: Result<OwnedFd, io::Error> = rustix::net::accept_with(listener, flags).map_err(Into::into);
    accepted.ok().map(|fd| Wire::new(fd.into()))
}
