//! For callers with several threads: starts `posada-shim` as a child by exec, without running our code in a fork.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use fault::{Fault, OrFault, Result};
use hostos::mounting::attr;
use rustix::fs::MemfdFlags;

use crate::recipe::Recipe;
use crate::run::NOT_STARTED;
use crate::{codes, roots};

/// The small executable, seen through a read-only mount that is attached nowhere: whoever comes to hold it open, in
/// whatever namespace, cannot write to it (CVE-2019-5736).
#[derive(Clone, Debug)]
pub struct Executable {
    mount: Option<Arc<OwnedFd>>,
    path: PathBuf,
}

/// The mount made last and the device, inode and change time of its file.
static LAST: Mutex<Option<(PathBuf, Identity, Arc<OwnedFd>)>> = Mutex::new(None);

type Identity = (u64, u64, i64, i64);

impl Executable {
    /// Prepares the executable at `path`. Made once per file and process; where mounts are refused it is the plain file.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let fault = || Fault::new(codes::SHIM_MISSING).arg("path", path.display());
        let about = std::fs::metadata(path).or_fault(fault)?;
        let identity = (about.dev(), about.ino(), about.ctime(), about.ctime_nsec());
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last
            .as_ref()
            .filter(|(of, file, _)| of == path && *file == identity);
        let mount = match known {
            Some((.., mount)) => Some(Arc::clone(mount)),
            None => roots::clone_tree(path, false, None, attr::READ_ONLY)
                .ok()
                .map(Arc::new),
        };
        if let Some(mount) = &mount {
            *last = Some((path.to_owned(), identity, Arc::clone(mount)));
        }
        Ok(Executable {
            mount,
            path: path.to_owned(),
        })
    }

    /// A command that executes it; the executable stays open as long as the command.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command_inheriting(Vec::new())
    }

    /// As [`Executable::command`]; the child inherits these descriptors under their present numbers.
    #[must_use]
    pub fn command_inheriting(&self, descriptors: Vec<Arc<OwnedFd>>) -> Command {
        let mut command = match &self.mount {
            Some(mount) => Command::new(format!("/proc/self/fd/{}", mount.as_raw_fd())),
            None => Command::new(&self.path),
        };
        command.arg0(&self.path);
        if !descriptors.is_empty() {
            hostos::descriptors::inherit(&mut command, descriptors);
        }
        command
    }
}

/// A command that executes the recipe as a child (`posada-shim run`, the recipe on an inherited memory file) and
/// ends as the recipe's process ends (see [`crate::run_recipe_from_fd`]): exit code 125 with the fault as JSON on
/// standard error when it could not be started. Standard streams are the caller's to set.
///
/// # Errors
/// When the executable is missing or no memory file can be made.
pub fn command(shim_exe: &Path, recipe: &Recipe) -> Result<Command> {
    Ok(Launch::new(shim_exe, recipe)?.command)
}

/// A recipe about to be executed as a child of the caller; faults come back as such.
#[derive(Debug)]
pub struct Launch {
    /// The command; standard streams are the caller's to set.
    pub command: Command,
    memory: Arc<OwnedFd>,
}

impl Launch {
    /// Prepares it.
    ///
    /// # Errors
    /// When the executable is missing or no memory file can be made.
    pub fn new(shim_exe: &Path, recipe: &Recipe) -> Result<Self> {
        let fault = || Fault::new(codes::RECIPE_BROKEN);
        let text = serde_json::to_vec(recipe).or_fault(fault)?;
        let memory = rustix::fs::memfd_create(c"recipe", MemfdFlags::CLOEXEC).or_fault(fault)?;
        let mut file = File::from(memory);
        file.write_all(&text).or_fault(fault)?;
        let memory = Arc::new(OwnedFd::from(file));
        let number = memory.as_raw_fd();
        let mut command = Executable::open(shim_exe)?.command_inheriting(vec![Arc::clone(&memory)]);
        command.arg("run").arg(number.to_string());
        Ok(Launch { command, memory })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// The fault that kept the program from running.
    pub fn status(&mut self) -> Result<ExitStatus> {
        self.command.arg(REPORT);
        let status = self.command.spawn().and_then(|mut child| child.wait());
        let status = status
            .or_fault(|| Fault::new(codes::SHIM_MISSING).arg("path", self.command.get_program().display()))?;
        match self
            .fault()
            .filter(|_| status.code() == Some(i32::from(NOT_STARTED)))
        {
            Some(fault) => Err(fault),
            None => Ok(status),
        }
    }

    /// What the child wrote over the recipe.
    fn fault(&self) -> Option<Fault> {
        let mut text = Vec::new();
        let mut memory = File::from(self.memory.try_clone().ok()?);
        rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0)).ok()?;
        memory.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// The argument by which `posada-shim run FD` puts a fault into its descriptor instead of standard error.
pub const REPORT: &str = "report";
