//! MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS and their repetitions.
//!
//! A repeated instruction counts as one; it may be left after any iteration with its registers up to date, by a fault or to look at
//! requests after a number of iterations.

use crate::cpu::{Cpu, seg};
use crate::flags;
use crate::int::Int;
use crate::op::{Flow, Op, Outcome, REPE, REPNE, Stop};

/// Rounds (pages, or single elements) after which a repetition lets requests be looked at.
const ROUNDS: u32 = 1024;

/// The moving parts of a string instruction.
struct Walk {
    mask: u64,
    step: u64,
    forward: bool,
}

impl Walk {
    fn new<T: Int>(cpu: &Cpu, op: &Op) -> Walk {
        let forward = cpu.rflags & flags::DF == 0;
        Walk {
            mask: op.form.address_mask(),
            step: if forward {
                T::BYTES
            } else {
                T::BYTES.wrapping_neg()
            },
            forward,
        }
    }

    fn advance(&self, cpu: &mut Cpu, number: usize, steps: u64) {
        let value = cpu.registers[number].wrapping_add(self.step.wrapping_mul(steps));
        cpu.set_sized(number, self.mask, value);
    }
}

fn source<T: Int>(cpu: &mut Cpu, op: &Op, walk: &Walk) -> Result<u64, Stop> {
    cpu.segmented(op.seg, cpu.registers[6] & walk.mask, T::BYTES, false)
}

fn target<T: Int>(cpu: &mut Cpu, walk: &Walk, write: bool) -> Result<u64, Stop> {
    cpu.segmented(seg::ES, cpu.registers[7] & walk.mask, T::BYTES, write)
}

/// Repeats a body as the prefix says. The body does up to `count` iterations and tells how many, and whether to go on.
#[inline(always)]
fn repeat(
    cpu: &mut Cpu,
    op: &Op,
    mut body: impl FnMut(&mut Cpu, u64) -> Result<(u64, bool), Stop>,
) -> Outcome {
    if op.form.extra & (REPE | REPNE) == 0 {
        body(cpu, 1)?;
        return Ok(Flow::Next);
    }
    let mask = op.form.address_mask();
    let stepping = cpu.rflags & flags::TF != 0;
    for _ in 0..ROUNDS {
        let count = cpu.registers[1] & mask;
        if count == 0 {
            return Ok(Flow::Next);
        }
        let (done, more) = body(cpu, if stepping { 1 } else { count })?;
        cpu.set_counter(mask, count - done);
        if !more || count == done {
            return Ok(Flow::Next);
        }
        if stepping {
            cpu.debug_pending |= crate::run::STEP;
            break;
        }
        if cpu.cut {
            break;
        }
    }
    cpu.again()
}

/// How many elements may go in one run without leaving their segments; 1 when it is not clear.
fn room(cpu: &Cpu, seg: u8, offset: u64, write: bool, mask: u64) -> u64 {
    let limits = &cpu.limits[seg as usize & 7];
    let end = if cpu.long {
        u64::MAX
    } else if write {
        limits.write
    } else {
        limits.read
    };
    end.saturating_sub(offset).min(mask - offset)
}

/// MOVS.
pub(crate) fn movs<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let walk = Walk::new::<T>(cpu, op);
    repeat(cpu, op, |cpu, count| {
        let from = source::<T>(cpu, op, &walk)?;
        let to = target::<T>(cpu, &walk, true)?;
        if count > 1 && walk.forward {
            let most = room(cpu, op.seg, cpu.registers[6] & walk.mask, false, walk.mask)
                .min(room(cpu, seg::ES, cpu.registers[7] & walk.mask, true, walk.mask))
                .min(count.saturating_mul(T::BYTES));
            let done = cpu.copy_run::<T>(from, to, most) / T::BYTES;
            if done > 0 {
                walk.advance(cpu, 6, done);
                walk.advance(cpu, 7, done);
                return Ok((done, true));
            }
        }
        let value = cpu.load::<T>(from, op.seg)?;
        cpu.store(to, seg::ES, value)?;
        walk.advance(cpu, 6, 1);
        walk.advance(cpu, 7, 1);
        Ok((1, true))
    })
}

/// STOS.
pub(crate) fn stos<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let walk = Walk::new::<T>(cpu, op);
    let value = T::reg(&cpu.registers, 0);
    repeat(cpu, op, |cpu, count| {
        let to = target::<T>(cpu, &walk, true)?;
        if count > 1 && walk.forward {
            let most = room(cpu, seg::ES, cpu.registers[7] & walk.mask, true, walk.mask)
                .min(count.saturating_mul(T::BYTES));
            let done = cpu.fill_run(to, value, most) / T::BYTES;
            if done > 0 {
                walk.advance(cpu, 7, done);
                return Ok((done, true));
            }
        }
        cpu.store(to, seg::ES, value)?;
        walk.advance(cpu, 7, 1);
        Ok((1, true))
    })
}

/// LODS.
pub(crate) fn lods<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let walk = Walk::new::<T>(cpu, op);
    repeat(cpu, op, |cpu, _| {
        let from = source::<T>(cpu, op, &walk)?;
        let value = cpu.load::<T>(from, op.seg)?;
        T::set_reg(&mut cpu.registers, 0, value);
        walk.advance(cpu, 6, 1);
        Ok((1, true))
    })
}

/// Whether a repetition of a comparison goes on.
fn goes_on(cpu: &Cpu, op: &Op) -> bool {
    match op.form.extra & (REPE | REPNE) {
        REPE => cpu.flags.zf(),
        REPNE => !cpu.flags.zf(),
        _ => false,
    }
}

/// CMPS.
pub(crate) fn cmps<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let walk = Walk::new::<T>(cpu, op);
    repeat(cpu, op, |cpu, _| {
        let from = source::<T>(cpu, op, &walk)?;
        let to = target::<T>(cpu, &walk, false)?;
        let a = cpu.load::<T>(from, op.seg)?;
        let b = cpu.load::<T>(to, seg::ES)?;
        cpu.flags
            .difference(a, b, T::cut(a.wide().wrapping_sub(b.wide())));
        walk.advance(cpu, 6, 1);
        walk.advance(cpu, 7, 1);
        Ok((1, goes_on(cpu, op)))
    })
}

/// SCAS.
pub(crate) fn scas<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let walk = Walk::new::<T>(cpu, op);
    let a = T::reg(&cpu.registers, 0);
    repeat(cpu, op, |cpu, _| {
        let to = target::<T>(cpu, &walk, false)?;
        let b = cpu.load::<T>(to, seg::ES)?;
        cpu.flags
            .difference(a, b, T::cut(a.wide().wrapping_sub(b.wide())));
        walk.advance(cpu, 7, 1);
        Ok((1, goes_on(cpu, op)))
    })
}

/// INS.
pub(crate) fn ins<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let port = cpu.registers[2] as u16;
    cpu.check_port(port, T::BYTES)?;
    let walk = Walk::new::<T>(cpu, op);
    let flow = repeat(cpu, op, |cpu, _| {
        let to = target::<T>(cpu, &walk, true)?;
        // The page must be there before the device is asked: its answer cannot be given back.
        cpu.probe(to, T::BYTES, seg::ES, true)?;
        let value = cpu.port_in(port, T::BYTES);
        cpu.cut = false;
        cpu.store(to, seg::ES, T::cut(value))?;
        walk.advance(cpu, 7, 1);
        Ok((1, true))
    })?;
    cpu.cut = true;
    Ok(flow)
}

/// OUTS.
pub(crate) fn outs<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let port = cpu.registers[2] as u16;
    cpu.check_port(port, T::BYTES)?;
    let walk = Walk::new::<T>(cpu, op);
    let flow = repeat(cpu, op, |cpu, _| {
        let from = source::<T>(cpu, op, &walk)?;
        let value = cpu.load::<T>(from, op.seg)?.wide();
        cpu.port_out(port, T::BYTES, value);
        cpu.cut = false;
        walk.advance(cpu, 6, 1);
        Ok((1, true))
    })?;
    cpu.cut = true;
    Ok(flow)
}
