//! Virtqueues of the device's side: split and packed rings in guest memory (virtio 1.2, sections 2.7 and 2.8).
//!
//! ```text
//! pop → Chain → (the device works) → push(token) → signal?
//!   ↘ put_back (last in, first out): the request stays in the ring
//! ```
//!
//! Whatever a guest writes into its rings, a queue neither panics nor reads outside of RAM nor goes round in circles: a chain has at
//! most [`MOST_SEGMENTS`] segments, and a ring that makes no sense is [`Broken`] for good, until the device is reset.

mod chain;
mod packed;
mod split;

use guestmem::{Block, Memory};
use serde::{Deserialize, Serialize};

pub use chain::{Chain, Reader, Segment, Writer};

/// Most segments of one chain, counting indirect ones. Linux's drivers stay far below.
pub const MOST_SEGMENTS: usize = 1024;

/// Most entries of a ring.
pub const MOST_ENTRIES: u16 = 1024;

/// What the driver has set up for a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Entries of the ring.
    pub size: u16,
    /// Guest physical address of the descriptors.
    pub descriptors: u64,
    /// Guest physical address of what the driver writes: the available ring, or its event suppression.
    pub driver: u64,
    /// Guest physical address of what the device writes: the used ring, or its event suppression.
    pub device: u64,
}

/// How the rings are used, as negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `VIRTIO_F_RING_PACKED`.
    pub packed: bool,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
}

/// A chain under way: by what the driver will know it, and where it stands in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The head's index (split), or the buffer id (packed).
    id: u16,
    /// Where the chain began: position in the available ring (split), in the descriptor ring (packed).
    position: u16,
    /// Packed: entries of the ring that it takes.
    entries: u16,
    /// Packed: the wrap counter at its beginning.
    wrap: bool,
}

/// Where a queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next entry to look at (split: free-running; packed: in the ring).
    available: u16,
    /// Packed: wrap counter of `available`.
    available_wrap: bool,
    /// The next entry to fill (split: free-running; packed: in the ring).
    used: u16,
    /// Packed: wrap counter of `used`.
    used_wrap: bool,
    /// Entries filled since the driver was last asked whether it wants an interrupt.
    unsignalled: u16,
}

/// A ring that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Rings outside of RAM, not aligned, or of an impossible size.
    Layout,
    /// More entries available than the ring has.
    Index,
    /// A descriptor number outside of the ring or table.
    Descriptor,
    /// A buffer or an indirect table outside of RAM.
    Address,
    /// A chain that is too long, or goes round in circles.
    TooLong,
    /// An indirect table where none may be, or of an impossible size.
    Indirect,
    /// A buffer to read after a buffer to write.
    Order,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Broken::Layout => "rings of an impossible size or place",
            Broken::Index => "more entries are available than the ring has",
            Broken::Descriptor => "a descriptor outside of the ring",
            Broken::Address => "a buffer outside of memory",
            Broken::TooLong => "a chain without an end",
            Broken::Indirect => "an indirect table that cannot be",
            Broken::Order => "a buffer to read after one to write",
        })
    }
}

impl std::error::Error for Broken {}

/// One kind of ring.
trait Ring: Send {
    /// Takes the next chain, if there is one.
    fn pop(&mut self, at: &mut Position, chain: &mut Chain) -> Result<bool, Broken>;
    /// Gives the chain that was taken last back to the ring.
    fn put_back(&self, at: &mut Position, token: Token);
    /// Tells the driver that a chain is used.
    fn push(&mut self, at: &mut Position, token: Token, written: u32);
    /// Whether the driver wants an interrupt for what was pushed since the last question.
    fn wants_interrupt(&self, at: &mut Position) -> bool;
    /// Asks the driver for notifications, or not; with `true` tells whether entries have come meanwhile.
    fn notifications(&mut self, at: &Position, on: bool) -> bool;
}

/// A virtqueue that its driver has enabled.
pub struct Queue {
    ring: Box<dyn Ring>,
    at: Position,
    block: Block,
    size: u16,
    broken: Option<Broken>,
}

impl Queue {
    /// A queue at its beginning.
    ///
    /// # Errors
    /// When there is no RAM at some of the rings, or they are not aligned, or their size is impossible.
    pub fn new(memory: &Memory, layout: &Layout, options: Options) -> Result<Queue, Broken> {
        let start = Position {
            available_wrap: true,
            used_wrap: true,
            ..Position::default()
        };
        Self::at(memory, layout, options, start)
    }

    /// A queue that goes on from a saved position.
    ///
    /// # Errors
    /// As [`Queue::new`], and when the position is not in the ring.
    pub fn at(memory: &Memory, layout: &Layout, options: Options, at: Position) -> Result<Queue, Broken> {
        let ring: Box<dyn Ring> = if options.packed {
            if at.available >= layout.size || at.used >= layout.size {
                return Err(Broken::Layout);
            }
            Box::new(packed::Packed::new(memory, layout, options)?)
        } else {
            Box::new(split::Split::new(memory, layout, options)?)
        };
        Ok(Queue {
            ring,
            at,
            block: memory.block().clone(),
            size: layout.size,
            broken: None,
        })
    }

    /// The memory that chains lie in.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Where it stands, to be saved.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// Takes the next chain; false when there is none.
    ///
    /// # Errors
    /// When the ring is broken; from then on always.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let popped = self.ring.pop(&mut self.at, chain);
        self.broken = popped.err();
        popped
    }

    /// Whether a chain that was saved while under way can be one of this queue.
    #[must_use]
    pub fn knows(&self, chain: &Chain) -> bool {
        chain.is_inside(&self.block) && chain.token.entries <= self.size
    }

    /// Gives the chain that was taken last back to the ring: the next [`Queue::pop`] takes it again.
    pub fn put_back(&mut self, token: Token) {
        self.ring.put_back(&mut self.at, token);
    }

    /// Tells the driver that a chain is used, and how many bytes of it were written.
    pub fn push(&mut self, token: Token, written: u32) {
        if self.broken.is_none() {
            self.ring.push(&mut self.at, token, written);
        }
    }

    /// Whether the driver wants an interrupt for what was pushed since the last question.
    pub fn wants_interrupt(&mut self) -> bool {
        self.at.unsignalled != 0 && self.ring.wants_interrupt(&mut self.at)
    }

    /// Tells the driver that it need not ring: the queue is being looked at.
    pub fn quiet(&mut self) {
        self.ring.notifications(&self.at, false);
    }

    /// Asks the driver to ring for the next chain. True when one has come already, for which it may not have rung.
    pub fn listen(&mut self) -> bool {
        self.broken.is_none() && self.ring.notifications(&self.at, true)
    }
}

/// A ring area in the block: checked once, when the queue is enabled.
fn area(memory: &Memory, address: u64, len: u64, align: u64) -> Result<u64, Broken> {
    if !address.is_multiple_of(align) {
        return Err(Broken::Layout);
    }
    memory.offset(address, len).map_err(|_| Broken::Layout)
}

/// Flags of a descriptor (section 2.7.5, 2.8.5).
mod flags {
    pub const NEXT: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const INDIRECT: u16 = 4;
    pub const AVAILABLE: u16 = 1 << 7;
    pub const USED: u16 = 1 << 15;
}

/// A descriptor as both kinds of rings have it: 16 bytes. The last two fields change places.
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    /// Bytes 12 and 13: flags (split), id (packed).
    first: u16,
    /// Bytes 14 and 15: next (split), flags (packed).
    second: u16,
}

impl Descriptor {
    const SIZE: u64 = 16;

    /// The descriptor at an offset of the block that was checked.
    fn read(block: &Block, offset: u64) -> Result<Descriptor, Broken> {
        let mut bytes = [0; 16];
        block.read(offset, &mut bytes).map_err(|_| Broken::Descriptor)?;
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 2)) << 16;
        Ok(Descriptor {
            address: long(0) | long(4) << 32,
            len: long(8) as u32,
            first: word(12),
            second: word(14),
        })
    }
}
