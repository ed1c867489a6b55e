//! The 8254 interval timer: counter 0 makes interrupt 0, counter 2 the speaker's tone (port 0x61).

mod counter;

use std::sync::{Arc, Mutex};

use counter::Counter;
use fault::Result;
use serde::{Deserialize, Serialize};
use vcpu::time::Timers;

use super::{Tick, Ticker};
use crate::irq::Line;
use crate::{Access, Device, Ports, Saved};

/// Its ports, and that of the speaker.
pub const PORTS: &[(u16, u32)] = &[(0x40, 4), (0x61, 1)];
/// Ticks of its clock in a second.
pub const FREQUENCY: u64 = 1_193_182;

/// Interrupts come at least so many ticks apart (50 µs), whatever the guest asks for.
const LEAST: u64 = 60;
/// So many missed interrupts are made up for; more are lost.
const OWED: u32 = 8;

/// Tick of a moment in nanoseconds.
fn tick_at(now: u64) -> u64 {
    (u128::from(now) * u128::from(FREQUENCY) / 1_000_000_000) as u64
}

/// The first nanosecond of a tick.
fn time_of(tick: u64) -> u64 {
    let time = (u128::from(tick) * 1_000_000_000).div_ceil(u128::from(FREQUENCY));
    u64::try_from(time).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    counters: [Counter; 3],
    speaker: bool,
    /// Of counter 0: which load (see [`Counter::loads`]) is served, and up to which of its ends of periods.
    served: (u64, u64),
    owed: u32,
    /// When the next owed interrupt comes, in nanoseconds.
    make_up: u64,
}

/// The interval timer.
pub struct Pit {
    state: State,
    ticker: Ticker,
    line: Line,
}

impl Pit {
    /// A timer that pulls `line` (ISA interrupt 0).
    #[must_use]
    pub fn new(timers: &Arc<Timers>, line: Line) -> Arc<Mutex<Self>> {
        Arc::new_cyclic(|device| {
            let mut pit = Pit {
                state: State::default(),
                ticker: Ticker::new(timers, device),
                line,
            };
            pit.reset();
            Mutex::new(pit)
        })
    }

    /// Whether the speaker sounds: its gate and its output are switched on.
    #[must_use]
    pub fn sounds(&self) -> bool {
        self.state.speaker && self.state.counters[2].gate()
    }

    /// Ends of periods of counter 0 between two interrupts.
    fn step(counter: &Counter) -> u64 {
        if counter.is_periodic() {
            LEAST.div_ceil(counter.period())
        } else {
            1
        }
    }

    /// The tick of the next interrupt of counter 0.
    fn due(&self) -> Option<u64> {
        let counter = &self.state.counters[0];
        let began = counter.began()?;
        let served = if self.state.served.0 == counter.loads() {
            self.state.served.1
        } else {
            0
        };
        let at = match counter.mode() {
            2 | 3 => served
                .saturating_add(Self::step(counter))
                .saturating_mul(counter.period()),
            _ if served > 0 => return None,
            0 => counter.period(),
            _ => counter.period() + 1,
        };
        let at = began.saturating_add(at);
        Some(counter.next().map_or(at, |next| at.min(next)))
    }

    fn arm(&self) {
        let owed = (self.state.owed > 0).then_some(self.state.make_up);
        let due = self.due().map(time_of);
        self.ticker.arm(owed.into_iter().chain(due).min());
    }

    /// Makes the interrupts that are due.
    fn serve(&mut self, now: u64) {
        let tick = tick_at(now);
        let mut ended: u64 = 0;
        if let Some(next) = self.state.counters[0].next()
            && tick >= next
        {
            // The old period ends here, as an interrupt; the new one begins.
            self.state.counters[0].settle(tick);
            self.state.served = (self.state.counters[0].loads(), 0);
            ended = 1;
        }
        if let Some(due) = self.due()
            && tick >= due
        {
            let counter = &self.state.counters[0];
            let periods = (tick - counter.began().unwrap_or(tick)) / counter.period();
            let served = if self.state.served.0 == counter.loads() {
                self.state.served.1
            } else {
                0
            };
            ended = ended
                .saturating_add(periods.saturating_sub(served) / Self::step(counter))
                .max(1);
            self.state.served = (counter.loads(), periods.max(1));
        }
        if ended > 0 {
            let more = u32::try_from(ended - 1).unwrap_or(u32::MAX);
            self.state.owed = self.state.owed.saturating_add(more).min(OWED);
            self.interrupt(now);
        } else if self.state.owed > 0 && now >= self.state.make_up {
            self.state.owed -= 1;
            self.interrupt(now);
        }
        self.arm();
    }

    fn interrupt(&mut self, now: u64) {
        let counter = &self.state.counters[0];
        self.state.make_up = now.saturating_add(time_of(counter.period().max(LEAST)) / 2);
        if counter.mode() == 0 {
            self.line.set(true);
        } else {
            self.line.pulse();
        }
    }

    /// Counter 0 was written: what was owed of the old count is forgotten.
    fn rewritten(&mut self) {
        let counter = &self.state.counters[0];
        if counter.mode() == 0 {
            self.line.set(false);
        }
        if self.state.served.0 != counter.loads() {
            self.state.owed = 0;
        }
        self.arm();
    }

    fn read_port(&mut self, port: u16) -> u8 {
        let now = self.ticker.now();
        let tick = tick_at(now);
        match port {
            0x40 => {
                self.serve(now);
                self.state.counters[0].read(tick)
            }
            0x41 | 0x42 => self.state.counters[usize::from(port & 3)].read(tick),
            0x61 => {
                let tone = &mut self.state.counters[2];
                tone.settle(tick);
                // Bit 4 toggles with every refresh of memory: each 15 µs, 18 ticks.
                u8::from(tone.gate())
                    | u8::from(self.state.speaker) << 1
                    | u8::from(tick / 18 & 1 != 0) << 4
                    | u8::from(tone.output(tick)) << 5
            }
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u16, value: u8) {
        let now = self.ticker.now();
        let tick = tick_at(now);
        self.serve(now);
        match port {
            0x40 => {
                self.state.counters[0].write(value, tick);
                self.rewritten();
            }
            0x41 | 0x42 => self.state.counters[usize::from(port & 3)].write(value, tick),
            0x43 if value >> 6 == 3 => {
                for (number, counter) in self.state.counters.iter_mut().enumerate() {
                    if value & 2 << number != 0 {
                        counter.latch(tick, value & 0x20 == 0, value & 0x10 == 0);
                    }
                }
            }
            0x43 => {
                self.state.counters[usize::from(value >> 6)].control(value, tick);
                if value >> 6 == 0 && value & 0x30 != 0 {
                    self.rewritten();
                }
            }
            0x61 => {
                self.state.speaker = value & 2 != 0;
                self.state.counters[2].set_gate(value & 1 != 0, tick);
            }
            _ => {}
        }
    }
}

impl Tick for Pit {
    fn tick(&mut self, now: u64) {
        if !self.ticker.is_paused() {
            self.serve(now);
        }
    }
}

impl Device for Pit {
    fn name(&self) -> &str {
        "pit"
    }

    fn reset(&mut self) {
        self.state = State::default();
        self.state.counters[2].set_gate(false, 0);
        self.line.set(false);
        self.arm();
    }

    fn pause(&mut self) {
        self.ticker.pause();
    }

    fn resume(&mut self) {
        self.ticker.resume();
        self.arm();
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.state = saved.fields(1)?;
        self.state.counters.iter_mut().for_each(Counter::mend);
        self.state.owed = self.state.owed.min(OWED);
        self.arm();
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Pit {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        super::read_bytes(port, data, |port| self.read_port(port))
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        super::write_bytes(port, data, |port, value| self.write_port(port, value))
    }
}

#[cfg(test)]
mod tests;
