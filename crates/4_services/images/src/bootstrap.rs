//! `posada bootstrap`: a signed Debian from the archive into a directory or a tar file.

use std::fs;
use std::path::{Path, PathBuf};

use archive::job::Request;
use fault::{Fault, Result};
use jail::recipe::IdRange;
use model::{ImageRef, Progress, Watcher};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::codes;
use crate::confine::{Reach, Tools};
use crate::fetch::Patience;
use crate::make::{Plan, make};
use crate::releases::codename;
use crate::suites::Wish;
use crate::tree::{At, sweep};
use crate::worker::Worker;

/// How much of a release a tree gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Packages of priority required, the Essential ones and apt, with what they depend on.
    #[default]
    Minbase,
    /// With the packages of priority important.
    Standard,
    /// Minbase with build-essential.
    Buildd,
}

/// What `posada bootstrap` is asked for.
#[derive(Clone, Debug)]
pub struct BootstrapRequest {
    /// The release, as `debian/12`.
    pub image: ImageRef,
    /// A directory that does not exist or is empty, or a file `*.tar`, `*.tar.gz`, `*.tar.zst`.
    pub target: PathBuf,
    /// Debian's name of the architecture; the host's own when absent.
    pub arch: Option<String>,
    /// How much of the release.
    pub variant: Variant,
    /// Packages beyond those of the variant.
    pub include: Vec<String>,
    /// Packages left out.
    pub exclude: Vec<String>,
    /// Components of the archive; `main` when empty.
    pub components: Vec<String>,
    /// Base address of the archive; the host's apt entry, else the documented default, when absent.
    pub mirror: Option<String>,
    /// Keyring that must have signed the archive; as for `mirror` when absent.
    pub keyring: Option<PathBuf>,
    /// Where downloads are kept.
    pub cache_dir: PathBuf,
    /// The executable `posada-worker`.
    pub worker_exe: PathBuf,
    /// The executable `posada-shim`.
    pub shim_exe: PathBuf,
    /// Host ids for the namespaces in which archives are unpacked and packages configured.
    pub ids: IdRange,
    /// How long servers are waited for.
    pub patience: Patience,
    /// Seconds since 1970 that signatures and Release files are judged by; absent: the host's clock, and apt's
    /// settings on whether validity and date are checked.
    pub now: Option<i64>,
}

/// What a bootstrap has made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name and version of each package, in order of name.
    pub packages: Vec<(String, String)>,
    /// Bytes fetched; 0 when all came from the cache.
    pub fetched: u64,
    /// Bytes that the files of the tree take.
    pub size: u64,
    /// What a user should know although it is no error: a message id and a name, as `no-suite trixie-security` or
    /// `offline bookworm`.
    pub notes: Vec<String>,
}

/// Makes a tree. On a fault nothing is left but the cache of downloads.
///
/// # Errors
/// Codes `ARC…` for what is wrong with the archive, `IMG…` for the target, [`model::CANCELLED`].
pub fn bootstrap(request: &BootstrapRequest, watcher: &dyn Watcher) -> Result<Summary> {
    let plan = Plan {
        codename: codename(&request.image)?,
        arch: architecture(request.arch.as_deref())?,
        variant: request.variant,
        include: request.include.clone(),
        exclude: request.exclude.clone(),
        wish: Wish {
            mirror: request.mirror.clone(),
            keyring: request.keyring.clone(),
            components: request.components.clone(),
        },
        cache_dir: &request.cache_dir,
        tools: tools(request),
        patience: request.patience,
        now: request.now,
        package_lists: false,
    };
    if !rustix::process::geteuid().is_root() {
        return Err(Fault::new(codes::NOT_ROOT));
    }
    let target = &request.target;
    let is_file = is_archive_name(target);
    if !is_file && let Some(form) = other_form(target) {
        return Err(Fault::new(unpack::COMPRESSION).arg("codec", form));
    }
    let free = match fs::read_dir(target) {
        Ok(mut entries) => !is_file && entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !free {
        return Err(Fault::new(codes::TARGET_EXISTS).arg("path", target.display()));
    }
    let partial = Partial::new(target)?;
    let summary = make(&partial.path, &plan, watcher)?;
    if is_file {
        watcher.progress(Progress {
            step: "step-pack".to_owned(),
            ..Progress::default()
        });
        pack(&partial.path, target, request, watcher)?;
    } else {
        partial.keep(target)?;
    }
    Ok(summary)
}

fn tools(request: &BootstrapRequest) -> Tools<'_> {
    Tools {
        worker_exe: &request.worker_exe,
        shim_exe: &request.shim_exe,
        ids: request.ids,
    }
}

/// Whether a target is a file rather than a directory, by its name.
fn is_archive_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// The form that a name asks for, of those that a bootstrap cannot write: nobody wants a directory `x.zip`.
fn other_form(path: &Path) -> Option<String> {
    const OTHERS: [&str; 13] = [
        "zip", "xz", "txz", "bz2", "tbz2", "lz4", "gz", "zst", "iso", "img", "raw", "qcow2", "squashfs",
    ];
    let name = path.file_name().unwrap_or_default();
    if name == "-" {
        return Some("-".to_owned());
    }
    let ending = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    OTHERS.contains(&ending.as_str()).then_some(ending)
}

fn pack(tree: &Path, target: &Path, request: &BootstrapRequest, watcher: &dyn Watcher) -> Result<()> {
    let scratch = Partial::new(&target.with_file_name(format!(
        ".{}",
        target.file_name().unwrap_or_default().to_string_lossy()
    )))?;
    let out = scratch.path.join("out");
    fs::create_dir(&out).at(&out)?;
    let file = out.join(target.file_name().unwrap_or_default());
    let reach = Reach {
        tree: Some(tree.to_owned()),
        read: Vec::new(),
        write: vec![out],
    };
    let mut worker = Worker::start(tools(request), &scratch.path.join("root"), &reach)?;
    worker.ask(&Request::Pack { to: file.clone() }, watcher)?;
    fs::rename(&file, target).at(target)
}

/// The architecture asked for, if its programs can run here; the host's own when absent.
pub(crate) fn architecture(wanted: Option<&str>) -> Result<String> {
    let (own, others): (&str, &[&str]) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", &["i386"]),
        "x86" => ("i386", &[]),
        "aarch64" => ("arm64", &["armhf"]),
        "powerpc64" => ("ppc64el", &[]),
        "riscv64" => ("riscv64", &[]),
        "s390x" => ("s390x", &[]),
        other => (other, &[]),
    };
    let wanted = wanted.unwrap_or(own);
    if wanted == own || others.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    Err(Fault::new(codes::ARCHITECTURE)
        .arg("arch", wanted)
        .arg("host", own))
}

/// The directory `TARGET.partial` in which a tree grows: locked, removed when it does not become the target.
struct Partial {
    path: PathBuf,
    _lock: fs::File,
    /// Directories above it that were made for it, the lowest first.
    made: Vec<PathBuf>,
}

impl Partial {
    fn new(target: &Path) -> Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        // What a killed run has left.
        if path.exists() {
            sweep(&path);
        }
        let above = path.ancestors().skip(1);
        let made: Vec<PathBuf> = above
            .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
            .map(Path::to_owned)
            .collect();
        if let Some(lowest) = made.first() {
            fs::create_dir_all(lowest).at(lowest)?;
        }
        fs::create_dir(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Fault::new(codes::TARGET_EXISTS)
                .arg("path", path.display())
                .because_of("another run is at work"),
            _ => crate::tree::io_fault(&path, &error),
        })?;
        let lock = fs::File::open(&path).at(&path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(std::io::Error::from)
            .at(&path)?;
        Ok(Partial {
            path,
            _lock: lock,
            made,
        })
    }

    fn keep(self, target: &Path) -> Result<()> {
        // An empty directory may stand there; renaming onto it replaces it.
        fs::rename(&self.path, target).at(target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        for dir in &self.made {
            // With something in it, like the tree that was made, it stays.
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
    }
}
