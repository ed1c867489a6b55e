//! Processes run to their end for the daemon: input given, the last of the output kept.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use engine::ExecPlan;
use engine::protocol::Reply;
use fault::{OrFault, Result};
use jail::Stdio;
use model::ExitStatus;
use rustix::io::Errno;
use rustix::process::Signal;

use super::loops::Server;
use super::reactor::{Interest, Token};
use super::set_up;
use crate::process::exit_of;
use crate::pty;

/// Bytes of output that the answer carries.
const KEPT: usize = 64 * 1024;

/// One process.
pub struct Run {
    client: u32,
    call: u64,
    pidfd: OwnedFd,
    input: Option<(OwnedFd, VecDeque<u8>)>,
    output: Option<OwnedFd>,
    kept: VecDeque<u8>,
    exit: Option<ExitStatus>,
    /// In a jail of its own over the guest's root, because the guest does not run.
    passing: bool,
}

impl Server {
    /// Starts a process whose end answers the call.
    pub fn run_process(&mut self, client: u32, call: u64, plan: &ExecPlan, input: String) -> Result<()> {
        let fault = || set_up("a pipe");
        let ids = self.guest.jailed().plan().ids;
        let (stdin, to_stdin) = pty::pipe(ids).or_fault(fault)?;
        let (output, stdout) = pty::pipe(ids).or_fault(fault)?;
        for end in [&to_stdin, &output] {
            rustix::io::ioctl_fionbio(end, true).or_fault(fault)?;
        }
        let stdio = Stdio {
            stdin,
            stderr: stdout.try_clone().or_fault(fault)?,
            stdout,
        };
        let passing = !self.guest.jailed().runs();
        let (_, pidfd) = self.guest.run_inside(plan, stdio)?;
        let number = self.number();
        let mut run = Run {
            client,
            call,
            pidfd,
            input: None,
            output: Some(output),
            kept: VecDeque::new(),
            exit: None,
            passing,
        };
        self.reactor
            .add(&run.pidfd, Token::Run(number), Interest::Read)
            .or_fault(fault)?;
        if let Some(output) = &run.output {
            self.reactor
                .add(output, Token::RunOutput(number), Interest::Read)
                .or_fault(fault)?;
        }
        if !input.is_empty() {
            self.reactor
                .add(&to_stdin, Token::RunInput(number), Interest::Write)
                .or_fault(fault)?;
            run.input = Some((to_stdin, input.into_bytes().into()));
        }
        self.runs.insert(number, run);
        Ok(())
    }

    /// Its standard input takes more.
    pub fn run_input(&mut self, number: u32) {
        let Some(run) = self.runs.get_mut(&number) else {
            return;
        };
        let Some((fd, bytes)) = &mut run.input else {
            return;
        };
        let (first, _) = bytes.as_slices();
        let written = rustix::io::write(&*fd, first);
        if let Ok(count) = written {
            drop(bytes.drain(..count));
        }
        let failed = written.is_err_and(|error| error != Errno::AGAIN && error != Errno::INTR);
        if bytes.is_empty() || failed {
            self.reactor.remove(&*fd);
            run.input = None;
        }
    }

    /// It says something.
    pub fn run_output(&mut self, number: u32) {
        let Some(run) = self.runs.get_mut(&number) else {
            return;
        };
        let over = run.read();
        if over && let Some(output) = run.output.take() {
            self.reactor.remove(output);
        }
    }

    /// It has ended. What it left running in the background keeps the pipe open and is not waited for.
    pub fn run_ended(&mut self, number: u32) {
        let Some(run) = self.runs.get_mut(&number) else {
            return;
        };
        let Some(exit) = exit_of(run.pidfd.as_fd()) else {
            return;
        };
        run.exit = Some(exit);
        for _ in 0..64 {
            if run.read() || run.drained() {
                break;
            }
        }
        let Some(run) = self.runs.remove(&number) else {
            return;
        };
        self.reactor.remove(&run.pidfd);
        if let Some(output) = &run.output {
            self.reactor.remove(output);
        }
        if let Some((input, _)) = &run.input {
            self.reactor.remove(input);
        }
        let kept: Vec<u8> = run.kept.into();
        let reply = Reply::Ran {
            exit,
            output: String::from_utf8_lossy(&kept).into_owned(),
        };
        self.answer(run.client, run.call, reply, Vec::new());
        self.start_when_idle();
    }

    /// Kills what a client that is gone has started: whoever asks again must not meet it.
    pub fn abandon_runs(&mut self, client: u32) {
        for run in self.runs.values().filter(|run| run.client == client) {
            let _ = rustix::process::pidfd_send_signal(&run.pidfd, Signal::KILL);
        }
    }

    /// Whether a process uses the guest's root in a jail of its own.
    pub fn passing_jails(&self) -> bool {
        self.runs.values().any(|run| run.passing) || (!self.copies.is_empty() && !self.guest.jailed().runs())
    }
}

impl Run {
    /// Reads once; true at the end of the output.
    fn read(&mut self) -> bool {
        let Some(output) = &self.output else {
            return true;
        };
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                self.kept.extend(&buffer[..count]);
                let surplus = self.kept.len().saturating_sub(KEPT);
                drop(self.kept.drain(..surplus));
                false
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }

    fn drained(&self) -> bool {
        let Some(output) = &self.output else {
            return true;
        };
        rustix::io::ioctl_fionread(output).is_ok_and(|left| left == 0)
    }
}
