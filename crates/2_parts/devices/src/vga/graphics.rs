//! Pixels of graphics modes: four planes, two bits a pixel, or packed pixels.

use guestmem::Block;

use super::dispi::{Dispi, MOST};
use super::registers::Registers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A bit of each of four planes.
    Planes,
    /// Two bits, as the CGA had them.
    Pairs,
    /// A byte of the palette.
    Bytes,
    /// 5, 5, 5 bits.
    Rgb15,
    /// 5, 6, 5 bits.
    Rgb16,
    /// Three bytes: blue, green, red.
    Rgb24,
    /// Four bytes: blue, green, red, none.
    Rgb32,
}

/// Lines of pixels, one after the other.
pub(super) struct Source<'a> {
    registers: &'a Registers,
    vram: &'a Block,
    format: Format,
    /// Each pixel is two wide.
    doubled: bool,
    /// Where the line begins in memory, and bytes to the next.
    address: u64,
    pitch: u64,
    /// How often a line is repeated, and how often it still is.
    repeat: u32,
    left: u32,
    /// The line of the picture, and of memory.
    y: u32,
    row: u32,
    line_compare: u32,
    /// Rows lie in two or four parts of memory, as the CGA's.
    interleaved: u8,
    colours: Vec<u32>,
    bytes: Vec<u8>,
    pixels: Vec<u32>,
}

/// Width and height of a VGA's graphics mode.
pub(super) fn size(registers: &Registers) -> (u32, u32) {
    let width = (u32::from(registers.crtc[1]) + 1) * 8;
    let halved = is_halved(registers) && registers.graphics[5] & 0x40 == 0;
    (
        (width << u8::from(halved)).min(MOST.0.into()),
        registers.lines().min(MOST.1.into()),
    )
}

/// The dot clock is halved: pixels are two wide.
fn is_halved(registers: &Registers) -> bool {
    registers.sequencer[1] & 8 != 0
}

impl<'a> Source<'a> {
    /// The lines of what the registers say; `width` pixels each.
    pub(super) fn new(registers: &'a Registers, dispi: &Dispi, vram: &'a Block, width: usize) -> Self {
        let crtc = &registers.crtc;
        let mut source = Source {
            registers,
            vram,
            format: Format::Bytes,
            doubled: false,
            address: 0,
            pitch: 0,
            repeat: 0,
            left: 0,
            y: 0,
            row: 0,
            line_compare: u32::MAX,
            interleaved: 0,
            colours: Vec::new(),
            bytes: Vec::new(),
            pixels: vec![0; width],
        };
        if dispi.is_on() {
            source.format = match dispi.bits() {
                4 => Format::Planes,
                8 => Format::Bytes,
                15 => Format::Rgb15,
                16 => Format::Rgb16,
                24 => Format::Rgb24,
                _ => Format::Rgb32,
            };
            (source.address, source.pitch) = (dispi.start(), dispi.pitch());
        } else {
            source.format = match registers.graphics[5] >> 5 & 3 {
                0 => Format::Planes,
                1 => Format::Pairs,
                _ => Format::Bytes,
            };
            source.doubled = is_halved(registers) || source.format == Format::Bytes;
            source.address = u64::from(registers.crtc_pair(0xc)) * 4;
            source.pitch = u64::from(crtc[0x13]) * 8;
            let double = crtc[9] >> 7;
            source.repeat = if crtc[0x17] & 1 != 0 {
                ((u32::from(crtc[9] & 0x1f) + 1) << double) - 1
            } else {
                u32::from(double)
            };
            source.interleaved = !crtc[0x17] & 3;
            source.line_compare = registers.line_compare();
        }
        source.left = source.repeat;
        source.colours = match source.format {
            Format::Planes | Format::Pairs => registers.colours().to_vec(),
            _ => (0..=255).map(|index| registers.colour(index)).collect(),
        };
        let pixels = if source.doubled { width.div_ceil(2) } else { width };
        source.bytes = vec![
            0;
            match source.format {
                Format::Planes => pixels.div_ceil(8) * 4,
                // Four pixels in each of the bytes 0 and 1 of a word.
                Format::Pairs => pixels.div_ceil(8) * 4,
                Format::Bytes => pixels,
                Format::Rgb15 | Format::Rgb16 => pixels * 2,
                Format::Rgb24 => pixels * 3,
                Format::Rgb32 => pixels * 4,
            }
        ];
        source
    }

    /// Reads the line's memory; addresses go around at the end.
    fn fetch(&mut self) {
        let mut address = self.address;
        if self.interleaved & 1 != 0 {
            // Odd rows lie 8 KiB further, or 16 in word mode, of each plane.
            let shift = 14 + (self.registers.crtc[0x17] >> 6 & 1);
            address = address & !(1 << shift) | u64::from(self.row & 1) << shift;
        }
        if self.interleaved & 2 != 0 {
            address = address & !(1 << 16) | u64::from(self.row & 2) << 15;
        }
        let len = self.vram.len();
        let mut done = 0;
        while done < self.bytes.len() {
            let at = (address + done as u64) % len;
            let count = (self.bytes.len() - done).min((len - at) as usize);
            // Inside, as computed.
            let _ = self.vram.read(at, &mut self.bytes[done..done + count]);
            done += count;
        }
    }

    /// The pixel at a place of the line, not doubled.
    fn pixel(&self, x: usize) -> u32 {
        let bytes = &self.bytes;
        let word = |x: usize| u32::from(u16::from_le_bytes([bytes[2 * x], bytes[2 * x + 1]]));
        let part = |value: u32, bits: u32| value << (8 - bits) | value >> (2 * bits - 8);
        match self.format {
            Format::Planes => {
                let (at, shift) = (x / 8 * 4, 7 - x % 8);
                let index = (0..4).fold(0, |index, plane| {
                    index | usize::from(bytes[at + plane] >> shift & 1) << plane
                });
                self.colours[index]
            }
            Format::Pairs => {
                let (at, shift) = (x / 8 * 4 + x / 4 % 2, 6 - x % 4 * 2);
                let index = bytes[at] >> shift & 3 | (bytes[at + 2] >> shift & 3) << 2;
                self.colours[usize::from(index)]
            }
            Format::Bytes => self.colours[usize::from(bytes[x])],
            Format::Rgb15 => {
                let word = word(x);
                part(word >> 10 & 31, 5) << 16 | part(word >> 5 & 31, 5) << 8 | part(word & 31, 5)
            }
            Format::Rgb16 => {
                let word = word(x);
                part(word >> 11, 5) << 16 | part(word >> 5 & 63, 6) << 8 | part(word & 31, 5)
            }
            Format::Rgb24 => u32::from_le_bytes([bytes[3 * x], bytes[3 * x + 1], bytes[3 * x + 2], 0]),
            Format::Rgb32 => u32::from_le_bytes([bytes[4 * x], bytes[4 * x + 1], bytes[4 * x + 2], 0]),
        }
    }

    /// The next line.
    pub(super) fn next_line(&mut self) -> &[u32] {
        self.fetch();
        let mut pixels = std::mem::take(&mut self.pixels);
        for (x, pixel) in pixels.iter_mut().enumerate() {
            *pixel = self.pixel(if self.doubled { x / 2 } else { x });
        }
        self.pixels = pixels;
        self.step();
        &self.pixels
    }

    fn step(&mut self) {
        if self.left > 0 {
            self.left -= 1;
        } else {
            let mask = u32::from(self.interleaved);
            if self.row & mask == mask {
                self.address += self.pitch;
            }
            self.row += 1;
            self.left = self.repeat;
        }
        if self.y == self.line_compare {
            self.address = 0;
        }
        self.y += 1;
    }
}
