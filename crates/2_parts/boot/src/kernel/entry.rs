//! The state in which a processor enters a kernel, and what this state refers to in memory: the descriptor table
//! and the page tables.
//!
//! After Documentation/arch/x86/boot.rst (sections "32-bit Boot Protocol" and "64-bit Boot Protocol") and Xen's
//! docs/misc/pvh.pandoc.

use crate::Chunk;
use crate::layout::{GIB, MIB};

/// Where the global descriptor table lies.
const GDT: u64 = 0x600;
/// The identity page tables: one PML4, one page-directory-pointer table, four page directories.
const PAGE_TABLES: u64 = 0x9000;
/// Memory that the page tables cover.
const MAPPED: u64 = 4 * GIB;

/// Linux's `__BOOT_CS`.
const CODE_SELECTOR: u16 = 0x10;
/// Linux's `__BOOT_DS`.
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;

/// How the first processor begins. The others wait for INIT and SIPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Linux's 64-bit entry: long mode, the first 4 GiB mapped one to one.
    Long64 {
        /// The first instruction.
        rip: u64,
        /// The zero page.
        rsi: u64,
    },
    /// Linux's 32-bit entry: protected mode, flat, no paging.
    Protected32 {
        /// The first instruction.
        eip: u32,
        /// The zero page.
        esi: u32,
    },
    /// Xen's PVH entry: protected mode, flat, no paging.
    Pvh {
        /// The first instruction.
        eip: u32,
        /// The `hvm_start_info`.
        ebx: u32,
    },
    /// The processor's own state after reset: firmware runs.
    Reset,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Linear address of its first byte.
    pub base: u64,
    /// Offset of its last byte, granularity resolved.
    pub limit: u32,
    /// Bits 40–47 of the descriptor in bits 0–7 and its bits 52–55 in bits 12–15 (Intel SDM volume 3, table 25-2).
    pub access: u16,
}

impl Segment {
    /// The eight bytes of its descriptor; of a system segment in long mode the lower half.
    #[must_use]
    pub fn descriptor(&self) -> u64 {
        let granular = self.access & 0x8000 != 0;
        let limit = u64::from(if granular { self.limit >> 12 } else { self.limit });
        (limit & 0xFFFF)
            | ((self.base & 0xFF_FFFF) << 16)
            | (u64::from(self.access & 0xFF) << 40)
            | ((limit >> 16 & 0xF) << 48)
            | (u64::from(self.access >> 12) << 52)
            | ((self.base >> 24 & 0xFF) << 56)
    }
}

/// The registers that differ from the state after reset. General registers that are not named are zero, LDTR is
/// unusable, the IDT has limit 0, interrupts are off, and the local APIC, FPU and MSRs are as after reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// RIP.
    pub rip: u64,
    /// RSI.
    pub rsi: u64,
    /// RBX.
    pub rbx: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// The extended feature enable register.
    pub efer: u64,
    /// CS.
    pub code: Segment,
    /// DS, ES, FS, GS and SS.
    pub data: Segment,
    /// TR: there is none, but VMX wants one.
    pub task: Segment,
    /// Base of the GDT.
    pub gdt_base: u64,
    /// Limit of the GDT.
    pub gdt_limit: u16,
}

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_FIXED: u64 = 2;

const FLAT: u32 = u32::MAX;
const CODE_64: u16 = 0xA09B;
const CODE_32: u16 = 0xC09B;
const DATA: u16 = 0xC093;
const BUSY_TSS: u16 = 0x008B;

impl Entry {
    /// The register set of this entry; `None` for [`Entry::Reset`].
    #[must_use]
    pub fn registers(&self) -> Option<Registers> {
        let data = Segment {
            selector: DATA_SELECTOR,
            base: 0,
            limit: FLAT,
            access: DATA,
        };
        let code = Segment {
            selector: CODE_SELECTOR,
            base: 0,
            limit: FLAT,
            access: CODE_32,
        };
        let flat = Registers {
            rip: 0,
            rsi: 0,
            rbx: 0,
            rflags: RFLAGS_FIXED,
            cr0: CR0_PE | CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            code,
            data,
            task: Segment {
                selector: TASK_SELECTOR,
                base: 0,
                limit: 0x67,
                access: BUSY_TSS,
            },
            gdt_base: GDT,
            gdt_limit: 6 * 8 - 1,
        };
        match *self {
            Entry::Long64 { rip, rsi } => Some(Registers {
                rip,
                rsi,
                cr0: CR0_PE | CR0_ET | CR0_PG,
                cr3: PAGE_TABLES,
                cr4: CR4_PAE,
                efer: EFER_LME | EFER_LMA,
                code: Segment {
                    access: CODE_64,
                    ..code
                },
                ..flat
            }),
            Entry::Protected32 { eip, esi } => Some(Registers {
                rip: eip.into(),
                rsi: esi.into(),
                ..flat
            }),
            Entry::Pvh { eip, ebx } => Some(Registers {
                rip: eip.into(),
                rbx: ebx.into(),
                ..flat
            }),
            Entry::Reset => None,
        }
    }

    /// The descriptor table and, for the 64-bit entry, the page tables.
    pub(crate) fn tables(&self) -> Vec<Chunk<'static>> {
        let Some(registers) = self.registers() else {
            return Vec::new();
        };
        let mut gdt = [0_u64; 6];
        for segment in [registers.code, registers.data, registers.task] {
            gdt[usize::from(segment.selector / 8)] = segment.descriptor();
        }
        let gdt = gdt.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let mut chunks = vec![Chunk::owned(GDT, gdt)];
        if registers.cr3 != 0 {
            chunks.push(Chunk::owned(registers.cr3, identity_map(registers.cr3)));
        }
        chunks
    }
}

/// Page tables at `base` that map the first 4 GiB to themselves with pages of 2 MiB (Intel SDM volume 3, 4.5).
fn identity_map(base: u64) -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 0x03;
    const LARGE: u64 = 0x80;
    const PAGE: u64 = 4096;
    let directories = MAPPED / GIB;
    let mut entries = vec![0_u64; 1024];
    entries[0] = (base + PAGE) | PRESENT_WRITABLE;
    for index in 0..directories {
        entries[512 + index as usize] = (base + (2 + index) * PAGE) | PRESENT_WRITABLE;
    }
    entries.extend((0..directories * 512).map(|page| (page * 2 * MIB) | LARGE | PRESENT_WRITABLE));
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_the_manuals() {
        let long = Entry::Long64 { rip: 0, rsi: 0 }.registers().unwrap();
        assert_eq!(long.code.descriptor(), 0x00AF_9B00_0000_FFFF);
        assert_eq!(long.data.descriptor(), 0x00CF_9300_0000_FFFF);
        let flat = Entry::Pvh { eip: 0, ebx: 0 }.registers().unwrap();
        assert_eq!(flat.code.descriptor(), 0x00CF_9B00_0000_FFFF);
        assert_eq!(flat.task.descriptor(), 0x0000_8B00_0000_0067);
    }

    #[test]
    fn every_page_of_the_first_four_gib_maps_to_itself() {
        let base = 0x9000;
        let tables = identity_map(base);
        let entry = |address: u64| {
            let at = (address - base) as usize;
            u64::from_le_bytes(tables[at..at + 8].try_into().unwrap())
        };
        for address in [0, 0x20_0000, 0x1234_5678, 0xFEE0_0000, 0xFFFF_FFFF_u64] {
            let pointers = entry(base) & !0xFFF;
            let directory = entry(pointers + (address >> 30) * 8) & !0xFFF;
            let page = entry(directory + (address >> 21 & 511) * 8);
            assert_eq!(page & 0xFFF, 0x83);
            assert_eq!(page & !0x1F_FFFF, address & !0x1F_FFFF);
        }
        assert_eq!(entry(base + 8), 0, "nothing else is mapped");
    }

    #[test]
    fn firmware_starts_as_the_processor_does() {
        assert!(Entry::Reset.registers().is_none());
        assert!(Entry::Reset.tables().is_empty());
    }
}
