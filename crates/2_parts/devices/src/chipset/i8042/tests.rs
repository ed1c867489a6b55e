//! The keyboard controller as Linux and firmware drive it.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::irq::Wires;

#[derive(Default)]
struct Heard {
    edges: [AtomicU32; 16],
    resets: AtomicU32,
    leds: AtomicU32,
}

impl Wires for Heard {
    fn set(&self, wire: u32, level: bool) {
        self.edges[wire as usize].fetch_add(u32::from(level), Ordering::SeqCst);
    }
}

impl Signals for Heard {
    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }
    fn power_off(&self) {}
    fn panicked(&self, _: bool) {}
    fn leds(&self, leds: u8) {
        self.leds.store(u32::from(leds), Ordering::SeqCst);
    }
}

fn made(mouse: bool) -> (Arc<Heard>, Arc<Mutex<I8042>>) {
    let heard = Arc::new(Heard::default());
    let line = |wire| Line::new(heard.clone(), wire);
    let made = I8042::new(line(1), mouse.then(|| line(12)), heard.clone());
    (heard, made)
}

/// Reads what is there.
fn drain(it: &mut I8042) -> Vec<u8> {
    std::iter::from_fn(|| (it.status() & FULL != 0).then(|| it.read_data())).collect()
}

#[test]
fn keys_come_as_set_1_when_translated_and_as_set_2_when_not() {
    let (heard, it) = made(false);
    let mut it = it.lock().unwrap();
    assert!(it.press(&[0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8]));
    assert!(heard.edges[1].load(Ordering::SeqCst) >= 1);
    assert_eq!(drain(&mut it), [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8]);
    it.command(0x60);
    it.write_data(KEYBOARD_INTERRUPT);
    assert!(it.press(&[0x1e, 0x9e]));
    assert_eq!(drain(&mut it), [0x1c, 0xf0, 0x1c]);
}

#[test]
fn a_queue_that_is_full_takes_nothing_and_answers_still_come() {
    let (_, it) = made(false);
    let mut it = it.lock().unwrap();
    let mut taken = 0;
    while it.press(&[0x1e, 0x9e]) {
        taken += 1;
    }
    assert!((10..40).contains(&taken));
    it.write_data(0xee);
    let all = drain(&mut it);
    assert_eq!(all.len(), 2 * taken + 1);
    assert_eq!(all.last(), Some(&0xee));
    assert!(!it.press(&[1; 1000]));
}

#[test]
fn the_keyboard_answers_what_linux_asks() {
    let (heard, it) = made(false);
    let mut it = it.lock().unwrap();
    let mut ask = |bytes: &[u8]| {
        bytes.iter().for_each(|byte| it.write_data(*byte));
        drain(&mut it)
    };
    assert_eq!(ask(&[0xff]), [0xfa, 0xaa]);
    assert_eq!(ask(&[0xf2]), [0xfa, 0xab, 0x41], "0x83, translated");
    assert_eq!(ask(&[0xed, 7]), [0xfa, 0xfa]);
    assert_eq!(heard.leds.load(Ordering::SeqCst), 7);
    assert_eq!(ask(&[0xf3, 0]), [0xfa, 0xfa]);
    assert_eq!(ask(&[0xf0, 0]), [0xfa, 0xfa, 0x41], "set 2, translated");
    assert_eq!(ask(&[0xf0, 3]), [0xfa, 0xfe]);
    assert_eq!(ask(&[0x12]), [0xfe]);
}

#[test]
fn the_controller_tests_itself_and_says_whether_there_is_a_mouse() {
    for mouse in [false, true] {
        let (_, it) = made(mouse);
        let mut it = it.lock().unwrap();
        let mut ask = |command, argument: Option<u8>| {
            it.command(command);
            argument.iter().for_each(|byte| it.write_data(*byte));
            let status = it.status();
            (drain(&mut it), status & FROM_MOUSE != 0)
        };
        assert_eq!(ask(0xaa, None), (vec![0x55], false));
        assert_eq!(ask(0xab, None), (vec![0], false));
        assert_eq!(ask(0xa9, None), (vec![u8::from(!mouse)], false));
        assert_eq!(ask(0xd3, Some(0x5a)), (vec![0x5a], mouse));
        assert_eq!(ask(0x20, None).0, [if mouse { 0x47 } else { 0x65 }]);
        assert_eq!(ask(0xd1, Some(3)), (vec![], false));
        assert_eq!(ask(0xd0, None).0, [3]);
        assert_eq!(
            ask(0xd4, Some(0xf2)),
            (if mouse { vec![0xfa, 0] } else { vec![] }, mouse)
        );
    }
}

#[test]
fn an_answer_of_the_controller_overtakes_a_key_and_loses_none() {
    let (_, it) = made(false);
    let mut it = it.lock().unwrap();
    it.press(&[0x1e, 0x9e]);
    it.command(0xaa);
    assert_eq!(drain(&mut it), [0x55, 0x1e, 0x9e]);
}

#[test]
fn a_pulse_of_the_reset_line_resets() {
    let (heard, it) = made(false);
    let mut it = it.lock().unwrap();
    it.command(0xfe);
    it.command(0xff);
    it.command(0xd1);
    it.write_data(2);
    assert_eq!(heard.resets.load(Ordering::SeqCst), 2);
}

#[test]
fn a_mouse_reports_motion_and_learns_to_have_a_wheel() {
    let (heard, it) = made(true);
    let mut it = it.lock().unwrap();
    let tell = |it: &mut I8042, bytes: &[u8]| {
        for byte in bytes {
            it.command(0xd4);
            it.write_data(*byte);
        }
        drain(it)
    };
    assert_eq!(tell(&mut it, &[0xff]), [0xfa, 0xaa, 0]);
    assert_eq!(
        tell(&mut it, &[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2]),
        [0xfa, 0xfa, 3]
    );
    tell(&mut it, &[0xf4]);
    it.motion(5, 3, -1, 1);
    assert_eq!(drain(&mut it), [0x29, 5, 0xfd, 0xff]);
    it.motion(-300, 0, 0, 0);
    assert_eq!(drain(&mut it), [0x18, 1, 0, 0, 0x18, 0xd3, 0, 0]);
    assert!(heard.edges[12].load(Ordering::SeqCst) > 0);
}
