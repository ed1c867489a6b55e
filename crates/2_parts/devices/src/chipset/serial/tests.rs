//! The serial port as a driver uses it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::irq::Wires;

#[derive(Default)]
struct Outside {
    sent: Mutex<Vec<u8>>,
    level: AtomicBool,
    rooms: AtomicU32,
}

impl Wires for Outside {
    fn set(&self, _: u32, level: bool) {
        self.level.store(level, Ordering::SeqCst);
    }
}

struct Console(Arc<Outside>);

impl Sink for Console {
    fn write(&mut self, bytes: &[u8]) {
        self.0.sent.lock().unwrap().extend(bytes);
    }
}

fn made() -> (Arc<Outside>, Arc<Mutex<Serial>>) {
    let outside = Arc::new(Outside::default());
    let rooms = outside.clone();
    let room = Box::new(move || {
        rooms.rooms.fetch_add(1, Ordering::SeqCst);
    });
    let line = Line::new(outside.clone(), 4);
    let serial = Serial::new("serial0", 0x3f8, line, Box::new(Console(outside.clone())), room);
    (outside, serial)
}

#[test]
fn output_leaves_at_once_and_the_empty_transmitter_is_told_once() {
    let (outside, serial) = made();
    let mut serial = serial.lock().unwrap();
    let up = || outside.level.load(Ordering::SeqCst);
    serial.write_register(1, EMPTIED);
    assert!(up());
    assert_eq!((serial.read_register(2), up()), (2, false));
    serial.write_register(0, b'A');
    assert!(up());
    assert_eq!(
        [
            serial.read_register(5),
            serial.read_register(2),
            serial.read_register(2)
        ],
        [0x60, 2, 1]
    );
    assert_eq!(*outside.sent.lock().unwrap(), b"A");
}

#[test]
fn input_waits_in_a_fifo_of_16_and_room_is_told() {
    let (outside, serial) = made();
    let mut serial = serial.lock().unwrap();
    serial.write_register(2, 0xc7);
    serial.write_register(1, RECEIVED);
    assert_eq!(serial.receive(&[7; 10]), 10);
    assert_eq!(serial.read_register(2), 0xcc, "time-out");
    assert_eq!(serial.receive(&[8; 10]), 6);
    assert_eq!(serial.read_register(2), 0xc4);
    for _ in 0..16 {
        assert_eq!(outside.rooms.load(Ordering::SeqCst), 0);
        assert!(outside.level.load(Ordering::SeqCst));
        assert_eq!(serial.read_register(5), 0x61);
        serial.read_register(0);
    }
    assert_eq!((serial.read_register(5), serial.read_register(2)), (0x60, 0xc1));
    assert_eq!(outside.rooms.load(Ordering::SeqCst), 1);
    assert!(!outside.level.load(Ordering::SeqCst));
}

#[test]
fn the_loop_returns_bytes_and_modem_lines() {
    let (outside, serial) = made();
    let mut serial = serial.lock().unwrap();
    assert_eq!(serial.read_register(6), 0xb0);
    serial.write_register(4, LOOP | 0xa);
    assert_eq!(serial.read_register(6) & 0xf0, 0x90, "as Linux looks for a port");
    serial.write_register(0, 0x55);
    assert_eq!((serial.read_register(5), serial.read_register(0)), (0x61, 0x55));
    assert_eq!(serial.receive(b"x"), 0);
    serial.write_register(4, 0);
    assert_eq!(outside.rooms.load(Ordering::SeqCst), 1);
    assert!(outside.sent.lock().unwrap().is_empty());
}

#[test]
fn the_divisor_lies_over_the_data_and_a_break_is_told_with_its_zero() {
    let (outside, serial) = made();
    let mut serial = serial.lock().unwrap();
    serial.write_register(3, 0x83);
    serial.write_register(0, 1);
    assert_eq!([serial.read_register(0), serial.read_register(1)], [1, 0]);
    serial.write_register(3, 3);
    serial.write_register(1, STATUS | RECEIVED);
    serial.receive_break();
    assert_eq!((serial.read_register(2), serial.read_register(5)), (6, 0x71));
    assert_eq!(serial.read_register(0), 0);
    assert!(!outside.level.load(Ordering::SeqCst));
}
