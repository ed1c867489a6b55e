//! The plan: everything an engine needs to run one guest, resolved; no name of an image or a network is left in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jail::recipe::{FileEntry, IdRange, Mount, NicSetup, Root};
use model::{Id, Init, Input, Limits, MachineEngine, Name, Policies};
use serde::{Deserialize, Serialize};

/// Version of the plan's layout that this code writes; every older one is read.
pub const PLAN_VERSION: u32 = 1;

/// A resolved guest. Written to `run_dir/plan.json` for the shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of the writer.
    pub version: u32,
    /// The guest's identity.
    pub id: Id,
    /// Its name, for words and logs.
    pub name: Name,
    /// Volatile directory of this guest, mode 0750: sockets, pid file, plan, runtime record.
    pub run_dir: PathBuf,
    /// Lasting directory of this guest: upper directory, console log.
    pub state_dir: PathBuf,
    /// Its permanent range of ids; absent for privileged guests.
    pub ids: Option<IdRange>,
    /// Its root tree.
    pub root: Root,
    /// Mounts that the user asked for.
    pub mounts: Vec<Mount>,
    /// Files written inside at every start (hosts, resolv.conf, hostname; machine-id once).
    pub files: Vec<FileEntry>,
    /// What runs as process 1.
    pub init: Init,
    /// Environment of an application container's command.
    pub env: BTreeMap<String, String>,
    /// What it reads from.
    #[serde(default)]
    pub input: Input,
    /// Its working directory.
    pub workdir: Option<PathBuf>,
    /// Its user.
    pub user: Option<String>,
    /// Host name inside.
    pub hostname: String,
    /// Network cards, in order.
    pub nics: Vec<NicSetup>,
    /// Limits.
    pub limits: Limits,
    /// Path of the guest's cgroup below the root of every hierarchy, `posada/guests/ID`.
    pub cgroup: PathBuf,
    /// Reactions to its own end.
    pub policies: Policies,
    /// Signal of a graceful stop; by kind of init when absent.
    pub stop_signal: Option<String>,
    /// Most bytes of console log kept (two files of half of it).
    pub console_log_limit: u64,
    /// All capabilities, no user namespace.
    pub privileged: bool,
    /// Containers may be made inside.
    pub nesting: bool,
    /// What makes it a machine; absent for containers. Its root is then the tree that its disk is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachinePlan>,
}

/// The hardware of a machine, resolved to paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachinePlan {
    /// What executes it.
    pub engine: MachineEngine,
    /// Number of processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// What it starts with.
    pub boot: MachineBoot,
    /// Disks and CD-ROMs, in order; the first disk is the one whose kernel is looked for.
    pub disks: Vec<DiskPlan>,
    /// What the guest writes to its disks is thrown away when it stops.
    pub discard_writes: bool,
    /// Keymap of who types at its screen (`en-us`, `es`); absent for a machine without a screen.
    pub keymap: Option<String>,
}

/// What a machine starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum MachineBoot {
    /// The kernel that the first disk's own boot loader would start, read anew at every start.
    Disk {
        /// Added to its command line.
        append: String,
    },
    /// Files of the host.
    Kernel {
        /// bzImage or ELF.
        kernel: PathBuf,
        /// Its initrd.
        initrd: Option<PathBuf>,
        /// Its command line, all of it.
        append: String,
    },
    /// Firmware, which starts the boot loader of a disk or CD-ROM.
    Firmware,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Its name: `root`, `disk1`, `cdrom`.
    pub name: String,
    /// Its file; none for an empty CD-ROM drive.
    pub path: Option<PathBuf>,
    /// `raw` or `qcow2`: settled when it was attached, never guessed again.
    pub format: String,
    /// A CD-ROM.
    pub cdrom: bool,
    /// The guest may not write.
    pub read_only: bool,
}
