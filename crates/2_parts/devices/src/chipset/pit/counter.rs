//! One counter of the 8254 (Intel data sheet 231164): a pure function of the ticks that have passed since it was loaded.

use serde::{Deserialize, Serialize};

/// A counter. Times are in ticks of its clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    mode: u8,
    bcd: bool,
    /// Which bytes are read and written: 1 low, 2 high, 3 both.
    access: u8,
    /// Ticks of a period: 1 to 65536 (10000 in BCD).
    count: u32,
    /// A new period (modes 2 and 3) and when it begins.
    next: Option<(u32, u64)>,
    /// When counting began; none before a count (or, in modes 1 and 5, a trigger) has come.
    loaded: Option<u64>,
    /// Ticks passed when the gate stopped it.
    held: Option<u64>,
    gate: bool,
    /// The low byte, when the high one is still to be written.
    low: Option<u8>,
    /// The high byte is to be read next.
    high_next: bool,
    latched: Option<u16>,
    latched_status: Option<u8>,
    /// Counts loaded since power-on, so that its owner sees new ones.
    loads: u64,
}

impl Default for Counter {
    fn default() -> Self {
        Counter {
            mode: 0,
            bcd: false,
            access: 3,
            count: 0x10000,
            next: None,
            loaded: None,
            held: None,
            gate: true,
            low: None,
            high_next: false,
            latched: None,
            latched_status: None,
            loads: 0,
        }
    }
}

impl Counter {
    /// Its mode, 0 to 5.
    #[must_use]
    pub fn mode(&self) -> u8 {
        self.mode
    }

    /// Whether it repeats.
    #[must_use]
    pub fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Ticks of a period.
    #[must_use]
    pub fn period(&self) -> u64 {
        u64::from(self.count.clamp(1, 0x10000))
    }

    /// When counting began, if it counts.
    #[must_use]
    pub fn began(&self) -> Option<u64> {
        self.loaded.filter(|_| self.held.is_none())
    }

    /// The number of counts that were loaded.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// The period that comes next, and when.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.next.map(|(_, at)| at)
    }

    fn passed(&self, tick: u64) -> Option<u64> {
        let loaded = self.loaded?;
        Some(self.held.unwrap_or_else(|| tick.saturating_sub(loaded)))
    }

    /// Begins a period that was waiting for the end of the last one.
    pub fn settle(&mut self, tick: u64) {
        if let Some((count, at)) = self.next
            && tick >= at
        {
            self.next = None;
            self.count = count;
            self.loaded = Some(at);
            self.loads = self.loads.wrapping_add(1);
        }
    }

    /// The level of its output.
    #[must_use]
    pub fn output(&self, tick: u64) -> bool {
        let Some(passed) = self.passed(tick) else {
            return self.mode != 0;
        };
        let period = self.period();
        match self.mode {
            0 | 1 => passed >= period,
            2 => !self.gate || passed % period != period - 1,
            3 => !self.gate || passed % period < period.div_ceil(2),
            _ => passed != period,
        }
    }

    fn value(&self, tick: u64) -> u16 {
        let period = self.period();
        let modulus = if self.bcd { 10_000 } else { 0x10000 };
        let left = match (self.passed(tick), self.mode) {
            (None, _) => period,
            (Some(passed), 2) => period - passed % period,
            (Some(passed), 3) => period - 2 * passed % period,
            (Some(passed), _) => (period + modulus - passed % modulus) % modulus,
        } % modulus;
        if self.bcd {
            [1000, 100, 10, 1]
                .iter()
                .fold(0, |value, unit| value << 4 | (left / unit % 10) as u16)
        } else {
            left as u16
        }
    }

    fn status(&self, tick: u64) -> u8 {
        let null = self.next.is_some() || self.low.is_some() || self.loads == 0;
        u8::from(self.output(tick)) << 7
            | u8::from(null) << 6
            | self.access << 4
            | self.mode << 1
            | u8::from(self.bcd)
    }

    /// A control word for it; access 0 latches its count.
    pub fn control(&mut self, word: u8, tick: u64) {
        self.settle(tick);
        let access = word >> 4 & 3;
        if access == 0 {
            self.latch(tick, true, false);
            return;
        }
        let mode = word >> 1 & 7;
        *self = Counter {
            mode: if mode > 5 { mode - 4 } else { mode },
            bcd: word & 1 != 0,
            access,
            count: self.count,
            gate: self.gate,
            loads: self.loads,
            ..Counter::default()
        };
    }

    /// Keeps count and status for the next reads; what is kept already stays.
    pub fn latch(&mut self, tick: u64, count: bool, status: bool) {
        self.settle(tick);
        if count && self.latched.is_none() {
            self.latched = Some(self.value(tick));
        }
        if status && self.latched_status.is_none() {
            self.latched_status = Some(self.status(tick));
        }
    }

    /// The guest reads a byte.
    pub fn read(&mut self, tick: u64) -> u8 {
        self.settle(tick);
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = self.latched.unwrap_or_else(|| self.value(tick)).to_le_bytes();
        let high = self.access == 2 || self.access == 3 && self.high_next;
        if self.access == 3 {
            self.high_next = !self.high_next;
        }
        if self.access != 3 || high {
            self.latched = None;
        }
        value[usize::from(high)]
    }

    /// The guest writes a byte.
    pub fn write(&mut self, byte: u8, tick: u64) {
        self.settle(tick);
        match (self.access, self.low.take()) {
            (1, _) => self.load(u16::from(byte), tick),
            (2, _) => self.load(u16::from(byte) << 8, tick),
            (_, Some(low)) => self.load(u16::from_le_bytes([low, byte]), tick),
            (_, None) => {
                self.low = Some(byte);
                if self.mode == 0 {
                    self.loaded = None;
                    self.held = None;
                }
            }
        }
    }

    fn load(&mut self, value: u16, tick: u64) {
        let (most, count) = if self.bcd {
            let digits = [12, 8, 4, 0].map(|shift| u32::from(value >> shift & 0xf));
            (10_000, digits.iter().fold(0, |sum, digit| sum * 10 + digit))
        } else {
            (0x10000, u32::from(value))
        };
        let count = if count == 0 { most } else { count.min(most) };
        if self.is_periodic()
            && let Some(began) = self.began()
        {
            let period = self.period();
            let periods = tick.saturating_sub(began) / period + 1;
            self.next = Some((count, began.saturating_add(periods.saturating_mul(period))));
            return;
        }
        self.count = count;
        self.loads = self.loads.wrapping_add(1);
        // Modes 1 and 5 wait for a rising gate.
        if !matches!(self.mode, 1 | 5) {
            self.loaded = Some(tick);
            self.held = (!self.gate).then_some(0);
        }
    }

    /// Sets the gate.
    pub fn set_gate(&mut self, gate: bool, tick: u64) {
        self.settle(tick);
        let rises = gate && !self.gate;
        if gate == self.gate {
            return;
        }
        match self.mode {
            1 | 5 if rises && self.loads > 0 => self.loaded = Some(tick),
            2 | 3 if rises && self.loaded.is_some() => {
                self.count = self.next.take().map_or(self.count, |(count, _)| count);
                self.loaded = Some(tick);
                self.held = None;
                self.loads = self.loads.wrapping_add(1);
            }
            0 | 4 if rises => {
                if let Some(held) = self.held.take() {
                    self.loaded = Some(tick.saturating_sub(held));
                }
            }
            0 | 2 | 3 | 4 if !rises => self.held = self.passed(tick),
            _ => {}
        }
        self.gate = gate;
    }

    /// The gate.
    #[must_use]
    pub fn gate(&self) -> bool {
        self.gate
    }

    /// Makes a state that came from outside one that can be.
    pub fn mend(&mut self) {
        self.mode = self.mode.min(5);
        self.access = self.access.clamp(1, 3);
        self.count = self.count.clamp(1, 0x10000);
        self.next = self.next.map(|(count, at)| (count.clamp(1, 0x10000), at));
    }
}
