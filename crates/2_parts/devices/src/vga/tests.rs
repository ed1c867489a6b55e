//! Tests of the display adapter through its ports and windows.

use std::sync::{Arc, Mutex};

use vcpu::time::{CountingClock, Timers};

use super::*;

fn adapter(in_mode3: bool) -> Arc<Mutex<Vga>> {
    let timers = Timers::new(Arc::new(CountingClock::new(0, 0)));
    Vga::new(&timers, None, in_mode3).unwrap()
}

fn out(vga: &mut Vga, port: u16, bytes: &[u8]) {
    assert_eq!(Ports::write(vga, port, bytes), Access::Done);
}

fn input(vga: &mut Vga, port: u16) -> u8 {
    let mut byte = [0];
    assert_eq!(Ports::read(vga, port, &mut byte), Access::Done);
    byte[0]
}

fn poke(vga: &mut Vga, address: u64, bytes: &[u8]) {
    let offset = address - WINDOW.0;
    assert_eq!(
        crate::Registers::write(vga, WINDOW_REGION, offset, bytes),
        Access::Done
    );
}

fn peek(vga: &mut Vga, address: u64) -> u8 {
    let mut byte = [0];
    crate::Registers::read(vga, WINDOW_REGION, address - WINDOW.0, &mut byte);
    byte[0]
}

fn dispi(vga: &mut Vga, settings: &[(u16, u16)]) {
    for (register, value) in settings {
        out(vga, 0x1ce, &register.to_le_bytes());
        out(vga, 0x1cf, &value.to_le_bytes());
    }
}

/// Writes text as a console does: characters and attributes.
fn print(vga: &mut Vga, row: u64, text: &str) {
    for (at, byte) in (0..).zip(text.bytes()) {
        poke(vga, 0xb8000 + (row * 80 + at) * 2, &[byte, 0x1f]);
    }
}

#[test]
fn text_written_to_the_window_is_on_the_screen() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    print(&mut vga, 0, "login: root");
    print(&mut vga, 24, "end");
    // The cursor behind the prompt.
    out(&mut vga, 0x3d4, &[0x0f, 11]);
    let text = vga.view().text().unwrap();
    let lines: Vec<String> = text.lines().collect();
    assert_eq!(lines.len(), 25);
    assert_eq!(
        (lines[0].as_str(), lines[1].as_str(), lines[24].as_str()),
        ("login: root", "", "end")
    );
    assert_eq!(text.cursor, Some((11, 0)));
    assert_eq!(text.cells[0].attribute, 0x1f);
    assert_eq!(peek(&mut vga, 0xb8000), b'l');
}

#[test]
fn characters_are_drawn_with_their_font_and_colours() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    let mut frame = Frame::new();
    let first = vga.view().render(&mut frame);
    assert_eq!((frame.size(), first.resized), ((720, 400), true));
    // Without a change there is no damage.
    assert_eq!(vga.view().render(&mut frame), Damage::default());
    print(&mut vga, 1, "A");
    let damage = vga.view().render(&mut frame);
    assert_eq!(
        damage.rects,
        [Rect {
            x: 0,
            y: 16,
            width: 9,
            height: 16
        }]
    );
    for y in 0..16 {
        let bits = mode3::FONT[usize::from(b'A') * 16 + y];
        for x in 0..9 {
            let set = x < 8 && bits >> (7 - x) & 1 != 0;
            let expected = if set { 0xff_ffff } else { 0x00_00aa };
            assert_eq!(frame.line(16 + y as u32)[x], expected, "{x} {y}");
        }
    }
}

#[test]
fn a_font_that_the_guest_loads_is_drawn() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    poke(&mut vga, 0xb8000, b"B\x07");
    // As Linux's vgacon: plane 2, sequential, at 0xa0000.
    for (port, pair) in [(0x3c4, [2, 4]), (0x3c4, [4, 7]), (0x3ce, [5, 0]), (0x3ce, [6, 0])] {
        out(&mut vga, port, &pair);
    }
    for line in 0..16 {
        poke(&mut vga, 0xa0000 + u64::from(b'B') * 32 + line, &[0xff]);
    }
    for (port, pair) in [
        (0x3c4, [2, 3]),
        (0x3c4, [4, 2]),
        (0x3ce, [5, 0x10]),
        (0x3ce, [6, 0xe]),
    ] {
        out(&mut vga, port, &pair);
    }
    let mut frame = Frame::new();
    vga.view().render(&mut frame);
    assert!(frame.line(5)[..8].iter().all(|pixel| *pixel == 0xaa_aaaa));
    assert_eq!(frame.line(5)[8], 0);
}

#[test]
fn scrolling_by_the_start_address_moves_the_text() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    print(&mut vga, 3, "third");
    out(&mut vga, 0x3d4, &[0x0d, 240]);
    assert_eq!(vga.view().text().unwrap().lines().next().unwrap(), "third");
}

/// Mode 12h: 640 by 480 in four planes.
fn mode12(vga: &mut Vga) {
    for (port, pair) in [
        (0x3c4, [2, 0xf]),
        (0x3c4, [4, 6]),
        (0x3ce, [5, 0]),
        (0x3ce, [6, 5]),
        (0x3d4, [0x11, 0]),
        (0x3d4, [7, 0x3e]),
        (0x3d4, [9, 0x40]),
        (0x3d4, [0x12, 0xdf]),
        (0x3d4, [0x17, 0xe3]),
        (0x3c4, [1, 1]),
    ] {
        out(vga, port, &pair);
    }
}

#[test]
fn planes_are_written_through_latches_and_modes() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    mode12(&mut vga);
    vga.bar_memory(0).unwrap().fill(0, 0x10000, 0).unwrap();
    // Write mode 2 with a bit mask: two pixels of colour 4.
    out(&mut vga, 0x3ce, &[5, 2]);
    out(&mut vga, 0x3ce, &[8, 0x81]);
    peek(&mut vga, 0xa0000 + 80);
    poke(&mut vga, 0xa0000 + 80, &[4]);
    // Write mode 0 with set/reset: colour 2 where the mask is.
    out(&mut vga, 0x3ce, &[5, 0]);
    out(&mut vga, 0x3ce, &[0, 2]);
    out(&mut vga, 0x3ce, &[1, 0xf]);
    out(&mut vga, 0x3ce, &[8, 0x40]);
    peek(&mut vga, 0xa0000 + 80);
    poke(&mut vga, 0xa0000 + 80, &[0]);
    // Write mode 1 copies the latches.
    out(&mut vga, 0x3ce, &[5, 1]);
    peek(&mut vga, 0xa0000 + 80);
    poke(&mut vga, 0xa0000 + 81, &[0]);
    let mut frame = Frame::new();
    vga.view().render(&mut frame);
    assert_eq!(frame.size(), (640, 480));
    let (red, green) = (0xaa_0000, 0x00_aa00);
    assert_eq!(frame.line(1)[..8], [red, green, 0, 0, 0, 0, 0, red]);
    assert_eq!(frame.line(1)[8..16], frame.line(1)[..8]);
    // Read mode 1 tells where a colour is.
    out(&mut vga, 0x3ce, &[5, 8]);
    out(&mut vga, 0x3ce, &[2, 4]);
    out(&mut vga, 0x3ce, &[7, 0xf]);
    assert_eq!(peek(&mut vga, 0xa0000 + 80), 0x81);
    assert!(vga.view().text().is_none());
}

#[test]
fn mode_13_shows_bytes_of_the_palette_twice_as_wide_and_high() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    for (port, pair) in [
        (0x3c4, [4, 0xe]),
        (0x3c4, [2, 0xf]),
        (0x3ce, [5, 0x40]),
        (0x3ce, [6, 5]),
        (0x3d4, [9, 0x41]),
    ] {
        out(&mut vga, port, &pair);
    }
    out(&mut vga, 0x3c8, &[200]);
    for part in [63, 0, 21] {
        out(&mut vga, 0x3c9, &[part]);
    }
    poke(&mut vga, 0xa0000 + 320 + 5, &[200]);
    let mut frame = Frame::new();
    vga.view().render(&mut frame);
    assert_eq!(frame.size(), (640, 400));
    for (x, y) in [(10, 2), (11, 2), (10, 3), (11, 3)] {
        assert_eq!(frame.line(y)[x], 0xff_0055);
    }
    assert_ne!(frame.line(4)[10], 0xff_0055);
    assert_eq!(peek(&mut vga, 0xa0000 + 325), 200);
}

#[test]
fn bochs_modes_show_the_frame_buffer_and_pan_over_it() {
    let vga = adapter(false);
    let mut vga = vga.lock().unwrap();
    dispi(&mut vga, &[(1, 800), (2, 600), (3, 32), (4, 0x41)]);
    let memory = vga.bar_memory(0).unwrap();
    memory
        .write(4 * (800 * 7 + 3), &0x0012_3456_u32.to_le_bytes())
        .unwrap();
    let mut frame = Frame::new();
    vga.view().render(&mut frame);
    assert_eq!((frame.size(), frame.line(7)[3]), ((800, 600), 0x12_3456));
    dispi(&mut vga, &[(9, 5), (8, 2)]);
    // The picture is as wide as the virtual one: no room to pan across.
    vga.view().render(&mut frame);
    assert_eq!(frame.line(2)[3], 0x12_3456);
    dispi(&mut vga, &[(6, 1024), (8, 2), (9, 0)]);
    memory
        .write(4 * (1024 * 2 + 2), &0x00ff_0000_u32.to_le_bytes())
        .unwrap();
    vga.view().render(&mut frame);
    assert_eq!(frame.line(2)[0], 0xff_0000);
    // What remains of the memory are lines.
    out(&mut vga, 0x1ce, &[7, 0]);
    let mut lines = [0; 2];
    Ports::read(&mut *vga, 0x1cf, &mut lines);
    assert_eq!(u16::from_le_bytes(lines), 4096);
}

#[test]
fn fewer_bits_are_spread_over_the_colour() {
    let vga = adapter(false);
    let mut vga = vga.lock().unwrap();
    let memory = vga.bar_memory(0).unwrap();
    for (bits, bytes, colour) in [
        (16, vec![0x1f, 0xf8], 0xff_00ff),
        (15, vec![0xe0, 0x03], 0x00_ff00),
        (24, vec![1, 2, 3], 0x03_0201),
    ] {
        dispi(&mut vga, &[(4, 0), (1, 640), (2, 480), (3, bits), (4, 0x41)]);
        memory.write(0, &bytes).unwrap();
        let mut frame = Frame::new();
        vga.view().render(&mut frame);
        assert_eq!(frame.line(0)[0], colour, "{bits} bits");
    }
}

#[test]
fn registers_in_memory_are_those_of_the_ports() {
    let vga = adapter(false);
    let mut vga = vga.lock().unwrap();
    let mut id = [0; 2];
    crate::Registers::read(&mut *vga, 2, 0x500, &mut id);
    assert_eq!(u16::from_le_bytes(id), 0xb0c5);
    crate::Registers::write(&mut *vga, 2, 0x502, &640_u16.to_le_bytes());
    out(&mut vga, 0x1ce, &[1, 0]);
    Ports::read(&mut *vga, 0x1cf, &mut id);
    assert_eq!(u16::from_le_bytes(id), 640);
    crate::Registers::write(&mut *vga, 2, 0x402, &[0x67]);
    assert_eq!(input(&mut vga, 0x3cc), 0x67);
}

#[test]
fn a_reset_brings_the_empty_text_screen_back() {
    let vga = adapter(true);
    let mut vga = vga.lock().unwrap();
    print(&mut vga, 0, "gone");
    dispi(&mut vga, &[(1, 800), (2, 600), (3, 32), (4, 1)]);
    assert!(vga.view().text().is_none());
    vga.reset();
    assert!(vga.view().text().unwrap().lines().all(|line| line.is_empty()));
}
