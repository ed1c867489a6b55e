//! Finds what a disk's own system would start: kernel, initrd and command line, as its boot loader has them.
//!
//! Read at every start of a machine that boots directly, so that a kernel that was upgraded inside is the one that
//! comes up. Everything is a pure function of the disk's bytes and of nothing else, bounded in size and time, made for
//! a helper process without privileges. Looked at, in this order: GRUB's menu, entries of the Boot Loader
//! Specification, `extlinux.conf`, the links `/vmlinuz` and `/initrd.img`, the newest `/boot/vmlinuz-*`. Only ext2 to
//! ext4 are read; what else is on the disk is told as a [`Fact`].

mod entries;
mod grub;
mod grub_script;
mod lz4;
mod newest;
mod ramdisk;
mod version;
mod volumes;

use std::fmt;

use disk::Image;
use disk::ext4;
use fault::{Code, Fault, Result};
use serde::{Deserialize, Serialize};

pub use ramdisk::{Driver, Virtio};
pub use version::compare as compare_versions;

use volumes::{Place, Volumes};

/// No file system with a system on it is found; argument `found` tells what is there.
pub const NO_SYSTEM: Code = Code("FND001");
/// There is a system, but no kernel on it.
pub const NO_KERNEL: Code = Code("FND002");
/// A file that the boot loader names cannot be read; argument `path`.
pub const UNREADABLE: Code = Code("FND003");
/// Neither kernel nor initrd can drive the machine's disk; arguments `driver` and `version`.
pub const NO_VIRTIO: Code = Code("FND004");

/// Most bytes of a kernel.
pub const MOST_KERNEL: u64 = 256 << 20;
/// Most bytes of all initrds together.
pub const MOST_INITRD: u64 = 1 << 30;
/// Most bytes of a configuration file.
const MOST_CONFIG: u64 = 1 << 20;

/// Who named the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The default entry of GRUB's menu.
    Grub,
    /// An entry of the Boot Loader Specification.
    LoaderEntry,
    /// `extlinux.conf`.
    Extlinux,
    /// The links `/vmlinuz` and `/initrd.img`.
    Links,
    /// Nobody: it is the newest one there.
    Newest,
}

/// Something about the disk that its owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// A partition (0: the whole disk) holds a file system that is not read here.
    OtherFileSystem {
        /// Number of the partition.
        partition: u32,
        /// Its name, as far as its first bytes tell.
        kind: String,
    },
    /// A file system cannot be read.
    DamagedFileSystem {
        /// Number of the partition.
        partition: u32,
        /// What is wrong with it.
        what: String,
    },
    /// The first partition table is bad; the one at the end of the disk was taken.
    BackupTable,
    /// The file system was not unmounted; blocks of its journal were used.
    JournalReplayed {
        /// Number of the partition.
        partition: u32,
        /// How many blocks.
        blocks: usize,
    },
    /// A configuration was there but led to nothing that can be read.
    Skipped {
        /// Whose configuration it was.
        source: Source,
        /// Why.
        what: String,
    },
    /// No initrd was named or found.
    NoInitrd,
    /// Nothing named a root file system; the one with the system was put into the command line.
    RootDerived,
}

/// How to start a disk's system, apart from the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The kernel's command line, with a `root=` in it.
    pub command_line: String,
    /// Version of the kernel, from its own header or its name.
    pub version: Option<String>,
    /// Title of the menu entry.
    pub title: Option<String>,
    /// Who named the kernel.
    pub source: Source,
    /// Where the kernel stands in its file system.
    pub kernel_path: String,
    /// Where the initrds stand.
    pub initrd_paths: Vec<String>,
    /// UUID of the file system with the system on it.
    pub root_uuid: String,
    /// Number of its partition; 0 when it is the whole disk.
    pub root_partition: u32,
    /// Whether the machine's disk can be driven.
    pub virtio: Virtio,
    /// What else was seen.
    pub facts: Vec<Fact>,
}

impl Start {
    /// Refuses a system that would wait for its root file system for ever, because it has no driver for the machine's
    /// disk. One of which that is not known passes.
    ///
    /// # Errors
    /// [`NO_VIRTIO`].
    pub fn require_virtio(&self) -> Result<()> {
        match self.virtio.missing() {
            None => Ok(()),
            Some(driver) => Err(Fault::new(NO_VIRTIO)
                .arg("driver", driver)
                .arg("version", self.version.as_deref().unwrap_or("?"))),
        }
    }
}

/// A kernel and an initrd with how to start them.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The kernel's file.
    pub kernel: Vec<u8>,
    /// All initrds, one behind the other.
    pub initrd: Option<Vec<u8>>,
    /// The rest.
    pub start: Start,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("kernel", &self.kernel.len())
            .field("initrd", &self.initrd.as_ref().map(Vec::len))
            .field("start", &self.start)
            .finish()
    }
}

/// What a configuration names, before any of it is read: files on volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    title: Option<String>,
    volume: usize,
    kernel: String,
    initrds: Vec<(usize, String)>,
    options: String,
}

/// Finds kernel, initrd and command line on a disk.
///
/// # Errors
/// [`NO_SYSTEM`], [`NO_KERNEL`], [`UNREADABLE`], or what reading the partition table says.
pub fn find(image: &dyn Image) -> Result<Found> {
    let mut facts = Vec::new();
    let volumes = Volumes::open(image, &mut facts)?;
    let root = volumes.root().ok_or_else(|| {
        let seen: Vec<String> = facts.iter().map(Fact::to_string).collect();
        let seen = if seen.is_empty() {
            "-".to_owned()
        } else {
            seen.join(", ")
        };
        Fault::new(NO_SYSTEM).arg("found", seen)
    })?;
    let places = volumes.places(root);
    let mut last = None;
    for source in [
        Source::Grub,
        Source::LoaderEntry,
        Source::Extlinux,
        Source::Links,
        Source::Newest,
    ] {
        for choice in choices(source, &volumes, root, &places) {
            match choice.and_then(|choice| load(&volumes, root, source, &choice)) {
                Ok(mut found) => {
                    found.start.facts.splice(0..0, facts);
                    return Ok(found);
                }
                Err(fault) => {
                    facts.push(Fact::Skipped {
                        source,
                        what: fault.to_string(),
                    });
                    last = Some(fault);
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(NO_KERNEL)))
}

/// What one source names, in each place where it may have a configuration.
fn choices(source: Source, volumes: &Volumes<'_>, root: usize, places: &[Place]) -> Vec<Result<Choice>> {
    match source {
        Source::Grub => places
            .iter()
            .filter_map(|place| grub::choose(volumes, place).transpose())
            .collect(),
        Source::LoaderEntry => places
            .iter()
            .filter_map(|place| entries::loader(volumes, place).map(Ok))
            .collect(),
        Source::Extlinux => places
            .iter()
            .filter_map(|place| entries::extlinux(volumes, place).map(Ok))
            .collect(),
        Source::Links => newest::links(volumes, root, places).into_iter().map(Ok).collect(),
        Source::Newest => newest::newest(volumes, places).into_iter().map(Ok).collect(),
    }
}

/// Reads what was chosen.
fn load(volumes: &Volumes<'_>, root: usize, source: Source, choice: &Choice) -> Result<Found> {
    let unreadable = |path: &str, error: ext4::Error| Fault::new(UNREADABLE).arg("path", path).because(error);
    let read = |volume: usize, path: &str, most| {
        volumes
            .read(volume, path, most)
            .map_err(|error| unreadable(path, error))
    };
    let kernel = read(choice.volume, &choice.kernel, MOST_KERNEL)?;
    let mut initrd: Option<Vec<u8>> = None;
    for (volume, path) in &choice.initrds {
        let all = initrd.get_or_insert_default();
        all.resize(all.len().next_multiple_of(4), 0);
        let bytes = read(
            *volume,
            path,
            MOST_INITRD - all.len().min(MOST_INITRD as usize) as u64,
        )?;
        if all.is_empty() {
            *all = bytes;
        } else {
            all.extend(bytes);
        }
    }
    let mut facts = Vec::new();
    if initrd.is_none() {
        facts.push(Fact::NoInitrd);
    }
    let mut command_line = choice.options.trim().to_owned();
    if !command_line
        .split_whitespace()
        .any(|word| word.starts_with("root="))
    {
        let device = format!("root=UUID={} ro", volumes.uuid(root));
        command_line = format!("{device} {command_line}").trim_end().to_owned();
        facts.push(Fact::RootDerived);
    }
    let named = choice
        .kernel
        .rsplit('/')
        .next()
        .and_then(|name| name.split_once('-'))
        .map(|(_, version)| version.to_owned());
    let version = version::of_kernel(&kernel).or(named);
    let virtio = ramdisk::virtio(volumes, root, choice, version.as_deref(), initrd.as_deref());
    Ok(Found {
        start: Start {
            command_line,
            version,
            title: choice.title.clone(),
            source,
            kernel_path: choice.kernel.clone(),
            initrd_paths: choice.initrds.iter().map(|(_, path)| path.clone()).collect(),
            root_uuid: volumes.uuid(root),
            root_partition: volumes.partition(root),
            virtio,
            facts,
        },
        kernel,
        initrd,
    })
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::OtherFileSystem { partition, kind } => write!(f, "{partition}: {kind}"),
            Fact::DamagedFileSystem { partition, what } => write!(f, "{partition}: {what}"),
            Fact::BackupTable => f.write_str("GPT: 2"),
            Fact::JournalReplayed { partition, blocks } => write!(f, "{partition}: jbd2 {blocks}"),
            Fact::Skipped { source, what } => write!(f, "{source:?}: {what}"),
            Fact::NoInitrd => f.write_str("initrd: 0"),
            Fact::RootDerived => f.write_str("root=UUID"),
        }
    }
}

#[cfg(test)]
mod tests;
