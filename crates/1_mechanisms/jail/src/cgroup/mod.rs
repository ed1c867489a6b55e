//! Control groups: one contract, two layouts (v1 or hybrid, and v2).
//!
//! A cgroup is named by its path below the visible root of every hierarchy, as `posada/guests/ID`. A limit that the
//! host cannot enforce is reported, never ignored. Sources: the kernel's admin-guide/cgroup-v1/*.rst and
//! admin-guide/cgroup-v2.rst.

mod devices;
mod files;
mod hierarchy;
mod v1;
mod v2;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use fault::{Code, Fault, OrFault, Result};

pub use hierarchy::{Hierarchy, Mounted};
pub use v1::V1;
pub use v2::V2;

/// A value could not be written to a control file.
pub const WRITE_FAILED: Code = Code("CGR001");
/// No cgroup hierarchy is mounted.
pub const NOTHING_MOUNTED: Code = Code("CGR002");
/// A cgroup could not be made.
pub const CREATE_FAILED: Code = Code("CGR003");
/// A cgroup could not be removed.
pub const REMOVE_FAILED: Code = Code("CGR004");
/// The kernel refuses the value of a limit.
pub const LIMIT_REFUSED: Code = Code("CGR005");
/// The processes of a cgroup could not be frozen in time.
pub const FREEZE_FAILED: Code = Code("CGR006");
/// Processes of a cgroup survive being killed.
pub const KILL_FAILED: Code = Code("CGR007");
/// The path of a cgroup leads out of its hierarchy.
pub const PATH_INVALID: Code = Code("CGR008");

/// Limits of one cgroup; absent means unlimited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Most memory, in bytes.
    pub memory: Option<u64>,
    /// Most swap beside the memory, in bytes.
    pub swap: Option<u64>,
    /// Processor quota, in processors.
    pub cpus: Option<f64>,
    /// Share among contenders, 1 to 10,000; 100 is usual.
    pub cpu_weight: Option<u32>,
    /// Processors it may run on, as `0-3,8`.
    pub cpu_pin: Option<String>,
    /// Most processes and threads.
    pub pids: Option<u64>,
}

/// Whom a cgroup is made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its limits.
    pub limits: Limits,
    /// Host uid and gid that may manage the subtree (only in the v2 hierarchy, by cgroup.procs, cgroup.threads and
    /// cgroup.subtree_control; never the limits).
    pub owner: Option<(u32, u32)>,
    /// Restrict device nodes to the usual ones: for guests that could make nodes, that is without user namespace.
    pub restrict_devices: bool,
}

/// A limit that is not enforced, by the name of its field in [`Limits`], and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Field of [`Limits`], or `devices`.
    pub limit: &'static str,
    /// The controller that is missing, in the field's standard terms.
    pub reason: String,
}

/// What a cgroup uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time used, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, in bytes, page cache included.
    pub memory: u64,
    /// Most memory allowed, in bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Read from block devices, in bytes.
    pub read_bytes: u64,
    /// Written to block devices, in bytes.
    pub write_bytes: u64,
    /// Processes killed because the memory limit was reached.
    pub oom_kills: u64,
}

/// How a host's hierarchies are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Only v1.
    V1,
    /// Controllers on v1, and a v2 hierarchy without them beside.
    Hybrid,
    /// Only v2.
    V2,
}

/// What a host offers; read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The layout.
    pub layout: Layout,
    /// Controllers that limits and figures can use, sorted.
    pub controllers: Vec<String>,
    /// What cannot be enforced here, with the reason, as if every limit were asked for.
    pub missing: Vec<Missing>,
}

/// Open ways into a cgroup, for a process about to be born in it.
#[derive(Debug, Default)]
pub struct Entry {
    directory: Option<OwnedFd>,
    files: Vec<(PathBuf, File)>,
}

impl Entry {
    /// Directory in the v2 hierarchy, for clone3(2) with CLONE_INTO_CGROUP.
    #[must_use]
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// Moves a process of one thread into the cgroup, in every hierarchy that clone3 does not serve, or, with
    /// `everywhere`, in all. Zero is the calling process; usable between fork and exec.
    ///
    /// # Errors
    /// `CGR001` naming the file.
    pub fn join(&self, pid: u32, everywhere: bool) -> Result<()> {
        let last = usize::from(!everywhere && self.directory.is_some());
        for (path, file) in &self.files[..self.files.len() - last] {
            let mut file: &File = file;
            file.write_all(pid.to_string().as_bytes()).or_fault(|| {
                Fault::new(WRITE_FAILED)
                    .arg("path", path.display())
                    .arg("value", pid)
            })?;
        }
        Ok(())
    }
}

/// Tells when the memory limit kills.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    kept: Option<File>,
    priority: bool,
}

impl OomWatch {
    /// Whether the descriptor signals by exceptional readiness (EPOLLPRI, v2) instead of readability (v1).
    #[must_use]
    pub fn is_exceptional(&self) -> bool {
        self.priority
    }

    /// Takes note of what was signalled, so that the next one is a new one.
    pub fn acknowledge(&self) {
        let mut buffer = [0; 1024];
        if self.priority {
            let _ = rustix::io::pread(&self.fd, &mut buffer, 0);
        } else {
            let _ = rustix::io::read(&self.fd, &mut buffer[..8]);
        }
    }

    /// The file whose events v1 tells through the descriptor, kept open as long.
    #[must_use]
    pub fn source(&self) -> Option<&File> {
        self.kept.as_ref()
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The contract of both layouts. Every operation on a path is idempotent.
pub trait Cgroups {
    /// What this host offers.
    fn probe(&self) -> Probe;

    /// Makes the cgroup (and its parents) and sets its limits; tells which are not enforced.
    ///
    /// # Errors
    /// `CGR003`, or `CGR005` when the kernel refuses a limit; nothing is left then.
    fn create(&self, path: &Path, request: &Request) -> Result<Vec<Missing>>;

    /// Opens it for a process about to be born in it.
    ///
    /// # Errors
    /// When it does not exist.
    fn entry(&self, path: &Path) -> Result<Entry>;

    /// Sets all limits as given, lifting the absent ones; tells which are not enforced.
    ///
    /// # Errors
    /// `CGR005` when the kernel refuses one.
    fn limit(&self, path: &Path, limits: &Limits) -> Result<Vec<Missing>>;

    /// What it uses; figures of missing controllers are zero.
    ///
    /// # Errors
    /// When it does not exist.
    fn stats(&self, path: &Path) -> Result<Stats>;

    /// Freezes every process in it and below, and waits until they are.
    ///
    /// # Errors
    /// `CGR006` when there is no freezer or it does not come to rest.
    fn freeze(&self, path: &Path) -> Result<()>;

    /// Lets them run again.
    ///
    /// # Errors
    /// `CGR006`.
    fn thaw(&self, path: &Path) -> Result<()>;

    /// Kills every process in it and below, frozen or not, and waits until none is left. Whoever wants to use it again
    /// after it was not empty removes it first and makes it anew.
    ///
    /// # Errors
    /// `CGR007` when some survive for ten seconds (uninterruptible sleep).
    fn kill(&self, path: &Path) -> Result<()>;

    /// Process ids in it and below.
    ///
    /// # Errors
    /// When the hierarchy cannot be read; a cgroup that does not exist has none.
    fn procs(&self, path: &Path) -> Result<Vec<u32>>;

    /// Removes it with everything below, and those parents that are empty.
    ///
    /// # Errors
    /// `CGR004` when processes keep it busy.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Watches for kills by the memory limit; absent where the controller is.
    fn watch_oom(&self, path: &Path) -> Option<OomWatch>;

    /// Directories that make up this cgroup, for people to look at.
    fn directories(&self, path: &Path) -> Vec<PathBuf>;
}

/// Finds the hierarchies of this host in /proc/self/mountinfo.
///
/// # Errors
/// `CGR002` when none is mounted.
pub fn detect() -> Result<Box<dyn Cgroups>> {
    let nothing = || Fault::new(NOTHING_MOUNTED);
    let text = std::fs::read_to_string("/proc/self/mountinfo").or_fault(nothing)?;
    let mounted = Mounted::parse(&text);
    if mounted.v1.is_empty() {
        let root = mounted.unified.ok_or_else(nothing)?;
        return Ok(Box::new(V2::at(root)));
    }
    Ok(Box::new(V1::over(mounted.v1, mounted.unified)))
}

/// Refuses a path that is absolute, empty, or contains anything but plain names.
fn checked(path: &Path) -> Result<&Path> {
    let plain = path
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain && !path.as_os_str().is_empty() {
        Ok(path)
    } else {
        Err(Fault::new(PATH_INVALID).arg("path", path.display()))
    }
}
