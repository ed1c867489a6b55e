//! One session, as its owner holds it: input, two outputs, and the control.

use std::io::{self, Read, Write};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fault::{Fault, Result};

use super::state::index_of;
use super::{Shared, exit_of, say};
use crate::codes::SILENT;
use crate::protocol::{Ending, Exit, FromHost, Stream};
use crate::wire::DATA_LIMIT;

/// A running session. The parts may be used from different threads.
#[derive(Debug)]
pub struct Session {
    /// To the process.
    pub stdin: Input,
    /// From the process; everything that a terminal shows.
    pub stdout: Output,
    /// From the process; empty for a terminal.
    pub stderr: Output,
    /// Size, signals and the end.
    pub control: Control,
}

impl Session {
    pub(super) fn new(shared: &Arc<Shared>, number: u32) -> Self {
        let output = |stream| Output {
            shared: Arc::clone(shared),
            number,
            stream,
        };
        Session {
            stdin: Input {
                shared: Arc::clone(shared),
                number,
                open: true,
            },
            stdout: output(Stream::Stdout),
            stderr: output(Stream::Stderr),
            control: Control {
                shared: Arc::clone(shared),
                number,
            },
        }
    }
}

fn broken(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, fault)
}

/// Input of a session; dropping it ends the input. Writing waits until the process takes it.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    number: u32,
    open: bool,
}

impl Input {
    /// No more comes.
    pub fn finish(self) {}
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut state = self.shared.link.lock();
        loop {
            let (room, lost) = (state.has_room(), state.lost().is_some());
            let entry = state.session(self.number).map_err(broken)?;
            if entry.ending.is_some() || lost {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let credit = usize::try_from(entry.credit).unwrap_or(usize::MAX);
            let count = bytes.len().min(credit).min(DATA_LIMIT);
            if count > 0 && room {
                state.input(self.number, bytes.get(..count).unwrap_or_default());
                return Ok(count);
            }
            let wake = if room {
                Arc::clone(&entry.wake)
            } else {
                state.to_room()
            };
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if std::mem::take(&mut self.open) {
            say(&self.shared.link, self.number, &FromHost::InputEnd);
        }
    }
}

/// Output of a session; its end is the session's. Dropping it breaks the process's pipe.
#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    number: u32,
    stream: Stream,
}

impl Read for Output {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut state = self.shared.link.lock();
        loop {
            let entry = state.session(self.number).map_err(broken)?;
            let incoming = &mut entry.incoming[index_of(self.stream)];
            let (count, bytes) = incoming.take(into);
            if count > 0 {
                if bytes > 0 {
                    let stream = self.stream;
                    state.say(self.number, &FromHost::Credit { stream, bytes });
                }
                return Ok(count);
            }
            if entry.ending.is_some() {
                return Ok(0);
            }
            let wake = Arc::clone(&entry.wake);
            if let Some(lost) = state.lost() {
                return Err(broken(lost.clone()));
            }
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.shared.link.lock().abandon(self.number, self.stream);
    }
}

/// Size, signals and the end of a session. Dropping it closes the session: a process that still runs is hung up, and
/// killed when it stays.
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    number: u32,
}

impl Control {
    /// Tells the size of the terminal.
    pub fn resize(&self, rows: u16, cols: u16) {
        say(&self.shared.link, self.number, &FromHost::Resize { rows, cols });
    }

    /// Sends the process a signal, by number.
    pub fn signal(&self, signal: i32) {
        say(&self.shared.link, self.number, &FromHost::Signal { signal });
    }

    /// Waits for the end. A process whose output nobody reads may never come to it.
    ///
    /// # Errors
    /// What the agent says went wrong; `AGT005` when the connection ends before.
    pub fn wait(&mut self) -> Result<Ending> {
        self.end(None)
    }

    /// Waits for the end of a process.
    ///
    /// # Errors
    /// As [`Control::wait`].
    pub fn wait_exit(&mut self) -> Result<Exit> {
        exit_of(self.wait()?)
    }

    /// As [`Control::wait`], not for ever.
    ///
    /// # Errors
    /// `AGT001` when the time is over.
    pub fn wait_within(&mut self, patience: Duration) -> Result<Ending> {
        self.end(Some(patience))
    }

    fn end(&mut self, patience: Option<Duration>) -> Result<Ending> {
        let ending = self.until(patience, |_| false)?;
        ending.ok_or_else(|| Fault::new(SILENT))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As [`Control::wait`].
    pub fn try_wait(&mut self) -> Result<Option<Ending>> {
        match self.until(Some(Duration::ZERO), |_| false) {
            Err(fault) if fault.is(SILENT) => Ok(None),
            other => other,
        }
    }

    /// Waits until what was asked for runs.
    pub(super) fn wait_started(&mut self, patience: Option<Duration>) -> Result<()> {
        self.until(patience, |started| started).map(drop)
    }

    /// Waits for the end, or for a start that is `enough`.
    fn until(&mut self, patience: Option<Duration>, enough: impl Fn(bool) -> bool) -> Result<Option<Ending>> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.shared.link.lock();
        loop {
            let entry = state.session(self.number)?;
            match &entry.ending {
                Some(Ending::Fault(fault)) => return Err(fault.clone()),
                Some(ending) => return Ok(Some(ending.clone())),
                None if enough(entry.started) => return Ok(None),
                None => {}
            }
            let wake = Arc::clone(&entry.wake);
            if let Some(lost) = state.lost() {
                return Err(lost.clone());
            }
            state = match deadline {
                None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Fault::new(SILENT));
                    }
                    let waited = wake.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.link.lock().close(self.number);
    }
}
