//! PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE.

use crate::cpu::{Cpu, seg};
use crate::flags;
use crate::int::Int;
use crate::op::{Flow, Op, Outcome, Stop};

/// PUSH register.
pub(crate) fn push_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = T::reg(&cpu.registers, op.src);
    cpu.push(value)?;
    Ok(Flow::Next)
}

/// PUSH immediate.
pub(crate) fn push_i<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.push(T::cut(op.imm))?;
    Ok(Flow::Next)
}

/// PUSH memory.
pub(crate) fn push_m<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let value = cpu.load::<T>(linear, op.seg)?;
    cpu.push(value)?;
    Ok(Flow::Next)
}

/// PUSH segment register.
pub(crate) fn push_s<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = u64::from(cpu.segments[op.src as usize % 6].selector);
    if T::BYTES == 4 {
        // Only two bytes are written.
        let at = cpu.registers[4].wrapping_sub(4);
        let linear = cpu.segmented(seg::SS, at & cpu.stack_mask, 2, true)?;
        cpu.store(linear, seg::SS, value as u16)?;
        cpu.set_stack(at);
        return Ok(Flow::Next);
    }
    cpu.push(T::cut(value))?;
    Ok(Flow::Next)
}

/// POP register.
pub(crate) fn pop_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = cpu.peek::<T>(0)?;
    cpu.release(T::BYTES);
    T::set_reg(&mut cpu.registers, op.dst, value);
    Ok(Flow::Next)
}

/// POP memory: an address with RSP is computed with the stack pointer after the pop.
pub(crate) fn pop_m<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = cpu.peek::<T>(0)?;
    let before = cpu.registers[4];
    cpu.release(T::BYTES);
    let stored = cpu
        .address(op, T::BYTES, true)
        .and_then(|linear| cpu.store(linear, op.seg, value));
    if let Err(stop) = stored {
        cpu.registers[4] = before;
        return Err(stop);
    }
    Ok(Flow::Next)
}

/// POP segment register.
pub(crate) fn pop_s<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let selector = if T::BYTES == 4 {
        cpu.peek::<u16>(0)?
    } else {
        cpu.peek::<T>(0)?.wide() as u16
    };
    cpu.load_segment(op.dst, selector)?;
    // A load of SS changes the size of the stack pointer: the pop counts with the old one.
    cpu.release(T::BYTES);
    Ok(cpu.after_segment(op.dst))
}

impl Cpu {
    /// What follows a load of a segment register.
    pub(crate) fn after_segment(&mut self, number: u8) -> Flow {
        if number == seg::SS {
            self.shadow = crate::cpu::Shadow::Stack;
        }
        Flow::Cut
    }
}

/// PUSHA, PUSHAD.
pub(crate) fn push_all<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let before = cpu.registers[4];
    let bottom = before.wrapping_sub(8 * T::BYTES) & cpu.stack_mask;
    let linear = cpu.segmented(seg::SS, bottom, T::BYTES, true)?;
    cpu.probe(linear, T::BYTES, seg::SS, true)?;
    for number in 0..8 {
        let value = if number == 4 {
            T::cut(before)
        } else {
            T::reg(&cpu.registers, number)
        };
        if let Err(stop) = cpu.push(value) {
            cpu.registers[4] = before;
            return Err(stop);
        }
    }
    Ok(Flow::Next)
}

/// POPA, POPAD.
pub(crate) fn pop_all<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let mut values = [T::cut(0); 8];
    for (number, value) in values.iter_mut().enumerate() {
        *value = cpu.peek::<T>(T::BYTES * (7 - number as u64))?;
    }
    cpu.release(8 * T::BYTES);
    for number in [0u8, 1, 2, 3, 5, 6, 7] {
        T::set_reg(&mut cpu.registers, number, values[number as usize]);
    }
    Ok(Flow::Next)
}

/// PUSHF, PUSHFD, PUSHFQ.
pub(crate) fn push_flags<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let bits = cpu.rflags() & !(flags::RF | flags::VM);
    cpu.push(T::cut(bits))?;
    Ok(Flow::Next)
}

/// POPF, POPFD, POPFQ.
pub(crate) fn pop_flags<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let bits = cpu.peek::<T>(0)?.wide();
    let mut change = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
    if T::BYTES > 2 {
        change |= flags::AC | flags::ID | flags::RF | flags::VIF | flags::VIP;
    }
    if cpu.cpl <= cpu.iopl() {
        change |= flags::IF;
    }
    if cpu.cpl == 0 {
        change |= flags::IOPL;
    }
    cpu.release(T::BYTES);
    // RF, VIF and VIP are cleared.
    let bits = bits & !(flags::RF | flags::VIF | flags::VIP);
    let new = cpu.rflags() & !change | bits & change;
    cpu.set_rflags(new);
    Ok(Flow::Cut)
}

/// ENTER: size of the frame in `imm`, nesting level in bits 16–20.
pub(crate) fn enter<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let before = cpu.registers[4];
    match enter_frame::<T>(cpu, op) {
        Ok(()) => Ok(Flow::Next),
        Err(stop) => {
            cpu.registers[4] = before;
            Err(stop)
        }
    }
}

fn enter_frame<T: Int>(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let (size, level) = (op.imm & 0xffff, op.imm >> 16 & 31);
    let mask = cpu.stack_mask;
    cpu.push(T::reg(&cpu.registers, 5))?;
    let frame = cpu.registers[4];
    let mut base = cpu.registers[5];
    if level > 0 {
        for _ in 1..level {
            base = base.wrapping_sub(T::BYTES) & mask;
            let linear = cpu.segmented(seg::SS, base, T::BYTES, false)?;
            let value = cpu.load::<T>(linear, seg::SS)?;
            cpu.push(value)?;
        }
        cpu.push(T::cut(frame))?;
    }
    let top = cpu.registers[4].wrapping_sub(size) & mask;
    let linear = cpu.segmented(seg::SS, top, T::BYTES, true)?;
    cpu.probe(linear, 1, seg::SS, true)?;
    T::set_reg(&mut cpu.registers, 5, T::cut(frame));
    cpu.set_stack(top);
    Ok(())
}

/// LEAVE.
pub(crate) fn leave<T: Int>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let base = cpu.registers[5];
    let linear = cpu.segmented(seg::SS, base & cpu.stack_mask, T::BYTES, false)?;
    let value = cpu.load::<T>(linear, seg::SS)?;
    cpu.set_stack(base.wrapping_add(T::BYTES));
    T::set_reg(&mut cpu.registers, 5, value);
    Ok(Flow::Next)
}
