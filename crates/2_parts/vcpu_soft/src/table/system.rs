//! The part of the table with system instructions and ports.

use iced_x86::Mnemonic as M;

use crate::decode::Builder;
use crate::op::Handler;
use crate::ops::{branch, by_size, control, ports, protect, system};

pub(super) fn system_part(b: &mut Builder) -> Option<Handler> {
    let size = if b.is_register(0) { b.size_of(0) } else { 0 };
    let run: Handler = match b.i.mnemonic() {
        M::Rdtsc => system::rdtsc,
        M::Rdtscp => system::rdtscp,
        M::Rdpmc => system::rdpmc,
        M::Rdmsr => system::rdmsr,
        M::Swapgs => system::swapgs,
        M::Cli => system::cli,
        M::Clac | M::Stac => {
            b.op.imm = u64::from(b.i.mnemonic() == M::Stac);
            system::access_control
        }
        M::Invd | M::Wbinvd | M::Wbnoinvd => system::cache,
        M::Clflush | M::Clflushopt => system::clflush,
        M::Clts => control::clts,
        M::Xgetbv => control::xgetbv,
        M::Rdrand | M::Rdseed => by_size!(size, system::random<_>),
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => {
            let gs = matches!(b.i.mnemonic(), M::Rdgsbase | M::Wrgsbase);
            b.op.seg = if gs { 5 } else { 4 };
            if matches!(b.i.mnemonic(), M::Rdfsbase | M::Rdgsbase) {
                by_size!(size, system::read_base<_>)
            } else {
                by_size!(size, system::write_base<_>)
            }
        }
        M::Into => branch::into,
        M::Bound => {
            if size == 2 {
                branch::bound::<u16>
            } else {
                branch::bound::<u32>
            }
        }
        _ => {
            let run = leaving(b)?;
            b.ends = true;
            return Some(run);
        }
    };
    Some(run)
}

/// What always ends a block.
fn leaving(b: &mut Builder) -> Option<Handler> {
    Some(match b.i.mnemonic() {
        M::Hlt => system::hlt,
        M::Cpuid => system::cpuid,
        M::Wrmsr => system::wrmsr,
        M::Invlpg => system::invlpg,
        M::Invpcid => system::invpcid,
        M::Sti => system::sti,
        M::Syscall => system::syscall,
        M::Sysret | M::Sysretq => {
            b.set_size(if b.i.code() == iced_x86::Code::Sysretq {
                8
            } else {
                4
            });
            system::sysret
        }
        M::Sysenter => system::sysenter,
        M::Sysexit | M::Sysexitq => {
            b.set_size(if b.i.code() == iced_x86::Code::Sysexitq {
                8
            } else {
                4
            });
            system::sysexit
        }
        M::Xsetbv => control::xsetbv,
        M::Lmsw => {
            b.op.form.extra = u8::from(b.is_memory(0));
            control::lmsw
        }
        M::Int => {
            b.immediate(0);
            branch::int
        }
        M::Int3 => {
            b.op.imm = 3;
            branch::int
        }
        M::Int1 => branch::int1,
        M::Ud0 | M::Ud1 | M::Ud2 => branch::undefined,
        M::In => {
            let dx = b.is_register(1);
            if !dx {
                b.immediate(1);
            }
            match (b.size_of(0), dx) {
                (1, true) => ports::input::<u8, true>,
                (2, true) => ports::input::<u16, true>,
                (_, true) => ports::input::<u32, true>,
                (1, false) => ports::input::<u8, false>,
                (2, false) => ports::input::<u16, false>,
                (_, false) => ports::input::<u32, false>,
            }
        }
        M::Out => {
            let dx = b.is_register(0);
            if !dx {
                b.immediate(0);
            }
            match (b.size_of(1), dx) {
                (1, true) => ports::output::<u8, true>,
                (2, true) => ports::output::<u16, true>,
                (_, true) => ports::output::<u32, true>,
                (1, false) => ports::output::<u8, false>,
                (2, false) => ports::output::<u16, false>,
                (_, false) => ports::output::<u32, false>,
            }
        }
        _ => return None,
    })
}

pub(super) fn protection(b: &mut Builder) -> Option<Handler> {
    let memory = b.is_memory(0) || b.is_memory(1);
    b.op.form.extra = u8::from(memory);
    let far = |b: &mut Builder, segment: u64| {
        b.op.imm = segment;
        b.ends = true;
        match b.size_of(0) {
            2 => protect::load_far::<u16>,
            4 => protect::load_far::<u32>,
            _ => protect::load_far::<u64>,
        }
    };
    let second = u64::from(matches!(
        b.i.mnemonic(),
        M::Lidt | M::Sidt | M::Str | M::Lsl | M::Verw
    ));
    let run: Handler = match b.i.mnemonic() {
        M::Les => return Some(far(b, 0)),
        M::Lss => return Some(far(b, 2)),
        M::Lds => return Some(far(b, 3)),
        M::Lfs => return Some(far(b, 4)),
        M::Lgs => return Some(far(b, 5)),
        M::Lgdt | M::Lidt => {
            b.set_size(b.named_size());
            protect::load_table
        }
        M::Sgdt | M::Sidt => protect::store_table,
        M::Lldt => protect::lldt,
        M::Ltr => protect::ltr,
        M::Sldt | M::Str => protect::store_selector,
        M::Smsw => protect::smsw,
        M::Lar | M::Lsl => by_size!(b.size_of(0), protect::access_rights<_>),
        M::Verr | M::Verw => protect::verify,
        M::Arpl => protect::arpl,
        _ => {
            b.op.form.extra = 0;
            return None;
        }
    };
    b.op.imm = second;
    Some(run)
}
