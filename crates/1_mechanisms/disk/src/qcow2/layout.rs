//! Where the clusters of the disk stand in the file: the two levels of tables and the order in which they are written.
//!
//! Order of writing, so that a crash at any point leaks clusters at worst:
//!
//! ```text
//! data, refcounts ─sync→ second-level tables ─sync→ first-level entries ─sync→ counting down what was given up
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::header::{Header, OFFSET_BITS, be64};
use super::refcounts::Refcounts;
use super::tables::{Cache, Table, corrupt, read_table};

/// Bytes of second-level tables in memory: at 64 KiB clusters they map 64 GiB of disk.
const CACHE: u64 = 8 << 20;

/// Exactly one points to the cluster: it may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeroes, whatever stands at its offset (version 3).
pub(super) const ZERO: u64 = 1;
/// The host offset in an entry of either level.
const OFFSET: u64 = (1 << OFFSET_BITS) - (1 << 9);

/// What an entry of a second-level table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing stands for the cluster: it reads as zeroes.
    Nowhere,
    /// It reads as zeroes and has space at this host offset.
    Reserved { offset: u64, copied: bool },
    /// Its bytes stand at this host offset.
    At { offset: u64, copied: bool },
    /// It is compressed.
    Packed(Packed),
}

/// A compressed cluster: its bytes begin at any host offset and end within this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// The tables of an image.
pub(super) struct Layout {
    pub(super) header: Header,
    l1: Vec<u64>,
    l1_dirty: BTreeSet<usize>,
    /// Behind a lock of its own, because readers fill it too.
    l2: Mutex<Cache>,
    pub(super) refcounts: Refcounts,
    /// Bytes that the file had when it was opened or extended.
    len: u64,
}

impl Layout {
    /// Reads the first-level table and the refcount table.
    pub(super) fn read(file: &File, header: Header) -> io::Result<Self> {
        let bytes = read_table(file, header.l1_offset, header.l1_len as u64 * 8)?;
        let l1 = bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect();
        Ok(Layout {
            l1,
            l1_dirty: BTreeSet::new(),
            l2: Mutex::new(Cache::new(CACHE, header.cluster_size())),
            refcounts: Refcounts::read(file, &header)?,
            len: super::header::file_len(file)?,
            header,
        })
    }

    fn l2(&self) -> MutexGuard<'_, Cache> {
        self.l2.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something has to be written before the disk is durable.
    pub(super) fn is_dirty(&self) -> bool {
        !self.l1_dirty.is_empty() || self.l2().is_dirty() || self.refcounts.is_dirty()
    }

    /// Where a disk offset is looked up: entry of the first level, entry of the second.
    fn indices(&self, offset: u64) -> io::Result<(usize, usize)> {
        let cluster = offset >> self.header.cluster_bits;
        let bits = self.header.l2_bits();
        let l1 = usize::try_from(cluster >> bits).map_err(io::Error::other)?;
        let l2 = usize::try_from(cluster & ((1 << bits) - 1)).map_err(io::Error::other)?;
        Ok((l1, l2))
    }

    /// Offset of the second-level table for an entry of the first level; `None` when there is none yet.
    fn table_offset(&self, l1: usize) -> io::Result<Option<u64>> {
        let entry = self.l1.get(l1).copied().unwrap_or(0);
        let offset = entry & OFFSET;
        if offset == 0 {
            return Ok(None);
        }
        if !offset.is_multiple_of(self.header.cluster_size()) || self.header.is_metadata(offset) {
            return Err(corrupt("offset of a second-level table"));
        }
        Ok(Some(offset))
    }

    /// Where the cluster of this disk offset is, and for how many clusters from there on the answer goes on in the
    /// same way (same kind, and for those with bytes: one after the other); at most `most`, at least 1.
    pub(super) fn find(&self, file: &File, offset: u64, most: u64) -> io::Result<(Place, u64)> {
        let (l1, first) = self.indices(offset)?;
        let per_table = 1usize << self.header.l2_bits();
        let until = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .saturating_add(first)
            .min(per_table);
        let Some(at) = self.table_offset(l1)? else {
            return Ok((Place::Nowhere, (until - first).max(1) as u64));
        };
        let mut cache = self.l2();
        if cache.get(at).is_none() {
            let bytes = read_table(file, at, self.header.cluster_size())?;
            if cache.make_room() {
                cache.insert(at, bytes, false);
            } else {
                // All tables wait to be written, which only a writer may do: look and forget.
                return Ok((self.place(be64(&bytes, first * 8))?, 1));
            }
        }
        let Some(table) = cache.get(at) else {
            return Err(corrupt("a table vanished"));
        };
        let place = self.place(table.entry(first))?;
        let mut len = 1;
        while first + len < until {
            let next = self.place(table.entry(first + len))?;
            if !self.follows(place, next, len as u64) {
                break;
            }
            len += 1;
        }
        Ok((place, len as u64))
    }

    /// Whether the `distance`-th place after `first` goes on as `first` began.
    fn follows(&self, first: Place, next: Place, distance: u64) -> bool {
        let size = self.header.cluster_size();
        match (first, next) {
            (Place::Nowhere, Place::Nowhere) => true,
            (
                Place::At { offset, copied },
                Place::At {
                    offset: there,
                    copied: same,
                },
            ) => copied == same && there == offset + distance * size,
            _ => false,
        }
    }

    /// Reads an entry of a second-level table.
    fn place(&self, entry: u64) -> io::Result<Place> {
        if entry & COMPRESSED != 0 {
            // Section "Compressed Clusters Descriptor".
            let bits = 62 - (self.header.cluster_bits - 8);
            let offset = entry & ((1 << bits) - 1);
            if offset >> OFFSET_BITS != 0 {
                return Err(corrupt("offset of a compressed cluster"));
            }
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            let len = (sectors + 1) * 512 - offset % 512;
            return Ok(Place::Packed(Packed { offset, len }));
        }
        let offset = entry & OFFSET;
        let zero = entry & ZERO != 0 && self.header.version >= 3;
        let copied = entry & COPIED != 0;
        if offset == 0 {
            return Ok(Place::Nowhere);
        }
        if !offset.is_multiple_of(self.header.cluster_size()) || self.header.is_metadata(offset) {
            return Err(corrupt("offset of a cluster"));
        }
        Ok(if zero {
            Place::Reserved { offset, copied }
        } else {
            Place::At { offset, copied }
        })
    }

    /// Writes an entry for a disk offset, in a table that nothing else uses.
    pub(super) fn set(&mut self, file: &File, offset: u64, entry: u64) -> io::Result<()> {
        let (l1, index) = self.indices(offset)?;
        let at = self.own_table(file, l1)?;
        let mut cache = self.l2();
        let Some(table) = cache.get(at) else {
            return Err(corrupt("a table vanished"));
        };
        table.set_entry(index, entry);
        Ok(())
    }

    /// Makes sure that a later [`Layout::set`] for this offset cannot fail for want of space.
    pub(super) fn prepare(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let (l1, _) = self.indices(offset)?;
        self.own_table(file, l1).map(drop)
    }

    /// The offset of a second-level table that is in memory and may be changed: a new one when there is none, a copy
    /// when a snapshot uses it too.
    fn own_table(&mut self, file: &File, l1: usize) -> io::Result<u64> {
        let old = self.table_offset(l1)?;
        let copied = self.l1.get(l1).is_some_and(|entry| entry & COPIED != 0);
        if let Some(at) = old.filter(|_| copied) {
            if self.l2().get(at).is_none() {
                self.room(file)?;
                let bytes = read_table(file, at, self.header.cluster_size())?;
                self.l2().insert(at, bytes, false);
            }
            return Ok(at);
        }
        let bytes = match old {
            Some(at) => self.read_l2(file, at)?,
            None => vec![0; 1 << self.header.cluster_bits],
        };
        self.room(file)?;
        let (cluster, _) = self.refcounts.allocate(file, &mut self.header)?;
        let at = cluster << self.header.cluster_bits;
        self.l2().insert(at, bytes, true);
        let Some(entry) = self.l1.get_mut(l1) else {
            return Err(corrupt("disk larger than its table"));
        };
        *entry = at | COPIED;
        self.l1_dirty.insert(l1);
        if let Some(shared) = old {
            self.refcounts.put_down(shared >> self.header.cluster_bits);
        }
        Ok(at)
    }

    /// The bytes of a table as they are now.
    fn read_l2(&self, file: &File, at: u64) -> io::Result<Vec<u8>> {
        let cached = self.l2().get(at).map(|table: &mut Table| table.bytes.clone());
        match cached {
            Some(bytes) => Ok(bytes),
            None => read_table(file, at, self.header.cluster_size()),
        }
    }

    /// Makes room for a table in memory, by writing all of them when none is clean.
    fn room(&mut self, file: &File) -> io::Result<()> {
        if !self.l2().make_room() {
            self.write(file)?;
            self.l2().make_room();
        }
        Ok(())
    }

    /// A free cluster, now counted, and whether the file has never held it.
    pub(super) fn allocate(&mut self, file: &File) -> io::Result<(u64, bool)> {
        self.refcounts.allocate(file, &mut self.header)
    }

    /// Notes that the disk no longer uses what stands at this place.
    pub(super) fn give_up(&mut self, place: Place) {
        let bits = self.header.cluster_bits;
        match place {
            Place::Nowhere => {}
            Place::Reserved { offset, .. } | Place::At { offset, .. } => {
                self.refcounts.put_down(offset >> bits);
            }
            Place::Packed(Packed { offset, len }) => {
                for cluster in offset >> bits..=(offset + len - 1) >> bits {
                    self.refcounts.put_down(cluster);
                }
            }
        }
    }

    /// Writes all tables in the order that the head of this module shows. What it does may be repeated after an
    /// error. The caller makes the last writes durable.
    pub(super) fn write(&mut self, file: &File) -> io::Result<()> {
        let end = self.refcounts.end() << self.header.cluster_bits;
        if end > self.len {
            file.set_len(end)?;
            self.len = end;
        }
        self.refcounts.write(file, &self.header)?;
        if self.l2().is_dirty() || !self.l1_dirty.is_empty() {
            file.sync_data()?;
        }
        self.l2().write_dirty(file)?;
        if !self.l1_dirty.is_empty() {
            file.sync_data()?;
        }
        while let Some(&index) = self.l1_dirty.first() {
            let at = self.header.l1_offset + index as u64 * 8;
            file.write_all_at(&self.l1[index].to_be_bytes(), at)?;
            self.l1_dirty.pop_first();
        }
        if self.refcounts.has_waiting() {
            file.sync_data()?;
            self.refcounts.release(file)?;
            self.refcounts.write(file, &self.header)?;
        }
        Ok(())
    }
}
