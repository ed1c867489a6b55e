//! Joining a running jail: a process with the caller's rights goes into its cgroups and namespaces and starts a child
//! there, which is confined like all others and executes the program.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use fault::{Fault, OrFault, Result};
use hostos::process::flag;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::Entry;
use crate::prepare::{self, Bounds};
use crate::recipe::{Policy, Process};
use crate::start::{conclude, report_pipe, told};
use crate::{Started, Stdio, Target, codes, confine, joining, report};

/// Longest time until the program runs. What the lookup of user and program meets is the guest's own doing: a file
/// system of its making may never answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starts a process beside the others of a running jail, confined as they are. Forks.
///
/// # Errors
/// When the jail has ended, the user is unknown inside, or the program cannot be executed.
pub fn enter(target: &Target<'_>, process: &Process, policy: &Policy, stdio: Stdio) -> Result<Started> {
    enter_or_work(target, process, policy, stdio, None)
}

/// Runs `work` in a process beside the others of a running jail, confined as they are, with the standard streams as
/// its only descriptors. The process is a copy of the caller, and what it does must bear that the guest decides what
/// every path leads to. Forks.
///
/// # Errors
/// When the jail has ended.
pub fn work_inside(
    target: &Target<'_>,
    policy: &Policy,
    stdio: Stdio,
    work: &dyn Fn() -> i32,
) -> Result<Started> {
    enter_or_work(target, &crate::start::worker(), policy, stdio, Some(work))
}

fn enter_or_work(
    target: &Target<'_>,
    process: &Process,
    policy: &Policy,
    stdio: Stdio,
    work: Option<&dyn Fn() -> i32>,
) -> Result<Started> {
    let bounds = prepare::bounds(policy)?;
    let (ours, theirs) = report_pipe()?;
    let entry = joining::entry(target.cgroup.as_deref())?;
    let way = entry.as_ref();
    let first = joining::fork(way, || {
        told(
            join(target, process, &bounds, &stdio, &theirs, way, work),
            &theirs,
        )
    })?;
    drop((theirs, stdio));
    conclude(first, &ours, Some(PATIENCE))
}

/// In the first child, with the caller's rights.
fn join(
    target: &Target<'_>,
    process: &Process,
    bounds: &Bounds,
    stdio: &Stdio,
    pipe: &OwnedFd,
    entry: Option<&Entry>,
    work: Option<&dyn Fn() -> i32>,
) -> Result<()> {
    confine::hide()?;
    confine::take_streams(stdio)?;
    if let (Some(ids), true) = (target.ids, process.terminal) {
        let group = rustix::fs::Gid::from_raw(ids.base + crate::fittings::TTY_GROUP);
        let _ = rustix::fs::fchown(
            &stdio.stdin,
            Some(rustix::fs::Uid::from_raw(ids.base)),
            Some(group),
        );
    }
    joining::join(entry)?;
    prepare::limit_resources(bounds)?;
    let proc = rustix::fs::openat(
        CWD,
        c"/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .or_fault(|| Fault::new(codes::NAMESPACE_REFUSED))?;
    let mut spaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::CONTROL_GROUP;
    if target.ids.is_some() {
        spaces |= ThreadNameSpaceType::USER;
    }
    move_into_thread_name_spaces(target.pidfd, spaces).map_err(|error| match error {
        Errno::SRCH => Fault::new(codes::JAIL_ENDED),
        error => Fault::new(codes::NAMESPACE_REFUSED).because(error),
    })?;
    let flags = flag::SIBLING | flag::CLEAR_SIGNALS;
    let child = || inside(target, process, bounds, proc, pipe, work);
    let pid =
        hostos::process::clone_into(flags, None, child).map_err(|error| match error.raw_os_error() {
            // What a pid namespace answers whose process 1 has ended.
            Some(libc::ENOMEM) => Fault::new(codes::JAIL_ENDED),
            _ => Fault::new(codes::FORK_FAILED).because(error),
        })?;
    report::tell_pid(pipe, pid);
    Ok(())
}

/// In the second child, inside.
fn inside(
    target: &Target<'_>,
    process: &Process,
    bounds: &Bounds,
    proc: OwnedFd,
    pipe: &OwnedFd,
    work: Option<&dyn Fn() -> i32>,
) -> i32 {
    let ready = || -> Result<Option<OwnedFd>> {
        if target.ids.is_some() {
            confine::become_root()?;
        }
        // Changing ids made the process dumpable as the system is set up.
        confine::hide()?;
        confine::label_file(bounds.lsm.as_ref(), &proc)
    };
    let label = match ready() {
        Ok(label) => label,
        Err(fault) => {
            report::tell_fault(pipe, &fault);
            return 1;
        }
    };
    let Ok((pipe, label)) = confine::close_all_but(pipe.as_fd(), label) else {
        return 1;
    };
    if let Some(work) = work {
        return confine::confine_and_work(process, bounds, pipe, work);
    }
    report::tell_fault(&pipe, &confine::confine_and_exec(process, bounds, label, false));
    1
}
