//! Machines: what is accepted of their specification, and what follows from it for their plan; decided without
//! touching the host.

use std::path::{Path, PathBuf};

use engine::{DiskPlan, MachineBoot, MachinePlan};
use fault::{Fault, Result};
use model::{DiskSpec, GuestKind, GuestSpec, Init, Input, Limits, MachineSpec, Setup, Size};

use crate::admission::Known;
use crate::codes::{
    COMMAND_IN_MACHINE, IMAGE_NEEDED, MEMORY_BEYOND_HOST, NEEDS_IMAGE, NOT_FOR_CONTAINERS, NOT_FOR_MACHINES,
    NOTHING_TO_BOOT, SPEC_INVALID, VALUE_INVALID,
};

/// Memory of a machine whose specification tells none, in bytes.
const MEMORY: u64 = 512 << 20;
/// Size of a disk made from an image when the specification tells none, in bytes.
const DISK: u64 = 4 << 30;
/// Memory that the machine's process may take beside the guest's own, in bytes: devices, caches of the software CPU.
const OVERHEAD: u64 = 256 << 20;
/// Most processors of one machine.
const MOST_CPUS: u32 = 64;
/// Most disk files of one machine.
const MOST_DISKS: usize = 16;
/// Least and most bytes of a disk.
const DISK_SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 40;
/// Most bytes of a kernel's command line (COMMAND_LINE_SIZE of Linux on x86).
const MOST_APPEND: usize = 2047;
/// Keymaps of who types at a machine's screen.
const KEYMAPS: &[&str] = &["en-us", "es"];
/// Name of the CD-ROM drive.
pub const CDROM: &str = "cdrom";

/// Fields of the hardware that a machine keeps for life.
const FIXED: &[&str] = &["disk_size", "kernel_flavour"];

/// Whether a specification is of a machine.
#[must_use]
pub fn is_machine(spec: &GuestSpec) -> bool {
    spec.kind == GuestKind::Machine
}

fn value(field: &str, text: impl std::fmt::Display) -> Fault {
    Fault::new(VALUE_INVALID).arg("field", field).arg("value", text)
}

fn refuse_together(one: &str, other: &str) -> Fault {
    Fault::new(SPEC_INVALID).because_of(format!("{one} and {other} exclude each other"))
}

/// Refuses what only machines have.
///
/// # Errors
/// `GST027`, `GST035`.
pub fn container(spec: &GuestSpec) -> Result<()> {
    if spec.machine.is_some() {
        return Err(Fault::new(NOT_FOR_CONTAINERS).arg("field", "machine"));
    }
    if spec.image.is_nothing() {
        return Err(Fault::new(IMAGE_NEEDED));
    }
    Ok(())
}

/// Decides about the specification of a machine, beyond what holds for every guest.
///
/// # Errors
/// `GST020`, `GST026`, `GST028`, `GST029`, `GST034`, `GST036`.
pub fn machine(known: &Known, spec: &GuestSpec) -> Result<()> {
    if let Init::Command { argv } = &spec.init {
        return Err(Fault::new(COMMAND_IN_MACHINE).arg("command", argv.join(" ")));
    }
    for (field, given) in [
        ("env", !spec.env.is_empty()),
        ("workdir", spec.workdir.is_some()),
        ("input", spec.input != Input::Nothing),
        ("privileged", spec.privileged),
        ("nesting", spec.nesting),
        // The device stands (virtio-fs); nobody hands machines directories yet.
        ("mounts", !spec.mounts.is_empty()),
        ("stop_signal", spec.stop_signal.is_some()),
        ("limits.pids", spec.limits.pids.is_some()),
    ] {
        if given {
            return Err(Fault::new(NOT_FOR_MACHINES).arg("field", field));
        }
    }
    let memory = memory(spec);
    if let Some(host) = known.host_memory.filter(|host| memory > *host) {
        return Err(Fault::new(MEMORY_BEYOND_HOST)
            .arg("memory", Size(memory))
            .arg("host", Size(host)));
    }
    let hardware = spec.machine.clone().unwrap_or_default();
    parts(&hardware)?;
    start(&hardware)?;
    if spec.image.is_nothing() {
        without_image(spec, &hardware)?;
    }
    Ok(())
}

/// Processors, disks, screen.
fn parts(hardware: &MachineSpec) -> Result<()> {
    if let Some(cpus) = hardware.cpus
        && !(1..=MOST_CPUS).contains(&cpus)
    {
        return Err(value("machine.cpus", cpus));
    }
    if let Some(size) = hardware.disk_size
        && !DISK_SIZES.contains(&size.0)
    {
        return Err(value("machine.disk_size", size));
    }
    if hardware.disks.len() > MOST_DISKS {
        return Err(value("machine.disks", hardware.disks.len()));
    }
    for (index, disk) in hardware.disks.iter().enumerate() {
        file("machine.disks.source", &disk.source)?;
        if let Some(format) = &disk.format
            && !matches!(format.as_str(), "raw" | "qcow2")
        {
            return Err(value("machine.disks.format", format));
        }
        if hardware.disks[..index]
            .iter()
            .any(|other| other.source == disk.source)
        {
            return Err(Fault::new(SPEC_INVALID).because_of(format!("disk {} twice", disk.source)));
        }
    }
    match &hardware.keymap {
        Some(_) if hardware.headless => Err(refuse_together("headless", "keymap")),
        Some(keymap) if !KEYMAPS.contains(&keymap.as_str()) => Err(value("machine.keymap", keymap)),
        _ => Ok(()),
    }
}

/// What it starts with.
fn start(hardware: &MachineSpec) -> Result<()> {
    for (field, path) in [
        ("machine.iso", &hardware.iso),
        ("machine.kernel", &hardware.kernel),
        ("machine.initrd", &hardware.initrd),
    ] {
        if let Some(path) = path {
            file(field, path)?;
        }
    }
    if hardware.initrd.is_some() && hardware.kernel.is_none() {
        return Err(Fault::new(SPEC_INVALID).because_of("an initrd needs a kernel"));
    }
    if hardware.firmware && hardware.kernel.is_some() {
        return Err(refuse_together("firmware", "kernel"));
    }
    if let Some(append) = &hardware.append {
        if append.len() > MOST_APPEND || append.chars().any(char::is_control) {
            return Err(value("machine.append", append));
        }
        if hardware.firmware {
            // A boot loader has a command line of its own.
            return Err(refuse_together("firmware", "append"));
        }
    }
    Ok(())
}

/// Refuses a new machine that has nothing to start from. One that exists may have put an empty disk to use.
///
/// # Errors
/// `GST034`.
pub fn starts(spec: &GuestSpec) -> Result<()> {
    let hardware = spec.machine.clone().unwrap_or_default();
    let nothing = hardware.disks.is_empty() && hardware.iso.is_none() && hardware.kernel.is_none();
    if is_machine(spec) && spec.image.is_nothing() && nothing {
        return Err(Fault::new(NOTHING_TO_BOOT));
    }
    Ok(())
}

fn without_image(spec: &GuestSpec, hardware: &MachineSpec) -> Result<()> {
    if made_disk(spec).is_none() {
        starts(spec)?;
    }
    let diskless = made_disk(spec).is_none() && hardware.disks.is_empty();
    if hardware.firmware && diskless && hardware.iso.is_none() {
        return Err(Fault::new(NOTHING_TO_BOOT));
    }
    without_tree(&spec.setup)
}

/// Refuses a set-up for which there is no tree.
///
/// # Errors
/// `GST036`.
pub fn without_tree(setup: &Setup) -> Result<()> {
    let Setup {
        user,
        ssh_keys,
        password_hash,
        locale,
        timezone,
        include,
        proxy,
    } = setup;
    for (field, given) in [
        ("user", user.is_some()),
        ("ssh_keys", !ssh_keys.is_empty()),
        ("password_hash", password_hash.is_some()),
        ("locale", locale.is_some()),
        ("timezone", timezone.is_some()),
        ("include", !include.is_empty()),
        ("proxy", proxy.is_some()),
    ] {
        if given {
            return Err(Fault::new(NEEDS_IMAGE).arg("field", field));
        }
    }
    Ok(())
}

/// An absolute path on the host.
fn file(field: &str, path: &str) -> Result<()> {
    if !path.starts_with('/') || path.contains('\0') || path.len() > 4095 {
        return Err(value(field, path));
    }
    Ok(())
}

/// Memory of a machine, in bytes.
#[must_use]
pub fn memory(spec: &GuestSpec) -> u64 {
    spec.limits.memory.map_or(MEMORY, |memory| memory.0)
}

/// Size of the disk that is made for a machine, in bytes: from its image, or empty; none when it has only the files
/// that it was given.
#[must_use]
pub fn made_disk(spec: &GuestSpec) -> Option<u64> {
    let size = spec.machine.as_ref().and_then(|hardware| hardware.disk_size);
    let usual = (!spec.image.is_nothing()).then_some(DISK);
    // Sectors have 512 bytes; disks that end in half a page are trouble for nobody's good.
    size.map(|size| size.0)
        .or(usual)
        .map(|size| size.next_multiple_of(4096))
        .filter(|_| is_machine(spec))
}

/// The file of that disk, by its format.
#[must_use]
pub fn disk_file(state_dir: &Path, format: &str) -> PathBuf {
    state_dir.join(format!("disk.{format}"))
}

/// Disks and CD-ROM of a machine. What is made of an image comes first; an empty disk after those that hold something.
/// `own` is the file of the disk that is made, with its format.
#[must_use]
pub fn disks(spec: &GuestSpec, own: &Path, format: &str) -> Vec<DiskPlan> {
    let hardware = spec.machine.clone().unwrap_or_default();
    let given = |disk: &DiskSpec| DiskPlan {
        name: String::new(),
        path: Some(PathBuf::from(&disk.source)),
        format: disk.format.clone().unwrap_or_else(|| "raw".to_owned()),
        cdrom: false,
        read_only: disk.read_only,
    };
    let mut disks: Vec<DiskPlan> = hardware.disks.iter().map(given).collect();
    if made_disk(spec).is_some() {
        let place = if spec.image.is_nothing() { disks.len() } else { 0 };
        let made = DiskPlan {
            name: String::new(),
            path: Some(own.to_owned()),
            format: format.to_owned(),
            cdrom: false,
            read_only: false,
        };
        disks.insert(place, made);
    }
    for (index, disk) in disks.iter_mut().enumerate() {
        disk.name = match index {
            0 => "root".to_owned(),
            _ => format!("disk{index}"),
        };
    }
    if let Some(iso) = &hardware.iso {
        disks.push(DiskPlan {
            name: CDROM.to_owned(),
            path: Some(PathBuf::from(iso)),
            format: "raw".to_owned(),
            cdrom: true,
            read_only: true,
        });
    }
    disks
}

/// The hardware of a machine, resolved to paths; `own` and `format` as of [`disks`].
#[must_use]
pub fn plan(spec: &GuestSpec, own: &Path, format: &str) -> MachinePlan {
    let hardware = spec.machine.clone().unwrap_or_default();
    let screen = !hardware.headless;
    let boot = match &hardware.kernel {
        Some(kernel) => MachineBoot::Kernel {
            kernel: PathBuf::from(kernel),
            initrd: hardware.initrd.as_ref().map(PathBuf::from),
            append: hardware
                .append
                .clone()
                .unwrap_or_else(|| consoles(screen).to_owned()),
        },
        None if hardware.firmware || hardware.iso.is_some() => MachineBoot::Firmware,
        None => MachineBoot::Disk {
            append: hardware.append.clone().unwrap_or_default(),
        },
    };
    MachinePlan {
        engine: hardware.engine,
        cpus: hardware.cpus.unwrap_or(1),
        memory: memory(spec),
        boot,
        disks: disks(spec, own, format),
        discard_writes: hardware.discard_writes,
        keymap: screen.then(|| hardware.keymap.unwrap_or_else(|| KEYMAPS[0].to_owned())),
    }
}

/// Where a kernel of the host speaks unless it is told otherwise.
fn consoles(screen: bool) -> &'static str {
    if screen {
        "console=tty0 console=ttyS0"
    } else {
        "console=ttyS0"
    }
}

/// Limits of the machine's process: its guest's memory is all there is for the guest, and the process needs some too.
#[must_use]
pub fn limits(limits: &Limits, memory: u64) -> Limits {
    Limits {
        memory: Some(Size(memory.saturating_add(OVERHEAD))),
        pids: None,
        ..limits.clone()
    }
}

/// The field of the hardware that differs and cannot.
#[must_use]
pub fn fixed(old: &GuestSpec, new: &GuestSpec) -> Option<String> {
    let changed = changed(old, new);
    let found = changed.into_iter().find(|name| FIXED.contains(&name.as_str()));
    found.map(|name| format!("machine.{name}"))
}

/// Names of the fields in which the hardware of two specifications differs.
#[must_use]
pub fn changed(old: &GuestSpec, new: &GuestSpec) -> Vec<String> {
    let fields = |spec: &GuestSpec| {
        let hardware = spec.machine.clone().unwrap_or_default();
        match serde_json::to_value(hardware) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => serde_json::Map::new(),
        }
    };
    let (old, new) = (fields(old), fields(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| old.get(*name) != new.get(*name);
    names.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests;
