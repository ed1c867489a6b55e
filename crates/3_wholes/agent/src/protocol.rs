//! What host and agent say to each other.
//!
//! Everything is said in a session, a number that the host chooses and opens with a [`Request`]; the agent's last
//! word in it is [`FromGuest::End`], exactly once. Session 0 carries [`FromGuest::Hello`] and nothing else. Streams
//! have windows: nobody sends more bytes of a stream than the other side has given credit for, at first [`WINDOW`],
//! so a session that nobody reads never holds up the others.
//!
//! Version rule: fields and variants are only added; a receiver ignores fields that it does not know, the agent
//! answers a request that it does not know with the fault `AGT002`, and both ignore other words that they do not know.

use std::collections::BTreeMap;

use fault::Fault;
use serde::{Deserialize, Serialize};

/// Version of the protocol that this code speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Port of AF_VSOCK on which the agent listens; only the host (CID 2) is let in.
pub const VSOCK_PORT: u32 = 1024;
/// Port of the host that the agent knocks at, once, when the guest's system is up.
pub const UP_PORT: u32 = 1025;

/// Name of the virtio-console port that carries the protocol where there is no vsock.
pub const CONSOLE_PORT: &str = "posada.agent";

/// Bytes of each stream that may be sent before the first credit.
pub const WINDOW: u32 = 256 << 10;

/// Most sessions open on one connection.
pub const SESSION_LIMIT: usize = 256;

/// First message of the agent, in session 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Version of the agent.
    pub version: String,
    /// Release of the guest's kernel, as `6.1.0-18-cloud-amd64`.
    pub kernel: String,
    /// What it can do, by the names of [`Request`]'s variants.
    #[serde(default)]
    pub features: Vec<String>,
}

/// What a host can ask for.
pub const FEATURES: [&str; 10] = [
    "exec",
    "read-files",
    "write-files",
    "set-password",
    "shutdown",
    "facts",
    "sync",
    "freeze",
    "ping",
    "set-time",
];

/// A process, with the semantics that processes in containers have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the user's login shell when empty.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Variables added to a clean environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; the user's home when absent.
    #[serde(default)]
    pub workdir: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`; root when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Rows and columns of its terminal; without one it gets three pipes.
    #[serde(default)]
    pub terminal: Option<(u16, u16)>,
}

/// What a host asks for; it opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Run a process. [`FromGuest::Started`] when its program runs; ends with [`Ending::Exited`].
    Exec(Exec),
    /// Send what lies at an absolute path as a tar stream on standard output, named by its last component.
    ReadFiles {
        /// Absolute path inside; links on the way are followed.
        path: String,
    },
    /// Unpack the tar stream that comes as input into a directory.
    WriteFiles {
        /// Absolute path of a directory inside.
        path: String,
    },
    /// Give a user a password.
    SetPassword {
        /// Who.
        user: String,
        /// As in shadow(5).
        hash: String,
    },
    /// Begin a clean end; answered when the guest's own tools have begun it.
    Shutdown {
        /// Which.
        how: Shutdown,
    },
    /// Answered with [`Ending::Facts`].
    Facts,
    /// Write what is in the guest's memory to its disks.
    Sync,
    /// Freeze all file systems on disks: [`FromGuest::Started`] when they are, thawed when the input ends, the session
    /// is closed or the time is over.
    Freeze {
        /// Longest time, in milliseconds.
        milliseconds: u64,
    },
    /// Answered at once.
    Ping,
    /// Set the clock.
    SetTime {
        /// Nanoseconds since 1970.
        unix_ns: u64,
    },
}

/// A clean end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shutdown {
    /// Switch off.
    Poweroff,
    /// Start again.
    Reboot,
}

/// A stream that comes out of a session. A terminal has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output, a terminal's output, an archive.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A word of the host in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromHost {
    /// Begin the session.
    Open(Request),
    /// The frame's data is input.
    Input,
    /// No more input comes. A terminal stays open.
    InputEnd,
    /// So many more bytes of a stream may come.
    Credit {
        /// Which.
        stream: Stream,
        /// How many.
        bytes: u32,
    },
    /// Nobody reads a stream any more.
    OutputEnd {
        /// Which.
        stream: Stream,
    },
    /// The terminal's size changed.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Send the process a signal, by number.
    Signal {
        /// The signal.
        signal: i32,
    },
    /// The client is gone: hang up, and kill what does not go.
    Close,
}

/// A word of the agent in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromGuest {
    /// Who speaks; session 0.
    Hello(Hello),
    /// What was asked for runs.
    Started,
    /// The frame's data is output.
    Output {
        /// Of which stream.
        stream: Stream,
    },
    /// So many more bytes of input may come.
    Credit {
        /// How many.
        bytes: u32,
    },
    /// The session is over.
    End(Ending),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is done.
    Done,
    /// The process ended.
    Exited(Exit),
    /// Answer to [`Request::Facts`].
    Facts(Facts),
    /// It failed.
    Fault(Fault),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Exited with this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// What a guest tells of itself. The guest may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// Values of os-release(5): ID, VERSION_ID, PRETTY_NAME.
    pub os: BTreeMap<String, String>,
    /// Addresses with prefix length, by interface, without the loopback's.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// State of the service manager; none where it is not systemd or does not run yet.
    pub boot: Option<Boot>,
}

impl Facts {
    /// Whether the boot is over, well or badly; always so where no service manager can tell.
    #[must_use]
    pub fn booted(&self) -> bool {
        !matches!(self.boot, Some(Boot::Starting | Boot::Stopping | Boot::Unknown))
    }
}

/// State of systemd, as `systemctl is-system-running` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// Jobs of the boot are under way.
    Starting,
    /// Up.
    Running,
    /// Up, and some units have failed.
    Degraded,
    /// Rescue or emergency shell.
    Maintenance,
    /// Going down.
    Stopping,
    /// It does not tell; or a state that is newer than this program.
    #[serde(other)]
    Unknown,
}
