//! `posada-shim run`: executes one recipe and lives as long as its process.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Reads a recipe as JSON from a descriptor, executes it with the caller's own standard streams, forwards signals
/// and returns its exit status (128 + signal when killed by one; 125 when it could not be started, with the fault as
/// JSON on standard error).
#[must_use]
pub fn run_recipe_from_fd(_fd: OwnedFd) -> ExitCode {
    todo!()
}
