//! As the first process of a machine (`rdinit=/posada-agent`): the agent goes into the background, and the initial ram disk's own init
//! takes this process over. So a machine that is booted directly has an agent without anything on its disk.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Where an initial ram disk has its init (Documentation/admin-guide/kernel-parameters.txt, `rdinit`), and where a root file system
/// that was unpacked whole has it.
const INITS: [&str; 3] = ["/init", "/sbin/init", "/bin/sh"];

/// Where the agent lies in an initial ram disk.
pub const PROGRAM: &str = "/posada-agent";

/// Whether this process is a machine's first.
#[must_use]
pub fn is_first() -> bool {
    rustix::process::getpid().is_init()
}

/// Becomes the init of the initial ram disk.
///
/// # Errors
/// When there is none that can be executed.
pub fn become_init(args: &[OsString]) -> std::io::Result<Infallible> {
    let init = INITS
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or(INITS[0]);
    Err(Command::new(init).args(args).exec())
}
