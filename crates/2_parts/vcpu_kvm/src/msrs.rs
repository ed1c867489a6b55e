//! Model-specific registers: which ones are saved, and how they are read and written in bulk.

use fault::{Fault, OrFault, Result};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use vcpu::state::{CpuState, MSRS, msr};

use crate::{BAD_STATE, refused};

/// Registers beyond [`MSRS`] that KVM keeps and a guest can tell; a state carries those that are not zero.
const FURTHER: &[u32] = &[
    0x48,  // SPEC_CTRL
    0xe1,  // UMWAIT_CONTROL
    0x122, // TSX_CTRL
    0x140, // MISC_FEATURES_ENABLES
    msr::XSS,
    0xc001_0015, // HWCR
    0xc001_011f, // VIRT_SPEC_CTRL
    // Memory types: variable ranges, then fixed ones.
    0x200,
    0x201,
    0x202,
    0x203,
    0x204,
    0x205,
    0x206,
    0x207,
    0x208,
    0x209,
    0x20a,
    0x20b,
    0x20c,
    0x20d,
    0x20e,
    0x20f,
    0x250,
    0x258,
    0x259,
    0x268,
    0x269,
    0x26a,
    0x26b,
    0x26c,
    0x26d,
    0x26e,
    0x26f,
];

/// The registers that this kernel keeps for one processor.
pub(crate) struct Known(Vec<u32>);

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    }
}

fn list(entries: &[kvm_msr_entry]) -> Msrs {
    Msrs::from_entries(entries).expect("fewer registers than KVM takes at once")
}

impl Known {
    /// Finds out by reading, which says more than KVM_GET_MSR_INDEX_LIST: that lacks the memory types.
    pub(crate) fn of(processor: &VcpuFd) -> Result<Known> {
        let mut left: Vec<u32> = MSRS.iter().chain(FURTHER).copied().collect();
        let mut known = Vec::new();
        while !left.is_empty() {
            let entries: Vec<_> = left.iter().map(|index| entry(*index, 0)).collect();
            let read = processor
                .get_msrs(&mut list(&entries))
                .or_fault(|| refused("KVM_GET_MSRS"))?;
            // The kernel stops at the first that it does not know.
            known.extend(left.drain(..read.min(left.len())));
            if !left.is_empty() {
                left.remove(0);
            }
        }
        Ok(Known(known))
    }

    /// Reads all; zeros beyond [`MSRS`] are left out.
    pub(crate) fn save(&self, processor: &VcpuFd, state: &mut CpuState) -> Result<()> {
        let entries: Vec<_> = self.0.iter().map(|index| entry(*index, 0)).collect();
        let mut list = list(&entries);
        let read = processor
            .get_msrs(&mut list)
            .or_fault(|| refused("KVM_GET_MSRS"))?;
        if read != entries.len() {
            return Err(refused("KVM_GET_MSRS").because_of(format!("register {:#x}", self.0[read])));
        }
        for read in list.as_slice() {
            if read.data != 0 || MSRS.contains(&read.index) {
                state.set_msr(read.index, read.data);
            }
        }
        Ok(())
    }

    /// Writes those of the state. Registers that it does not mention become zero, but the time stamp counter goes on: a composed state
    /// is a processor after reset, whose paravirtual clock must not be written into the new system's memory.
    pub(crate) fn restore(&self, processor: &VcpuFd, state: &CpuState) -> Result<()> {
        let bad = |number: u32, value: u64| {
            Fault::new(BAD_STATE).arg("what", format!("MSR {number:#x} = {value:#x}"))
        };
        if let Some((number, value)) = state
            .msrs
            .iter()
            .find(|(number, value)| *value != 0 && !self.0.contains(number))
        {
            return Err(bad(*number, *value));
        }
        let entries: Vec<_> = self
            .0
            .iter()
            // These two went with the system registers.
            .filter(|number| **number != msr::EFER && **number != msr::APIC_BASE)
            .filter(|number| **number != msr::TSC || state.msr(**number).is_some())
            .map(|number| entry(*number, state.msr(*number).unwrap_or(default(*number, state))))
            .collect();
        let mut left = entries.as_slice();
        while !left.is_empty() {
            let written = processor
                .set_msrs(&list(left))
                .or_fault(|| refused("KVM_SET_MSRS"))?;
            // The kernel stops at the first that it refuses; one that cannot even be zero is not there.
            left = match &left[written.min(left.len())..] {
                [refused, rest @ ..] if refused.data == 0 => rest,
                [refused, ..] => return Err(bad(refused.index, refused.data)),
                [] => &[],
            };
        }
        Ok(())
    }
}

/// The value of a register that a state does not mention.
fn default(number: u32, state: &CpuState) -> u64 {
    match number {
        msr::PAT => 0x0007_0406_0007_0406,
        msr::MISC_ENABLE => 1,
        msr::FS_BASE => state.segments[4].base,
        msr::GS_BASE => state.segments[5].base,
        _ => 0,
    }
}
