//! Text mode 3 as a BIOS sets it: registers, colours, a font, an empty screen. For kernels that are entered without firmware.

use guestmem::Block;

use super::registers::Registers;

/// Characters of code page 437, 8 pixels wide and 16 high, a byte a line.
///
/// They are the font "fntcol16" that SeaBIOS and most free VGA BIOSes carry. Its collector, Joseph Gil, says of them that the individual
/// fonts are in the public domain (SeaBIOS, vgasrc/vgafonts.c).
pub const FONT: &[u8; 4096] = include_bytes!("cp437_8x16.bin");

const SEQUENCER: [u8; 5] = [0x03, 0x00, 0x03, 0x00, 0x02];
const GRAPHICS: [u8; 9] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff];
const ATTRIBUTE: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c,
    0x00, 0x0f, 0x08, 0x00,
];
const CRTC: [u8; 25] = [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c,
    0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
];

/// Cells of the text window: 32 KiB.
const CELLS: usize = 0x4000;
/// Bytes of plane 2 that a character of a font takes.
pub const GLYPH: usize = 32;

/// The registers.
#[must_use]
pub fn registers() -> Registers {
    let mut registers = Registers::default();
    registers.misc = 0x67;
    registers.sequencer[..5].copy_from_slice(&SEQUENCER);
    registers.graphics[..9].copy_from_slice(&GRAPHICS);
    registers.attribute[..21].copy_from_slice(&ATTRIBUTE);
    registers.crtc[..25].copy_from_slice(&CRTC);
    for index in 0..64_u8 {
        // Bits 2, 1, 0 are two thirds of red, green and blue; bits 5, 4, 3 one third.
        let part = |bit: u8| (index >> bit & 1) * 0x2a + (index >> (bit + 3) & 1) * 0x15;
        registers.set_colour(index, [part(2), part(1), part(0)]);
    }
    registers.light();
    registers
}

/// Fills the adapter's memory: spaces, and the font in plane 2.
pub fn fill(vram: &Block) {
    let mut bytes = vec![0; CELLS * 4];
    for (at, cell) in bytes.chunks_exact_mut(4).enumerate() {
        let (character, line) = (at / GLYPH, at % GLYPH);
        let font = if character < 256 && line < 16 {
            FONT[character * 16 + line]
        } else {
            0
        };
        cell.copy_from_slice(&[b' ', 7, font, 0]);
    }
    // An adapter has more memory than that.
    let _ = vram.write(0, &bytes);
}
