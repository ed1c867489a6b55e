//! The one table of instructions: which are known, and what executes them. What CPUID announces follows from it.

use iced_x86::{Mnemonic as M, OpKind, Register};

use crate::decode::Builder;
use crate::op::{Handler, REPE, REPNE};
use crate::ops::alu::{self, Shape};
use crate::ops::{
    atomic, bits, branch, by_size, control, decimal, mov, muldiv, ports, protect, shift, stack, string,
    system,
};

/// Chooses the handler and completes the operation; `None` for what is no instruction of this processor.
pub(crate) fn handler(b: &mut Builder) -> Option<Handler> {
    let run = integer(b)
        .or_else(|| moves(b))
        .or_else(|| shifts_and_bits(b))
        .or_else(|| stack_and_branches(b))
        .or_else(|| strings(b))
        .or_else(|| leftovers(b))
        .or_else(|| system_part(b))
        .or_else(|| protection(b))
        .or_else(|| crate::ops::float::handler(b))?;
    Some(run)
}

/// The shape of the first two operands.
fn shape(b: &mut Builder) -> Shape {
    let memory = (b.is_memory(0), b.is_memory(1));
    if memory.0 {
        if b.is_register(1) {
            return Shape::MemReg;
        }
        b.immediate(1);
        Shape::MemImm
    } else if memory.1 {
        Shape::RegMem
    } else if b.is_register(1) {
        Shape::RegReg
    } else {
        b.immediate(1);
        Shape::RegImm
    }
}

fn integer(b: &mut Builder) -> Option<Handler> {
    macro_rules! binary {
        ($name:ident) => {{
            let size = b.size_of(0);
            let lock = b.i.has_lock_prefix();
            alu::binary::<alu::$name>(shape(b), size, lock)
        }};
    }
    macro_rules! unary {
        ($name:ident) => {
            alu::unary::<alu::$name>(b.is_memory(0), b.size_of(0), b.i.has_lock_prefix())
        };
    }
    use muldiv::Kind;
    Some(match b.i.mnemonic() {
        M::Add => binary!(Add),
        M::Or => binary!(Or),
        M::Adc => binary!(Adc),
        M::Sbb => binary!(Sbb),
        M::And => binary!(And),
        M::Sub => binary!(Sub),
        M::Xor => binary!(Xor),
        M::Cmp => binary!(Cmp),
        M::Test => binary!(Test),
        M::Inc => unary!(Inc),
        M::Dec => unary!(Dec),
        M::Neg => unary!(Neg),
        M::Not => unary!(Not),
        M::Mul => muldiv::handler(Kind::Mul, b.is_memory(0), b.size_of(0)),
        M::Div => muldiv::handler(Kind::Div, b.is_memory(0), b.size_of(0)),
        M::Idiv => muldiv::handler(Kind::Idiv, b.is_memory(0), b.size_of(0)),
        M::Imul => match b.i.op_count() {
            1 => muldiv::handler(Kind::Imul, b.is_memory(0), b.size_of(0)),
            2 => muldiv::handler(Kind::Imul2, b.is_memory(1), b.size_of(0)),
            _ => {
                b.immediate(2);
                muldiv::handler(Kind::Imul3, b.is_memory(1), b.size_of(0))
            }
        },
        M::Mulx => {
            b.op.imm = u64::from(b.register(1));
            if b.is_register(2) {
                b.op.src = b.register(2);
            }
            muldiv::mulx_handler(b.is_memory(2), b.size_of(0))
        }
        M::Adcx => muldiv::carry_handler(false, b.is_memory(1), b.size_of(0)),
        M::Adox => muldiv::carry_handler(true, b.is_memory(1), b.size_of(0)),
        _ => return None,
    })
}

/// Number of the condition of Jcc, SETcc, CMOVcc.
fn condition(b: &Builder) -> u8 {
    use iced_x86::ConditionCode as C;
    match b.i.condition_code() {
        C::o | C::None => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
    }
}

fn moves(b: &mut Builder) -> Option<Handler> {
    let size = if b.i.op_count() > 0 && (b.is_register(0) || b.is_memory(0)) {
        b.size_of(0)
    } else {
        0
    };
    Some(match b.i.mnemonic() {
        M::Mov => return mov_handler(b, size),
        M::Movnti => by_size!(size, mov::mr<_>),
        M::Movzx => extend(b, size, false),
        M::Movsx | M::Movsxd => extend(b, size, true),
        M::Lea => by_size!(size, mov::lea<_>),
        M::Xchg if b.is_memory(0) => by_size!(size, atomic::xchg<_>),
        M::Xchg => by_size!(size, mov::xchg<_>),
        M::Xadd if b.is_memory(0) => {
            if b.i.has_lock_prefix() {
                match size {
                    1 => atomic::xadd_m::<u8, true>,
                    2 => atomic::xadd_m::<u16, true>,
                    4 => atomic::xadd_m::<u32, true>,
                    _ => atomic::xadd_m::<u64, true>,
                }
            } else {
                match size {
                    1 => atomic::xadd_m::<u8, false>,
                    2 => atomic::xadd_m::<u16, false>,
                    4 => atomic::xadd_m::<u32, false>,
                    _ => atomic::xadd_m::<u64, false>,
                }
            }
        }
        M::Xadd => by_size!(size, atomic::xadd_r<_>),
        M::Cmpxchg if b.is_memory(0) => {
            if b.i.has_lock_prefix() {
                match size {
                    1 => atomic::cmpxchg_m::<u8, true>,
                    2 => atomic::cmpxchg_m::<u16, true>,
                    4 => atomic::cmpxchg_m::<u32, true>,
                    _ => atomic::cmpxchg_m::<u64, true>,
                }
            } else {
                match size {
                    1 => atomic::cmpxchg_m::<u8, false>,
                    2 => atomic::cmpxchg_m::<u16, false>,
                    4 => atomic::cmpxchg_m::<u32, false>,
                    _ => atomic::cmpxchg_m::<u64, false>,
                }
            }
        }
        M::Cmpxchg => by_size!(size, atomic::cmpxchg_r<_>),
        M::Cmpxchg8b => atomic::cmpxchg_8,
        M::Cmpxchg16b => atomic::cmpxchg_16,
        M::Bswap => by_size!(size, mov::bswap<_>),
        M::Movbe if b.is_memory(0) => by_size!(size, mov::movbe_store<_>),
        M::Movbe => by_size!(size, mov::movbe_load<_>),
        M::Cbw => mov::extend_low::<u16>,
        M::Cwde => mov::extend_low::<u32>,
        M::Cdqe => mov::extend_low::<u64>,
        M::Cwd => mov::extend_high::<u16>,
        M::Cdq => mov::extend_high::<u32>,
        M::Cqo => mov::extend_high::<u64>,
        M::Xlatb => mov::xlat,
        _ => return conditional_moves(b, size),
    })
}

fn conditional_moves(b: &mut Builder, size: u64) -> Option<Handler> {
    use iced_x86::Mnemonic as M;
    match b.i.mnemonic() {
        M::Cmovo
        | M::Cmovno
        | M::Cmovb
        | M::Cmovae
        | M::Cmove
        | M::Cmovne
        | M::Cmovbe
        | M::Cmova
        | M::Cmovs
        | M::Cmovns
        | M::Cmovp
        | M::Cmovnp
        | M::Cmovl
        | M::Cmovge
        | M::Cmovle
        | M::Cmovg => {
            b.op.imm = u64::from(condition(b));
            Some(if b.is_memory(1) {
                by_size!(size, mov::cmov_m<_>)
            } else {
                by_size!(size, mov::cmov_r<_>)
            })
        }
        M::Seto
        | M::Setno
        | M::Setb
        | M::Setae
        | M::Sete
        | M::Setne
        | M::Setbe
        | M::Seta
        | M::Sets
        | M::Setns
        | M::Setp
        | M::Setnp
        | M::Setl
        | M::Setge
        | M::Setle
        | M::Setg => {
            b.op.imm = u64::from(condition(b));
            Some(if b.is_memory(0) { mov::set_m } else { mov::set_r })
        }
        _ => None,
    }
}

fn mov_handler(b: &mut Builder, size: u64) -> Option<Handler> {
    for n in 0..2 {
        if !b.is_register(n) {
            continue;
        }
        let register = b.i.op_register(n);
        if register.is_segment_register() {
            b.op.imm = u64::from(crate::decode::segment(register));
            b.op.form.extra = u8::from(b.is_memory(1 - n));
            if n == 1 {
                b.set_size(b.size_of(0));
                return Some(protect::from_segment);
            }
            if register == Register::CS {
                return None;
            }
            b.ends = true;
            return Some(protect::to_segment);
        }
        if register.is_cr() || register.is_dr() {
            b.op.imm = register.number() as u64;
            b.op.dst = b.register(0);
            b.op.src = b.register(1 - n);
            b.ends = n == 0;
            return Some(match (register.is_cr(), n) {
                (true, 0) => control::to_cr,
                (true, _) => control::from_cr,
                (false, 0) => control::to_dr,
                (false, _) => control::from_dr,
            });
        }
    }
    Some(match shape(b) {
        Shape::RegReg => by_size!(size, mov::rr<_>),
        Shape::RegImm => by_size!(size, mov::ri<_>),
        Shape::RegMem => by_size!(size, mov::rm<_>),
        Shape::MemReg => by_size!(size, mov::mr<_>),
        Shape::MemImm => by_size!(size, mov::mi<_>),
    })
}

fn extend(b: &mut Builder, size: u64, signed: bool) -> Handler {
    let memory = b.is_memory(1);
    macro_rules! pick {
        ($reg:ident, $mem:ident, $source:ty) => {
            match (memory, size) {
                (false, 2) => mov::$reg::<$source, u16>,
                (false, 4) => mov::$reg::<$source, u32>,
                (false, _) => mov::$reg::<$source, u64>,
                (true, 2) => mov::$mem::<$source, u16>,
                (true, 4) => mov::$mem::<$source, u32>,
                (true, _) => mov::$mem::<$source, u64>,
            }
        };
    }
    match (signed, b.size_of(1)) {
        (false, 1) => pick!(zx_r, zx_m, u8),
        (false, _) => pick!(zx_r, zx_m, u16),
        (true, 1) => pick!(sx_r, sx_m, u8),
        (true, 2) => pick!(sx_r, sx_m, u16),
        (true, _) => pick!(sx_r, sx_m, u32),
    }
}

fn shifts_and_bits(b: &mut Builder) -> Option<Handler> {
    macro_rules! shift {
        ($name:ident) => {{
            let by_cl = b.is_register(1);
            if !by_cl {
                b.immediate(1);
            }
            shift::shift::<shift::$name>(b.is_memory(0), by_cl, b.size_of(0))
        }};
    }
    macro_rules! bit {
        ($name:ident) => {{
            let immediate = !b.is_register(1);
            if immediate {
                b.immediate(1);
            }
            bits::bit::<bits::$name>(b.is_memory(0), immediate, b.size_of(0), b.i.has_lock_prefix())
        }};
    }
    macro_rules! count {
        ($name:ident) => {
            bits::count::<bits::$name>(b.is_memory(1), b.size_of(0))
        };
    }
    /// The register among the sources is operand `$second`, the one that may be memory `$first`.
    macro_rules! pick {
        ($name:ident, $first:literal, $second:literal) => {{
            b.op.imm = u64::from(b.register($second));
            if b.is_register($first) {
                b.op.src = b.register($first);
            }
            bits::pick::<bits::$name>(b.is_memory($first), b.size_of(0))
        }};
    }
    Some(match b.i.mnemonic() {
        M::Shl | M::Sal => shift!(Shl),
        M::Shr => shift!(Shr),
        M::Sar => shift!(Sar),
        M::Rol => shift!(Rol),
        M::Ror => shift!(Ror),
        M::Rcl => shift!(Rcl),
        M::Rcr => shift!(Rcr),
        M::Shld | M::Shrd => {
            let by_cl = b.is_register(2);
            if !by_cl {
                b.immediate(2);
            }
            shift::double_shift(b.i.mnemonic() == M::Shld, b.is_memory(0), by_cl, b.size_of(0))
        }
        M::Bt => bit!(Test),
        M::Bts => bit!(Set),
        M::Btr => bit!(Reset),
        M::Btc => bit!(Complement),
        M::Bsf => count!(Forward),
        M::Bsr => count!(Reverse),
        M::Popcnt => count!(Population),
        M::Tzcnt => count!(Trailing),
        M::Lzcnt => count!(Leading),
        M::Blsr => count!(ResetLowest),
        M::Blsmsk => count!(MaskLowest),
        M::Blsi => count!(IsolateLowest),
        M::Andn => pick!(AndNot, 2, 1),
        M::Bextr => pick!(Extract, 1, 2),
        M::Bzhi => pick!(ZeroHigh, 1, 2),
        M::Sarx => pick!(Sarx, 1, 2),
        M::Shlx => pick!(Shlx, 1, 2),
        M::Shrx => pick!(Shrx, 1, 2),
        M::Pdep => pick!(Deposit, 2, 1),
        M::Pext => pick!(Collect, 2, 1),
        M::Rorx => {
            b.immediate(2);
            b.op.form.extra = u8::from(b.is_memory(1));
            by_size!(b.size_of(0), bits::rorx<_>)
        }
        M::Crc32 => {
            let size = b.size_of(1);
            if b.is_memory(1) {
                by_size!(size, bits::crc_m<_>)
            } else {
                by_size!(size, bits::crc_r<_>)
            }
        }
        _ => return None,
    })
}

/// Size of what an instruction pushes or pops.
fn stack_size(b: &Builder) -> u64 {
    u64::from(b.i.stack_pointer_increment().unsigned_abs())
}

fn stack_and_branches(b: &mut Builder) -> Option<Handler> {
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

fn strings(b: &mut Builder) -> Option<Handler> {
    let (size, run): (u64, fn(u64) -> Handler) = match b.i.mnemonic() {
        M::Movsb | M::Movsw | M::Movsq | M::Movsd if b.i.is_string_instruction() => {
            (b.i.memory_size().size() as u64, |size| {
                by_size!(size, string::movs<_>)
            })
        }
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => (b.i.memory_size().size() as u64, |size| {
            by_size!(size, string::stos<_>)
        }),
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => (b.i.memory_size().size() as u64, |size| {
            by_size!(size, string::lods<_>)
        }),
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => (b.i.memory_size().size() as u64, |size| {
            by_size!(size, string::scas<_>)
        }),
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq if b.i.is_string_instruction() => {
            (b.i.memory_size().size() as u64, |size| {
                by_size!(size, string::cmps<_>)
            })
        }
        M::Insb | M::Insw | M::Insd => {
            b.ends = true;
            (b.i.memory_size().size() as u64, |size| {
                by_size!(size, string::ins<_>)
            })
        }
        M::Outsb | M::Outsw | M::Outsd => {
            b.ends = true;
            (b.i.memory_size().size() as u64, |size| {
                by_size!(size, string::outs<_>)
            })
        }
        _ => return None,
    };
    b.set_size(size);
    let compares = matches!(run(size), _ if matches!(
        b.i.mnemonic(),
        M::Scasb | M::Scasw | M::Scasd | M::Scasq | M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq
    ));
    if b.i.has_repne_prefix() {
        b.op.form.extra = if compares { REPNE } else { REPE };
    } else if b.i.has_rep_prefix() {
        b.op.form.extra = REPE;
    }
    Some(run(size))
}

fn leftovers(b: &mut Builder) -> Option<Handler> {
    let mut with = |imm: u64, run: Handler| {
        b.op.imm = imm;
        run
    };
    Some(match b.i.mnemonic() {
        M::Aaa => with(0, decimal::ascii_adjust),
        M::Aas => with(1, decimal::ascii_adjust),
        M::Aam => with(b.i.immediate(0), decimal::ascii_multiply),
        M::Aad => with(b.i.immediate(0), decimal::ascii_divide),
        M::Daa => with(0, decimal::decimal_adjust),
        M::Das => with(1, decimal::decimal_adjust),
        M::Salc => decimal::set_al_carry,
        M::Lahf => decimal::lahf,
        M::Sahf => decimal::sahf,
        M::Clc => with(0, decimal::set_carry),
        M::Stc => with(1, decimal::set_carry),
        M::Cmc => decimal::complement_carry,
        M::Cld => with(0, decimal::set_direction),
        M::Std => with(1, decimal::set_direction),
        M::Nop
        | M::Pause
        | M::Endbr64
        | M::Endbr32
        | M::Prefetchw
        | M::Prefetch
        | M::Prefetchwt1
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Reservednop
        | M::Rdsspd
        | M::Rdsspq
        | M::Cldemote => mov::nop,
        M::Mfence | M::Lfence | M::Sfence => mov::fence,
        _ => return None,
    })
}

fn system_part(b: &mut Builder) -> Option<Handler> {
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

fn protection(b: &mut Builder) -> Option<Handler> {
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
