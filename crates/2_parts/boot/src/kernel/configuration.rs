//! What firmware would have written into PCI configuration space before a kernel runs.

use crate::Machine;
use crate::layout::{PIIX_SLOT, PM1A_EVENT, VGA_SLOT};

/// A write of 32 bits into the configuration space of a function on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigWrite {
    /// Slot of the device.
    pub slot: u8,
    /// Function of the device.
    pub function: u8,
    /// Offset, a multiple of four.
    pub register: u8,
    /// What is written.
    pub value: u32,
}

/// The writes for a direct boot: memory in the place of ROM, power management at its ports, both IDE channels, and
/// the VGA adapter's ports and memory. The kernel sets up the rest.
pub(super) fn writes(machine: &Machine) -> Vec<ConfigWrite> {
    let write = |slot, function, register, value| ConfigWrite {
        slot,
        function,
        register,
        value,
    };
    let mut writes = vec![
        // 82441FX: PAM0 to PAM6 (59h to 5Fh), reads and writes of C0000h to FFFFFh go to memory.
        write(0, 0, 0x58, 0x3333_3000),
        write(0, 0, 0x5C, 0x3333_3333),
        // 82371SB: IDE timing of both channels, decoding enabled.
        write(PIIX_SLOT, 1, 0x40, 0x8000_8000),
        // 82371AB: base of the power management ports, and their enabling.
        write(PIIX_SLOT, 3, 0x40, u32::from(PM1A_EVENT) | 1),
        write(PIIX_SLOT, 3, 0x80, 1),
    ];
    if machine.display {
        writes.push(write(VGA_SLOT, 0, 0x04, 3));
    }
    writes
}
