//! The container engine: a plan becomes a jail, owned by a shim.
//!
//! [`ContainerEngine`] is what the daemon asks; [`shim_main`] is the body of `posada-shim`.

mod container;
mod engine;
mod init;

use std::ffi::OsString;
use std::process::ExitCode;

pub use container::Container;
pub use engine::ContainerEngine;
pub use init::parse_signal;

use fault::Code;

/// The root has no init.
pub const NO_INIT: Code = Code("SHM009");
/// The text is no signal.
pub const NO_SIGNAL: Code = Code("SHM014");

/// `posada-shim serve RUN_DIR`: see [`shim_server::shim_main`].
#[must_use]
pub fn shim_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    shim_server::shim_main(args, |plan| Ok(Box::new(Container::new(plan)?)))
}
