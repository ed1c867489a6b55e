//! CPUID: the leaves of a processor, and what a machine adds to those of its accelerator (topology, the hypervisor's leaves).

use serde::{Deserialize, Serialize};

/// One answer of CPUID (SDM Vol. 2A, CPUID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// EAX of the question.
    pub function: u32,
    /// ECX of the question, where the leaf looks at it.
    pub index: Option<u32>,
    /// Answer.
    pub eax: u32,
    /// Answer.
    pub ebx: u32,
    /// Answer.
    pub ecx: u32,
    /// Answer.
    pub edx: u32,
}

/// First leaf of the hypervisor's: signature.
pub const HYPERVISOR: u32 = 0x4000_0000;
/// Paravirtual features (Documentation/virt/kvm/x86/cpuid.rst).
pub const HYPERVISOR_FEATURES: u32 = 0x4000_0001;
/// Frequencies: EAX = TSC in kHz, EBX = local APIC's timer in kHz (as VMware and KVM define it).
pub const HYPERVISOR_TIMING: u32 = 0x4000_0010;
/// `KVM_FEATURE_CLOCKSOURCE2`: kvm-clock with the new numbers.
pub const FEATURE_CLOCK: u32 = 1 << 3;
/// `KVM_FEATURE_PV_EOI`.
pub const FEATURE_PV_EOI: u32 = 1 << 6;
/// `KVM_FEATURE_CLOCKSOURCE_STABLE_BIT`.
pub const FEATURE_CLOCK_STABLE: u32 = 1 << 24;

/// Finds the answer to a question. What is not there is answered with zeros by a processor of ours.
#[must_use]
pub fn find(leaves: &[Leaf], function: u32, index: u32) -> Option<&Leaf> {
    leaves
        .iter()
        .find(|leaf| leaf.function == function && leaf.index.is_none_or(|known| known == index))
}

/// The leaves of processor `number` of `count`: those of the accelerator with identity and topology filled in (one package,
/// one thread a core; leaves 1, 4, 0xb, 0x8000_0008, 0x8000_001e).
#[must_use]
pub fn for_processor(leaves: &[Leaf], number: u32, count: u32) -> Vec<Leaf> {
    let bits = u32::BITS - count.saturating_sub(1).leading_zeros();
    let mut leaves = leaves.to_vec();
    leaves.retain(|leaf| leaf.function != 0xb && leaf.function != 0x1f);
    for leaf in &mut leaves {
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0xffff | number << 24 | count.min(255) << 16;
                leaf.edx = leaf.edx & !(1 << 28) | u32::from(count > 1) << 28;
            }
            4 => leaf.eax = leaf.eax & 0x3fff | (count.min(64) - 1) << 26,
            0x8000_0008 => leaf.ecx = count - 1 | bits << 12,
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (number, number, 0),
            _ => {}
        }
    }
    let topology = |index: u32, shift, count, level: u32| Leaf {
        function: 0xb,
        index: Some(index),
        eax: shift,
        ebx: count,
        ecx: level << 8 | index,
        edx: number,
    };
    leaves.push(topology(0, 0, 1, 1));
    leaves.push(topology(1, bits, count, 2));
    if let Some(most) = leaves.iter_mut().find(|leaf| leaf.function == 0) {
        most.eax = most.eax.max(0xb);
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_has_its_identity_and_all_the_same_count() {
        let base = [
            Leaf {
                function: 0,
                index: None,
                eax: 7,
                ebx: 0,
                ecx: 0,
                edx: 0,
            },
            Leaf {
                function: 1,
                index: None,
                eax: 0x663,
                ebx: 0x800,
                ecx: 1,
                edx: 2,
            },
        ];
        let third = for_processor(&base, 2, 3);
        let one = find(&third, 1, 0).unwrap();
        assert_eq!(
            (one.ebx >> 24, one.ebx >> 16 & 0xff, one.ebx & 0xffff),
            (2, 3, 0x800)
        );
        assert_eq!(find(&third, 0xb, 1).unwrap().eax, 2);
        assert_eq!(find(&third, 0xb, 1).unwrap().edx, 2);
        assert_eq!(find(&third, 0, 0).unwrap().eax, 0xb);
        assert!(find(&third, 0x1f, 0).is_none());
    }
}
