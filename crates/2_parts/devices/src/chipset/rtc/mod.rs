//! The MC146818 clock (Motorola data sheet) and the CMOS memory beside it.
//!
//! Its time is the machine's real time plus an offset that is saved; nothing ticks: registers, flags and interrupts are worked out
//! from the time when they are looked at, and a timer is armed only for an interrupt that the guest waits for.

mod calendar;

use std::sync::{Arc, Mutex};

use calendar::Moment;
use fault::{Fault, Result};
use serde::{Deserialize, Serialize};
use vcpu::time::{SECOND, Timers};

use super::{Tick, Ticker};
use crate::irq::Line;
use crate::state::STATE_UNFIT;
use crate::{Access, Device, Ports, Saved};

/// Its ports: index and data, twice.
pub const PORTS: &[(u16, u32)] = &[(0x70, 4)];

/// Index of the century.
const CENTURY: u8 = 0x32;
/// Nanoseconds before a second in which the clock says that it is about to change.
const UPDATE: u64 = 244_000;
const NANOS: i128 = SECOND as i128;

const A: usize = 0x0a;
const B: usize = 0x0b;
const UIP: u8 = 0x80;
const SET: u8 = 0x80;
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATED: u8 = 0x10;
const BINARY: u8 = 4;
const HOURS24: u8 = 2;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    cmos: Vec<u8>,
    indices: [u8; 2],
    nmi_masked: bool,
    /// Seconds and nanoseconds that its time is ahead of the machine's real time.
    ahead: (i64, i64),
    /// Nanoseconds of its time at which it stands still; seconds and the rest.
    stopped: Option<(i64, i64)>,
    /// Register C.
    flags: u8,
    /// Up to which moment of the machine's clock, and of its own time, flags are worked out.
    seen: u64,
    seen_second: i64,
}

/// The clock.
pub struct Rtc {
    state: State,
    clock: Arc<dyn vcpu::time::Clock>,
    ticker: Ticker,
    line: Line,
}

fn split(nanos: i128) -> (i64, i64) {
    let second = nanos.div_euclid(NANOS).clamp(-(1 << 40), 1 << 40) as i64;
    (second, nanos.rem_euclid(NANOS) as i64)
}

fn join((seconds, nanos): (i64, i64)) -> i128 {
    i128::from(seconds) * NANOS + i128::from(nanos)
}

impl Rtc {
    /// A clock with this CMOS memory (made 128 bytes long at least, 256 at most); it pulls `line` (ISA interrupt 8). Time registers and
    /// the century are the clock's; registers A and B are set up as firmware does.
    #[must_use]
    pub fn new(timers: &Arc<Timers>, mut cmos: Vec<u8>, line: Line) -> Arc<Mutex<Self>> {
        let len = if cmos.len() > 128 { 256 } else { 128 };
        cmos.resize(len, 0);
        cmos[A] = 0x26;
        cmos[B] = HOURS24;
        cmos[0x0d] = 0x80;
        Arc::new_cyclic(|device| {
            let mut rtc = Rtc {
                state: State {
                    cmos,
                    indices: [0; 2],
                    nmi_masked: false,
                    ahead: (0, 0),
                    stopped: None,
                    flags: 0,
                    seen: 0,
                    seen_second: 0,
                },
                clock: Arc::clone(timers.clock()),
                ticker: Ticker::new(timers, device),
                line,
            };
            rtc.state.seen = rtc.clock.now();
            rtc.state.seen_second = split(rtc.time()).0;
            Mutex::new(rtc)
        })
    }

    /// Whether the guest masks non-maskable interrupts (bit 7 of port 0x70).
    #[must_use]
    pub fn nmi_masked(&self) -> bool {
        self.state.nmi_masked
    }

    /// A byte of CMOS memory as it is kept.
    #[must_use]
    pub fn cmos(&self, index: u8) -> u8 {
        self.state.cmos.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// The machine's real time in nanoseconds since 1970.
    fn real(&self) -> i128 {
        i128::from(self.clock.epoch()) + i128::from(self.clock.now())
    }

    /// Its own time.
    fn time(&self) -> i128 {
        self.state
            .stopped
            .map_or_else(|| self.real() + join(self.state.ahead), join)
    }

    fn set_time(&mut self, time: i128) {
        if self.state.stopped.is_some() {
            self.state.stopped = Some(split(time));
        } else {
            self.state.ahead = split(time - self.real());
        }
        self.state.seen_second = split(time).0;
    }

    fn encode(&self, value: i64) -> u8 {
        if self.state.cmos[B] & BINARY != 0 {
            value as u8
        } else {
            (value / 10 * 16 + value % 10) as u8
        }
    }

    fn decode(&self, value: u8) -> i64 {
        if self.state.cmos[B] & BINARY != 0 {
            i64::from(value)
        } else {
            i64::from(value >> 4) * 10 + i64::from(value & 0xf)
        }
    }

    fn encode_hour(&self, hour: i64) -> u8 {
        if self.state.cmos[B] & HOURS24 != 0 {
            return self.encode(hour);
        }
        self.encode((hour + 11) % 12 + 1) | if hour >= 12 { 0x80 } else { 0 }
    }

    fn decode_hour(&self, value: u8) -> i64 {
        if self.state.cmos[B] & HOURS24 != 0 {
            return self.decode(value);
        }
        self.decode(value & 0x7f) % 12 + if value & 0x80 != 0 { 12 } else { 0 }
    }

    /// Whether an index is a time register of the clock.
    fn is_time(index: u8) -> bool {
        matches!(index, 0 | 2 | 4 | 6..=9 | CENTURY)
    }

    /// A time register as the clock shows it.
    fn show(&self, index: u8) -> u8 {
        let moment = calendar::moment(split(self.time()).0);
        match index {
            0 => self.encode(moment.second),
            2 => self.encode(moment.minute),
            4 => self.encode_hour(moment.hour),
            6 => self.encode(moment.weekday),
            7 => self.encode(moment.day),
            8 => self.encode(moment.month),
            9 => self.encode(moment.year.rem_euclid(100)),
            _ => self.encode(moment.year.div_euclid(100).rem_euclid(100)),
        }
    }

    /// Whether time stands still: for being set, or because the divider is held.
    fn is_held(&self) -> bool {
        self.state.cmos[B] & SET != 0 || self.state.cmos[A] & 0x60 == 0x60
    }

    /// The guest writes a time register: at once, or, while time stands still, for when it goes on.
    fn put(&mut self, index: u8, value: u8) {
        let mut fields = [0, 2, 4, 7, 8, 9, CENTURY].map(|index| {
            if self.is_held() {
                self.cmos(index)
            } else {
                self.show(index)
            }
        });
        if let Some(at) = [0, 2, 4, 7, 8, 9, CENTURY]
            .iter()
            .position(|field| *field == index)
        {
            fields[at] = value;
        }
        self.state.cmos[usize::from(index)] = value;
        if !self.is_held() {
            self.set_fields(fields);
        }
    }

    fn set_fields(&mut self, [second, minute, hour, day, month, year, century]: [u8; 7]) {
        let moment = Moment {
            year: self.decode(century) * 100 + self.decode(year),
            month: self.decode(month),
            day: self.decode(day),
            hour: self.decode_hour(hour),
            minute: self.decode(minute),
            second: self.decode(second),
            weekday: 0,
        };
        let rest = split(self.time()).1;
        self.set_time(join((calendar::seconds(&moment), rest)));
    }

    /// Registers A and B decide whether time goes.
    fn write_control(&mut self, register: usize, value: u8) {
        self.settle();
        let (was_held, was_reset) = (self.is_held(), self.state.cmos[A] & 0x60 == 0x60);
        if !was_held && (register == B && value & SET != 0 || register == A && value & 0x60 == 0x60) {
            for index in [0, 2, 4, 6, 7, 8, 9, CENTURY] {
                self.state.cmos[usize::from(index)] = self.show(index);
            }
        }
        self.state.cmos[register] = if register == A { value & !UIP } else { value };
        if register == B && value & SET != 0 {
            // Setting the time ends the update interrupt.
            self.state.cmos[B] &= !UPDATED;
        }
        if was_held && !self.is_held() {
            let fields = [0, 2, 4, 7, 8, 9, CENTURY].map(|index| self.cmos(index));
            self.set_fields(fields);
        }
        // A divider that is let go makes the next second half a second later.
        let is_reset = self.state.cmos[A] & 0x60 == 0x60;
        if is_reset && !was_reset {
            self.state.stopped = Some(split(self.time()));
        } else if was_reset && !is_reset {
            let time = join((split(self.time()).0, 500_000_000));
            self.state.stopped = None;
            self.set_time(time);
        }
        self.update();
    }

    /// Nanoseconds of machine time of the first periodic moment after `from`.
    fn next_periodic(&self, from: u64) -> Option<u64> {
        let rate = self.state.cmos[A] & 0xf;
        // Rates 1 and 2 are those of 8 and 9 with the usual crystal.
        let shift = match rate {
            0 => return None,
            1 | 2 => rate + 6,
            _ => rate - 1,
        };
        if self.state.cmos[A] & 0x60 == 0x60 {
            return None;
        }
        let unit = u128::from(SECOND) << shift;
        let passed = u128::from(from) * 32_768 / unit;
        u64::try_from(((passed + 1) * unit).div_ceil(32_768)).ok()
    }

    /// The first second after `from` that the alarm registers name.
    fn next_alarm(&self, from: i64) -> Option<i64> {
        let [second, minute, hour] = [1, 3, 5].map(|index| self.state.cmos[index]);
        let matches = |register: u8, wanted: i64, shown: i64| register >= 0xc0 || wanted == shown;
        let mut at = from + 1;
        while at <= from + 86_400 {
            let day = at.rem_euclid(86_400);
            if !matches(hour, self.decode_hour(hour), day / 3600) {
                at += 3600 - day % 3600;
            } else if !matches(minute, self.decode(minute), day / 60 % 60) {
                at += 60 - day % 60;
            } else if !matches(second, self.decode(second), day % 60) {
                at += 1;
            } else {
                return Some(at);
            }
        }
        None
    }

    /// Works out the flags of what has passed.
    fn settle(&mut self) {
        let now = self.clock.now();
        if self.next_periodic(self.state.seen).is_some_and(|at| at <= now) {
            self.state.flags |= PERIODIC;
        }
        self.state.seen = now;
        let second = split(self.time()).0;
        if !self.is_held() && second > self.state.seen_second {
            self.state.flags |= UPDATED;
            if self.state.flags & ALARM == 0
                && self
                    .next_alarm(self.state.seen_second)
                    .is_some_and(|at| at <= second)
            {
                self.state.flags |= ALARM;
            }
        }
        self.state.seen_second = second;
    }

    /// Tells the line, and arms the timer for the next interrupt that the guest waits for.
    fn update(&mut self) {
        let wanted = self.state.cmos[B] & (PERIODIC | ALARM | UPDATED);
        self.line.set(self.state.flags & wanted != 0);
        let missing = wanted & !self.state.flags;
        let now = self.clock.now();
        let mut next = None;
        let mut earliest = |at: Option<u64>| next = next.into_iter().chain(at).min();
        if missing & PERIODIC != 0 {
            earliest(self.next_periodic(now));
        }
        if !self.is_held() {
            let (second, rest) = split(self.time());
            let until = |at: i64| {
                let seconds = u64::try_from(at.saturating_sub(second)).unwrap_or(0);
                now.checked_add(seconds.checked_mul(SECOND)?)?
                    .checked_sub(rest as u64)
            };
            if missing & UPDATED != 0 {
                earliest(until(second + 1));
            }
            if missing & ALARM != 0 {
                earliest(self.next_alarm(second).and_then(until));
            }
        }
        self.ticker.arm(next);
    }

    fn read_register(&mut self, index: u8) -> u8 {
        match index {
            index if Self::is_time(index) => {
                if self.is_held() {
                    self.cmos(index)
                } else {
                    self.show(index)
                }
            }
            0x0a => {
                let left = SECOND as i64 - split(self.time()).1;
                let updating = !self.is_held() && left <= UPDATE as i64;
                self.state.cmos[A] | if updating { UIP } else { 0 }
            }
            0x0c => {
                self.settle();
                let wanted = self.state.cmos[B] & self.state.flags & 0x70;
                let flags = std::mem::take(&mut self.state.flags);
                self.update();
                flags | if wanted != 0 { 0x80 } else { 0 }
            }
            0x0d => 0x80,
            _ => self.cmos(index),
        }
    }

    fn write_register(&mut self, index: u8, value: u8) {
        match index {
            0x0a | 0x0b => self.write_control(usize::from(index), value),
            0x0c | 0x0d => {}
            index if Self::is_time(index) => {
                self.settle();
                self.put(index, value);
                self.update();
            }
            1 | 3 | 5 => {
                self.settle();
                self.state.cmos[usize::from(index)] = value;
                self.update();
            }
            _ => {
                if let Some(byte) = self.state.cmos.get_mut(usize::from(index)) {
                    *byte = value;
                }
            }
        }
    }

    fn index(&self, port: u16) -> u8 {
        match port {
            0x71 => self.state.indices[0] & 0x7f,
            _ => self.state.indices[1],
        }
    }

    fn read_port(&mut self, port: u16) -> u8 {
        match port {
            0x71 | 0x73 => self.read_register(self.index(port)),
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u16, value: u8) {
        match port {
            0x70 => {
                self.state.nmi_masked = value & 0x80 != 0;
                self.state.indices[0] = value & 0x7f;
            }
            0x72 => self.state.indices[1] = value,
            _ => self.write_register(self.index(port), value),
        }
    }
}

impl Tick for Rtc {
    fn tick(&mut self, _now: u64) {
        if !self.ticker.is_paused() {
            self.settle();
            self.update();
        }
    }
}

impl Device for Rtc {
    fn name(&self) -> &str {
        "rtc"
    }

    fn reset(&mut self) {
        self.settle();
        // CMOS memory and time outlive a reset.
        self.state.cmos[B] &= !(PERIODIC | ALARM | UPDATED | 8);
        self.state.flags = 0;
        self.state.nmi_masked = false;
        self.update();
    }

    fn pause(&mut self) {
        self.ticker.pause();
    }

    fn resume(&mut self) {
        self.ticker.resume();
        self.settle();
        self.update();
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let mut state: State = saved.fields(1)?;
        if state.cmos.len() != self.state.cmos.len() {
            return Err(Fault::new(STATE_UNFIT).because_of("CMOS memory of another length"));
        }
        state.ahead = split(join(state.ahead));
        state.stopped = state.stopped.map(|at| split(join(at)));
        state.seen_second = state.seen_second.clamp(-(1 << 40), 1 << 40);
        self.state = state;
        self.update();
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Rtc {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        super::read_bytes(port, data, |port| self.read_port(port))
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        super::write_bytes(port, data, |port, value| self.write_port(port, value))
    }
}

#[cfg(test)]
mod tests;
