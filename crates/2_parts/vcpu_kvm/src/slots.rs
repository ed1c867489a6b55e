//! The map of memory: which slots a new map takes away and which it adds.

use fault::{Fault, Result};
use guestmem::PAGE;
use vcpu::{Access, Slot};

use crate::BAD_MAP;

/// A slot under the number by which KVM knows it.
#[derive(Clone)]
pub(crate) struct Placed {
    pub id: u32,
    pub slot: Slot,
}

/// What KVM has, and whether it notes writes.
#[derive(Default)]
pub(crate) struct Map {
    pub placed: Vec<Placed>,
    pub logging: bool,
}

fn same(one: &Slot, other: &Slot) -> bool {
    one.start == other.start
        && one.len == other.len
        && one.offset == other.offset
        && one.access == other.access
        && one.block.is(&other.block)
}

/// Refuses slots that are no whole pages, reach beyond their block or the address space, or overlap. Empty ones are left out.
pub(crate) fn check(slots: &[Slot]) -> Result<Vec<Slot>> {
    let bad = |slot: &Slot, what: &str| {
        Err(Fault::new(BAD_MAP)
            .arg("start", format!("{:#x}", slot.start))
            .arg("length", format!("{:#x}", slot.len))
            .because_of(what))
    };
    let mut slots: Vec<Slot> = slots.iter().filter(|slot| slot.len > 0).cloned().collect();
    slots.sort_by_key(|slot| slot.start);
    let mut end = 0;
    for slot in &slots {
        if (slot.start | slot.len | slot.offset) % PAGE != 0 {
            return bad(slot, "not made of whole pages");
        }
        if slot.block.host(slot.offset, slot.len).is_err() {
            return bad(slot, "longer than its memory");
        }
        let Some(after) = slot.start.checked_add(slot.len) else {
            return bad(slot, "beyond the address space");
        };
        if slot.start < end {
            return bad(slot, "overlaps the one before it");
        }
        end = after;
    }
    Ok(slots)
}

impl Map {
    /// The ids that go and the slots that come when the map becomes `wanted` (which was checked).
    pub(crate) fn difference(&self, wanted: &[Slot]) -> (Vec<u32>, Vec<Slot>) {
        let gone = self
            .placed
            .iter()
            .filter(|placed| !wanted.iter().any(|slot| same(slot, &placed.slot)))
            .map(|placed| placed.id)
            .collect();
        let new = wanted
            .iter()
            .filter(|slot| !self.placed.iter().any(|placed| same(slot, &placed.slot)))
            .cloned()
            .collect();
        (gone, new)
    }

    /// The lowest number that is free.
    pub(crate) fn free_id(&self) -> u32 {
        (0..)
            .find(|id| self.placed.iter().all(|placed| placed.id != *id))
            .expect("there are fewer slots than numbers")
    }

    /// The flags of a slot for KVM.
    pub(crate) fn flags(&self, slot: &Slot) -> u32 {
        match slot.access {
            Access::ReadOnly => kvm_bindings::KVM_MEM_READONLY,
            Access::ReadWrite if self.logging => kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES,
            Access::ReadWrite => 0,
        }
    }
}

/// The dirty bits of a slot, as bits of its block: moved up by as many pages as it begins after the block's.
pub(crate) fn to_block(bits: &[u64], slot: &Slot) -> Vec<u64> {
    let shift = slot.offset / PAGE;
    let (words, rest) = ((shift / 64) as usize, shift % 64);
    let mut moved = vec![0; words + bits.len() + 1];
    for (n, bits) in bits.iter().enumerate() {
        moved[words + n] |= bits << rest;
        if rest > 0 {
            moved[words + n + 1] |= bits >> (64 - rest);
        }
    }
    let most = slot.block.len().div_ceil(PAGE).div_ceil(64) as usize;
    moved.truncate(most);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestmem::{Block, DirtyPages};
    use proptest::prelude::*;

    fn slot(block: &Block, start: u64, len: u64, offset: u64) -> Slot {
        Slot {
            start,
            len,
            block: block.clone(),
            offset,
            access: Access::ReadWrite,
        }
    }

    #[test]
    fn maps_that_cannot_be_are_refused() {
        let block = Block::new("test", 0x4000).unwrap();
        let bad = |slots: &[Slot]| check(slots).err().unwrap().causes()[0].clone();
        assert_eq!(bad(&[slot(&block, 0x800, 0x1000, 0)]), "not made of whole pages");
        assert_eq!(bad(&[slot(&block, 0, 0x5000, 0)]), "longer than its memory");
        assert_eq!(
            bad(&[slot(&block, u64::MAX - 0xfff, 0x1000, 0)]),
            "beyond the address space"
        );
        let two = [slot(&block, 0x1000, 0x2000, 0), slot(&block, 0, 0x2000, 0)];
        assert_eq!(bad(&two), "overlaps the one before it");
        assert!(check(&[slot(&block, 0, 0x2000, 0x2000), slot(&block, 0x2000, 0x2000, 0)]).is_ok());
    }

    #[test]
    fn only_slots_that_changed_go_and_come() {
        let block = Block::new("test", 0x8000).unwrap();
        let keep = slot(&block, 0, 0x1000, 0);
        let mut map = Map::default();
        for (id, slot) in [(0, keep.clone()), (1, slot(&block, 0x1000, 0x1000, 0x1000))] {
            map.placed.push(Placed { id, slot });
        }
        let mut shadow = slot(&block, 0x1000, 0x1000, 0x1000);
        shadow.access = Access::ReadOnly;
        let (gone, new) = map.difference(&[keep, shadow]);
        assert_eq!(gone, [1]);
        assert_eq!(new.len(), 1);
        assert_eq!(map.flags(&new[0]), kvm_bindings::KVM_MEM_READONLY);
        assert_eq!(map.free_id(), 2);
    }

    proptest! {
        #[test]
        fn a_page_of_a_slot_is_its_page_of_the_block(page in 0u64..200, first in 0u64..200) {
            let block = Block::new("test", 400 * PAGE).unwrap();
            let slot = slot(&block, 0, 200 * PAGE, first * PAGE);
            let mut bits = vec![0u64; 4];
            bits[(page / 64) as usize] |= 1 << (page % 64);
            let moved = DirtyPages(to_block(&bits, &slot));
            prop_assert_eq!(moved.iter().collect::<Vec<_>>(), [first + page]);
        }
    }
}
