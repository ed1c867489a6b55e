//! A PS/2 keyboard of 104 keys: its commands, and a bounded queue of what it sends.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::translate;

/// Bytes that wait at most.
const QUEUE: usize = 64;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// A keyboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keyboard {
    queue: VecDeque<u8>,
    /// The command whose argument comes next; 0 for none.
    command: u8,
    scanning: bool,
    /// Scan code set: 1 or 2.
    set: u8,
    /// Rate and delay of repetition; kept only: who types repeats.
    rate: u8,
    leds: u8,
    last: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Keyboard {
            queue: VecDeque::new(),
            command: 0,
            scanning: true,
            set: 2,
            rate: 0x2b,
            leds: 0,
            last: 0,
        }
    }
}

impl Keyboard {
    /// Keys by a sequence of set 1. False, and nothing is taken, when there is no room; while the guest forbids scanning, keys are lost.
    pub fn press(&mut self, sequence: &[u8]) -> bool {
        if !self.scanning {
            return true;
        }
        let mut codes: VecDeque<u8> = VecDeque::new();
        for byte in sequence.iter().take(QUEUE) {
            match self.set {
                1 => codes.push_back(*byte),
                _ => codes.extend(translate::to_set2(*byte)),
            }
        }
        // Answers to commands keep room.
        let fits = sequence.len() <= QUEUE && self.queue.len() + codes.len() <= QUEUE - 8;
        if fits {
            self.queue.append(&mut codes);
        }
        fits
    }

    /// The lamps: bit 0 scroll lock, bit 1 num lock, bit 2 caps lock.
    #[must_use]
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// The next byte for the controller.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
    }

    fn defaults(&mut self) {
        let (queue, leds, last) = (std::mem::take(&mut self.queue), self.leds, self.last);
        *self = Keyboard {
            queue,
            leds,
            last,
            ..Keyboard::default()
        };
    }

    /// A byte from the controller.
    pub fn write(&mut self, value: u8) {
        match (std::mem::take(&mut self.command), value) {
            (0xed, 0..=7) => {
                self.leds = value;
                self.answer(&[ACK]);
            }
            (0xf0, 0) => self.answer(&[ACK, self.set]),
            (0xf0, 1 | 2) => {
                self.set = value;
                self.answer(&[ACK]);
            }
            (0xf0, _) => self.answer(&[RESEND]),
            (0xf3, 0..=0x7f) => {
                self.rate = value;
                self.answer(&[ACK]);
            }
            // Keys of set 3 by number, which there are none of.
            (0xfb..=0xfd, 0..=0x7f) => self.answer(&[ACK]),
            _ => self.begin(value),
        }
    }

    fn begin(&mut self, value: u8) {
        match value {
            0xed | 0xf0 | 0xf3 | 0xfb..=0xfd => {
                self.command = value;
                self.answer(&[ACK]);
            }
            0xee => self.answer(&[0xee]),
            0xf2 => self.answer(&[ACK, 0xab, 0x83]),
            0xf4 => {
                self.queue.clear();
                self.scanning = true;
                self.answer(&[ACK]);
            }
            0xf5 | 0xf6 => {
                self.queue.clear();
                self.defaults();
                self.scanning = value == 0xf6;
                self.answer(&[ACK]);
            }
            0xf7..=0xfa => self.answer(&[ACK]),
            0xfe => self.answer(&[self.last]),
            0xff => {
                self.queue.clear();
                self.defaults();
                self.answer(&[ACK, 0xaa]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    /// Makes a state that came from outside one that can be.
    pub fn mend(&mut self) {
        self.queue.truncate(QUEUE);
        self.set = self.set.clamp(1, 2);
    }
}
