//! Pixel formats that clients ask for (RFC 6143, section 7.4).

/// How a client wants its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    bits: u8,
    depth: u8,
    big_endian: bool,
    most: [u16; 3],
    shifts: [u8; 3],
    /// The client has a colour map, which is then filled with 8 by 8 by 4 colours.
    mapped: bool,
}

/// 32 bits with red, green and blue in the lower 24: what the server offers.
pub const OFFERED: PixelFormat = PixelFormat {
    bits: 32,
    depth: 24,
    big_endian: false,
    most: [255; 3],
    shifts: [16, 8, 0],
    mapped: false,
};

impl PixelFormat {
    /// Reads one; none when it is none that can be.
    #[must_use]
    pub fn parse(bytes: &[u8; 16]) -> Option<Self> {
        let most = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let format = PixelFormat {
            bits: bytes[0],
            depth: bytes[1],
            big_endian: bytes[2] != 0,
            most: [most(4), most(6), most(8)],
            shifts: [bytes[10], bytes[11], bytes[12]],
            mapped: bytes[3] == 0,
        };
        if format.mapped {
            // Bits 0 to 2 red, 3 to 5 green, 6 and 7 blue.
            return (format.bits == 8).then_some(PixelFormat {
                depth: 8,
                most: [7, 7, 3],
                shifts: [0, 3, 6],
                ..format
            });
        }
        let fits = (0..3).all(|part| {
            let width = 16 - format.most[part].leading_zeros();
            u32::from(format.shifts[part]) + width <= u32::from(format.bits)
        });
        (matches!(format.bits, 8 | 16 | 32) && fits).then_some(format)
    }

    /// As it stands in messages.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[
            self.bits,
            self.depth,
            u8::from(self.big_endian),
            u8::from(!self.mapped),
        ]);
        for (at, most) in self.most.iter().enumerate() {
            bytes[4 + 2 * at..6 + 2 * at].copy_from_slice(&most.to_be_bytes());
        }
        bytes[10..13].copy_from_slice(&self.shifts);
        bytes
    }

    /// The colour map that the client needs, as entries of three words, when it has one.
    #[must_use]
    pub fn colour_map(self) -> Option<Vec<[u16; 3]>> {
        let entry = |index: u16| {
            std::array::from_fn(|part| {
                let value = u32::from(index >> self.shifts[part] & self.most[part]);
                (value * 0xffff / u32::from(self.most[part])) as u16
            })
        };
        self.mapped.then(|| (0..256).map(entry).collect())
    }

    /// The bytes of a pixel that are sent in compressed rectangles (section 7.7.5).
    fn compact(self) -> std::ops::Range<usize> {
        let used = (0..3).fold(0_u32, |used, part| {
            used | u32::from(self.most[part]) << self.shifts[part]
        });
        if self.bits != 32 || self.depth > 24 || self.mapped {
            return 0..usize::from(self.bits / 8);
        }
        match (used >> 24 == 0, used & 0xff == 0, self.big_endian) {
            (true, _, false) | (false, true, true) => 0..3,
            (true, _, true) | (false, true, false) => 1..4,
            _ => 0..4,
        }
    }

    fn value(self, colour: u32) -> [u8; 4] {
        let value = (0..3).fold(0_u32, |value, part| {
            let from = colour >> (16 - 8 * part) & 0xff;
            let to = (from * u32::from(self.most[part]) + 127) / 255;
            value | to << self.shifts[part]
        });
        match (self.big_endian, self.bits) {
            (false, _) => value.to_le_bytes(),
            (true, 32) => value.to_be_bytes(),
            (true, 16) => {
                let [low, high, ..] = value.to_le_bytes();
                [high, low, 0, 0]
            }
            (true, _) => value.to_le_bytes(),
        }
    }

    /// Appends a pixel.
    pub fn put(self, colour: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value(colour)[..usize::from(self.bits / 8)]);
    }

    /// Appends a pixel as compressed rectangles have it.
    pub fn put_compact(self, colour: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value(colour)[self.compact()]);
    }
}
