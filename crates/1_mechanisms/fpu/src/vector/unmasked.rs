//! SIMD floating-point exceptions that the guest has unmasked (SDM Vol. 1 §11.5.2 and §11.5.3).

use super::Done;
use crate::operands::{Operands, SimdException};

/// MXCSR: the six exception masks.
pub(super) const MASKS: u32 = 0x1f80;
/// MXCSR: the six exception flags.
const FLAGS: u32 = 0x3f;
/// MXCSR: invalid, denormal and zero divide, which are found before computing.
const BEFORE: u32 = 0x07;
/// MXCSR: underflow.
const UNDERFLOW: u32 = 1 << 4;
/// MXCSR: flush to zero.
const FLUSH: u32 = 1 << 15;

/// Which numbers in the result may be tiny.
#[derive(Clone, Copy, Debug)]
pub(super) enum Results {
    /// None: the instruction cannot underflow.
    Never,
    /// This many single-precision ones.
    Singles(usize),
    /// This many double-precision ones.
    Doubles(usize),
}

impl Results {
    /// Whether one of the numbers in `result` is denormal.
    fn denormal(self, result: &[u8; 16]) -> bool {
        match self {
            Results::Never => false,
            Results::Singles(n) => result.as_chunks::<4>().0[..n].iter().any(|&b| f32::from_le_bytes(b).is_subnormal()),
            Results::Doubles(n) => result.as_chunks::<8>().0[..n].iter().any(|&b| f64::from_le_bytes(b).is_subnormal()),
        }
    }
}

/// Runs `kernel` with every exception masked, then tells by its flags what the guest's masks would have made of it.
///
/// # Errors
/// An unmasked exception: MXCSR has its flags, the destination is as it was.
#[cold]
pub(super) fn run(o: &mut Operands, kernel: fn(&mut Operands), results: Results) -> Done {
    let (guest, before) = (o.mxcsr, o.first);
    let unmasked = !(guest >> 7) & FLAGS;
    let mut masked = guest & !FLAGS | MASKS;
    if unmasked & UNDERFLOW != 0 {
        // Flush to zero counts only while underflow is masked.
        masked &= !FLUSH;
    }
    o.mxcsr = masked;
    kernel(o);
    let mut raised = o.mxcsr & FLAGS;
    if unmasked & UNDERFLOW != 0 && results.denormal(&o.first.0) {
        // Masked underflow needs a result that is tiny and inexact, unmasked only a tiny one.
        raised |= UNDERFLOW;
    }
    if raised & BEFORE & unmasked != 0 {
        // Nothing was computed: what computing would have raised does not show.
        raised &= BEFORE;
    }
    o.mxcsr = guest | raised;
    if raised & unmasked != 0 {
        o.first = before;
        return Err(SimdException);
    }
    Ok(())
}
