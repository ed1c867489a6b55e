//! The tables as firmware gets them: files of fw_cfg, and a script by which the firmware places and links them.
//!
//! The script is QEMU's (hw/acpi/bios-linker-loader.c), as SeaBIOS (src/fw/romfile_loader.h) and OVMF run it.

use super::{Pointer, RSDP_POINTERS, RSDP_SUMS, Sum, Tables};
use crate::Machine;

/// Name of the file with the tables.
const TABLES: &str = "etc/acpi/tables";
/// Name of the file with the RSDP.
const RSDP: &str = "etc/acpi/rsdp";
/// Name of the script.
const SCRIPT: &str = "etc/table-loader";
const NAME_LENGTH: usize = 56;
const COMMAND_LENGTH: usize = 128;

const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
const ZONE_HIGH: u8 = 1;
const ZONE_F_SEGMENT: u8 = 2;

/// Names and contents for fw_cfg.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// The tables, the RSDP and the script.
#[must_use]
pub fn files(machine: &Machine) -> Files {
    let tables = Tables::build(machine);
    let rsdp = tables.rsdp();
    let mut script = Vec::new();
    allocate(&mut script, RSDP, 16, ZONE_F_SEGMENT);
    allocate(&mut script, TABLES, 64, ZONE_HIGH);
    for pointer in &tables.pointers {
        add_pointer(&mut script, TABLES, *pointer);
    }
    for sum in &tables.sums {
        add_checksum(&mut script, TABLES, *sum);
    }
    for pointer in RSDP_POINTERS {
        add_pointer(&mut script, RSDP, pointer);
    }
    for sum in RSDP_SUMS {
        add_checksum(&mut script, RSDP, sum);
    }
    vec![(TABLES, tables.bytes), (RSDP, rsdp), (SCRIPT, script)]
}

fn allocate(script: &mut Vec<u8>, file: &str, alignment: u32, zone: u8) {
    let numbers = alignment.to_le_bytes();
    command(script, ALLOCATE, &[file], &[&numbers, &[zone]]);
}

/// Every address in our tables is one inside of [`TABLES`].
fn add_pointer(script: &mut Vec<u8>, file: &str, pointer: Pointer) {
    let offset = (pointer.offset as u32).to_le_bytes();
    command(
        script,
        ADD_POINTER,
        &[file, TABLES],
        &[&offset, &[pointer.size as u8]],
    );
}

fn add_checksum(script: &mut Vec<u8>, file: &str, sum: Sum) {
    let numbers = [sum.offset, sum.start, sum.length].map(|number| (number as u32).to_le_bytes());
    command(script, ADD_CHECKSUM, &[file], &[numbers.as_flattened()]);
}

fn command(script: &mut Vec<u8>, command: u32, files: &[&str], numbers: &[&[u8]]) {
    let end = script.len() + COMMAND_LENGTH;
    script.extend_from_slice(&command.to_le_bytes());
    for file in files {
        let end = script.len() + NAME_LENGTH;
        script.extend_from_slice(file.as_bytes());
        script.resize(end, 0);
    }
    for number in numbers {
        script.extend_from_slice(number);
    }
    script.resize(end, 0);
}
