//! Split rings: descriptor table, available ring, used ring (virtio 1.2, section 2.7).

use std::sync::atomic::{Ordering, fence};

use guestmem::Memory;

use super::{
    Broken, Chain, Descriptor, Layout, MOST_ENTRIES, MOST_SEGMENTS, Options, Position, Ring, Token, area,
    flags,
};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`, `VIRTQ_USED_F_NO_NOTIFY`.
const NOT: u16 = 1;

pub(super) struct Split {
    memory: Memory,
    size: u16,
    event_idx: bool,
    indirect: bool,
    /// Offsets in the block of the three areas.
    descriptors: u64,
    available: u64,
    used: u64,
}

impl Split {
    pub(super) fn new(memory: &Memory, layout: &Layout, options: Options) -> Result<Self, Broken> {
        let size = layout.size;
        if !size.is_power_of_two() || size > MOST_ENTRIES {
            return Err(Broken::Layout);
        }
        let entries = u64::from(size);
        Ok(Split {
            descriptors: area(memory, layout.descriptors, 16 * entries, 16)?,
            available: area(memory, layout.driver, 6 + 2 * entries, 2)?,
            used: area(memory, layout.device, 6 + 8 * entries, 4)?,
            memory: memory.clone(),
            size,
            event_idx: options.event_idx,
            indirect: options.indirect,
        })
    }

    /// A word of the ring areas, which were checked for place and alignment.
    fn load(&self, offset: u64, order: Ordering) -> u16 {
        let word = self.memory.block().load_u16(offset, order);
        word.expect("the rings were checked when the queue was enabled")
    }

    fn store(&self, offset: u64, value: u16, order: Ordering) {
        let stored = self.memory.block().store_u16(offset, value, order);
        stored.expect("the rings were checked when the queue was enabled");
    }

    fn index(&self, order: Ordering) -> u16 {
        self.load(self.available + 2, order)
    }

    fn slot(&self, position: u16) -> u64 {
        u64::from(position % self.size)
    }

    /// Reads descriptors from a table until the chain ends. Tells the indirect table if it ends in one.
    fn walk(
        &self,
        table: u64,
        entries: u32,
        head: u16,
        indirect: bool,
        chain: &mut Chain,
    ) -> Result<Option<(u64, u32)>, Broken> {
        let mut index = head;
        for _ in 0..MOST_SEGMENTS.min(entries as usize) {
            if u32::from(index) >= entries {
                return Err(Broken::Descriptor);
            }
            let descriptor =
                Descriptor::read(self.memory.block(), table + u64::from(index) * Descriptor::SIZE)?;
            let (flags, next) = (descriptor.first, descriptor.second);
            if flags & flags::INDIRECT != 0 {
                if !indirect || flags & flags::NEXT != 0 {
                    return Err(Broken::Indirect);
                }
                return self.table(&descriptor).map(Some);
            }
            chain.add(
                &self.memory,
                descriptor.address,
                descriptor.len,
                flags & flags::WRITE != 0,
            )?;
            if flags & flags::NEXT == 0 {
                return Ok(None);
            }
            index = next;
        }
        Err(Broken::TooLong)
    }

    fn table(&self, descriptor: &Descriptor) -> Result<(u64, u32), Broken> {
        let len = descriptor.len;
        if len == 0 || !len.is_multiple_of(Descriptor::SIZE as u32) {
            return Err(Broken::Indirect);
        }
        let at = self.memory.offset(descriptor.address, u64::from(len));
        Ok((at.map_err(|_| Broken::Address)?, len / Descriptor::SIZE as u32))
    }
}

impl Ring for Split {
    fn pop(&mut self, at: &mut Position, chain: &mut Chain) -> Result<bool, Broken> {
        let waiting = self.index(Ordering::Acquire).wrapping_sub(at.available);
        if waiting == 0 {
            return Ok(false);
        }
        if waiting > self.size {
            return Err(Broken::Index);
        }
        let head = self.load(
            self.available + 4 + 2 * self.slot(at.available),
            Ordering::Relaxed,
        );
        let token = Token {
            id: head,
            position: at.available,
            ..Token::default()
        };
        chain.begin(token);
        let size = u32::from(self.size);
        if let Some((table, entries)) = self.walk(self.descriptors, size, head, self.indirect, chain)? {
            self.walk(table, entries, 0, false, chain)?;
        }
        at.available = at.available.wrapping_add(1);
        Ok(true)
    }

    fn put_back(&self, at: &mut Position, token: Token) {
        at.available = token.position;
    }

    fn push(&mut self, at: &mut Position, token: Token, written: u32) {
        let entry = u64::from(token.id) | u64::from(written) << 32;
        let offset = self.used + 4 + 8 * self.slot(at.used);
        self.memory
            .block()
            .write(offset, &entry.to_le_bytes())
            .expect("the rings were checked when the queue was enabled");
        at.used = at.used.wrapping_add(1);
        at.unsignalled = at.unsignalled.saturating_add(1);
        self.store(self.used + 2, at.used, Ordering::Release);
    }

    fn wants_interrupt(&self, at: &mut Position) -> bool {
        // What was pushed must be seen before the driver's wish is read (section 2.7.7.2).
        fence(Ordering::SeqCst);
        let pushed = std::mem::take(&mut at.unsignalled);
        if self.event_idx {
            let event = self.load(self.available + 4 + 2 * u64::from(self.size), Ordering::Relaxed);
            at.used.wrapping_sub(event).wrapping_sub(1) < pushed
        } else {
            self.load(self.available, Ordering::Relaxed) & NOT == 0
        }
    }

    fn notifications(&mut self, at: &Position, on: bool) -> bool {
        if !self.event_idx {
            self.store(self.used, if on { 0 } else { NOT }, Ordering::Relaxed);
        } else if on {
            let event = self.used + 4 + 8 * u64::from(self.size);
            self.store(event, at.available, Ordering::Relaxed);
        }
        if !on {
            return false;
        }
        // The wish must be seen before the index is read once more (section 2.7.10.1).
        fence(Ordering::SeqCst);
        self.index(Ordering::Acquire) != at.available
    }
}
