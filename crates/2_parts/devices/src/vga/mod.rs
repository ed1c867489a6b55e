//! The display adapter: a VGA with the Bochs extension, as QEMU's standard VGA (1234:1111), and what it shows.
//!
//! Its memory is a block that the guest reaches through BAR 0; the window at 0xa0000 goes through planes and latches. What it shows is
//! looked at through a [`View`], which is taken under the device's lock and read without it. A [`Frame`] compares pixels with those of the
//! last look, so that it needs no marks of written pages, which belong to whoever copies the guest's memory.

mod cp437;
mod dispi;
mod frame;
mod graphics;
mod mode3;
mod planes;
mod registers;
pub mod rough;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::sync::{Arc, Mutex, PoisonError};

use fault::Result;
use guestmem::Block;
use vcpu::time::{Clock, Timers};

use crate::chipset::{read_bytes, write_bytes};
use crate::pci::{Bar, Config, Function, Identity, ROM};
use crate::{Access, Device, Ports, Registers, Saved};
use dispi::{Dispi, Outcome};
pub use frame::{Damage, Frame, Rect};
pub use view::{Cell, TextScreen, View};

/// Its ports: those of the VGA, and those of the Bochs extension.
pub const PORTS: &[(u16, u32)] = &[(0x3b0, 0x30), (0x1ce, 3)];
/// The window in memory, to be put on the bus with region [`WINDOW_REGION`]: first address and length.
pub const WINDOW: (u64, u64) = (0xa_0000, 0x2_0000);
/// The region of [`WINDOW`].
pub const WINDOW_REGION: u32 = 16;
/// Bytes of the adapter's memory.
pub const MEMORY: u64 = 16 << 20;

/// The BAR of registers in memory (QEMU, docs/specs/standard-vga), and where they lie.
const REGISTERS_BAR: u8 = 2;
const REGISTERS_LEN: u32 = 0x1000;
const REGISTERS_VGA: std::ops::Range<u64> = 0x400..0x420;
const REGISTERS_DISPI: std::ops::Range<u64> = 0x500..0x516;
/// Length of the following registers, and byte order.
const REGISTERS_MORE: std::ops::Range<u64> = 0x600..0x608;
const MORE: [u8; 8] = [8, 0, 0, 0, 0x1e, 0x1e, 0x1e, 0x1e];

/// Nanoseconds of a line, lines of a picture (70 of them a second), and lines that are displayed: those of text modes, told in every mode.
const LINE: u64 = 31_778;
const LINES: u64 = 449;
const DISPLAYED: u64 = 400;
const RETRACE: std::ops::Range<u64> = 412..414;

/// Something that can be looked at.
pub trait Screen: Send + Sync {
    /// What it shows now.
    fn view(&self) -> View;
}

impl Screen for Mutex<Vga> {
    fn view(&self) -> View {
        self.lock().unwrap_or_else(PoisonError::into_inner).view()
    }
}

/// The adapter.
pub struct Vga {
    config: Config,
    registers: registers::Registers,
    dispi: Dispi,
    vram: Block,
    rom: Option<Block>,
    clock: Arc<dyn Clock>,
    /// Whether it begins in mode 3.
    in_mode3: bool,
}

impl Vga {
    /// An adapter with its ROM, when firmware runs (a power of two bytes, from 2 KiB up). `in_mode3`: it begins in text mode 3, for
    /// kernels that are entered without firmware.
    ///
    /// # Errors
    /// When the host has no memory.
    pub fn new(timers: &Timers, rom: Option<Block>, in_mode3: bool) -> std::io::Result<Arc<Mutex<Self>>> {
        let mut config = Config::new(Identity {
            vendor: 0x1234,
            device: 0x1111,
            class: 0x03_00_00,
            revision: 2,
            subsystem: (0x1af4, 0x1100),
        })
        .bar(
            0,
            Bar::Memory32 {
                size: MEMORY as u32,
                prefetchable: true,
            },
        )
        .bar(
            REGISTERS_BAR,
            Bar::Memory32 {
                size: REGISTERS_LEN,
                prefetchable: false,
            },
        );
        if let Some(rom) = &rom {
            config = config.bar(
                ROM,
                Bar::Rom {
                    size: rom.len() as u32,
                },
            );
        }
        let mut vga = Vga {
            config,
            registers: registers::Registers::default(),
            dispi: Dispi::new(),
            vram: Block::new("vga", MEMORY)?,
            rom,
            clock: Arc::clone(timers.clock()),
            in_mode3,
        };
        vga.begin();
        Ok(Arc::new(Mutex::new(vga)))
    }

    fn begin(&mut self) {
        self.dispi = Dispi::new();
        self.registers = registers::Registers::default();
        if self.in_mode3 {
            self.registers = mode3::registers();
            mode3::fill(&self.vram);
        }
    }

    /// What it shows now.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            registers: self.registers.clone(),
            dispi: self.dispi.clone(),
            vram: self.vram.clone(),
        }
    }

    /// Input status register 1: where the beam is.
    fn status(&self) -> u8 {
        let now = self.clock.now() % (LINE * LINES);
        let (line, along) = (now / LINE, now % LINE);
        let retrace = u8::from(RETRACE.contains(&line)) << 3;
        retrace | u8::from(line >= DISPLAYED || along > LINE * 4 / 5)
    }

    fn write_dispi(&mut self, register: u16, value: u16) {
        let outcome = self.dispi.write(register, value, self.vram.len());
        self.registers.wide_palette = self.dispi.wide_palette();
        if let Outcome::Changed { clear } = outcome {
            self.follow();
            if clear {
                let (_, height) = self.dispi.size();
                let len = (self.dispi.pitch() * u64::from(height)).min(self.vram.len());
                // Inside, as cut.
                let _ = self.vram.fill(0, len, 0);
            }
        }
    }

    /// Sets the VGA's registers as video BIOSes expect to find them in a mode of the Bochs extension.
    fn follow(&mut self) {
        let (width, height) = self.dispi.size();
        let (last, registers) = (height - 1, &mut self.registers);
        registers.graphics[6] = registers.graphics[6] & !0xc | 5;
        registers.crtc[0x17] |= 3;
        registers.crtc[0x13] = (self.dispi.pitch() >> 3) as u8;
        registers.crtc[1] = (width / 8 - 1) as u8;
        registers.crtc[0x12] = last as u8;
        let overflow = registers.crtc[7] & !0x42;
        registers.crtc[7] = overflow | (last >> 7 & 2) as u8 | (last >> 3 & 0x40) as u8 | 0x10;
        registers.crtc[9] = registers.crtc[9] & !0x9f | 0x40;
        registers.crtc[0x18] = 0xff;
        if self.dispi.bits() == 4 {
            registers.graphics[5] &= !0x60;
            registers.sequencer[4] &= !8;
        } else {
            registers.graphics[5] = registers.graphics[5] & !0x60 | 0x40;
            registers.sequencer[4] |= 8;
            registers.sequencer[2] |= 0xf;
        }
    }

    /// A byte of the registers in memory.
    fn read_register(&mut self, offset: u64) -> u8 {
        if REGISTERS_VGA.contains(&offset) {
            let status = self.status();
            return self
                .registers
                .read(0x3c0 + (offset - REGISTERS_VGA.start) as u16, status);
        }
        if REGISTERS_DISPI.contains(&offset) {
            let at = offset - REGISTERS_DISPI.start;
            let value = self.dispi.read((at / 2) as u16, self.vram.len());
            return value.to_le_bytes()[(at % 2) as usize];
        }
        if REGISTERS_MORE.contains(&offset) {
            return MORE[(offset - REGISTERS_MORE.start) as usize];
        }
        // Without an EDID, which would come first.
        0
    }

    fn write_registers(&mut self, offset: u64, data: &[u8]) {
        if REGISTERS_VGA.contains(&offset) {
            for (at, byte) in (offset..REGISTERS_VGA.end).zip(data) {
                self.registers
                    .write(0x3c0 + (at - REGISTERS_VGA.start) as u16, *byte);
            }
        } else if REGISTERS_DISPI.contains(&offset) && offset.is_multiple_of(2) {
            let first = (offset - REGISTERS_DISPI.start) / 2;
            for (register, pair) in (first..).zip(data.chunks_exact(2)) {
                if register < u64::from(dispi::COUNT) {
                    self.write_dispi(register as u16, u16::from_le_bytes([pair[0], pair[1]]));
                }
            }
        }
    }
}

impl Device for Vga {
    fn name(&self) -> &str {
        "vga"
    }

    fn reset(&mut self) {
        self.config.reset();
        self.begin();
    }

    fn save(&self) -> Result<Saved> {
        let memory = state::memory(&self.vram);
        Saved::new(
            1,
            &state::State {
                config: self.config.save(),
                registers: self.registers.clone(),
                dispi: self.dispi.clone(),
                memory,
            },
        )
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let mut state: state::State = saved.fields(1)?;
        self.config.restore(&state.config)?;
        state::restore_memory(&self.vram, &state.memory)?;
        state.registers.mend();
        state.dispi.mend(self.vram.len());
        self.registers = state.registers;
        self.dispi = state.dispi;
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }

    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}

impl Ports for Vga {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        if let 0x1ce..=0x1d0 = port {
            let value = match port {
                0x1ce => self.dispi.index,
                _ => self.dispi.read(self.dispi.index, self.vram.len()),
            };
            data.fill(0);
            let len = data.len().min(2);
            data[..len].copy_from_slice(&value.to_le_bytes()[..len]);
            return Access::Done;
        }
        let status = self.status();
        read_bytes(port, data, |port| self.registers.read(port, status))
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        if let 0x1ce..=0x1d0 = port {
            let value = u16::from_le_bytes([data[0], data.get(1).copied().unwrap_or(0)]);
            match port {
                0x1ce => self.dispi.index = value,
                _ => self.write_dispi(self.dispi.index, value),
            }
            return Access::Done;
        }
        write_bytes(port, data, |port, value| self.registers.write(port, value))
    }
}

impl Registers for Vga {
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Access {
        for (at, byte) in (offset..).zip(data.iter_mut()) {
            *byte = match region {
                WINDOW_REGION => planes::read(&mut self.registers, &self.vram, self.dispi.bank(), at),
                2 => self.read_register(at),
                _ => return Access::Unclaimed,
            };
        }
        Access::Done
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Access {
        match region {
            WINDOW_REGION => {
                for (at, byte) in (offset..).zip(data) {
                    planes::write(&mut self.registers, &self.vram, self.dispi.bank(), at, *byte);
                }
            }
            2 => self.write_registers(offset, data),
            _ => return Access::Unclaimed,
        }
        Access::Done
    }
}

impl Function for Vga {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn bar_memory(&self, bar: u8) -> Option<Block> {
        match bar {
            0 => Some(self.vram.clone()),
            ROM => self.rom.clone(),
            _ => None,
        }
    }
}
