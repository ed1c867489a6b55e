//! Blocks of the file system, with those that the journal replaces, and the inodes in them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::sums::crc32c;
use super::superblock::{AT, LEN, Superblock};
use super::{Error, Kind, Metadata, Result, journal, le16, le32};
use crate::Image;

/// Blocks of metadata in memory.
const CACHED: usize = 32;

/// A block of the journal that stands for one of the file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    /// Where the journal keeps it.
    pub(super) block: u64,
    /// Its first four bytes were the journal's magic number and have been zeroed.
    pub(super) escaped: bool,
}

/// The blocks of a file system as they are after its journal has been replayed.
pub(super) struct Volume<I> {
    image: I,
    pub(super) superblock: Superblock,
    pub(super) logged: HashMap<u64, Logged>,
    cache: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// An inode in memory.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) metadata: Metadata,
    pub(super) flags: u32,
    /// Extent tree, block numbers or the target of a short link.
    pub(super) root: [u8; 60],
}

impl Inode {
    const EXTENTS: u32 = 0x8_0000;
    const INLINE: u32 = 0x1000_0000;
    const ENCRYPTED: u32 = 0x800;
    const COMPRESSED: u32 = 0x4;

    /// Whether its blocks are found by extents.
    pub(super) fn has_extents(&self) -> bool {
        self.flags & Self::EXTENTS != 0
    }

    /// Refuses an inode whose bytes do not stand plainly in blocks.
    pub(super) fn check_plain(&self) -> Result<()> {
        for (flag, what) in [
            (Self::INLINE, "a file inside of its inode"),
            (Self::ENCRYPTED, "an encrypted file"),
            (Self::COMPRESSED, "a compressed file"),
        ] {
            if self.flags & flag != 0 {
                return Err(Error::Unsupported(what.to_owned()));
            }
        }
        Ok(())
    }
}

impl<I: Image> Volume<I> {
    /// Reads the superblock, replays the journal in memory and reads the superblock again.
    pub(super) fn open(image: I) -> Result<Self> {
        if image.size() < AT + LEN as u64 {
            return Err(Error::Not);
        }
        let mut bytes = [0; LEN];
        image.read_at(&mut bytes, AT)?;
        let superblock = Superblock::parse(&bytes, image.size())?;
        let dirty = superblock.dirty_journal()?;
        let mut volume = Volume {
            image,
            superblock,
            logged: HashMap::new(),
            cache: Mutex::default(),
        };
        if let Some(inode) = dirty {
            volume.logged = journal::replay(&volume, inode)?;
            volume
                .cache
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            volume.read_superblock()?;
        }
        Ok(volume)
    }

    /// Takes the superblock that the journal holds, where it holds one.
    fn read_superblock(&mut self) -> Result<()> {
        let size = u64::from(self.superblock.block_size);
        let (block, offset) = (AT / size, (AT % size) as usize);
        if self.logged.contains_key(&block) {
            let bytes = self.block(block)?;
            let bytes = bytes
                .get(offset..offset + LEN)
                .ok_or(Error::Damaged("superblock"))?;
            let fresh = Superblock::parse(bytes, self.image.size())?;
            if fresh.block_size != self.superblock.block_size {
                return Err(Error::Damaged("superblock in the journal"));
            }
            self.superblock = fresh;
        }
        Ok(())
    }

    /// Bytes of a block.
    pub(super) fn block_size(&self) -> u64 {
        u64::from(self.superblock.block_size)
    }

    fn check(&self, block: u64, count: u64) -> Result<()> {
        match block.checked_add(count) {
            Some(end) if block > 0 && end <= self.superblock.blocks => Ok(()),
            // The superblock's own block can be asked for when blocks are large.
            Some(end) if end == 1 && self.block_size() > 1024 => Ok(()),
            _ => Err(Error::Damaged("block number")),
        }
    }

    /// A block of metadata.
    pub(super) fn block(&self, block: u64) -> Result<Arc<[u8]>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = cache.iter().position(|(number, _)| *number == block) {
            let found = cache.remove(at).ok_or(Error::Damaged("block number"))?;
            let bytes = found.1.clone();
            cache.push_front(found);
            return Ok(bytes);
        }
        let mut bytes = vec![0; self.superblock.block_size as usize];
        self.read_blocks(block, &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        cache.truncate(CACHED - 1);
        cache.push_front((block, bytes.clone()));
        Ok(bytes)
    }

    /// Fills a buffer, whose last block may be cut off, with blocks that follow each other.
    pub(super) fn read_blocks(&self, first: u64, buf: &mut [u8]) -> Result<()> {
        let size = self.block_size();
        let count = (buf.len() as u64).div_ceil(size);
        self.check(first, count)?;
        let whole = first..first + count;
        if self.logged.is_empty() || !whole.clone().any(|block| self.logged.contains_key(&block)) {
            return Ok(self.image.read_at(buf, first * size)?);
        }
        for (block, piece) in whole.zip(buf.chunks_mut(size as usize)) {
            let logged = self.logged.get(&block);
            let place = logged.map_or(block, |logged| logged.block);
            self.check(place, 1)?;
            self.image.read_at(piece, place * size)?;
            if logged.is_some_and(|logged| logged.escaped) && piece.len() >= 4 {
                piece[..4].copy_from_slice(&journal::MAGIC.to_be_bytes());
            }
        }
        Ok(())
    }

    /// Reads an inode.
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let superblock = &self.superblock;
        let index = number.checked_sub(1).ok_or(Error::Damaged("inode number"))?;
        let group = u64::from(index / superblock.inodes_per_group);
        if group >= superblock.groups {
            return Err(Error::Damaged("inode number"));
        }
        let (block, offset) = superblock.descriptor(group);
        let descriptors = self.block(block)?;
        let descriptor = descriptors
            .get(offset..)
            .ok_or(Error::Damaged("group descriptor"))?;
        let mut table = u64::from(le32(descriptor, 8));
        if superblock.is_wide() {
            table |= u64::from(le32(descriptor, 0x28)) << 32;
        }
        let offset = u64::from(index % superblock.inodes_per_group) * u64::from(superblock.inode_size);
        let block = table
            .checked_add(offset / self.block_size())
            .ok_or(Error::Damaged("inode table"))?;
        let bytes = self.block(block)?;
        let from = (offset % self.block_size()) as usize;
        let bytes = bytes
            .get(from..from + usize::from(superblock.inode_size))
            .ok_or(Error::Damaged("inode table"))?;
        self.parse_inode(number, bytes)
    }

    fn parse_inode(&self, number: u32, bytes: &[u8]) -> Result<Inode> {
        if self.superblock.has_checksums() && !self.inode_sum_holds(number, bytes) {
            return Err(Error::Damaged("checksum of an inode"));
        }
        let mode = le16(bytes, 0);
        let kind = Kind::of_mode(mode).ok_or(Error::Damaged("file type"))?;
        let wide = |low, high| u32::from(le16(bytes, low)) | u32::from(le16(bytes, high)) << 16;
        let mut root = [0; 60];
        root.copy_from_slice(&bytes[0x28..0x64]);
        Ok(Inode {
            metadata: Metadata {
                inode: number,
                kind,
                mode: mode & 0o7777,
                uid: wide(2, 0x78),
                gid: wide(0x18, 0x7a),
                size: u64::from(le32(bytes, 4)) | u64::from(le32(bytes, 0x6c)) << 32,
                modified: i64::from(le32(bytes, 0x10).cast_signed()),
            },
            flags: le32(bytes, 0x20),
            root,
        })
    }

    /// Whether the checksum of an inode is right, with its own two fields counted as zero.
    fn inode_sum_holds(&self, number: u32, bytes: &[u8]) -> bool {
        let mut sum = crc32c(self.superblock.seed, &number.to_le_bytes());
        sum = crc32c(sum, &bytes[0x64..0x68]);
        sum = crc32c(sum, &bytes[..0x7c]);
        sum = crc32c(sum, &[0; 2]);
        sum = crc32c(sum, &bytes[0x7e..0x80]);
        let low = le16(bytes, 0x7c);
        if bytes.len() == 128 {
            return sum as u16 == low;
        }
        // The high half is there when the extra fields of this inode reach so far.
        sum = crc32c(sum, &bytes[0x80..0x82]);
        let high = if le16(bytes, 0x80) >= 4 {
            sum = crc32c(sum, &[0; 2]);
            sum = crc32c(sum, &bytes[0x84..]);
            le16(bytes, 0x82)
        } else {
            sum = crc32c(sum, &bytes[0x82..]);
            (sum >> 16) as u16
        };
        sum == u32::from(low) | u32::from(high) << 16
    }
}
