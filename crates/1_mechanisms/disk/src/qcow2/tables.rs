//! A bounded cache of clusters that hold tables, with what is not yet written.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::header::be64;

/// One cluster of a second-level table or of refcounts, as it stands in the file.
pub(super) struct Table {
    pub(super) bytes: Vec<u8>,
    pub(super) dirty: bool,
    used: u64,
}

impl Table {
    /// The 64-bit entry with this number.
    pub(super) fn entry(&self, index: usize) -> u64 {
        be64(&self.bytes, index * 8)
    }

    /// Changes an entry.
    pub(super) fn set_entry(&mut self, index: usize, entry: u64) {
        if let Some(place) = self.bytes.get_mut(index * 8..index * 8 + 8) {
            place.copy_from_slice(&entry.to_be_bytes());
            self.dirty = true;
        }
    }
}

/// Tables by their host offset.
pub(super) struct Cache {
    tables: HashMap<u64, Table>,
    most: usize,
    clock: u64,
}

impl Cache {
    /// A cache of this many bytes, but of a few tables at least.
    pub(super) fn new(bytes: u64, cluster_size: u64) -> Self {
        Cache {
            tables: HashMap::new(),
            most: usize::try_from(bytes / cluster_size)
                .unwrap_or(usize::MAX)
                .clamp(4, 512),
            clock: 0,
        }
    }

    /// The table at this offset, when it is here.
    pub(super) fn get(&mut self, offset: u64) -> Option<&mut Table> {
        self.clock += 1;
        let table = self.tables.get_mut(&offset)?;
        table.used = self.clock;
        Some(table)
    }

    /// Makes room for one table more by dropping the clean one that nobody used for longest; false when all are dirty.
    pub(super) fn make_room(&mut self) -> bool {
        if self.tables.len() < self.most {
            return true;
        }
        let oldest = self
            .tables
            .iter()
            .filter(|(_, table)| !table.dirty)
            .min_by_key(|(_, table)| table.used)
            .map(|(offset, _)| *offset);
        oldest.and_then(|offset| self.tables.remove(&offset)).is_some()
    }

    /// Puts a table in, which has to have room.
    pub(super) fn insert(&mut self, offset: u64, bytes: Vec<u8>, dirty: bool) -> &mut Table {
        self.clock += 1;
        let table = Table {
            bytes,
            dirty,
            used: self.clock,
        };
        self.tables.insert(offset, table);
        self.tables
            .get_mut(&offset)
            .expect("the table was put in one line above")
    }

    /// Forgets a table.
    pub(super) fn forget(&mut self, offset: u64) {
        self.tables.remove(&offset);
    }

    /// Whether a table waits to be written.
    pub(super) fn is_dirty(&self) -> bool {
        self.tables.values().any(|table| table.dirty)
    }

    /// Writes what is dirty, in the order of the file.
    pub(super) fn write_dirty(&mut self, file: &File) -> io::Result<()> {
        let mut dirty: Vec<(&u64, &mut Table)> =
            self.tables.iter_mut().filter(|(_, table)| table.dirty).collect();
        dirty.sort_unstable_by_key(|(offset, _)| **offset);
        for (offset, table) in dirty {
            file.write_all_at(&table.bytes, *offset)?;
            table.dirty = false;
        }
        Ok(())
    }
}

/// Reads a whole cluster of metadata; a file that ends before is damaged.
pub(super) fn read_table(file: &File, offset: u64, cluster_size: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(cluster_size).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            corrupt("a table lies behind the end of the file")
        } else {
            error
        }
    })?;
    Ok(bytes)
}

/// The error of an image whose metadata contradicts itself.
pub(super) fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("qcow2: {what}"))
}
