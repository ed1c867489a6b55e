//! Makes the disk of a machine out of its merged tree, by the tree's own mke2fs in a jail.

use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use disk::partition::{Guid, NewGpt, Partition, write_gpt};
use fault::{Fault, OrFault, Result};
use jail::recipe::{FileEntry, IdRange, Mount, MountKind, Process, Recipe, Root, Seccomp};
use model::{Progress, Watcher};

use super::files;
use super::partial::Partial;
use super::uuids::{Of, root_uuid, uuid};
use crate::attend::attend;
use crate::codes;
use crate::configure::environment;
use crate::confine;
use crate::tree::At;

/// Where the tree without its mounts is seen inside.
const TREE: &str = "/run/posada/tree";
/// Where the disk is seen inside.
const DISK: &str = "/run/posada/disk";
/// Bytes of a block of the root file system.
const BLOCK: u64 = 4096;
/// Sizes of disks are multiples of this many bytes.
const GRAIN: u64 = 1 << 20;

/// All that decides about a disk.
#[derive(Clone, Debug)]
pub struct Making<'a> {
    /// The executable `posada-shim`.
    pub shim_exe: &'a Path,
    /// Ids of the guest, whose namespace `upper` belongs to.
    pub ids: Option<IdRange>,
    /// Id of the guest, from which the identifiers on the disk come.
    pub guest: &'a str,
    /// Root trees with unshifted ids, topmost first, as of [`crate::StoredImage::layers`].
    pub layers: &'a [PathBuf],
    /// What the guest has changed in them. Some files are added; it may be removed afterwards.
    pub upper: &'a Path,
    /// Work directory of the overlay, on the same file system as `upper`.
    pub work: &'a Path,
    /// Files for the tree (host name, hosts, resolver, machine-id), written over what is there.
    pub files: &'a [FileEntry],
    /// The disk, a new sparse raw file that belongs to the caller alone; what is there is replaced in the end.
    pub out: &'a Path,
    /// Its size in bytes, rounded up to whole mebibytes.
    pub size: u64,
    /// Label of its root file system, up to 16 bytes.
    pub label: &'a str,
}

/// Makes the disk: a GPT with a place for a boot loader and the root partition, in which an ext4 of the tree's own
/// mke2fs holds the merged tree with owners as the guest sees them. The tree gets what a machine needs and a container
/// does not: fstab, network by DHCP, a login on the serial port. After a fault there is no disk.
///
/// # Errors
/// [`codes::DISK_TOO_SMALL`], [`codes::NO_MKE2FS`], [`codes::DISK_FULL`], [`codes::MAKING_DISK`], [`codes::IO`],
/// [`disk::FIT`], [`model::CANCELLED`].
pub fn make_disk(making: &Making<'_>, watcher: &dyn Watcher) -> Result<()> {
    tell(watcher, 0);
    let size = making.size.next_multiple_of(GRAIN);
    let partial = Partial::new(making.out)?;
    let root = partition(&partial, size, making.guest)?;
    if let Some(ids) = making.ids {
        // Whoever writes it inside is not the host's root.
        fchown(&partial.file, Some(ids.base), Some(ids.base)).at(making.out)?;
    }
    fill(making, &partial, &root, size, watcher)?;
    fchown(&partial.file, Some(0), Some(0)).at(making.out)?;
    partial.keep(making.out)
}

fn tell(watcher: &dyn Watcher, done: u64) {
    watcher.progress(Progress {
        step: "step-disk".to_owned(),
        done,
        unit: "bytes".to_owned(),
        ..Progress::default()
    });
}

/// Writes the partition table; the last partition is the root's.
fn partition(partial: &Partial, size: u64, guest: &str) -> Result<Partition> {
    let fault = || Fault::new(codes::IO).arg("path", partial.path.display());
    let file = partial.file.try_clone().or_fault(fault)?;
    let image = disk::Raw::create(file, size).at(&partial.path)?;
    let new = |kind, of, name: &str, size| NewGpt {
        kind,
        id: uuid(guest, of),
        name: name.to_owned(),
        size,
        bootable: false,
    };
    let table = write_gpt(
        &image,
        uuid(guest, Of::Disk),
        &[
            new(Guid::BIOS_BOOT, Of::Boot, "boot loader", Some(GRAIN)),
            new(root_type(), Of::RootPartition, "root", None),
        ],
    )?;
    table.partitions.into_iter().next_back().ok_or_else(fault)
}

/// The type of a root partition of this architecture (Discoverable Partitions Specification).
fn root_type() -> Guid {
    match std::env::consts::ARCH {
        "x86_64" => Guid::LINUX_ROOT_X86_64,
        "x86" => Guid::LINUX_ROOT_X86,
        _ => Guid::LINUX,
    }
}

/// Runs the jail that fills the root partition.
fn fill(
    making: &Making<'_>,
    partial: &Partial,
    root: &Partition,
    size: u64,
    watcher: &dyn Watcher,
) -> Result<()> {
    let fault = || Fault::new(codes::MAKING_DISK);
    let command = jail::launch::command(making.shim_exe, &recipe(making, partial, root))?;
    let mut told = 0;
    let ended = attend(command, watcher, &fault, &mut |_| {
        let filled = partial.file.metadata().map_or(0, |about| about.blocks() * 512);
        if filled >= told + GRAIN {
            told = filled;
            tell(watcher, filled);
        }
    })?;
    if ended.status.success() {
        return Ok(());
    }
    // mke2fs tells in English (LC_ALL) and by its exit code 1 alone what has happened.
    let full = ["No space left on device", "Disk quota exceeded"];
    let small = ["Could not allocate block", "Could not allocate inode"];
    Err(if full.iter().any(|text| ended.said(text)) {
        ended.explain(Fault::new(codes::DISK_FULL).arg("path", making.out.display()))
    } else if small.iter().any(|text| ended.said(text)) {
        ended.explain(Fault::new(codes::DISK_TOO_SMALL).arg("size", size >> 20))
    } else if ended.status.code() == Some(127) {
        Fault::new(codes::NO_MKE2FS)
    } else {
        ended.explain(fault())
    })
}

/// The jail: the guest's tree as its root, seen a second time without what is mounted in it, and the disk.
fn recipe(making: &Making<'_>, partial: &Partial, root: &Partition) -> Recipe {
    let mount = |target: &str, what, read_only| Mount {
        target: target.into(),
        what,
        read_only,
    };
    let mut mounts = confine::script_mounts();
    mounts.extend([
        mount(
            "/run",
            MountKind::Tmpfs {
                options: "mode=755,size=16m".to_owned(),
            },
            false,
        ),
        mount(TREE, MountKind::BareRoot, true),
        mount(
            DISK,
            MountKind::Bind {
                source: partial.path.clone(),
                idmap: false,
                recursive: false,
            },
            false,
        ),
    ]);
    let mut files = files::of_guest(making.guest);
    files.extend(making.files.iter().cloned());
    let argv = ["/bin/sh", "-c", &script(making, root)];
    Recipe {
        files,
        ..confine::recipe(
            making.ids,
            Root::Overlay {
                layers: making.layers.to_vec(),
                upper: making.upper.to_owned(),
                work: making.work.to_owned(),
            },
            mounts,
            jail::guest::capabilities(false),
            // The disk is synced when it is whole.
            Seccomp::Build,
            Process {
                argv: argv.map(str::to_owned).to_vec(),
                env: environment(),
                ..Process::default()
            },
        )
    }
}

/// What runs inside (mke2fs(8)). The file is all zeroes: nothing has to be discarded, the journal needs no zeroes
/// again, and the inode tables get their holes now instead of zeroes by the guest's kernel.
fn script(making: &Making<'_>, root: &Partition) -> String {
    format!(
        "set -e\ncd /\numask 022\n{}exec mke2fs -q -F -t ext4 -b {BLOCK} -L {} -U {} \
         -E offset={},hash_seed={},nodiscard,lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0 \
         -d {TREE} {DISK} {}\n",
        files::enabling(),
        quoted(making.label),
        root_uuid(making.guest),
        root.start,
        uuid(making.guest, Of::HashSeed),
        root.size / BLOCK,
    )
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_users_stay_words() {
        assert_eq!(quoted("web"), "'web'");
        assert_eq!(quoted("a'; reboot; '"), r"'a'\''; reboot; '\'''");
    }
}
