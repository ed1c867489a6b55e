//! Writing the partition table of a new disk, all partitions on whole mebibytes.

use std::io;

use fault::{Fault, Result};

use super::gpt::LEGACY_BOOTABLE;
use super::{Guid, Kind, Partition, Scheme, Table, io_fault};
use crate::{FIT, Image, SECTOR};

/// Partitions begin and, but for the last, end on multiples of this many bytes.
pub const ALIGNMENT: u64 = 1 << 20;

/// Entries of the table, of 128 bytes each: 32 sectors.
const ENTRIES: u32 = 128;
const ENTRY: usize = 128;
const ENTRY_SECTORS: u64 = 32;

/// A partition of a new GPT.
#[derive(Clone, Debug)]
pub struct NewGpt {
    /// What it is for.
    pub kind: Guid,
    /// Its identifier, which the caller chooses: the same disk gets the same table.
    pub id: Guid,
    /// Its name, up to 36 UTF-16 units.
    pub name: String,
    /// Its length in bytes, rounded up to whole mebibytes; the last one may take what is left.
    pub size: Option<u64>,
    /// Whether a BIOS boot loader starts from it.
    pub bootable: bool,
}

/// A primary partition of a new MBR table.
#[derive(Clone, Copy, Debug)]
pub struct NewMbr {
    /// Type byte.
    pub kind: u8,
    /// Its length in bytes, rounded up to whole mebibytes; the last one may take what is left.
    pub size: Option<u64>,
    /// Whether it is the active one.
    pub bootable: bool,
}

/// Writes a GPT with its backup and a protective MBR, whose boot code stays, and flushes.
///
/// # Errors
/// [`FIT`], or [`crate::IO`].
pub fn write_gpt(image: &dyn Image, disk: Guid, wanted: &[NewGpt]) -> Result<Table> {
    let sectors = image.size() / SECTOR;
    if image.size() < 2 * ALIGNMENT {
        return Err(unfit("the disk is too small"));
    }
    if wanted.len() > ENTRIES as usize {
        return Err(unfit("more than 128 partitions"));
    }
    if wanted.iter().any(|new| new.name.encode_utf16().count() > 36) {
        return Err(unfit("a name of more than 36 letters"));
    }
    let end = sectors.saturating_sub(1 + ENTRY_SECTORS) * SECTOR;
    let places = places(end, wanted.iter().map(|new| new.size))?;
    let partitions: Vec<Partition> = wanted
        .iter()
        .zip(places)
        .zip(1..)
        .map(|((new, (start, size)), number)| Partition {
            number,
            start,
            size,
            kind: Kind::Gpt(new.kind),
            id: Some(new.id),
            name: new.name.clone(),
            bootable: new.bootable,
        })
        .collect();
    let mut entries = vec![0; ENTRIES as usize * ENTRY];
    for (place, (new, made)) in entries
        .chunks_exact_mut(ENTRY)
        .zip(wanted.iter().zip(&partitions))
    {
        entry(place, new, made);
    }
    let header = |this, other, entries_at| gpt_header(sectors, disk, &entries, this, other, entries_at);
    let last = sectors - 1;
    let write = || -> io::Result<()> {
        // The backup first: at no point is there a primary table without a whole one behind it.
        image.write_at(&entries, (last - ENTRY_SECTORS) * SECTOR)?;
        image.write_at(&header(last, 1, last - ENTRY_SECTORS), last * SECTOR)?;
        image.write_at(&entries, 2 * SECTOR)?;
        image.write_at(&header(1, last, 2), SECTOR)?;
        let len = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
        let mut protective = [0; 16];
        protective[1..8].copy_from_slice(&[0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        protective[8..12].copy_from_slice(&1u32.to_le_bytes());
        protective[12..].copy_from_slice(&len.to_le_bytes());
        write_record(image, 0, &[protective])?;
        image.flush()
    };
    write().map_err(io_fault)?;
    Ok(Table {
        scheme: Scheme::Gpt(disk),
        partitions,
        from_backup: false,
    })
}

/// Writes an MBR table of up to four primary partitions; boot code in the record stays.
///
/// # Errors
/// [`FIT`], or [`crate::IO`].
pub fn write_mbr(image: &dyn Image, signature: u32, wanted: &[NewMbr]) -> Result<Table> {
    if wanted.len() > 4 {
        return Err(unfit("more than 4 partitions"));
    }
    let places = places(image.size(), wanted.iter().map(|new| new.size))?;
    let mut entries = Vec::new();
    let mut partitions = Vec::new();
    for ((new, (start, size)), number) in wanted.iter().zip(places).zip(1..) {
        let narrow =
            |bytes: u64| u32::try_from(bytes / SECTOR).map_err(|_| unfit("a partition behind 2 TiB"));
        let (first, len) = (narrow(start)?, narrow(size)?);
        // Heads and cylinders mean nothing since disks have more of them than fit.
        let mut bytes = [0; 16];
        bytes[0] = if new.bootable { 0x80 } else { 0 };
        bytes[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        bytes[4] = new.kind;
        bytes[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        bytes[8..12].copy_from_slice(&first.to_le_bytes());
        bytes[12..].copy_from_slice(&len.to_le_bytes());
        entries.push(bytes);
        partitions.push(Partition {
            number,
            start,
            size,
            kind: Kind::Mbr(new.kind),
            id: None,
            name: String::new(),
            bootable: new.bootable,
        });
    }
    write_record(image, signature, &entries)
        .and_then(|()| image.flush())
        .map_err(io_fault)?;
    Ok(Table {
        scheme: Scheme::Mbr(signature),
        partitions,
        from_backup: false,
    })
}

/// Where partitions of these sizes stand, one after the other; `end` is the first byte behind the usable ones.
fn places(end: u64, sizes: impl ExactSizeIterator<Item = Option<u64>>) -> Result<Vec<(u64, u64)>> {
    let count = sizes.len();
    let mut at = ALIGNMENT;
    let mut places = Vec::with_capacity(count);
    for (index, size) in sizes.enumerate() {
        let len = match size {
            Some(size) => size
                .checked_next_multiple_of(ALIGNMENT)
                .filter(|len| *len > 0)
                .ok_or_else(|| unfit("a partition of no size"))?,
            None if index + 1 == count => end.saturating_sub(at) / SECTOR * SECTOR,
            None => return Err(unfit("only the last partition can take what is left")),
        };
        let behind = at.checked_add(len).filter(|behind| *behind <= end && len > 0);
        places.push((at, len));
        at = behind.ok_or_else(|| unfit("the disk is too small"))?;
    }
    Ok(places)
}

fn entry(place: &mut [u8], new: &NewGpt, made: &Partition) {
    place[..16].copy_from_slice(&new.kind.to_disk());
    place[16..32].copy_from_slice(&new.id.to_disk());
    place[32..40].copy_from_slice(&(made.start / SECTOR).to_le_bytes());
    place[40..48].copy_from_slice(&((made.start + made.size) / SECTOR - 1).to_le_bytes());
    let attributes = if new.bootable { LEGACY_BOOTABLE } else { 0 };
    place[48..56].copy_from_slice(&attributes.to_le_bytes());
    for (unit, at) in new.name.encode_utf16().zip(place[56..].chunks_exact_mut(2)) {
        at.copy_from_slice(&unit.to_le_bytes());
    }
}

fn gpt_header(sectors: u64, disk: Guid, entries: &[u8], this: u64, other: u64, entries_at: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(b"EFI PART");
    put(&0x0001_0000u32.to_le_bytes());
    put(&92u32.to_le_bytes());
    // The sum follows when the rest stands; then four reserved bytes.
    put(&[0; 8]);
    for place in [
        this,
        other,
        2 + ENTRY_SECTORS,
        sectors.saturating_sub(2 + ENTRY_SECTORS),
    ] {
        put(&place.to_le_bytes());
    }
    put(&disk.to_disk());
    put(&entries_at.to_le_bytes());
    put(&ENTRIES.to_le_bytes());
    put(&(ENTRY as u32).to_le_bytes());
    put(&crc32fast::hash(entries).to_le_bytes());
    let sum = crc32fast::hash(&bytes[..92]);
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Writes signature, entries and mark of the first sector and leaves its code.
fn write_record(image: &dyn Image, signature: u32, entries: &[[u8; 16]]) -> io::Result<()> {
    let mut sector = [0; 512];
    image.read_at(&mut sector, 0)?;
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    sector[444..510].fill(0);
    for (place, entry) in sector[446..510].chunks_exact_mut(16).zip(entries) {
        place.copy_from_slice(entry);
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    image.write_at(&sector, 0)
}

fn unfit(what: &str) -> Fault {
    Fault::new(FIT).arg("what", what)
}
