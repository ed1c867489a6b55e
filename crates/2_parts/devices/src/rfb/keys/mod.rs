//! Keys: from what they mean (X11 keysyms) or where they are to scan codes of set 1.
//!
//! A client says what a key means on the keyboard in front of the user. The guest believes in a keyboard of its own, the [`Keymap`]: so the
//! key that means the same there is pressed, with shift and AltGr as that key needs them, whatever the user holds.

mod functions;
mod layouts;

use super::Input;
pub use layouts::Keymap;
use layouts::Stroke;

const SHIFT: u16 = 0x2a;
const RIGHT_SHIFT: u16 = 0x36;
const ALTGR: u16 = 0xe038;
/// Pause, which has no code of its own when it is released.
const PAUSE: u16 = 0xe11d;
const CAPS_LOCK: u8 = 4;
/// Keys that a client can hold down.
const HELD: usize = 64;
/// How often keys are offered to a guest that has no room for them, every 10 ms.
const OFFERS: u32 = 50;

/// The keys of one client.
pub struct Keyboard<'a> {
    keymap: Keymap,
    input: &'a dyn Input,
    /// Keys that are down: what the client called them, and their codes.
    held: Vec<(u32, u16)>,
}

/// The sequence of a key: the upper byte of a code is its prefix.
fn sequence(code: u16, down: bool, out: &mut Vec<u8>) {
    let [prefix, low] = code.to_be_bytes();
    if code == PAUSE {
        if down {
            out.extend_from_slice(&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
        }
        return;
    }
    if prefix != 0 {
        out.push(prefix);
    }
    out.push(if down { low } else { low | 0x80 });
}

impl<'a> Keyboard<'a> {
    /// No key is down.
    #[must_use]
    pub fn new(keymap: Keymap, input: &'a dyn Input) -> Self {
        Keyboard {
            keymap,
            input,
            held: Vec::new(),
        }
    }

    /// Hands codes on. A guest that does not fetch its keys loses them in the end.
    fn give(&self, codes: &[u8]) {
        for _ in 0..OFFERS {
            if codes.is_empty() || self.input.key(codes) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn holds(&self, code: u16) -> bool {
        self.held.iter().any(|(_, held)| *held == code)
    }

    fn hold(&mut self, name: u32, code: u16) {
        if self.held.len() < HELD && !self.held.contains(&(name, code)) {
            self.held.push((name, code));
        }
    }

    fn release(&mut self, name: u32) {
        if let Some(at) = self.held.iter().position(|(held, _)| *held == name) {
            let (_, code) = self.held.remove(at);
            let mut codes = Vec::new();
            sequence(code, false, &mut codes);
            self.give(&codes);
        }
    }

    /// A key by what it means.
    pub fn keysym(&mut self, keysym: u32, down: bool) {
        if !down {
            return self.release(keysym);
        }
        if let Some(code) = functions::code(keysym) {
            let mut codes = Vec::new();
            sequence(code, true, &mut codes);
            self.hold(keysym, code);
            return self.give(&codes);
        }
        let Some((dead, stroke)) = layouts::find(self.keymap, keysym) else {
            return;
        };
        if let Some(dead) = dead {
            let mut codes = Vec::new();
            self.strike(dead, &mut codes, true);
            self.give(&codes);
        }
        let mut codes = Vec::new();
        self.strike(stroke, &mut codes, false);
        self.hold(keysym, stroke.code);
        self.give(&codes);
    }

    /// A stroke, with modifiers as it needs them and back as they were.
    fn strike(&self, stroke: Stroke, codes: &mut Vec<u8>, and_release: bool) {
        let caps = self.input.leds() & CAPS_LOCK != 0;
        let shift = stroke.shift ^ (stroke.letter && caps);
        let shifts: Vec<u16> = [SHIFT, RIGHT_SHIFT]
            .into_iter()
            .filter(|code| self.holds(*code))
            .collect();
        let altgr = self.holds(ALTGR);
        // The modifiers to be changed, and whether they are to be pressed.
        let mut changes: Vec<(u16, bool)> = Vec::new();
        if shift && shifts.is_empty() {
            changes.push((SHIFT, true));
        } else if !shift {
            changes.extend(shifts.iter().map(|code| (*code, false)));
        }
        if stroke.altgr != altgr {
            changes.push((ALTGR, stroke.altgr));
        }
        for (code, down) in &changes {
            sequence(*code, *down, codes);
        }
        sequence(stroke.code, true, codes);
        if and_release {
            sequence(stroke.code, false, codes);
        }
        for (code, down) in changes.iter().rev() {
            sequence(*code, !*down, codes);
        }
    }

    /// A key by where it is: bit 7 stands for the prefix 0xe0.
    pub fn scancode(&mut self, code: u32, down: bool) {
        let code = match code {
            // As QEMU numbers it.
            0xc6 => PAUSE,
            1..=0x7f => code as u16,
            0x81..=0xff => 0xe000 | (code & 0x7f) as u16,
            _ => return,
        };
        // No keysym has these numbers.
        let name = 0xffff_0000 | u32::from(code);
        if !down {
            return self.release(name);
        }
        let mut codes = Vec::new();
        sequence(code, true, &mut codes);
        self.hold(name, code);
        self.give(&codes);
    }

    /// Releases what is down, when the client goes.
    pub fn release_all(&mut self) {
        while let Some((name, _)) = self.held.last().copied() {
            self.release(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard {
        codes: Mutex<Vec<u8>>,
        leds: u8,
    }

    impl Input for Heard {
        fn key(&self, scancodes: &[u8]) -> bool {
            self.codes.lock().unwrap().extend_from_slice(scancodes);
            true
        }
        fn leds(&self) -> u8 {
            self.leds
        }
    }

    /// What is pressed for keysyms that go down, one after the other.
    fn typed(keymap: Keymap, leds: u8, keysyms: &[u32]) -> Vec<u8> {
        let heard = Heard {
            leds,
            ..Heard::default()
        };
        let mut keyboard = Keyboard::new(keymap, &heard);
        keysyms.iter().for_each(|keysym| keyboard.keysym(*keysym, true));
        heard.codes.into_inner().unwrap()
    }

    #[test]
    fn a_character_is_typed_where_the_guests_keyboard_has_it() {
        let slash = u32::from(b'/');
        assert_eq!(typed(Keymap::EnUs, 0, &[slash]), [0x35]);
        assert_eq!(typed(Keymap::Es, 0, &[slash]), [0x2a, 0x08, 0xaa]);
        let at = u32::from(b'@');
        assert_eq!(typed(Keymap::EnUs, 0, &[at]), [0x2a, 0x03, 0xaa]);
        assert_eq!(typed(Keymap::Es, 0, &[at]), [0xe0, 0x38, 0x03, 0xe0, 0xb8]);
        // ñ
        assert_eq!(typed(Keymap::Es, 0, &[0xf1]), [0x27]);
        assert_eq!(typed(Keymap::EnUs, 0, &[0xf1]), [0_u8; 0]);
    }

    #[test]
    fn modifiers_that_a_character_does_not_need_are_lifted_for_it() {
        // A user with a Spanish keyboard types a slash, by shift and 7, for a guest with an American one.
        assert_eq!(
            typed(Keymap::EnUs, 0, &[0xffe1, u32::from(b'/')]),
            [0x2a, 0xaa, 0x35, 0x2a]
        );
        // AltGr is held for the at sign, which needs shift instead.
        assert_eq!(
            typed(Keymap::EnUs, 0, &[0xfe03, u32::from(b'@')]),
            [0xe0, 0x38, 0x2a, 0xe0, 0xb8, 0x03, 0xe0, 0x38, 0xaa]
        );
    }

    #[test]
    fn accented_letters_are_typed_with_dead_keys() {
        // á: the acute accent, then a.
        assert_eq!(typed(Keymap::Es, 0, &[0xe1]), [0x28, 0xa8, 0x1e]);
        // Ü: shift and the same key, then shift and U.
        assert_eq!(
            typed(Keymap::Es, 0, &[0xdc]),
            [0x2a, 0x28, 0xa8, 0xaa, 0x2a, 0x16, 0xaa]
        );
        // The circumflex alone: then a space.
        assert_eq!(
            typed(Keymap::Es, 0, &[u32::from(b'^')]),
            [0x2a, 0x1a, 0x9a, 0xaa, 0x39]
        );
    }

    #[test]
    fn letters_follow_the_guests_caps_lock() {
        let (upper, lower) = (u32::from(b'A'), u32::from(b'a'));
        assert_eq!(typed(Keymap::EnUs, CAPS_LOCK, &[upper]), [0x1e]);
        assert_eq!(typed(Keymap::EnUs, CAPS_LOCK, &[lower]), [0x2a, 0x1e, 0xaa]);
        assert_eq!(typed(Keymap::EnUs, CAPS_LOCK, &[u32::from(b'1')]), [0x02]);
    }

    #[test]
    fn keys_that_are_down_are_released_when_the_client_goes() {
        let heard = Heard::default();
        let mut keyboard = Keyboard::new(Keymap::EnUs, &heard);
        keyboard.keysym(0xffe3, true); // control
        keyboard.keysym(0xff52, true); // up
        keyboard.scancode(0xcb, true); // left
        keyboard.scancode(0xcb, false);
        keyboard.scancode(0xc6, true); // pause
        keyboard.release_all();
        assert_eq!(
            *heard.codes.lock().unwrap(),
            [
                0x1d, 0xe0, 0x48, 0xe0, 0x4b, 0xe0, 0xcb, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0xe0, 0xc8,
                0x9d
            ]
        );
    }

    #[test]
    fn every_printable_character_can_be_typed() {
        for keymap in [Keymap::EnUs, Keymap::Es] {
            for keysym in 0x20..0x7f {
                assert!(layouts::find(keymap, keysym).is_some(), "{keymap:?} {keysym:#x}");
            }
        }
    }
}
