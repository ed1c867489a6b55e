//! What the adapter shows: its registers at one moment, and its memory. Text or pixels are made of it without the device's lock.

use guestmem::Block;

use super::cp437;
use super::dispi::{Dispi, MOST};
use super::frame::{Damage, Frame};
use super::graphics::{self, Source};
use super::mode3::GLYPH;
use super::registers::Registers;

/// Bytes of plane 2 that a font takes.
const FONT: usize = 256 * GLYPH;

/// A character on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it is in Unicode, read as code page 437; guests may load fonts of another one for the upper half.
    pub character: char,
    /// Its colours: foreground in bits 0 to 3, background from bit 4 on.
    pub attribute: u8,
}

/// A screen of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextScreen {
    /// Characters in a line.
    pub columns: usize,
    /// All characters, line by line.
    pub cells: Vec<Cell>,
    /// Column and line of the cursor, when it is shown.
    pub cursor: Option<(usize, usize)>,
}

impl TextScreen {
    /// The lines without the spaces at their ends.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.cells.chunks(self.columns.max(1)).map(|line| {
            let line: String = line.iter().map(|cell| cell.character).collect();
            line.trim_end_matches([' ', '\u{a0}']).to_owned()
        })
    }
}

/// What the adapter shows at one moment; its memory goes on changing.
#[derive(Clone)]
pub struct View {
    pub(super) registers: Registers,
    pub(super) dispi: Dispi,
    pub(super) vram: Block,
}

/// Lines, columns and cells of a text mode.
struct Text {
    columns: usize,
    rows: usize,
    /// Pixels of a character.
    width: usize,
    height: usize,
    /// First cell, and cells from one row to the next.
    start: usize,
    stride: usize,
    /// The cell of the cursor, and its lines.
    cursor: Option<(usize, std::ops::RangeInclusive<usize>)>,
}

impl View {
    fn text_mode(&self) -> Text {
        let registers = &self.registers;
        let crtc = &registers.crtc;
        let width = match registers.sequencer[1] & 9 {
            0 => 9,
            1 => 8,
            _ => 16,
        };
        let height = usize::from(crtc[9] & 0x1f) + 1;
        let lines = registers.lines() >> (crtc[9] >> 7);
        let columns = (usize::from(crtc[1]) + 1).min(MOST.0 as usize / width);
        let rows = (lines.min(u32::from(MOST.1)) as usize / height).max(1);
        let (first, last) = (usize::from(crtc[0xa] & 0x1f), usize::from(crtc[0xb] & 0x1f));
        let shown = crtc[0xa] & 0x20 == 0 && first <= last && first < height;
        let start = registers.crtc_pair(0xc) as usize;
        let at = (registers.crtc_pair(0xe) as usize).wrapping_sub(start) & 0xffff;
        Text {
            columns,
            rows,
            width,
            height,
            start,
            stride: usize::from(crtc[0x13]) * 2,
            cursor: shown.then_some((at, first..=last)),
        }
    }

    /// Characters and attributes of a row, each pair in the lower bytes of a word. Addresses go around at the end of a plane.
    fn row(&self, text: &Text, row: usize) -> Vec<[u8; 2]> {
        let line = row * text.height;
        let compare = self.registers.line_compare() as usize + 1;
        // Below the line compare the screen is another one, which begins at address 0.
        let first = if line >= compare {
            (line - compare) / text.height * text.stride
        } else {
            text.start + row * text.stride
        };
        let mut bytes = vec![0; text.columns * 4];
        for (at, cell) in bytes.chunks_exact_mut(4).enumerate() {
            let address = ((first + at) & 0xffff) as u64 * 4;
            // The adapter's memory has whole planes.
            let _ = self.vram.read(address, cell);
        }
        bytes.chunks_exact(4).map(|cell| [cell[0], cell[1]]).collect()
    }

    /// Whether characters are of two fonts, which bit 3 of the attribute chooses.
    fn fonts(&self) -> [usize; 2] {
        let select = usize::from(self.registers.sequencer[3]);
        let second = (select >> 5 & 1 | select >> 1 & 6) * FONT;
        let first = (select >> 4 & 1 | select << 1 & 6) * FONT;
        [first, second]
    }

    /// The text on the screen; none when it shows graphics.
    #[must_use]
    pub fn text(&self) -> Option<TextScreen> {
        if self.dispi.is_on() || self.registers.is_graphics() {
            return None;
        }
        let text = self.text_mode();
        let table = cp437::table();
        let [first, second] = self.fonts();
        let mut cells = Vec::with_capacity(text.columns * text.rows);
        for row in 0..text.rows {
            cells.extend(self.row(&text, row).into_iter().map(|[code, attribute]| Cell {
                character: if first != second && attribute & 8 != 0 {
                    char::REPLACEMENT_CHARACTER
                } else {
                    table[usize::from(code)]
                },
                attribute,
            }));
        }
        let cursor = text.cursor.and_then(|(at, _)| {
            let stride = text.stride.max(1);
            let (column, row) = (at % stride, at / stride);
            (column < text.columns && row < text.rows).then_some((column, row))
        });
        Some(TextScreen {
            columns: text.columns,
            cells,
            cursor,
        })
    }

    /// Width and height of the picture.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        if self.dispi.is_on() {
            return self.dispi.size();
        }
        if self.registers.is_graphics() {
            return graphics::size(&self.registers);
        }
        let text = self.text_mode();
        (
            (text.columns * text.width) as u32,
            (text.rows * text.height) as u32,
        )
    }

    /// Brings a picture up to date. Blinking characters and the cursor stand still.
    pub fn render(&self, frame: &mut Frame) -> Damage {
        let size = self.size();
        let mut look = frame.look(size);
        let (width, height) = (size.0 as usize, size.1 as usize);
        if !self.dispi.is_on() && !self.registers.is_lit() {
            let black = vec![0; width];
            (0..height).for_each(|y| look.put(y, &black));
        } else if self.dispi.is_on() || self.registers.is_graphics() {
            let mut source = Source::new(&self.registers, &self.dispi, &self.vram, width);
            for y in 0..height {
                look.put(y, source.next_line());
            }
        } else {
            self.paint_text(&mut look);
        }
        look.damage()
    }

    /// The glyphs of a font.
    fn font(&self, start: usize) -> Vec<u8> {
        let mut bytes = vec![0; FONT * 4];
        // The adapter's memory has whole planes.
        let _ = self.vram.read(start as u64 * 4, &mut bytes);
        bytes.chunks_exact(4).map(|word| word[2]).collect()
    }

    fn paint_text(&self, look: &mut super::frame::Look<'_>) {
        let text = self.text_mode();
        let colours = self.registers.colours();
        let mode = self.registers.attribute[0x10];
        let background = if mode & 8 != 0 { 7 } else { 15 };
        let fonts = self.fonts().map(|start| self.font(start));
        let mut line = vec![0; text.columns * text.width];
        for row in 0..text.rows {
            let cells = self.row(&text, row);
            for y in 0..text.height {
                for (column, ([code, attribute], pixels)) in
                    cells.iter().zip(line.chunks_exact_mut(text.width)).enumerate()
                {
                    let under_cursor = text
                        .cursor
                        .as_ref()
                        .is_some_and(|(at, lines)| *at == row * text.stride + column && lines.contains(&y));
                    let front = colours[usize::from(attribute & 0xf)];
                    let back = if under_cursor {
                        front
                    } else {
                        colours[usize::from(attribute >> 4 & background)]
                    };
                    let glyph = fonts[usize::from(attribute >> 3 & 1)][usize::from(*code) * GLYPH + y];
                    // The ninth column repeats the eighth in characters that draw lines.
                    let ninth = mode & 4 != 0 && matches!(code, 0xc0..=0xdf);
                    let bits = u16::from(glyph) << 1 | u16::from(ninth && glyph & 1 != 0);
                    for (x, pixel) in pixels.iter_mut().enumerate() {
                        let x = if text.width == 16 { x / 2 } else { x };
                        *pixel = if bits >> (8 - x) & 1 != 0 { front } else { back };
                    }
                }
                look.put(row * text.height + y, &line);
            }
        }
    }
}
