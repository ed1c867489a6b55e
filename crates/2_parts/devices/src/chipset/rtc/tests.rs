//! The clock on a clock that counts.

use std::sync::Mutex;

use vcpu::time::{Clock, CountingClock};

use super::*;
use crate::irq::Wires;

#[derive(Default)]
struct Level(Mutex<(bool, u32)>);

impl Wires for Level {
    fn set(&self, _: u32, level: bool) {
        let mut seen = self.0.lock().unwrap();
        seen.1 += u32::from(level && !seen.0);
        seen.0 = level;
    }
}

struct Bench {
    clock: Arc<CountingClock>,
    timers: Arc<Timers>,
    level: Arc<Level>,
    rtc: Arc<Mutex<Rtc>>,
}

/// 2024-02-29 23:59:58.25.
const START: u64 = 1_709_251_198_250_000_000;

fn bench() -> Bench {
    let clock = Arc::new(CountingClock::new(0, START));
    let timers = Timers::new(clock.clone());
    let level = Arc::new(Level::default());
    let rtc = Rtc::new(&timers, vec![0; 128], Line::new(level.clone(), 8));
    Bench {
        clock,
        timers,
        level,
        rtc,
    }
}

impl Bench {
    fn read(&self, index: u8) -> u8 {
        let mut rtc = self.rtc.lock().unwrap();
        rtc.write_port(0x70, index);
        rtc.read_port(0x71)
    }

    fn write(&self, index: u8, value: u8) {
        let mut rtc = self.rtc.lock().unwrap();
        rtc.write_port(0x70, index);
        rtc.write_port(0x71, value);
    }

    fn shown(&self) -> [u8; 7] {
        [CENTURY, 9, 8, 7, 4, 2, 0].map(|index| self.read(index))
    }

    fn run_to(&self, end: u64) {
        while let Some(next) = self.timers.next().filter(|next| *next <= end) {
            self.clock.advance(next);
            self.timers.fire();
        }
        self.clock.advance(end);
    }
}

#[test]
fn it_shows_the_machines_real_time_over_a_leap_day() {
    let bench = bench();
    assert_eq!(bench.shown(), [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58]);
    bench.run_to(2 * SECOND);
    assert_eq!(bench.shown(), [0x20, 0x24, 0x03, 0x01, 0, 0, 0]);
    assert_eq!(bench.read(6), 6, "a Friday");
    bench.write(0x0b, BINARY);
    bench.run_to(3 * SECOND + 13 * 3600 * SECOND);
    assert_eq!((bench.read(9), bench.read(4)), (24, 0x81));
}

#[test]
fn a_set_time_goes_on_from_there_and_survives_saving() {
    let bench = bench();
    bench.write(0x0b, SET | HOURS24);
    for (index, value) in [
        (CENTURY, 0x19),
        (9, 0x99),
        (8, 0x12),
        (7, 0x31),
        (4, 0x23),
        (2, 0x59),
        (0, 0x59),
    ] {
        bench.write(index, value);
    }
    bench.run_to(10 * SECOND);
    assert_eq!(bench.shown(), [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]);
    bench.write(0x0b, HOURS24);
    assert_eq!(bench.shown(), [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]);
    bench.run_to(11 * SECOND);
    assert_eq!(bench.shown(), [0x20, 0, 1, 1, 0, 0, 0]);
    let saved = bench.rtc.lock().unwrap().save().unwrap();
    let other = self::bench();
    other.clock.advance(11 * SECOND);
    other.rtc.lock().unwrap().restore(&saved).unwrap();
    assert_eq!(other.shown(), bench.shown());
}

#[test]
fn a_divider_that_is_let_go_ticks_half_a_second_later() {
    let bench = bench();
    bench.write(0x0a, 0x76);
    bench.run_to(5 * SECOND);
    assert_eq!(bench.read(0), 0x58);
    bench.write(0, 0x10);
    bench.write(0x0a, 0x26);
    assert_eq!(bench.read(0), 0x10);
    bench.run_to(5 * SECOND + 499_000_000);
    assert_eq!(bench.read(0), 0x10);
    bench.run_to(5 * SECOND + 500_000_000);
    assert_eq!(bench.read(0), 0x11);
}

#[test]
fn the_update_flag_is_up_just_before_the_second() {
    let bench = bench();
    bench.run_to(749_000_000);
    assert_eq!(bench.read(0x0a), 0x26);
    bench.run_to(750_000_000 - 100_000);
    assert_eq!(bench.read(0x0a), 0xa6);
    bench.run_to(750_000_000);
    assert_eq!((bench.read(0x0a), bench.read(0)), (0x26, 0x59));
}

#[test]
fn interrupts_come_when_they_are_waited_for_and_end_when_their_flags_are_read() {
    let bench = bench();
    assert_eq!(bench.timers.next(), None);
    bench.write(0x0b, HOURS24 | UPDATED);
    bench.run_to(10 * SECOND);
    assert_eq!(*bench.level.0.lock().unwrap(), (true, 1));
    assert_eq!(bench.read(0x0c) & 0x90, 0x90);
    assert_eq!(*bench.level.0.lock().unwrap(), (false, 1));
    bench.write(0x0b, HOURS24 | PERIODIC);
    for _ in 0..1024 {
        bench.read(0x0c);
        let next = bench.timers.next().unwrap();
        bench.run_to(next);
    }
    assert_eq!(bench.level.0.lock().unwrap().1, 1025);
    assert!(
        bench.clock.now().abs_diff(11 * SECOND) <= SECOND / 1024,
        "{}",
        bench.clock.now()
    );
    bench.write(0x0b, HOURS24 | ALARM);
    bench.read(0x0c);
    for (index, value) in [(1, 0x30), (3, 0xff), (5, 0x00)] {
        bench.write(index, value);
    }
    assert_eq!(bench.timers.next(), Some(31 * SECOND + 750_000_000));
    bench.write(5, 0x30);
    assert_eq!(bench.timers.next(), None, "there is no 30th hour");
}
