//! The XSAVE area as the saved state has it and as KVM has it: standard format (SDM Vol. 1 §13.4) in both.
//!
//! The saved area is as long as its features need. Its legacy part is always meant as it stands: x87 and SSE are marked present.

use vcpu::cpuid::{self, Leaf};

/// Legacy part and header.
const LEAST: usize = 576;
/// Where the header begins: XSTATE_BV, XCOMP_BV, reserved.
const HEADER: usize = 512;
/// Bytes of the legacy part that no instruction loads.
const UNUSED: std::ops::Range<usize> = 416..HEADER;
/// x87 and SSE.
const LEGACY: u64 = 3;

/// Bytes of an area with these features, by leaf 0xd.
fn length(leaves: &[Leaf], features: u64) -> usize {
    (2..63)
        .filter(|feature| features >> feature & 1 == 1)
        .filter_map(|feature| cpuid::find(leaves, 0xd, feature))
        .map(|leaf| (leaf.ebx as usize).saturating_add(leaf.eax as usize))
        .fold(LEAST, usize::max)
}

fn present(area: &[u8]) -> u64 {
    let bytes = area[HEADER..HEADER + 8]
        .try_into()
        .expect("eight bytes are eight bytes");
    u64::from_le_bytes(bytes)
}

/// From KVM's area to the saved one.
pub(crate) fn save(mut area: Vec<u8>, xcr0: u64, leaves: &[Leaf]) -> Vec<u8> {
    let features = present(&area) | LEGACY;
    area.truncate(length(leaves, features | xcr0));
    area[UNUSED].fill(0);
    area[HEADER..LEAST].fill(0);
    area[HEADER..HEADER + 8].copy_from_slice(&features.to_le_bytes());
    area
}

/// From a saved area to KVM's of `size` bytes; none when it does not fit.
pub(crate) fn restore(saved: &[u8], size: usize) -> Option<Vec<u8>> {
    if saved.len() < LEAST || saved.len() > size {
        return None;
    }
    let mut area = saved.to_vec();
    let features = present(&area) | LEGACY;
    area[UNUSED].fill(0);
    area[HEADER..LEAST].fill(0);
    area[HEADER..HEADER + 8].copy_from_slice(&features.to_le_bytes());
    area.resize(size, 0);
    Some(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn avx() -> Leaf {
        Leaf {
            function: 0xd,
            index: Some(2),
            eax: 256,
            ebx: 576,
            ecx: 0,
            edx: 0,
        }
    }

    #[test]
    fn a_saved_area_is_as_long_as_its_features_need() {
        assert_eq!(save(vec![0; 4096], 3, &[avx()]).len(), 576);
        assert_eq!(save(vec![0; 4096], 7, &[avx()]).len(), 832);
        let mut area = vec![0; 4096];
        area[HEADER] = 4;
        assert_eq!(save(area, 1, &[avx()]).len(), 832);
    }

    #[test]
    fn areas_of_wrong_length_are_refused_and_others_survive() {
        assert!(restore(&[0; 575], 4096).is_none());
        assert!(restore(&[0; 4097], 4096).is_none());
        let mut area = vec![7; 832];
        area[HEADER..HEADER + 8].copy_from_slice(&7u64.to_le_bytes());
        area[HEADER + 8..LEAST].fill(0);
        area[UNUSED].fill(0);
        let kvm = restore(&area, 4096).unwrap();
        assert_eq!(save(kvm, 7, &[avx()]), area);
    }
}
