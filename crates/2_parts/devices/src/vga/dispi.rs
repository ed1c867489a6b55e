//! The Bochs extension ("VBE DISPI"): linear modes by sixteen-bit registers (QEMU, docs/specs/standard-vga; Bochs, vbe_display_api.txt).

use serde::{Deserialize, Serialize};

/// Version that is told: 0xb0c5.
const ID: u16 = 0xb0c5;
/// Largest modes.
pub const MOST: (u16, u16) = (2560, 2048);
const MOST_BITS: u16 = 32;

const ENABLED: u16 = 1;
const TELL_LIMITS: u16 = 2;
const WIDE_PALETTE: u16 = 0x20;
const KEEP_MEMORY: u16 = 0x80;

/// Number of registers.
pub const COUNT: u16 = 11;

/// What a write asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Kept,
    /// The mode has begun or changed; with `clear` its memory becomes zero.
    Changed {
        /// Whether the memory becomes zero.
        clear: bool,
    },
}

/// Its registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispi {
    /// The register that the data port reaches.
    pub index: u16,
    id: u16,
    width: u16,
    height: u16,
    bits: u16,
    enable: u16,
    bank: u16,
    virtual_width: u16,
    x: u16,
    y: u16,
}

impl Dispi {
    /// As after a reset.
    #[must_use]
    pub fn new() -> Self {
        Dispi {
            id: ID,
            ..Dispi::default()
        }
    }

    /// Whether a mode of it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.enable & ENABLED != 0
    }

    /// Width and height of the picture.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (u32::from(self.width), u32::from(self.height))
    }

    /// Bits of a pixel: 4, 8, 15, 16, 24 or 32.
    #[must_use]
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// Colours have 8 bits a part.
    #[must_use]
    pub fn wide_palette(&self) -> bool {
        self.enable & WIDE_PALETTE != 0
    }

    /// The bank of 64 KiB that the window at 0xa0000 shows.
    #[must_use]
    pub fn bank(&self) -> u16 {
        self.bank
    }

    /// Bytes from one line to the next.
    #[must_use]
    pub fn pitch(&self) -> u64 {
        u64::from(self.virtual_width) * u64::from(self.bits.next_multiple_of(4)) / 8
    }

    /// Where the picture begins in memory.
    #[must_use]
    pub fn start(&self) -> u64 {
        let x = u64::from(self.x);
        let across = match self.bits {
            4 => x / 8 * 4,
            bits => x * u64::from(bits.div_ceil(8)),
        };
        u64::from(self.y) * self.pitch() + across
    }

    fn lines(&self, memory: u64) -> u16 {
        u16::try_from(memory / self.pitch().max(1)).unwrap_or(u16::MAX)
    }

    /// A register.
    #[must_use]
    pub fn read(&self, register: u16, memory: u64) -> u16 {
        let limits = self.enable & TELL_LIMITS != 0;
        match register {
            0 => self.id,
            1 if limits => MOST.0,
            2 if limits => MOST.1,
            3 if limits => MOST_BITS,
            1 => self.width,
            2 => self.height,
            3 => self.bits,
            4 => self.enable,
            5 => self.bank,
            6 => self.virtual_width,
            7 if self.is_on() => self.lines(memory),
            8 => self.x,
            9 => self.y,
            10 => (memory >> 16) as u16,
            _ => 0,
        }
    }

    /// Sets a register.
    pub fn write(&mut self, register: u16, value: u16, memory: u64) -> Outcome {
        match register {
            0 if value & 0xfff0 == ID & 0xfff0 => self.id = value,
            1 => self.width = value,
            2 => self.height = value,
            3 => self.bits = value,
            4 => return self.switch(value, memory),
            5 => self.bank = value.min((memory >> 16).saturating_sub(1) as u16),
            6 => self.virtual_width = value,
            8 => self.x = value,
            9 => self.y = value,
            _ => {}
        }
        if self.is_on() && matches!(register, 1..=3 | 6 | 8 | 9) {
            self.fit(memory);
            return Outcome::Changed { clear: false };
        }
        Outcome::Kept
    }

    fn switch(&mut self, value: u16, memory: u64) -> Outcome {
        let begins = value & ENABLED != 0 && !self.is_on();
        self.enable = value;
        if begins {
            (self.virtual_width, self.x, self.y) = (0, 0, 0);
            self.fit(memory);
            let clear = value & KEEP_MEMORY == 0;
            return Outcome::Changed { clear };
        }
        if value & ENABLED == 0 {
            self.bank = 0;
        }
        Outcome::Kept
    }

    /// Makes the mode one that fits the memory.
    pub fn fit(&mut self, memory: u64) {
        if !matches!(self.bits, 4 | 8 | 15 | 16 | 24 | 32) {
            self.bits = 8;
        }
        self.width = self.width.clamp(8, MOST.0) & !7;
        self.virtual_width = self.virtual_width.clamp(self.width, 0x3fff) & !7;
        let lines = self.lines(memory);
        self.height = self.height.clamp(1, MOST.1.min(lines));
        self.x = self.x.min(self.virtual_width - self.width);
        self.y = self.y.min(lines - self.height);
    }

    /// Makes a state that came from outside one that can be.
    pub fn mend(&mut self, memory: u64) {
        if self.is_on() {
            self.fit(memory);
        }
        self.bank = self.bank.min((memory >> 16).saturating_sub(1) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_picture_always_lies_inside_of_the_memory(writes in proptest::collection::vec((0..12_u16, any::<u16>()), 0..60)) {
            let memory = 16 << 20;
            let mut dispi = Dispi::new();
            for (register, value) in writes {
                dispi.write(register, value, memory);
                if dispi.is_on() {
                    let (width, height) = dispi.size();
                    let line = u64::from(width) * u64::from(dispi.bits().next_multiple_of(4)) / 8;
                    prop_assert!(dispi.start() + u64::from(height - 1) * dispi.pitch() + line <= memory);
                }
            }
        }
    }
}
