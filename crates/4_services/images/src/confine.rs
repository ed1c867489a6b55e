//! The two jails of this room: of the worker that reads bytes from outside, and of the packages' own scripts.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use fault::{Fault, Result};
use jail::launch::Launch;
use jail::recipe::{Capabilities, IdRange, Mount, MountKind, Namespaces, Ns, Process, Recipe, Root, Seccomp};

use crate::tree::At;

/// The small executables and the ids that confined work is done with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) worker_exe: &'a Path,
    pub(crate) shim_exe: &'a Path,
    pub(crate) ids: IdRange,
}

/// What a worker may touch; it sees everything under the paths of the host, and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// The tree that packages are unpacked to.
    pub(crate) tree: Option<PathBuf>,
    /// Directories and files that it reads.
    pub(crate) read: Vec<PathBuf>,
    /// Directories that it writes to.
    pub(crate) write: Vec<PathBuf>,
}

/// What a worker needs to give files of a tree their owners and attributes.
const WORKER_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SETFCAP",
];

/// The recipe of a worker: an empty root `bench` with what is in reach, no network, few system calls.
pub(crate) fn worker(tools: Tools<'_>, bench: &Path, reach: &Reach) -> Result<Recipe> {
    fs::create_dir_all(bench).at(bench)?;
    let written = || reach.tree.iter().chain(&reach.write);
    let mut ids = Some(tools.ids);
    for path in written().map(PathBuf::as_path).chain([bench]) {
        if !can_map(tools, path)? {
            ids = None;
        }
    }
    let mut mounts = vec![bind(tools.worker_exe, false, true)];
    for path in &reach.read {
        let mapped = ids.is_some() && can_map(tools, path)?;
        mounts.push(bind(path, mapped, true));
    }
    mounts.extend(written().map(|path| bind(path, ids.is_some(), false)));
    let mut argv = vec![tools.worker_exe.display().to_string()];
    argv.extend(reach.tree.iter().map(|tree| tree.display().to_string()));
    Ok(recipe(
        ids,
        Root::Tree {
            path: bench.to_owned(),
            idmap: ids.is_some(),
            read_only: false,
        },
        mounts,
        Capabilities::Only {
            names: WORKER_CAPABILITIES
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        },
        Seccomp::Worker,
        Process {
            argv,
            no_new_privs: true,
            ..Process::default()
        },
    ))
}

/// The recipe of the packages' scripts: the tree as root, as a guest would have it, without network.
pub(crate) fn scripts(
    tools: Tools<'_>,
    root: &Path,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
) -> Result<Recipe> {
    let mapped = can_map(tools, root)?;
    Ok(recipe(
        mapped.then_some(tools.ids),
        Root::Tree {
            path: root.to_owned(),
            idmap: mapped,
            read_only: false,
        },
        script_mounts(),
        jail::guest::capabilities(false),
        Seccomp::Build,
        Process {
            argv,
            env,
            ..Process::default()
        },
    ))
}

/// What scripts find mounted.
pub(crate) fn script_mounts() -> Vec<Mount> {
    let mount = |target: &str, what, read_only| Mount {
        target: target.into(),
        what,
        read_only,
    };
    vec![
        mount("/proc", MountKind::Proc, false),
        mount("/sys", MountKind::Sys, true),
        mount("/dev", MountKind::Dev, false),
    ]
}

/// A recipe in namespaces of its own, without network.
pub(crate) fn recipe(
    ids: Option<IdRange>,
    root: Root,
    mounts: Vec<Mount>,
    capabilities: Capabilities,
    seccomp: Seccomp,
    process: Process,
) -> Recipe {
    Recipe {
        ids,
        namespaces: Namespaces {
            cgroup: Ns::Share,
            ..Namespaces::default()
        },
        root,
        mounts,
        masked: Vec::new(),
        read_only_paths: Vec::new(),
        files: Vec::new(),
        hostname: Some("localhost".to_owned()),
        nics: Vec::new(),
        sysctls: BTreeMap::new(),
        rlimits: BTreeMap::new(),
        capabilities,
        seccomp,
        lsm: None,
        cgroup: None,
        oom_score_adj: None,
        process,
    }
}

fn bind(path: &Path, idmap: bool, read_only: bool) -> Mount {
    Mount {
        target: path.to_owned(),
        what: MountKind::Bind {
            source: path.to_owned(),
            idmap,
            recursive: false,
        },
        read_only,
    }
}

/// Whether the file system of a path can be mounted id-mapped; asked of the kernel once for each.
fn can_map(tools: Tools<'_>, path: &Path) -> Result<bool> {
    static KNOWN: Mutex<Option<HashMap<u64, bool>>> = Mutex::new(None);
    let device = fs::metadata(path).at(path)?.dev();
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = known().get_or_insert_default().get(&device) {
        return Ok(*answer);
    }
    // A jail that gets as far as its program, which does not exist, has mounted its root.
    let directory = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(path)
    };
    let probe = recipe(
        Some(tools.ids),
        Root::Tree {
            path: directory.to_owned(),
            idmap: true,
            read_only: true,
        },
        Vec::new(),
        Capabilities::Only { names: Vec::new() },
        Seccomp::Off,
        Process {
            argv: vec!["/proc/no program".to_owned()],
            ..Process::default()
        },
    );
    let mut launch = Launch::new(tools.shim_exe, &probe)?;
    launch
        .command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let answer = match launch.status() {
        Err(fault) => !is_of_root(&fault),
        Ok(_) => true,
    };
    known().get_or_insert_default().insert(device, answer);
    Ok(answer)
}

fn is_of_root(fault: &Fault) -> bool {
    [jail::codes::ROOT_FAILED, jail::codes::ROOT_FOREIGN]
        .iter()
        .any(|code| fault.is(*code))
}
