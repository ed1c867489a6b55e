//! A recipe of confinement and its execution: namespaces, ids, mounts, cgroups, capabilities, seccomp.
//!
//! One mechanism for containers, for helpers that read hostile bytes, and later for the sandbox of machines.
//! The recipe is data; planning is pure; the core that forks is small.

use std::os::fd::OwnedFd;

use fault::Result;

pub mod cgroup;
pub mod guest;
pub mod launch;
pub mod recipe;
mod run;
pub mod tree;

pub use run::run_recipe_from_fd;

use recipe::{IdRange, Process, Recipe};

/// The three standard streams of a process inside.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input; a terminal becomes the jail's /dev/console.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// Namespaces that survive the end of their processes, so that a guest keeps them over its reboot. Absent ones are
/// shared with the caller, or (pid, mount, cgroup) are made anew by every [`start`].
#[derive(Debug, Default)]
pub struct Kept {
    /// User namespace.
    pub user: Option<OwnedFd>,
    /// Network namespace.
    pub net: Option<OwnedFd>,
    /// UTS namespace.
    pub uts: Option<OwnedFd>,
    /// IPC namespace.
    pub ipc: Option<OwnedFd>,
}

/// A process that runs; a child of the caller, who has to wait for it.
#[derive(Debug)]
pub struct Started {
    /// Its process id in the caller's pid namespace.
    pub pid: u32,
    /// Its process descriptor.
    pub pidfd: OwnedFd,
}

/// A running jail, to be entered.
#[derive(Debug)]
pub struct Target<'a> {
    /// Process descriptor of its process 1.
    pub pidfd: std::os::fd::BorrowedFd<'a>,
    /// As in its recipe.
    pub ids: Option<IdRange>,
    /// As in its recipe.
    pub cgroup: Option<std::path::PathBuf>,
}

/// Makes the namespaces that outlive the processes inside: the user namespace first, by a process whose uid is the
/// range's base, and the others inside it, so that they belong to it. Forks.
///
/// # Errors
/// When the host refuses a namespace.
pub fn make_namespaces(_recipe: &Recipe) -> Result<Kept> {
    todo!()
}

/// Executes a recipe in namespaces made before: new mount, pid and cgroup namespaces, root, mounts, files,
/// confinement, exec. Returns when the exec has succeeded. Forks.
///
/// # Errors
/// Whatever went wrong up to and including the exec, inside or outside; then nothing is left running or mounted.
pub fn start(_recipe: &Recipe, _kept: &Kept, _stdio: Stdio) -> Result<Started> {
    todo!()
}

/// Starts a process beside the others of a running jail, confined as they are. Forks.
///
/// # Errors
/// When the jail has ended, the user is unknown inside, or the program cannot be executed.
pub fn enter(
    _target: &Target<'_>,
    _process: &Process,
    _policy: &recipe::Policy,
    _stdio: Stdio,
) -> Result<Started> {
    todo!()
}
