//! What a machine and its shim say to each other, over a stream socket that carries descriptors too ([`engine::wire`]).
//!
//! The shim sends an [`Order`]; the machine answers each with a [`Said`], in order. [`Said::Event`] comes at any time.

use fault::Fault;
use serde::{Deserialize, Serialize};

use crate::plan::MachinePlan;

/// What the shim asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub enum Order {
    /// The first order: become this machine, with the descriptors that come along, and run.
    Begin {
        /// The machine.
        plan: Box<MachinePlan>,
    },
    /// Press the power button.
    PowerButton,
    /// Stand still; time stands still too.
    Pause,
    /// Go on.
    Resume,
    /// A stream to a port of the guest's side of the virtual socket device; the answer carries it as a descriptor.
    Connect {
        /// Port.
        port: u32,
    },
    /// Serve RFB to everybody who connects to the listening socket that comes along as a descriptor.
    Display {
        /// What the client must prove that it knows; at most 8 characters count (RFC 6143, section 7.2.2).
        password: String,
    },
    /// What the screen shows: as text, or as a PNG picture.
    Screenshot {
        /// As text.
        text: bool,
    },
    /// Press keys.
    Keys {
        /// Scan codes of set 1.
        scancodes: Vec<u8>,
    },
    /// Change the medium of a CD-ROM drive: the descriptor that comes along, or none.
    Medium {
        /// Name of the drive.
        disk: String,
    },
    /// Bytes of memory that the guest shall have: the balloon takes the rest.
    Memory {
        /// Bytes.
        bytes: u64,
    },
    /// Retry what was held because the host's disk was full.
    Retry,
    /// What the machine has done so far.
    Counters,
}

/// What the machine says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "said")]
pub enum Said {
    /// The order is carried out.
    Done,
    /// It cannot be carried out.
    Fault {
        /// Why.
        fault: Fault,
    },
    /// The text of the screen.
    Text {
        /// Lines.
        text: String,
    },
    /// A PNG picture, in a memory file that comes along.
    Picture {
        /// Length in bytes.
        len: u64,
    },
    /// Answer to [`Order::Counters`].
    Counters {
        /// Instructions retired by all processors, where they are counted.
        instructions: Option<u64>,
        /// Nanoseconds of the machine's clock.
        clock: u64,
    },
    /// Something has happened.
    Event {
        /// What.
        event: Event,
    },
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The guest's agent says that its system is up.
    Up,
    /// The guest's kernel has panicked.
    Panicked,
    /// The machine stands still because a disk of the host is full.
    DiskFull {
        /// Which of its disks.
        disk: String,
    },
    /// A disk of the machine cannot be read or written.
    DiskError {
        /// Which.
        disk: String,
        /// Why.
        error: String,
    },
}

/// How the machine's process ends, by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest powered itself off.
    PowerOff,
    /// The guest reset itself.
    Reset,
    /// The guest's kernel panicked.
    Panic,
    /// A triple fault.
    TripleFault,
    /// The machine could not go on.
    Broken,
}

impl End {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            End::PowerOff => 0,
            End::Reset => 80,
            End::Panic => 81,
            End::TripleFault => 82,
            End::Broken => 83,
        }
    }

    /// The end with this exit code.
    #[must_use]
    pub fn of_code(code: i32) -> Option<Self> {
        let all = [
            End::PowerOff,
            End::Reset,
            End::Panic,
            End::TripleFault,
            End::Broken,
        ];
        all.into_iter().find(|end| end.code() == code)
    }
}
