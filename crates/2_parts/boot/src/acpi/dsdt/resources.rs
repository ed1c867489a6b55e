//! Resource descriptors (ACPI 6.5, section 6.4).

use acpi_tables::aml::IO;

use super::Raw;

/// Ports that are decoded with 16 bits.
pub(super) fn ports(first: u16, count: u8) -> Raw {
    Raw::of(&IO::new(first, first, 1, count))
}

/// An ISA interrupt: edge triggered, active high, not shared (6.4.2.1, without its flags).
pub(super) fn irq(line: u8) -> Raw {
    let [low, high] = (1_u16 << (line & 15)).to_le_bytes();
    Raw(vec![0x22, low, high])
}

/// A DMA channel of the compatible kind, 8 bits wide, no bus master (6.4.2.2).
pub(super) fn dma(channel: u8) -> Raw {
    Raw(vec![0x2A, 1 << (channel & 7), 0])
}

/// Interrupts of which one is used: level triggered, active low, shared, consumed (6.4.3.6).
pub(super) fn shared_interrupts(numbers: &[u32]) -> Raw {
    const CONSUMER: u8 = 1;
    const ACTIVE_LOW: u8 = 1 << 2;
    const SHARED: u8 = 1 << 3;
    let length = 2 + 4 * numbers.len() as u16;
    let mut bytes = vec![0x89];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&[CONSUMER | ACTIVE_LOW | SHARED, numbers.len() as u8]);
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Raw(bytes)
}

/// Offset of the first number in [`shared_interrupts`].
pub(super) const INTERRUPT_NUMBER: u8 = 5;
