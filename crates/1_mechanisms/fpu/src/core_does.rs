//! Instructions of the same feature sets that are not this crate's but the core's.

use iced_x86::Mnemonic as M;

/// Mnemonics that a core executes by itself, each with the reason.
pub const CORE_DOES: &[(M, &str)] = &[
    (M::Fxsave, "memory of 512 bytes: Fpu::fxsave"),
    (M::Fxsave64, "memory of 512 bytes: Fpu::fxsave"),
    (M::Fxrstor, "memory of 512 bytes: Fpu::fxrstor"),
    (M::Fxrstor64, "memory of 512 bytes: Fpu::fxrstor"),
    (M::Xsave, "memory of 576 bytes and XCR0: Fpu::xsave"),
    (M::Xsave64, "memory of 576 bytes and XCR0: Fpu::xsave"),
    (M::Xsaveopt, "memory of 576 bytes and XCR0: Fpu::xsave"),
    (M::Xsaveopt64, "memory of 576 bytes and XCR0: Fpu::xsave"),
    (M::Xrstor, "memory of 576 bytes and XCR0: Fpu::xrstor"),
    (M::Xrstor64, "memory of 576 bytes and XCR0: Fpu::xrstor"),
    (M::Xgetbv, "XCR0 is the core's"),
    (M::Xsetbv, "XCR0 is the core's"),
    (M::Ldmxcsr, "a word of memory: Fpu::set_mxcsr"),
    (M::Stmxcsr, "a word of memory: Fpu::mxcsr"),
    (M::Movnti, "a move of a general register"),
    (M::Crc32, "works on general registers"),
    (M::Lfence, "order of memory"),
    (M::Mfence, "order of memory"),
    (M::Sfence, "order of memory"),
    (M::Pause, "a hint"),
    (M::Prefetch, "a hint"),
    (M::Prefetchw, "a hint"),
    (M::Prefetchnta, "a hint"),
    (M::Prefetcht0, "a hint"),
    (M::Prefetcht1, "a hint"),
    (M::Prefetcht2, "a hint"),
    (M::Clflush, "caches"),
    (M::Monitor, "waits for a write"),
    (M::Mwait, "waits for a write"),
];
