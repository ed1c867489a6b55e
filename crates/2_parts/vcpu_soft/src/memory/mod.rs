//! Guest memory as instructions see it: the map, the page walker, the translation cache, loads and stores.
//!
//! Why no guest can reach memory of ours: host addresses come from one place, [`map::Region::host`], which is given a physical
//! address inside of the region and answers inside of the block's mapping (both checked when the map was made). They are kept only
//! in entries of the [`tlb::Tlb`], one 4 KiB page each; a hit needs the tag of the whole page and that the access ends in it. A
//! map lives as long as entries made from it: whoever replaces the map drops all entries first. The pointers are used only in
//! `access` and `raw`. Physical addresses that the guest's tables hold go through the map and lead nowhere when it has no memory
//! there.

pub(crate) mod access;
pub(crate) mod map;
pub(crate) mod raw;
pub(crate) mod string;
pub(crate) mod tlb;
pub(crate) mod walk;
