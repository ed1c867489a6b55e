//! Decoded code: straight runs of operations, kept by physical address, linked to each other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::cpu::Cpu;
use crate::decode::{Decoded, LONGEST, decode};
use crate::memory::access::canonical;
use crate::memory::walk::{Access, walk};
use crate::op::{Op, Stop};

/// Most operations in a block.
const MOST: usize = 64;
/// Most operations in all; then everything is decoded anew.
const POOL: usize = 1 << 19;
/// Remembered ways from instruction pointers to blocks.
const JUMPS: usize = 4096;
const PAGE: u64 = 4096;
/// No page.
const NONE: u64 = u64::MAX;

/// A remembered way to a block: valid while the key is one of the present ones.
#[derive(Clone, Copy, Default)]
pub(crate) struct Link {
    key: u64,
    rip: u64,
    block: u32,
}

/// A run of operations.
pub(crate) struct Block {
    /// First operation in the pool.
    start: u32,
    /// Operations; 0 when the block has been dropped.
    len: u16,
    /// Bytes of code.
    bytes: u16,
    /// Physical address of the first byte.
    physical: u64,
    /// Physical page of what lies beyond the first page, where the only instruction crosses it.
    second: u64,
    /// Whether all of it is in global pages.
    global: bool,
    /// After the last operation, and its branch target.
    links: [Link; 2],
}

impl Block {
    /// Number of operations.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// What is decoded of a page.
#[derive(Default)]
struct Code {
    /// Which 64-byte pieces hold decoded bytes.
    pieces: u64,
    blocks: Vec<u32>,
    /// Rewritten so many times since it was decoded first.
    rewritten: u32,
}

/// A hash of small integers: multiplication.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 29;
    }
}

type Table<V> = HashMap<u64, V, BuildHasherDefault<Mix>>;

/// The decoded code of a processor.
pub(crate) struct Cache {
    pool: Vec<Op>,
    blocks: Vec<Block>,
    /// By physical address and size of code.
    index: Table<u32>,
    pages: Table<Code>,
    jumps: Box<[Link]>,
}

/// A code page.
#[derive(Clone, Copy)]
struct CodePage {
    physical: u64,
    global: bool,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache {
            pool: Vec::new(),
            blocks: Vec::new(),
            index: Table::default(),
            pages: Table::default(),
            jumps: vec![Link::default(); JUMPS].into_boxed_slice(),
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.pool.clear();
        self.blocks.clear();
        self.index.clear();
        self.pages.clear();
        self.jumps.fill(Link::default());
    }

    /// A block.
    #[inline(always)]
    pub(crate) fn block(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }

    /// The first operations of a block.
    #[inline(always)]
    pub(crate) fn ops(&self, block: &Block, count: usize) -> &[Op] {
        let start = block.start as usize;
        &self.pool[start..start + count]
    }

    /// The block that a link of another leads to, if it is the one wanted now.
    #[inline(always)]
    pub(crate) fn follow(&self, from: u32, slot: usize, cpu: &Cpu) -> Option<u32> {
        let link = &self.blocks[from as usize].links[slot & 1];
        let (local, global) = cpu.code_keys();
        let fits = link.rip == cpu.rip && (link.key == local || link.key == global);
        (fits && self.blocks[link.block as usize].len != 0).then_some(link.block)
    }

    /// Remembers which block a link leads to.
    pub(crate) fn set_link(&mut self, from: u32, slot: usize, to: u32, cpu: &Cpu) {
        let link = self.link_to(to, cpu);
        if let Some(block) = self.blocks.get_mut(from as usize) {
            block.links[slot & 1] = link;
        }
    }

    fn link_to(&self, to: u32, cpu: &Cpu) -> Link {
        let (local, global) = cpu.code_keys();
        Link {
            key: if self.blocks[to as usize].global {
                global
            } else {
                local
            },
            rip: cpu.rip,
            block: to,
        }
    }

    /// The block at the instruction pointer, decoded if need be. The answer tells whether block numbers have been given anew.
    #[inline]
    pub(crate) fn find(&mut self, cpu: &mut Cpu) -> Result<(u32, bool), Stop> {
        let slot = (cpu.rip ^ cpu.rip >> 12) as usize % JUMPS;
        let link = self.jumps[slot];
        let (local, global) = cpu.code_keys();
        if link.rip == cpu.rip
            && (link.key == local || link.key == global)
            && self.blocks[link.block as usize].len != 0
        {
            return Ok((link.block, false));
        }
        let (block, renumbered) = self.find_slow(cpu)?;
        self.jumps[slot] = self.link_to(block, cpu);
        Ok((block, renumbered))
    }

    #[cold]
    fn find_slow(&mut self, cpu: &mut Cpu) -> Result<(u32, bool), Stop> {
        let linear = cpu.code_address()?;
        let page = cpu.code_page(linear)?;
        let physical = page.physical | linear & (PAGE - 1);
        let key = physical << 2 | u64::from(cpu.bits >> 5);
        if let Some(&number) = self.index.get(&key) {
            let block = &self.blocks[number as usize];
            if block.second == NONE {
                return Ok((number, false));
            }
            let beyond = cpu.code_page(cpu.wrap_code((linear | (PAGE - 1)) + 1))?;
            if beyond.physical == block.second {
                return Ok((number, false));
            }
            self.drop_block(number);
        }
        let renumbered = self.pool.len() + MOST > POOL;
        if renumbered {
            self.clear();
        }
        let block = self.decode(cpu, linear, page)?;
        let number = self.blocks.len() as u32;
        self.note(&block, number);
        self.blocks.push(block);
        self.index.insert(key, number);
        Ok((number, renumbered))
    }

    /// Decodes from a linear address on.
    fn decode(&mut self, cpu: &mut Cpu, linear: u64, page: CodePage) -> Result<Block, Stop> {
        let physical = page.physical | linear & (PAGE - 1);
        cpu.claim_code(physical);
        let mut code = [0; PAGE as usize];
        let mut available = cpu.read_code(physical, &mut code);
        let start = self.pool.len();
        let mut block = Block {
            start: start as u32,
            len: 0,
            bytes: 0,
            physical,
            second: NONE,
            global: page.global,
            links: [Link::default(); 2],
        };
        let mut at = 0;
        while usize::from(block.len) < MOST {
            let ip = cpu.rip.wrapping_add(at as u64) & cpu.ip_mask();
            let rest = &code[at..available.min(at + LONGEST)];
            if rest.is_empty() {
                break;
            }
            match decode(rest, cpu.bits, ip, cpu.rip) {
                Decoded::Op(mut op, ends) => {
                    at += usize::from(op.len);
                    op.number = block.len as u8;
                    op.next = at as u16;
                    self.pool.push(op);
                    block.len += 1;
                    if ends || block.second != NONE {
                        break;
                    }
                }
                Decoded::Short if at == 0 && block.second == NONE => {
                    // The first instruction goes on in the next page.
                    let beyond = cpu.code_page(cpu.wrap_code((linear | (PAGE - 1)) + 1))?;
                    cpu.claim_code(beyond.physical);
                    let more = LONGEST - available;
                    cpu.read_code(beyond.physical, &mut code[available..available + more]);
                    available += more;
                    block.second = beyond.physical;
                    block.global &= beyond.global;
                }
                Decoded::Short => break,
            }
        }
        block.bytes = at as u16;
        Ok(block)
    }

    /// Notes which pieces of pages a block holds.
    fn note(&mut self, block: &Block, number: u32) {
        for (page, first, last) in block.pieces() {
            let code = self.pages.entry(page).or_default();
            code.blocks.push(number);
            for piece in first / 64..=last / 64 {
                code.pieces |= 1 << piece;
            }
        }
    }

    fn drop_block(&mut self, number: u32) {
        let block = &mut self.blocks[number as usize];
        block.len = 0;
        let base = block.physical << 2;
        for size in 0..4 {
            if self.index.get(&(base | size)) == Some(&number) {
                self.index.remove(&(base | size));
            }
        }
    }

    /// Drops what was decoded from some bytes; tells whether nothing is decoded from their page any more.
    pub(crate) fn rewrite(&mut self, physical: u64, len: u64) -> bool {
        let page = physical / PAGE;
        let Some(code) = self.pages.get_mut(&page) else {
            return true;
        };
        let (first, last) = (physical % PAGE, (physical % PAGE + len - 1).min(PAGE - 1));
        let touched = (first / 64..=last / 64).any(|piece| code.pieces >> piece & 1 != 0);
        if !touched {
            return false;
        }
        let numbers = std::mem::take(&mut code.blocks);
        code.rewritten += 1;
        let whole = code.rewritten >= 4;
        let mut kept = Vec::new();
        let mut hit = false;
        for number in numbers {
            let block = &self.blocks[number as usize];
            if block.len == 0 {
                continue;
            }
            let meets = block
                .pieces()
                .any(|(of, start, end)| of == page && start <= last && first <= end);
            hit |= meets;
            if meets || whole {
                self.drop_block(number);
            } else {
                kept.push(number);
            }
        }
        let empty = kept.is_empty();
        if empty {
            self.pages.remove(&page);
        } else if let Some(code) = self.pages.get_mut(&page) {
            code.blocks = kept;
            if !hit {
                code.rewritten -= 1;
            }
        }
        empty
    }

    /// Drops what was decoded from a page.
    pub(crate) fn forget_page(&mut self, physical: u64) {
        if let Some(code) = self.pages.remove(&(physical / PAGE)) {
            for number in code.blocks {
                self.drop_block(number);
            }
        }
    }
}

impl Block {
    /// The pages it lies in, with the first and last offset in each.
    fn pieces(&self) -> impl Iterator<Item = (u64, u64, u64)> + use<> {
        let start = self.physical % PAGE;
        let end = start + u64::from(self.bytes).max(1) - 1;
        let first = (self.physical / PAGE, start, end.min(PAGE - 1));
        let second = (self.second != NONE).then(|| (self.second / PAGE, 0, end.saturating_sub(PAGE)));
        std::iter::once(first).chain(second)
    }
}

impl Cpu {
    /// Linear address of the instruction pointer, checked.
    fn code_address(&mut self) -> Result<u64, Stop> {
        if self.long {
            if !canonical(self.rip) {
                return self.protection(0);
            }
            return Ok(self.rip);
        }
        if self.rip > u64::from(self.code_segment.1) {
            return self.protection(0);
        }
        Ok(self.rip.wrapping_add(self.code_segment.0) & 0xffff_ffff)
    }

    fn wrap_code(&self, linear: u64) -> u64 {
        if self.long { linear } else { linear & 0xffff_ffff }
    }

    /// The page of code at a linear address.
    fn code_page(&mut self, linear: u64) -> Result<CodePage, Stop> {
        let user = self.cpl == 3;
        if let Some((physical, global)) = self.tlb.code(linear, user) {
            return Ok(CodePage { physical, global });
        }
        let access = Access {
            fetch: true,
            user,
            ..Access::default()
        };
        match walk(&self.map, &self.mode, self.cr3, linear, access) {
            Ok(walked) => {
                self.claim_tables(&walked.entries);
                self.tlb.fill_code(linear, user, walked.found);
                Ok(CodePage {
                    physical: walked.found.physical,
                    global: walked.found.global,
                })
            }
            Err(code) => self.page_fault(linear, code),
        }
    }

    /// With a counting clock: marks the tables that a translation came from as code is marked, so that a write to them drops it.
    /// What the translation cache holds is then always what a walk would find, and no run depends on when it was filled.
    pub(crate) fn claim_tables(&mut self, entries: &[u64; 4]) {
        if self.time.host {
            return;
        }
        for at in entries.iter().filter(|at| **at != 0) {
            if self.tables.insert(at / PAGE) {
                self.claim_code(*at);
            }
        }
    }

    /// Drops all translations when a page that was written holds tables which some of them came from.
    pub(crate) fn table_written(&mut self, physical: u64) {
        if self.tables.contains(&(physical / PAGE)) {
            self.tables.clear();
            self.tlb.flush();
        }
    }

    /// Marks a page as code before it is decoded: from now on every write to it is told.
    fn claim_code(&mut self, physical: u64) {
        let Some(region) = self.map.find(physical) else {
            return;
        };
        let page = region.page(physical);
        if region.block.is_code(page) {
            return;
        }
        region.block.mark_code(page);
        let block = region.block.clone();
        let map = std::sync::Arc::clone(&self.map);
        for place in map.places(&block, page) {
            self.tlb.protect(place);
            self.shared.others(self.number, |mailbox| mailbox.protect(place));
        }
    }
}
