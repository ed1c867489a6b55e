//! What a shim asks of the guest that it owns, whatever engine runs it.

use std::os::fd::{BorrowedFd, OwnedFd};

use engine::protocol::{FileJob, Told};
use engine::{ExecPlan, Instance};
use fault::Result;
use jail::Stdio;

use crate::Jailed;
use crate::pty::Pty;

/// The shim's end of the guest's console.
#[derive(Debug)]
pub enum ConsoleEnd {
    /// A terminal; the slave is kept open, so that a guest which closes its console may open it again.
    Terminal {
        /// Both ends.
        pty: Pty,
    },
    /// Standard output and error of a command, to be read.
    Output {
        /// Standard output.
        output: OwnedFd,
        /// Standard error.
        errors: OwnedFd,
        /// Standard input, to be written.
        input: Option<OwnedFd>,
    },
}

/// An instance as its shim keeps it: what the shim's loop needs besides the contract of engines. Every engine of ours runs
/// something of the guest in a jail: its init, or its machine.
pub trait Guest: Instance {
    /// Name of the engine, `container`.
    fn engine(&self) -> &'static str;

    /// Its jail.
    fn jailed(&self) -> &Jailed;

    /// Its jail, to be changed.
    fn jailed_mut(&mut self) -> &mut Jailed;

    /// The console of the last start, for the one who reads it.
    fn take_console(&mut self) -> Option<ConsoleEnd>;

    /// A descriptor that is readable when [`Guest::take_news`] has something, where the engine has news of its own.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What has happened since the last call.
    fn take_news(&mut self) -> Vec<Told> {
        Vec::new()
    }

    /// Starts a process inside with these streams: beside the guest's own, or, where the engine can, while the guest does not run.
    /// Returns its host process id and descriptor.
    ///
    /// # Errors
    /// Those of the engine.
    fn run_inside(&mut self, plan: &ExecPlan, stdio: Stdio) -> Result<(u32, OwnedFd)>;

    /// Starts a process that copies files over its standard input and output; see [`crate::files::work`].
    ///
    /// # Errors
    /// Those of the engine.
    fn copy(&mut self, job: &FileJob, stdio: Stdio) -> Result<OwnedFd>;
}
