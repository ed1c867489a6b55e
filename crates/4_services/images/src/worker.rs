//! The worker: a confined process that reads the bytes from outside for us.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use archive::job::{Answer, Request};
use fault::{Fault, OrFault, Result};
use model::Watcher;

use crate::codes;
use crate::confine::{self, Reach, Tools};

/// How often a waiting caller looks whether the work was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// How long the processes of a killed worker may take to be gone.
const LAST: Duration = Duration::from_secs(5);

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<Answer>,
}

impl Worker {
    /// Starts a worker in a jail whose empty root is `bench`.
    pub(crate) fn start(tools: Tools<'_>, bench: &Path, reach: &Reach) -> Result<Self> {
        let fault = || Fault::new(codes::WORKER).arg("program", tools.worker_exe.display());
        if !tools.worker_exe.is_file() {
            return Err(fault());
        }
        let recipe = confine::worker(tools, bench, reach)?;
        let mut command = jail::launch::command(tools.shim_exe, &recipe)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .or_fault(fault)?;
        drop(command);
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.ok_or_else(fault)?;
        let (tell, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                // A worker that hostile bytes have taken over can lie, but only in answers of this shape.
                let Ok(answer) = serde_json::from_str(&line) else {
                    return;
                };
                if tell.send(answer).is_err() {
                    return;
                }
            }
        });
        Ok(Worker {
            child,
            input,
            answers,
        })
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_vec(request).or_fault(|| Fault::new(codes::WORKER_ENDED))?;
        line.push(b'\n');
        let sent = self
            .input
            .as_mut()
            .is_some_and(|input| input.write_all(&line).is_ok());
        if sent { Ok(()) } else { Err(self.ended()) }
    }

    /// The next answer; a fault of the worker is returned as such.
    pub(crate) fn receive(&mut self, watcher: &dyn Watcher) -> Result<Answer> {
        loop {
            if watcher.is_cancelled() {
                return Err(Fault::new(model::CANCELLED));
            }
            match self.answers.recv_timeout(TICK) {
                Ok(Answer::Failed { fault }) => return Err(fault),
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// An answer that is there already.
    pub(crate) fn poll(&mut self) -> Result<Option<Answer>> {
        match self.answers.try_recv() {
            Ok(Answer::Failed { fault }) => Err(fault),
            Ok(answer) => Ok(Some(answer)),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(self.ended()),
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, request: &Request, watcher: &dyn Watcher) -> Result<Answer> {
        self.send(request)?;
        self.receive(watcher)
    }

    /// Why there are no more answers: the jail's own fault when it could not be started.
    fn ended(&mut self) -> Fault {
        self.input = None;
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = (&mut stderr).take(64 << 10).read_to_string(&mut words);
        }
        let status = self.child.wait();
        if let Some(fault) = words
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Fault>(line).ok())
        {
            return fault;
        }
        let mut fault = Fault::new(codes::WORKER_ENDED);
        fault = match status {
            Ok(status) => fault.because_of(status.to_string()),
            Err(error) => fault.because(error),
        };
        for line in words.lines().take(5) {
            fault = fault.because_of(line);
        }
        fault
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its jail may still be on the way up, in directories that our caller removes next; whoever belongs to it holds
        // the pipe of answers.
        while self.answers.recv_timeout(LAST).is_ok() {}
    }
}

/// An answer that does not belong to its request.
pub(crate) fn unexpected() -> Fault {
    Fault::new(codes::WORKER_ENDED).because_of("unexpected answer")
}
