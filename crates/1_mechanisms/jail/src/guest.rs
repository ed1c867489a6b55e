//! What the recipes of guests have in common: mounts, hidden paths, capabilities, limits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::recipe::{Capabilities, Mount, MountKind};

/// Capabilities of a guest inside its own user namespace: what a whole distribution needs. Never CAP_SYS_RAWIO and
/// CAP_SYS_MODULE; nothing that concerns the host as a whole (clock, kernel log, BPF, performance counters).
pub const CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TTY_CONFIG",
];

/// Paths that no guest sees. With a user namespace the kernel refuses most of them anyway.
pub const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that no guest writes to.
pub const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/sys/fs",
    "/proc/sys/dev",
    "/proc/sys/abi",
    "/proc/sys/debug",
];

fn mount(target: &str, what: MountKind, read_only: bool) -> Mount {
    Mount {
        target: PathBuf::from(target),
        what,
        read_only,
    }
}

/// The mounts of every guest, in order: /proc, /sys (read-only, so that no udev runs), /sys/fs/cgroup (cgroup2 of its
/// own namespace), /dev, /run.
#[must_use]
pub fn mounts() -> Vec<Mount> {
    vec![
        mount("/proc", MountKind::Proc, false),
        mount("/sys", MountKind::Sys, true),
        mount("/sys/fs/cgroup", MountKind::Cgroup2, false),
        mount("/dev", MountKind::Dev, false),
        mount(
            "/run",
            MountKind::Tmpfs {
                options: "mode=755,size=20%,nr_inodes=800k".into(),
            },
            false,
        ),
    ]
}

/// [`MASKED`] as a recipe takes it.
#[must_use]
pub fn masked() -> Vec<PathBuf> {
    MASKED.iter().map(PathBuf::from).collect()
}

/// [`READ_ONLY`] as a recipe takes it.
#[must_use]
pub fn read_only_paths() -> Vec<PathBuf> {
    READ_ONLY.iter().map(PathBuf::from).collect()
}

/// [`CAPABILITIES`], or all for a privileged guest.
#[must_use]
pub fn capabilities(privileged: bool) -> Capabilities {
    if privileged {
        return Capabilities::All;
    }
    Capabilities::Only {
        names: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Resource limits of a guest's processes; a guest's root cannot raise them, so they are generous.
#[must_use]
pub fn rlimits() -> BTreeMap<String, (u64, u64)> {
    BTreeMap::from([
        ("nofile".to_owned(), (1024, 1_048_576)),
        ("core".to_owned(), (0, u64::MAX)),
    ])
}

/// Sysctls of a guest: everybody may ping, as distributions set it.
#[must_use]
pub fn sysctls(ids: Option<crate::recipe::IdRange>) -> BTreeMap<String, String> {
    let last = ids.map_or(2_147_483_647, |ids| ids.count.saturating_sub(1));
    BTreeMap::from([("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"))])
}
