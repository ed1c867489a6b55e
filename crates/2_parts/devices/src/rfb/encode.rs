//! Rectangles as they are sent: raw (RFC 6143, section 7.7.1) and ZRLE (section 7.7.6).

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{MZFlush, StreamResult};

use super::pixels::PixelFormat;
use crate::vga::{Frame, Rect};

/// Encodings and what else a client can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// Compressed rectangles.
    pub zrle: bool,
    /// Changes of the size.
    pub desktop_size: bool,
    /// Keys by scan code.
    pub scancodes: bool,
}

/// Raw pixels.
pub const RAW: i32 = 0;
/// Compressed rectangles.
pub const ZRLE: i32 = 16;
/// Says that the size has changed.
pub const DESKTOP_SIZE: i32 = -223;
/// Says that the server takes keys by scan code.
pub const SCANCODES: i32 = -258;

/// Width and height of a tile.
const TILE: u32 = 64;
/// Most colours of a tile with a palette.
const COLOURS: usize = 16;

impl Encodings {
    /// Takes notice of one.
    pub fn add(&mut self, encoding: i32) {
        match encoding {
            ZRLE => self.zrle = true,
            DESKTOP_SIZE => self.desktop_size = true,
            SCANCODES => self.scancodes = true,
            _ => {}
        }
    }
}

/// Appends the head of a rectangle.
pub fn head(rect: Rect, encoding: i32, out: &mut Vec<u8>) {
    for value in [rect.x, rect.y, rect.width, rect.height] {
        out.extend_from_slice(&(value as u16).to_be_bytes());
    }
    out.extend_from_slice(&encoding.to_be_bytes());
}

/// The pixels of a line of a rectangle, which lies in the frame.
fn line(frame: &Frame, rect: Rect, y: u32) -> &[u32] {
    &frame.line(rect.y + y)[rect.x as usize..(rect.x + rect.width) as usize]
}

/// Appends the pixels of a rectangle.
pub fn raw(frame: &Frame, rect: Rect, format: PixelFormat, out: &mut Vec<u8>) {
    for y in 0..rect.height {
        line(frame, rect, y)
            .iter()
            .for_each(|pixel| format.put(*pixel, out));
    }
}

/// The compressed stream of one client, which goes on from rectangle to rectangle.
pub struct Zrle {
    compressor: Box<CompressorOxide>,
}

impl Zrle {
    /// A stream that begins.
    #[must_use]
    pub fn new() -> Self {
        // Quick, with the head of a zlib stream.
        let flags = create_comp_flags_from_zip_params(1, 15, 0);
        Zrle {
            compressor: Box::new(CompressorOxide::new(flags)),
        }
    }

    /// Appends length and data of a rectangle.
    pub fn rectangle(&mut self, frame: &Frame, rect: Rect, format: PixelFormat, out: &mut Vec<u8>) {
        let mut tiles = Vec::new();
        for y in (0..rect.height).step_by(TILE as usize) {
            for x in (0..rect.width).step_by(TILE as usize) {
                let tile = Rect {
                    x: rect.x + x,
                    y: rect.y + y,
                    width: TILE.min(rect.width - x),
                    height: TILE.min(rect.height - y),
                };
                put_tile(frame, tile, format, &mut tiles);
            }
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.compress(&tiles, out);
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn compress(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let StreamResult {
                bytes_consumed,
                bytes_written,
                status,
            } = deflate(&mut self.compressor, input, &mut buffer, MZFlush::Sync);
            input = &input[bytes_consumed..];
            out.extend_from_slice(&buffer[..bytes_written]);
            // Nothing more comes out: everything is in, and flushed.
            if status.is_err() || input.is_empty() && bytes_written < buffer.len() {
                return;
            }
        }
    }
}

/// Appends a tile: of one colour, of few colours, or of pixels.
fn put_tile(frame: &Frame, tile: Rect, format: PixelFormat, out: &mut Vec<u8>) {
    let mut colours: Vec<u32> = Vec::with_capacity(COLOURS);
    'all: for y in 0..tile.height {
        for pixel in line(frame, tile, y) {
            if colours.last() != Some(pixel) && !colours.contains(pixel) {
                if colours.len() == COLOURS {
                    colours.clear();
                    break 'all;
                }
                colours.push(*pixel);
            }
        }
    }
    let bits = match colours.len() {
        0 => {
            out.push(0);
            for y in 0..tile.height {
                line(frame, tile, y)
                    .iter()
                    .for_each(|pixel| format.put_compact(*pixel, out));
            }
            return;
        }
        1 => 0,
        2 => 1,
        3 | 4 => 2,
        _ => 4,
    };
    out.push(colours.len() as u8);
    colours.iter().for_each(|colour| format.put_compact(*colour, out));
    if bits == 0 {
        return;
    }
    for y in 0..tile.height {
        for pixels in line(frame, tile, y).chunks(8 / bits) {
            let mut byte = 0_u8;
            for (at, pixel) in pixels.iter().enumerate() {
                let index = colours.iter().position(|colour| colour == pixel).unwrap_or(0);
                byte |= (index as u8) << (8 - bits * (at + 1));
            }
            out.push(byte);
        }
    }
}
