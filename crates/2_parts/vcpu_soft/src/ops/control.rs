//! Control and debug registers.

use crate::cpu::{Cpu, cr0, cr4, efer, seg};
use crate::exception::vector;
use crate::memory::walk::PHYSICAL_BITS;
use crate::op::{Flow, Op, Outcome, Stop};

/// Bits of CR4 that this processor has.
pub(crate) const CR4_KNOWN: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::PCIDE
    | cr4::OSXSAVE
    | cr4::SMEP
    | cr4::SMAP;

const CR0_KNOWN: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

/// DR7: bits that are always 1, and those that can be set.
const DR7_ONES: u64 = 0x400;
const DR7_KNOWN: u64 = 0xffff_2bff;
/// DR6: bits that are always 1, and those that can be changed.
const DR6_ONES: u64 = 0xffff_0ff0;
const DR6_KNOWN: u64 = 0xe00f;

impl Cpu {
    /// #GP unless at privilege level 0.
    #[inline]
    pub(crate) fn privileged(&mut self) -> Result<(), Stop> {
        if self.cpl == 0 { Ok(()) } else { self.protection(0) }
    }

    /// Writes CR0 (SDM Vol. 3 §2.5).
    pub(crate) fn set_cr0(&mut self, value: u64) -> Result<(), Stop> {
        if value >> 32 != 0 {
            return self.protection(0);
        }
        let value = value & CR0_KNOWN | cr0::ET;
        let paging = value & cr0::PG != 0;
        let bad = paging && value & cr0::PE == 0
            || value & cr0::NW != 0 && value & cr0::CD == 0
            || !paging && self.cr4 & cr4::PCIDE != 0;
        if bad {
            return self.protection(0);
        }
        let was = self.cr0;
        if paging && was & cr0::PG == 0 {
            if self.efer & efer::LME != 0 {
                let long_code = self.segments[seg::CS as usize].attributes & crate::cpu::attr::LONG != 0;
                if self.cr4 & cr4::PAE == 0 || long_code {
                    return self.protection(0);
                }
                self.efer |= efer::LMA;
            }
        } else if !paging && was & cr0::PG != 0 && self.efer & efer::LMA != 0 {
            if self.long {
                return self.protection(0);
            }
            self.efer &= !efer::LMA;
        }
        self.cr0 = value;
        if (was ^ value) & (cr0::PG | cr0::WP | cr0::PE) != 0 {
            self.tlb.flush();
        }
        self.refresh();
        Ok(())
    }

    /// Writes CR3.
    pub(crate) fn set_cr3(&mut self, value: u64) -> Result<(), Stop> {
        let with_pcid = self.cr4 & cr4::PCIDE != 0;
        let keep = with_pcid && value >> 63 != 0;
        let value = if with_pcid { value & !(1 << 63) } else { value };
        if value >> PHYSICAL_BITS != 0 {
            return self.protection(0);
        }
        self.cr3 = value;
        let pcid = if with_pcid { value as u16 & 0xfff } else { 0 };
        self.tlb.switch(pcid, !keep);
        Ok(())
    }

    /// Writes CR4.
    pub(crate) fn set_cr4(&mut self, value: u64) -> Result<(), Stop> {
        let (was, lma) = (self.cr4, self.lma());
        let bad = value & !CR4_KNOWN != 0
            || lma && value & cr4::PAE == 0
            || value & !was & cr4::PCIDE != 0 && (!lma || self.cr3 & 0xfff != 0);
        if bad {
            return self.protection(0);
        }
        self.cr4 = value;
        if was ^ value != 0 {
            if (was ^ value) & cr4::PCIDE != 0 {
                let pcid = if value & cr4::PCIDE != 0 {
                    self.cr3 as u16 & 0xfff
                } else {
                    0
                };
                self.tlb.switch(pcid, true);
            }
            let walks = cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP;
            if (was ^ value) & walks != 0 {
                self.tlb.flush();
            }
        }
        self.refresh();
        Ok(())
    }

    /// Writes EFER.
    pub(crate) fn set_efer(&mut self, value: u64) -> Result<(), Stop> {
        let known = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        let change_mode = (value ^ self.efer) & efer::LME != 0;
        if value & !known != 0 || change_mode && self.cr0 & cr0::PG != 0 {
            return self.protection(0);
        }
        let was = self.efer;
        self.efer = value & !efer::LMA | was & efer::LMA;
        if (was ^ self.efer) & efer::NXE != 0 {
            self.tlb.flush();
        }
        self.refresh();
        Ok(())
    }

    /// Derives what DR7 switches on.
    pub(crate) fn refresh_debug(&mut self) {
        let kinds = |kind: fn(u64) -> bool| {
            (0..4).any(|n| self.debug[5] >> (2 * n) & 3 != 0 && kind(self.debug[5] >> (16 + 4 * n) & 3))
        };
        let data = kinds(|kind| kind == 1 || kind == 3);
        let code = kinds(|kind| kind == 0);
        self.watching = data;
        self.breakpoints = code;
        self.tlb.flush();
    }

    /// The number of the debug register that is meant: DR4 and DR5 are others' names, or none.
    fn debug_register(&mut self, number: u8) -> Result<usize, Stop> {
        match number {
            4 | 5 if self.cr4 & cr4::DE != 0 => self.undefined(),
            4 => Ok(4),
            5 => Ok(5),
            6 => Ok(4),
            7 => Ok(5),
            n => Ok(usize::from(n)),
        }
    }

    fn debug_access(&mut self) -> Result<(), Stop> {
        self.privileged()?;
        if self.debug[5] & 1 << 13 != 0 {
            self.debug[4] |= 1 << 13;
            return self.raise(vector::DEBUG, None);
        }
        Ok(())
    }
}

/// MOV register, CRn (`imm`).
pub(crate) fn from_cr(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.privileged()?;
    let value = match op.imm {
        0 => cpu.cr0,
        2 => cpu.cr2,
        3 => cpu.cr3,
        4 => cpu.cr4,
        8 => cpu.apic.cr8(),
        _ => return cpu.undefined(),
    };
    let mask = if cpu.long { u64::MAX } else { 0xffff_ffff };
    cpu.registers[op.dst as usize & 15] = value & mask;
    Ok(Flow::Next)
}

/// MOV CRn (`imm`), register.
pub(crate) fn to_cr(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.privileged()?;
    let mask = if cpu.long { u64::MAX } else { 0xffff_ffff };
    let value = cpu.registers[op.src as usize & 15] & mask;
    match op.imm {
        0 => cpu.set_cr0(value)?,
        2 => cpu.cr2 = value,
        3 => cpu.set_cr3(value)?,
        4 => cpu.set_cr4(value)?,
        8 if value > 15 => return cpu.protection(0),
        8 => cpu.set_cr8(value),
        _ => return cpu.undefined(),
    }
    Ok(Flow::Cut)
}

/// MOV register, DRn (`imm`).
pub(crate) fn from_dr(cpu: &mut Cpu, op: &Op) -> Outcome {
    let number = cpu.debug_register(op.imm as u8)?;
    cpu.debug_access()?;
    let mask = if cpu.long { u64::MAX } else { 0xffff_ffff };
    cpu.registers[op.dst as usize & 15] = cpu.debug[number] & mask;
    Ok(Flow::Next)
}

/// MOV DRn (`imm`), register.
pub(crate) fn to_dr(cpu: &mut Cpu, op: &Op) -> Outcome {
    let number = cpu.debug_register(op.imm as u8)?;
    cpu.debug_access()?;
    let mask = if cpu.long { u64::MAX } else { 0xffff_ffff };
    let value = cpu.registers[op.src as usize & 15] & mask;
    if number >= 4 && value >> 32 != 0 {
        return cpu.protection(0);
    }
    cpu.debug[number] = match number {
        4 => value & DR6_KNOWN | DR6_ONES,
        5 => value & DR7_KNOWN | DR7_ONES,
        _ => value,
    };
    cpu.refresh_debug();
    Ok(Flow::Cut)
}

/// CLTS.
pub(crate) fn clts(cpu: &mut Cpu, _op: &Op) -> Outcome {
    cpu.privileged()?;
    cpu.cr0 &= !cr0::TS;
    Ok(Flow::Next)
}

/// LMSW: the operand is a register (`form.extra` 0) or memory.
pub(crate) fn lmsw(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.privileged()?;
    let value = if op.form.extra != 0 {
        let linear = cpu.address(op, 2, false)?;
        u64::from(cpu.load::<u16>(linear, op.seg)?)
    } else {
        cpu.registers[op.src as usize & 15]
    };
    // PE can be set but not cleared.
    let new = cpu.cr0 & !0xe | value & 0xf | cpu.cr0 & cr0::PE;
    cpu.set_cr0(new)?;
    Ok(Flow::Cut)
}

/// XGETBV.
pub(crate) fn xgetbv(cpu: &mut Cpu, _op: &Op) -> Outcome {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return cpu.undefined();
    }
    if cpu.registers[1] as u32 != 0 {
        return cpu.protection(0);
    }
    cpu.registers[0] = cpu.xcr0 & 0xffff_ffff;
    cpu.registers[2] = cpu.xcr0 >> 32;
    Ok(Flow::Next)
}

/// XSETBV.
pub(crate) fn xsetbv(cpu: &mut Cpu, _op: &Op) -> Outcome {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return cpu.undefined();
    }
    cpu.privileged()?;
    let value = cpu.registers[0] & 0xffff_ffff | cpu.registers[2] << 32;
    if cpu.registers[1] as u32 != 0 || value & 1 == 0 || value & !crate::cpuid::XCR0 != 0 {
        return cpu.protection(0);
    }
    cpu.xcr0 = value;
    Ok(Flow::Cut)
}
