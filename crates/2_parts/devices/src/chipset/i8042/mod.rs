//! The 8042 keyboard controller (IBM PS/2 Technical Reference) with a keyboard and, when there is one, a mouse.

mod keyboard;
mod mouse;
mod translate;

use std::sync::{Arc, Mutex};

use fault::{Fault, Result};
use keyboard::Keyboard;
use mouse::Mouse;
use serde::{Deserialize, Serialize};

use super::Signals;
use crate::irq::Line;
use crate::state::STATE_UNFIT;
use crate::{Access, Device, Ports, Saved};

/// Its ports: data, and status or command.
pub const PORTS: &[(u16, u32)] = &[(0x60, 1), (0x64, 1)];

// Status.
const FULL: u8 = 1;
const SYSTEM: u8 = 4;
const COMMANDED: u8 = 8;
const UNLOCKED: u8 = 0x10;
const FROM_MOUSE: u8 = 0x20;
// Control byte.
const KEYBOARD_INTERRUPT: u8 = 1;
const MOUSE_INTERRUPT: u8 = 2;
const KEYBOARD_OFF: u8 = 0x10;
const MOUSE_OFF: u8 = 0x20;
const TRANSLATE: u8 = 0x40;
/// The output port's A20 gate, which is kept and read back; memory is always whole.
const A20: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum From {
    Controller,
    Keyboard,
    Mouse,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    control: u8,
    port: u8,
    /// The controller's command whose argument comes next; 0 for none.
    command: u8,
    commanded: bool,
    /// What is to be read next.
    output: Option<(u8, From)>,
    /// A device's byte that an answer of the controller overtook.
    overtaken: Option<(u8, From)>,
    data: u8,
    /// A prefix of the keyboard was swallowed by the translation.
    released: bool,
    keyboard: Keyboard,
    mouse: Option<Mouse>,
}

/// The controller.
pub struct I8042 {
    state: State,
    keyboard_line: Line,
    mouse_line: Option<Line>,
    signals: Arc<dyn Signals>,
}

impl I8042 {
    /// A controller whose keyboard pulls ISA interrupt 1, and whose mouse, when it has a line, 12. It begins as firmware leaves it.
    #[must_use]
    pub fn new(keyboard: Line, mouse: Option<Line>, signals: Arc<dyn Signals>) -> Arc<Mutex<Self>> {
        let state = Self::initial(mouse.is_some());
        Arc::new(Mutex::new(I8042 {
            state,
            keyboard_line: keyboard,
            mouse_line: mouse,
            signals,
        }))
    }

    fn initial(mouse: bool) -> State {
        State {
            control: KEYBOARD_INTERRUPT
                | SYSTEM
                | TRANSLATE
                | if mouse { MOUSE_INTERRUPT } else { MOUSE_OFF },
            port: 1 | A20,
            command: 0,
            commanded: false,
            output: None,
            overtaken: None,
            data: 0,
            released: false,
            keyboard: Keyboard::default(),
            mouse: mouse.then(Mouse::default),
        }
    }

    /// Keys by a sequence of scan code set 1: `[0x1e, 0x9e]` presses and releases A, `[0xe0, 0x48]` presses the upper arrow. Returns
    /// false, and takes nothing, when the guest has not fetched enough of the last ones.
    pub fn press(&mut self, sequence: &[u8]) -> bool {
        let taken = self.state.keyboard.press(sequence);
        self.fill();
        taken
    }

    /// The mouse moves right, down, turns its wheel towards the user; buttons: bit 0 left, 1 right, 2 middle.
    pub fn motion(&mut self, right: i32, down: i32, wheel: i32, buttons: u8) {
        if let Some(mouse) = &mut self.state.mouse {
            mouse.motion(right, down, wheel, buttons);
            self.fill();
        }
    }

    /// The keyboard's lamps: bit 0 scroll lock, bit 1 num lock, bit 2 caps lock.
    #[must_use]
    pub fn leds(&self) -> u8 {
        self.state.keyboard.leds()
    }

    /// Puts the next byte in the output buffer, when that is free.
    fn fill(&mut self) {
        if self.state.output.is_none() {
            self.state.output = self.state.overtaken.take();
        }
        while self.state.output.is_none() && self.state.control & KEYBOARD_OFF == 0 {
            let Some(byte) = self.state.keyboard.pop() else {
                break;
            };
            let byte = if self.state.control & TRANSLATE != 0 {
                translate::to_set1(byte, &mut self.state.released)
            } else {
                Some(byte)
            };
            self.state.output = byte.map(|byte| (byte, From::Keyboard));
        }
        if self.state.output.is_none()
            && self.state.control & MOUSE_OFF == 0
            && let Some(byte) = self.state.mouse.as_mut().and_then(Mouse::pop)
        {
            self.state.output = Some((byte, From::Mouse));
        }
        self.tell();
    }

    fn tell(&self) {
        let from = self.state.output.map(|(_, from)| from);
        let keyboard = matches!(from, Some(From::Keyboard | From::Controller));
        self.keyboard_line
            .set(keyboard && self.state.control & KEYBOARD_INTERRUPT != 0);
        if let Some(line) = &self.mouse_line {
            line.set(from == Some(From::Mouse) && self.state.control & MOUSE_INTERRUPT != 0);
        }
    }

    /// An answer of the controller: it overtakes what the devices send.
    fn answer(&mut self, byte: u8, from: From) {
        let before = self.state.output.replace((byte, from));
        if let Some((_, From::Keyboard | From::Mouse)) = before {
            self.state.overtaken = before;
        }
        self.tell();
    }

    fn read_data(&mut self) -> u8 {
        if let Some((byte, _)) = self.state.output.take() {
            self.state.data = byte;
            // The line falls between two bytes.
            self.tell();
            self.fill();
        }
        self.state.data
    }

    fn status(&self) -> u8 {
        let full = match self.state.output {
            None => 0,
            Some((_, From::Mouse)) => FULL | FROM_MOUSE,
            Some(_) => FULL,
        };
        let commanded = if self.state.commanded { COMMANDED } else { 0 };
        full | commanded | UNLOCKED | self.state.control & SYSTEM
    }

    fn set_port(&mut self, value: u8) {
        self.state.port = value & A20 | 1;
        if value & 1 == 0 {
            self.signals.reset();
        }
    }

    fn command(&mut self, value: u8) {
        self.state.commanded = true;
        self.state.command = 0;
        match value {
            0x20..=0x3f => self.answer(
                if value == 0x20 { self.state.control } else { 0 },
                From::Controller,
            ),
            0x60..=0x7f | 0xd1..=0xd4 => self.state.command = value,
            0xa7 => self.state.control |= MOUSE_OFF,
            0xa8 if self.state.mouse.is_some() => self.state.control &= !MOUSE_OFF,
            // Without a mouse its clock line seems stuck.
            0xa9 => self.answer(u8::from(self.state.mouse.is_none()), From::Controller),
            0xaa => {
                self.state.control |= SYSTEM;
                self.answer(0x55, From::Controller);
            }
            0xab => self.answer(0, From::Controller),
            0xad => self.state.control |= KEYBOARD_OFF,
            0xae => self.state.control &= !KEYBOARD_OFF,
            0xc0 => self.answer(0x80, From::Controller),
            0xd0 => {
                let full = match self.state.output {
                    None => 0,
                    Some((_, From::Mouse)) => 0x20,
                    Some(_) => 0x10,
                };
                self.answer(self.state.port | full, From::Controller);
            }
            0xdd => self.state.port &= !A20,
            0xdf => self.state.port |= A20,
            0xf0..=0xff if value & 1 == 0 => self.signals.reset(),
            _ => {}
        }
        self.fill();
    }

    fn write_data(&mut self, value: u8) {
        self.state.commanded = false;
        match std::mem::take(&mut self.state.command) {
            0x60 => {
                let off = if self.state.mouse.is_none() { MOUSE_OFF } else { 0 };
                self.state.control = value & 0x7f | off;
            }
            0xd1 => self.set_port(value),
            0xd2 => self.answer(value, From::Controller),
            0xd3 if self.state.mouse.is_some() => self.answer(value, From::Mouse),
            0xd3 => self.answer(value, From::Controller),
            0xd4 => {
                if let Some(mouse) = &mut self.state.mouse {
                    self.state.control &= !MOUSE_OFF;
                    mouse.write(value);
                }
            }
            0x61..=0x7f => {}
            _ => {
                self.state.control &= !KEYBOARD_OFF;
                let leds = self.leds();
                self.state.keyboard.write(value);
                if self.leds() != leds {
                    self.signals.leds(self.leds());
                }
            }
        }
        self.fill();
    }
}

impl Device for I8042 {
    fn name(&self) -> &str {
        "i8042"
    }

    fn reset(&mut self) {
        self.state = Self::initial(self.state.mouse.is_some());
        self.tell();
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let mut state: State = saved.fields(1)?;
        if state.mouse.is_some() != self.state.mouse.is_some() {
            return Err(Fault::new(STATE_UNFIT).because_of("a mouse is there or is not"));
        }
        state.keyboard.mend();
        state.mouse.iter_mut().for_each(Mouse::mend);
        self.state = state;
        self.tell();
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for I8042 {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        super::read_bytes(port, data, |port| match port {
            0x60 => self.read_data(),
            0x64 => self.status(),
            _ => 0xff,
        })
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        super::write_bytes(port, data, |port, value| match port {
            0x60 => self.write_data(value),
            0x64 => self.command(value),
            _ => {}
        })
    }
}

#[cfg(test)]
mod tests;
