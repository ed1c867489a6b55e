//! Multiplication and division.

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Flow, Handler, Op, Outcome, Stop};

/// Reads the operand that may be a register or memory.
#[inline(always)]
fn operand<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Result<T, Stop> {
    if MEMORY {
        let linear = cpu.address(op, T::BYTES, false)?;
        cpu.load::<T>(linear, op.seg)
    } else {
        Ok(T::reg(&cpu.registers, op.src))
    }
}

/// Writes a double-width value to AX, or to RDX and RAX.
fn set_pair<T: Int>(cpu: &mut Cpu, low: u64, high: u64) {
    if T::BITS == 8 {
        u16::set_reg(&mut cpu.registers, 0, low as u16 & 0xff | (high as u16) << 8);
    } else {
        T::set_reg(&mut cpu.registers, 0, T::cut(low));
        T::set_reg(&mut cpu.registers, 2, T::cut(high));
    }
}

fn mul<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = operand::<T, MEMORY>(cpu, op)?.wide();
    let a = T::reg(&cpu.registers, 0).wide();
    let product = u128::from(a) * u128::from(b);
    let (low, high) = (T::cut(product as u64), (product >> T::BITS) as u64);
    set_pair::<T>(cpu, low.wide(), high);
    cpu.flags.shifted(low, high != 0, high != 0);
    Ok(Flow::Next)
}

fn imul<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = operand::<T, MEMORY>(cpu, op)?.signed() as i64;
    let a = T::reg(&cpu.registers, 0).signed() as i64;
    let product = i128::from(a) * i128::from(b);
    let low = T::cut(product as u64);
    let wide = product != i128::from(low.signed() as i64);
    set_pair::<T>(cpu, low.wide(), (product >> T::BITS) as u64);
    cpu.flags.shifted(low, wide, wide);
    Ok(Flow::Next)
}

#[inline(always)]
fn product<T: Int>(cpu: &mut Cpu, op: &Op, a: u64, b: u64) -> Outcome {
    let product = i128::from(a as i64) * i128::from(b as i64);
    let low = T::cut(product as u64);
    let wide = product != i128::from(low.signed() as i64);
    T::set_reg(&mut cpu.registers, op.dst, low);
    cpu.flags.shifted(low, wide, wide);
    Ok(Flow::Next)
}

fn imul2<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = operand::<T, MEMORY>(cpu, op)?.signed();
    let a = T::reg(&cpu.registers, op.dst).signed();
    product::<T>(cpu, op, a, b)
}

fn imul3<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let a = operand::<T, MEMORY>(cpu, op)?.signed();
    product::<T>(cpu, op, a, op.imm)
}

fn div<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let divisor = operand::<T, MEMORY>(cpu, op)?.wide();
    if divisor == 0 {
        return cpu.divide();
    }
    if T::BITS < 64 {
        let dividend = if T::BITS == 8 {
            cpu.registers[0] & 0xffff
        } else {
            T::reg(&cpu.registers, 2).wide() << T::BITS | T::reg(&cpu.registers, 0).wide()
        };
        let (quotient, rest) = (dividend / divisor, dividend % divisor);
        if quotient >> T::BITS != 0 {
            return cpu.divide();
        }
        set_pair::<T>(cpu, quotient, rest);
    } else {
        let (high, low) = (cpu.registers[2], cpu.registers[0]);
        if high >= divisor {
            return cpu.divide();
        }
        let (quotient, rest) = if high == 0 {
            (low / divisor, low % divisor)
        } else {
            let dividend = u128::from(high) << 64 | u128::from(low);
            let divisor = u128::from(divisor);
            ((dividend / divisor) as u64, (dividend % divisor) as u64)
        };
        set_pair::<T>(cpu, quotient, rest);
    }
    Ok(Flow::Next)
}

fn idiv<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let divisor = i128::from(operand::<T, MEMORY>(cpu, op)?.signed() as i64);
    let dividend = match T::BITS {
        8 => i128::from(cpu.registers[0] as i16),
        64 => (u128::from(cpu.registers[2]) << 64 | u128::from(cpu.registers[0])) as i128,
        bits => {
            let high = T::reg(&cpu.registers, 2).signed() as i64;
            i128::from(high) << bits | i128::from(T::reg(&cpu.registers, 0).wide())
        }
    };
    let quotient = match (i64::try_from(dividend), i64::try_from(divisor)) {
        _ if divisor == 0 => return cpu.divide(),
        (Ok(a), Ok(b)) if b != -1 => i128::from(a / b),
        _ => match dividend.checked_div(divisor) {
            Some(quotient) => quotient,
            None => return cpu.divide(),
        },
    };
    if quotient != i128::from(T::cut(quotient as u64).signed() as i64) {
        return cpu.divide();
    }
    let rest = dividend - quotient * divisor;
    set_pair::<T>(cpu, quotient as u64, rest as u64);
    Ok(Flow::Next)
}

/// RDX is the second source; MULX.
pub(crate) fn mulx<T: Int, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = operand::<T, MEMORY>(cpu, op)?.wide();
    let product = u128::from(T::reg(&cpu.registers, 2).wide()) * u128::from(b);
    T::set_reg(&mut cpu.registers, op.imm as u8, T::cut(product as u64));
    T::set_reg(&mut cpu.registers, op.dst, T::cut((product >> T::BITS) as u64));
    Ok(Flow::Next)
}

/// ADCX (with CF) and ADOX (with OF).
pub(crate) fn carry_add<T: Int, const MEMORY: bool, const OVERFLOW: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = operand::<T, MEMORY>(cpu, op)?.wide();
    let a = T::reg(&cpu.registers, op.dst).wide();
    let carry = if OVERFLOW { cpu.flags.of() } else { cpu.flags.cf() };
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    T::set_reg(&mut cpu.registers, op.dst, T::cut(sum as u64));
    let carry = sum >> T::BITS != 0;
    let (cf, of) = (cpu.flags.cf(), cpu.flags.of());
    if OVERFLOW {
        cpu.flags.set_carry_overflow(cf, carry);
    } else {
        cpu.flags.set_carry_overflow(carry, of);
    }
    Ok(Flow::Next)
}

/// Which multiplication or division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mul,
    Imul,
    Imul2,
    Imul3,
    Div,
    Idiv,
}

/// The handler of a multiplication or division.
pub(crate) fn handler(kind: Kind, memory: bool, size: u64) -> Handler {
    macro_rules! pick {
        ($name:ident) => {
            match (memory, size) {
                (false, 1) => $name::<u8, false>,
                (false, 2) => $name::<u16, false>,
                (false, 4) => $name::<u32, false>,
                (false, _) => $name::<u64, false>,
                (true, 1) => $name::<u8, true>,
                (true, 2) => $name::<u16, true>,
                (true, 4) => $name::<u32, true>,
                (true, _) => $name::<u64, true>,
            }
        };
    }
    match kind {
        Kind::Mul => pick!(mul),
        Kind::Imul => pick!(imul),
        Kind::Imul2 => pick!(imul2),
        Kind::Imul3 => pick!(imul3),
        Kind::Div => pick!(div),
        Kind::Idiv => pick!(idiv),
    }
}

/// The handler of ADCX or ADOX.
pub(crate) fn carry_handler(overflow: bool, memory: bool, size: u64) -> Handler {
    match (overflow, memory, size) {
        (false, false, 4) => carry_add::<u32, false, false>,
        (false, false, _) => carry_add::<u64, false, false>,
        (false, true, 4) => carry_add::<u32, true, false>,
        (false, true, _) => carry_add::<u64, true, false>,
        (true, false, 4) => carry_add::<u32, false, true>,
        (true, false, _) => carry_add::<u64, false, true>,
        (true, true, 4) => carry_add::<u32, true, true>,
        (true, true, _) => carry_add::<u64, true, true>,
    }
}

/// The handler of MULX.
pub(crate) fn mulx_handler(memory: bool, size: u64) -> Handler {
    match (memory, size) {
        (false, 4) => mulx::<u32, false>,
        (false, _) => mulx::<u64, false>,
        (true, 4) => mulx::<u32, true>,
        (true, _) => mulx::<u64, true>,
    }
}
