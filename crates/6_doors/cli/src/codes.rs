//! Codes of the faults of the command line itself; sentences and hints stand in `words/{en,es}/cli.ftl`.

use fault::Code;

/// There is no such verb.
pub const VERB_UNKNOWN: Code = Code("CLI001");
/// There is no such option.
pub const OPTION_UNKNOWN: Code = Code("CLI002");
/// Something that the verb needs is missing.
pub const ARGUMENT_MISSING: Code = Code("CLI003");
/// The value of an option or argument is not one of those that are allowed.
pub const VALUE_INVALID: Code = Code("CLI004");
/// Two options exclude each other.
pub const CONFLICT: Code = Code("CLI005");
/// The command line is wrong in another way.
pub const USAGE: Code = Code("CLI006");
/// The text is not `[IP:]HOST:GUEST[/udp]`.
pub const PUBLISH_INVALID: Code = Code("CLI007");
/// The text is not `HOST:GUEST[:ro]`.
pub const MOUNT_INVALID: Code = Code("CLI008");
/// The text is not `key=value`.
pub const PAIR_INVALID: Code = Code("CLI009");
/// No guest is called so.
pub const NO_MATCH: Code = Code("CLI010");
/// Neither names, nor a label, nor `--all` were given.
pub const NOTHING_SELECTED: Code = Code("CLI011");
/// The question was answered with no, or nobody was there to answer it.
pub const NOT_CONFIRMED: Code = Code("CLI012");
/// A file of this host cannot be read or written.
pub const FILE: Code = Code("CLI013");
/// The guest has no address.
pub const NO_ADDRESS: Code = Code("CLI014");
/// A program that this verb runs is missing or failed to start.
pub const PROGRAM: Code = Code("CLI015");
/// The password is empty or was typed differently the second time.
pub const PASSWORD: Code = Code("CLI016");
/// The daemon did not come up.
pub const DAEMON_FAILED: Code = Code("CLI017");
/// `set` has no such key.
pub const KEY_UNKNOWN: Code = Code("CLI018");
/// `cp` needs exactly one guest path.
pub const COPY_SIDES: Code = Code("CLI019");
/// No error has this code.
pub const CODE_UNKNOWN: Code = Code("CLI020");
/// Some of several guests failed; their own faults were told before.
pub const SOME_FAILED: Code = Code("CLI021");
/// The user left; the work goes on.
pub const DETACHED: Code = Code("CLI022");
/// This needs a terminal.
pub const NO_TERMINAL: Code = Code("CLI023");
/// Nobody reads the output any more.
pub const OUTPUT_CLOSED: Code = Code("CLI024");
/// There is no such column.
pub const COLUMN_UNKNOWN: Code = Code("CLI025");
/// The session with the guest's shim broke.
pub const SESSION_LOST: Code = Code("CLI026");
/// A path on this host that a copy needs is missing or of the wrong kind.
pub const COPY_TARGET: Code = Code("CLI027");
/// Nothing was changed because nothing was asked for.
pub const NOTHING_TO_DO: Code = Code("CLI028");
/// Several entries of the trash had this name.
pub const AMBIGUOUS: Code = Code("CLI029");
/// No entry of the trash has this name or id.
pub const NOT_IN_TRASH: Code = Code("CLI030");
/// The value is not a number of the wanted kind.
pub const NUMBER_INVALID: Code = Code("CLI031");
/// Not a directory that can be a jail.
pub const NOT_A_TREE: Code = Code("CLI032");
/// Only root can do this.
pub const NEEDS_ROOT: Code = Code("CLI033");
/// The system of a new guest has ended already.
pub const ENDED_AT_ONCE: Code = Code("CLI034");
/// The option is one of machines, and `--vm` is missing.
pub const NEEDS_VM: Code = Code("CLI035");
