//! The faults of this room.

use fault::Code;

/// The host refuses a namespace.
pub const NAMESPACE_REFUSED: Code = Code("JAL001");
/// The root tree cannot be mounted.
pub const ROOT_FAILED: Code = Code("JAL002");
/// The root came up read-only although nobody asked for it.
pub const ROOT_READ_ONLY: Code = Code("JAL003");
/// The root directory does not belong to the range of ids.
pub const ROOT_FOREIGN: Code = Code("JAL004");
/// Something cannot be mounted inside.
pub const MOUNT_FAILED: Code = Code("JAL005");
/// A place inside cannot be found or made.
pub const PLACE_FAILED: Code = Code("JAL006");
/// A file inside cannot be written.
pub const FILE_FAILED: Code = Code("JAL007");
/// A network card cannot be set up.
pub const NIC_FAILED: Code = Code("JAL008");
/// A sysctl is refused.
pub const SYSCTL_REFUSED: Code = Code("JAL009");
/// No such capability.
pub const CAPABILITY_UNKNOWN: Code = Code("JAL010");
/// A resource limit is unknown or refused.
pub const RLIMIT_REFUSED: Code = Code("JAL011");
/// The process cannot be confined.
pub const CONFINEMENT_FAILED: Code = Code("JAL012");
/// A security label is refused.
pub const LABEL_REFUSED: Code = Code("JAL013");
/// No such user or group inside.
pub const USER_UNKNOWN: Code = Code("JAL014");
/// The program cannot be executed.
pub const EXEC_FAILED: Code = Code("JAL015");
/// The working directory cannot be entered.
pub const CWD_FAILED: Code = Code("JAL016");
/// The process ended before its program ran.
pub const ENDED_EARLY: Code = Code("JAL017");
/// The cgroup cannot be joined.
pub const CGROUP_FAILED: Code = Code("JAL018");
/// The recipe does not read.
pub const RECIPE_BROKEN: Code = Code("JAL019");
/// A namespace that cannot be shared.
pub const SHARE_UNKNOWN: Code = Code("JAL020");
/// A mount that is not `source:target[:ro]`.
pub const MOUNT_MALFORMED: Code = Code("JAL021");
/// The standard streams or the terminal cannot be set up.
pub const STREAMS_FAILED: Code = Code("JAL022");
/// The host refuses a new process.
pub const FORK_FAILED: Code = Code("JAL023");
/// The jail to be entered has ended.
pub const JAIL_ENDED: Code = Code("JAL024");
/// The small executable is missing.
pub const SHIM_MISSING: Code = Code("JAL025");
