//! The numbers in the operands and results of SSE arithmetic, lane by lane.

use crate::operands::{Operands, Xmm};

/// How a lane of the result comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Sum or difference of the same lane of both operands.
    Sum,
    /// Sum or difference of two neighbours in one operand.
    Neighbours,
    /// Product or quotient of the same lane of both operands.
    Product,
}

/// Which numbers in the result may overflow or be tiny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Results {
    /// None.
    Never,
    /// This many single-precision ones.
    Singles(usize, From),
    /// This many double-precision ones.
    Doubles(usize, From),
    /// This many single-precision ones, made of double-precision ones in the second operand.
    Narrowed(usize),
}

const ONE_SINGLE: u32 = 0x3f80_0000;
const ONE_DOUBLE: u64 = 0x3ff0_0000_0000_0000;

impl Results {
    /// How many lanes there are.
    pub(super) fn lanes(self) -> usize {
        match self {
            Results::Never => 0,
            Results::Singles(n, _) | Results::Doubles(n, _) | Results::Narrowed(n) => n,
        }
    }

    /// Whether one of the numbers in `result` is denormal.
    pub(super) fn denormal(self, result: &[u8; 16]) -> bool {
        let (singles, doubles) = (result.as_chunks::<4>().0, result.as_chunks::<8>().0);
        match self {
            Results::Never => false,
            Results::Singles(n, _) | Results::Narrowed(n) => singles[..n]
                .iter()
                .any(|&bytes| f32::from_le_bytes(bytes).is_subnormal()),
            Results::Doubles(n, _) => doubles[..n]
                .iter()
                .any(|&bytes| f64::from_le_bytes(bytes).is_subnormal()),
        }
    }

    /// Puts ones wherever a number has no part in `lane`, so that the other lanes raise nothing.
    pub(super) fn isolate(self, o: &mut Operands, lane: usize) {
        let (width, from) = match self {
            Results::Never => return,
            Results::Singles(_, from) => (4, from),
            Results::Doubles(_, from) => (8, from),
            Results::Narrowed(_) => (8, From::Sum),
        };
        let numbers = 16 / width;
        for n in 0..numbers {
            let (in_first, in_second) = match from {
                From::Sum | From::Product => (n == lane, n == lane),
                // The first operand gives the lower half of the lanes.
                From::Neighbours => (n / 2 == lane, numbers / 2 + n / 2 == lane),
            };
            for (operand, part) in [(&mut o.first, in_first), (&mut o.second, in_second)] {
                match width {
                    _ if part => {}
                    4 => operand.0[4 * n..4 * n + 4].copy_from_slice(&ONE_SINGLE.to_le_bytes()),
                    _ => operand.0[8 * n..8 * n + 8].copy_from_slice(&ONE_DOUBLE.to_le_bytes()),
                }
            }
        }
    }

    /// Changes exponents so that nothing over- or underflows and the significand of the result stays the same.
    pub(super) fn moderate(self, o: &mut Operands) {
        let product = !matches!(self, Results::Singles(_, From::Sum | From::Neighbours))
            && !matches!(self, Results::Doubles(_, From::Sum | From::Neighbours));
        let single = if product {
            significand_single
        } else {
            quarter_single
        };
        let double = if product {
            significand_double
        } else {
            quarter_double
        };
        for Xmm(bytes) in [&mut o.first, &mut o.second] {
            if let Results::Singles(..) = self {
                bytes
                    .as_chunks_mut()
                    .0
                    .iter_mut()
                    .for_each(|b| *b = single(u32::from_le_bytes(*b)).to_le_bytes());
            } else {
                bytes
                    .as_chunks_mut()
                    .0
                    .iter_mut()
                    .for_each(|b| *b = double(u64::from_le_bytes(*b)).to_le_bytes());
            }
        }
    }
}

/// The number with an exponent that makes it at least one and below two; zero and what is not finite stay.
fn significand_single(bits: u32) -> u32 {
    let fraction = match bits >> 23 & 0xff {
        0 if bits << 1 == 0 => return bits,
        0xff => return bits,
        // Denormal: the highest set bit becomes the implicit one.
        0 => bits << ((bits & 0x7f_ffff).leading_zeros() - 8),
        _ => bits,
    };
    bits & 1 << 31 | fraction & 0x7f_ffff | ONE_SINGLE
}

/// As [`significand_single`].
fn significand_double(bits: u64) -> u64 {
    const FRACTION: u64 = 0xf_ffff_ffff_ffff;
    let fraction = match bits >> 52 & 0x7ff {
        0 if bits << 1 == 0 => return bits,
        0x7ff => return bits,
        0 => bits << ((bits & FRACTION).leading_zeros() - 11),
        _ => bits,
    };
    bits & 1 << 63 | fraction & FRACTION | ONE_DOUBLE
}

/// A quarter of the number, for sums that overflow: beside so large a one, whether the smallest are divided does not
/// matter, the sum is inexact anyway.
fn quarter_single(bits: u32) -> u32 {
    if (3..0xff).contains(&(bits >> 23 & 0xff)) {
        bits - (2 << 23)
    } else {
        bits
    }
}

/// As [`quarter_single`].
fn quarter_double(bits: u64) -> u64 {
    if (3..0x7ff).contains(&(bits >> 52 & 0x7ff)) {
        bits - (2 << 52)
    } else {
        bits
    }
}
