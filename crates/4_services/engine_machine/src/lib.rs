//! The machine engine: a plan becomes a machine in a jail, owned by a shim.
//!
//! ```text
//! posada-machine serve (shim, privileged)          jail of the guest: its ids, empty root, no capability
//!   sockets, log, policy, plan    ── control ────▶  the machine: processors, devices       (machine crate)
//!   opens disks, link, /dev/kvm   ── descriptors ▶
//!   finder of kernels  ◀── one more jail, which reads the disk ──▶ kernel, initrd
//!   sessions: one process each ◀── vsock ─────────▶ agent inside of the guest
//! ```

mod cage;
mod codes;
mod engine;
mod finder;
mod guest;
mod link;
mod monitor;
mod pump;

pub use codes::*;
pub use engine::MachineEngine;
pub use guest::Machine;

use std::ffi::OsString;
use std::process::ExitCode;

/// `posada-machine serve RUN_DIR`: see [`shim_server::shim_main`].
#[must_use]
pub fn shim_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    shim_server::shim_main(args, |plan| Ok(Box::new(Machine::new(plan)?)))
}
