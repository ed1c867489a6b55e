//! The part of the table that moves the stack and the instruction pointer.

use iced_x86::{Mnemonic as M, OpKind};

use super::condition;
use crate::decode::Builder;
use crate::op::Handler;
use crate::ops::{branch, stack};

/// Size of what an instruction pushes or pops.
fn stack_size(b: &Builder) -> u64 {
    u64::from(b.i.stack_pointer_increment().unsigned_abs())
}

pub(super) fn stack_and_branches(b: &mut Builder) -> Option<Handler> {
    macro_rules! sized {
        ($size:expr, $($path:ident)::+) => {
            match $size {
                2 => $($path)::+::<u16>,
                4 => $($path)::+::<u32>,
                _ => $($path)::+::<u64>,
            }
        };
    }
    Some(match b.i.mnemonic() {
        M::Push => {
            let size = stack_size(b);
            if b.is_memory(0) {
                sized!(size, stack::push_m)
            } else if !b.is_register(0) {
                b.immediate(0);
                sized!(size, stack::push_i)
            } else if b.i.op_register(0).is_segment_register() {
                b.op.src = crate::decode::segment(b.i.op_register(0));
                sized!(size, stack::push_s)
            } else {
                sized!(size, stack::push_r)
            }
        }
        M::Pop => {
            let size = stack_size(b);
            if b.is_memory(0) {
                sized!(size, stack::pop_m)
            } else if b.i.op_register(0).is_segment_register() {
                b.op.dst = crate::decode::segment(b.i.op_register(0));
                b.ends = true;
                sized!(size, stack::pop_s)
            } else {
                sized!(size, stack::pop_r)
            }
        }
        M::Pusha => stack::push_all::<u16>,
        M::Pushad => stack::push_all::<u32>,
        M::Popa => stack::pop_all::<u16>,
        M::Popad => stack::pop_all::<u32>,
        M::Pushf | M::Pushfd | M::Pushfq => sized!(stack_size(b), stack::push_flags),
        M::Popf | M::Popfd | M::Popfq => {
            b.ends = true;
            sized!(stack_size(b), stack::pop_flags)
        }
        M::Enter => {
            b.op.imm = b.i.immediate(0) & 0xffff | (b.i.immediate(1) & 31) << 16;
            sized!(b.named_size(), stack::enter)
        }
        M::Leave => sized!(b.named_size(), stack::leave),
        M::Ret | M::Retf => {
            let size = b.named_size();
            b.set_size(size);
            b.ends = true;
            if b.i.op_count() > 0 {
                b.immediate(0);
            }
            if b.i.mnemonic() == M::Retf {
                branch::far_ret
            } else {
                sized!(size, branch::ret)
            }
        }
        M::Iret | M::Iretd | M::Iretq => {
            b.set_size(b.named_size());
            b.ends = true;
            branch::iret
        }
        M::Jmp | M::Call => return jump(b),
        M::Loop | M::Loope | M::Loopne | M::Jcxz | M::Jecxz | M::Jrcxz => return loops(b),
        _ => return conditional_jump(b),
    })
}

fn jump(b: &mut Builder) -> Option<Handler> {
    let call = b.i.mnemonic() == M::Call;
    b.ends = true;
    macro_rules! sized {
        ($size:expr, $jump:ident, $call:ident) => {
            match ($size, call) {
                (2, false) => branch::$jump::<u16>,
                (4, false) => branch::$jump::<u32>,
                (_, false) => branch::$jump::<u64>,
                (2, true) => branch::$call::<u16>,
                (4, true) => branch::$call::<u32>,
                (_, true) => branch::$call::<u64>,
            }
        };
    }
    Some(match b.i.op_kind(0) {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            let size = b.size();
            b.branch();
            sized!(size, jmp, call)
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => {
            let wide = b.i.op_kind(0) == OpKind::FarBranch32;
            b.op.imm = if wide {
                u64::from(b.i.far_branch32())
            } else {
                u64::from(b.i.far_branch16())
            };
            b.op.disp = u64::from(b.i.far_branch_selector());
            b.set_size(if wide { 4 } else { 2 });
            if call {
                branch::far_i::<true>
            } else {
                branch::far_i::<false>
            }
        }
        OpKind::Register => sized!(b.size_of(0), jmp_r, call_r),
        _ if b.i.is_jmp_far_indirect() || b.i.is_call_far_indirect() => {
            let size = b.i.memory_size().size() as u64 - 2;
            b.set_size(size);
            match (size, call) {
                (2, false) => branch::far_m::<u16, false>,
                (4, false) => branch::far_m::<u32, false>,
                (_, false) => branch::far_m::<u64, false>,
                (2, true) => branch::far_m::<u16, true>,
                (4, true) => branch::far_m::<u32, true>,
                (_, true) => branch::far_m::<u64, true>,
            }
        }
        _ => sized!(b.i.memory_size().size(), jmp_m, call_m),
    })
}

fn loops(b: &mut Builder) -> Option<Handler> {
    use iced_x86::Code as C;
    b.op.src = match b.i.mnemonic() {
        M::Loop => 0,
        M::Loope => 1,
        M::Loopne => 2,
        _ => 3,
    };
    let address = match b.i.code() {
        C::Jcxz_rel8_16 | C::Jcxz_rel8_32 => 2,
        C::Jecxz_rel8_16 | C::Jecxz_rel8_32 | C::Jecxz_rel8_64 => 4,
        C::Jrcxz_rel8_16 | C::Jrcxz_rel8_64 => 8,
        C::Loop_rel8_16_CX
        | C::Loop_rel8_32_CX
        | C::Loope_rel8_16_CX
        | C::Loope_rel8_32_CX
        | C::Loopne_rel8_16_CX
        | C::Loopne_rel8_32_CX => 2,
        C::Loop_rel8_16_RCX
        | C::Loop_rel8_64_RCX
        | C::Loope_rel8_16_RCX
        | C::Loope_rel8_64_RCX
        | C::Loopne_rel8_16_RCX
        | C::Loopne_rel8_64_RCX => 8,
        _ => 4,
    };
    let size = b.size();
    b.set_address(address);
    b.branch();
    Some(match size {
        2 => branch::counted::<u16>,
        4 => branch::counted::<u32>,
        _ => branch::counted::<u64>,
    })
}

fn conditional_jump(b: &mut Builder) -> Option<Handler> {
    if !b.i.is_jcc_short_or_near() {
        return None;
    }
    let size = b.size();
    b.branch();
    macro_rules! pick {
        ($($n:literal)*) => {
            match (condition(b), size) {
                $(
                    ($n, 2) => branch::jcc::<u16, $n>,
                    ($n, 4) => branch::jcc::<u32, $n>,
                    ($n, _) => branch::jcc::<u64, $n>,
                )*
                _ => return None,
            }
        };
    }
    Some(pick!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
}
