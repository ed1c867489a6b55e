//! Sessions with the guest's agent: a process each, which stands for the process inside as ssh's client does for its command.
//! What the agent says is the guest's word, so it is read in a jail.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use agent::host::{Agent, Session, Way};
use agent::protocol::{Ending, Exec, Exit};
use engine::ExecPlan;
use engine::protocol::FileJob;
use engine::wire::{Filled, Wire};
use fault::{Fault, OrFault, Result};
use jail::recipe::{Namespaces, Ns, Recipe, Seccomp};
use jail::{Kept, Started, Stdio};
use serde::{Deserialize, Serialize};

use crate::NO_AGENT;

/// How long the agent may take to greet, and to start a program.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a session is for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// A process.
    Exec(ExecPlan),
    /// Copying.
    Files(FileJob),
}

/// Said once by the process of a session.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Started,
    Fault(Fault),
}

/// Starts the process of a session: `stream` leads to the agent, `streams` are what the process inside has as its own.
///
/// # Errors
/// The agent's own faults; `MAC017` when there is no agent.
pub fn start(
    recipe: &Recipe,
    kept: &Kept,
    name: &str,
    job: &Job,
    stream: OwnedFd,
    streams: Stdio,
) -> Result<Started> {
    let fault = || Fault::new(NO_AGENT).arg("name", name);
    let (ours, theirs) = UnixStream::pair().or_fault(fault)?;
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null");
    let recipe = Recipe {
        namespaces: Namespaces {
            // So that it can end by a signal, as the process inside has.
            pid: Ns::Share,
            ..recipe.namespaces
        },
        nics: Vec::new(),
        seccomp: Seccomp::Worker,
        ..recipe.clone()
    };
    let stdio = Stdio {
        stdin: theirs.into(),
        stdout: null().or_fault(fault)?.into(),
        stderr: null().or_fault(fault)?.into(),
    };
    let name = name.to_owned();
    let started = jail::work_in(&recipe, kept, &stdio, &|| work(&name))?;
    drop(stdio);
    let mut wire = Wire::new(ours);
    wire.push(job, vec![stream, streams.stdin, streams.stdout, streams.stderr])?;
    wire.flush().or_fault(fault)?;
    loop {
        match wire.take::<Word>()? {
            Some((Word::Started, _)) => return Ok(started),
            Some((Word::Fault(said), _)) => {
                let _ = rustix::process::waitid(
                    rustix::process::WaitId::PidFd(started.pidfd.as_fd()),
                    rustix::process::WaitIdOptions::EXITED,
                );
                return Err(said);
            }
            None => {
                if matches!(wire.fill().or_fault(fault)?, Filled::End) {
                    return Err(fault());
                }
            }
        }
    }
}

/// In the jail: standard input is the connection to the shim.
fn work(name: &str) -> i32 {
    let signals: Vec<i32> = (1..32).filter(|signal| ![9, 19].contains(signal)).collect();
    let Ok(signals) = hostos::process::signals_as_descriptor(&signals) else {
        return 127;
    };
    let Ok(socket) = rustix::io::dup(rustix::stdio::stdin()) else {
        return 127;
    };
    let mut wire = Wire::new(UnixStream::from(socket));
    let begun = begin(&mut wire, name);
    let word = match &begun {
        Ok(_) => Word::Started,
        Err(fault) => Word::Fault(fault.clone()),
    };
    if wire.push(&word, Vec::new()).is_err() || wire.flush().is_err() {
        return 127;
    }
    drop(wire);
    match begun {
        Ok(Begun::Process {
            session,
            streams,
            terminal,
        }) => carry(session, streams, terminal, signals),
        Ok(Begun::Files { theirs, ours }) => copy(theirs, ours),
        Err(_) => 126,
    }
}

enum Begun {
    Process {
        session: Session,
        streams: Stdio,
        terminal: bool,
    },
    Files {
        theirs: OwnedFd,
        ours: OwnedFd,
    },
}

fn begin(wire: &mut Wire, name: &str) -> Result<Begun> {
    let fault = || Fault::new(NO_AGENT).arg("name", name);
    let (job, fds) = loop {
        if let Some(taken) = wire.take::<Job>()? {
            break taken;
        }
        if matches!(wire.fill().or_fault(fault)?, Filled::End) {
            return Err(fault());
        }
    };
    let [stream, stdin, stdout, stderr]: [OwnedFd; 4] = fds.try_into().map_err(|_| fault())?;
    let agent = Agent::over(stream, Way::Connection, PATIENCE).map_err(|cause| fault().because(cause))?;
    match job {
        Job::Exec(plan) => {
            let terminal = plan.terminal.is_some();
            let session = agent.exec(&Exec {
                argv: plan.argv,
                env: plan.env,
                workdir: plan.workdir,
                user: plan.user,
                terminal: plan.terminal,
            })?;
            let streams = Stdio {
                stdin,
                stdout,
                stderr,
            };
            Ok(Begun::Process {
                session,
                streams,
                terminal,
            })
        }
        Job::Files(job) => {
            let theirs = match &job {
                FileJob::Read { path } => agent.read_files_stream(path)?,
                FileJob::Write { path } => agent.write_files_stream(path)?,
            };
            Ok(Begun::Files { theirs, ours: stdin })
        }
    }
}

/// Carries bytes, size and signals until the process inside has ended; ends as it did.
fn carry(session: Session, streams: Stdio, terminal: bool, signals: OwnedFd) -> i32 {
    let Session {
        stdin,
        stdout,
        stderr,
        mut control,
    } = session;
    let (input, mut output, mut errors) = (
        std::fs::File::from(streams.stdin),
        std::fs::File::from(streams.stdout),
        std::fs::File::from(streams.stderr),
    );
    let size = terminal.then(|| input.try_clone().ok()).flatten();
    std::thread::spawn(move || drop(std::io::copy(&mut &input, &mut { stdin })));
    let (done, both) = mpsc::channel();
    let also = done.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut { stdout }, &mut output);
        drop(output);
        let _ = done.send(());
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut { stderr }, &mut errors);
        drop(errors);
        let _ = also.send(());
    });
    let ended = loop {
        while let Ok(Some((signal, _))) = hostos::process::next_signal(&signals) {
            match (&size, signal) {
                (Some(terminal), 28) => {
                    if let Ok(size) = rustix::termios::tcgetwinsize(terminal) {
                        control.resize(size.ws_row, size.ws_col);
                    }
                }
                (_, 17 | 28) => {}
                (_, signal) => control.signal(signal),
            }
        }
        match control.wait_within(Duration::from_millis(25)) {
            Ok(Ending::Exited(exit)) => break Some(exit),
            Ok(_) => break None,
            Err(fault) if fault.is(agent::codes::SILENT) => {}
            Err(_) => break None,
        }
    };
    for _ in 0..2 {
        let _ = both.recv_timeout(Duration::from_secs(5));
    }
    match ended {
        Some(Exit::Code(code)) => code,
        Some(Exit::Signal(signal)) => end_by(signal),
        None => 255,
    }
}

/// Ends this process by a signal, as the process inside has ended.
fn end_by(signal: i32) -> i32 {
    hostos::process::unblock_signals();
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        std::thread::sleep(Duration::from_millis(200));
    }
    128 + signal
}

/// Carries a tar stream and the word after it.
fn copy(theirs: OwnedFd, ours: OwnedFd) -> i32 {
    let theirs = UnixStream::from(theirs);
    let ours = UnixStream::from(ours);
    let (Ok(from), Ok(to)) = (ours.try_clone(), theirs.try_clone()) else {
        return 1;
    };
    std::thread::spawn(move || {
        relay(from, &to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    relay(theirs, &ours);
    let _ = ours.shutdown(std::net::Shutdown::Both);
    0
}

fn relay(mut from: UnixStream, mut to: &UnixStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
