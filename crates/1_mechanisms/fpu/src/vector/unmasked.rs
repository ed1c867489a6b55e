//! SIMD floating-point exceptions that the guest has unmasked (SDM Vol. 1 §11.5.2 and §11.5.3).

use super::Done;
use super::lanes::Results;
use crate::operands::{Operands, SimdException};

/// MXCSR: the six exception masks.
pub(super) const MASKS: u32 = 0x1f80;
/// MXCSR: the six exception flags.
const FLAGS: u32 = 0x3f;
/// MXCSR: invalid, denormal and zero divide, which are found before computing.
const BEFORE: u32 = 0x07;
/// MXCSR: overflow.
const OVERFLOW: u32 = 1 << 3;
/// MXCSR: underflow.
const UNDERFLOW: u32 = 1 << 4;
/// MXCSR: precision.
const PRECISION: u32 = 1 << 5;
/// MXCSR: flush to zero.
const FLUSH: u32 = 1 << 15;

/// Runs `kernel` with every exception masked, then tells by its flags what the guest's masks would have made of it.
///
/// # Errors
/// An unmasked exception: MXCSR has its flags, the destination is as it was.
#[cold]
pub(super) fn run(o: &mut Operands, kernel: fn(&mut Operands), results: Results) -> Done {
    let (guest, before) = (o.mxcsr, o.first);
    let unmasked = !(guest >> 7) & FLAGS;
    let mut attempt = o.clone();
    let mut raised = masked(&mut attempt, kernel, results, unmasked);
    if raised & BEFORE & unmasked != 0 {
        // Nothing was computed: what computing would have raised does not show.
        raised &= BEFORE;
    } else if raised & unmasked & (OVERFLOW | UNDERFLOW) != 0 {
        raised = raised & !PRECISION | precision(o, kernel, results, unmasked);
    }
    *o = attempt;
    o.mxcsr = guest | raised;
    if raised & unmasked != 0 {
        o.first = before;
        return Err(SimdException);
    }
    Ok(())
}

/// Runs `kernel` with every exception masked; the exceptions that it raised.
fn masked(o: &mut Operands, kernel: fn(&mut Operands), results: Results, unmasked: u32) -> u32 {
    o.mxcsr = o.mxcsr & !FLAGS | MASKS;
    if unmasked & UNDERFLOW != 0 {
        // Flush to zero counts only while underflow is masked.
        o.mxcsr &= !FLUSH;
    }
    kernel(o);
    let mut raised = o.mxcsr & FLAGS;
    if unmasked & UNDERFLOW != 0 && results.denormal(&o.first.0) {
        // Masked underflow needs a result that is tiny and inexact, unmasked only a tiny one.
        raised |= UNDERFLOW;
    }
    raised
}

/// The precision flag beside an unmasked overflow or underflow: it tells whether the result would be inexact even if its
/// exponent had no bounds. Each lane is computed on its own, and where it over- or underflows once more with operands of
/// moderate exponents.
fn precision(o: &Operands, kernel: fn(&mut Operands), results: Results, unmasked: u32) -> u32 {
    (0..results.lanes()).fold(0, |flag, lane| {
        let mut alone = o.clone();
        results.isolate(&mut alone, lane);
        let mut moderate = alone.clone();
        let mut raised = masked(&mut alone, kernel, results, unmasked);
        if raised & unmasked & (OVERFLOW | UNDERFLOW) != 0 {
            results.moderate(&mut moderate);
            raised = masked(&mut moderate, kernel, results, unmasked);
        }
        flag | raised & PRECISION
    })
}
