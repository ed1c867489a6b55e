//! Moves: MOV, MOVZX, MOVSX, CMOVcc, SETcc, LEA, XCHG of registers, BSWAP, MOVBE, sign extensions, XLAT.

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Flow, Op, Outcome};

/// MOV register, register.
pub(crate) fn rr<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = T::reg(&cpu.registers, op.src);
    T::set_reg(&mut cpu.registers, op.dst, value);
    Ok(Flow::Next)
}

/// MOV register, immediate.
pub(crate) fn ri<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    T::set_reg(&mut cpu.registers, op.dst, T::cut(op.imm));
    Ok(Flow::Next)
}

/// MOV register, memory.
pub(crate) fn rm<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let value = cpu.load::<T>(linear, op.seg)?;
    T::set_reg(&mut cpu.registers, op.dst, value);
    Ok(Flow::Next)
}

/// MOV memory, register; MOVNTI.
pub(crate) fn mr<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let value = T::reg(&cpu.registers, op.src);
    cpu.store(linear, op.seg, value)?;
    Ok(Flow::Next)
}

/// MOV memory, immediate.
pub(crate) fn mi<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    cpu.store(linear, op.seg, T::cut(op.imm))?;
    Ok(Flow::Next)
}

/// MOVZX register, register.
pub(crate) fn zx_r<S: Int, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = S::reg(&cpu.registers, op.src);
    T::set_reg(&mut cpu.registers, op.dst, T::cut(value.wide()));
    Ok(Flow::Next)
}

/// MOVZX register, memory.
pub(crate) fn zx_m<S: Int, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, S::BYTES, false)?;
    let value = cpu.load::<S>(linear, op.seg)?;
    T::set_reg(&mut cpu.registers, op.dst, T::cut(value.wide()));
    Ok(Flow::Next)
}

/// MOVSX, MOVSXD register, register.
pub(crate) fn sx_r<S: Int, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = S::reg(&cpu.registers, op.src);
    T::set_reg(&mut cpu.registers, op.dst, T::cut(value.signed()));
    Ok(Flow::Next)
}

/// MOVSX, MOVSXD register, memory.
pub(crate) fn sx_m<S: Int, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, S::BYTES, false)?;
    let value = cpu.load::<S>(linear, op.seg)?;
    T::set_reg(&mut cpu.registers, op.dst, T::cut(value.signed()));
    Ok(Flow::Next)
}

/// LEA.
pub(crate) fn lea<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let offset = cpu.offset(op);
    T::set_reg(&mut cpu.registers, op.dst, T::cut(offset));
    Ok(Flow::Next)
}

/// CMOVcc register, register; the condition is `imm`.
pub(crate) fn cmov_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let source = if cpu.flags.condition(op.imm as u8) {
        op.src
    } else {
        op.dst
    };
    // The upper half of a 64-bit register is cleared whether the condition holds or not.
    let value = T::reg(&cpu.registers, source);
    T::set_reg(&mut cpu.registers, op.dst, value);
    Ok(Flow::Next)
}

/// CMOVcc register, memory: reads in any case.
pub(crate) fn cmov_m<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let mut value = cpu.load::<T>(linear, op.seg)?;
    if !cpu.flags.condition(op.imm as u8) {
        value = T::reg(&cpu.registers, op.dst);
    }
    T::set_reg(&mut cpu.registers, op.dst, value);
    Ok(Flow::Next)
}

/// SETcc register.
pub(crate) fn set_r(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = u8::from(cpu.flags.condition(op.imm as u8));
    u8::set_reg(&mut cpu.registers, op.dst, value);
    Ok(Flow::Next)
}

/// SETcc memory.
pub(crate) fn set_m(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, 1, true)?;
    let value = u8::from(cpu.flags.condition(op.imm as u8));
    cpu.store(linear, op.seg, value)?;
    Ok(Flow::Next)
}

/// XCHG register, register.
pub(crate) fn xchg<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let (a, b) = (T::reg(&cpu.registers, op.dst), T::reg(&cpu.registers, op.src));
    T::set_reg(&mut cpu.registers, op.dst, b);
    T::set_reg(&mut cpu.registers, op.src, a);
    Ok(Flow::Next)
}

/// BSWAP; of 16 bits it gives zeros, as processors do with what is undefined.
pub(crate) fn bswap<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = T::reg(&cpu.registers, op.dst).wide();
    let swapped = match T::BYTES {
        8 => value.swap_bytes(),
        4 => u64::from((value as u32).swap_bytes()),
        _ => 0,
    };
    T::set_reg(&mut cpu.registers, op.dst, T::cut(swapped));
    Ok(Flow::Next)
}

fn reversed<T: Int>(value: T) -> T {
    T::cut(value.wide().swap_bytes() >> (64 - T::BITS))
}

/// MOVBE register, memory.
pub(crate) fn movbe_load<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let value = cpu.load::<T>(linear, op.seg)?;
    T::set_reg(&mut cpu.registers, op.dst, reversed(value));
    Ok(Flow::Next)
}

/// MOVBE memory, register.
pub(crate) fn movbe_store<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let value = reversed(T::reg(&cpu.registers, op.src));
    cpu.store(linear, op.seg, value)?;
    Ok(Flow::Next)
}

/// CBW, CWDE, CDQE: sign-extends the lower half of RAX of size `T`.
pub(crate) fn extend_low<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let half = T::BITS / 2;
    let value = (cpu.registers[0] << (64 - half)) as i64 >> (64 - half);
    T::set_reg(&mut cpu.registers, 0, T::cut(value as u64));
    Ok(Flow::Next)
}

/// CWD, CDQ, CQO: fills RDX of size `T` with the sign of RAX.
pub(crate) fn extend_high<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let sign = T::reg(&cpu.registers, 0).signed() as i64 >> 63;
    T::set_reg(&mut cpu.registers, 2, T::cut(sign as u64));
    Ok(Flow::Next)
}

/// XLAT: the operand is base RBX without AL.
pub(crate) fn xlat(cpu: &mut Cpu, op: &Op) -> Outcome {
    let offset = cpu.registers[3].wrapping_add(cpu.registers[0] & 0xff) & op.form.address_mask();
    let linear = cpu.segmented(op.seg, offset, 1, false)?;
    let value = cpu.load::<u8>(linear, op.seg)?;
    u8::set_reg(&mut cpu.registers, 0, value);
    Ok(Flow::Next)
}

/// NOP, PAUSE, prefetches, fences: nothing that the guest could see.
pub(crate) fn nop(_cpu: &mut Cpu, _op: &Op) -> Outcome {
    Ok(Flow::Next)
}

/// MFENCE and LFENCE/SFENCE: order of memory as the host has it.
pub(crate) fn fence(_cpu: &mut Cpu, _op: &Op) -> Outcome {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(Flow::Next)
}
