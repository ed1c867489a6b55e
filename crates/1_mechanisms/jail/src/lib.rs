//! A recipe of confinement and its execution: namespaces, ids, mounts, cgroups, capabilities, seccomp.
//!
//! One mechanism for containers, for helpers that read hostile bytes, and later for the sandbox of machines.
//! The recipe is data; planning is pure; the core that forks is small.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub mod caps;
pub mod cgroup;
pub mod codes;
mod confine;
mod enter;
mod files;
pub mod filter;
mod fittings;
pub mod guest;
mod inner;
mod joining;
pub mod launch;
mod locale;
mod namespaces;
mod outer;
mod place;
mod prepare;
pub mod recipe;
mod report;
mod roots;
mod run;
mod start;
pub mod tree;
pub mod users;

pub use enter::{enter, work_inside};
pub use namespaces::make_namespaces;
pub use run::run_recipe_from_fd;
pub use start::{start, start_bound, work_in};

use recipe::IdRange;

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
    pub pidfd: BorrowedFd<'a>,
    /// As in its recipe.
    pub ids: Option<IdRange>,
    /// As in its recipe.
    pub cgroup: Option<PathBuf>,
}
