//! Codes of the faults that this room raises; sentences and hints stand in `words/{en,es}/machine.ftl`.

use fault::Code;

/// The plan is none of a machine.
pub const NO_MACHINE: Code = Code("MAC010");
/// A file of the machine cannot be opened.
pub const FILE: Code = Code("MAC011");
/// A disk is in use by another guest.
pub const DISK_IN_USE: Code = Code("MAC012");
/// The machine's process ended, or said nothing, before it ran.
pub const NOT_BEGUN: Code = Code("MAC013");
/// The machine does not answer.
pub const SILENT: Code = Code("MAC014");
/// The host's KVM does not really work.
pub const KVM_UNUSABLE: Code = Code("MAC015");
/// The network card's link cannot be taken up.
pub const LINK: Code = Code("MAC016");
/// The guest's agent cannot be reached (yet).
pub const NO_AGENT: Code = Code("MAC017");
/// The kernel of the disk could not be looked for.
pub const FINDER: Code = Code("MAC018");
/// The guest does not run, and what is wanted needs its agent.
pub const NEEDS_RUNNING: Code = Code("MAC019");
