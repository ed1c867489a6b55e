//! The contracts: [`Engine`] in the daemon (probe and check, pure) and [`Instance`] in the shim.
//!
//! A facet of an instance is there or absent; nothing is ever "not implemented". The daemon sees an instance only
//! through the shim protocol.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use fault::Result;
use model::api::{Display, Finding, GuestStats};
use model::{ExitStatus, Limits, Phase, Unenforced};
use serde::{Deserialize, Serialize};

use crate::Plan;

/// What the daemon asks an engine without running anything.
pub trait Engine {
    /// The engine's name in specs and listings: `container`.
    fn name(&self) -> &'static str;

    /// What this host offers the engine; read-only.
    fn probe(&self) -> Vec<Finding>;

    /// Refuses a plan that this engine cannot run, and tells which limits the host cannot enforce.
    ///
    /// # Errors
    /// The fault names what the engine lacks.
    fn check(&self, plan: &Plan) -> Result<Vec<Unenforced>>;
}

/// How a guest is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// Ask, and kill after the deadline.
    Graceful {
        /// Milliseconds until it is killed.
        deadline_ms: u64,
    },
    /// Kill at once.
    Forced,
}

/// What an instance tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Where it is in its life: starting (created), running, paused, stopping or stopped.
    pub phase: Phase,
    /// Host process id of the guest's process 1.
    pub pid: Option<u32>,
    /// How it last ended.
    pub exit: Option<ExitStatus>,
    /// Times it was started again inside this shim, by reboot or policy.
    pub restarts: u32,
    /// When it last started, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// Process 1 runs, and will tell when the system is up, but has not yet. Never for what tells nothing.
    #[serde(default)]
    pub booting: bool,
    /// What of its limits this host does not enforce; none when that is not told.
    #[serde(default)]
    pub unenforced: Option<Vec<Unenforced>>,
    /// What executes the instructions of a machine that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<model::Processor>,
}

/// A process started beside the guest's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Program and arguments; the user's login shell when empty.
    pub argv: Vec<String>,
    /// Variables added to a clean environment.
    pub env: std::collections::BTreeMap<String, String>,
    /// Working directory; the user's home when absent.
    pub workdir: Option<String>,
    /// As [`model::api::ExecRequest::user`].
    pub user: Option<String>,
    /// Rows and columns of its terminal; without one it gets three pipes.
    pub terminal: Option<(u16, u16)>,
}

/// One guest inside its shim. Calls do not block: what takes time is told by the shim's event loop.
pub trait Instance {
    /// Makes namespaces (user first, so that the others belong to it) and cgroup; nothing of the guest runs. Returns
    /// the network namespace, into which the owner of the networks puts links.
    ///
    /// # Errors
    /// When the host refuses a namespace, a mount or a cgroup.
    fn create(&mut self) -> Result<Option<OwnedFd>>;

    /// Runs the guest's process 1.
    ///
    /// # Errors
    /// When the root cannot be mounted or process 1 cannot be executed.
    fn start(&mut self) -> Result<()>;

    /// Begins to end the guest; the end itself comes as an event.
    ///
    /// # Errors
    /// When the guest is not running.
    fn stop(&mut self, how: Stop) -> Result<()>;

    /// Gives back namespaces and cgroup of a stopped guest.
    ///
    /// # Errors
    /// When the guest runs.
    fn delete(&mut self) -> Result<()>;

    /// What it is doing.
    fn status(&self) -> InstanceStatus;

    /// Freezing, where the engine can.
    fn pausing(&mut self) -> Option<&mut dyn Pausing> {
        None
    }

    /// Running processes beside the guest's own, where the engine can.
    fn executing(&mut self) -> Option<&mut dyn Executing> {
        None
    }

    /// Limits and use, where the engine can.
    fn accounting(&mut self) -> Option<&mut dyn Accounting> {
        None
    }

    /// Its screen, where it has one.
    fn showing(&mut self) -> Option<&mut dyn Showing> {
        None
    }

    /// Changing the medium of its CD-ROM drive, where it has one.
    fn loading(&mut self) -> Option<&mut dyn Loading> {
        None
    }
}

/// Facet: a guest with a screen.
pub trait Showing {
    /// Serves the screen on an address of this host's loopback from now on, if it does not already; tells where, and
    /// by which password.
    ///
    /// # Errors
    /// When the guest does not run or no port is free.
    fn serve(&mut self) -> Result<Display>;

    /// What it shows, in a memory file read from its beginning: a PNG picture, or UTF-8 text.
    ///
    /// # Errors
    /// When the guest does not run, or shows no text where text is wanted.
    fn picture(&mut self, text: bool) -> Result<OwnedFd>;
}

/// Facet: a guest with a CD-ROM drive.
pub trait Loading {
    /// Puts a file of the host into the drive, or takes out what is in there. The next start of the machine by its
    /// shim (a reset) has it too.
    ///
    /// # Errors
    /// When there is no such drive, the guest does not run, or the file cannot be opened.
    fn load(&mut self, disk: &str, path: Option<&Path>) -> Result<()>;
}

/// Facet: a guest that can be frozen.
pub trait Pausing {
    /// Freezes every process; no processor time is used until resumed.
    ///
    /// # Errors
    /// When the guest is not running or the freezer is missing.
    fn pause(&mut self) -> Result<()>;
    /// Thaws it.
    ///
    /// # Errors
    /// When the guest is not paused.
    fn resume(&mut self) -> Result<()>;
}

/// Standard streams of a process beside the guest's own.
#[derive(Debug)]
pub enum ExecStreams {
    /// The controlling end of its terminal.
    Terminal(OwnedFd),
    /// Our ends of its standard input, output and error.
    Pipes(OwnedFd, OwnedFd, OwnedFd),
}

/// Facet: a guest in which processes can be started.
pub trait Executing {
    /// Starts a process; returns its host process id, a descriptor of it (pidfd) and its streams.
    ///
    /// # Errors
    /// When the guest does not run, the user is unknown or the program cannot be executed.
    fn exec(&mut self, plan: &ExecPlan) -> Result<(u32, OwnedFd, ExecStreams)>;
}

/// Facet: limits and use.
pub trait Accounting {
    /// Applies limits to the running guest; tells which the host cannot enforce.
    ///
    /// # Errors
    /// When the kernel refuses a value.
    fn limit(&mut self, limits: &Limits) -> Result<Vec<Unenforced>>;
    /// What it uses now.
    ///
    /// # Errors
    /// When the guest does not run.
    fn stats(&mut self) -> Result<GuestStats>;
}

/// A grace period as the protocol carries it.
#[must_use]
pub fn graceful(deadline: Duration) -> Stop {
    Stop::Graceful {
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
    }
}
