//! The map of guest physical memory as the processors see it.

use std::sync::Arc;

use guestmem::{Block, PAGE};
use vcpu::{Access, Slot};

/// One range of guest physical addresses with memory behind it.
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) block: Block,
    /// Where it begins in the block.
    pub(crate) offset: u64,
    pub(crate) writable: bool,
    /// Host address of the first byte. Valid as long as `block` is kept.
    host: usize,
}

impl Region {
    /// Host address of the page at a physical address of the region.
    pub(crate) fn host(&self, physical: u64) -> usize {
        debug_assert!(physical >= self.start && physical < self.end);
        self.host + (physical - self.start) as usize
    }

    /// Number of the page in the block.
    pub(crate) fn page(&self, physical: u64) -> u64 {
        (physical - self.start + self.offset) / PAGE
    }
}

/// All regions, ascending, none overlapping another. Immutable: a new map replaces it.
#[derive(Default)]
pub(crate) struct Map {
    regions: Vec<Region>,
    /// The blocks, each once.
    blocks: Vec<Block>,
}

/// Why slots are no map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadSlot(pub(crate) u64);

impl Map {
    /// Checks the slots: whole pages, inside of their blocks and below 2^46, none over another.
    pub(crate) fn new(slots: &[Slot]) -> Result<Arc<Map>, BadSlot> {
        let mut map = Map::default();
        for slot in slots {
            let bad = BadSlot(slot.start);
            let whole = [slot.start, slot.len, slot.offset]
                .iter()
                .all(|value| value.is_multiple_of(PAGE));
            let end = slot.start.checked_add(slot.len).filter(|end| *end <= 1 << 46);
            let (true, Some(end)) = (whole, end) else {
                return Err(bad);
            };
            if slot.len == 0 {
                continue;
            }
            let Ok(host) = slot.block.host(slot.offset, slot.len) else {
                return Err(bad);
            };
            map.regions.push(Region {
                start: slot.start,
                end,
                block: slot.block.clone(),
                offset: slot.offset,
                writable: slot.access == Access::ReadWrite,
                host: host.start as usize,
            });
            if !map.blocks.iter().any(|block| block.is(&slot.block)) {
                map.blocks.push(slot.block.clone());
            }
        }
        map.regions.sort_by_key(|region| region.start);
        for pair in map.regions.windows(2) {
            if pair[0].end > pair[1].start {
                return Err(BadSlot(pair[1].start));
            }
        }
        Ok(Arc::new(map))
    }

    /// The region of a physical address.
    pub(crate) fn find(&self, physical: u64) -> Option<&Region> {
        let next = self.regions.partition_point(|region| region.start <= physical);
        let region = &self.regions[next.checked_sub(1)?];
        (physical < region.end).then_some(region)
    }

    /// The blocks, each once.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Where a page of a block is seen: every physical address of it.
    pub(crate) fn places<'a>(&'a self, block: &'a Block, page: u64) -> impl Iterator<Item = u64> + 'a {
        let inside = page * PAGE;
        self.regions.iter().filter_map(move |region| {
            let fits = region.block.is(block)
                && inside >= region.offset
                && inside - region.offset < region.end - region.start;
            fits.then(|| region.start + (inside - region.offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn slots_that_overlap_or_leave_their_block_are_refused() {
        let block = Block::new("test", 4 * PAGE).unwrap();
        let bad = |slots: &[Slot]| Map::new(slots).is_err();
        assert!(!bad(&[slot(&block, 0, PAGE, 0), slot(&block, PAGE, PAGE, 0)]));
        assert!(bad(&[slot(&block, 0, 2 * PAGE, 0), slot(&block, PAGE, PAGE, 0)]));
        assert!(bad(&[slot(&block, 0, 5 * PAGE, 0)]));
        assert!(bad(&[slot(&block, 7, PAGE, 0)]));
        assert!(bad(&[slot(&block, u64::MAX - PAGE + 1, PAGE, 0)]));
    }

    #[test]
    fn a_page_is_found_wherever_it_is_seen() {
        let block = Block::new("test", 4 * PAGE).unwrap();
        let map = Map::new(&[
            slot(&block, 0, 4 * PAGE, 0),
            slot(&block, 1 << 20, 2 * PAGE, PAGE),
        ])
        .unwrap();
        assert_eq!(map.places(&block, 1).collect::<Vec<_>>(), [PAGE, 1 << 20]);
        assert_eq!(map.places(&block, 3).collect::<Vec<_>>(), [3 * PAGE]);
        assert!(map.find(4 * PAGE).is_none());
        assert_eq!(map.find(0x10_1fff).unwrap().page(0x10_1fff), 2);
        assert_eq!(map.blocks().len(), 1);
    }
}
