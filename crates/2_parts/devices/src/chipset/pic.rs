//! Two cascaded 8259A interrupt controllers (Intel 8259A data sheet, 231468) with the edge/level registers of the PIIX.

use serde::{Deserialize, Serialize};

/// The input of the first controller that the second one pulls.
const CASCADE: u8 = 2;

/// One controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    lines: u8,
    /// Edges that were seen and not yet acknowledged.
    latched: u8,
    masked: u8,
    in_service: u8,
    /// Inputs that are level-triggered.
    level: u8,
    /// The input of the highest priority.
    top: u8,
    base: u8,
    /// Which initialization word comes next: 0 none, else 2, 3, 4.
    init: u8,
    wants_icw4: bool,
    single: bool,
    read_service: bool,
    poll: bool,
    special_mask: bool,
    auto_end: bool,
    rotate: bool,
    fully_nested: bool,
}

impl Chip {
    fn set(&mut self, input: u8, level: bool) {
        let bit = 1 << (input & 7);
        if level {
            if self.lines & bit == 0 {
                self.latched |= bit;
            }
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
    }

    fn requests(&self) -> u8 {
        self.latched & !self.level | self.lines & self.level
    }

    /// The rank of the foremost of these inputs, 8 for none.
    fn rank(&self, inputs: u8) -> u8 {
        inputs
            .rotate_right(u32::from(self.top & 7))
            .trailing_zeros()
            .min(8) as u8
    }

    fn input(&self, rank: u8) -> u8 {
        rank.wrapping_add(self.top) & 7
    }

    /// The input that wants an interrupt now.
    fn wanted(&self, is_first: bool) -> Option<u8> {
        let rank = self.rank(self.requests() & !self.masked);
        let mut served = self.in_service;
        if self.special_mask {
            served &= !self.masked;
        }
        if self.fully_nested && is_first {
            served &= !(1 << CASCADE);
        }
        (rank < self.rank(served)).then(|| self.input(rank))
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        self.latched &= !bit;
        if !self.auto_end {
            self.in_service |= bit;
        } else if self.rotate {
            self.top = (input + 1) & 7;
        }
    }

    fn end(&mut self, input: u8, rotate: bool) {
        self.in_service &= !(1 << input);
        if rotate {
            self.top = (input + 1) & 7;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            *self = Chip {
                lines: self.lines,
                level: self.level,
                init: 2,
                wants_icw4: value & 1 != 0,
                single: value & 2 != 0,
                ..Chip::default()
            };
        } else if value & 8 != 0 {
            self.poll = value & 4 != 0;
            if value & 2 != 0 {
                self.read_service = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            let rotate = value & 0x80 != 0;
            match value >> 5 {
                0 | 4 => self.rotate = rotate,
                1 | 5 => {
                    let rank = self.rank(self.in_service);
                    if rank < 8 {
                        self.end(self.input(rank), rotate);
                    }
                }
                3 | 7 => self.end(value & 7, rotate),
                6 => self.top = (value + 1) & 7,
                _ => {}
            }
        }
    }

    fn write_data(&mut self, value: u8) {
        match self.init {
            2 => {
                self.base = value & 0xf8;
                self.init = match (self.single, self.wants_icw4) {
                    (false, _) => 3,
                    (true, true) => 4,
                    (true, false) => 0,
                };
            }
            3 => self.init = if self.wants_icw4 { 4 } else { 0 },
            4 => {
                self.fully_nested = value & 0x10 != 0;
                self.auto_end = value & 2 != 0;
                self.init = 0;
            }
            _ => self.masked = value,
        }
    }
}

/// The pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair([Chip; 2]);

impl Pair {
    /// As after power-on; the wires keep their levels.
    pub fn reset(&mut self) {
        for chip in &mut self.0 {
            *chip = Chip {
                lines: chip.lines,
                ..Chip::default()
            };
        }
        self.cascade();
    }

    /// The second controller pulls the first one's input for as long as it wants an interrupt.
    fn cascade(&mut self) {
        let wanted = self.0[1].wanted(false).is_some();
        let first = &mut self.0[0];
        first.set(CASCADE, wanted);
        first.latched = first.latched & !(1 << CASCADE) | u8::from(wanted) << CASCADE;
    }

    /// Sets an input, 0 to 15.
    pub fn set(&mut self, input: u8, level: bool) {
        self.0[usize::from(input >> 3 & 1)].set(input & 7, level);
        self.cascade();
    }

    /// Whether the pair asks the processor for an interrupt.
    #[must_use]
    pub fn asserted(&self) -> bool {
        self.0[0].wanted(true).is_some()
    }

    /// The processor acknowledges: the vector. When nothing is wanted any more it is that of the last input (spurious).
    pub fn acknowledge(&mut self) -> u8 {
        let [first, second] = &mut self.0;
        let vector = match first.wanted(true) {
            Some(CASCADE) => {
                first.acknowledge(CASCADE);
                let input = second.wanted(false);
                if let Some(input) = input {
                    second.acknowledge(input);
                }
                second.base | input.unwrap_or(7)
            }
            Some(input) => {
                first.acknowledge(input);
                first.base | input
            }
            None => first.base | 7,
        };
        self.cascade();
        vector
    }

    /// Reads 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1.
    pub fn read(&mut self, port: u16) -> u8 {
        let which = usize::from(if port >= 0x4d0 { port & 1 } else { port >> 7 & 1 });
        let chip = &mut self.0[which];
        if port >= 0x4d0 {
            return chip.level;
        }
        let value = if std::mem::take(&mut chip.poll) {
            let wanted = chip.wanted(which == 0);
            if let Some(input) = wanted {
                chip.acknowledge(input);
            }
            wanted.map_or(0, |input| 0x80 | input)
        } else if port & 1 != 0 {
            chip.masked
        } else if chip.read_service {
            chip.in_service
        } else {
            chip.requests()
        };
        self.cascade();
        value
    }

    /// Writes one of the same ports.
    pub fn write(&mut self, port: u16, value: u8) {
        match port {
            // The timer, the keyboard and the cascade are edges for ever; so are the clock and the coprocessor.
            0x4d0 => self.0[0].level = value & 0xf8,
            0x4d1 => self.0[1].level = value & 0xde,
            _ => {
                let chip = &mut self.0[usize::from(port >> 7 & 1)];
                if port & 1 == 0 {
                    chip.write_command(value);
                } else {
                    chip.write_data(value);
                }
            }
        }
        self.cascade();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux and firmware set it up.
    fn pair() -> Pair {
        let mut pair = Pair::default();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 4),
            (0x21, 1),
            (0xa0, 0x11),
            (0xa1, 0x38),
            (0xa1, 2),
            (0xa1, 1),
        ] {
            pair.write(port, value);
        }
        pair
    }

    #[test]
    fn an_edge_is_served_once_and_the_lower_waits_for_the_end_of_the_higher() {
        let mut pair = pair();
        pair.set(1, true);
        pair.set(0, true);
        pair.set(0, false);
        assert_eq!(pair.acknowledge(), 0x30);
        assert!(!pair.asserted());
        pair.write(0x20, 0x20);
        assert_eq!(pair.acknowledge(), 0x31);
        pair.write(0x20, 0x20);
        assert!(!pair.asserted());
    }

    #[test]
    fn the_second_controller_asks_through_the_first_and_a_level_asks_until_it_falls() {
        let mut pair = pair();
        pair.write(0x4d1, 0xff);
        assert_eq!(pair.read(0x4d1), 0xde);
        pair.set(11, true);
        for _ in 0..2 {
            assert!(pair.asserted());
            assert_eq!(pair.acknowledge(), 0x3b);
            assert!(!pair.asserted());
            pair.write(0xa0, 0x20);
            pair.write(0x20, 0x20);
        }
        pair.set(11, false);
        assert!(!pair.asserted());
    }

    #[test]
    fn an_interrupt_that_went_away_is_spurious() {
        let mut pair = pair();
        pair.write(0x4d0, 0x20);
        pair.set(5, true);
        pair.set(5, false);
        assert_eq!(pair.acknowledge(), 0x37);
        pair.write(0x20, 0x0b);
        assert_eq!(pair.read(0x20), 0, "a spurious interrupt is not in service");
    }

    #[test]
    fn special_mask_rotation_and_poll_change_who_comes_first() {
        let mut pair = pair();
        pair.set(3, true);
        assert_eq!(pair.acknowledge(), 0x33);
        pair.set(6, true);
        assert!(!pair.asserted());
        pair.write(0x21, 8);
        pair.write(0x20, 0x68);
        assert_eq!(pair.acknowledge(), 0x36);
        pair.write(0x20, 0x63);
        pair.write(0x20, 0xe6);
        pair.set(7, true);
        pair.set(0, true);
        pair.write(0x20, 0x0c);
        assert_eq!(pair.read(0x20), 0x87);
        pair.write(0x20, 0x67);
        assert_eq!(pair.acknowledge(), 0x30);
    }

    #[test]
    fn with_automatic_end_nothing_is_in_service() {
        let mut pair = pair();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 4),
            (0x21, 3),
            (0xa0, 0x11),
            (0xa1, 0x38),
            (0xa1, 2),
            (0xa1, 3),
        ] {
            pair.write(port, value);
        }
        pair.set(9, true);
        pair.set(10, true);
        assert_eq!([pair.acknowledge(), pair.acknowledge()], [0x39, 0x3a]);
        assert!(!pair.asserted());
    }
}
