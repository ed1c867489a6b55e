//! SMBIOS: what the machine says of itself (DMTF DSP0134, version 2.8).

use crate::acpi::sum_of;
use crate::kernel::put;
use crate::layout::{MIB, SMBIOS_TABLES, high_memory, low_memory};
use crate::{Chunk, Machine, layout};

const MANUFACTURER: &str = "Posada";
const PRODUCT: &str = "Posada machine";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const ENTRY_POINT: usize = 31;
/// Bytes of the entry point that its second sum covers begin here.
const INTERMEDIATE: usize = 16;
/// Most characters of a string that old readers take.
const LONGEST: usize = 64;
const MAJOR: u8 = 2;
const MINOR: u8 = 8;

/// A reference to no other structure.
const NONE: u16 = 0xFFFE;
const CHASSIS: u16 = 0x300;
const PROCESSOR: u16 = 0x400;
const MEMORY_ARRAY: u16 = 0x1000;
const MEMORY_DEVICE: u16 = 0x1100;
const MEMORY_RANGE: u16 = 0x1300;

/// All structures, with the greatest one's size and their number, which the entry point tells.
struct Structures {
    bytes: Vec<u8>,
    greatest: usize,
    count: u16,
}

impl Structures {
    /// Appends a structure: its formatted area after the header, and its strings (numbered from 1).
    fn add(&mut self, kind: u8, handle: u16, formatted: &[u8], strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, formatted.len() as u8 + 4]);
        self.bytes.extend_from_slice(&handle.to_le_bytes());
        self.bytes.extend_from_slice(formatted);
        for string in strings {
            let start = self.bytes.len();
            let printable = string.bytes().filter(|byte| (0x20..0x7F).contains(byte));
            self.bytes.extend(printable.take(LONGEST));
            if self.bytes.len() == start {
                // An empty string would end the list.
                self.bytes.extend_from_slice(b"Not specified");
            }
            self.bytes.push(0);
        }
        if strings.is_empty() {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        self.greatest = self.greatest.max(self.bytes.len() - start);
        self.count += 1;
    }

    fn build(machine: &Machine) -> Self {
        let mut all = Structures {
            bytes: Vec::new(),
            greatest: 0,
            count: 0,
        };
        all.add(0, 0, &bios(), &[MANUFACTURER, VERSION, "01/01/2026"]);
        let serial = machine.serial_number.as_str();
        all.add(
            1,
            0x100,
            &system(&machine.uuid),
            &[MANUFACTURER, PRODUCT, VERSION, serial],
        );
        all.add(3, CHASSIS, &chassis(), &[MANUFACTURER, VERSION, serial]);
        all.add(
            4,
            PROCESSOR,
            &processor(machine.cpus),
            &["CPU 0", MANUFACTURER, VERSION],
        );
        all.add(16, MEMORY_ARRAY, &memory_array(machine.memory), &[]);
        all.add(
            17,
            MEMORY_DEVICE,
            &memory_device(machine.memory),
            &["DIMM 0", MANUFACTURER],
        );
        let low = low_memory(machine.memory);
        all.add(19, MEMORY_RANGE, &memory_range(0, low), &[]);
        let high = high_memory(machine.memory);
        if high > 0 {
            let range = memory_range(layout::HIGH_MEMORY, high);
            all.add(19, MEMORY_RANGE + 1, &range, &[]);
        }
        // System boot information: no errors.
        all.add(32, 0x2000, &[0; 7], &[]);
        all.add(127, 0x7F00, &[], &[]);
        all
    }

    /// The entry point of version 2.1 (section 5.2.1) for structures at an address.
    fn entry_point(&self, address: u32) -> Vec<u8> {
        let mut entry = vec![0_u8; ENTRY_POINT];
        put(&mut entry, 0, b"_SM_");
        put(&mut entry, 5, &[ENTRY_POINT as u8, MAJOR, MINOR]);
        put(&mut entry, 8, &(self.greatest as u16).to_le_bytes());
        put(&mut entry, INTERMEDIATE, b"_DMI_");
        put(&mut entry, 22, &(self.bytes.len() as u16).to_le_bytes());
        put(&mut entry, 24, &address.to_le_bytes());
        put(&mut entry, 28, &self.count.to_le_bytes());
        entry[30] = MAJOR << 4 | MINOR;
        entry[21] = 0_u8.wrapping_sub(sum_of(&entry[INTERMEDIATE..]));
        entry[4] = 0_u8.wrapping_sub(sum_of(&entry));
        entry
    }
}

/// The entry point and the structures at [`SMBIOS_TABLES`], where systems look for them.
#[must_use]
pub fn placed(machine: &Machine) -> Chunk<'static> {
    let structures = Structures::build(machine);
    let mut bytes = structures.entry_point(SMBIOS_TABLES as u32 + 32);
    bytes.resize(32, 0);
    bytes.extend(structures.bytes);
    Chunk::owned(SMBIOS_TABLES, bytes)
}

/// The same as files of fw_cfg; firmware fills in the address and the sums.
#[must_use]
pub fn files(machine: &Machine) -> Vec<(&'static str, Vec<u8>)> {
    let structures = Structures::build(machine);
    let mut anchor = structures.entry_point(0);
    anchor[4] = 0;
    anchor[21] = 0;
    vec![
        ("etc/smbios/smbios-anchor", anchor),
        ("etc/smbios/smbios-tables", structures.bytes),
    ]
}

/// Type 0 (section 7.1): vendor, version, date; a virtual machine.
fn bios() -> Vec<u8> {
    const CHARACTERISTICS_NOT_SUPPORTED: u64 = 1 << 3;
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    let mut bios = vec![1, 2, 0x00, 0xE8, 3, 0];
    bios.extend_from_slice(&CHARACTERISTICS_NOT_SUPPORTED.to_le_bytes());
    bios.extend_from_slice(&[0, VIRTUAL_MACHINE, 0, 0, 0xFF, 0xFF]);
    bios
}

/// Type 1 (section 7.2). The first three fields of the UUID are little-endian here (7.2.1).
fn system(uuid: &[u8; 16]) -> Vec<u8> {
    const POWER_SWITCH: u8 = 6;
    let mut system = vec![1, 2, 3, 4];
    for range in [0..4, 4..6, 6..8] {
        system.extend(uuid[range].iter().rev());
    }
    system.extend_from_slice(&uuid[8..]);
    system.extend_from_slice(&[POWER_SWITCH, 0, 2]);
    system
}

/// Type 3 (section 7.4).
fn chassis() -> Vec<u8> {
    const OTHER: u8 = 1;
    const SAFE: u8 = 3;
    const UNKNOWN: u8 = 2;
    vec![
        1, OTHER, 2, 3, 0, SAFE, SAFE, SAFE, UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
}

/// Type 4 (section 7.5): one socket with all processors as cores.
fn processor(cpus: u32) -> Vec<u8> {
    const CENTRAL: u8 = 3;
    const OTHER: u8 = 1;
    const POPULATED_AND_ENABLED: u8 = 0x41;
    const UNKNOWN_UPGRADE: u8 = 2;
    let cores = u8::try_from(cpus).unwrap_or(0xFF);
    let mut processor = vec![1, CENTRAL, OTHER, 2];
    processor.extend_from_slice(&[0; 8]); // id
    processor.push(3);
    processor.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0]); // voltage, clock, most and current speed
    processor.extend_from_slice(&[POPULATED_AND_ENABLED, UNKNOWN_UPGRADE]);
    processor.extend_from_slice(&[0xFF; 6]); // caches: none told
    processor.extend_from_slice(&[0, 0, 0, cores, cores, cores]);
    processor.extend_from_slice(&4_u16.to_le_bytes()); // 64-bit capable
    processor.extend_from_slice(&u16::from(OTHER).to_le_bytes());
    processor
}

/// Type 16 (section 7.17).
fn memory_array(memory: u64) -> Vec<u8> {
    const OTHER: u8 = 1;
    const SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    /// The capacity stands in the wide field.
    const WIDE: u32 = 0x8000_0000;
    let kib = u32::try_from(memory / 1024).ok().filter(|kib| *kib < WIDE);
    let mut array = vec![OTHER, SYSTEM_MEMORY, NO_CORRECTION];
    array.extend_from_slice(&kib.unwrap_or(WIDE).to_le_bytes());
    array.extend_from_slice(&NONE.to_le_bytes());
    array.extend_from_slice(&1_u16.to_le_bytes());
    let wide = if kib.is_some() { 0 } else { memory };
    array.extend_from_slice(&wide.to_le_bytes());
    array
}

/// Type 17 (section 7.18): all memory as one device.
fn memory_device(memory: u64) -> Vec<u8> {
    const UNKNOWN_WIDTH: u16 = 0xFFFF;
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const OTHER_DETAIL: u16 = 2;
    /// The size stands in the wide field.
    const WIDE: u16 = 0x7FFF;
    let mib = memory / MIB;
    let narrow = u16::try_from(mib).ok().filter(|mib| *mib < WIDE);
    let mut device = Vec::new();
    for field in [
        MEMORY_ARRAY,
        NONE,
        UNKNOWN_WIDTH,
        UNKNOWN_WIDTH,
        narrow.unwrap_or(WIDE),
    ] {
        device.extend_from_slice(&field.to_le_bytes());
    }
    device.extend_from_slice(&[DIMM, 0, 1, 0, RAM]);
    device.extend_from_slice(&OTHER_DETAIL.to_le_bytes());
    device.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0]); // speed; manufacturer, serial, tag, part; attributes
    let wide = if narrow.is_some() {
        0
    } else {
        u32::try_from(mib).unwrap_or(u32::MAX)
    };
    device.extend_from_slice(&wide.to_le_bytes());
    device.extend_from_slice(&[0; 8]); // configured speed and voltages: unknown
    device
}

/// Type 19 (section 7.20).
fn memory_range(address: u64, length: u64) -> Vec<u8> {
    const WIDE: u32 = u32::MAX;
    let last = address + length - 1;
    let narrow = u32::try_from(last / 1024).ok().filter(|kib| *kib < WIDE);
    let (start, end) = match narrow {
        Some(end) => ((address / 1024) as u32, end),
        None => (WIDE, WIDE),
    };
    let wide = if narrow.is_some() { (0, 0) } else { (address, last) };
    let mut range = Vec::new();
    range.extend_from_slice(&start.to_le_bytes());
    range.extend_from_slice(&end.to_le_bytes());
    range.extend_from_slice(&MEMORY_ARRAY.to_le_bytes());
    range.push(1);
    range.extend_from_slice(&wide.0.to_le_bytes());
    range.extend_from_slice(&wide.1.to_le_bytes());
    range
}
