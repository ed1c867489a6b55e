//! Random values that like the edges.

/// Sebastiano Vigna's splitmix64.
pub struct Random(pub u64);

pub const SINGLES: [u32; 18] = [
    0,
    1,
    2,
    0x007f_ffff,
    0x0080_0000,
    0x0080_0001,
    0x3f80_0000,
    0x3f80_0001,
    0x3f00_0000,
    0x4f00_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0x7f80_0001,
    0x7fc0_0000,
    0x7fc1_2345,
    0x7fa0_0000,
    0x4effffff,
    0x4020_0000,
];
pub const DOUBLES: [u64; 20] = [
    0,
    1,
    2,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x0010_0000_0000_0001,
    0x3ff0_0000_0000_0000,
    0x3ff0_0000_0000_0001,
    0x3fe0_0000_0000_0000,
    0x41e0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x7ff8_0000_0000_0000,
    0x7ff8_1234_5678_9abc,
    0x7ff4_0000_0000_0000,
    0x36a0_0000_0000_0000,
    0x380f_ffff_ffff_ffff,
    0x47ef_ffff_e000_0000,
];
const INTEGERS: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
];
const SIGNIFICANDS: [u64; 9] = [
    0,
    1,
    1 << 62,
    1 << 63,
    1 << 63 | 1,
    3 << 62,
    u64::MAX,
    u64::MAX >> 1,
    0xffff_ff80_0000_0000,
];
const EXPONENTS: [u16; 22] = [
    0, 1, 2, 0x3f6a, 0x3f80, 0x3f81, 0x3bcc, 0x3bcd, 0x3c00, 0x3c01, 0x3ffe, 0x3fff, 0x4000, 0x400d, 0x401e,
    0x403d, 0x403e, 0x407f, 0x43ff, 0x7ffd, 0x7ffe, 0x7fff,
];

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn single(&mut self) -> u32 {
        let sign = (self.next() as u32) << 31;
        match self.below(6) {
            0 => self.next() as u32,
            // Near to one: sums cancel and products stay in range.
            1 => 0x3f00_0000 + (self.next() as u32 & 0x00ff_ffff) | sign,
            // Near to the smallest.
            2 => self.next() as u32 & 0x03ff_ffff | sign,
            _ => SINGLES[self.below(SINGLES.len())] | sign,
        }
    }

    pub fn double(&mut self) -> u64 {
        let sign = self.next() << 63;
        match self.below(6) {
            0 => self.next(),
            1 => 0x3fe0_0000_0000_0000 + (self.next() & 0x001f_ffff_ffff_ffff) | sign,
            2 => self.next() & 0x007f_ffff_ffff_ffff | sign,
            _ => DOUBLES[self.below(DOUBLES.len())] | sign,
        }
    }

    pub fn integer(&mut self) -> u64 {
        match self.below(5) {
            0 => self.next(),
            1 => self.below(40) as u64,
            2 => (self.below(40) as u64).wrapping_neg(),
            3 => INTEGERS[self.below(INTEGERS.len())].wrapping_neg(),
            _ => INTEGERS[self.below(INTEGERS.len())],
        }
    }

    /// Sixteen bytes, taken as numbers of one kind.
    pub fn vector(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self.below(5) {
            0 => bytes
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .for_each(|b| *b = self.single().to_le_bytes()),
            1 => bytes
                .as_chunks_mut::<8>()
                .0
                .iter_mut()
                .for_each(|b| *b = self.double().to_le_bytes()),
            2 => bytes
                .as_chunks_mut::<8>()
                .0
                .iter_mut()
                .for_each(|b| *b = self.integer().to_le_bytes()),
            // Few different small values, as strings have.
            3 => bytes.iter_mut().for_each(|b| *b = self.below(4) as u8),
            _ => bytes
                .as_chunks_mut::<8>()
                .0
                .iter_mut()
                .for_each(|b| *b = self.next().to_le_bytes()),
        }
        bytes
    }

    /// An 80-bit number, sometimes of a format that processors no longer support.
    pub fn extended(&mut self) -> [u8; 10] {
        let sign = (self.next() as u16) << 15;
        let (mut significand, exponent) = match self.below(8) {
            0 => (self.next() | 1 << 63, self.next() as u16 & 0x7fff),
            1 | 2 => (self.next() | 1 << 63, 0x3ff8 + self.below(16) as u16),
            3 => (
                self.next() << self.below(64) | 1 << 63,
                0x3fff + self.below(70) as u16,
            ),
            4 => (
                SIGNIFICANDS[self.below(SIGNIFICANDS.len())],
                EXPONENTS[self.below(EXPONENTS.len())],
            ),
            5 => (self.next() | 1 << 63, EXPONENTS[self.below(EXPONENTS.len())]),
            6 => (
                self.next() & !(0x7ff >> self.below(12)) | 1 << 63,
                EXPONENTS[self.below(EXPONENTS.len())],
            ),
            _ => [(0, 0), (1 << 63, 0x3fff), (1 << 63, 0x7fff), (3 << 62, 0x7fff)][self.below(4)],
        };
        if exponent == 0 && !self.one_in(4) {
            significand &= !(1 << 63);
        }
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&significand.to_le_bytes());
        bytes[8..].copy_from_slice(&(exponent | sign).to_le_bytes());
        bytes
    }
}

/// How many cases each instruction gets: few, unless POSADA_CASES says otherwise.
pub fn cases(few: usize) -> usize {
    std::env::var("POSADA_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(few)
}
