//! The container engine: a plan becomes a jail, owned by a shim.
//!
//! [`ContainerEngine`] is what the daemon asks; [`shim_main`] is the body of `posada-shim`; [`cleanup`] gives back what
//! a dead shim has left.

mod cleanup;
mod container;
mod engine;
mod init;
mod pty;
mod shim;
mod translate;

pub use cleanup::cleanup;
pub use container::{Container, cgroup_limits};
pub use engine::ContainerEngine;
pub use init::parse_signal;
use shim::NOTIFY_SOCKET;
pub use shim::shim_main;
pub use translate::recipe;

use fault::Code;

/// The guest is not in the phase that the request needs.
pub const WRONG_PHASE: Code = Code("SHM008");
/// The root has no init.
pub const NO_INIT: Code = Code("SHM009");
/// Another shim serves this guest.
pub const SERVED_ALREADY: Code = Code("SHM010");
/// The plan cannot be read.
pub const PLAN_UNREADABLE: Code = Code("SHM011");
/// The shim could not set something up for itself.
pub const SET_UP_FAILED: Code = Code("SHM012");
/// The text is no signal.
pub const NO_SIGNAL: Code = Code("SHM014");
/// The guest ended while a client waited for it to run.
pub const ENDED_EARLY: Code = Code("SHM015");
