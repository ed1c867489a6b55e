//! The CPUID leaves of a processor under KVM: what the kernel supports, without what a machine of ours does not have.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use vcpu::cpuid::{
    FEATURE_CLOCK, FEATURE_CLOCK_STABLE, FEATURE_PV_EOI, HYPERVISOR, HYPERVISOR_FEATURES, HYPERVISOR_TIMING,
    Leaf,
};

/// Leaves that go away whole: performance counters, trusted enclaves, processor trace, tiles, nested and encrypted machines. Their
/// registers are not part of a saved state, or they need the host's consent.
const ABSENT: &[u32] = &[
    0xa,
    0x12,
    0x14,
    0x1b,
    0x1d,
    0x1e,
    0x23,
    0x8000_000a,
    0x8000_001b,
    0x8000_001f,
    0x8000_0022,
];

/// Leaf 1, ECX: 64-bit debug store, MONITOR, CPL-qualified debug store, VMX, SMX, performance capabilities; OSXSAVE follows CR4.
const ECX_1: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 27;
/// Leaf 1, ECX: x2APIC, TSC deadline, a hypervisor is there.
const ECX_1_SET: u32 = 1 << 21 | 1 << 24 | 1 << 31;
/// Leaf 1, EDX: debug store.
const EDX_1: u32 = 1 << 21;
/// Leaf 7, EBX: SGX, processor trace.
const EBX_7: u32 = 1 << 2 | 1 << 25;
/// Leaf 7, ECX: OSPKE follows CR4; shadow stacks, SGX launch control.
const ECX_7: u32 = 1 << 4 | 1 << 7 | 1 << 30;
/// Leaf 7, EDX: branch records, indirect branch tracking, the three of tiles.
const EDX_7: u32 = 1 << 19 | 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25;
/// Leaf 7.1, EAX: flexible return and event delivery, tiles of FP16.
const EAX_7_1: u32 = 1 << 17 | 1 << 21;
/// Leaf 7.1, EDX: complex tiles.
const EDX_7_1: u32 = 1 << 8;
/// Leaf 0x8000_0001, ECX: SVM, SKINIT, performance counters (core, north bridge, last level cache), MWAITX.
const ECX_AMD: u32 = 1 << 2 | 1 << 12 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29;
/// Leaf 0x8000_0007, EDX: the time stamp counter keeps its frequency. It may not, when the machine moves: the guest shall trust kvm-clock.
const EDX_INVARIANT: u32 = 1 << 8;
/// Leaf 0xd: XCR0's features that are kept: x87, SSE, AVX, AVX-512, PKRU.
const XCR0_KEPT: u32 = 0b10_1110_0111;
/// kHz of the local APIC's timer in the kernel: a bus cycle is one nanosecond.
const APIC_KHZ: u32 = 1_000_000;

/// The leaves, given what KVM_GET_SUPPORTED_CPUID tells and the frequency of the time stamp counter in kHz.
pub(crate) fn leaves(supported: &[kvm_cpuid_entry2], frequency: u32) -> Vec<Leaf> {
    let paravirtual = supported
        .iter()
        .find(|entry| entry.function == HYPERVISOR_FEATURES)
        .map_or(0, |entry| entry.eax);
    let mut leaves: Vec<Leaf> = supported
        .iter()
        .filter(|entry| !ABSENT.contains(&entry.function) && entry.function >> 16 != HYPERVISOR >> 16)
        .map(from_entry)
        .filter(|leaf| leaf.function != 0xd || leaf.index.is_none_or(kept_state))
        .collect();
    leaves.iter_mut().for_each(trim);
    let most = leaves
        .iter()
        .filter(|leaf| leaf.function == 0xd && leaf.index.is_some_and(|index| index > 1))
        .map(|leaf| leaf.ebx.saturating_add(leaf.eax))
        .fold(576, u32::max);
    leaves
        .iter_mut()
        .filter(|leaf| (leaf.function, leaf.index) == (0xd, Some(0)))
        .for_each(|leaf| leaf.ecx = most);
    let hypervisor = |function, eax, [ebx, ecx, edx]: [u32; 3]| Leaf {
        function,
        index: None,
        eax,
        ebx,
        ecx,
        edx,
    };
    let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    let signature = [word(b"KVMK"), word(b"VMKV"), word(b"M\0\0\0")];
    leaves.push(hypervisor(HYPERVISOR, HYPERVISOR_TIMING, signature));
    let features = paravirtual & (FEATURE_CLOCK | FEATURE_PV_EOI | FEATURE_CLOCK_STABLE);
    leaves.push(hypervisor(HYPERVISOR_FEATURES, features, [0; 3]));
    leaves.push(hypervisor(HYPERVISOR_TIMING, frequency, [APIC_KHZ, 0, 0]));
    leaves
}

/// Whether a subleaf of 0xd is the general ones' or a kept feature's.
fn kept_state(index: u32) -> bool {
    index < 2 || index < 32 && XCR0_KEPT >> index & 1 == 1
}

fn trim(leaf: &mut Leaf) {
    match (leaf.function, leaf.index.unwrap_or(0)) {
        (1, _) => {
            leaf.ecx = leaf.ecx & !ECX_1 | ECX_1_SET;
            leaf.edx &= !EDX_1;
        }
        (7, 0) => {
            leaf.ebx &= !EBX_7;
            leaf.ecx &= !ECX_7;
            leaf.edx &= !EDX_7;
        }
        (7, 1) => {
            leaf.eax &= !EAX_7_1;
            leaf.edx &= !EDX_7_1;
        }
        (0xd, 0) => {
            leaf.eax &= XCR0_KEPT;
            leaf.edx = 0;
        }
        // No supervisor states.
        (0xd, 1) => (leaf.ecx, leaf.edx) = (0, 0),
        (0x8000_0001, _) => leaf.ecx &= !ECX_AMD,
        (0x8000_0007, _) => leaf.edx &= !EDX_INVARIANT,
        _ => {}
    }
}

fn from_entry(entry: &kvm_cpuid_entry2) -> Leaf {
    Leaf {
        function: entry.function,
        index: (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0).then_some(entry.index),
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    }
}

/// The leaves as KVM_SET_CPUID2 takes them.
pub(crate) fn entries(leaves: &[Leaf]) -> Vec<kvm_cpuid_entry2> {
    leaves
        .iter()
        .map(|leaf| kvm_cpuid_entry2 {
            function: leaf.function,
            index: leaf.index.unwrap_or(0),
            flags: leaf.index.map_or(0, |_| KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
            eax: leaf.eax,
            ebx: leaf.ebx,
            ecx: leaf.ecx,
            edx: leaf.edx,
            ..kvm_cpuid_entry2::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vcpu::cpuid::find;

    fn entry(function: u32, index: Option<u32>, all: u32) -> kvm_cpuid_entry2 {
        entries(&[Leaf {
            function,
            index,
            eax: all,
            ebx: all,
            ecx: all,
            edx: all,
        }])[0]
    }

    #[test]
    fn nested_machines_and_counters_are_gone_and_our_hypervisor_leaves_are_there() {
        let all = u32::MAX;
        let supported = [
            entry(1, None, all),
            entry(0xa, None, all),
            entry(0xd, Some(0), all),
            entry(0xd, Some(18), all),
            entry(HYPERVISOR_FEATURES, None, all),
            entry(0x8000_0001, None, all),
            entry(0x8000_000a, None, all),
        ];
        let leaves = leaves(&supported, 2_500_000);
        let one = find(&leaves, 1, 0).unwrap();
        assert_eq!(one.ecx & (1 << 5 | 1 << 3), 0);
        assert_ne!(one.ecx & 1 << 24, 0);
        assert!(find(&leaves, 0xa, 0).is_none() && find(&leaves, 0x8000_000a, 0).is_none());
        assert!(find(&leaves, 0xd, 18).is_none());
        assert_eq!(find(&leaves, 0xd, 0).unwrap().eax, 0x2e7);
        assert_eq!(find(&leaves, 0x8000_0001, 0).unwrap().ecx & 1 << 2, 0);
        let features = find(&leaves, HYPERVISOR_FEATURES, 0).unwrap().eax;
        assert_eq!(features, FEATURE_CLOCK | FEATURE_PV_EOI | FEATURE_CLOCK_STABLE);
        assert_eq!(find(&leaves, HYPERVISOR_TIMING, 0).unwrap().eax, 2_500_000);
        assert_eq!(&find(&leaves, HYPERVISOR, 0).unwrap().ebx.to_le_bytes(), b"KVMK");
    }
}
