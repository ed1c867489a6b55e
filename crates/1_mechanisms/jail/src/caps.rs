//! Capabilities: their names, and cutting a process down to some of them.

use fault::{Fault, OrFault, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::codes;
use crate::recipe::Capabilities;

/// All names, in the order of their numbers (capabilities(7), Linux 5.9 and later).
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The bits of the capabilities that remain; absent when all do. Pure.
///
/// # Errors
/// When a name is unknown.
pub fn mask(capabilities: &Capabilities) -> Result<Option<u64>> {
    let Capabilities::Only { names } = capabilities else {
        return Ok(None);
    };
    let mut mask = 0;
    for name in names {
        let number = NAMES
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| Fault::new(codes::CAPABILITY_UNKNOWN).arg("name", name))?;
        mask |= 1 << number;
    }
    Ok(Some(mask))
}

/// Takes all other capabilities out of the bounding set; needs CAP_SETPCAP.
pub(crate) fn bound(mask: u64) -> Result<()> {
    for number in 0..NAMES.len() {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if mask & (1 << number) == 0 {
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // The kernel is older than the capability.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error).or_fault(refused),
            }
        }
    }
    Ok(())
}

/// Cuts the permitted and effective sets down to the mask; nothing is inheritable or ambient.
pub(crate) fn limit(mask: Option<u64>) -> Result<()> {
    let now = rustix::thread::capabilities(None).or_fault(refused)?;
    let kept = now.permitted & CapabilitySet::from_bits_retain(mask.unwrap_or(u64::MAX));
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::from_bits_retain(0),
    };
    rustix::thread::set_capabilities(None, sets).or_fault(refused)
}

fn refused() -> Fault {
    Fault::new(codes::CONFINEMENT_FAILED).arg("what", "capabilities")
}
