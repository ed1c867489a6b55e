//! The translation cache: direct-mapped tables from linear pages to host addresses, and to physical pages for code.
//!
//! There is one data table per way of access: supervisor, user, supervisor that may touch user pages (SMAP with AC set), and an
//! empty one that sends every access to the slow path. A tag is a linear page with the *generation* of its address space in the
//! low 12 bits: a switch of address spaces changes the generation and so hides all entries without touching them; with PCID a
//! known one comes back. Entries of global pages are told by their global generation and get the present one when met again.

use std::sync::Arc;

use super::map::Map;

/// Entries of one data table.
pub(crate) const SIZE: usize = 4096;
/// Entries of one code table.
const CODE_SIZE: usize = 1024;
const PAGE_BITS: u64 = !0xfff;
const GLOBAL: u64 = 1;

/// Which data table an access uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Privilege 0–2; user pages are refused when SMAP is on.
    Supervisor = 0,
    /// Privilege 3.
    User = 1,
    /// Privilege 0–2 with SMAP on and RFLAGS.AC set.
    Open = 2,
    /// Never holds anything: alignment is checked.
    Empty = 3,
}

/// One entry of a data table.
#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    /// Linear page and generation when reading is allowed, else 0.
    pub(crate) read: u64,
    /// The same for writing.
    pub(crate) write: u64,
    /// Host address of the page minus its linear address.
    pub(crate) addend: usize,
    /// Bits 12–47 physical page, bit 0 global, bits 48–63 global generation.
    place: u64,
}

#[derive(Clone, Copy, Default)]
struct CodeEntry {
    tag: u64,
    place: u64,
}

/// What a walk found out about a page, to be cached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Physical address of the 4 KiB page.
    pub(crate) physical: u64,
    /// Kept by a load of CR3.
    pub(crate) global: bool,
    /// Bits of the page's size: 12, 21, 22, 30.
    pub(crate) bits: u32,
}

/// The translation cache of a processor.
pub(crate) struct Tlb {
    entries: Box<[Entry; 4 * SIZE]>,
    code: Box<[CodeEntry; 2 * CODE_SIZE]>,
    /// First entry of the table in use.
    table: usize,
    /// Present generation, 1–4095.
    generation: u64,
    last_generation: u64,
    global: u16,
    /// Generation of each PCID, 0 for none.
    contexts: Box<[u16; 4096]>,
    context: usize,
    /// Changes whenever translations of code may have gone.
    epoch: u32,
    /// Which 2 MiB areas (mod 4096) have entries of large pages.
    large: [u64; 64],
    /// Whether there are entries of 1 GiB pages.
    giant: bool,
    /// Which pages (mod 4096) have been code since the last change of the epoch.
    code_pages: [u64; 64],
}

fn zeroed<T: Clone + Default, const N: usize>() -> Box<[T; N]> {
    let entries = vec![T::default(); N].into_boxed_slice();
    entries.try_into().ok().expect("the vector has N entries")
}

impl Tlb {
    pub(crate) fn new() -> Tlb {
        Tlb {
            entries: zeroed(),
            code: zeroed(),
            table: 0,
            generation: 1,
            last_generation: 1,
            global: 1,
            contexts: zeroed(),
            context: 0,
            epoch: 1,
            large: [0; 64],
            giant: false,
            code_pages: [0; 64],
        }
    }

    /// Chooses the data table.
    #[inline]
    pub(crate) fn select(&mut self, table: Table) {
        self.table = table as usize * SIZE;
    }

    /// The data table in use.
    pub(crate) fn selected(&self) -> Table {
        match self.table / SIZE {
            0 => Table::Supervisor,
            1 => Table::User,
            2 => Table::Open,
            _ => Table::Empty,
        }
    }

    /// Host address of `len` bytes that may be read, when they lie in one page that is known.
    #[inline(always)]
    pub(crate) fn readable(&self, linear: u64, len: u64) -> Option<usize> {
        let entry = &self.entries[(self.table + (linear >> 12) as usize % SIZE) & (4 * SIZE - 1)];
        (entry.read == linear.wrapping_add(len - 1) & PAGE_BITS | self.generation)
            .then(|| entry.addend.wrapping_add(linear as usize))
    }

    /// Host address of `len` bytes that may be read and written, when they lie in one page that is known.
    #[inline(always)]
    pub(crate) fn writable(&self, linear: u64, len: u64) -> Option<usize> {
        let entry = &self.entries[(self.table + (linear >> 12) as usize % SIZE) & (4 * SIZE - 1)];
        (entry.write == linear.wrapping_add(len - 1) & PAGE_BITS | self.generation)
            .then(|| entry.addend.wrapping_add(linear as usize))
    }

    fn slot(&mut self, linear: u64) -> &mut Entry {
        &mut self.entries[(self.table + (linear >> 12) as usize % SIZE) & (4 * SIZE - 1)]
    }

    /// Gives the entry of a global page the present generation; tells whether there was one that allows the access.
    pub(crate) fn adopt(&mut self, linear: u64, write: bool) -> bool {
        let (generation, mark) = (self.generation, u64::from(self.global) << 48 | GLOBAL);
        let entry = self.slot(linear);
        if entry.read == 0
            || (entry.read ^ linear) & PAGE_BITS != 0
            || entry.place & (0xffff << 48 | GLOBAL) != mark
            || write && entry.write == 0
        {
            return false;
        }
        entry.read = linear & PAGE_BITS | generation;
        if entry.write != 0 {
            entry.write = entry.read;
        }
        true
    }

    /// The physical page that the entry of a linear page in use holds.
    pub(crate) fn physical(&mut self, linear: u64) -> Option<u64> {
        let tag = linear & PAGE_BITS | self.generation;
        let entry = self.slot(linear);
        (entry.read == tag).then_some(entry.place & 0xffff_ffff_f000)
    }

    /// Notes a page of the table in use. `host` is the host address of its first byte.
    pub(crate) fn fill(&mut self, linear: u64, found: Found, host: usize, write: bool) {
        if self.table == Table::Empty as usize * SIZE {
            return;
        }
        self.note_size(linear, found.bits);
        let tag = linear & PAGE_BITS | self.generation;
        let place = found.physical | u64::from(found.global) | u64::from(self.global) << 48;
        *self.slot(linear) = Entry {
            read: tag,
            write: if write { tag } else { 0 },
            addend: host.wrapping_sub((linear & PAGE_BITS) as usize),
            place,
        };
    }

    fn note_size(&mut self, linear: u64, bits: u32) {
        if bits > 12 {
            let area = (linear >> 21) as usize % 4096;
            self.large[area / 64] |= 1 << (area % 64);
            self.giant |= bits == 30;
        }
    }

    /// The physical page of a code page, and whether it is global.
    pub(crate) fn code(&mut self, linear: u64, user: bool) -> Option<(u64, bool)> {
        let mark = u64::from(self.global) << 48 | GLOBAL;
        let entry = &mut self.code[usize::from(user) * CODE_SIZE + (linear >> 12) as usize % CODE_SIZE];
        let tag = linear & PAGE_BITS | self.generation;
        if entry.tag != tag {
            if entry.tag == 0
                || (entry.tag ^ tag) & PAGE_BITS != 0
                || entry.place & (0xffff << 48 | GLOBAL) != mark
            {
                return None;
            }
            entry.tag = tag;
        }
        let page = (linear >> 12) as usize % 4096;
        self.code_pages[page / 64] |= 1 << (page % 64);
        Some((entry.place & 0xffff_ffff_f000, entry.place & GLOBAL != 0))
    }

    /// Notes a code page.
    pub(crate) fn fill_code(&mut self, linear: u64, user: bool, found: Found) {
        self.note_size(linear, found.bits);
        let page = (linear >> 12) as usize % 4096;
        self.code_pages[page / 64] |= 1 << (page % 64);
        let entry = &mut self.code[usize::from(user) * CODE_SIZE + (linear >> 12) as usize % CODE_SIZE];
        entry.tag = linear & PAGE_BITS | self.generation;
        entry.place = found.physical | u64::from(found.global) | u64::from(self.global) << 48;
    }

    /// What a remembered way to code depends on in the present address space.
    pub(crate) fn code_key(&self) -> u64 {
        u64::from(self.epoch) << 32 | self.generation << 8
    }

    /// What a remembered way to code in a global page depends on.
    pub(crate) fn global_code_key(&self) -> u64 {
        u64::from(self.epoch) << 32 | 1 << 24
    }

    fn next_generation(&mut self) -> u64 {
        if self.last_generation == 0xfff {
            self.contexts.fill(0);
            self.entries.fill(Entry::default());
            self.code.fill(CodeEntry::default());
            self.large = [0; 64];
            self.giant = false;
            self.last_generation = 0;
            self.new_epoch();
        }
        self.last_generation += 1;
        self.last_generation
    }

    /// Forgets every way to code.
    pub(crate) fn new_epoch(&mut self) {
        self.code_pages = [0; 64];
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }

    /// Switches to the address space of a PCID (0 without PCIDs); `flush` drops what is known of it.
    pub(crate) fn switch(&mut self, pcid: u16, flush: bool) {
        self.context = usize::from(pcid) % 4096;
        let known = self.contexts[self.context];
        if flush || known == 0 {
            self.generation = self.next_generation();
            self.contexts[self.context] = self.generation as u16;
        } else {
            self.generation = u64::from(known);
        }
    }

    /// Drops what is known of the address space of one PCID, but for global pages.
    pub(crate) fn flush_context(&mut self, pcid: u16) {
        if usize::from(pcid) == self.context {
            self.switch(pcid, true);
        } else {
            self.contexts[usize::from(pcid) % 4096] = 0;
        }
    }

    /// Drops all but global pages, for every PCID.
    pub(crate) fn flush_local(&mut self) {
        self.contexts.fill(0);
        self.switch(self.context as u16, true);
    }

    /// Drops everything.
    pub(crate) fn flush(&mut self) {
        self.global = self.global.wrapping_add(1);
        if self.global == 0 {
            self.entries.fill(Entry::default());
            self.code.fill(CodeEntry::default());
        }
        self.flush_local();
        self.large = [0; 64];
        self.giant = false;
        self.new_epoch();
    }

    /// Drops everything, and really: no host address is left.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(Entry::default());
        self.code.fill(CodeEntry::default());
        self.flush();
    }

    /// Drops the translations of one linear address, in every address space.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        let area = (linear >> 21) as usize % 4096;
        if self.giant || self.large[area / 64] >> (area % 64) & 1 != 0 {
            return self.flush();
        }
        let page = linear & PAGE_BITS;
        for table in 0..4 {
            let entry = &mut self.entries[table * SIZE + (linear >> 12) as usize % SIZE];
            if entry.read & PAGE_BITS == page {
                *entry = Entry::default();
            }
        }
        for table in 0..2 {
            let entry = &mut self.code[table * CODE_SIZE + (linear >> 12) as usize % CODE_SIZE];
            if entry.tag & PAGE_BITS == page {
                *entry = CodeEntry::default();
            }
        }
        let number = (linear >> 12) as usize % 4096;
        if self.code_pages[number / 64] >> (number % 64) & 1 != 0 {
            self.new_epoch();
        }
    }

    /// Takes the permission to write a physical page away; tells whether there was one.
    pub(crate) fn protect(&mut self, physical: u64) -> bool {
        let mut found = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.write != 0) {
            if entry.place & 0xffff_ffff_f000 == physical & PAGE_BITS {
                entry.write = 0;
                found = true;
            }
        }
        found
    }

    /// Takes every permission to write away, after marking the pages as written.
    pub(crate) fn protect_all(&mut self, map: &Arc<Map>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.write != 0) {
            entry.write = 0;
            let physical = entry.place & 0xffff_ffff_f000;
            if let Some(region) = map.find(physical) {
                region.block.mark_dirty(region.page(physical));
            }
        }
    }
}
