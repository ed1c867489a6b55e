//! Work that may block, done by a child of the agent: files, facts, the password, the clean end, the disks.
//!
//! A job's word – an [`Ending`] as JSON – comes on a pipe of its own, so that an archive on standard output is never
//! mixed with it.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fault::{Fault, OrFault, Result};

use super::exec::{PATH, Streams, take_streams};
use super::facts::facts;
use super::files::{read_files, write_files};
use super::freeze::freeze;
use crate::codes::{PROGRAM_FAILED, SET_UP_FAILED, VALUE_REFUSED};
use crate::protocol::{Ending, Request, Shutdown};

/// Most bytes of a failing program's words that a fault quotes.
const QUOTE: usize = 2000;

/// The longest that a job may take; none for those that move files, whose end the host decides.
#[must_use]
pub fn patience(request: &Request) -> Option<Duration> {
    let seconds = match request {
        Request::Facts => 15,
        Request::SetPassword { .. } | Request::Shutdown { .. } => 60,
        Request::Sync => 600,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// Does the work in a process of its own; its id. `word` is the pipe for its ending. Forks.
///
/// # Errors
/// Those of fork(2).
pub fn start(request: &Request, streams: &Streams, word: &OwnedFd) -> std::io::Result<i32> {
    hostos::process::fork_into(|| {
        let Ok(word) = settle(streams, word) else {
            return 1;
        };
        let ending = work(request, &word).unwrap_or_else(Ending::Fault);
        let text = serde_json::to_vec(&ending).unwrap_or_default();
        i32::from(write_all(&word, &text).is_err())
    })
}

/// Keeps the standard streams and, as number 3, the pipe; everything else of the agent is closed, so that other
/// sessions end when they end.
fn settle(streams: &Streams, word: &OwnedFd) -> std::io::Result<OwnedFd> {
    take_streams(streams)?;
    let far = rustix::io::fcntl_dupfd_cloexec(word, 10)?;
    hostos::descriptors::place(far, 3)?;
    if hostos::descriptors::close_from(4).is_err() {
        close_one_by_one();
    }
    hostos::process::unblock_signals();
    hostos::descriptors::inherited(3)
}

/// Before Linux 5.9, which has close_range(2).
fn close_one_by_one() {
    let numbers = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map(|list| list.filter_map(numbers).collect())
        .unwrap_or_default();
    for number in open.into_iter().filter(|number| *number > 3) {
        drop(hostos::descriptors::inherited(number));
    }
}

fn work(request: &Request, word: &OwnedFd) -> Result<Ending> {
    match request {
        Request::ReadFiles { path } => read_files(Path::new(path)).map(|()| Ending::Done),
        Request::WriteFiles { path } => write_files(Path::new(path)).map(|()| Ending::Done),
        Request::SetPassword { user, hash } => set_password(user, hash).map(|()| Ending::Done),
        Request::Shutdown { how } => shut_down(*how).map(|()| Ending::Done),
        Request::Facts => Ok(Ending::Facts(facts())),
        Request::Sync => {
            rustix::fs::sync();
            Ok(Ending::Done)
        }
        Request::Freeze { milliseconds } => freeze(Duration::from_millis(*milliseconds), word),
        Request::Exec(_) | Request::Ping | Request::SetTime { .. } => {
            Err(Fault::new(SET_UP_FAILED).arg("what", "a job"))
        }
    }
}

/// Writes everything to a descriptor that blocks.
///
/// # Errors
/// Those of write(2).
pub fn write_all(mut to: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&mut to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn set_password(user: &str, hash: &str) -> Result<()> {
    let odd = |text: &str| text.is_empty() || text.contains([':', '\n', '\0']);
    if odd(user) || odd(hash) {
        return Err(Fault::new(VALUE_REFUSED).arg("what", "password"));
    }
    run("chpasswd", &["-e"], &format!("{user}:{hash}\n"))
}

fn shut_down(how: Shutdown) -> Result<()> {
    let word = match how {
        Shutdown::Poweroff => "poweroff",
        Shutdown::Reboot => "reboot",
    };
    if Path::new("/run/systemd/system").is_dir() {
        return run("systemctl", &["--no-block", word], "");
    }
    run(word, &[], "")
}

/// Runs a program of the guest to its end; its last words when it fails.
fn run(program: &str, args: &[&str], input: &str) -> Result<()> {
    let fault = || Fault::new(PROGRAM_FAILED).arg("program", program);
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .or_fault(fault)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = child.wait_with_output().or_fault(fault)?;
    if ended.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    let from = text.len().saturating_sub(QUOTE);
    let tail: String = text
        .char_indices()
        .filter(|(at, _)| *at >= from)
        .map(|(_, c)| c)
        .collect();
    Err(fault().because_of(ended.status.to_string()).because_of(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_cannot_bring_a_second_line() {
        for (user, hash) in [
            ("root", "x\nana:y"),
            ("a:b", "x"),
            ("", "x"),
            ("root", ""),
            ("root\n", "x"),
        ] {
            assert!(set_password(user, hash).unwrap_err().is(VALUE_REFUSED));
        }
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let fault = run("sh", &["-c", "echo no such luck >&2; exit 3"], "").unwrap_err();
        assert!(fault.is(PROGRAM_FAILED));
        assert!(
            fault.causes().iter().any(|cause| cause == "no such luck"),
            "{fault}"
        );
    }
}
