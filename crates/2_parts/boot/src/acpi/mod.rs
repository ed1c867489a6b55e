//! ACPI tables: one set, put at fixed addresses for a direct boot or given to firmware with a script that links it.
//!
//! ACPI Specification 6.5, chapter 5. Numbers of the machine come from [`layout`](crate::layout).

mod dsdt;
mod loader;
mod tables;

use fault::{Fault, Result};

use crate::faults::BAD_CPUS;
use crate::kernel::put;
use crate::layout::{ACPI_TABLES, SMBIOS_TABLES};
use crate::{Chunk, Machine};

pub use loader::{Files, files};

const OEM: [u8; 6] = *b"POSADA";
const OEM_TABLE: [u8; 8] = *b"MACHINE ";
const CREATOR: [u8; 4] = *b"PSDA";
const RSDP_LENGTH: usize = 36;
/// Bytes of the RSDP that ACPI 1.0 knew, with a sum of their own.
const RSDP_OLD_LENGTH: usize = 20;
const HEADER: usize = 36;

/// A number inside of the tables that is an address: so far counted from the first table.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    offset: usize,
    size: usize,
}

/// A range of bytes whose sum must be zero, and the byte that makes it so.
#[derive(Clone, Copy, Debug)]
struct Sum {
    offset: usize,
    start: usize,
    length: usize,
}

/// All tables behind one another, not yet linked.
struct Tables {
    bytes: Vec<u8>,
    pointers: Vec<Pointer>,
    sums: Vec<Sum>,
    rsdt: usize,
    xsdt: usize,
}

/// A table's header, sum still zero, and its contents.
fn table(signature: &[u8; 4], revision: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + contents.len());
    bytes.extend_from_slice(signature);
    bytes.extend_from_slice(&((HEADER + contents.len()) as u32).to_le_bytes());
    bytes.extend_from_slice(&[revision, 0]);
    bytes.extend_from_slice(&OEM);
    bytes.extend_from_slice(&OEM_TABLE);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&CREATOR);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(contents);
    bytes
}

impl Tables {
    fn build(machine: &Machine) -> Self {
        let mut all = Tables {
            bytes: Vec::new(),
            pointers: Vec::new(),
            sums: Vec::new(),
            rsdt: 0,
            xsdt: 0,
        };
        // The FACS has no sum, and must lie at a multiple of 64.
        let facs = all.bytes.len();
        all.bytes.extend(tables::facs());
        let dsdt = all.add(table(b"DSDT", 2, &dsdt::build(machine)));
        let fadt = all.add(tables::fadt(machine, facs, dsdt));
        for pointer in tables::FADT_POINTERS {
            all.pointers.push(Pointer {
                offset: fadt + pointer.offset,
                ..pointer
            });
        }
        let listed = [
            fadt,
            all.add(tables::madt(machine)),
            all.add(tables::mcfg()),
            all.add(tables::waet()),
        ];
        all.rsdt = all.list(b"RSDT", 4, &listed);
        all.xsdt = all.list(b"XSDT", 8, &listed);
        all
    }

    /// Appends a table; its offset.
    fn add(&mut self, table: Vec<u8>) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let start = self.bytes.len();
        let length = table.len();
        self.bytes.extend(table);
        self.sums.push(Sum {
            offset: start + 9,
            start,
            length,
        });
        start
    }

    /// Appends a list of tables, with addresses of so many bytes.
    fn list(&mut self, signature: &[u8; 4], size: usize, listed: &[usize]) -> usize {
        let addresses = listed.iter().flat_map(|offset| {
            let bytes = (*offset as u64).to_le_bytes();
            bytes.into_iter().take(size)
        });
        let start = self.add(table(signature, 1, &addresses.collect::<Vec<u8>>()));
        for index in 0..listed.len() {
            let offset = start + HEADER + index * size;
            self.pointers.push(Pointer { offset, size });
        }
        start
    }

    /// The tables as they are when the first byte lies at `base`.
    fn linked(mut self, base: u64) -> Vec<u8> {
        for pointer in &self.pointers {
            relocate(&mut self.bytes, *pointer, base);
        }
        for sum in &self.sums {
            settle(&mut self.bytes, *sum);
        }
        self.bytes
    }

    /// The root pointer, not yet linked: addresses counted from the first table.
    fn rsdp(&self) -> Vec<u8> {
        let mut rsdp = vec![0_u8; RSDP_LENGTH];
        put(&mut rsdp, 0, b"RSD PTR ");
        put(&mut rsdp, 9, &OEM);
        rsdp[15] = 2;
        put(&mut rsdp, 16, &(self.rsdt as u32).to_le_bytes());
        put(&mut rsdp, 20, &(RSDP_LENGTH as u32).to_le_bytes());
        put(&mut rsdp, 24, &(self.xsdt as u64).to_le_bytes());
        rsdp
    }
}

const RSDP_POINTERS: [Pointer; 2] = [Pointer { offset: 16, size: 4 }, Pointer { offset: 24, size: 8 }];
const RSDP_SUMS: [Sum; 2] = [
    Sum {
        offset: 8,
        start: 0,
        length: RSDP_OLD_LENGTH,
    },
    Sum {
        offset: 32,
        start: 0,
        length: RSDP_LENGTH,
    },
];

fn relocate(bytes: &mut [u8], pointer: Pointer, base: u64) {
    let Pointer { offset, size } = pointer;
    let mut wide = [0_u8; 8];
    wide[..size].copy_from_slice(&bytes[offset..offset + size]);
    let address = u64::from_le_bytes(wide).wrapping_add(base);
    bytes[offset..offset + size].copy_from_slice(&address.to_le_bytes()[..size]);
}

fn settle(bytes: &mut [u8], sum: Sum) {
    let total = sum_of(&bytes[sum.start..sum.start + sum.length]);
    bytes[sum.offset] = bytes[sum.offset].wrapping_sub(total);
}

/// Sum of bytes, modulo 256.
pub(crate) fn sum_of(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The tables at [`ACPI_TABLES`] for a direct boot, with the RSDP in front; and the RSDP's address.
///
/// # Errors
///
/// [`BAD_CPUS`] when the tables of so many processors do not fit below [`SMBIOS_TABLES`].
pub fn placed(machine: &Machine) -> Result<(Chunk<'static>, u64)> {
    let tables = Tables::build(machine);
    // A multiple of 64, so that the FACS stays aligned.
    let base = ACPI_TABLES + 64;
    let mut rsdp = tables.rsdp();
    for pointer in RSDP_POINTERS {
        relocate(&mut rsdp, pointer, base);
    }
    for sum in RSDP_SUMS {
        settle(&mut rsdp, sum);
    }
    rsdp.resize(64, 0);
    rsdp.extend(tables.linked(base));
    if ACPI_TABLES + rsdp.len() as u64 > SMBIOS_TABLES {
        return Err(Fault::new(BAD_CPUS)
            .arg("cpus", machine.cpus)
            .arg("most", Machine::MOST_CPUS));
    }
    Ok((Chunk::owned(ACPI_TABLES, rsdp), ACPI_TABLES))
}
