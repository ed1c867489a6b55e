//! Being born in a cgroup.
//!
//! Moving a process by cgroup.procs makes the kernel wait for a grace period of all processors, milliseconds on a busy
//! host. A process is therefore cloned into its v2 cgroup (clone3(2), CLONE_INTO_CGROUP), and moves itself in v1
//! hierarchies by `tasks`: one thread that moves itself needs no such wait.

use std::path::Path;

use fault::{Fault, OrFault, Result};

use crate::cgroup::Entry;
use crate::codes;

/// Opens the cgroup of a recipe, in every hierarchy where it exists.
pub(crate) fn entry(path: Option<&Path>) -> Result<Option<Entry>> {
    let Some(path) = path else { return Ok(None) };
    let fault = || Fault::new(codes::CGROUP_FAILED).arg("path", path.display());
    let relative = path.strip_prefix("/").unwrap_or(path);
    let cgroups = crate::cgroup::detect()?;
    cgroups.entry(relative).or_fault(fault).map(Some)
}

/// Runs `child` in a new process that is born in the cgroup's v2 directory, or in the caller's. It has to
/// [`join`] the rest.
pub(crate) fn fork(entry: Option<&Entry>, child: impl FnOnce() -> i32) -> Result<i32> {
    let fault = || Fault::new(codes::FORK_FAILED);
    match entry.and_then(Entry::directory) {
        Some(directory) => hostos::process::clone_into(0, Some(directory), child).or_fault(fault),
        None => hostos::process::fork_into(child).or_fault(fault),
    }
}

/// Moves the calling process, which has one thread, into the other hierarchies.
pub(crate) fn join(entry: Option<&Entry>) -> Result<()> {
    entry.map_or(Ok(()), |entry| entry.join(0, false))
}
