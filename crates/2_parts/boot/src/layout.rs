//! Where things lie in the machine: memory, ports, PCI slots and interrupt lines.
//!
//! The machine is a PC of the i440FX/PIIX family, as SeaBIOS knows it, with an ECAM window added:
//!
//! ```text
//! 0000_0000  memory, up to 3 GiB of it; 640 KiB to 1 MiB is VGA, option ROMs and firmware
//! C000_0000  PCI memory window
//! E000_0000  ECAM: configuration space of 256 buses
//! F000_0000  PCI memory window
//! FEC0_0000  IOAPIC
//! FEE0_0000  local APICs
//! FFFC_0000  firmware
//! 1_0000_0000  the rest of memory, then the 64-bit PCI memory window
//! ```

/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;

/// Memory below 4 GiB ends here at the latest.
pub const LOW_MEMORY_END: u64 = 0xC000_0000;
/// Memory that does not fit below [`LOW_MEMORY_END`] goes on here.
pub const HIGH_MEMORY: u64 = 0x1_0000_0000;

/// The extended BIOS data area: 1 KiB below 640 KiB.
pub const EBDA: u64 = 0x9_FC00;
/// VGA's window; conventional memory ends here.
pub const VGA_WINDOW: u64 = 0xA_0000;
/// Firmware's area below 1 MiB. A direct boot keeps its tables here, so it must be readable memory then.
pub const BIOS_AREA: u64 = 0xE_0000;
/// Where a direct boot puts the RSDP and the ACPI tables.
pub const ACPI_TABLES: u64 = BIOS_AREA;
/// Where a direct boot puts the SMBIOS entry point and tables.
pub const SMBIOS_TABLES: u64 = 0xF_0000;
/// 1 MiB, where kernels may begin.
pub const HIGH_LOAD: u64 = MIB;

/// The ECAM window (PCI Firmware Specification 3.3, section 4.1): 1 MiB a bus.
pub const ECAM: u64 = 0xE000_0000;
/// Buses that the ECAM window covers.
pub const ECAM_BUSES: u64 = 256;
/// Length of the ECAM window.
pub const ECAM_LENGTH: u64 = ECAM_BUSES * MIB;
/// PCI memory windows below 4 GiB: first and last byte.
pub const PCI_WINDOWS: [(u32, u32); 2] = [(0xC000_0000, 0xDFFF_FFFF), (0xF000_0000, 0xFEBF_FFFF)];
/// The IOAPIC's registers; its 24 inputs are GSI 0 to 23.
pub const IOAPIC: u32 = 0xFEC0_0000;
/// The local APIC's registers.
pub const LOCAL_APIC: u32 = 0xFEE0_0000;

/// First of the 16550's registers, by port: COM1, COM2.
pub const SERIAL_PORTS: [u16; 2] = [0x3F8, 0x2F8];
/// Interrupt of each serial port.
pub const SERIAL_IRQS: [u8; 2] = [4, 3];
/// pvpanic's port.
pub const PVPANIC: u16 = 0x505;
/// fw_cfg's ports: selector, data, and from +4 on the DMA address.
pub const FW_CFG: u16 = 0x510;
/// Number of fw_cfg's ports.
pub const FW_CFG_LENGTH: u8 = 12;
/// ACPI: PM1a event block (status, enable), 4 bytes.
pub const PM1A_EVENT: u16 = 0x600;
/// ACPI: PM1a control block, 2 bytes. SLP_TYP 0 with SLP_EN is shutdown.
pub const PM1A_CONTROL: u16 = 0x604;
/// ACPI: PM timer, 4 bytes, of which 24 bits count.
pub const PM_TIMER: u16 = 0x608;
/// ACPI: general purpose events, 2 bytes of status and 2 of enable; none is wired.
pub const GPE0: u16 = 0x620;
/// ACPI: bytes of the GPE0 block.
pub const GPE0_LENGTH: u8 = 4;
/// The reset control register.
pub const RESET_PORT: u16 = 0xCF9;
/// What written to [`RESET_PORT`] resets the machine.
pub const RESET_VALUE: u8 = 6;
/// The system control interrupt, level triggered, active high.
pub const SCI: u8 = 9;
/// Index of the century in CMOS.
pub const CMOS_CENTURY: u8 = 0x32;

/// Slot of the PIIX3 (function 0: ISA bridge, 1: IDE, 3: power management).
pub const PIIX_SLOT: u8 = 1;
/// Slot of the VGA adapter.
pub const VGA_SLOT: u8 = 2;

/// Bytes of memory that lie below 4 GiB.
#[must_use]
pub fn low_memory(memory: u64) -> u64 {
    memory.min(LOW_MEMORY_END)
}

/// Bytes of memory that lie from 4 GiB on.
#[must_use]
pub fn high_memory(memory: u64) -> u64 {
    memory.saturating_sub(LOW_MEMORY_END)
}

/// Address behind the highest byte of memory.
#[must_use]
pub fn memory_top(memory: u64) -> u64 {
    match high_memory(memory) {
        0 => low_memory(memory),
        high => HIGH_MEMORY.saturating_add(high),
    }
}

/// The 64-bit PCI memory window, first and last byte: from the GiB above memory to the end of what both the
/// processor addresses and old kernels bear (44 bits). `None` when the processor has no room there.
#[must_use]
pub fn pci_window_64(memory: u64, physical_bits: u8) -> Option<(u64, u64)> {
    let top = memory_top(memory).max(HIGH_MEMORY);
    let first = top.checked_next_multiple_of(GIB)?;
    let bits = physical_bits.clamp(32, 52);
    let mut last = (1_u64 << bits.min(44)) - 1;
    if last < first {
        last = (1_u64 << bits) - 1;
    }
    (first < last).then_some((first, last))
}

/// The interrupt line (0 to 3 for PIRQA to PIRQD) of a slot's pin (0 to 3 for INTA to INTD) while the 8259s rule,
/// as the PIIX wires it and SeaBIOS knows it.
#[must_use]
pub fn pci_link(slot: u8, pin: u8) -> u8 {
    slot.wrapping_add(pin).wrapping_sub(1) & 3
}

/// The IOAPIC input (GSI 16 to 23) of a slot's pin (0 to 3), level triggered.
#[must_use]
pub fn pci_gsi(slot: u8, pin: u8) -> u8 {
    16 + (slot.wrapping_add(pin) & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_three_gib_goes_on_at_four() {
        assert_eq!(memory_top(512 * MIB), 512 * MIB);
        assert_eq!(memory_top(3 * GIB), 3 * GIB);
        assert_eq!(memory_top(3 * GIB + MIB), 4 * GIB + MIB);
    }

    #[test]
    fn the_wide_window_begins_above_memory_and_ends_with_the_addresses() {
        assert_eq!(pci_window_64(GIB, 40), Some((4 * GIB, (1 << 40) - 1)));
        assert_eq!(pci_window_64(4 * GIB, 46), Some((5 * GIB, (1 << 44) - 1)));
        assert_eq!(pci_window_64(GIB, 32), None);
    }

    #[test]
    fn lines_follow_the_piix() {
        // SeaBIOS: pci_irqs[(pin - 1 + slot - 1) & 3], with pin 1 for INTA.
        assert_eq!(pci_link(1, 0), 0);
        assert_eq!(pci_link(3, 1), 3);
        assert_eq!(pci_gsi(0, 0), 16);
        assert_eq!(pci_gsi(5, 3), 16);
    }
}
