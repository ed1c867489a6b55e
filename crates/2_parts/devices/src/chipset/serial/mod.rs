//! The 16550A serial port (National Semiconductor PC16550D data sheet). Transmission takes no time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use fault::Result;
use serde::{Deserialize, Serialize};

use super::Sink;
use crate::irq::Line;
use crate::{Access, Device, Ports, Saved};

/// Ports of COM1; those of COM2 are at 0x2f8.
pub const PORTS: &[(u16, u32)] = &[(0x3f8, 8)];
/// Ports of COM2.
pub const PORTS2: &[(u16, u32)] = &[(0x2f8, 8)];

/// Bytes that wait to be read by the guest at most.
const FIFO: usize = 16;

// Interrupt enable and what each names.
const RECEIVED: u8 = 1;
const EMPTIED: u8 = 2;
const STATUS: u8 = 4;
const MODEM: u8 = 8;
// Line status.
const READY: u8 = 1;
const OVERRUN: u8 = 2;
const BREAK: u8 = 0x10;
const TRANSMITTED: u8 = 0x60;
// Modem control.
const LOOP: u8 = 0x10;
/// Carrier, data set ready, clear to send: somebody is always there.
const PRESENT: u8 = 0xb0;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    received: VecDeque<u8>,
    divisor: [u8; 2],
    enabled: u8,
    /// FIFO control: bit 0 enables the FIFOs, bits 7 to 6 say when they ask for an interrupt.
    fifo: u8,
    line_control: u8,
    modem_control: u8,
    /// Errors to be told by the line status register.
    errors: u8,
    modem_status: u8,
    scratch: u8,
    /// The transmitter became empty and that was not told yet.
    emptied: bool,
    /// Input was refused for want of room.
    refused: bool,
}

/// A serial port.
pub struct Serial {
    name: String,
    base: u16,
    state: State,
    line: Line,
    output: Box<dyn Sink>,
    room: Box<dyn Fn() + Send>,
}

impl Serial {
    /// A port at `base` (0x3f8, 0x2f8) that pulls `line` (ISA interrupt 4, 3). What the guest sends goes to `output`. `room` is called when
    /// there is room again after [`Serial::receive`] took less than it was given, and on resuming: with the device's lock held, so it only wakes somebody.
    #[must_use]
    pub fn new(
        name: &str,
        base: u16,
        line: Line,
        output: Box<dyn Sink>,
        room: Box<dyn Fn() + Send>,
    ) -> Arc<Mutex<Self>> {
        let mut serial = Serial {
            name: name.to_owned(),
            base,
            state: State::default(),
            line,
            output,
            room,
        };
        serial.reset();
        Arc::new(Mutex::new(serial))
    }

    /// Input for the guest; how much of it was taken.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let room = if self.state.modem_control & LOOP != 0 {
            0
        } else {
            self.depth().saturating_sub(self.state.received.len())
        };
        let taken = bytes.len().min(room);
        self.state.received.extend(&bytes[..taken]);
        self.state.refused |= taken < bytes.len();
        self.update();
        taken
    }

    /// A break on the line (Linux: the magic SysRq key).
    pub fn receive_break(&mut self) {
        if self.receive(&[0]) == 1 {
            self.state.errors |= BREAK;
            self.update();
        }
    }

    fn depth(&self) -> usize {
        if self.state.fifo & 1 != 0 { FIFO } else { 1 }
    }

    /// How many received bytes ask for an interrupt.
    fn trigger(&self) -> usize {
        if self.state.fifo & 1 == 0 {
            return 1;
        }
        [1, 4, 8, 14][usize::from(self.state.fifo >> 6)]
    }

    /// The foremost interrupt, as the identification register tells it. Below the trigger the time-out is told at once.
    fn interrupt(&self) -> u8 {
        let state = &self.state;
        if state.enabled & STATUS != 0 && state.errors != 0 {
            6
        } else if state.enabled & RECEIVED != 0 && !state.received.is_empty() {
            if state.received.len() >= self.trigger() {
                4
            } else {
                0xc
            }
        } else if state.enabled & EMPTIED != 0 && state.emptied {
            2
        } else if state.enabled & MODEM != 0 && state.modem_status & 0xf != 0 {
            0
        } else {
            1
        }
    }

    fn update(&self) {
        self.line.set(self.interrupt() != 1);
    }

    /// Tells that there is room, when somebody waits for it.
    fn make_room(&mut self) {
        if self.state.refused && self.state.received.is_empty() && self.state.modem_control & LOOP == 0 {
            self.state.refused = false;
            (self.room)();
        }
    }

    fn transmit(&mut self, byte: u8) {
        if self.state.modem_control & LOOP == 0 {
            self.output.write(&[byte]);
        } else if self.state.received.len() < self.depth() {
            self.state.received.push_back(byte);
        } else {
            self.state.errors |= OVERRUN;
        }
        self.state.emptied = true;
    }

    fn set_modem_control(&mut self, value: u8) {
        self.state.modem_control = value & 0x1f;
        let levels = if value & LOOP != 0 {
            // DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD.
            (value & 1) << 5 | (value & 2) << 3 | (value & 4) << 4 | (value & 8) << 4
        } else {
            PRESENT
        };
        let changed = (levels ^ self.state.modem_status) >> 4;
        // The ring indicator tells its end only.
        let deltas = changed & 0xb | changed & 4 & !(levels >> 4);
        self.state.modem_status = levels | self.state.modem_status & 0xf | deltas;
        self.make_room();
    }

    fn set_fifo(&mut self, value: u8) {
        let cleared = (value ^ self.state.fifo) & 1 != 0;
        if cleared || value & 2 != 0 {
            self.state.received.clear();
            self.state.errors = 0;
            self.make_room();
        }
        self.state.fifo = if value & 1 != 0 { value & 0xc1 } else { 0 };
    }

    fn read_register(&mut self, register: u16) -> u8 {
        let latch = self.state.line_control & 0x80 != 0;
        let value = match register {
            0 | 1 if latch => return self.state.divisor[usize::from(register)],
            0 => {
                let byte = self.state.received.pop_front().unwrap_or(0);
                self.make_room();
                byte
            }
            1 => return self.state.enabled,
            2 => {
                let interrupt = self.interrupt();
                if interrupt == 2 {
                    self.state.emptied = false;
                }
                interrupt | if self.state.fifo & 1 != 0 { 0xc0 } else { 0 }
            }
            3 => return self.state.line_control,
            4 => return self.state.modem_control,
            5 => {
                let ready = if self.state.received.is_empty() { 0 } else { READY };
                std::mem::take(&mut self.state.errors) | ready | TRANSMITTED
            }
            6 => {
                let value = self.state.modem_status;
                self.state.modem_status &= 0xf0;
                value
            }
            _ => return self.state.scratch,
        };
        self.update();
        value
    }

    fn write_register(&mut self, register: u16, value: u8) {
        let latch = self.state.line_control & 0x80 != 0;
        match register {
            0 | 1 if latch => self.state.divisor[usize::from(register)] = value,
            0 => self.transmit(value),
            1 => {
                // Enabling the interrupt of an empty transmitter makes it.
                self.state.emptied |= value & !self.state.enabled & EMPTIED != 0;
                self.state.enabled = value & 0xf;
            }
            2 => self.set_fifo(value),
            3 => self.state.line_control = value,
            4 => self.set_modem_control(value),
            7 => self.state.scratch = value,
            _ => {}
        }
        self.update();
    }
}

impl Device for Serial {
    fn name(&self) -> &str {
        &self.name
    }

    fn reset(&mut self) {
        self.state = State {
            divisor: [12, 0],
            modem_status: PRESENT,
            refused: self.state.refused,
            ..State::default()
        };
        self.make_room();
        self.update();
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.state = saved.fields(1)?;
        self.state.received.truncate(FIFO);
        self.update();
        Ok(())
    }

    fn resume(&mut self) {
        // Whoever fed the device before it was saved is not who feeds it now: let them try.
        (self.room)();
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Serial {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        let base = self.base;
        super::read_bytes(port, data, |port| self.read_register(port.wrapping_sub(base) & 7))
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        let base = self.base;
        super::write_bytes(port, data, |port, value| {
            self.write_register(port.wrapping_sub(base) & 7, value)
        })
    }
}

#[cfg(test)]
mod tests;
