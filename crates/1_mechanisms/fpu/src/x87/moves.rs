//! Loads, stores and moves that round nothing, in plain Rust; what is unusual goes the general way.

use super::native::run as general;
use super::{Run, Store, X87Op, X87Operands};
use crate::state::{C1, Extended, Fpu};
use iced_x86::{Code, Mnemonic as M};

/// The function for `code`, if it is one of these.
pub(super) fn choose(code: Code) -> Option<Run> {
    Some(match code.mnemonic() {
        M::Fxch => exchange,
        M::Fchs => change_sign,
        M::Fabs => clear_sign,
        M::Fld1 => push_one,
        M::Fldz => push_zero,
        M::Fcmovb => conditional::<CF, true>,
        M::Fcmove => conditional::<ZF, true>,
        M::Fcmovbe => conditional::<{ CF | ZF }, true>,
        M::Fcmovu => conditional::<PF, true>,
        M::Fcmovnb => conditional::<CF, false>,
        M::Fcmovne => conditional::<ZF, false>,
        M::Fcmovnbe => conditional::<{ CF | ZF }, false>,
        M::Fcmovnu => conditional::<PF, false>,
        _ => match code {
            Code::Fld_sti => load_register,
            Code::Fld_m80fp => load_extended,
            Code::Fld_m64fp => load_double,
            Code::Fld_m32fp => load_single,
            Code::Fild_m16int => load_integer::<2>,
            Code::Fild_m32int => load_integer::<4>,
            Code::Fild_m64int => load_integer::<8>,
            Code::Fst_sti => store_register::<false>,
            Code::Fstp_sti => store_register::<true>,
            Code::Fstp_m80fp => store_extended,
            _ => return None,
        },
    })
}

const CF: u32 = 1;
const PF: u32 = 1 << 2;
const ZF: u32 = 1 << 6;

fn push(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands, value: Extended) -> Store {
    if fpu.holds(7) {
        return general(op, fpu, operands);
    }
    fpu.push(value);
    fpu.status &= !C1;
    Store::Yes
}

/// A double- or single-precision number widened, unless it is denormal, infinite or no number.
fn widen(negative: bool, exponent: u16, bias: u16, special: u16, fraction: u64) -> Option<Extended> {
    let sign = u16::from(negative) << 15;
    match exponent {
        0 if fraction == 0 => Some(Extended {
            significand: 0,
            exponent: sign,
        }),
        0 => None,
        _ if exponent == special => None,
        _ => Some(Extended {
            significand: 1 << 63 | fraction,
            exponent: sign | (exponent + 0x3fff - bias),
        }),
    }
}

fn load_double(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&operands.memory[..8]);
    let bits = u64::from_le_bytes(bytes);
    match widen(
        bits >> 63 != 0,
        (bits >> 52) as u16 & 0x7ff,
        0x3ff,
        0x7ff,
        bits << 12 >> 1,
    ) {
        Some(value) => push(op, fpu, operands, value),
        None => general(op, fpu, operands),
    }
}

fn load_single(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&operands.memory[..4]);
    let bits = u32::from_le_bytes(bytes);
    match widen(
        bits >> 31 != 0,
        (bits >> 23) as u16 & 0xff,
        0x7f,
        0xff,
        u64::from(bits) << 41 >> 1,
    ) {
        Some(value) => push(op, fpu, operands, value),
        None => general(op, fpu, operands),
    }
}

fn load_extended(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&operands.memory[..10]);
    push(op, fpu, operands, Extended::from_bytes(bytes))
}

/// FILD of `N` bytes, which is always exact.
fn load_integer<const N: usize>(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let mut bytes = [0; 8];
    bytes[8 - N..].copy_from_slice(&operands.memory[..N]);
    let value = i64::from_le_bytes(bytes) >> (64 - 8 * N);
    let magnitude = value.unsigned_abs();
    let sign = u16::from(value < 0) << 15;
    // At most 63: the number is not zero.
    let shift = magnitude.leading_zeros();
    let value = match magnitude {
        0 => Extended::default(),
        _ => Extended {
            significand: magnitude << shift,
            exponent: sign | (0x3fff + 63 - shift as u16),
        },
    };
    push(op, fpu, operands, value)
}

fn push_one(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    push(
        op,
        fpu,
        operands,
        Extended {
            significand: 1 << 63,
            exponent: 0x3fff,
        },
    )
}

fn push_zero(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    push(op, fpu, operands, Extended::default())
}

fn load_register(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let i = operands.register();
    if !fpu.holds(i) {
        return general(op, fpu, operands);
    }
    push(op, fpu, operands, fpu.st(i))
}

fn store_register<const POP: bool>(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    if !fpu.holds(0) {
        return general(op, fpu, operands);
    }
    fpu.set_st(operands.register(), fpu.st(0));
    fpu.status &= !C1;
    if POP {
        fpu.pop();
    }
    Store::Yes
}

fn store_extended(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    if !fpu.holds(0) {
        return general(op, fpu, operands);
    }
    operands.memory[..10].copy_from_slice(&fpu.st(0).to_bytes());
    fpu.status &= !C1;
    fpu.pop();
    Store::Yes
}

fn exchange(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let i = operands.register();
    if !fpu.holds(0) || !fpu.holds(i) {
        return general(op, fpu, operands);
    }
    let (top, other) = (fpu.st(0), fpu.st(i));
    fpu.put_st(0, other);
    fpu.put_st(i, top);
    fpu.status &= !C1;
    Store::Yes
}

fn change_sign(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    sign(op, fpu, operands, |exponent| exponent ^ 0x8000)
}

fn clear_sign(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    sign(op, fpu, operands, |exponent| exponent & 0x7fff)
}

fn sign(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands, change: fn(u16) -> u16) -> Store {
    if !fpu.holds(0) {
        return general(op, fpu, operands);
    }
    let value = fpu.st(0);
    fpu.put_st(
        0,
        Extended {
            exponent: change(value.exponent),
            ..value
        },
    );
    fpu.status &= !C1;
    Store::Yes
}

/// FCMOVcc: moves if any of `FLAGS` is set, or with `SET` false if none is.
fn conditional<const FLAGS: u32, const SET: bool>(
    op: &X87Op,
    fpu: &mut Fpu,
    operands: &mut X87Operands,
) -> Store {
    let i = operands.register();
    if !fpu.holds(0) || !fpu.holds(i) {
        return general(op, fpu, operands);
    }
    if (operands.flags & FLAGS != 0) == SET {
        fpu.put_st(0, fpu.st(i));
    }
    Store::Yes
}
