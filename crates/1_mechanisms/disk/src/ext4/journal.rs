//! Replaying the journal in memory: which blocks of it stand for which of the file system.
//!
//! Follows `Documentation/filesystems/ext4/journal.rst` and the three passes of the kernel's `fs/jbd2/recovery.c`: find
//! the last whole transaction, collect what was revoked, apply the rest. Checksums of versions 1 to 3 are checked. Fast
//! commits, which the kernel writes behind the log when it is told to, are not applied: the file system then reads as
//! of its last full commit.

use std::collections::HashMap;

use super::blocks;
use super::sums::{crc32_be, crc32c};
use super::volume::{Inode, Logged, Volume};
use super::{Error, Kind, Result};
use crate::Image;

/// First four bytes of every block that the journal itself writes, big-endian like all of it.
pub(super) const MAGIC: u32 = 0xc03b_3998;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;

const COMPAT_CHECKSUM: u32 = 1;
const BITS_64: u32 = 0x2;
const CSUM_V2: u32 = 0x8;
const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
/// The above, revoke blocks and asynchronous commits.
const KNOWN: u32 = 0x3f;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// Most blocks of a journal: 4 GiB at 4 KiB blocks, four times the largest that mke2fs makes.
const MOST_BLOCKS: u32 = 1 << 20;

/// A journal that can be read.
struct Journal<'a, I> {
    volume: &'a Volume<I>,
    inode: Inode,
    /// First block of the log and the first behind it; the log is a ring.
    first: u32,
    end: u32,
    start: u32,
    sequence: u32,
    compatible: u32,
    incompatible: u32,
    seed: u32,
}

/// A block that a descriptor names.
struct Tag {
    block: u64,
    flags: u32,
    sum: u32,
}

/// One block that the journal itself has written, where the log is read in order.
struct Step {
    kind: u32,
    sequence: u32,
    bytes: Vec<u8>,
    /// The place in the log behind it.
    next: u32,
}

/// The blocks that the journal of this inode holds.
pub(super) fn replay<I: Image>(volume: &Volume<I>, inode: u32) -> Result<HashMap<u64, Logged>> {
    let Some(journal) = Journal::open(volume, inode)? else {
        return Ok(HashMap::new());
    };
    let end = journal.last_commit()?;
    let revoked = journal.revoked(end)?;
    journal.apply(end, &revoked)
}

impl<'a, I: Image> Journal<'a, I> {
    /// Reads the journal's superblock; `None` when there is nothing to replay.
    fn open(volume: &'a Volume<I>, inode: u32) -> Result<Option<Self>> {
        let inode = volume.inode(inode)?;
        if inode.metadata.kind != Kind::File {
            return Err(Error::Damaged("journal"));
        }
        let mut journal = Journal {
            volume,
            inode,
            first: 0,
            end: 1,
            start: 0,
            sequence: 0,
            compatible: 0,
            incompatible: 0,
            seed: 0,
        };
        let bytes = journal.read(0)?;
        let kind = be32(&bytes, 4);
        if be32(&bytes, 0) != MAGIC || ![SUPERBLOCK_V1, SUPERBLOCK_V2].contains(&kind) {
            return Err(Error::Damaged("superblock of the journal"));
        }
        if kind == SUPERBLOCK_V2 {
            journal.compatible = be32(&bytes, 0x24);
            journal.incompatible = be32(&bytes, 0x28);
        }
        if journal.incompatible & !KNOWN != 0 {
            let unknown = journal.incompatible & !KNOWN;
            return Err(Error::Unsupported(format!("journal features {unknown:#x}")));
        }
        if journal.has_sums() {
            let mut summed = bytes[..1024].to_vec();
            summed[0xfc..0x100].fill(0);
            if crc32c(!0, &summed) != be32(&bytes, 0xfc) {
                return Err(Error::Damaged("superblock of the journal"));
            }
            journal.seed = crc32c(!0, &bytes[0x30..0x40]);
        }
        let len = be32(&bytes, 0x10);
        let fast = match be32(&bytes, 0x54) {
            _ if journal.incompatible & FAST_COMMIT == 0 => 0,
            0 => 256,
            count => count,
        };
        let size = volume.block_size();
        let room = journal.inode.metadata.size / size;
        journal.first = be32(&bytes, 0x14);
        journal.end = len.saturating_sub(fast);
        journal.sequence = be32(&bytes, 0x18);
        journal.start = be32(&bytes, 0x1c);
        if journal.start == 0 {
            return Ok(None);
        }
        let inside = (journal.first..journal.end).contains(&journal.start);
        if u64::from(be32(&bytes, 0x0c)) != size || !inside || journal.first == 0 || u64::from(len) > room {
            return Err(Error::Damaged("superblock of the journal"));
        }
        if journal.end > MOST_BLOCKS {
            return Err(Error::Unsupported(format!("a journal of {len} blocks")));
        }
        Ok(Some(journal))
    }

    /// Checksums of version 2 or 3.
    fn has_sums(&self) -> bool {
        self.incompatible & (CSUM_V2 | CSUM_V3) != 0
    }

    /// The block of the file system that a block of the journal is.
    fn place(&self, block: u32) -> Result<u64> {
        let run = blocks::find(self.volume, &self.inode, u64::from(block))?;
        run.first.ok_or(Error::Damaged("a hole in the journal"))
    }

    fn read(&self, block: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.volume.block_size() as usize];
        self.volume.read_blocks(self.place(block)?, &mut bytes)?;
        Ok(bytes)
    }

    /// The place in the ring that is `count` behind `block`.
    fn after(&self, block: u32, count: u32) -> u32 {
        let len = self.end - self.first;
        let offset = u64::from(block - self.first) + u64::from(count);
        // Less than the length of the ring, which has 32 bits.
        self.first + (offset % u64::from(len)) as u32
    }

    /// The journal's own block at this place, when it belongs to this transaction.
    fn step(&self, at: u32, sequence: u32) -> Result<Option<Step>> {
        let bytes = self.read(at)?;
        let kind = be32(&bytes, 4);
        let ours = be32(&bytes, 0) == MAGIC && be32(&bytes, 8) == sequence;
        if !ours || ![DESCRIPTOR, COMMIT, REVOKE].contains(&kind) {
            return Ok(None);
        }
        if self.has_sums() && !self.sum_holds(kind, &bytes) {
            return Ok(None);
        }
        let logged = if kind == DESCRIPTOR {
            self.tags(&bytes).len()
        } else {
            0
        };
        let count = u32::try_from(logged).map_or(u32::MAX, |count| count + 1);
        Ok(Some(Step {
            kind,
            sequence,
            next: self.after(at, count),
            bytes,
        }))
    }

    /// Whether the checksum of one of the journal's own blocks is right.
    fn sum_holds(&self, kind: u32, bytes: &[u8]) -> bool {
        let at = if kind == COMMIT { 16 } else { bytes.len() - 4 };
        let sum = crc32c(self.seed, &bytes[..at]);
        let sum = crc32c(sum, &[0; 4]);
        crc32c(sum, &bytes[at + 4..]) == be32(bytes, at)
    }

    /// Goes over the log from its start and hands each of the journal's own blocks on, with its place, until one says
    /// stop, the sequence breaks or the whole ring has been seen.
    fn walk(&self, mut each: impl FnMut(&Step, u32) -> Result<bool>) -> Result<()> {
        let (mut at, mut sequence) = (self.start, self.sequence);
        let mut seen = 0;
        while seen < self.end - self.first {
            let Some(step) = self.step(at, sequence)? else {
                return Ok(());
            };
            if !each(&step, at)? {
                return Ok(());
            }
            if step.kind == COMMIT {
                sequence = sequence.wrapping_add(1);
            }
            let ring = self.end - self.first;
            let went = (step.next + ring - at) % ring;
            seen = seen.saturating_add(if went == 0 { ring } else { went });
            at = step.next;
        }
        Ok(())
    }

    /// The sequence number behind the last transaction that is whole.
    fn last_commit(&self) -> Result<u32> {
        let mut end = self.sequence;
        let mut sum = !0;
        self.walk(|step, at| {
            match step.kind {
                DESCRIPTOR if self.compatible & COMPAT_CHECKSUM != 0 => {
                    sum = crc32_be(sum, &step.bytes);
                    for distance in 1..=self.tags(&step.bytes).len() as u32 {
                        sum = crc32_be(sum, &self.read(self.after(at, distance))?);
                    }
                }
                COMMIT => {
                    if self.compatible & COMPAT_CHECKSUM != 0 && !self.has_sums() {
                        let (kind, len) = (step.bytes[12], step.bytes[13]);
                        let stored = be32(&step.bytes, 16);
                        let none = (kind, len, stored) == (0, 0, 0);
                        if !none && (kind, len, stored) != (1, 4, sum) {
                            return Ok(false);
                        }
                        sum = !0;
                    }
                    end = step.sequence.wrapping_add(1);
                }
                _ => {}
            }
            Ok(true)
        })?;
        Ok(end)
    }

    /// For each revoked block the last transaction that revoked it: what it and earlier ones logged does not count.
    fn revoked(&self, end: u32) -> Result<HashMap<u64, u32>> {
        let mut revoked = HashMap::new();
        self.walk(|step, _| {
            if step.sequence == end {
                return Ok(false);
            }
            if step.kind == REVOKE {
                let wide = self.incompatible & BITS_64 != 0;
                let size = if wide { 8 } else { 4 };
                let tail = if self.has_sums() { 4 } else { 0 };
                let used = be32(&step.bytes, 12) as usize;
                if used > step.bytes.len() - tail {
                    return Err(Error::Damaged("revoked blocks of the journal"));
                }
                for record in step.bytes.get(16..used).unwrap_or_default().chunks_exact(size) {
                    let block = if wide {
                        u64::from(be32(record, 0)) << 32 | u64::from(be32(record, 4))
                    } else {
                        u64::from(be32(record, 0))
                    };
                    revoked.insert(block, step.sequence);
                }
            }
            Ok(true)
        })?;
        Ok(revoked)
    }

    /// Collects the blocks of all whole transactions.
    fn apply(&self, end: u32, revoked: &HashMap<u64, u32>) -> Result<HashMap<u64, Logged>> {
        let mut logged = HashMap::new();
        self.walk(|step, at| {
            if step.sequence == end {
                return Ok(false);
            }
            if step.kind == DESCRIPTOR {
                for (tag, distance) in self.tags(&step.bytes).iter().zip(1..) {
                    let later = |revoke: &u32| revoke.wrapping_sub(step.sequence).cast_signed() >= 0;
                    if revoked.get(&tag.block).is_some_and(later) {
                        continue;
                    }
                    let place = self.after(at, distance);
                    if self.has_sums() && !self.data_sum_holds(tag, step.sequence, place)? {
                        return Err(Error::Damaged("checksum of a block in the journal"));
                    }
                    let entry = Logged {
                        block: self.place(place)?,
                        escaped: tag.flags & TAG_ESCAPED != 0,
                    };
                    logged.insert(tag.block, entry);
                }
            }
            Ok(true)
        })?;
        Ok(logged)
    }

    fn data_sum_holds(&self, tag: &Tag, sequence: u32, place: u32) -> Result<bool> {
        let sum = crc32c(self.seed, &sequence.to_be_bytes());
        let sum = crc32c(sum, &self.read(place)?);
        Ok(if self.incompatible & CSUM_V3 != 0 {
            sum == tag.sum
        } else {
            sum & 0xffff == tag.sum
        })
    }

    /// The tags of a descriptor block.
    fn tags(&self, bytes: &[u8]) -> Vec<Tag> {
        let v3 = self.incompatible & CSUM_V3 != 0;
        let wide = self.incompatible & BITS_64 != 0;
        // Version 2 checksums made tags two bytes longer than they are used.
        let extra = if self.incompatible & CSUM_V2 != 0 { 2 } else { 0 };
        let len = match (v3, wide) {
            (true, _) => 16,
            (false, true) => 12 + extra,
            (false, false) => 8 + extra,
        };
        let end = bytes.len() - if self.has_sums() { 4 } else { 0 };
        let mut at = 12;
        let mut tags = Vec::new();
        while at + len <= end {
            let tag = &bytes[at..at + len];
            let (flags, sum) = if v3 {
                (be32(tag, 4), be32(tag, 12))
            } else {
                (be32(tag, 4) & 0xffff, be32(tag, 4) >> 16)
            };
            let high = if wide { be32(tag, 8) } else { 0 };
            tags.push(Tag {
                block: u64::from(high) << 32 | u64::from(be32(tag, 0)),
                flags,
                sum,
            });
            at += len;
            if flags & TAG_SAME_UUID == 0 {
                at += 16;
            }
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        tags
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}
