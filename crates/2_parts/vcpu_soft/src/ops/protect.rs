//! Segment registers and descriptor tables: MOV Sreg, LDS and its like, LGDT, LTR, LAR, LSL, VERR, ARPL and others.

use crate::cpu::{Cpu, cr4};
use crate::exception::vector;
use crate::int::Int;
use crate::op::{Flow, Op, Outcome, Stop};
use crate::segments::{Descriptor, kind};

/// Reads a 16-bit operand from a register or, with `form.extra` set, from memory.
fn word(cpu: &mut Cpu, op: &Op) -> Result<u16, Stop> {
    if op.form.extra != 0 {
        let linear = cpu.address(op, 2, false)?;
        cpu.load::<u16>(linear, op.seg)
    } else {
        Ok(cpu.registers[op.src as usize & 15] as u16)
    }
}

/// Writes to a register of operand size, or 16 bits to memory when `form.extra` is set.
fn set_word(cpu: &mut Cpu, op: &Op, value: u64) -> Outcome {
    if op.form.extra != 0 {
        let linear = cpu.address(op, 2, true)?;
        cpu.store(linear, op.seg, value as u16)?;
    } else {
        match op.form.operand() {
            2 => u16::set_reg(&mut cpu.registers, op.dst, value as u16),
            4 => u32::set_reg(&mut cpu.registers, op.dst, value as u32),
            _ => u64::set_reg(&mut cpu.registers, op.dst, value),
        }
    }
    Ok(Flow::Next)
}

/// MOV register or memory, segment register (`imm`).
pub(crate) fn from_segment(cpu: &mut Cpu, op: &Op) -> Outcome {
    let selector = cpu.segments[op.imm as usize % 6].selector;
    set_word(cpu, op, u64::from(selector))
}

/// MOV segment register (`imm`), register or memory.
pub(crate) fn to_segment(cpu: &mut Cpu, op: &Op) -> Outcome {
    let selector = word(cpu, op)?;
    cpu.load_segment(op.imm as u8, selector)?;
    Ok(cpu.after_segment(op.imm as u8))
}

/// LDS, LES, LFS, LGS, LSS: the segment is `imm`.
pub(crate) fn load_far<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES + 2, false)?;
    let offset = cpu.load::<T>(linear, op.seg)?;
    let selector = cpu.load::<u16>(linear.wrapping_add(T::BYTES), op.seg)?;
    cpu.load_segment(op.imm as u8, selector)?;
    T::set_reg(&mut cpu.registers, op.dst, offset);
    Ok(cpu.after_segment(op.imm as u8))
}

impl Cpu {
    /// #GP where UMIP keeps system tables from users.
    fn user_mode_prevention(&mut self) -> Result<(), Stop> {
        if self.cr4 & cr4::UMIP != 0 && self.cpl != 0 {
            return self.protection(0);
        }
        Ok(())
    }

    /// #UD outside of protected mode.
    fn only_protected(&mut self) -> Result<(), Stop> {
        if self.protected() {
            Ok(())
        } else {
            self.undefined()
        }
    }
}

/// LGDT (`imm` 0), LIDT (`imm` 1).
pub(crate) fn load_table(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.privileged()?;
    let wide = if cpu.long { 10 } else { 6 };
    let linear = cpu.address(op, wide, false)?;
    let limit = cpu.load::<u16>(linear, op.seg)?;
    let at = linear.wrapping_add(2);
    let base = if cpu.long {
        cpu.load::<u64>(at, op.seg)?
    } else {
        let base = u64::from(cpu.load::<u32>(at, op.seg)?);
        if op.form.operand() == 2 {
            base & 0xff_ffff
        } else {
            base
        }
    };
    if cpu.long && !crate::memory::access::canonical(base) {
        return cpu.protection(0);
    }
    let table = vcpu::state::Table { base, limit };
    if op.imm == 0 {
        cpu.gdt = table;
    } else {
        cpu.idt = table;
    }
    Ok(Flow::Next)
}

/// SGDT (`imm` 0), SIDT (`imm` 1).
pub(crate) fn store_table(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.user_mode_prevention()?;
    let table = if op.imm == 0 { cpu.gdt } else { cpu.idt };
    let len = if cpu.long { 10 } else { 6 };
    let linear = cpu.address(op, len, true)?;
    cpu.probe(linear, len, op.seg, true)?;
    cpu.store(linear, op.seg, table.limit)?;
    let at = linear.wrapping_add(2);
    if cpu.long {
        cpu.store(at, op.seg, table.base)?;
    } else {
        cpu.store(at, op.seg, table.base as u32)?;
    }
    Ok(Flow::Next)
}

/// LLDT.
pub(crate) fn lldt(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.only_protected()?;
    cpu.privileged()?;
    let selector = word(cpu, op)?;
    cpu.load_ldt(selector)?;
    Ok(Flow::Next)
}

/// LTR.
pub(crate) fn ltr(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.only_protected()?;
    cpu.privileged()?;
    let selector = word(cpu, op)?;
    cpu.load_task(selector)?;
    Ok(Flow::Next)
}

/// SLDT (`imm` 0), STR (`imm` 1).
pub(crate) fn store_selector(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.only_protected()?;
    cpu.user_mode_prevention()?;
    let selector = if op.imm == 0 {
        cpu.ldt.selector
    } else {
        cpu.task.selector
    };
    set_word(cpu, op, u64::from(selector))
}

/// SMSW.
pub(crate) fn smsw(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.user_mode_prevention()?;
    let value = cpu.cr0;
    set_word(cpu, op, value)
}

fn set_zero(cpu: &mut Cpu, zero: bool) {
    let bits = cpu.flags.bits() & !crate::flags::ZF;
    cpu.flags.set_bits(bits | if zero { crate::flags::ZF } else { 0 });
}

/// The descriptor that LAR, LSL, VERR and VERW look at; `None` when it is out of reach.
fn look(cpu: &mut Cpu, selector: u16) -> Result<Option<Descriptor>, Stop> {
    if selector & !3 == 0 {
        return Ok(None);
    }
    // A selector outside of its table is no fault here; a page fault is one.
    match cpu.descriptor(selector, vector::PROTECTION) {
        Ok(found) => Ok(Some(found)),
        Err(Stop) if cpu.exception.vector == vector::PROTECTION => Ok(None),
        Err(stop) => Err(stop),
    }
}

fn reachable(cpu: &Cpu, found: &Descriptor) -> bool {
    let rpl = (found.selector & 3) as u8;
    found.code() && found.conforming() || cpu.cpl <= found.dpl() && rpl <= found.dpl()
}

/// LAR (`imm` 0), LSL (`imm` 1).
pub(crate) fn access_rights<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.only_protected()?;
    let selector = word(cpu, op)?;
    let long = cpu.lma();
    let value = look(cpu, selector)?
        .filter(|found| reachable(cpu, found))
        .and_then(|found| {
            let known = !found.system()
                || match found.kind() {
                    kind::LDT | kind::TSS | kind::TSS_BUSY => true,
                    kind::TSS_16 | kind::TSS_16_BUSY => !long,
                    kind::CALL_GATE => op.imm == 0,
                    kind::CALL_GATE_16 | kind::TASK_GATE => op.imm == 0 && !long,
                    _ => false,
                };
            let value = if op.imm == 0 {
                found.raw >> 32 & 0xff_ff00
            } else {
                u64::from(found.limit())
            };
            known.then_some(value)
        });
    set_zero(cpu, value.is_some());
    if let Some(value) = value {
        T::set_reg(&mut cpu.registers, op.dst, T::cut(value));
    }
    Ok(Flow::Next)
}

/// VERR (`imm` 0), VERW (`imm` 1).
pub(crate) fn verify(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.only_protected()?;
    let selector = word(cpu, op)?;
    let fits = look(cpu, selector)?.is_some_and(|found| {
        !found.system()
            && reachable(cpu, &found)
            && if op.imm == 0 {
                !found.code() || found.rw()
            } else {
                !found.code() && found.rw()
            }
    });
    set_zero(cpu, fits);
    Ok(Flow::Next)
}

/// ARPL: destination `dst` or memory, source `src`.
pub(crate) fn arpl(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.only_protected()?;
    let wanted = cpu.registers[op.src as usize & 15] as u16 & 3;
    let adjust = |value: u16| {
        if value & 3 < wanted {
            value & !3 | wanted
        } else {
            value
        }
    };
    let raised = if op.form.extra != 0 {
        let linear = cpu.address(op, 2, true)?;
        let mut raised = false;
        cpu.modify::<u16>(linear, op.seg, |_, value| {
            raised = adjust(value) != value;
            adjust(value)
        })?;
        raised
    } else {
        let value = cpu.registers[op.dst as usize & 15] as u16;
        u16::set_reg(&mut cpu.registers, op.dst, adjust(value));
        adjust(value) != value
    };
    set_zero(cpu, raised);
    Ok(Flow::Next)
}
