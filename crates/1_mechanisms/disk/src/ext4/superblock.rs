//! The superblock and the places of the group descriptors.
//!
//! Follows the kernel's `Documentation/filesystems/ext4/globals.rst` and `group_descr.rst`.

use super::sums::crc32c;
use super::{Error, Result, le16, le32};
use crate::partition::Guid;

/// Where the superblock stands, and its length.
pub(super) const AT: u64 = 1024;
pub(super) const LEN: usize = 1024;

/// The file type stands in directory entries.
const FILETYPE: u32 = 0x2;
/// The journal holds what the file system does not.
const RECOVER: u32 = 0x4;
const META_BG: u32 = 0x10;
const BITS_64: u32 = 0x80;
const CSUM_SEED: u32 = 0x2000;
/// Everything that reading a plain file copes with, some of it by refusing single files: file types, recovery, meta
/// block groups, extents, 64 bits, multiple mount protection, flexible groups, attributes in inodes, the checksum
/// seed, large directories, data in inodes, encryption and case folding.
const KNOWN: u32 = FILETYPE
    | RECOVER
    | META_BG
    | 0x40
    | BITS_64
    | 0x100
    | 0x200
    | 0x400
    | CSUM_SEED
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

const COMPAT_JOURNAL: u32 = 0x4;
const COMPAT_SPARSE2: u32 = 0x200;
const RO_SPARSE: u32 = 0x1;
const RO_METADATA_CSUM: u32 = 0x400;

/// Most groups of a file system: 128 TiB at 4 KiB blocks.
const MOST_GROUPS: u64 = 1 << 20;

/// What is used of the superblock; sizes are bounded and agree with each other.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    pub(super) block_size: u32,
    pub(super) blocks: u64,
    first_block: u64,
    blocks_per_group: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    descriptor_size: u16,
    pub(super) groups: u64,
    compatible: u32,
    incompatible: u32,
    read_compatible: u32,
    first_meta_group: u32,
    backup_groups: [u32; 2],
    pub(super) seed: u32,
    pub(super) uuid: Guid,
    pub(super) label: String,
    journal: u32,
}

impl Superblock {
    /// Whether these bytes claim to be one.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        le16(bytes, 0x38) == 0xef53
    }

    /// Reads and checks a superblock for a device of this many bytes.
    pub(super) fn parse(bytes: &[u8], device: u64) -> Result<Self> {
        if !Self::is_one(bytes) {
            return Err(Error::Not);
        }
        let incompatible = le32(bytes, 0x60);
        if incompatible & !KNOWN != 0 {
            let unknown = incompatible & !KNOWN;
            return Err(Error::Unsupported(format!("features {unknown:#x}")));
        }
        let log = le32(bytes, 0x18);
        if log > 6 {
            return Err(Error::Damaged("block size"));
        }
        let old = le32(bytes, 0x4c) == 0;
        let wide = incompatible & BITS_64 != 0;
        let read_compatible = le32(bytes, 0x64);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[0x68..0x78]);
        let label = bytes[0x78..0x88].split(|byte| *byte == 0).next();
        let high = if wide { le32(bytes, 0x150) } else { 0 };
        let mut found = Superblock {
            block_size: 1024 << log,
            blocks: u64::from(le32(bytes, 4)) | u64::from(high) << 32,
            first_block: u64::from(le32(bytes, 0x14)),
            blocks_per_group: le32(bytes, 0x20),
            inodes_per_group: le32(bytes, 0x28),
            inode_size: if old { 128 } else { le16(bytes, 0x58) },
            descriptor_size: if wide { le16(bytes, 0xfe) } else { 32 },
            groups: 0,
            compatible: le32(bytes, 0x5c),
            incompatible,
            read_compatible,
            first_meta_group: le32(bytes, 0x104),
            backup_groups: [le32(bytes, 0x24c), le32(bytes, 0x250)],
            seed: if incompatible & CSUM_SEED != 0 {
                le32(bytes, 0x270)
            } else {
                crc32c(!0, &uuid)
            },
            uuid: Guid(uuid),
            label: String::from_utf8_lossy(label.unwrap_or_default()).into_owned(),
            journal: le32(bytes, 0xe0),
        };
        if found.has_checksums() && crc32c(!0, &bytes[..0x3fc]) != le32(bytes, 0x3fc) {
            return Err(Error::Damaged("checksum of the superblock"));
        }
        found.check(device)?;
        Ok(found)
    }

    fn check(&mut self, device: u64) -> Result<()> {
        let size = u64::from(self.block_size);
        if self
            .blocks
            .checked_mul(size)
            .is_none_or(|bytes| bytes == 0 || bytes > device)
        {
            return Err(Error::Damaged("size of the file system"));
        }
        if self.first_block > u64::from(self.block_size == 1024) || self.blocks <= self.first_block {
            return Err(Error::Damaged("first block"));
        }
        if self.blocks_per_group == 0 || self.inodes_per_group == 0 {
            return Err(Error::Damaged("size of the groups"));
        }
        let inode = u32::from(self.inode_size);
        if !inode.is_power_of_two() || !(128..=self.block_size).contains(&inode) {
            return Err(Error::Damaged("size of the inodes"));
        }
        let descriptor = u32::from(self.descriptor_size);
        if !descriptor.is_power_of_two() || !(32..=1024).contains(&descriptor) {
            return Err(Error::Damaged("size of the group descriptors"));
        }
        if self.incompatible & BITS_64 != 0 && descriptor < 64 {
            return Err(Error::Damaged("size of the group descriptors"));
        }
        self.groups = (self.blocks - self.first_block).div_ceil(u64::from(self.blocks_per_group));
        if self.groups > MOST_GROUPS {
            return Err(Error::Unsupported(format!("{} groups", self.groups)));
        }
        Ok(())
    }

    /// Whether inodes carry checksums.
    pub(super) fn has_checksums(&self) -> bool {
        self.read_compatible & RO_METADATA_CSUM != 0
    }

    /// Whether directory entries carry the file type.
    pub(super) fn has_file_types(&self) -> bool {
        self.incompatible & FILETYPE != 0
    }

    /// Whether block numbers have 64 bits.
    pub(super) fn is_wide(&self) -> bool {
        self.incompatible & BITS_64 != 0
    }

    /// The inode of a journal that has to be replayed.
    pub(super) fn dirty_journal(&self) -> Result<Option<u32>> {
        if self.compatible & COMPAT_JOURNAL == 0 || self.incompatible & RECOVER == 0 {
            return Ok(None);
        }
        if self.journal == 0 {
            return Err(Error::Unsupported("a journal on another device".to_owned()));
        }
        Ok(Some(self.journal))
    }

    /// Block of a group's descriptor and its offset in there.
    pub(super) fn descriptor(&self, group: u64) -> (u64, usize) {
        let size = u64::from(self.descriptor_size);
        let per_block = u64::from(self.block_size) / size;
        let block = group / per_block;
        let offset = (group % per_block * size) as usize;
        if self.incompatible & META_BG == 0 || block < u64::from(self.first_meta_group) {
            return (AT / u64::from(self.block_size) + 1 + block, offset);
        }
        // In the first group of the meta group, behind a superblock where there is one.
        let first = block * per_block;
        let start = self.first_block + first * u64::from(self.blocks_per_group);
        let unnumbered = block == 0 && self.block_size == 1024 && self.first_block == 0;
        let before = u64::from(self.has_superblock(first)) + u64::from(unnumbered);
        (start + before, offset)
    }

    fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.compatible & COMPAT_SPARSE2 != 0 {
            return self
                .backup_groups
                .iter()
                .any(|backup| u64::from(*backup) == group);
        }
        let power = |base: u64| {
            let mut left = group;
            while left.is_multiple_of(base) {
                left /= base;
            }
            left == 1
        };
        self.read_compatible & RO_SPARSE == 0 || power(3) || power(5) || power(7)
    }
}
