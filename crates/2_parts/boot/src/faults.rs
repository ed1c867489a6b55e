//! The codes of what can be wrong with a kernel, its initrd, its command line, or the machine they are for.

use fault::Code;

/// The bytes are no kernel that this machine could start.
pub const NOT_A_KERNEL: Code = Code("BOT001");
/// The kernel's file ends before the kernel does.
pub const KERNEL_TRUNCATED: Code = Code("BOT002");
/// The kernel is for another processor.
pub const WRONG_ARCHITECTURE: Code = Code("BOT003");
/// The kernel's boot protocol is older than 2.06, or it wants to be loaded below 1 MiB.
pub const KERNEL_TOO_OLD: Code = Code("BOT004");
/// The kernel does not fit into the machine's memory.
pub const MEMORY_TOO_SMALL: Code = Code("BOT005");
/// The initrd does not fit beside the kernel.
pub const INITRD_TOO_LARGE: Code = Code("BOT006");
/// The command line is longer than the kernel reads.
pub const COMMAND_LINE_TOO_LONG: Code = Code("BOT007");
/// The command line has a NUL inside.
pub const COMMAND_LINE_HAS_NUL: Code = Code("BOT008");
/// The kernel cannot be entered in the way that was asked for.
pub const NO_SUCH_ENTRY: Code = Code("BOT009");
/// The amount of memory is one that this machine cannot have.
pub const BAD_MEMORY: Code = Code("BOT010");
/// The number of processors is one that this machine cannot have.
pub const BAD_CPUS: Code = Code("BOT011");
/// The file is no firmware image.
pub const NOT_FIRMWARE: Code = Code("BOT012");
/// The cpio archive is damaged.
pub const CPIO_DAMAGED: Code = Code("BOT013");
