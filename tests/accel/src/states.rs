//! States in which tiny guests begin, and the tables that they need in memory.
//!
//! | address | what |
//! |---|---|
//! | 0x500 | global descriptor table: 8 code 64, 16 data, 24 code 32, 32 code 16, 40 data 16, 48 user's code 64, 56 user's data |
//! | 0x1000 | interrupt descriptor table of long mode |
//! | 0x7000 | below it: stack |
//! | 0x8000 | code |
//! | 0x10000–0x15fff | page tables: the first 4 GiB as they are, in pages of 2 MiB |
//! | from 0x20000 | the test's |

use guestmem::Block;
use vcpu::state::{CpuState, Segment, Table, msr};

/// Where the code begins.
pub const CODE: u64 = 0x8000;
/// Where the stack begins (downwards).
pub const STACK: u64 = 0x7000;
/// Where the interrupt descriptor table lies.
pub const IDT: u64 = 0x1000;
/// Where the global descriptor table lies.
pub const GDT: u64 = 0x500;
/// Where page tables lie.
pub const PAGES: u64 = 0x1_0000;
/// First address of the test's own memory.
pub const DATA: u64 = 0x2_0000;

/// Writes the tables of descriptors and pages.
pub fn write_tables(memory: &Block) {
    let word = |address: u64, value: u64| {
        memory
            .write(address, &value.to_le_bytes())
            .expect("memory holds its tables");
    };
    let descriptors = [
        0,
        0x00af_9b00_0000_ffff_u64,
        0x00cf_9300_0000_ffff,
        0x00cf_9b00_0000_ffff,
        0x0000_9b00_0000_ffff,
        0x0000_9300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
    ];
    for (n, descriptor) in descriptors.into_iter().enumerate() {
        word(GDT + 8 * n as u64, descriptor);
    }
    word(PAGES, (PAGES + 0x1000) | 7);
    for gib in 0..4 {
        word(PAGES + 0x1000 + 8 * gib, (PAGES + 0x2000 + 0x1000 * gib) | 7);
        for page in 0..512 {
            word(
                PAGES + 0x2000 + 0x1000 * gib + 8 * page,
                (gib << 30) + (page << 21) | 0x87,
            );
        }
    }
}

/// Points a vector of long mode's table at a handler, as an interrupt gate.
pub fn gate(memory: &Block, vector: u8, handler: u64) {
    let low = (handler & 0xffff) | 8 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
    let at = IDT + 16 * u64::from(vector);
    memory
        .write(at, &low.to_le_bytes())
        .expect("memory holds its tables");
    memory
        .write(at + 8, &(handler >> 32).to_le_bytes())
        .expect("memory holds its tables");
}

fn segment(selector: u16, limit: u32, attributes: u32) -> Segment {
    Segment {
        selector,
        base: 0,
        limit,
        attributes,
    }
}

/// Real mode at [`CODE`], all segments at 0.
#[must_use]
pub fn real(number: u32) -> CpuState {
    let mut state = CpuState::reset(number);
    state.segments[1] = segment(0, 0xffff, 0x9b);
    state.cr0 = 0x10;
    state.rip = CODE;
    state.registers[4] = STACK;
    state
}

/// Flat 32-bit protected mode without paging.
#[must_use]
pub fn protected(number: u32) -> CpuState {
    let mut state = real(number);
    state.segments = [segment(16, u32::MAX, 0xc093); 6];
    state.segments[1] = segment(24, u32::MAX, 0xc09b);
    state.gdt = Table { base: GDT, limit: 63 };
    state.cr0 = 0x11;
    state
}

/// Long mode with paging; the task register holds a task that is never used.
#[must_use]
pub fn long(number: u32) -> CpuState {
    let mut state = protected(number);
    state.segments[1] = segment(8, u32::MAX, 0xa09b);
    state.idt = Table {
        base: IDT,
        limit: 0xfff,
    };
    (state.cr0, state.cr3, state.cr4) = (0x8000_0033, PAGES, 0x620);
    state.set_msr(msr::EFER, 0x500);
    state
}

/// Long mode in ring 3, which may use ports.
#[must_use]
pub fn user(number: u32) -> CpuState {
    let mut state = long(number);
    state.segments = [segment(56 | 3, u32::MAX, 0xc0f3); 6];
    state.segments[1] = segment(48 | 3, u32::MAX, 0xa0fb);
    state.rflags |= 3 << 12;
    state
}
