//! Dot products: one instruction while every exception is masked, else the steps that it consists of.

use super::lanes::From::{Product, Sum};
use super::lanes::Results::{Doubles, Never, Singles};
use super::unmasked::MASKS;
use super::{Done, Entry, Run};
use crate::operands::{Operands, Xmm};
use iced_x86::Code;

/// The instructions.
pub(super) static TABLES: &[&[Entry]] = &[&[
    Entry::floating(Code::Dpps_xmm_xmmm128_imm8, singles),
    Entry::floating(Code::Dppd_xmm_xmmm128_imm8, doubles),
]];

static DPPS: Run = floating!(Never; by_immediate!(256, "dpps xmm0, xmmword ptr [rdi + 16], .Limmediate"));
static DPPD: Run = floating!(Never; by_immediate!(256, "dppd xmm0, xmmword ptr [rdi + 16], .Limmediate"));
static MULPS: Run = floating!(Singles(4, Product); "mulps xmm0, xmmword ptr [rdi + 16]");
static MULPD: Run = floating!(Doubles(2, Product); "mulpd xmm0, xmmword ptr [rdi + 16]");
static ADDPS: Run = floating!(Singles(4, Sum); "addps xmm0, xmmword ptr [rdi + 16]");
static ADDPD: Run = floating!(Doubles(2, Sum); "addpd xmm0, xmmword ptr [rdi + 16]");

fn singles(o: &mut Operands) -> Done {
    if o.mxcsr & MASKS == MASKS {
        DPPS(o)
    } else {
        in_steps::<4>(o, MULPS, ADDPS)
    }
}

fn doubles(o: &mut Operands) -> Done {
    if o.mxcsr & MASKS == MASKS {
        DPPD(o)
    } else {
        in_steps::<8>(o, MULPD, ADDPD)
    }
}

/// Computes with numbers of `N` bytes; an exception of a step ends it.
fn in_steps<const N: usize>(o: &mut Operands, multiply: Run, add: Run) -> Done {
    let before = (o.first, o.second);
    let done = steps::<N>(o, multiply, add);
    o.second = before.1;
    if done.is_err() {
        o.first = before.0;
    }
    done
}

fn steps<const N: usize>(o: &mut Operands, multiply: Run, add: Run) -> Done {
    let chosen = |bit: usize| o.imm8 >> bit & 1 != 0;
    let (factors, places) = (
        std::array::from_fn::<_, 4, _>(|n| chosen(4 + n)),
        [0, 1, 2, 3].map(chosen),
    );
    for Xmm(bytes) in [&mut o.first, &mut o.second] {
        let numbers = bytes.as_chunks_mut::<N>().0.iter_mut();
        numbers
            .zip(factors)
            .filter(|(_, factor)| !factor)
            .for_each(|(number, _)| number.fill(0));
    }
    multiply(o)?;
    // Neighbours are added until one number remains.
    let mut count = 16 / N;
    while count > 1 {
        let all = o.first;
        (o.first, o.second) = (Xmm::default(), Xmm::default());
        for (n, pair) in all.0[..count * N].chunks(2 * N).enumerate() {
            o.first.0[n * N..][..N].copy_from_slice(&pair[..N]);
            o.second.0[n * N..][..N].copy_from_slice(&pair[N..]);
        }
        add(o)?;
        count /= 2;
    }
    let sum = o.first;
    o.first = Xmm::default();
    let numbers = o.first.0.as_chunks_mut::<N>().0.iter_mut();
    numbers
        .zip(places)
        .filter(|(_, place)| *place)
        .for_each(|(number, _)| number.copy_from_slice(&sum.0[..N]));
    Ok(())
}
