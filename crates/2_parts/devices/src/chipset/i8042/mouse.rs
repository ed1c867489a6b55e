//! A PS/2 mouse with three buttons and a wheel (IntelliMouse).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bytes that wait at most.
const QUEUE: usize = 64;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// A mouse.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mouse {
    queue: VecDeque<u8>,
    /// The command whose argument comes next; 0 for none.
    command: u8,
    reporting: bool,
    remote: bool,
    wrap: bool,
    /// Scaling 2:1; told only.
    scaled: bool,
    resolution: u8,
    rate: u8,
    /// The last three rates: 200, 100, 80 asks for the wheel.
    rates: [u8; 3],
    wheel: bool,
    buttons: u8,
    /// What has moved and was not told: right, up, wheel.
    moved: [i32; 3],
    last: u8,
}

impl Default for Mouse {
    fn default() -> Self {
        Mouse {
            queue: VecDeque::new(),
            command: 0,
            reporting: false,
            remote: false,
            wrap: false,
            scaled: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            wheel: false,
            buttons: 0,
            moved: [0; 3],
            last: 0,
        }
    }
}

impl Mouse {
    /// The mouse moves right, down, turns its wheel towards the user; buttons: bit 0 left, 1 right, 2 middle. What the guest does not
    /// fetch adds up.
    pub fn motion(&mut self, right: i32, down: i32, wheel: i32, buttons: u8) {
        for (sum, by) in self.moved.iter_mut().zip([right, down.saturating_neg(), wheel]) {
            *sum = sum.saturating_add(by).clamp(-4096, 4096);
        }
        let clicked = (self.buttons ^ buttons) & 7 != 0;
        self.buttons = buttons & 7;
        if self.reporting && !self.remote && (clicked || self.moved != [0; 3]) {
            self.report(clicked);
        }
    }

    fn report(&mut self, mut must: bool) {
        while (must || self.moved != [0; 3]) && self.queue.len() + 4 <= QUEUE - 8 {
            self.packet();
            must = false;
        }
    }

    fn packet(&mut self) {
        let [right, up, wheel] = self.moved;
        let (x, y) = (right.clamp(-255, 255), up.clamp(-255, 255));
        let z = if self.wheel { wheel.clamp(-8, 7) } else { wheel };
        self.moved = [right - x, up - y, wheel - z];
        let signs = u8::from(x < 0) << 4 | u8::from(y < 0) << 5;
        self.queue.extend([8 | self.buttons | signs, x as u8, y as u8]);
        if self.wheel {
            self.queue.push_back(z as u8);
        }
    }

    /// The next byte for the controller.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        if self.queue.is_empty() && self.reporting && !self.remote {
            self.report(false);
        }
        Some(byte)
    }

    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
    }

    /// A byte from the controller.
    pub fn write(&mut self, value: u8) {
        if self.wrap && !matches!(value, 0xec | 0xff) {
            self.answer(&[value]);
            return;
        }
        match std::mem::take(&mut self.command) {
            0xe8 => {
                self.resolution = value;
                self.answer(&[ACK]);
            }
            0xf3 => {
                self.rate = value;
                self.rates = [self.rates[1], self.rates[2], value];
                self.wheel |= self.rates == [200, 100, 80];
                self.answer(&[ACK]);
            }
            _ => self.begin(value),
        }
    }

    fn begin(&mut self, value: u8) {
        // Every command but "send again" empties the queue.
        if value != 0xfe {
            self.queue.clear();
        }
        match value {
            0xe6 | 0xe7 => self.scaled = value == 0xe7,
            0xe8 | 0xf3 => self.command = value,
            0xe9 => {
                let state = self.buttons & 1 << 2 | self.buttons >> 1 & 2 | self.buttons >> 1 & 1;
                let modes =
                    u8::from(self.scaled) << 4 | u8::from(self.reporting) << 5 | u8::from(self.remote) << 6;
                self.answer(&[ACK, state | modes, self.resolution, self.rate]);
                return;
            }
            0xea => self.remote = false,
            0xeb => {
                self.answer(&[ACK]);
                self.packet();
                return;
            }
            0xec | 0xee => self.wrap = value == 0xee,
            0xf0 => self.remote = true,
            0xf2 => {
                self.answer(&[ACK, if self.wheel { 3 } else { 0 }]);
                return;
            }
            0xf4 | 0xf5 => self.reporting = value == 0xf4,
            0xf6 => {
                *self = Mouse {
                    wheel: self.wheel,
                    buttons: self.buttons,
                    ..Mouse::default()
                }
            }
            0xfe => {
                self.answer(&[self.last]);
                return;
            }
            0xff => {
                *self = Mouse {
                    buttons: self.buttons,
                    ..Mouse::default()
                };
                self.answer(&[ACK, 0xaa, 0]);
                return;
            }
            _ => {
                self.answer(&[RESEND]);
                return;
            }
        }
        self.moved = [0; 3];
        self.answer(&[ACK]);
    }

    /// Makes a state that came from outside one that can be.
    pub fn mend(&mut self) {
        self.queue.truncate(QUEUE);
        self.moved = self.moved.map(|by| by.clamp(-4096, 4096));
    }
}
