//! Partition tables: GPT and MBR, read as Linux reads them, and written for new disks.
//!
//! Sectors are of 512 bytes. A partition that lies outside of the disk is passed over, as Linux does.

mod gpt;
mod guid;
mod mbr;
mod write;

use std::fmt::Write as _;
use std::io;

use fault::{Fault, OrFault, Result};
use serde::{Deserialize, Serialize};

pub use guid::Guid;
pub use write::{ALIGNMENT, NewGpt, NewMbr, write_gpt, write_mbr};

use crate::{IO, Image, SECTOR, TABLE};

/// The kind of a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// The GUID partition table with the disk's identifier (UEFI specification, chapter 5).
    Gpt(Guid),
    /// The table in the master boot record with the disk's signature.
    Mbr(u32),
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Type GUID.
    Gpt(Guid),
    /// Type byte.
    Mbr(u8),
}

/// A partition of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Number from 1 on, as in `/dev/vda1`.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// What it is for.
    pub kind: Kind,
    /// Its own identifier, in a GPT.
    pub id: Option<Guid>,
    /// Its name, in a GPT.
    pub name: String,
    /// Whether a BIOS boot loader starts from it: active (MBR), or the attribute "legacy BIOS bootable" (GPT).
    pub bootable: bool,
}

/// The partitions of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What kind of table it is.
    pub scheme: Scheme,
    /// Its partitions, in the order of their numbers.
    pub partitions: Vec<Partition>,
    /// Whether the first header of a GPT was bad and the one at the end was taken.
    pub from_backup: bool,
}

impl Table {
    /// The name of a partition in `root=PARTUUID=…`: its identifier, or the disk's signature and its number.
    #[must_use]
    pub fn part_uuid(&self, partition: &Partition) -> String {
        let mut text = String::new();
        let written = match (self.scheme, partition.id) {
            (Scheme::Mbr(signature), _) => write!(text, "{signature:08x}-{:02x}", partition.number),
            (Scheme::Gpt(_), Some(id)) => write!(text, "{id}"),
            (Scheme::Gpt(_), None) => Ok(()),
        };
        debug_assert!(written.is_ok());
        text
    }
}

/// Reads the partition table of a disk; `None` when it has none.
///
/// # Errors
/// [`TABLE`] when both headers of a GPT or the chain of logical partitions are damaged, or [`IO`].
pub fn read(image: &dyn Image) -> Result<Option<Table>> {
    let Some(sector) = sector(image, 0)? else {
        return Ok(None);
    };
    let Some(record) = mbr::Record::parse(&sector) else {
        return Ok(None);
    };
    if record.is_protective() {
        return gpt::read(image).map(Some);
    }
    mbr::read(image, &record)
}

/// The bytes of a sector; `None` behind the end of the disk.
fn sector(image: &dyn Image, number: u64) -> Result<Option<[u8; 512]>> {
    let mut bytes = [0; 512];
    let Some(offset) = number
        .checked_mul(SECTOR)
        .filter(|offset| *offset <= image.size().saturating_sub(SECTOR) && image.size() >= SECTOR)
    else {
        return Ok(None);
    };
    read_at(image, &mut bytes, offset)?;
    Ok(Some(bytes))
}

fn read_at(image: &dyn Image, bytes: &mut [u8], offset: u64) -> Result<()> {
    image.read_at(bytes, offset).or_fault(|| Fault::new(IO))
}

fn damaged(what: &str) -> Fault {
    Fault::new(TABLE).arg("what", what)
}

fn io_fault(error: io::Error) -> Fault {
    Fault::new(IO).because(error)
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}
