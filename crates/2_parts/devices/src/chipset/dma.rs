//! The two 8237 DMA controllers and their page registers, as far as software looks at them: nothing in the machine asks for a transfer.
//! Port 0x80, a page register without a channel, shows what firmware is doing (the POST code).

use std::sync::{Arc, Mutex};

use fault::Result;
use serde::{Deserialize, Serialize};

use crate::{Access, Device, Ports, Saved};

/// Their ports.
pub const PORTS: &[(u16, u32)] = &[(0x00, 16), (0x80, 16), (0xc0, 32)];

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Chip {
    /// Addresses and counts of four channels: what was written, which is also what is left.
    registers: [u16; 8],
    /// The high byte of a register comes next.
    high: bool,
    modes: [u8; 4],
    masked: u8,
    command: u8,
}

impl Chip {
    fn read(&mut self, register: u8) -> u8 {
        match register {
            0..=7 => {
                let high = self.high;
                self.high = !high;
                self.registers[usize::from(register)].to_le_bytes()[usize::from(high)]
            }
            0xf => self.masked | 0xf0,
            _ => 0,
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        match register {
            0..=7 => {
                let high = self.high;
                self.high = !high;
                let register = &mut self.registers[usize::from(register)];
                let mut bytes = register.to_le_bytes();
                bytes[usize::from(high)] = value;
                *register = u16::from_le_bytes(bytes);
            }
            8 => self.command = value,
            0xa => {
                let bit = 1 << (value & 3);
                self.masked = if value & 4 != 0 {
                    self.masked | bit
                } else {
                    self.masked & !bit
                };
            }
            0xb => self.modes[usize::from(value & 3)] = value,
            0xc => self.high = false,
            0xd => (self.high, self.masked, self.command) = (false, 0xf, 0),
            0xe => self.masked = 0,
            0xf => self.masked = value & 0xf,
            _ => {}
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    chips: [Chip; 2],
    pages: [u8; 16],
}

/// The controllers.
#[derive(Default)]
pub struct Dma(State);

impl Dma {
    /// Controllers as after power-on.
    #[must_use]
    pub fn new() -> Arc<Mutex<Self>> {
        let mut dma = Dma::default();
        dma.reset();
        Arc::new(Mutex::new(dma))
    }

    /// What firmware last wrote to port 0x80.
    #[must_use]
    pub fn post_code(&self) -> u8 {
        self.0.pages[0]
    }
}

impl Device for Dma {
    fn name(&self) -> &str {
        "dma"
    }

    fn reset(&mut self) {
        self.0 = State::default();
        for chip in &mut self.0.chips {
            chip.masked = 0xf;
        }
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.0)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.0 = saved.fields(1)?;
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Dma {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        super::read_bytes(port, data, |port| match port {
            0x00..=0x0f => self.0.chips[0].read(port as u8),
            0x80..=0x8f => self.0.pages[usize::from(port & 0xf)],
            0xc0..=0xdf => self.0.chips[1].read((port - 0xc0) as u8 / 2),
            _ => 0xff,
        })
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        super::write_bytes(port, data, |port, value| match port {
            0x00..=0x0f => self.0.chips[0].write(port as u8, value),
            0x80..=0x8f => self.0.pages[usize::from(port & 0xf)] = value,
            0xc0..=0xdf => self.0.chips[1].write((port - 0xc0) as u8 / 2, value),
            _ => {}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_written_and_read_byte_after_byte() {
        let dma = Dma::new();
        let mut dma = dma.lock().unwrap();
        for (port, value) in [
            (0x0c, 0),
            (0x02, 0x34),
            (0x02, 0x12),
            (0xd8, 0),
            (0xc6, 0x78),
            (0xc6, 0x56),
            (0x80, 0x42),
        ] {
            Ports::write(&mut *dma, port, &[value]);
        }
        let mut read = |port| {
            let mut data = [0];
            Ports::read(&mut *dma, port, &mut data);
            data[0]
        };
        assert_eq!(
            [read(0x02), read(0x02), read(0xc6), read(0xc6)],
            [0x34, 0x12, 0x78, 0x56]
        );
        assert_eq!(dma.post_code(), 0x42);
    }
}
