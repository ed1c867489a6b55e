//! The recipe: what a confined process sees and may do, as plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A range of host ids that stands for the ids 0… inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id on the host; also the host uid that creates the user namespace.
    pub base: u32,
    /// Number of ids, usually 65,536.
    pub count: u32,
}

/// What becomes of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ns {
    /// A new one.
    #[default]
    New,
    /// The one of the process that executes the recipe.
    Share,
}

/// The namespaces of a jail. The user namespace is new exactly when `ids` of the recipe is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Ns,
    /// Host name.
    pub uts: Ns,
    /// System V IPC and POSIX message queues.
    pub ipc: Ns,
    /// Network.
    pub net: Ns,
    /// Cgroup root.
    pub cgroup: Ns,
}

/// Where the root tree comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Root {
    /// A directory as it is; with `ids`, mounted id-mapped so that the ids on disk are the ids inside.
    Tree {
        /// The directory.
        path: PathBuf,
        /// Whether files on disk carry unshifted ids and need an id-mapped mount.
        idmap: bool,
        /// Mounted read-only.
        read_only: bool,
    },
    /// An overlay: unshifted layers, id-mapped read-only; upper and work directories owned by the id range.
    Overlay {
        /// Lower directories, topmost first.
        layers: Vec<PathBuf>,
        /// Upper directory.
        upper: PathBuf,
        /// Work directory, on the same file system as `upper`.
        work: PathBuf,
    },
}

/// One mount inside, made after the root and in order. Targets are looked up inside the root (openat2
/// RESOLVE_IN_ROOT), so no symbolic link of the guest leads out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside; made when missing.
    pub target: PathBuf,
    /// What is mounted.
    pub what: MountKind,
    /// Read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum MountKind {
    /// A new proc of the jail's own pid namespace.
    Proc,
    /// sysfs of the jail's own network namespace.
    Sys,
    /// cgroup2 of the jail's own cgroup namespace.
    Cgroup2,
    /// A new devpts instance.
    Devpts,
    /// POSIX message queues.
    Mqueue,
    /// A tmpfs with mount options such as `mode=755,size=64m`.
    Tmpfs {
        /// Options as mount(8) takes them.
        options: String,
    },
    /// The minimal /dev: tmpfs with null, zero, full, random, urandom, tty (bound from the host's where device
    /// nodes cannot be made), fd links, pts, shm, mqueue, console and ptmx.
    Dev,
    /// A directory or file of the host.
    Bind {
        /// Its path on the host.
        source: PathBuf,
        /// Mounted id-mapped, so that ids on disk are ids inside.
        idmap: bool,
        /// With the mounts below it.
        recursive: bool,
    },
    /// The jail's own root once more, without what is mounted below it. Its target has to lie in another mount (a
    /// tmpfs on /run), so that the root is not changed by it.
    BareRoot,
    /// A file with this content that exists in memory only, covering what stands at the target.
    Content {
        /// The whole content.
        content: String,
    },
}

/// A file written inside before the process starts, as the jail's root and with its root directory, so that a
/// symbolic link can lead only to the jail's own files. Replaced by rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Absolute path inside; parent directories are made.
    pub path: PathBuf,
    /// Whole content.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
    /// Written only when nothing is there.
    #[serde(default)]
    pub keep_existing: bool,
}

/// A network card inside: the link is put there by whoever owns the network; addresses are set at every start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSetup {
    /// Name of the link inside, `eth0`.
    pub link: String,
    /// MAC address, for the address that DHCP and RA must agree with.
    pub mac: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Largest packet, in bytes; the link's own when absent.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// Which capabilities remain; names as `CAP_NET_ADMIN`. Everything else is out of the bounding set as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Capabilities {
    /// Those of the executing process (privileged guests).
    All,
    /// Exactly these.
    Only {
        /// Their names.
        names: Vec<String>,
    },
}

/// Which system calls are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// None.
    Off,
    /// What a whole distribution needs: modules, kexec, raw I/O, clock setting, keyrings of others, bpf, perf… refused.
    #[default]
    Guest,
    /// As for guests; and fsync and its like succeed without waiting for the disk, for trees that are thrown away when
    /// their making fails.
    Build,
    /// What a helper that parses bytes between descriptors needs, and nothing else.
    Worker,
    /// What a machine needs that was handed everything open.
    Machine,
}

/// A label of a Linux security module, set at exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Lsm {
    /// An AppArmor profile.
    AppArmor {
        /// Its name.
        profile: String,
    },
    /// An SELinux context.
    SeLinux {
        /// The context.
        context: String,
    },
}

/// The process that runs inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Program and arguments; a name without slash is looked up in PATH of `env`, inside. Empty: the user's login
    /// shell.
    pub argv: Vec<String>,
    /// The whole environment, but for HOME, USER, LOGNAME and SHELL, which come from the jail's /etc/passwd when they
    /// are not given.
    pub env: BTreeMap<String, String>,
    /// Working directory inside; the user's home, else `/`.
    pub cwd: Option<PathBuf>,
    /// `name`, `uid`, `name:group`, `uid:gid`; read from the jail's own /etc/passwd and /etc/group by our parser,
    /// never by NSS. Root when absent.
    pub user: Option<String>,
    /// Supplementary groups beyond those of /etc/group.
    pub groups: Vec<u32>,
    /// Give it a new session with its standard input as controlling terminal.
    pub terminal: bool,
    /// No privileges by exec of setuid files.
    pub no_new_privs: bool,
}

/// What bounds every process of a jail: the first one and those that enter later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Capabilities that remain.
    pub capabilities: Capabilities,
    /// System calls refused.
    pub seccomp: Seccomp,
    /// Security label.
    #[serde(default)]
    pub lsm: Option<Lsm>,
    /// Resource limits by name (`nofile`): soft and hard.
    #[serde(default)]
    pub rlimits: BTreeMap<String, (u64, u64)>,
    /// oom_score_adj.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
}

/// Everything about one jail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Ids of its user namespace; absent: no user namespace.
    pub ids: Option<IdRange>,
    /// The other namespaces.
    pub namespaces: Namespaces,
    /// Its root.
    pub root: Root,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Paths covered by an empty read-only file or directory; those that do not exist are skipped.
    pub masked: Vec<PathBuf>,
    /// Paths made read-only; those that do not exist are skipped.
    pub read_only_paths: Vec<PathBuf>,
    /// Files written before the start.
    pub files: Vec<FileEntry>,
    /// Host name, in a new UTS namespace.
    pub hostname: Option<String>,
    /// Network cards to set up, in a new network namespace (its loopback comes up always).
    pub nics: Vec<NicSetup>,
    /// Namespaced sysctls, as `net.ipv4.ping_group_range` = `0 2147483647`.
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits by name (`nofile`): soft and hard.
    pub rlimits: BTreeMap<String, (u64, u64)>,
    /// Capabilities that remain.
    pub capabilities: Capabilities,
    /// System calls refused.
    pub seccomp: Seccomp,
    /// Security label.
    pub lsm: Option<Lsm>,
    /// Path of its cgroup below the root of every hierarchy, as `posada/guests/ID`; the process is born in it and
    /// it is the root of the cgroup namespace. Made by [`crate::cgroup`] before.
    pub cgroup: Option<PathBuf>,
    /// oom_score_adj of the process.
    pub oom_score_adj: Option<i32>,
    /// The process.
    pub process: Process,
}

impl Recipe {
    /// The part of the recipe that also holds for processes that enter later.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            capabilities: self.capabilities.clone(),
            seccomp: self.seccomp,
            lsm: self.lsm.clone(),
            rlimits: self.rlimits.clone(),
            oom_score_adj: self.oom_score_adj,
        }
    }
}
