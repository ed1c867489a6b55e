//! The software CPU: x86-64 without help from the host's processor.
//!
//! ```text
//!   Vcpu::run ── run: boundary (requests, interrupts, time) ⇄ execute: blocks of operations
//!                                                                │
//!               decode + table ── block cache ───────────────────┤
//!               ops (handlers) ── cpu (state, lazy flags) ── memory (TLB, walker, map)
//!               deliver, transfer, segments, task: events and far transfers
//!               apic, msr, time, cpuid: what a processor has besides instructions
//! ```
//!
//! An instruction is decoded once (`decode`, by iced-x86) into an operation: a handler chosen by `table` with resolved operands.
//! Blocks of them are kept by physical address (`block`) and linked; `run` looks at everything else between blocks. The counter of
//! retired instructions is exact at every boundary between instructions; a repeated string instruction counts once. With a clock
//! that counts instructions everything is repeatable.
//!
//! Left out: virtual-8086 mode and 16-bit task states stop the run with a fault; performance counters and machine checks are not
//! announced.

mod apic;
mod block;
mod cpu;
mod cpuid;
mod decode;
mod deliver;
mod exception;
mod execute;
mod flags;
mod int;
mod memory;
mod msr;
mod op;
mod ops;
mod outside;
mod run;
mod saved;
mod segments;
mod shared;
mod table;
mod task;
mod time;
mod transfer;
mod vm;

pub use vm::Software;
