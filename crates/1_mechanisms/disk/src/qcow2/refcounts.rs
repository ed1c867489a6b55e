//! Reference counts of host clusters: which are free, and handing them out.
//!
//! A cluster is counted before anything points to it and counted down only when nothing that is durable points to it
//! any more; a crash in between leaks clusters and never uses one twice. Counting down therefore waits in a list
//! until [`Refcounts::release`], which is called after the tables have reached the disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;

use super::header::{Header, MOST_REFCOUNT_TABLE, OFFSET_BITS, REFCOUNT_TABLE_AT, be64, file_len};
use super::tables::{Cache, corrupt, read_table};

/// Bytes of refcount blocks in memory.
const CACHE: u64 = 2 << 20;
/// Clusters waiting to be counted down after which it is time to write the tables.
const MOST_WAITING: usize = 16 << 10;

/// Clusters behind the end of the file that may be counted without being there (leaked in a crash), before the search
/// for a free one gives up.
const MOST_BEHIND: u64 = 1 << 20;

/// The refcount table, its blocks, and the search for free clusters.
pub(super) struct Refcounts {
    cluster_bits: u32,
    order: u32,
    per_block: u64,
    table: Vec<u64>,
    table_dirty: BTreeSet<usize>,
    blocks: Cache,
    /// No cluster below is free.
    hint: u64,
    /// First cluster behind everything that the file has ever held.
    end: u64,
    waiting: Vec<u64>,
}

impl Refcounts {
    /// Reads the refcount table.
    pub(super) fn read(file: &File, header: &Header) -> io::Result<Self> {
        let size = header.cluster_size();
        let len = u64::from(header.refcount_table_clusters) * size;
        let bytes = read_table(file, header.refcount_table_offset, len)?;
        let table = bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect();
        Ok(Refcounts {
            cluster_bits: header.cluster_bits,
            order: header.refcount_order,
            per_block: header.refcounts_per_block(),
            table,
            table_dirty: BTreeSet::new(),
            blocks: Cache::new(CACHE, size),
            hint: 0,
            end: file_len(file)?.div_ceil(size),
            waiting: Vec::new(),
        })
    }

    /// First cluster behind everything that the file has ever held: from there on it is a hole.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether something has to be written.
    pub(super) fn is_dirty(&self) -> bool {
        self.blocks.is_dirty() || !self.table_dirty.is_empty() || !self.waiting.is_empty()
    }

    /// Whether so many clusters wait to be counted down that the tables should be written.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// Whether clusters wait to be counted down.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Notes that one user of the cluster has gone.
    pub(super) fn put_down(&mut self, cluster: u64) {
        self.waiting.push(cluster);
    }

    /// Finds a free cluster, counts it, and tells whether it is one that the file has never held.
    pub(super) fn allocate(&mut self, file: &File, header: &mut Header) -> io::Result<(u64, bool)> {
        loop {
            let block = index(self.hint / self.per_block)?;
            if block >= self.table.len() {
                self.grow(file, header)?;
                continue;
            }
            if self.hint > self.end.saturating_add(MOST_BEHIND) {
                return Err(corrupt("clusters behind the end of the file are counted"));
            }
            let first = block as u64 * self.per_block;
            if self.table[block] == 0 {
                self.start_block(file, block)?;
                self.hint = first + 1;
                continue;
            }
            let order = self.order;
            let (from, until) = (self.hint - first, self.per_block);
            let bytes = self.block(file, block)?;
            let Some(free) = (from..until).find(|&at| get(bytes, order, at) == 0) else {
                self.hint = first + self.per_block;
                continue;
            };
            let cluster = first + free;
            if cluster >> (OFFSET_BITS - self.cluster_bits) != 0 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.set(file, cluster, 1)?;
            self.hint = cluster + 1;
            let fresh = cluster >= self.end;
            self.end = self.end.max(cluster + 1);
            return Ok((cluster, fresh));
        }
    }

    /// Gives back a cluster that was allocated and that nothing points to.
    pub(super) fn undo(&mut self, file: &File, cluster: u64) -> io::Result<()> {
        self.set(file, cluster, 0)?;
        self.hint = self.hint.min(cluster);
        Ok(())
    }

    /// Counts down what waits and gives the space of free clusters back to the host. Everything that pointed to the
    /// clusters must be gone from the disk, durably.
    pub(super) fn release(&mut self, file: &File) -> io::Result<()> {
        self.waiting.sort_unstable();
        let mut hole: Option<(u64, u64)> = None;
        while let Some(cluster) = self.waiting.last().copied() {
            let count = self.count(file, cluster)?;
            if count > 0 {
                self.set(file, cluster, count - 1)?;
            }
            self.waiting.pop();
            if count != 1 {
                continue;
            }
            self.hint = self.hint.min(cluster);
            hole = match hole {
                Some((start, len)) if cluster + 1 == start => Some((cluster, len + 1)),
                Some((start, len)) => {
                    self.punch(file, start, len);
                    Some((cluster, 1))
                }
                None => Some((cluster, 1)),
            };
        }
        if let Some((start, len)) = hole {
            self.punch(file, start, len);
        }
        Ok(())
    }

    /// Writes the blocks, and then the table that points to new ones.
    pub(super) fn write(&mut self, file: &File, header: &Header) -> io::Result<()> {
        self.blocks.write_dirty(file)?;
        if self.table_dirty.is_empty() {
            return Ok(());
        }
        file.sync_data()?;
        while let Some(&index) = self.table_dirty.first() {
            let at = header.refcount_table_offset + index as u64 * 8;
            file.write_all_at(&self.table[index].to_be_bytes(), at)?;
            self.table_dirty.pop_first();
        }
        Ok(())
    }

    /// How many point to this cluster.
    pub(super) fn count(&mut self, file: &File, cluster: u64) -> io::Result<u64> {
        let block = index(cluster / self.per_block)?;
        if self.table.get(block).copied().unwrap_or(0) == 0 {
            return Ok(0);
        }
        let (order, at) = (self.order, cluster % self.per_block);
        Ok(get(self.block(file, block)?, order, at))
    }

    fn set(&mut self, file: &File, cluster: u64, count: u64) -> io::Result<()> {
        let block = index(cluster / self.per_block)?;
        let (order, at) = (self.order, cluster % self.per_block);
        self.block(file, block)?;
        let offset = self.table[block];
        if let Some(table) = self.blocks.get(offset) {
            put(&mut table.bytes, order, at, count);
            table.dirty = true;
        }
        Ok(())
    }

    /// The bytes of a block that the table has; a block may be written at any time.
    fn block(&mut self, file: &File, block: usize) -> io::Result<&[u8]> {
        let size = 1u64 << self.cluster_bits;
        let offset = self.table.get(block).copied().unwrap_or(0);
        if offset == 0 || !offset.is_multiple_of(size) || offset >> OFFSET_BITS != 0 {
            return Err(corrupt("offset of a refcount block"));
        }
        if self.blocks.get(offset).is_none() {
            if !self.blocks.make_room() {
                self.blocks.write_dirty(file)?;
                self.blocks.make_room();
            }
            let bytes = read_table(file, offset, size)?;
            self.blocks.insert(offset, bytes, false);
        }
        Ok(self
            .blocks
            .get(offset)
            .map_or(&[][..], |table| table.bytes.as_slice()))
    }

    /// Starts the block of a range that has none yet. Nothing in the range is in use, so the block takes its first
    /// cluster and counts itself.
    fn start_block(&mut self, file: &File, block: usize) -> io::Result<()> {
        if block == 0 {
            return Err(corrupt("the header is not counted"));
        }
        let cluster = block as u64 * self.per_block;
        if cluster >> (OFFSET_BITS - self.cluster_bits) != 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !self.blocks.make_room() {
            self.blocks.write_dirty(file)?;
            self.blocks.make_room();
        }
        let mut bytes = vec![0; 1 << self.cluster_bits];
        put(&mut bytes, self.order, 0, 1);
        let offset = cluster << self.cluster_bits;
        self.blocks.insert(offset, bytes, true);
        self.table[block] = offset;
        self.table_dirty.insert(block);
        self.end = self.end.max(cluster + 1);
        Ok(())
    }

    /// Moves the table to a larger place, behind everything that the old one could count. The new blocks count
    /// themselves and the table; the header points to it only when all of that is durable.
    fn grow(&mut self, file: &File, header: &mut Header) -> io::Result<()> {
        self.write(file, header)?;
        let size = header.cluster_size();
        let old = self.table.len() as u64;
        let start = old * self.per_block;
        let clusters_for = |blocks: u64| ((old + old / 2 + blocks) * 8).div_ceil(size);
        let mut blocks = 1;
        while blocks * self.per_block < blocks + clusters_for(blocks) {
            blocks += 1;
        }
        let clusters = clusters_for(blocks);
        let behind = start + blocks + clusters;
        if clusters * size > MOST_REFCOUNT_TABLE || behind >> (OFFSET_BITS - self.cluster_bits) != 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut table = self.table.clone();
        for block in 0..blocks {
            let mut bytes = vec![0; index(size)?];
            let first = block * self.per_block;
            for at in 0..self.per_block.min((blocks + clusters).saturating_sub(first)) {
                put(&mut bytes, self.order, at, 1);
            }
            let offset = (start + block) << self.cluster_bits;
            file.write_all_at(&bytes, offset)?;
            table.push(offset);
        }
        table.resize(index(clusters * size / 8)?, 0);
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        let offset = (start + blocks) << self.cluster_bits;
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
        let count = u32::try_from(clusters).map_err(io::Error::other)?;
        let mut pointer = offset.to_be_bytes().to_vec();
        pointer.extend(count.to_be_bytes());
        file.write_all_at(&pointer, REFCOUNT_TABLE_AT)?;
        file.sync_data()?;
        let gone = header.refcount_table_offset >> self.cluster_bits;
        self.waiting
            .extend(gone..gone + u64::from(header.refcount_table_clusters));
        header.refcount_table_offset = offset;
        header.refcount_table_clusters = count;
        self.table = table;
        self.end = self.end.max(behind);
        Ok(())
    }

    /// Gives space back to the host, where the host can take it.
    fn punch(&mut self, file: &File, cluster: u64, clusters: u64) {
        for gone in cluster..cluster + clusters {
            self.blocks.forget(gone << self.cluster_bits);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (offset, len) = (cluster << self.cluster_bits, clusters << self.cluster_bits);
        // A file system without holes keeps the space; the cluster is free in the image all the same.
        let _ = rustix::fs::fallocate(file, flags, offset, len);
    }
}

fn index(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

/// The refcount at this place of a block, of `1 << order` bits; those below a byte fill it from the lowest bits on.
fn get(bytes: &[u8], order: u32, at: u64) -> u64 {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if order < 3 {
        let per_byte = 8 >> order;
        let shift = (at % per_byte) << order;
        let mask = (1u64 << (1 << order)) - 1;
        return bytes
            .get(at / per_byte)
            .map_or(0, |byte| u64::from(*byte) >> shift & mask);
    }
    let len = 1usize << (order - 3);
    let from = at.saturating_mul(len);
    bytes.get(from..from.saturating_add(len)).map_or(0, |bytes| {
        bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    })
}

/// Changes a refcount, which fits into its bits.
fn put(bytes: &mut [u8], order: u32, at: u64, count: u64) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if order < 3 {
        let per_byte = 8 >> order;
        let shift = (at % per_byte) << order;
        let mask = ((1u16 << (1 << order)) - 1) as u8;
        if let Some(byte) = bytes.get_mut(at / per_byte) {
            *byte = *byte & !(mask << shift) | ((count as u8 & mask) << shift);
        }
        return;
    }
    let len = 1usize << (order - 3);
    let from = at.saturating_mul(len);
    if let Some(place) = bytes.get_mut(from..from.saturating_add(len)) {
        place.copy_from_slice(&count.to_be_bytes()[8 - len..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_refcount_of_any_width_reads_back_and_leaves_its_neighbours(
            order in 0..=6u32, at in 1..30u64, count in any::<u64>(),
        ) {
            let mask = if order == 6 { u64::MAX } else { (1 << (1 << order)) - 1 };
            let mut bytes = vec![0; 512];
            put(&mut bytes, order, at - 1, mask);
            put(&mut bytes, order, at + 1, mask);
            put(&mut bytes, order, at, count & mask);
            prop_assert_eq!(get(&bytes, order, at), count & mask);
            prop_assert_eq!(get(&bytes, order, at - 1), mask);
            prop_assert_eq!(get(&bytes, order, at + 1), mask);
        }
    }
}
