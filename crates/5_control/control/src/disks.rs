//! Files of the host that machines have: what they are, who has them, and the disk that is made for a machine.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use fault::{Fault, OrFault, Result};
use images::StoredDisk;
use images::machine::{Making, copy_disk, make_disk};
use model::{GuestSpec, Name, Watcher};

use crate::codes::{DISK_TAKEN, DISK_UNUSABLE, FILE_UNUSABLE};
use crate::hardware;
use crate::house::{House, broken};
use crate::power::is_alive;
use crate::records::StoredGuest;

/// Looks at the files that a machine shall have, and writes down what each disk is: it is never guessed again, since
/// what is in it is the guest's from then on.
///
/// # Errors
/// `GST030`, `GST033`, and those of [`disk::detect`].
pub(crate) fn settle(spec: &mut GuestSpec) -> Result<()> {
    let Some(hardware) = spec
        .machine
        .as_mut()
        .filter(|_| spec.kind == model::GuestKind::Machine)
    else {
        return Ok(());
    };
    for (what, path) in [
        ("CD-ROM", &hardware.iso),
        ("kernel", &hardware.kernel),
        ("initrd", &hardware.initrd),
    ] {
        if let Some(path) = path {
            let unusable = || Fault::new(FILE_UNUSABLE).arg("what", what).arg("path", path);
            let file = open(Path::new(path)).or_fault(unusable)?;
            let meta = file.metadata().or_fault(unusable)?;
            let drive = what == "CD-ROM" && meta.file_type().is_block_device();
            if !(drive || meta.is_file() && meta.len() > 0) {
                return Err(unusable().because_of("no file with content"));
            }
        }
    }
    for disk in &mut hardware.disks {
        let found = look(Path::new(&disk.source), disk.format.is_none())?;
        disk.format = disk.format.take().or(found);
    }
    Ok(())
}

/// Opens a file to look at it; a pipe or a terminal of this name does not hold us up.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Looks whether a file can be a disk, and at its first bytes when nobody has said what it is.
fn look(path: &Path, unknown: bool) -> Result<Option<String>> {
    let unusable = || Fault::new(DISK_UNUSABLE).arg("path", path.display());
    let mut file = open(path).or_fault(unusable)?;
    let meta = file.metadata().or_fault(unusable)?;
    if !meta.is_file() && !meta.file_type().is_block_device() {
        return Err(unusable().because_of("neither a file nor a block device"));
    }
    if file.read(&mut [0]).or_fault(unusable)? == 0 {
        return Err(unusable().because_of("empty"));
    }
    if !unknown {
        return Ok(None);
    }
    let format = disk::detect(&file).map_err(|fault| fault.arg("path", path.display()))?;
    Ok(Some(word(format).to_owned()))
}

/// A format as plans and specifications have it.
pub(crate) fn word(format: disk::Format) -> &'static str {
    match format {
        disk::Format::Raw => "raw",
        disk::Format::Qcow2 => "qcow2",
    }
}

/// What makes two paths the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    File { device: u64, inode: u64 },
    Device(u64),
}

fn identity(path: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(path).ok()?;
    Some(if meta.file_type().is_block_device() {
        Identity::Device(meta.rdev())
    } else {
        Identity::File {
            device: meta.dev(),
            inode: meta.ino(),
        }
    })
}

/// Refuses a machine whose disks a guest that runs has too, unless both only read it.
///
/// # Errors
/// `GST032`, which names the other guest.
pub(crate) fn are_free(house: &House, stored: &StoredGuest) -> Result<()> {
    if !hardware::is_machine(&stored.guest.spec) {
        return Ok(());
    }
    let ours = uses(house, stored);
    let others: Vec<(Name, Vec<Use>)> = house
        .guests()?
        .into_iter()
        .filter(|other| other.id() != stored.id() && is_alive(other.guest.status.phase))
        .map(|other| (other.guest.name.clone(), uses(house, &other)))
        .collect();
    match clash(&ours, &others) {
        Some((path, holder)) => Err(Fault::new(DISK_TAKEN).arg("path", path).arg("holder", holder)),
        None => Ok(()),
    }
}

/// A file that a machine uses.
#[derive(Clone, Debug)]
struct Use {
    path: String,
    identity: Identity,
    read_only: bool,
}

fn uses(house: &House, stored: &StoredGuest) -> Vec<Use> {
    if !hardware::is_machine(&stored.guest.spec) {
        return Vec::new();
    }
    let own = hardware::disk_file(&house.state_of(stored.id()), stored.disk_format());
    let disks = hardware::disks(&stored.guest.spec, &own, stored.disk_format());
    let one = |disk: engine::DiskPlan| {
        let path = disk.path?;
        Some(Use {
            identity: identity(&path)?,
            read_only: disk.read_only || disk.cdrom,
            path: path.display().to_string(),
        })
    };
    disks.into_iter().filter_map(one).collect()
}

fn clash<'a>(ours: &'a [Use], others: &'a [(Name, Vec<Use>)]) -> Option<(&'a str, &'a Name)> {
    let clashes =
        |one: &Use, other: &Use| one.identity == other.identity && !(one.read_only && other.read_only);
    others.iter().find_map(|(name, theirs)| {
        let both = |one: &&Use| theirs.iter().any(|other| clashes(one, other));
        ours.iter().find(both).map(|one| (one.path.as_str(), name))
    })
}

/// Bytes of memory of this host (proc_meminfo(5)); none where the kernel does not tell.
pub(crate) fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Makes the disk of a machine: of the tree of its image with all that was set up in it, or empty. After a fault there
/// is none.
pub(crate) fn make(house: &House, stored: &StoredGuest, size: u64, watcher: &dyn Watcher) -> Result<()> {
    let state = house.state_of(stored.id());
    let out = hardware::disk_file(&state, stored.disk_format());
    if let Some(image) = image_disk(house, stored)? {
        let wanted = stored
            .guest
            .spec
            .machine
            .as_ref()
            .and_then(|hardware| hardware.disk_size);
        return copy_disk(&image, &out, wanted.map(|size| size.0), watcher);
    }
    if stored.guest.spec.image.is_nothing() {
        let new = state.join("disk.raw.new");
        make_empty(&new, size)?;
        return std::fs::rename(&new, &out).map_err(|error| failed(&out, error));
    }
    let plan = house.plan_of(stored)?;
    let (upper, work) = (state.join("upper"), state.join("work"));
    let making = Making {
        shim_exe: &house.settings.shim_exe,
        ids: stored.ids,
        guest: &stored.id().0,
        layers: &stored.layers,
        upper: &upper,
        work: &work,
        files: &plan.files,
        out: &out,
        size,
        label: "root",
    };
    make_disk(&making, watcher)?;
    // What was set up in it is on the disk now.
    for dir in [&upper, &work] {
        crate::remove::delete_tree(dir)?;
    }
    house.make_dirs(stored)
}

/// The disk that a machine's image is, when it is no tree.
fn image_disk(house: &House, stored: &StoredGuest) -> Result<Option<StoredDisk>> {
    let Some(digest) = &stored.guest.spec.image_digest else {
        return Ok(None);
    };
    let mut all = house.images.list()?.into_iter();
    let found = all.find(|image| image.spec.digest == *digest);
    Ok(found.and_then(|image| image.disk))
}

/// Makes an empty disk, of which no block is on the host's disk yet.
pub(crate) fn make_empty(path: &Path, size: u64) -> Result<()> {
    let made = new_file(path).and_then(|file| {
        file.set_len(size)?;
        file.sync_all()
    });
    made.map_err(|error| failed(path, error))
}

/// The file of a disk on its way: what an earlier run has left goes.
fn new_file(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// What went wrong with the file of a disk.
pub(crate) fn failed(path: &Path, error: std::io::Error) -> Fault {
    let full = matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    );
    let fault = if full {
        Fault::new(crate::codes::DISK_FULL).arg("path", path.display())
    } else {
        broken(path)
    };
    fault.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> String {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn machine(fields: serde_json::Value) -> GuestSpec {
        serde_json::from_value(json!({ "image": "none", "kind": "machine", "machine": fields })).unwrap()
    }

    #[test]
    fn disks_are_told_by_their_first_bytes_and_foreign_ones_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let qcow2 = file(&folder, "a", b"QFI\xfb\0\0\0\x03rest");
        let raw = file(&folder, "b", &[0; 512]);
        let mut spec = machine(json!({ "disks": [{ "source": qcow2 }, { "source": raw }] }));
        settle(&mut spec).unwrap();
        let formats: Vec<_> = spec
            .machine
            .unwrap()
            .disks
            .into_iter()
            .map(|disk| disk.format)
            .collect();
        assert_eq!(formats, [Some("qcow2".to_owned()), Some("raw".to_owned())]);
        for (content, code) in [(&b"KDMV\x01\0\0\0"[..], disk::FOREIGN), (b"", DISK_UNUSABLE)] {
            let other = file(&folder, "c", content);
            let refused = settle(&mut machine(json!({ "disks": [{ "source": other }] })));
            assert!(refused.unwrap_err().is(code));
        }
        let folder = folder.path().display().to_string();
        for path in [folder.as_str(), "/does/not/exist", "/dev/null"] {
            let refused = settle(&mut machine(json!({ "disks": [{ "source": path }] })));
            assert!(refused.unwrap_err().is(DISK_UNUSABLE), "{path}");
        }
    }

    #[test]
    fn a_disk_that_was_called_raw_stays_so_whatever_its_guest_writes_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let disk = file(&folder, "a", b"QFI\xfb\0\0\0\x03rest");
        let mut spec = machine(json!({ "disks": [{ "source": disk, "format": "raw" }] }));
        settle(&mut spec).unwrap();
        assert_eq!(spec.machine.unwrap().disks[0].format.as_deref(), Some("raw"));
    }

    #[test]
    fn missing_kernels_and_cd_roms_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = file(&folder, "empty", b"");
        for fields in [
            json!({ "kernel": "/does/not/exist" }),
            json!({ "kernel": empty }),
            json!({ "iso": "/tmp" }),
            json!({ "kernel": "/proc/version", "initrd": "/does/not/exist" }),
        ] {
            assert!(
                settle(&mut machine(fields.clone()))
                    .unwrap_err()
                    .is(FILE_UNUSABLE),
                "{fields}"
            );
        }
    }

    #[test]
    fn one_disk_is_for_one_writer_or_for_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "a", b"disk");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let used = |path: &str, read_only| Use {
            path: path.to_owned(),
            identity: identity(Path::new(path)).unwrap(),
            read_only,
        };
        let link = link.display().to_string();
        let other = |read_only| vec![("web".parse::<Name>().unwrap(), vec![used(&path, read_only)])];
        assert!(clash(&[used(&link, false)], &other(false)).is_some());
        assert!(clash(&[used(&link, true)], &other(false)).is_some());
        assert!(clash(&[used(&link, true)], &other(true)).is_none());
        assert!(clash(&[used(&file(&folder, "b", b"other"), false)], &other(false)).is_none());
    }

    #[test]
    fn an_empty_disk_takes_no_room_and_replaces_what_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw.new");
        std::fs::write(&path, "left").unwrap();
        make_empty(&path, 1 << 30).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.blocks()), (1 << 30, 0));
    }
}
