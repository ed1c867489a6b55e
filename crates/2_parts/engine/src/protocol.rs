//! The protocol between daemon and shim, the same for every engine.
//!
//! A Unix stream socket, `run_dir/shim.sock`; each message is a little-endian `u32` (low 24 bits: length, high 8
//! bits: number of descriptors) and that many bytes of JSON; descriptors ride on the first byte (SCM_RIGHTS). The shim greets with [`Hello`]. A request carries a number
//! that its answer repeats. After [`Request::Subscribe`] the shim also sends [`Told`] events on that connection.
//!
//! Local clients (`posada shell`, `exec`, `console`, `logs -f`) use a second socket, `run_dir/attach.sock`: they send
//! [`Attach`] with the ticket that the daemon obtained for them and receive [`Attached`] with the descriptors of the
//! session; from then on that connection carries only [`AttachControl`] and [`AttachEvent`]. The bytes of a session
//! never touch the daemon, and a session survives it.
//!
//! Version rule: fields and variants are only added; a receiver ignores fields that it does not know and answers a
//! request that it does not know with the fault `SHM002`.

use std::path::PathBuf;

use fault::{Code, Fault};
use model::api::{Display, GuestStats, TerminalSize};
use model::{ExitStatus, Limits, Unenforced};
use serde::{Deserialize, Serialize};

use crate::{ExecPlan, InstanceStatus, Stop};

/// Version of the protocol that this code speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest message, in bytes.
pub const MESSAGE_LIMIT: u32 = 1 << 20;

/// The shim does not answer.
pub const SHIM_SILENT: Code = Code("SHM001");
/// The shim does not know the request.
pub const REQUEST_UNKNOWN: Code = Code("SHM002");
/// A message breaks the protocol.
pub const MESSAGE_BROKEN: Code = Code("SHM003");
/// The ticket of an attaching client is unknown or used.
pub const TICKET_UNKNOWN: Code = Code("SHM004");
/// The engine lacks the facet that was asked for.
pub const FACET_ABSENT: Code = Code("SHM005");

/// First message of the shim on every connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the shim.
    pub protocol: u32,
    /// Version of the program that the shim belongs to.
    pub version: String,
    /// The engine, `container`.
    pub engine: String,
    /// Identity of its guest.
    pub guest: String,
    /// Process id of the shim.
    pub pid: u32,
}

/// A numbered request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Number that the answer repeats.
    pub call: u64,
    /// What is wanted.
    pub request: Request,
}

/// What the daemon asks of a shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Request {
    /// [`crate::Instance::create`]; the answer carries the network namespace as a descriptor.
    Create,
    /// [`crate::Instance::start`].
    Start,
    /// [`crate::Instance::stop`]; answered with [`Reply::Status`] when the guest has ended.
    Stop {
        /// Graceful or forced.
        how: Stop,
    },
    /// Stop and start again inside the same namespaces; answered when it runs.
    Restart {
        /// Graceful or forced.
        how: Stop,
    },
    /// [`crate::Instance::delete`]; the shim then exits.
    Delete,
    /// [`crate::Instance::status`].
    Status,
    /// Answered with [`Reply::Status`] when the guest has ended and does not start again by policy.
    Wait,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Apply limits.
    Limit {
        /// All limits as they shall be.
        limits: Limits,
    },
    /// What it uses.
    Stats,
    /// A ticket for a process beside the guest's own; it starts when the client shows the ticket.
    Exec {
        /// The process.
        plan: ExecPlan,
    },
    /// A ticket for the guest's console.
    Console,
    /// Run a process beside the guest's own to its end; the answer carries its exit and the last 64 KiB of its output.
    Run {
        /// The process (no terminal).
        plan: ExecPlan,
        /// Bytes for its standard input.
        input: String,
    },
    /// A process that serves `cp`: see [`FileJob`]; the answer carries its stream as a descriptor.
    Files {
        /// What to do.
        job: FileJob,
    },
    /// The network namespace as a descriptor.
    NetworkNamespace,
    /// Replace the policies and network cards of the plan, for the next start.
    Amend {
        /// New policies.
        policies: model::Policies,
        /// New cards.
        nics: Vec<jail::recipe::NicSetup>,
    },
    /// Send [`Told`] events on this connection from now on.
    Subscribe,
    /// [`crate::Showing::serve`]; answered with [`Reply::Display`].
    Vnc,
    /// [`crate::Showing::picture`]; the answer carries a memory file as a descriptor.
    Screenshot {
        /// As text instead of a PNG picture.
        text: bool,
    },
    /// [`crate::Loading::load`].
    Medium {
        /// Name of the drive in the plan, `cdrom`.
        disk: String,
        /// File of the host; none to take out what is in there.
        path: Option<PathBuf>,
    },
}

/// Copying between host and guest, as a tar stream; done by a process that has entered the guest's root and holds
/// no descriptor of the host's file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "job")]
pub enum FileJob {
    /// Write the path (recursively; links on the way to it followed) as a tar stream, named by its last component. The
    /// stream carries the archive with its end mark, or a [`Fault`] as JSON in its place.
    Read {
        /// Absolute path inside.
        path: String,
    },
    /// Unpack a tar stream into the directory. After the client has shut down its side of the stream, the other side
    /// says `done`, or a [`Fault`] as JSON.
    Write {
        /// Absolute path of a directory inside.
        path: String,
    },
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Number of the call.
    pub call: u64,
    /// What came of it.
    #[serde(flatten)]
    pub reply: Reply,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// Status.
    Status(InstanceStatus),
    /// Limits that are not enforced.
    Unenforced(Vec<Unenforced>),
    /// Use.
    Stats(GuestStats),
    /// Ticket for `attach.sock`.
    Ticket(String),
    /// End of a process run by [`Request::Run`].
    Ran {
        /// How it ended.
        exit: ExitStatus,
        /// Last 64 KiB of standard output and error together.
        output: String,
    },
    /// Where the screen is served.
    Display(Display),
    /// It failed.
    Fault(Fault),
}

/// An event of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Told {
    /// Process 1 runs (again).
    Started {
        /// Host process id of process 1.
        pid: u32,
    },
    /// Process 1 ended; `again` tells that the shim starts it anew by policy.
    Ended {
        /// How.
        exit: ExitStatus,
        /// Whether it starts again.
        again: bool,
        /// Whether policy asks that the guest be removed.
        destroy: bool,
    },
    /// Frozen.
    Paused,
    /// Thawed.
    Resumed,
    /// The memory limit killed a process.
    OutOfMemory,
    /// The kernel of a machine has panicked.
    Panicked,
    /// A machine stands still, because the host has no room for what it writes.
    DiskFull {
        /// Name of its disk.
        disk: String,
    },
    /// The host cannot read or write a disk of a machine.
    DiskError {
        /// Name of its disk.
        disk: String,
        /// Why.
        error: String,
    },
}

/// First message of a local client on `attach.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The ticket.
    pub ticket: String,
}

/// Answer to [`Attach`]. Descriptors: for a terminal or the console of a system one (read and write), for the console
/// of a command two (its output and its error to read), for pipes three (standard input to write, output and error to
/// read).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "attached")]
pub enum Attached {
    /// A process with a terminal.
    Terminal,
    /// A process with three pipes.
    Pipes,
    /// The console: bytes come and go on this descriptor (a socket; the shim fans out to several clients).
    Console {
        /// Bytes of scrollback that come first.
        scrollback: u64,
    },
    /// Refused.
    Fault(Fault),
}

/// What a client may say while attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "control")]
pub enum AttachControl {
    /// The terminal's size changed.
    Resize {
        /// New size.
        size: TerminalSize,
    },
    /// Send the process a signal, by number.
    Signal {
        /// The signal.
        signal: i32,
    },
}

/// What a client is told while attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum AttachEvent {
    /// The process ended (on a console: the guest, for good); nothing follows.
    Exited {
        /// How.
        exit: ExitStatus,
    },
}
