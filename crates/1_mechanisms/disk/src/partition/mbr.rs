//! Reading the partition table of a master boot record, with its chain of logical partitions.

use fault::Result;

use super::{Kind, Partition, Scheme, Table, damaged, le32, sector};
use crate::{Image, SECTOR};

/// Most logical partitions that are followed.
const MOST_LOGICAL: u32 = 128;
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// One of the four entries of a record, in sectors.
#[derive(Clone, Copy)]
struct Entry {
    active: bool,
    kind: u8,
    start: u32,
    len: u32,
}

/// A sector with a partition table.
pub(super) struct Record {
    signature: u32,
    entries: [Entry; 4],
}

impl Record {
    /// The table in a sector; `None` when it does not look like one: the boot sector of a FAT file system has the same
    /// mark at its end.
    pub(super) fn parse(sector: &[u8; 512]) -> Option<Self> {
        if sector[510..] != [0x55, 0xaa] {
            return None;
        }
        let bytes = &sector[446..510];
        if bytes.chunks_exact(16).any(|entry| entry[0] & 0x7f != 0) {
            return None;
        }
        let entry = |at: usize| Entry {
            active: bytes[at] == 0x80,
            kind: bytes[at + 4],
            start: le32(bytes, at + 8),
            len: le32(bytes, at + 12),
        };
        Some(Record {
            signature: le32(sector, 440),
            entries: [entry(0), entry(16), entry(32), entry(48)],
        })
    }

    /// Whether the record only says that there is a GPT.
    pub(super) fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }
}

/// The partitions of a disk with this record; `None` when the record names none.
pub(super) fn read(image: &dyn Image, record: &Record) -> Result<Option<Table>> {
    let mut partitions = Vec::new();
    let mut extended = None;
    for (entry, number) in record.entries.iter().zip(1..) {
        if EXTENDED.contains(&entry.kind) {
            extended = extended.or(Some(u64::from(entry.start)));
        } else {
            partitions.extend(partition(image, entry, 0, number));
        }
    }
    if let Some(start) = extended.filter(|start| *start > 0) {
        logical(image, start, &mut partitions)?;
    }
    Ok((!partitions.is_empty()).then_some(Table {
        scheme: Scheme::Mbr(record.signature),
        partitions,
        from_backup: false,
    }))
}

/// Follows the chain of records inside of an extended partition: in each the first entry is a partition, relative to
/// the record, and the second the next record, relative to the extended partition.
fn logical(image: &dyn Image, extended: u64, partitions: &mut Vec<Partition>) -> Result<()> {
    let mut at = extended;
    for number in 5..5 + MOST_LOGICAL {
        let record = sector(image, at)?.as_ref().and_then(Record::parse);
        let Some(record) = record else {
            // An empty extended partition need not have a record.
            return if number == 5 {
                Ok(())
            } else {
                Err(damaged("chain of logical partitions"))
            };
        };
        partitions.extend(partition(image, &record.entries[0], at, number));
        let next = record.entries[1];
        if !EXTENDED.contains(&next.kind) || next.start == 0 {
            return Ok(());
        }
        at = extended + u64::from(next.start);
    }
    Err(damaged("chain of logical partitions"))
}

/// A used entry, its length cut at the end of the disk.
fn partition(image: &dyn Image, entry: &Entry, base: u64, number: u32) -> Option<Partition> {
    let start = (base + u64::from(entry.start)) * SECTOR;
    if entry.kind == 0 || entry.len == 0 || entry.start == 0 || start >= image.size() {
        return None;
    }
    Some(Partition {
        number,
        start,
        size: (u64::from(entry.len) * SECTOR).min(image.size() - start),
        kind: Kind::Mbr(entry.kind),
        id: None,
        name: String::new(),
        bootable: entry.active,
    })
}
