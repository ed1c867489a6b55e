//! Starting and entering, from the caller's side.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use fault::{Fault, OrFault, Result};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::outer::{self, Job};
use crate::recipe::{Process, Recipe};
use crate::{Kept, Started, Stdio, codes, joining, prepare, report};

/// Executes a recipe in namespaces made before: new mount, pid and cgroup namespaces, root, mounts, files,
/// confinement, exec. Returns when the exec has succeeded. Forks.
///
/// # Errors
/// Whatever went wrong up to and including the exec, inside or outside; then nothing is left running or mounted.
pub fn start(recipe: &Recipe, kept: &Kept, stdio: Stdio) -> Result<Started> {
    start_job(recipe, kept, &stdio, false, None)
}

/// Runs `work` as process 1 of a jail, confined as its program would be, with the standard streams as its only
/// descriptors. The process is a copy of the caller and dies with it. Forks.
///
/// # Errors
/// As [`start`].
pub fn work_in(recipe: &Recipe, kept: &Kept, stdio: &Stdio, work: &dyn Fn() -> i32) -> Result<Started> {
    let recipe = Recipe {
        process: worker(),
        ..recipe.clone()
    };
    start_job(&recipe, kept, stdio, true, Some(work))
}

/// The process of work of our own: root of the jail, in its root directory.
pub(crate) fn worker() -> Process {
    Process {
        cwd: Some("/".into()),
        ..Process::default()
    }
}

/// As [`start`]; the program dies with the calling thread.
///
/// # Errors
/// As [`start`].
pub fn start_bound(recipe: &Recipe, kept: &Kept, stdio: &Stdio) -> Result<Started> {
    start_job(recipe, kept, stdio, true, None)
}

fn start_job(
    recipe: &Recipe,
    kept: &Kept,
    stdio: &Stdio,
    die_with_parent: bool,
    work: Option<&dyn Fn() -> i32>,
) -> Result<Started> {
    let bounds = prepare::bounds(&recipe.policy())?;
    let (ours, theirs) = report_pipe()?;
    let job = Job {
        recipe,
        entry: joining::entry(recipe.cgroup.as_deref())?,
        bounds,
        kept,
        stdio,
        pipe: theirs.as_fd(),
        die_with_parent,
        work,
    };
    let first = joining::fork(job.entry.as_ref(), || told(outer::run(&job), &theirs))?;
    drop(job);
    drop(theirs);
    conclude(first, &ours, None)
}

/// The pipe on which the children tell; its numbers are beyond the standard streams.
pub(crate) fn report_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let fault = || Fault::new(codes::FORK_FAILED);
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).or_fault(fault)?;
    let beyond = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, 3).or_fault(fault);
    Ok((beyond(ours)?, beyond(theirs)?))
}

/// In a child: tells the fault of a half and gives its exit code.
pub(crate) fn told(result: Result<()>, pipe: &OwnedFd) -> i32 {
    match result {
        Ok(()) => 0,
        Err(fault) => {
            report::tell_fault(pipe, &fault);
            1
        }
    }
}

/// Waits until the program runs or something went wrong, and reaps what has to be reaped.
pub(crate) fn conclude(first: i32, pipe: &OwnedFd, patience: Option<Duration>) -> Result<Started> {
    let told = report::listen(pipe, patience);
    if !matches!(&told, Ok(told) if !told.late) {
        end(first);
    }
    reap(first);
    let told = told?;
    let pid = told.pid.and_then(Pid::from_raw);
    let fault = match (told.fault, told.late) {
        (Some(fault), _) => Some(fault),
        (None, true) => Some(Fault::new(codes::ENDED_EARLY).because(Errno::TIMEDOUT)),
        (None, false) => None,
    };
    let (pid, fault) = match (pid, fault) {
        (Some(pid), None) => match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                return Ok(Started {
                    pid: pid.as_raw_nonzero().get().cast_unsigned(),
                    pidfd,
                });
            }
            Err(error) => (Some(pid), Fault::new(codes::ENDED_EARLY).because(error)),
        },
        (pid, fault) => (pid, fault.unwrap_or_else(|| Fault::new(codes::ENDED_EARLY))),
    };
    if let Some(pid) = pid {
        end(pid.as_raw_nonzero().get());
        reap(pid.as_raw_nonzero().get());
    }
    Err(fault)
}

fn end(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn reap(pid: i32) {
    while matches!(
        waitpid(Pid::from_raw(pid), WaitOptions::empty()),
        Err(Errno::INTR)
    ) {}
}
