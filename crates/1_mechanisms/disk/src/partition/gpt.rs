//! Reading a GUID partition table (UEFI specification 2.10, section 5.3).

use fault::Result;

use super::{Guid, Kind, Partition, Scheme, Table, damaged, le16, le32, le64, read_at, sector};
use crate::{Image, SECTOR};

/// Most bytes of the array of entries; the usual one has 16 KiB.
const MOST_ENTRIES: u64 = 1 << 20;
/// Attribute "legacy BIOS bootable".
pub(super) const LEGACY_BOOTABLE: u64 = 1 << 2;

/// What of a header is used.
struct Header {
    alternate: u64,
    first: u64,
    last: u64,
    disk: Guid,
    entries: u64,
    count: u32,
    entry_size: u32,
    entries_crc: u32,
}

/// The table of a disk with a protective MBR.
pub(super) fn read(image: &dyn Image) -> Result<Table> {
    let last = image.size() / SECTOR - 1;
    let primary = header(image, 1)?;
    if let Some(header) = &primary
        && let Some(table) = entries(image, header, false)?
    {
        return Ok(table);
    }
    let alternate = primary.map_or(last, |header| header.alternate);
    for place in [alternate, last] {
        if let Some(header) = header(image, place)?
            && let Some(table) = entries(image, &header, true)?
        {
            return Ok(table);
        }
    }
    Err(damaged("both headers of the GPT"))
}

/// The header in a sector; `None` when it is none or its sum is wrong.
fn header(image: &dyn Image, number: u64) -> Result<Option<Header>> {
    let Some(bytes) = sector(image, number)? else {
        return Ok(None);
    };
    let len = le32(&bytes, 12) as usize;
    if !bytes.starts_with(b"EFI PART") || !(92..=bytes.len()).contains(&len) {
        return Ok(None);
    }
    let mut summed = bytes[..len].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != le32(&bytes, 16) || le64(&bytes, 24) != number {
        return Ok(None);
    }
    Ok(Some(Header {
        alternate: le64(&bytes, 32),
        first: le64(&bytes, 40),
        last: le64(&bytes, 48),
        disk: guid(&bytes, 56),
        entries: le64(&bytes, 72),
        count: le32(&bytes, 80),
        entry_size: le32(&bytes, 84),
        entries_crc: le32(&bytes, 88),
    }))
}

/// The partitions that a header points to; `None` when their sum is wrong.
fn entries(image: &dyn Image, header: &Header, from_backup: bool) -> Result<Option<Table>> {
    let len = u64::from(header.count) * u64::from(header.entry_size);
    if header.entry_size < 128 || !header.entry_size.is_multiple_of(8) || len > MOST_ENTRIES {
        return Ok(None);
    }
    let fits = |offset: u64| offset.checked_add(len).is_some_and(|end| end <= image.size());
    let Some(offset) = header.entries.checked_mul(SECTOR).filter(|at| fits(*at)) else {
        return Ok(None);
    };
    let mut bytes = vec![0; len as usize];
    read_at(image, &mut bytes, offset)?;
    if crc32fast::hash(&bytes) != header.entries_crc {
        return Ok(None);
    }
    let partitions = bytes
        .chunks_exact(header.entry_size as usize)
        .zip(1..)
        .filter_map(|(entry, number)| partition(image, header, entry, number))
        .collect();
    Ok(Some(Table {
        scheme: Scheme::Gpt(header.disk),
        partitions,
        from_backup,
    }))
}

/// A used entry that lies inside of the usable part of the disk.
fn partition(image: &dyn Image, header: &Header, entry: &[u8], number: u32) -> Option<Partition> {
    let kind = guid(entry, 0);
    let (first, last) = (le64(entry, 32), le64(entry, 40));
    let inside =
        first >= header.first && first <= last && last <= header.last && last < image.size() / SECTOR;
    if kind == Guid::ZERO || !inside {
        return None;
    }
    let units: Vec<u16> = (0..36)
        .map(|at| le16(entry, 56 + at * 2))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Partition {
        number,
        start: first * SECTOR,
        size: (last - first + 1) * SECTOR,
        kind: Kind::Gpt(kind),
        id: Some(guid(entry, 16)),
        name: String::from_utf16_lossy(&units),
        bootable: le64(entry, 48) & LEGACY_BOOTABLE != 0,
    })
}

fn guid(bytes: &[u8], at: usize) -> Guid {
    let mut disk = [0; 16];
    if let Some(found) = bytes.get(at..at + 16) {
        disk.copy_from_slice(found);
    }
    Guid::from_disk(disk)
}
