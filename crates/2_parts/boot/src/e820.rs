//! The map of memory that firmware and kernels are given: ranges of addresses and what they may be used for.

use crate::Machine;
use crate::layout::{
    BIOS_AREA, EBDA, ECAM, ECAM_LENGTH, HIGH_LOAD, HIGH_MEMORY, VGA_WINDOW, high_memory, low_memory,
};

/// What a range may be used for (ACPI 6.5, table 15.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Memory for everyone.
    Ram = 1,
    /// Not for use.
    Reserved = 2,
}

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub address: u64,
    /// Number of bytes.
    pub length: u64,
    /// What it may be used for.
    pub kind: Kind,
}

impl Range {
    fn new(address: u64, end: u64, kind: Kind) -> Self {
        let length = end.saturating_sub(address);
        Range {
            address,
            length,
            kind,
        }
    }

    /// The 20 bytes of BIOS function E820h, of the zero page and of fw_cfg's `etc/e820`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes
    }
}

/// The map that a directly booted kernel gets, in ascending order. The EBDA, the firmware's area with the tables
/// ([`BIOS_AREA`] to 1 MiB) and the ECAM window are reserved.
#[must_use]
pub fn for_kernel(machine: &Machine) -> Vec<Range> {
    let mut ranges = vec![
        Range::new(0, EBDA, Kind::Ram),
        Range::new(EBDA, VGA_WINDOW, Kind::Reserved),
        Range::new(BIOS_AREA, HIGH_LOAD, Kind::Reserved),
        Range::new(HIGH_LOAD, low_memory(machine.memory), Kind::Ram),
    ];
    ranges.extend(above(machine));
    ranges
}

/// The map that firmware starts from (fw_cfg's `etc/e820`): memory whole, from which SeaBIOS takes what it uses.
#[must_use]
pub fn for_firmware(machine: &Machine) -> Vec<Range> {
    let mut ranges = vec![Range::new(0, low_memory(machine.memory), Kind::Ram)];
    ranges.extend(above(machine));
    ranges
}

fn above(machine: &Machine) -> Vec<Range> {
    let mut ranges = vec![Range::new(ECAM, ECAM + ECAM_LENGTH, Kind::Reserved)];
    let high = high_memory(machine.memory);
    if high > 0 {
        ranges.push(Range::new(HIGH_MEMORY, HIGH_MEMORY + high, Kind::Ram));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::MIB;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_ascend_do_not_overlap_and_hold_all_memory_but_the_hole(mib in 2_u64..100_000) {
            let machine = Machine::new(mib * MIB, 1);
            for ranges in [for_kernel(&machine), for_firmware(&machine)] {
                let mut end = 0;
                for range in &ranges {
                    prop_assert!(range.address >= end && range.length > 0, "{ranges:x?}");
                    end = range.address + range.length;
                }
            }
            let ram = |ranges: Vec<Range>| -> u64 {
                ranges.iter().filter(|range| range.kind == Kind::Ram).map(|range| range.length).sum()
            };
            prop_assert_eq!(ram(for_firmware(&machine)), machine.memory);
            prop_assert_eq!(ram(for_kernel(&machine)), machine.memory - (HIGH_LOAD - EBDA));
        }
    }
}
