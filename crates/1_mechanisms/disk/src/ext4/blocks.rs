//! From the blocks of a file to those of the file system: extent trees and indirect blocks.
//!
//! Follows the kernel's `Documentation/filesystems/ext4/ifork.rst`.

use super::volume::{Inode, Volume};
use super::{Error, Result, le16, le32};
use crate::Image;

const EXTENT_MAGIC: u16 = 0xf30a;
/// Deepest extent tree.
const DEEPEST: u16 = 5;
/// Extents longer than this are reserved and read as zeroes.
const LONGEST: u16 = 32768;

/// Where a run of blocks of a file stands: on these blocks, or nowhere (zeroes); and its length, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: Option<u64>,
    pub(super) len: u64,
}

/// The run that begins with this block of the file.
pub(super) fn find<I: Image>(volume: &Volume<I>, inode: &Inode, block: u64) -> Result<Run> {
    if inode.has_extents() {
        let block = u32::try_from(block).map_err(|_| Error::Damaged("size of a file"))?;
        by_extents(volume, &inode.root, block)
    } else {
        by_indirection(volume, &inode.root, block)
    }
}

fn by_extents<I: Image>(volume: &Volume<I>, root: &[u8], block: u32) -> Result<Run> {
    let mut node: std::sync::Arc<[u8]> = root.into();
    let mut expected: Option<u16> = None;
    // First block of the file that lies behind the part of the tree that is looked at.
    let mut behind = 1u64 << 32;
    loop {
        let count = usize::from(le16(&node, 2));
        let depth = le16(&node, 6);
        let fits = 12 + count * 12 <= node.len();
        let in_order = expected.map_or(depth <= DEEPEST, |expected| depth == expected);
        if le16(&node, 0) != EXTENT_MAGIC || !fits || !in_order {
            return Err(Error::Damaged("extent tree"));
        }
        let entries = &node[12..12 + count * 12];
        let after = entries.chunks_exact(12).find(|entry| le32(entry, 0) > block);
        if let Some(after) = after {
            behind = behind.min(u64::from(le32(after, 0)));
        }
        let hole = Run {
            first: None,
            len: (behind - u64::from(block)).max(1),
        };
        let entry = entries
            .chunks_exact(12)
            .take_while(|entry| le32(entry, 0) <= block)
            .last();
        let Some(entry) = entry else {
            return Ok(hole);
        };
        if depth == 0 {
            let within = u64::from(block - le32(entry, 0));
            let stored = le16(entry, 4);
            let (len, reserved) = if stored > LONGEST {
                (stored - LONGEST, true)
            } else {
                (stored, false)
            };
            let Some(left) = u64::from(len).checked_sub(within).filter(|left| *left > 0) else {
                return Ok(hole);
            };
            let start = u64::from(le16(entry, 6)) << 32 | u64::from(le32(entry, 8));
            return Ok(Run {
                first: (!reserved).then_some(start + within),
                len: left.min(hole.len),
            });
        }
        let child = u64::from(le16(entry, 8)) << 32 | u64::from(le32(entry, 4));
        node = volume.block(child)?;
        expected = Some(depth - 1);
    }
}

fn by_indirection<I: Image>(volume: &Volume<I>, root: &[u8], block: u64) -> Result<Run> {
    let per_block = volume.block_size() / 4;
    let pointer = |bytes: &[u8], index: u64| u64::from(le32(bytes, index as usize * 4));
    if block < 12 {
        let first = pointer(root, block);
        return Ok(Run {
            first: (first != 0).then_some(first),
            len: 1,
        });
    }
    let mut within = block - 12;
    for level in 1..=3u32 {
        let covers = per_block.pow(level);
        if within >= covers {
            within -= covers;
            continue;
        }
        let mut at = pointer(root, 11 + u64::from(level));
        let mut span = covers;
        for _ in 0..level {
            if at == 0 {
                return Ok(Run {
                    first: None,
                    len: span - within % span,
                });
            }
            span /= per_block;
            let bytes = volume.block(at)?;
            let index = within / span % per_block;
            at = pointer(&bytes, index);
            if span == 1 {
                let mut len = 1;
                let goes_on = |len: u64| {
                    index + len < per_block
                        && pointer(&bytes, index + len) == if at == 0 { 0 } else { at + len }
                };
                while goes_on(len) {
                    len += 1;
                }
                return Ok(Run {
                    first: (at != 0).then_some(at),
                    len,
                });
            }
        }
    }
    Err(Error::Damaged("size of a file"))
}
