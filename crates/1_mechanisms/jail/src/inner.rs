//! The second half of a start: with only the rights that its user namespace gives, it makes the mounts that belong to
//! its pid and cgroup namespaces, leaves the host's tree behind, writes the jail's files and executes the program.

use std::os::fd::{AsFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use crate::fittings::{self, Site};
use crate::outer::Job;
use crate::{codes, confine, files, prepare, report, roots};

/// Runs the second half in a process of its own; comes back only with an exit code, after having told the fault.
pub(crate) fn run(job: &Job<'_>, proc: OwnedFd) -> i32 {
    let fault = match settle(job, proc) {
        Ok(label) => return finish(job, label),
        Err(fault) => fault,
    };
    report::tell_fault(job.pipe, &fault);
    1
}

fn root_fault() -> Fault {
    Fault::new(codes::ROOT_FAILED).arg("path", "/")
}

/// Until the jail's tree is the root directory and nothing else is mounted.
fn settle(job: &Job<'_>, proc: OwnedFd) -> Result<Option<OwnedFd>> {
    let recipe = job.recipe;
    confine::hide()?;
    if recipe.ids.is_some() {
        confine::become_root()?;
    }
    let label = confine::label_file(recipe.lsm.as_ref(), &proc)?;
    drop(proc);
    // The working directory is the jail's root in our copy of the mount namespace. With a user namespace it is locked
    // to its place there, and only a copy of it can become the root.
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = open_tree(CWD, c".", flags).or_fault(root_fault)?;
    let bench = roots::bench(&recipe.root);
    let (_, inner) = prepare::divide(&recipe.mounts);
    let needs_scratch = !recipe.masked.is_empty() || fittings::needs_scratch(&inner);
    let scratch = needs_scratch.then(|| fittings::scratch(bench)).transpose()?;
    let scratch = scratch.as_ref().map(AsFd::as_fd);
    roots::attach_at(&root, bench).or_fault(root_fault)?;
    let site = Site {
        root: root.as_fd(),
        ids: None,
        user: None,
        console: None,
        scratch,
    };
    for mount in inner {
        fittings::fit(&site, mount)?;
    }
    for (name, value) in &recipe.sysctls {
        files::set_sysctl(root.as_fd(), name, value)?;
    }
    if let Some(scratch) = scratch {
        fittings::mask(root.as_fd(), scratch, &recipe.masked)?;
    }
    fittings::freeze(root.as_fd(), &recipe.read_only_paths)?;
    rustix::process::fchdir(&root).or_fault(root_fault)?;
    rustix::process::pivot_root(c".", c".").or_fault(root_fault)?;
    unmount(c".", UnmountFlags::DETACH).or_fault(root_fault)?;
    rustix::process::chdir(c"/").or_fault(root_fault)?;
    Ok(label)
}

/// Inside; nothing of the host is open any more but the streams and the pipe.
fn finish(job: &Job<'_>, label: Option<OwnedFd>) -> i32 {
    let (pipe, label) = match confine::close_all_but(job.pipe, label) {
        Ok(kept) => kept,
        Err(_) => return 1,
    };
    let root = rustix::fs::openat(
        CWD,
        c"/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let fault = match root
        .or_fault(root_fault)
        .and_then(|root| files::write_all(root, &job.recipe.files))
    {
        Ok(()) if job.work.is_some() => {
            let Some(work) = job.work else { return 1 };
            return confine::confine_and_work(&job.recipe.process, &job.bounds, pipe, work);
        }
        Ok(()) => confine::confine_and_exec(&job.recipe.process, &job.bounds, label, job.die_with_parent),
        Err(fault) => fault,
    };
    report::tell_fault(&pipe, &fault);
    1
}
