//! Sessions as descriptors, for whoever hands them on to another process: threads carry the bytes.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use fault::{Fault, OrFault, Result};

use super::{Agent, Control, Input, Output, Session};
use crate::codes::SET_UP_FAILED;

const STACK: usize = 64 << 10;
const CHUNK: usize = 16 << 10;

/// The other ends of a session's streams.
#[derive(Debug)]
pub enum Streams {
    /// To read and to write; a socket.
    Terminal(OwnedFd),
    /// Standard input to write, output and error to read.
    Pipes(OwnedFd, OwnedFd, OwnedFd),
}

fn set_up() -> Fault {
    Fault::new(SET_UP_FAILED).arg("what", "the streams of a session")
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new()
        .name("agent-stream".into())
        .stack_size(STACK);
    thread.spawn(work).map(drop).or_fault(set_up)
}

/// Copies to the end; whether anything came.
fn copy(mut from: impl Read, mut to: impl Write) -> (bool, io::Result<()>) {
    let mut buffer = vec![0; CHUNK];
    let mut any = false;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return (any, Ok(())),
            Ok(count) => {
                any = true;
                if let Err(error) = to.write_all(buffer.get(..count).unwrap_or_default()) {
                    return (any, Err(error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (any, Err(error)),
        }
    }
}

impl Session {
    /// Descriptors for the streams, and the control. `terminal`: the process has one.
    ///
    /// # Errors
    /// `AGT007` when the host has no descriptors or threads left.
    pub fn into_streams(self, terminal: bool) -> Result<(Streams, Control)> {
        let Session {
            stdin,
            stdout,
            stderr,
            control,
        } = self;
        if terminal {
            let (ours, theirs) = UnixStream::pair().or_fault(set_up)?;
            let reading = ours.try_clone().or_fault(set_up)?;
            spawn(move || drop(copy(reading, stdin)))?;
            spawn(move || {
                let _ = copy(stdout, &ours);
                // The other thread waits for input that means nothing any more.
                let _ = ours.shutdown(Shutdown::Both);
            })?;
            return Ok((Streams::Terminal(theirs.into()), control));
        }
        let (input, to_input) = io::pipe().or_fault(set_up)?;
        let (from_output, output) = io::pipe().or_fault(set_up)?;
        let (from_error, error) = io::pipe().or_fault(set_up)?;
        spawn(move || drop(copy(input, stdin)))?;
        spawn(move || drop(copy(stdout, output)))?;
        spawn(move || drop(copy(stderr, error)))?;
        let streams = Streams::Pipes(to_input.into(), from_output.into(), from_error.into());
        Ok((streams, control))
    }
}

impl Agent {
    /// [`Agent::read_files`] as a stream: the archive with its end mark, or a [`Fault`] as JSON in its place.
    ///
    /// # Errors
    /// `AGT…`.
    pub fn read_files_stream(&self, path: &str) -> Result<OwnedFd> {
        let (output, control) = self.read_files(path)?;
        let (ours, theirs) = UnixStream::pair().or_fault(set_up)?;
        spawn(move || send_archive(output, control, &ours))?;
        Ok(theirs.into())
    }

    /// [`Agent::write_files`] as a stream: after the other side has shut down its sending, it is told `done`, or a
    /// [`Fault`] as JSON.
    ///
    /// # Errors
    /// `AGT…`.
    pub fn write_files_stream(&self, path: &str) -> Result<OwnedFd> {
        let (input, control) = self.write_files(path)?;
        let (ours, theirs) = UnixStream::pair().or_fault(set_up)?;
        spawn(move || take_archive(input, control, &ours))?;
        Ok(theirs.into())
    }
}

fn send_archive(output: Output, mut control: Control, mut to: &UnixStream) {
    let (any, done) = copy(output, to);
    if done.is_ok()
        && !any
        && let Err(fault) = control.wait()
    {
        let _ = to.write_all(&serde_json::to_vec(&fault).unwrap_or_default());
    }
}

fn take_archive(input: Input, mut control: Control, mut from: &UnixStream) {
    // When the job has ended early, its fault is the reason.
    let _ = copy(from, input);
    let word = match control.wait() {
        Ok(_) => b"done".to_vec(),
        Err(fault) => serde_json::to_vec(&fault).unwrap_or_default(),
    };
    let _ = from.write_all(&word);
    let _ = from.shutdown(Shutdown::Write);
    // Who still sends shall read the word and not meet a closed stream.
    let _ = copy(from, io::sink());
}
