//! The 82093AA I/O advanced interrupt controller, with the EOI register of its successors (version 20h).

use serde::{Deserialize, Serialize};

use crate::irq::Msi;

/// Pins.
pub const PINS: u8 = 24;
/// Where its registers begin in memory.
pub const BASE: u64 = 0xfec0_0000;
/// Length of its registers.
pub const LEN: u64 = 0x1000;

const VERSION: u32 = 0x20 | (PINS as u32 - 1) << 16;
const REMOTE: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Destination (and its extension, KVM's "extended destination ID"), mask, trigger mode, polarity, destination mode, delivery mode, vector.
const WRITABLE: u64 = 0xfffe_0000_0001_afff;

/// The IOAPIC. Polarity is kept and means nothing: a wire here is asserted or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ioapic {
    select: u8,
    id: u8,
    lines: u32,
    entries: [u64; PINS as usize],
}

impl Default for Ioapic {
    fn default() -> Self {
        Ioapic {
            select: 0,
            id: 0,
            lines: 0,
            entries: [MASKED; PINS as usize],
        }
    }
}

/// The message of an entry; none for those that it cannot be sent to by a message (ExtINT) or at all (vectors below 16).
fn message(entry: u64) -> Option<Msi> {
    let (vector, mode) = (entry & 0xff, entry >> 8 & 7);
    // Fixed and lowest priority have a vector; SMI, NMI and INIT have none.
    let sane = match mode {
        0 | 1 => vector >= 16,
        2 | 4 | 5 => true,
        _ => false,
    };
    let level = u32::from(entry & LEVEL != 0);
    sane.then_some(Msi {
        address: 0xfee0_0000 | (entry >> 48) << 4 | (entry >> 11 & 1) << 2,
        data: (vector | mode << 8) as u32 | level << 14 | level << 15,
    })
}

impl Ioapic {
    /// As after power-on; the wires keep their levels.
    pub fn reset(&mut self) {
        *self = Ioapic {
            lines: self.lines,
            ..Ioapic::default()
        };
    }

    /// What a pin sends, masked or not.
    #[must_use]
    pub fn route(&self, pin: u8) -> Option<Msi> {
        message(*self.entries.get(usize::from(pin))?)
    }

    /// A level that is up and was not sent yet.
    fn level(&mut self, pin: u8) -> Option<Msi> {
        let up = self.lines & 1 << pin != 0;
        let entry = &mut self.entries[usize::from(pin)];
        let due = up && *entry & (LEVEL | MASKED | REMOTE) == LEVEL;
        let message = message(*entry).filter(|_| due)?;
        *entry |= REMOTE;
        Some(message)
    }

    /// Sets a pin; what is to be sent.
    pub fn set(&mut self, pin: u8, level: bool) -> Option<Msi> {
        if pin >= PINS {
            return None;
        }
        let (bit, before) = (1 << pin, self.lines);
        self.lines = if level { before | bit } else { before & !bit };
        let entry = self.entries[usize::from(pin)];
        if entry & LEVEL != 0 {
            self.level(pin)
        } else {
            message(entry).filter(|_| level && before & bit == 0 && entry & MASKED == 0)
        }
    }

    /// A local APIC ended an interrupt of this vector: what is to be sent again.
    pub fn end_of_interrupt(&mut self, vector: u8, send: &mut dyn FnMut(Msi)) {
        for pin in 0..PINS {
            let entry = &mut self.entries[usize::from(pin)];
            if *entry & LEVEL != 0 && *entry as u8 == vector && *entry & REMOTE != 0 {
                *entry &= !REMOTE;
                self.level(pin).map(&mut *send);
            }
        }
    }

    /// Reads a register of memory, as a double word.
    #[must_use]
    pub fn read(&self, offset: u64) -> u32 {
        match offset & !3 {
            0x00 => u32::from(self.select),
            0x10 => match self.select {
                0 | 2 => u32::from(self.id) << 24,
                1 => VERSION,
                select => {
                    let at = select.wrapping_sub(0x10);
                    let entry = self.entries.get(usize::from(at / 2)).copied().unwrap_or(0);
                    (entry >> (32 * (at & 1))) as u32
                }
            },
            _ => 0,
        }
    }

    /// Writes a register of memory. Returns the pin whose entry was written; what is to be sent goes to `send`.
    pub fn write(&mut self, offset: u64, value: u32, send: &mut dyn FnMut(Msi)) -> Option<u8> {
        match (offset & !3, self.select) {
            (0x00, _) => self.select = value as u8,
            (0x10, 0) => self.id = (value >> 24 & 0xf) as u8,
            (0x10, select @ 0x10..) => {
                let pin = (select - 0x10) / 2;
                let entry = self.entries.get_mut(usize::from(pin))?;
                let shift = 32 * (select & 1);
                let mask = WRITABLE & 0xffff_ffff << shift;
                *entry = *entry & !mask | u64::from(value) << shift & mask;
                if *entry & LEVEL == 0 {
                    *entry &= !REMOTE;
                }
                self.level(pin).map(send);
                return Some(pin);
            }
            (0x40, _) => self.end_of_interrupt(value as u8, send),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(ioapic: &mut Ioapic, index: u8, value: u32) -> Vec<Msi> {
        let mut sent = Vec::new();
        ioapic.write(0, u32::from(index), &mut |_| {});
        ioapic.write(0x10, value, &mut |message| sent.push(message));
        sent
    }

    #[test]
    fn a_level_is_sent_again_after_its_end_for_as_long_as_it_is_up() {
        let mut ioapic = Ioapic::default();
        assert_eq!(write(&mut ioapic, 0x10 + 2 * 17 + 1, 0x0300_0000), []);
        assert_eq!(ioapic.set(17, true), None);
        let message = Msi {
            address: 0xfee0_3000,
            data: 0xc051,
        };
        assert_eq!(write(&mut ioapic, 0x10 + 2 * 17, 0xa051), [message]);
        assert_eq!(ioapic.read(0x10), 0xe051);
        assert_eq!(ioapic.set(17, true), None);
        let mut sent = Vec::new();
        ioapic.end_of_interrupt(0x51, &mut |message| sent.push(message));
        ioapic.end_of_interrupt(0x52, &mut |message| sent.push(message));
        assert_eq!(sent, [message]);
        assert_eq!(ioapic.set(17, false), None);
        ioapic.write(0x40, 0x51, &mut |_| unreachable!());
        assert_eq!(ioapic.read(0x10), 0xa051);
    }

    #[test]
    fn an_edge_is_sent_once_and_not_while_masked() {
        let mut ioapic = Ioapic::default();
        write(&mut ioapic, 0x14, 0x1_0930);
        assert_eq!(ioapic.set(2, true), None);
        assert_eq!(write(&mut ioapic, 0x14, 0x0930), []);
        assert_eq!(ioapic.set(2, true), None);
        ioapic.set(2, false);
        assert_eq!(
            ioapic.set(2, true),
            Some(Msi {
                address: 0xfee0_0004,
                data: 0x130
            })
        );
    }

    #[test]
    fn the_version_says_how_many_pins_and_that_there_is_an_eoi_register() {
        let mut ioapic = Ioapic::default();
        ioapic.write(0, 1, &mut |_| {});
        assert_eq!(ioapic.read(0x10), 0x0017_0020);
        ioapic.write(0, 0x10 + 2 * 24, &mut |_| {});
        assert_eq!(ioapic.read(0x10), 0);
    }
}
