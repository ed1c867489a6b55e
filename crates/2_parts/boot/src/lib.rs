//! What a machine starts with: kernels, firmware, and the tables that tell them of the machine.
//!
//! Everything here is a pure function from a [`Machine`] and bytes to *images of memory* ([`Chunk`]s) and a state
//! to enter the processor in ([`Entry`]); no CPU, no device and no file is touched. A machine starts in one of two
//! ways:
//!
//! - [`kernel::direct`]: a kernel put into memory with all that it wants to be told, entered at once;
//! - [`firmware::start`]: a firmware image, and what it reads through fw_cfg and CMOS.
//!
//! Where things lie in the machine – memory, ports, interrupt lines – is written down once, in [`layout`].

pub mod acpi;
mod chunk;
pub mod e820;
mod faults;
pub mod finder;
pub mod firmware;
pub mod initrd;
pub mod kernel;
pub mod layout;
mod machine;
pub mod smbios;

pub use chunk::{Chunk, Contents};
pub use faults::*;
pub use kernel::entry::{Entry, Registers, Segment};
pub use machine::Machine;
