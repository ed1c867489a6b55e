//! What a dead shim has left, given back.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::Plan;
use fault::{Fault, OrFault, Result};
use rustix::fs::FlockOperation;
use rustix::process::Signal;

use crate::SET_UP_FAILED;
use crate::process::pidfd;

/// Files that a shim makes in the run directory.
const FILES: [&str; 7] = [
    "shim.sock",
    "attach.sock",
    crate::NOTIFY_SOCKET,
    "plan.json.new",
    "plan.json",
    "shim.log",
    "shim.pid",
];

/// Ends whatever is left of a guest – its shim, should it still be there, every process of its cgroup – and removes
/// its cgroup, which the plan in the run directory names, and its files there. Idempotent; the guest's lasting files
/// stay.
///
/// # Errors
/// When a process survives or a cgroup cannot be removed; the plan is there then for the next attempt.
pub fn cleanup(run_dir: &Path) -> Result<()> {
    end_shim(run_dir)?;
    let plan: Option<Plan> = std::fs::read(run_dir.join("plan.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(plan) = plan {
        let cgroups = jail::cgroup::detect()?;
        cgroups.kill(&plan.cgroup)?;
        cgroups.remove(&plan.cgroup)?;
    }
    remove_files(run_dir);
    Ok(())
}

/// Kills the shim that holds the lock of a run directory. A process id alone is no proof: it may have been used
/// again, so the lock is looked at before and after the process is pinned by a descriptor.
fn end_shim(run_dir: &Path) -> Result<()> {
    let path = run_dir.join("shim.pid");
    let Ok(file) = std::fs::File::open(&path) else {
        return Ok(());
    };
    let free = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    let fault = || Fault::new(SET_UP_FAILED).arg("what", path.display());
    if free() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).or_fault(fault)?;
    let Some(shim) = text.trim().parse().ok().and_then(pidfd) else {
        return Ok(());
    };
    if free() {
        return Ok(());
    }
    let _ = rustix::process::pidfd_send_signal(shim.as_fd(), Signal::KILL);
    let until = Instant::now() + Duration::from_secs(10);
    while !free() {
        if Instant::now() > until {
            return Err(fault().because_of("the shim survives being killed"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Removes a shim's files and, when nothing else is in it, the directory.
pub(crate) fn remove_files(run_dir: &Path) {
    for name in FILES {
        let _ = std::fs::remove_file(run_dir.join(name));
    }
    let _ = std::fs::remove_dir(run_dir);
}
