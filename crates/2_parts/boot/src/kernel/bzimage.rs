//! bzImage: Linux's boot protocol of x86, from version 2.06 on (Documentation/arch/x86/boot.rst).

use fault::{Fault, Result};

use super::Image;
use super::bytes::{u8_at, u16_at, u32_at, u64_at};
use crate::faults::{KERNEL_TOO_OLD, KERNEL_TRUNCATED, NOT_A_KERNEL};
use crate::layout::HIGH_LOAD;

/// Where the setup header begins in the file and in the zero page.
pub(super) const SETUP_HEADER: usize = 0x1F1;
/// Bytes of the setup header that the zero page has room for.
const SETUP_HEADER_END: usize = 0x290;
const SECTOR: usize = 512;
const OLDEST: u16 = 0x0206;
const LOADED_HIGH: u8 = 1;
/// `XLF_KERNEL_64`: there is a 64-bit entry at 200h.
const KERNEL_64: u16 = 1;
const ENTRY_64: u64 = 0x200;

/// Whether the file claims to be one.
pub(super) fn recognise(file: &[u8]) -> bool {
    u16_at(file, 0x1FE) == Some(0xAA55) && file.get(0x202..0x206) == Some(b"HdrS")
}

/// Reads the setup header and finds the kernel behind it.
pub(super) fn read(file: &[u8]) -> Result<Image<'_>> {
    Header::read(file)
        .ok_or_else(|| truncated(file, SETUP_HEADER_END))?
        .image(file)
}

fn truncated(file: &[u8], need: usize) -> Fault {
    Fault::new(KERNEL_TRUNCATED)
        .arg("have", file.len())
        .arg("need", need)
}

/// The fields of the setup header that loading needs.
struct Header {
    setup_sectors: u8,
    paragraphs: u32,
    length: u8,
    version: u16,
    load_flags: u8,
    code_start: u32,
    initrd_most: u32,
    alignment: u32,
    relocatable: u8,
    extended_flags: u16,
    command_line_size: u32,
    preferred: u64,
    room: u32,
}

impl Header {
    fn read(file: &[u8]) -> Option<Self> {
        let version = u16_at(file, 0x206)?;
        let mut header = Header {
            setup_sectors: u8_at(file, 0x1F1)?,
            paragraphs: u32_at(file, 0x1F4)?,
            length: u8_at(file, 0x201)?,
            version,
            load_flags: u8_at(file, 0x211)?,
            code_start: u32_at(file, 0x214)?,
            initrd_most: u32_at(file, 0x22C)?,
            alignment: u32_at(file, 0x230)?,
            relocatable: u8_at(file, 0x234)?,
            extended_flags: 0,
            command_line_size: u32_at(file, 0x238)?,
            preferred: 0,
            room: 0,
        };
        if version >= 0x020A {
            header.preferred = u64_at(file, 0x258)?;
            header.room = u32_at(file, 0x260)?;
        }
        if version >= 0x020C {
            header.extended_flags = u16_at(file, 0x236)?;
        }
        Some(header)
    }

    fn image<'a>(&self, file: &'a [u8]) -> Result<Image<'a>> {
        if self.version < OLDEST || self.load_flags & LOADED_HIGH == 0 {
            let version = format!("{}.{:02}", self.version >> 8, self.version & 0xFF);
            return Err(Fault::new(KERNEL_TOO_OLD).arg("version", version));
        }
        let sectors = match self.setup_sectors {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let start = (sectors + 1) * SECTOR;
        // The size is given in paragraphs of 16 bytes, rounded up.
        let length = (self.paragraphs as usize).saturating_mul(16);
        let need = start.saturating_add(length.saturating_sub(15));
        if length == 0 || file.len() < need {
            return Err(truncated(file, need));
        }
        let payload = &file[start..file.len().min(start + length)];
        let load = self.load_address()?;
        let header_end = (0x202 + usize::from(self.length)).min(SETUP_HEADER_END);
        Ok(Image {
            segments: vec![(load, payload, payload.len() as u64)],
            setup_header: Some(
                file.get(SETUP_HEADER..header_end)
                    .ok_or_else(|| truncated(file, header_end))?,
            ),
            start: load,
            end: load + u64::from(self.room).max(payload.len() as u64),
            initrd_most: self.initrd_most.into(),
            command_line_most: self.command_line_size as usize,
            entry_64: (self.extended_flags & KERNEL_64 != 0).then_some(load + ENTRY_64),
            entry_32: u32::try_from(load).ok(),
            entry_pvh: None,
            linux: true,
        })
    }

    /// A relocatable kernel moves to its preferred address while it unpacks, so it is put there at once; others
    /// say where they must be.
    fn load_address(&self) -> Result<u64> {
        let code_start = u64::from(self.code_start);
        let wanted = match self.relocatable {
            0 => code_start,
            _ if self.preferred != 0 => self.preferred,
            _ => code_start,
        };
        let aligned = match u64::from(self.alignment) {
            alignment if self.relocatable != 0 && alignment.is_power_of_two() => {
                wanted.checked_next_multiple_of(alignment)
            }
            _ => Some(wanted),
        };
        aligned
            .filter(|address| (HIGH_LOAD..u64::from(u32::MAX)).contains(address))
            .ok_or_else(|| {
                Fault::new(NOT_A_KERNEL).arg("what", format!("it wants to be loaded at {wanted:#x}"))
            })
    }
}
