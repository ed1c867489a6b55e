//! A program in a jail, attended until it ends: what it says line by line, and what a fault tells of it.

use std::io::{self, BufRead};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use fault::{Fault, OrFault, Result};
use model::Watcher;

/// How often a running program is looked after.
const TICK: Duration = Duration::from_millis(20);
/// How long the last lines of an ended program are waited for.
const LAST: Duration = Duration::from_millis(200);
/// Lines of last words that are kept.
const LAST_WORDS: usize = 12;

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The last lines that it wrote.
    words: Vec<String>,
}

impl Ended {
    /// Whether one of its last lines holds this text.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.words.iter().any(|line| line.contains(text))
    }

    /// The fault of a program that failed: the jail's own when it could not be started, else `fault` with the last
    /// words as its causes.
    pub(crate) fn explain(&self, fault: Fault) -> Fault {
        if let Some(fault) = self
            .words
            .last()
            .and_then(|line| serde_json::from_str::<Fault>(line).ok())
        {
            return fault;
        }
        let fault = fault.because_of(self.status.to_string());
        self.words
            .iter()
            .fold(fault, |fault, line| fault.because_of(line.clone()))
    }
}

/// Runs a command to its end; `line` hears what it says, and is called without a line in between.
///
/// # Errors
/// `fault` when it cannot be run, [`model::CANCELLED`]; it is killed then.
pub(crate) fn attend(
    mut command: Command,
    watcher: &dyn Watcher,
    fault: &dyn Fn() -> Fault,
    line: &mut dyn FnMut(Option<&str>),
) -> Result<Ended> {
    let (reader, writer) = io::pipe().or_fault(fault)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().or_fault(fault)?)
        .stderr(writer);
    let mut child = command.spawn().or_fault(fault)?;
    drop(command);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::BufReader::new(reader).split(b'\n').map_while(io::Result::ok) {
            if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut words: Vec<String> = Vec::new();
    let mut hear = |text: String, line: &mut dyn FnMut(Option<&str>)| {
        line(Some(&text));
        if words.len() == LAST_WORDS {
            words.remove(0);
        }
        words.push(text);
    };
    let status = loop {
        if watcher.is_cancelled() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Fault::new(model::CANCELLED));
        }
        line(None);
        while let Ok(text) = told.try_recv() {
            hear(text, line);
        }
        if let Some(status) = child.try_wait().or_fault(fault)? {
            break status;
        }
        std::thread::sleep(TICK);
    };
    while let Ok(text) = told.recv_timeout(LAST) {
        hear(text, line);
    }
    Ok(Ended { status, words })
}
