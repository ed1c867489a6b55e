//! Near jumps, calls, returns, loops; far transfers; software interrupts; fast system calls' neighbours.

use crate::cpu::Cpu;
use crate::deliver::{Event, Source};
use crate::exception::vector;
use crate::int::Int;
use crate::memory::access::canonical;
use crate::op::{BLOCK, Flow, Op, Outcome, Stop};
use crate::transfer::Far;

impl Cpu {
    /// The target of a relative branch of operand size `T`, checked.
    #[inline(always)]
    fn target<T: Int>(&mut self, op: &Op) -> Result<u64, Stop> {
        let target = self.registers[BLOCK as usize].wrapping_add(op.imm);
        self.checked_target::<T>(target)
    }

    /// A near target, checked against the code segment.
    #[inline(always)]
    fn checked_target<T: Int>(&mut self, target: u64) -> Result<u64, Stop> {
        if self.long {
            if !canonical(target) {
                return self.protection(0);
            }
            return Ok(target);
        }
        let target = T::cut(target).wide() & 0xffff_ffff;
        if target > u64::from(self.code_segment.1) {
            return self.protection(0);
        }
        Ok(target)
    }
}

/// Jcc; the condition is `src`.
pub(crate) fn jcc<T: Int, const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.flags.condition(CONDITION) {
        cpu.rip = cpu.target::<T>(op)?;
        Ok(Flow::Taken)
    } else {
        cpu.rip = cpu.after(op);
        Ok(Flow::Fall)
    }
}

/// JMP relative.
pub(crate) fn jmp<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.rip = cpu.target::<T>(op)?;
    Ok(Flow::Taken)
}

/// JMP register.
pub(crate) fn jmp_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let target = T::reg(&cpu.registers, op.src).wide();
    cpu.rip = cpu.checked_target::<T>(target)?;
    Ok(Flow::Jump)
}

/// JMP memory.
pub(crate) fn jmp_m<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let target = cpu.load::<T>(linear, op.seg)?.wide();
    cpu.rip = cpu.checked_target::<T>(target)?;
    Ok(Flow::Jump)
}

/// CALL relative.
pub(crate) fn call<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let target = cpu.target::<T>(op)?;
    let next = cpu.after(op);
    cpu.push(T::cut(next))?;
    cpu.rip = target;
    Ok(Flow::Taken)
}

/// CALL register.
pub(crate) fn call_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let target = T::reg(&cpu.registers, op.src).wide();
    let target = cpu.checked_target::<T>(target)?;
    let next = cpu.after(op);
    cpu.push(T::cut(next))?;
    cpu.rip = target;
    Ok(Flow::Jump)
}

/// CALL memory.
pub(crate) fn call_m<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let target = cpu.load::<T>(linear, op.seg)?.wide();
    let target = cpu.checked_target::<T>(target)?;
    let next = cpu.after(op);
    cpu.push(T::cut(next))?;
    cpu.rip = target;
    Ok(Flow::Jump)
}

/// RET, releasing `imm` bytes of parameters.
pub(crate) fn ret<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let target = cpu.peek::<T>(0)?.wide();
    cpu.rip = cpu.checked_target::<T>(target)?;
    cpu.release(T::BYTES.wrapping_add(op.imm));
    Ok(Flow::Jump)
}

/// LOOP (`src` 0), LOOPE (1), LOOPNE (2), JCXZ (3); the counter has the address size.
pub(crate) fn counted<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let mask = op.form.address_mask();
    let count = cpu.registers[1];
    let left = if op.src == 3 { count } else { count.wrapping_sub(1) } & mask;
    let taken = match op.src {
        0 => left != 0,
        1 => left != 0 && cpu.flags.zf(),
        2 => left != 0 && !cpu.flags.zf(),
        _ => left == 0,
    };
    let target = if taken {
        cpu.target::<T>(op)?
    } else {
        cpu.after(op)
    };
    if op.src != 3 {
        cpu.set_counter(mask, left);
    }
    cpu.rip = target;
    Ok(if taken { Flow::Taken } else { Flow::Fall })
}

impl Cpu {
    /// Writes RCX, ECX or CX.
    #[inline(always)]
    pub(crate) fn set_counter(&mut self, mask: u64, value: u64) {
        self.set_sized(1, mask, value);
    }

    /// Writes a register with as many bits as an address mask has.
    #[inline(always)]
    pub(crate) fn set_sized(&mut self, number: usize, mask: u64, value: u64) {
        self.registers[number] = if mask == 0xffff {
            self.registers[number] & !0xffff | value & 0xffff
        } else {
            value & mask
        };
    }

    /// The instruction pointer after the present instruction, noted by those that leave the block in the middle.
    pub(crate) fn next_rip(&self) -> u64 {
        self.next
    }
}

/// JMP far, immediate: selector in the upper half of `disp`, offset in `imm`.
pub(crate) fn far_i<const CALL: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.next = cpu.after(op);
    let how = how::<CALL>(cpu, op);
    cpu.far(op.disp as u16, op.imm, how)?;
    Ok(Flow::CutJump)
}

fn how<const CALL: bool>(cpu: &Cpu, op: &Op) -> Far {
    if CALL {
        Far::Call {
            size: op.form.operand(),
            next: cpu.after(op),
        }
    } else {
        Far::Jump
    }
}

/// JMP or CALL far through memory.
pub(crate) fn far_m<T: Int, const CALL: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.next = cpu.after(op);
    let linear = cpu.address(op, T::BYTES + 2, false)?;
    let offset = cpu.load::<T>(linear, op.seg)?.wide();
    let selector = cpu.load::<u16>(linear.wrapping_add(T::BYTES), op.seg)?;
    let how = how::<CALL>(cpu, op);
    cpu.far(selector, offset, how)?;
    Ok(Flow::CutJump)
}

/// RET far.
pub(crate) fn far_ret(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.far_return(op.form.operand(), op.imm)?;
    Ok(Flow::CutJump)
}

/// IRET, IRETD, IRETQ.
pub(crate) fn iret(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.next = cpu.after(op);
    cpu.interrupt_return(op.form.operand())?;
    cpu.nmi_masked = false;
    Ok(Flow::CutJump)
}

/// INT n, INT3.
pub(crate) fn int(cpu: &mut Cpu, op: &Op) -> Outcome {
    software(cpu, op, op.imm as u8, Source::Software)
}

fn software(cpu: &mut Cpu, op: &Op, number: u8, source: Source) -> Outcome {
    cpu.next = cpu.after(op);
    let event = Event {
        vector: number,
        source,
        error: None,
    };
    let next = cpu.after(op);
    cpu.deliver(event, next)?;
    Ok(Flow::CutJump)
}

/// INTO.
pub(crate) fn into(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.flags.of() {
        return software(cpu, op, vector::OVERFLOW, Source::Software);
    }
    Ok(Flow::Next)
}

/// INT1: a debug exception without cause in DR6.
pub(crate) fn int1(cpu: &mut Cpu, op: &Op) -> Outcome {
    software(cpu, op, vector::DEBUG, Source::Exception)
}

/// UD0, UD1, UD2, and everything that is no instruction here.
pub(crate) fn undefined(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.undefined()
}

/// BOUND.
pub(crate) fn bound<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, 2 * T::BYTES, false)?;
    let low = cpu.load::<T>(linear, op.seg)?.signed() as i64;
    let high = cpu.load::<T>(linear.wrapping_add(T::BYTES), op.seg)?.signed() as i64;
    let index = T::reg(&cpu.registers, op.dst).signed() as i64;
    if index < low || index > high {
        return cpu.raise(vector::BOUND, None);
    }
    Ok(Flow::Next)
}

/// An instruction of more than 15 bytes.
pub(crate) fn too_long(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.protection(0)
}
