//! Codes of the faults that this room raises; sentences and hints stand in `words/{en,es}/guests.ftl`.

use fault::Code;

/// No guest has this name.
pub const UNKNOWN: Code = Code("GST001");
/// Another guest has this name.
pub const NAME_TAKEN: Code = Code("GST002");
/// The image has no init, so it cannot boot as a system container.
pub const NO_INIT: Code = Code("GST003");
/// The guest does not run.
pub const NOT_RUNNING: Code = Code("GST004");
/// The guest runs.
pub const RUNNING: Code = Code("GST005");
/// The guest is protected.
pub const PROTECTED: Code = Code("GST006");
/// A limit makes no sense.
pub const LIMIT_INVALID: Code = Code("GST007");
/// Another guest publishes this port.
pub const PORT_TAKEN: Code = Code("GST008");
/// The field cannot be changed after the guest was made.
pub const FIELD_FIXED: Code = Code("GST009");
/// The specification is not valid.
pub const SPEC_INVALID: Code = Code("GST010");
/// A directory of the host that a guest shall see is not there.
pub const MOUNT_MISSING: Code = Code("GST011");
/// A step of the set-up inside the guest failed.
pub const SETUP_FAILED: Code = Code("GST012");
/// No range of ids is left.
pub const NO_IDS: Code = Code("GST013");
/// This kind of guest has no engine here.
pub const KIND_ABSENT: Code = Code("GST014");
/// The process that owned the guest has died.
pub const SHIM_DIED: Code = Code("GST015");
/// The guest is in a state in which this cannot be done.
pub const WRONG_PHASE: Code = Code("GST016");
/// A directory or file of a guest on the host cannot be used.
pub const STATE_BROKEN: Code = Code("GST017");
/// Nothing of this identity is in the trash.
pub const NOT_IN_TRASH: Code = Code("GST018");
/// The wait is over, and what was waited for has not come.
pub const WAIT_OVER: Code = Code("GST019");
/// A field has a value that it cannot have.
pub const VALUE_INVALID: Code = Code("GST020");
/// Guests stand on the image.
pub const IMAGE_USED: Code = Code("GST021");
/// No network has this name.
pub const NETWORK_UNKNOWN: Code = Code("GST022");
/// A condition that nobody can wait for.
pub const CONDITION_UNKNOWN: Code = Code("GST023");
/// The file system of the state directory is full.
pub const DISK_FULL: Code = Code("GST024");
/// Another daemon uses the run directory.
pub const RUN_DIR_TAKEN: Code = Code("GST025");
/// A machine's memory is more than this host has.
pub const MEMORY_BEYOND_HOST: Code = Code("GST026");
/// Only machines have this.
pub const NOT_FOR_CONTAINERS: Code = Code("GST027");
/// No machine has this.
pub const NOT_FOR_MACHINES: Code = Code("GST028");
/// A machine starts its own system, not a command.
pub const COMMAND_IN_MACHINE: Code = Code("GST029");
/// A disk file cannot be used.
pub const DISK_UNUSABLE: Code = Code("GST030");
/// The guest is no machine.
pub const NO_MACHINE: Code = Code("GST031");
/// A guest that runs has this disk.
pub const DISK_TAKEN: Code = Code("GST032");
/// A kernel, an initrd or a CD-ROM image cannot be used.
pub const FILE_UNUSABLE: Code = Code("GST033");
/// A machine has neither an image nor anything else to start from.
pub const NOTHING_TO_BOOT: Code = Code("GST034");
/// A container has no image.
pub const IMAGE_NEEDED: Code = Code("GST035");
/// Only in the tree of an image is there a system to be set up.
pub const NEEDS_IMAGE: Code = Code("GST036");
/// The guest has no screen.
pub const NO_SCREEN: Code = Code("GST037");
