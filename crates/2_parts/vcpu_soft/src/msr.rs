//! Model-specific registers (SDM Vol. 4; Documentation/virt/kvm/x86/msr.rst for those of kvm-clock).

use vcpu::state::{MSRS, msr};

use crate::cpu::{Cpu, seg};
use crate::memory::access::canonical;
use crate::op::Stop;

/// Registers that are nothing but storage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Msrs {
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) tsc_aux: u64,
    pub(crate) tsc_adjust: u64,
    pub(crate) sysenter_cs: u64,
    pub(crate) sysenter_esp: u64,
    pub(crate) sysenter_eip: u64,
    pub(crate) pat: u64,
    pub(crate) mtrr_default: u64,
    pub(crate) misc_enable: u64,
    pub(crate) wall_clock: u64,
    pub(crate) system_time: u64,
    pub(crate) pv_eoi: u64,
}

/// Numbers that are not in saved states.
mod number {
    pub(super) const PLATFORM_ID: u32 = 0x17;
    pub(super) const FEATURE_CONTROL: u32 = 0x3a;
    pub(super) const SPEC_CTRL: u32 = 0x48;
    pub(super) const PRED_CMD: u32 = 0x49;
    pub(super) const MICROCODE_UPDATE: u32 = 0x79;
    pub(super) const MICROCODE: u32 = 0x8b;
    pub(super) const ARCH_CAPABILITIES: u32 = 0x10a;
    pub(super) const X2APIC: std::ops::RangeInclusive<u32> = 0x800..=0x8ff;
}

/// IA32_ARCH_CAPABILITIES: this processor executes nothing that does not retire, so all of these are true. RDCL_NO, IBRS_ALL,
/// SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO,
/// and ITS_NO (bit 62).
pub(crate) const CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;

/// MTRRs: write-combining is known, no ranges.
const MTRR_CAPABILITIES: u64 = 1 << 10;

impl Cpu {
    /// Reads a register; `None` when there is none of this number.
    pub(crate) fn read_msr(&mut self, register: u32) -> Option<u64> {
        let msrs = &self.msrs;
        Some(match register {
            msr::TSC => self.tsc(),
            msr::APIC_BASE => self.apic.base,
            msr::TSC_ADJUST => msrs.tsc_adjust,
            msr::MTRR_CAP => MTRR_CAPABILITIES,
            msr::SYSENTER_CS => msrs.sysenter_cs,
            msr::SYSENTER_ESP => msrs.sysenter_esp,
            msr::SYSENTER_EIP => msrs.sysenter_eip,
            msr::MISC_ENABLE => msrs.misc_enable,
            msr::PAT => msrs.pat,
            msr::MTRR_DEF_TYPE => msrs.mtrr_default,
            msr::TSC_DEADLINE => self.tsc_deadline(),
            msr::KVM_WALL_CLOCK => msrs.wall_clock,
            msr::KVM_SYSTEM_TIME => msrs.system_time,
            msr::KVM_PV_EOI => msrs.pv_eoi,
            msr::EFER => self.efer,
            msr::STAR => msrs.star,
            msr::LSTAR => msrs.lstar,
            msr::CSTAR => msrs.cstar,
            msr::SFMASK => msrs.sfmask,
            msr::FS_BASE => self.segments[seg::FS as usize].base,
            msr::GS_BASE => self.segments[seg::GS as usize].base,
            msr::KERNEL_GS_BASE => msrs.kernel_gs_base,
            msr::TSC_AUX => msrs.tsc_aux,
            number::PLATFORM_ID | number::SPEC_CTRL => 0,
            number::FEATURE_CONTROL => 1,
            number::MICROCODE => 1 << 32,
            number::ARCH_CAPABILITIES => CAPABILITIES,
            register if number::X2APIC.contains(&register) => return self.x2apic_read(register),
            _ => return None,
        })
    }

    /// Writes a register.
    pub(crate) fn write_msr(&mut self, register: u32, value: u64) -> Result<(), Stop> {
        let address = matches!(
            register,
            msr::LSTAR
                | msr::CSTAR
                | msr::FS_BASE
                | msr::GS_BASE
                | msr::KERNEL_GS_BASE
                | msr::SYSENTER_ESP
                | msr::SYSENTER_EIP
        );
        if address && !canonical(value) {
            return self.protection(0);
        }
        match register {
            msr::TSC => self.set_tsc(value),
            msr::APIC_BASE => self.set_apic_base(value)?,
            msr::TSC_ADJUST => {
                let difference = value.wrapping_sub(self.msrs.tsc_adjust);
                self.time.tsc_shift = self.time.tsc_shift.wrapping_add(difference);
                self.msrs.tsc_adjust = value;
            }
            msr::PAT => {
                let legal = |byte: &u8| matches!(byte, 0 | 1 | 4 | 5 | 6 | 7);
                if !value.to_le_bytes().iter().all(legal) {
                    return self.protection(0);
                }
                self.msrs.pat = value;
            }
            msr::MTRR_DEF_TYPE => self.msrs.mtrr_default = value & 0xcff,
            msr::MISC_ENABLE => self.msrs.misc_enable = value,
            msr::TSC_DEADLINE => self.set_tsc_deadline(value),
            msr::KVM_WALL_CLOCK => {
                self.msrs.wall_clock = value;
                self.write_wall_clock();
            }
            msr::KVM_SYSTEM_TIME => {
                self.msrs.system_time = value;
                self.write_system_time();
            }
            msr::KVM_PV_EOI => self.msrs.pv_eoi = value,
            msr::EFER => self.set_efer(value)?,
            msr::FS_BASE | msr::GS_BASE => {
                let number = if register == msr::FS_BASE {
                    seg::FS
                } else {
                    seg::GS
                };
                self.segments[number as usize].base = value;
                self.bases[number as usize] = value;
            }
            number::SPEC_CTRL | number::PRED_CMD if value & !7 != 0 => return self.protection(0),
            // Nothing is predicted, so nothing is to be done.
            number::SPEC_CTRL | number::PRED_CMD | number::MICROCODE_UPDATE | number::MICROCODE => {}
            register if number::X2APIC.contains(&register) => self.x2apic_write(register, value)?,
            register => match self.stored(register) {
                Some(stored) => *stored = value,
                None => return self.protection(0),
            },
        }
        Ok(())
    }

    fn stored(&mut self, register: u32) -> Option<&mut u64> {
        let msrs = &mut self.msrs;
        Some(match register {
            msr::SYSENTER_CS => &mut msrs.sysenter_cs,
            msr::SYSENTER_ESP => &mut msrs.sysenter_esp,
            msr::SYSENTER_EIP => &mut msrs.sysenter_eip,
            msr::STAR => &mut msrs.star,
            msr::LSTAR => &mut msrs.lstar,
            msr::CSTAR => &mut msrs.cstar,
            msr::SFMASK => &mut msrs.sfmask,
            msr::KERNEL_GS_BASE => &mut msrs.kernel_gs_base,
            msr::TSC_AUX => &mut msrs.tsc_aux,
            _ => return None,
        })
    }

    /// The registers that a saved state carries.
    pub(crate) fn save_msrs(&mut self) -> Vec<(u32, u64)> {
        MSRS.iter()
            .filter_map(|register| Some((*register, self.read_msr(*register)?)))
            .collect()
    }

    /// Puts saved registers back, without what writing them would do besides. What is missing keeps its reset value.
    pub(crate) fn restore_msrs(&mut self, saved: &[(u32, u64)]) {
        for (register, value) in saved {
            match *register {
                msr::TSC => {
                    let now = self.now();
                    self.time.tsc_shift = value.wrapping_sub(self.time.ticks(now));
                }
                msr::TSC_ADJUST => self.msrs.tsc_adjust = *value,
                msr::PAT => self.msrs.pat = *value,
                msr::MTRR_DEF_TYPE => self.msrs.mtrr_default = *value,
                msr::MISC_ENABLE => self.msrs.misc_enable = *value,
                msr::KVM_WALL_CLOCK => self.msrs.wall_clock = *value,
                msr::KVM_SYSTEM_TIME => self.msrs.system_time = *value,
                msr::KVM_PV_EOI => self.msrs.pv_eoi = *value,
                msr::FS_BASE => self.segments[seg::FS as usize].base = *value,
                msr::GS_BASE => self.segments[seg::GS as usize].base = *value,
                register => {
                    if let Some(stored) = self.stored(register) {
                        *stored = *value;
                    }
                }
            }
        }
    }
}
