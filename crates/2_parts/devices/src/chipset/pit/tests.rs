//! The interval timer on a clock that counts.

use std::sync::Mutex;

use vcpu::time::{Clock, CountingClock};

use super::*;
use crate::irq::Wires;

struct Edges(Mutex<Vec<u64>>, Arc<CountingClock>);

impl Wires for Edges {
    fn set(&self, _: u32, level: bool) {
        if level {
            self.0.lock().unwrap().push(self.1.now());
        }
    }
}

struct Bench {
    clock: Arc<CountingClock>,
    timers: Arc<Timers>,
    edges: Arc<Edges>,
    pit: Arc<Mutex<Pit>>,
}

fn bench() -> Bench {
    let clock = Arc::new(CountingClock::new(0, 0));
    let timers = Timers::new(clock.clone());
    let edges = Arc::new(Edges(Mutex::default(), clock.clone()));
    let pit = Pit::new(&timers, Line::new(edges.clone(), 0));
    Bench {
        clock,
        timers,
        edges,
        pit,
    }
}

impl Bench {
    fn write(&self, port: u16, value: u8) {
        self.pit.lock().unwrap().write_port(port, value);
    }

    fn read(&self, port: u16) -> u8 {
        self.pit.lock().unwrap().read_port(port)
    }

    /// Lets time pass from deadline to deadline.
    fn run_to(&self, end: u64) {
        while let Some(next) = self.timers.next().filter(|next| *next <= end) {
            self.clock.advance(next);
            self.timers.fire();
        }
        self.clock.advance(end);
    }
}

#[test]
fn a_rate_of_1000_per_second_does_not_drift_in_100_seconds() {
    let bench = bench();
    for (port, value) in [(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)] {
        bench.write(port, value);
    }
    bench.run_to(100_000_000_000);
    let edges = bench.edges.0.lock().unwrap();
    let expected = (1..)
        .map(|k| time_of(k * 0x4a9))
        .take_while(|time| *time <= 100_000_000_000);
    assert!(edges.iter().copied().eq(expected));
}

#[test]
fn a_late_timer_makes_up_for_a_few_and_loses_the_rest() {
    let bench = bench();
    for (port, value) in [(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)] {
        bench.write(port, value);
    }
    bench.clock.advance(1_000_000_000);
    bench.timers.fire();
    let before = bench.edges.0.lock().unwrap().len();
    assert_eq!(before, 1);
    bench.run_to(1_010_100_000);
    assert_eq!(bench.edges.0.lock().unwrap().len(), 1 + 10 + OWED as usize);
}

#[test]
fn one_shots_fire_once_and_hold_their_output() {
    let bench = bench();
    for (port, value) in [(0x43, 0x30), (0x40, 0x10), (0x40, 0x27)] {
        bench.write(port, value);
    }
    bench.run_to(1_000_000_000);
    assert_eq!(*bench.edges.0.lock().unwrap(), [time_of(10_000)]);
    bench.write(0x43, 0xe2);
    assert_eq!(
        bench.read(0x40),
        0xb0,
        "output high, count loaded, both bytes, mode 0"
    );
}

#[test]
fn linux_calibrates_by_counter_2_and_reads_its_output_at_0x61() {
    let bench = bench();
    bench.write(0x61, 1);
    let latch = (FREQUENCY / 20) as u16;
    for (port, value) in [(0x43, 0xb0), (0x42, latch as u8), (0x42, (latch >> 8) as u8)] {
        bench.write(port, value);
    }
    assert_eq!(bench.read(0x61) & 0x20, 0);
    bench.run_to(49_000_000);
    assert_eq!(bench.read(0x61) & 0x21, 1);
    bench.run_to(50_001_000);
    assert_eq!(bench.read(0x61) & 0x21, 0x21);
}

#[test]
fn the_gate_holds_a_count_and_a_latch_keeps_it() {
    let bench = bench();
    bench.write(0x61, 1);
    for (port, value) in [(0x43, 0xb0), (0x42, 0), (0x42, 0x10)] {
        bench.write(port, value);
    }
    bench.run_to(time_of(0x100));
    bench.write(0x61, 0);
    bench.run_to(time_of(0x1000));
    bench.write(0x43, 0x80);
    bench.write(0x61, 1);
    bench.run_to(time_of(0x1080));
    assert_eq!([bench.read(0x42), bench.read(0x42)], [0, 0xf]);
    assert_eq!([bench.read(0x42), bench.read(0x42)], [0x80, 0xe]);
}

#[test]
fn decimal_counts_and_square_waves_are_read_as_the_manual_says() {
    let bench = bench();
    for (port, value) in [(0x43, 0x37), (0x40, 0x00), (0x40, 0x10)] {
        bench.write(port, value);
    }
    bench.run_to(time_of(100));
    assert_eq!(
        [bench.read(0x40), bench.read(0x40)],
        [0, 8],
        "counts down by two, in decimal"
    );
    bench.write(0x43, 0xe2);
    assert_eq!(bench.read(0x40), 0xb7);
    bench.run_to(time_of(600));
    bench.write(0x43, 0xe2);
    assert_eq!(bench.read(0x40), 0x37);
}

#[test]
fn a_new_period_begins_at_the_end_of_the_old_one() {
    let bench = bench();
    for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 0x10)] {
        bench.write(port, value);
    }
    bench.run_to(time_of(0x800));
    bench.write(0x40, 0);
    bench.write(0x40, 0x20);
    bench.run_to(time_of(0x3000));
    assert_eq!(*bench.edges.0.lock().unwrap(), [time_of(0x1000), time_of(0x3000)]);
}
