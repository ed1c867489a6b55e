//! Packed rings: one ring of descriptors that both sides write (virtio 1.2, section 2.8).

use std::sync::atomic::{Ordering, fence};

use guestmem::Memory;

use super::{Broken, Chain, Descriptor, Layout, MOST_ENTRIES, Options, Position, Ring, Token, area, flags};

/// Event suppression (section 2.8.10): notify always, never, or at one descriptor.
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const AT_DESCRIPTOR: u16 = 2;

pub(super) struct Packed {
    memory: Memory,
    size: u16,
    event_idx: bool,
    indirect: bool,
    /// Offsets in the block of the ring and the two event suppression structures.
    ring: u64,
    driver: u64,
    device: u64,
}

/// Moves a position on; it wraps at the ring's end.
fn forward(position: u16, wrap: bool, entries: u16, size: u16) -> (u16, bool) {
    let next = position + entries;
    if next >= size {
        (next - size, !wrap)
    } else {
        (next, wrap)
    }
}

impl Packed {
    pub(super) fn new(memory: &Memory, layout: &Layout, options: Options) -> Result<Self, Broken> {
        if layout.size == 0 || layout.size > MOST_ENTRIES {
            return Err(Broken::Layout);
        }
        Ok(Packed {
            ring: area(memory, layout.descriptors, 16 * u64::from(layout.size), 16)?,
            driver: area(memory, layout.driver, 4, 4)?,
            device: area(memory, layout.device, 4, 4)?,
            memory: memory.clone(),
            size: layout.size,
            event_idx: options.event_idx,
            indirect: options.indirect,
        })
    }

    fn load(&self, offset: u64, order: Ordering) -> u16 {
        let word = self.memory.block().load_u16(offset, order);
        word.expect("the rings were checked when the queue was enabled")
    }

    fn store(&self, offset: u64, value: u16, order: Ordering) {
        let stored = self.memory.block().store_u16(offset, value, order);
        stored.expect("the rings were checked when the queue was enabled");
    }

    fn descriptor(&self, position: u16) -> u64 {
        self.ring + Descriptor::SIZE * u64::from(position)
    }

    fn is_available(&self, at: &Position) -> bool {
        let flags = self.load(self.descriptor(at.available) + 14, Ordering::Acquire);
        let (available, used) = (flags & flags::AVAILABLE != 0, flags & flags::USED != 0);
        available == at.available_wrap && used != at.available_wrap
    }

    /// Reads the chain at a position; tells its id and how many entries it takes.
    fn walk(&self, mut position: u16, chain: &mut Chain) -> Result<(u16, u16), Broken> {
        for entries in 1..=self.size {
            let descriptor = Descriptor::read(self.memory.block(), self.descriptor(position))?;
            let (id, flags) = (descriptor.first, descriptor.second);
            if flags & flags::INDIRECT != 0 {
                if !self.indirect || flags & flags::NEXT != 0 || entries != 1 {
                    return Err(Broken::Indirect);
                }
                self.table(&descriptor, chain)?;
                return Ok((id, entries));
            }
            let writable = flags & flags::WRITE != 0;
            chain.add(&self.memory, descriptor.address, descriptor.len, writable)?;
            if flags & flags::NEXT == 0 {
                return Ok((id, entries));
            }
            (position, _) = forward(position, true, 1, self.size);
        }
        Err(Broken::TooLong)
    }

    /// All descriptors of an indirect table, one after the other (section 2.8.8).
    fn table(&self, table: &Descriptor, chain: &mut Chain) -> Result<(), Broken> {
        if table.len == 0 || !table.len.is_multiple_of(Descriptor::SIZE as u32) {
            return Err(Broken::Indirect);
        }
        let start = self.memory.offset(table.address, u64::from(table.len));
        let start = start.map_err(|_| Broken::Address)?;
        for n in 0..u64::from(table.len) / Descriptor::SIZE {
            let entry = Descriptor::read(self.memory.block(), start + n * Descriptor::SIZE)?;
            let writable = entry.second & flags::WRITE != 0;
            chain.add(&self.memory, entry.address, entry.len, writable)?;
        }
        Ok(())
    }
}

impl Ring for Packed {
    fn pop(&mut self, at: &mut Position, chain: &mut Chain) -> Result<bool, Broken> {
        if !self.is_available(at) {
            return Ok(false);
        }
        chain.begin(Token::default());
        let (id, entries) = self.walk(at.available, chain)?;
        chain.token = Token {
            id,
            position: at.available,
            entries,
            wrap: at.available_wrap,
        };
        (at.available, at.available_wrap) = forward(at.available, at.available_wrap, entries, self.size);
        Ok(true)
    }

    fn put_back(&self, at: &mut Position, token: Token) {
        (at.available, at.available_wrap) = (token.position, token.wrap);
    }

    fn push(&mut self, at: &mut Position, token: Token, written: u32) {
        let mut entry = [0; 6];
        entry[..4].copy_from_slice(&written.to_le_bytes());
        entry[4..].copy_from_slice(&token.id.to_le_bytes());
        let offset = self.descriptor(at.used);
        self.memory
            .block()
            .write(offset + 8, &entry)
            .expect("the rings were checked when the queue was enabled");
        let mut flags = if written > 0 { flags::WRITE } else { 0 };
        if at.used_wrap {
            flags |= flags::AVAILABLE | flags::USED;
        }
        self.store(offset + 14, flags, Ordering::Release);
        (at.used, at.used_wrap) = forward(at.used, at.used_wrap, token.entries, self.size);
        at.unsignalled = at.unsignalled.saturating_add(token.entries);
    }

    fn wants_interrupt(&self, at: &mut Position) -> bool {
        // What was pushed must be seen before the driver's wish is read.
        fence(Ordering::SeqCst);
        let pushed = std::mem::take(&mut at.unsignalled);
        match self.load(self.driver + 2, Ordering::Acquire) & 3 {
            DISABLE => false,
            AT_DESCRIPTOR if self.event_idx => {
                let event = self.load(self.driver, Ordering::Relaxed);
                // How far the used position has come behind the driver's: the driver's may be of the round before.
                let mut behind = i32::from(at.used) - i32::from(event & 0x7fff);
                if (event >> 15 != 0) != at.used_wrap {
                    behind += i32::from(self.size);
                }
                behind > 0 && behind <= i32::from(pushed)
            }
            _ => true,
        }
    }

    fn notifications(&mut self, at: &Position, on: bool) -> bool {
        if !on {
            self.store(self.device + 2, DISABLE, Ordering::Relaxed);
            return false;
        }
        let wish = if self.event_idx {
            let event = at.available | u16::from(at.available_wrap) << 15;
            self.store(self.device, event, Ordering::Relaxed);
            AT_DESCRIPTOR
        } else {
            ENABLE
        };
        self.store(self.device + 2, wish, Ordering::Release);
        // The wish must be seen before the ring is looked at once more.
        fence(Ordering::SeqCst);
        self.is_available(at)
    }
}
