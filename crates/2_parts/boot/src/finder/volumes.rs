//! The file systems of a disk, and where in them boot configuration may stand.

use disk::ext4::{self, Entry, Ext4};
use disk::partition::{self, Guid, Kind};
use disk::{Image, Slice};
use fault::Result;

use super::{Fact, MOST_CONFIG};

/// A file system that can be read.
struct Volume<'a> {
    fs: Ext4<Slice<&'a dyn Image>>,
    /// Number of its partition; 0 when it is the whole disk.
    partition: u32,
    part_uuid: String,
    kind: Option<Kind>,
    bootable: bool,
}

/// All file systems of a disk that can be read.
pub(super) struct Volumes<'a>(Vec<Volume<'a>>);

/// A directory that holds what `/boot` of the running system holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) volume: usize,
    /// `/boot`, or nothing on a partition of its own.
    pub(super) folder: &'static str,
}

/// What the first bytes of other file systems look like: offset, bytes, name.
const OTHERS: [(u64, &[u8], &str); 9] = [
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0, b"LUKS", "luks"),
    (0x218, b"LVM2 001", "lvm"),
    (0xff6, b"SWAPSPACE2", "swap"),
    (0x36, b"FAT", "vfat"),
    (0x52, b"FAT32", "vfat"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
    (0x8001, b"CD001", "iso9660"),
];

impl<'a> Volumes<'a> {
    /// Opens every partition, or the disk itself when it has no partitions.
    pub(super) fn open(image: &'a dyn Image, facts: &mut Vec<Fact>) -> Result<Self> {
        let mut volumes = Volumes(Vec::new());
        match partition::read(image)? {
            None => volumes.add(image, 0, image.size(), 0, facts, |_| (String::new(), None, false)),
            Some(table) => {
                if table.from_backup {
                    facts.push(Fact::BackupTable);
                }
                for part in &table.partitions {
                    let about = |_: &_| (table.part_uuid(part), Some(part.kind), part.bootable);
                    volumes.add(image, part.start, part.size, part.number, facts, about);
                }
            }
        }
        Ok(volumes)
    }

    fn add(
        &mut self,
        image: &'a dyn Image,
        start: u64,
        size: u64,
        partition: u32,
        facts: &mut Vec<Fact>,
        about: impl Fn(&()) -> (String, Option<Kind>, bool),
    ) {
        let Ok(slice) = Slice::new(image, start, size) else {
            return;
        };
        let (part_uuid, kind, bootable) = about(&());
        match Ext4::open(slice.clone()) {
            Ok(fs) => {
                if fs.replayed() > 0 {
                    let blocks = fs.replayed();
                    facts.push(Fact::JournalReplayed { partition, blocks });
                }
                self.0.push(Volume {
                    fs,
                    partition,
                    part_uuid,
                    kind,
                    bootable,
                });
            }
            Err(ext4::Error::Not) => {
                if let Some(kind) = other(&slice) {
                    let kind = kind.to_owned();
                    facts.push(Fact::OtherFileSystem { partition, kind });
                }
            }
            Err(error) => facts.push(Fact::DamagedFileSystem {
                partition,
                what: error.to_string(),
            }),
        }
    }

    fn fs(&self, volume: usize) -> Result<&Ext4<Slice<&'a dyn Image>>, ext4::Error> {
        self.0
            .get(volume)
            .map(|found| &found.fs)
            .ok_or(ext4::Error::NotFound)
    }

    /// The bytes of a file.
    pub(super) fn read(&self, volume: usize, path: &str, most: u64) -> Result<Vec<u8>, ext4::Error> {
        self.fs(volume)?.read(path, most)
    }

    /// A configuration file as text.
    pub(super) fn text(&self, volume: usize, path: &str) -> Result<String, ext4::Error> {
        let bytes = self.read(volume, path, MOST_CONFIG)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a directory; none when there is no such directory.
    pub(super) fn names(&self, volume: usize, path: &str) -> Vec<String> {
        let listed = self
            .fs(volume)
            .and_then(|fs| fs.read_dir(path))
            .unwrap_or_default();
        let name = |entry: Entry| String::from_utf8(entry.name).ok();
        let mut names: Vec<String> = listed.into_iter().filter_map(name).collect();
        names.sort_unstable();
        names
    }

    /// Whether a path leads to a file or a directory.
    pub(super) fn exists(&self, volume: usize, path: &str) -> bool {
        self.fs(volume).is_ok_and(|fs| fs.metadata(path).is_ok())
    }

    /// Where a link points to.
    pub(super) fn link(&self, volume: usize, path: &str) -> Option<String> {
        let target = self.fs(volume).ok()?.read_link(path).ok()?;
        String::from_utf8(target).ok()
    }

    /// UUID of a file system.
    pub(super) fn uuid(&self, volume: usize) -> String {
        self.fs(volume)
            .map(|fs| fs.uuid().to_string())
            .unwrap_or_default()
    }

    /// Number of the partition of a file system.
    pub(super) fn partition(&self, volume: usize) -> u32 {
        self.0.get(volume).map_or(0, |found| found.partition)
    }

    /// The file system on a partition with this number.
    pub(super) fn by_partition(&self, number: u32) -> Option<usize> {
        self.0.iter().position(|volume| volume.partition == number)
    }

    /// The file system that a device name means: `UUID=…`, `LABEL=…`, `PARTUUID=…`.
    pub(super) fn by_name(&self, name: &str) -> Option<usize> {
        let (key, value) = name.split_once('=')?;
        let value = value.trim_matches('"');
        self.0.iter().position(|volume| match key {
            "UUID" => volume.fs.uuid().to_string().eq_ignore_ascii_case(value),
            "LABEL" => volume.fs.label() == value,
            "PARTUUID" => volume.part_uuid.eq_ignore_ascii_case(value),
            _ => false,
        })
    }

    /// The first file system that has this file.
    pub(super) fn by_file(&self, path: &str) -> Option<usize> {
        (0..self.0.len()).find(|volume| self.exists(*volume, path))
    }

    /// The file system with the system on it.
    pub(super) fn root(&self) -> Option<usize> {
        let marks = [
            "/etc/os-release",
            "/usr/lib/os-release",
            "/etc/fstab",
            "/sbin/init",
            "/usr/sbin/init",
        ];
        let marked = (0..self.0.len()).find(|volume| marks.iter().any(|mark| self.exists(*volume, mark)));
        let typed = || {
            self.0.iter().position(|volume| {
                [Guid::LINUX_ROOT_X86_64, Guid::LINUX_ROOT_X86]
                    .iter()
                    .any(|kind| volume.kind == Some(Kind::Gpt(*kind)))
            })
        };
        let holding = || {
            (0..self.0.len()).find(|volume| {
                let names = self
                    .names(*volume, "/boot")
                    .into_iter()
                    .chain(self.names(*volume, "/"));
                names.into_iter().any(|name| name.starts_with("vmlinuz"))
            })
        };
        marked.or_else(typed).or_else(holding)
    }

    /// Where boot configuration may stand, the likeliest first: what the system mounts on `/boot`, a partition made for
    /// it, the system itself, and then all the others.
    pub(super) fn places(&self, root: usize) -> Vec<Place> {
        let mut places = Vec::new();
        let mut add = |volume, folder| {
            let place = Place { volume, folder };
            if !places.contains(&place) {
                places.push(place);
            }
        };
        if let Some(mounted) = self.mounted_boot(root) {
            add(mounted, "");
        }
        let made = Some(Kind::Gpt(Guid::LINUX_BOOT));
        for (volume, _) in self.0.iter().enumerate().filter(|(_, found)| found.kind == made) {
            add(volume, "");
        }
        add(root, "/boot");
        for (volume, _) in self.0.iter().enumerate().filter(|(_, found)| found.bootable) {
            add(volume, "");
        }
        for volume in 0..self.0.len() {
            add(volume, "/boot");
            add(volume, "");
        }
        places
    }

    /// The file system that `/etc/fstab` puts on `/boot`.
    fn mounted_boot(&self, root: usize) -> Option<usize> {
        let table = self.text(root, "/etc/fstab").ok()?;
        table.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (device, point) = (words.next()?, words.next()?);
            if device.starts_with('#') || point.trim_end_matches('/') != "/boot" {
                return None;
            }
            let number = || {
                let digits = device.trim_start_matches(|c: char| !c.is_ascii_digit());
                let plain = ["/dev/sda", "/dev/vda", "/dev/hda"];
                let number: u32 = digits.parse().ok()?;
                plain
                    .iter()
                    .any(|disk| device.starts_with(disk))
                    .then(|| self.by_partition(number))?
            };
            self.by_name(device).or_else(number)
        })
    }
}

/// The name of a file system that is not read here.
fn other(slice: &dyn Image) -> Option<&'static str> {
    OTHERS.iter().find_map(|(offset, magic, name)| {
        let mut bytes = vec![0; magic.len()];
        slice.read_at(&mut bytes, *offset).ok()?;
        (bytes == *magic).then_some(*name)
    })
}
