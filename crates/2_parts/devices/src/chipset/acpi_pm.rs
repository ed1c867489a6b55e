//! Power management of the PIIX4 (function 3, 8086:7113): ACPI's fixed registers, the power button, and the SMI command port.
//!
//! Registers are those of the ACPI Specification 6.5, §4.8; the window of 64 ports lies where the function's PMBASE says. General
//! purpose events are at +0x20, as `boot`'s FADT tells.

use std::sync::{Arc, Mutex};

use fault::Result;
use serde::{Deserialize, Serialize};
use vcpu::time::Timers;

use super::{Signals, Tick, Ticker};
use crate::irq::Line;
use crate::pci::config::ConfigState;
use crate::pci::{Config, Function, Identity, Window};
use crate::{Access, Device, Ports, Registers, Saved};

/// SMI command and status.
pub const PORTS: &[(u16, u32)] = &[(0xb2, 2)];
/// Where the registers are after power-on.
pub const BASE: u16 = 0x600;
/// The region that the registers are among those of the function: none of its BARs.
const REGION: u8 = 7;
/// Ticks of the power management timer in a second.
pub const FREQUENCY: u64 = 3_579_545;

const TIMER: u16 = 1;
const GLOBAL: u16 = 1 << 5;
const BUTTON: u16 = 1 << 8;
const SLEEP_BUTTON: u16 = 1 << 9;
const CLOCK: u16 = 1 << 10;
const WAKE: u16 = 1 << 15;
const ENABLES: u16 = TIMER | GLOBAL | BUTTON | SLEEP_BUTTON | CLOCK;
const SCI_ENABLED: u16 = 1;
const SLEEP: u16 = 1 << 13;
/// Half the period of the 24-bit timer: its highest bit changes.
const HALF: u64 = 1 << 23;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    status: u16,
    enabled: u16,
    control: u16,
    /// Status and enable of general purpose events; none is wired.
    events: [u8; 4],
    /// SMI command and status.
    smi: [u8; 2],
    /// Halves of the timer's period that were seen.
    halves: u64,
}

/// The function, and the devices behind it.
pub struct AcpiPm {
    config: Config,
    state: State,
    ticker: Ticker,
    line: Line,
    signals: Arc<dyn Signals>,
}

fn tick_at(now: u64) -> u64 {
    (u128::from(now) * u128::from(FREQUENCY) / 1_000_000_000) as u64
}

fn initial() -> Config {
    let mut config = Config::new(Identity {
        vendor: 0x8086,
        device: 0x7113,
        class: 0x06_80_00,
        revision: 3,
        subsystem: (0x1af4, 0x1100),
    });
    config.set_u8(0x3d, 1);
    config.set_u8(0x3c, SCI);
    config.allow(0x40, &[0xff; 0xc0]);
    config.set_u32(0x40, u32::from(BASE) | 1);
    config.allow(0x40, &[0xc0, 0xff, 0, 0]);
    config.set_u8(0x80, 1);
    // APMC_EN: the SMM handler is said to be installed, so that firmware does not wait for one.
    config.set_u8(0x5b, 2);
    config.set_u32(0x90, 1);
    config
}

/// ISA interrupt of the system control interrupt.
pub const SCI: u8 = 9;

impl AcpiPm {
    /// Power management that pulls `line` (ISA interrupt 9, level). It begins in ACPI mode.
    #[must_use]
    pub fn new(timers: &Arc<Timers>, line: Line, signals: Arc<dyn Signals>) -> Arc<Mutex<Self>> {
        Arc::new_cyclic(|device| {
            Mutex::new(AcpiPm {
                config: initial(),
                state: State {
                    control: SCI_ENABLED,
                    ..State::default()
                },
                ticker: Ticker::new(timers, device),
                line,
                signals,
            })
        })
    }

    /// Somebody presses the power button.
    pub fn press_power_button(&mut self) {
        self.state.status |= BUTTON;
        self.update();
    }

    /// Whether the guest listens to the power button.
    #[must_use]
    pub fn hears_power_button(&self) -> bool {
        self.state.enabled & BUTTON != 0
    }

    /// Notes that the timer's highest bit has changed.
    fn settle(&mut self) {
        let halves = tick_at(self.ticker.now()) / HALF;
        if halves > self.state.halves {
            self.state.status |= TIMER;
        }
        self.state.halves = halves;
    }

    fn update(&mut self) {
        self.line
            .set(self.state.status & self.state.enabled & ENABLES != 0);
        let waits = self.state.enabled & !self.state.status & TIMER != 0;
        let next = u128::from(self.state.halves + 1) * u128::from(HALF) * 1_000_000_000;
        let next = u64::try_from(next.div_ceil(u128::from(FREQUENCY))).ok();
        self.ticker.arm(next.filter(|_| waits));
    }

    fn read_register(&mut self, offset: u64, now: u64) -> u8 {
        let word = |word: u16| word.to_le_bytes()[offset as usize & 1];
        match offset {
            0 | 1 => {
                self.settle();
                word(self.state.status)
            }
            2 | 3 => word(self.state.enabled),
            4 | 5 => word(self.state.control),
            8..=11 => {
                let timer = (tick_at(now) & 0xff_ffff) as u32;
                timer.to_le_bytes()[offset as usize & 3]
            }
            0x20..=0x23 => self.state.events[offset as usize & 3],
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u8) {
        let high = offset & 1 != 0;
        let word = u16::from(value) << if high { 8 } else { 0 };
        let kept = if high { 0xff } else { 0xff00 };
        match offset {
            0 | 1 => {
                self.settle();
                self.state.status &= !(word & (ENABLES | WAKE | 0x10));
            }
            2 | 3 => {
                self.settle();
                self.state.enabled = self.state.enabled & kept | word & ENABLES;
            }
            4 | 5 => {
                self.state.control = self.state.control & kept | word & 0x1c07;
                // Sleep type 0 is soft off; the machine has no other.
                if word & (SLEEP | 0x1c00) == SLEEP {
                    self.signals.power_off();
                }
            }
            0x20 | 0x21 => self.state.events[offset as usize & 3] &= !value,
            0x22 | 0x23 => self.state.events[offset as usize & 3] = value,
            _ => {}
        }
        self.update();
    }
}

impl Tick for AcpiPm {
    fn tick(&mut self, _now: u64) {
        if !self.ticker.is_paused() {
            self.settle();
            self.update();
        }
    }
}

impl Device for AcpiPm {
    fn name(&self) -> &str {
        "acpi_pm"
    }

    fn reset(&mut self) {
        self.config.reset();
        self.state = State {
            control: SCI_ENABLED,
            halves: tick_at(self.ticker.now()) / HALF,
            ..State::default()
        };
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
        Saved::new(1, &(self.config.save(), &self.state))
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let (config, mut state): (ConfigState, State) = saved.fields(1)?;
        self.config.restore(&config)?;
        state.halves = state.halves.min(u64::MAX / HALF);
        self.state = state;
        self.update();
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }

    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}

impl Function for AcpiPm {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn windows(&self) -> Vec<Window> {
        let window = Window {
            bar: REGION,
            io: true,
            address: u64::from(self.config.u16(0x40) & 0xffc0),
            len: 64,
        };
        let open = self.config.u8(0x80) & 1 != 0 && window.address != 0;
        open.then_some(window).into_iter().collect()
    }
}

impl Ports for AcpiPm {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        super::read_bytes(port, data, |port| match port {
            0xb2 | 0xb3 => self.state.smi[usize::from(port & 1)],
            _ => 0xff,
        })
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        super::write_bytes(port, data, |port, value| {
            if matches!(port, 0xb2 | 0xb3) {
                self.state.smi[usize::from(port & 1)] = value;
            }
            // ACPI mode on and off, as the FADT of QEMU's machines names the commands.
            match (port, value) {
                (0xb2, 0xf1) => self.state.control |= SCI_ENABLED,
                (0xb2, 0xf0) => self.state.control &= !SCI_ENABLED,
                _ => {}
            }
        })
    }
}

impl Registers for AcpiPm {
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Access {
        if region != u32::from(REGION) {
            return Access::Unclaimed;
        }
        // One moment for all bytes: the timer is read in one piece.
        let now = self.ticker.now();
        for (at, byte) in (0..).zip(data) {
            *byte = self.read_register(offset.wrapping_add(at), now);
        }
        Access::Done
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Access {
        if region != u32::from(REGION) {
            return Access::Unclaimed;
        }
        for (at, byte) in (0..).zip(data) {
            self.write_register(offset.wrapping_add(at), *byte);
        }
        Access::Done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use vcpu::time::{Clock, CountingClock};

    use super::*;
    use crate::irq::Wires;

    #[derive(Default)]
    struct Heard {
        level: AtomicBool,
        off: AtomicBool,
    }

    impl Wires for Heard {
        fn set(&self, _: u32, level: bool) {
            self.level.store(level, Ordering::SeqCst);
        }
    }

    impl Signals for Heard {
        fn reset(&self) {}
        fn power_off(&self) {
            self.off.store(true, Ordering::SeqCst);
        }
        fn panicked(&self, _: bool) {}
    }

    fn read(it: &mut AcpiPm, offset: u64) -> u32 {
        let mut data = [0; 4];
        Registers::read(it, u32::from(REGION), offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(it: &mut AcpiPm, offset: u64, value: u16) {
        Registers::write(it, u32::from(REGION), offset, &value.to_le_bytes());
    }

    #[test]
    fn the_power_button_is_told_until_its_bit_is_cleared_and_off_is_off() {
        let timers = Timers::new(Arc::new(CountingClock::new(0, 0)));
        let heard = Arc::new(Heard::default());
        let it = AcpiPm::new(&timers, Line::new(heard.clone(), 9), heard.clone());
        let mut it = it.lock().unwrap();
        let up = || heard.level.load(Ordering::SeqCst);
        it.press_power_button();
        assert!(!up() && !it.hears_power_button());
        write(&mut it, 2, BUTTON);
        assert!(up() && it.hears_power_button());
        assert_eq!(read(&mut it, 0), u32::from(BUTTON) << 16 | u32::from(BUTTON));
        write(&mut it, 0, BUTTON);
        assert!(!up());
        write(&mut it, 4, 1 << 10 | SLEEP);
        assert!(!heard.off.load(Ordering::SeqCst));
        write(&mut it, 4, SLEEP | 1);
        assert!(heard.off.load(Ordering::SeqCst));
        assert_eq!(read(&mut it, 4), 1);
    }

    #[test]
    fn the_timer_counts_24_bits_and_interrupts_when_the_highest_changes() {
        let clock = Arc::new(CountingClock::new(0, 0));
        let timers = Timers::new(clock.clone());
        let heard = Arc::new(Heard::default());
        let it = AcpiPm::new(&timers, Line::new(heard.clone(), 9), heard.clone());
        clock.advance(1_000_000_000);
        assert_eq!(read(&mut it.lock().unwrap(), 8), FREQUENCY as u32);
        assert_eq!(timers.next(), None);
        write(&mut it.lock().unwrap(), 2, TIMER);
        clock.advance(timers.next().unwrap());
        timers.fire();
        assert!(heard.level.load(Ordering::SeqCst));
        assert_eq!(read(&mut it.lock().unwrap(), 8), HALF as u32);
        clock.advance(10_000_000_000);
        assert_eq!(
            read(&mut it.lock().unwrap(), 8),
            (10 * FREQUENCY & 0xff_ffff) as u32
        );
    }
}
