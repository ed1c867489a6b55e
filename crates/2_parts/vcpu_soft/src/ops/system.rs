//! System instructions: HLT, CPUID, time stamps, MSRs, translation cache, fast system calls, bases, interrupts' flag.

use crate::cpu::{Cpu, Shadow, attr, cr4, efer, seg};
use crate::flags;
use crate::int::Int;
use crate::memory::access::canonical;
use crate::op::{Flow, Op, Outcome, Stop};
use vcpu::state::{Activity, Segment};

/// HLT.
pub(crate) fn hlt(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.privileged()?;
    cpu.activity = Activity::Halted;
    Ok(Flow::Cut)
}

/// CPUID.
pub(crate) fn cpuid(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let (function, index) = (cpu.registers[0] as u32, cpu.registers[1] as u32);
    let [a, b, c, d] = cpu.cpuid_answer(function, index);
    for (number, value) in [(0, a), (3, b), (1, c), (2, d)] {
        cpu.registers[number] = u64::from(value);
    }
    Ok(Flow::Cut)
}

impl Cpu {
    fn check_tsc(&mut self) -> Result<(), Stop> {
        if self.cr4 & cr4::TSD != 0 && self.cpl != 0 {
            return self.protection(0);
        }
        Ok(())
    }

    fn set_edx_eax(&mut self, value: u64) {
        self.registers[0] = value & 0xffff_ffff;
        self.registers[2] = value >> 32;
    }

    fn edx_eax(&self) -> u64 {
        self.registers[0] & 0xffff_ffff | self.registers[2] << 32
    }
}

/// RDTSC.
pub(crate) fn rdtsc(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.check_tsc()?;
    let value = cpu.tsc();
    cpu.set_edx_eax(value);
    Ok(Flow::Next)
}

/// RDTSCP.
pub(crate) fn rdtscp(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.check_tsc()?;
    let value = cpu.tsc();
    cpu.set_edx_eax(value);
    cpu.registers[1] = cpu.msrs.tsc_aux & 0xffff_ffff;
    Ok(Flow::Next)
}

/// RDPMC: there are no counters.
pub(crate) fn rdpmc(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.protection(0)
}

/// RDMSR.
pub(crate) fn rdmsr(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.privileged()?;
    match cpu.read_msr(cpu.registers[1] as u32) {
        Some(value) => {
            cpu.set_edx_eax(value);
            Ok(Flow::Next)
        }
        None => cpu.protection(0),
    }
}

/// WRMSR.
pub(crate) fn wrmsr(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.privileged()?;
    let value = cpu.edx_eax();
    cpu.write_msr(cpu.registers[1] as u32, value)?;
    Ok(Flow::Cut)
}

/// INVLPG.
pub(crate) fn invlpg(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.privileged()?;
    let offset = cpu.offset(op);
    let linear = offset.wrapping_add(cpu.bases[op.seg as usize & 7]);
    let linear = if cpu.long { linear } else { linear & 0xffff_ffff };
    if canonical(linear) {
        cpu.tlb.flush_page(linear);
    }
    Ok(Flow::Cut)
}

/// INVPCID: type in the register `dst`, descriptor in memory.
pub(crate) fn invpcid(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.privileged()?;
    let linear = cpu.address(op, 16, false)?;
    let pcid = cpu.load::<u64>(linear, op.seg)?;
    let address = cpu.load::<u64>(linear.wrapping_add(8), op.seg)?;
    let kind = cpu.registers[op.dst as usize & 15] & if cpu.long { u64::MAX } else { 0xffff_ffff };
    let no_pcids = cpu.cr4 & cr4::PCIDE == 0;
    if kind > 3 || kind < 2 && (pcid >> 12 != 0 || no_pcids && pcid != 0) {
        return cpu.protection(0);
    }
    match kind {
        0 if !canonical(address) => return cpu.protection(0),
        0 => cpu.tlb.flush_page(address),
        1 => cpu.tlb.flush_context(pcid as u16),
        2 => cpu.tlb.flush(),
        _ => cpu.tlb.flush_local(),
    }
    Ok(Flow::Cut)
}

/// INVD, WBINVD: there are no caches to tell.
pub(crate) fn cache(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.privileged()?;
    Ok(Flow::Next)
}

/// CLFLUSH, CLFLUSHOPT: a read of one byte as far as faults go.
pub(crate) fn clflush(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, 1, false)?;
    cpu.load::<u8>(linear, op.seg)?;
    Ok(Flow::Next)
}

/// SWAPGS.
pub(crate) fn swapgs(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.privileged()?;
    let base = cpu.segments[seg::GS as usize].base;
    cpu.segments[seg::GS as usize].base = cpu.msrs.kernel_gs_base;
    cpu.bases[seg::GS as usize] = cpu.msrs.kernel_gs_base;
    cpu.msrs.kernel_gs_base = base;
    Ok(Flow::Next)
}

/// RDFSBASE, RDGSBASE: the segment is `seg`.
pub(crate) fn read_base<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.cr4 & cr4::FSGSBASE == 0 {
        return cpu.undefined();
    }
    let base = cpu.segments[op.seg as usize % 6].base;
    T::set_reg(&mut cpu.registers, op.dst, T::cut(base));
    Ok(Flow::Next)
}

/// WRFSBASE, WRGSBASE.
pub(crate) fn write_base<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.cr4 & cr4::FSGSBASE == 0 {
        return cpu.undefined();
    }
    let base = T::reg(&cpu.registers, op.src).wide();
    if !canonical(base) {
        return cpu.protection(0);
    }
    cpu.segments[op.seg as usize % 6].base = base;
    cpu.bases[op.seg as usize % 6] = base;
    Ok(Flow::Next)
}

/// CLI.
pub(crate) fn cli(cpu: &mut Cpu, _op: &Op) -> Outcome {
    if cpu.protected() && cpu.cpl > cpu.iopl() {
        return cpu.protection(0);
    }
    cpu.rflags &= !flags::IF;
    Ok(Flow::Next)
}

/// STI.
pub(crate) fn sti(cpu: &mut Cpu, _op: &Op) -> Outcome {
    if cpu.protected() && cpu.cpl > cpu.iopl() {
        return cpu.protection(0);
    }
    if cpu.rflags & flags::IF == 0 {
        cpu.shadow = Shadow::Sti;
        cpu.rflags |= flags::IF;
    }
    Ok(Flow::Cut)
}

/// CLAC (`imm` 0), STAC (`imm` 1).
pub(crate) fn access_control(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.cpl != 0 || !cpu.protected() {
        return cpu.undefined();
    }
    if op.imm != 0 {
        cpu.rflags |= flags::AC;
    } else {
        cpu.rflags &= !flags::AC;
    }
    cpu.refresh_access();
    Ok(Flow::Next)
}

/// RDRAND, RDSEED.
pub(crate) fn random<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let mut bytes = [0; 8];
    cpu.shared.config.random.fill(&mut bytes[..T::BYTES as usize]);
    T::set_reg(&mut cpu.registers, op.dst, T::cut(u64::from_le_bytes(bytes)));
    cpu.flags.set_bits(flags::CF);
    Ok(Flow::Next)
}

/// A flat segment of privilege level `level`.
fn flat(selector: u16, kind: u32, level: u8) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        attributes: kind | attr::S | attr::PRESENT | attr::GRANULAR | u32::from(level) << 5,
    }
}

/// Accessed, readable code.
const CODE: u32 = 11;
/// Accessed, writable data.
const DATA: u32 = 3;

impl Cpu {
    /// Flat code and stack segments of fast system calls.
    fn set_flat(&mut self, code: u16, stack: u16, level: u8, long: bool) {
        let size = if long { attr::LONG } else { attr::BIG };
        self.segments[seg::CS as usize] = flat(code, CODE | size, level);
        self.segments[seg::SS as usize] = flat(stack, DATA | attr::BIG, level);
        if long && self.long {
            // Only the privilege level changes.
            self.cpl = level;
            self.refresh_access();
        } else {
            self.refresh_segments();
        }
    }
}

/// SYSCALL: as Intel's, in 64-bit mode only.
pub(crate) fn syscall(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.efer & efer::SCE == 0 || !cpu.long {
        return cpu.undefined();
    }
    cpu.registers[1] = cpu.after(op);
    cpu.registers[11] = cpu.rflags() & !flags::RF;
    let selector = (cpu.msrs.star >> 32) as u16 & !3;
    cpu.rip = cpu.msrs.lstar;
    let bits = cpu.rflags() & !cpu.msrs.sfmask & !flags::RF;
    cpu.set_flat(selector, selector.wrapping_add(8), 0, true);
    cpu.set_rflags(bits);
    Ok(Flow::CutJump)
}

/// SYSRET.
pub(crate) fn sysret(cpu: &mut Cpu, op: &Op) -> Outcome {
    if cpu.efer & efer::SCE == 0 || !cpu.long {
        return cpu.undefined();
    }
    cpu.privileged()?;
    let long = op.form.operand() == 8;
    let target = cpu.registers[1];
    if long && !canonical(target) {
        return cpu.protection(0);
    }
    let base = (cpu.msrs.star >> 48) as u16;
    let code = if long { base.wrapping_add(16) } else { base } | 3;
    cpu.rip = if long { target } else { target & 0xffff_ffff };
    let bits = cpu.registers[11] & 0x3c_7fd7;
    cpu.set_flat(code, base.wrapping_add(8) | 3, 3, long);
    cpu.set_rflags(bits);
    Ok(Flow::CutJump)
}

/// SYSENTER.
pub(crate) fn sysenter(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let selector = cpu.msrs.sysenter_cs as u16 & !3;
    if !cpu.protected() || selector == 0 {
        return cpu.protection(0);
    }
    let long = cpu.lma();
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    cpu.rip = cpu.msrs.sysenter_eip & mask;
    cpu.registers[4] = cpu.msrs.sysenter_esp & mask;
    let bits = cpu.rflags() & !(flags::IF | flags::VM | flags::RF);
    cpu.set_flat(selector, selector.wrapping_add(8), 0, long);
    cpu.set_rflags(bits);
    Ok(Flow::CutJump)
}

/// SYSEXIT.
pub(crate) fn sysexit(cpu: &mut Cpu, op: &Op) -> Outcome {
    let selector = cpu.msrs.sysenter_cs as u16 & !3;
    if !cpu.protected() || selector == 0 || cpu.cpl != 0 {
        return cpu.protection(0);
    }
    let long = op.form.operand() == 8;
    let (rip, stack) = (cpu.registers[2], cpu.registers[1]);
    if long && !(canonical(rip) && canonical(stack)) {
        return cpu.protection(0);
    }
    let code = selector.wrapping_add(if long { 32 } else { 16 }) | 3;
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    cpu.rip = rip & mask;
    cpu.registers[4] = stack & mask;
    cpu.set_flat(code, code.wrapping_add(8), 3, long);
    Ok(Flow::CutJump)
}
