//! Guest physical memory: sealed memory files mapped shared, checked access, and what is known of each page.
//!
//! A [`Block`] is one piece of memory of a guest: its RAM, the memory of its display adapter, its firmware. [`Memory`] is the RAM
//! as devices see it: guest physical addresses, of which those behind the hole below 4 GiB continue the same block.
//!
//! Guest memory is never an ordinary reference: the guest, its other processors and helper processes change it at any time.
//! Every access is a copy, an atomic operation, or a raw address handed to the kernel ([`HostRange`]).

mod block;
mod memory;
mod pages;

pub use block::{Block, HostRange};
pub use memory::{HIGH_START, LOW_LIMIT, Memory, Region};
pub use pages::{DirtyPages, PAGE};

/// An access to addresses at which there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The first address of the access: guest physical for [`Memory`], an offset for a [`Block`].
    pub address: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl std::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no guest memory at {:#x} (+{:#x})", self.address, self.len)
    }
}

impl std::error::Error for OutOfRange {}
