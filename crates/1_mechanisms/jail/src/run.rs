//! `posada-shim run`: executes one recipe and lives as long as its process.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use fault::{Fault, OrFault, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, pidfd_send_signal, waitpid};

use crate::recipe::{Ns, Recipe};
use crate::start::start_bound;
use crate::{Started, Stdio, codes, make_namespaces};

/// Exit code when the recipe could not be executed.
pub const NOT_STARTED: u8 = 125;

/// Most bytes of a recipe.
const RECIPE_LIMIT: u64 = 4 << 20;

const FORWARDED: [i32; 7] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGWINCH,
];

/// Reads a recipe as JSON from a descriptor, executes it with the caller's own standard streams, forwards signals
/// and returns its exit status (128 + signal when killed by one; [`NOT_STARTED`] when it could not be started). Then
/// the fault goes as JSON to standard error or, with `report`, into the descriptor in place of the recipe. The program
/// dies with this process. Forks.
#[must_use]
pub fn run_recipe_from_fd(fd: OwnedFd, report: bool) -> ExitCode {
    let memory = report.then(|| fd.try_clone()).and_then(std::result::Result::ok);
    match run(fd) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            let text = serde_json::to_string(&fault).unwrap_or_else(|_| fault.code().to_owned());
            match memory {
                Some(memory) => {
                    let _ = rustix::fs::ftruncate(&memory, 0);
                    let _ = rustix::io::pwrite(&memory, text.as_bytes(), 0);
                }
                None => eprintln!("{text}"),
            }
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn run(fd: OwnedFd) -> Result<u8> {
    let recipe = read(fd)?;
    let streams = || Fault::new(codes::STREAMS_FAILED);
    let signals = hostos::process::signals_as_descriptor(&[&FORWARDED[..], &[libc::SIGCHLD]].concat());
    let signals = signals.or_fault(streams)?;
    let copy = |fd: std::os::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).or_fault(streams);
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let stdio = Stdio {
        stdin: copy(stdin.as_fd())?,
        stdout: copy(stdout.as_fd())?,
        stderr: copy(stderr.as_fd())?,
    };
    let kept = make_namespaces(&recipe)?;
    let started = start_bound(&recipe, &kept, &stdio)?;
    drop(stdio);
    let first_in_namespace = recipe.namespaces.pid == Ns::New;
    let code = attend(&started, &signals, first_in_namespace)?;
    take_terminal_back(stdin);
    Ok(code)
}

fn read(fd: OwnedFd) -> Result<Recipe> {
    let fault = || Fault::new(codes::RECIPE_BROKEN);
    let mut file = File::from(fd);
    // A memory file that was just written stands at its end.
    let _ = rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0));
    let mut text = Vec::new();
    file.by_ref()
        .take(RECIPE_LIMIT)
        .read_to_end(&mut text)
        .or_fault(fault)?;
    serde_json::from_slice(&text).or_fault(fault)
}

/// Forwards signals until the process ends.
fn attend(started: &Started, signals: &OwnedFd, first_in_namespace: bool) -> Result<u8> {
    let fault = || Fault::new(codes::ENDED_EARLY);
    let pid = Pid::from_raw(started.pid.cast_signed());
    let mut killed_by = None;
    loop {
        match waitpid(pid, WaitOptions::NOHANG).or_fault(fault)? {
            Some((_, status)) => return Ok(exit_code(status, killed_by)),
            None => {
                let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], None);
            }
        }
        while let Some((signal, sender)) = hostos::process::next_signal(signals).or_fault(fault)? {
            if signal == libc::SIGCHLD {
                continue;
            }
            let deaf = first_in_namespace && is_default(started.pid, signal);
            if deaf && [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].contains(&signal) {
                // The kernel keeps signals without handler from process 1: an ordinary program would live for ever.
                killed_by = Some(signal);
                let _ = pidfd_send_signal(&started.pidfd, Signal::KILL);
            } else if let (Some(signal), 1..) = (Signal::from_named_raw(signal), sender) {
                // From the terminal (no sender) the process gets them itself.
                let _ = pidfd_send_signal(&started.pidfd, signal);
            }
        }
    }
}

fn exit_code(status: WaitStatus, killed_by: Option<i32>) -> u8 {
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (_, Some(signal)) => 128 + killed_by.filter(|_| signal == libc::SIGKILL).unwrap_or(signal),
        _ => i32::from(NOT_STARTED),
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Whether the process neither catches nor ignores the signal.
fn is_default(pid: u32, signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .unwrap_or(0)
    };
    (mask("SigCgt:") | mask("SigIgn:")) & (1 << (signal - 1)) == 0
}

/// A shell inside may have left its own process group in the foreground.
fn take_terminal_back(stdin: impl AsFd) {
    if rustix::termios::isatty(&stdin) && hostos::process::block_signal(libc::SIGTTOU).is_ok() {
        let _ = rustix::termios::tcsetpgrp(&stdin, rustix::process::getpgrp());
    }
}
