//! Decimal adjustments and other leftovers of the 8086: AAA, AAS, AAM, AAD, DAA, DAS, SALC, LAHF, SAHF, flag bits.

use crate::cpu::Cpu;
use crate::flags::{self, AF, CF};
use crate::int::Int;
use crate::op::{Flow, Op, Outcome};

fn al(cpu: &Cpu) -> u8 {
    cpu.registers[0] as u8
}

fn set_al(cpu: &mut Cpu, value: u8) {
    u8::set_reg(&mut cpu.registers, 0, value);
}

/// The result's SF, ZF and PF with the given AF and CF; OF is cleared.
fn set_flags(cpu: &mut Cpu, result: u8, adjust: bool, carry: bool) {
    cpu.flags.logic(result);
    let bits = cpu.flags.bits() & !(AF | CF);
    cpu.flags
        .set_bits(bits | if adjust { AF } else { 0 } | if carry { CF } else { 0 });
}

/// AAA (`imm` 0) and AAS (`imm` 1).
pub(crate) fn ascii_adjust(cpu: &mut Cpu, op: &Op) -> Outcome {
    let adjust = al(cpu) & 15 > 9 || cpu.flags.af();
    let mut ax = cpu.registers[0] as u16;
    if adjust {
        ax = if op.imm == 0 {
            ax.wrapping_add(0x106)
        } else {
            ax.wrapping_sub(0x106)
        };
    }
    let ax = ax & 0xff0f;
    u16::set_reg(&mut cpu.registers, 0, ax);
    set_flags(cpu, ax as u8, adjust, adjust);
    Ok(Flow::Next)
}

/// AAM.
pub(crate) fn ascii_multiply(cpu: &mut Cpu, op: &Op) -> Outcome {
    let base = op.imm as u8;
    if base == 0 {
        return cpu.divide();
    }
    let value = al(cpu);
    let ax = u16::from(value / base) << 8 | u16::from(value % base);
    u16::set_reg(&mut cpu.registers, 0, ax);
    set_flags(cpu, value % base, false, false);
    Ok(Flow::Next)
}

/// AAD.
pub(crate) fn ascii_divide(cpu: &mut Cpu, op: &Op) -> Outcome {
    let high = (cpu.registers[0] >> 8) as u8;
    let value = al(cpu).wrapping_add(high.wrapping_mul(op.imm as u8));
    u16::set_reg(&mut cpu.registers, 0, u16::from(value));
    set_flags(cpu, value, false, false);
    Ok(Flow::Next)
}

/// DAA (`imm` 0) and DAS (`imm` 1).
pub(crate) fn decimal_adjust(cpu: &mut Cpu, op: &Op) -> Outcome {
    let old = al(cpu);
    let (old_carry, old_adjust) = (cpu.flags.cf(), cpu.flags.af());
    let low = old & 15 > 9 || old_adjust;
    let high = old > 0x99 || old_carry;
    let amount = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let subtract = op.imm != 0;
    let value = if subtract {
        old.wrapping_sub(amount)
    } else {
        old.wrapping_add(amount)
    };
    // DAS also carries when the first subtraction borrows.
    let carry = high || subtract && low && old < 6;
    set_al(cpu, value);
    set_flags(cpu, value, low, carry);
    Ok(Flow::Next)
}

/// SALC.
pub(crate) fn set_al_carry(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let value = if cpu.flags.cf() { 0xff } else { 0 };
    set_al(cpu, value);
    Ok(Flow::Next)
}

/// LAHF.
pub(crate) fn lahf(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let bits = (cpu.rflags() & 0xff) as u8;
    u8::set_reg(&mut cpu.registers, crate::op::HIGH, bits);
    Ok(Flow::Next)
}

/// SAHF.
pub(crate) fn sahf(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let ah = cpu.registers[0] >> 8 & 0xff;
    let overflow = if cpu.flags.of() { flags::OF } else { 0 };
    cpu.flags.set_bits(ah & flags::ARITHMETIC | overflow);
    Ok(Flow::Next)
}

/// CLC, STC (`imm` is the new CF).
pub(crate) fn set_carry(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.flags.set_carry(op.imm != 0);
    Ok(Flow::Next)
}

/// CMC.
pub(crate) fn complement_carry(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let carry = !cpu.flags.cf();
    cpu.flags.set_carry(carry);
    Ok(Flow::Next)
}

/// CLD, STD.
pub(crate) fn set_direction(cpu: &mut Cpu, op: &Op) -> Outcome {
    if op.imm != 0 {
        cpu.rflags |= flags::DF;
    } else {
        cpu.rflags &= !flags::DF;
    }
    Ok(Flow::Next)
}
