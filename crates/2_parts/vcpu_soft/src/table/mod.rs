//! The one table of instructions: which are known, and what executes them. What CPUID announces follows from it.

mod flow;
mod system;

use iced_x86::{Mnemonic as M, Register};

use crate::decode::Builder;
use crate::op::{Handler, REPE, REPNE};
use crate::ops::alu::{self, Shape};
use crate::ops::{atomic, bits, by_size, control, decimal, mov, muldiv, protect, shift, string};

/// Chooses the handler and completes the operation; `None` for what is no instruction of this processor.
pub(crate) fn handler(b: &mut Builder) -> Option<Handler> {
    let run = integer(b)
        .or_else(|| moves(b))
        .or_else(|| shifts_and_bits(b))
        .or_else(|| flow::stack_and_branches(b))
        .or_else(|| strings(b))
        .or_else(|| leftovers(b))
        .or_else(|| system::system_part(b))
        .or_else(|| system::protection(b))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use iced_x86::{Code, CpuidFeature as F, Decoder, DecoderOptions};

    use crate::decode::{Decoded, decode};

    /// The features that CPUID announces, or that every processor of the kind has.
    const ANNOUNCED: &[F] = &[
        F::INTEL8086,
        F::INTEL8086_ONLY,
        F::INTEL186,
        F::INTEL286,
        F::INTEL386,
        F::INTEL486,
        F::X64,
        F::FPU,
        F::FPU287,
        F::FPU387,
        F::TSC,
        F::MSR,
        F::CX8,
        F::SEP,
        F::CMOV,
        F::CLFSH,
        F::MMX,
        F::FXSR,
        F::SSE,
        F::SSE2,
        F::SSE3,
        F::SSSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::PCLMULQDQ,
        F::AES,
        F::CMPXCHG16B,
        F::MOVBE,
        F::POPCNT,
        F::XSAVE,
        F::XSAVEOPT,
        F::RDRAND,
        F::RDSEED,
        F::FSGSBASE,
        F::SMAP,
        F::INVPCID,
        F::CLFLUSHOPT,
        F::ADX,
        F::BMI1,
        F::BMI2,
        F::LZCNT,
        F::PREFETCHW,
        F::SYSCALL,
        F::RDTSCP,
        F::MULTIBYTENOP,
        F::PAUSE,
        F::RDPMC,
    ];

    /// Instructions of those features that processors of today do not have, or that are there by another feature.
    fn exempt(code: Code) -> bool {
        matches!(
            code,
            // POP CS is one of the 8086 only.
            Code::Popw_CS
        )
    }

    /// Every instruction that short byte sequences can be, by code, with an example.
    fn everything() -> BTreeMap<u16, (u8, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
        let prefixes: [&[u8]; 11] = [
            &[],
            &[0x66],
            &[0xf2],
            &[0xf3],
            &[0x48],
            &[0x67],
            &[0x66, 0x48],
            &[0xf2, 0x48],
            &[0xf3, 0x48],
            &[0x66, 0xf2],
            &[0x66, 0xf3],
        ];
        let mut heads: Vec<Vec<u8>> = Vec::new();
        for map in maps {
            for prefix in prefixes {
                heads.push([prefix, map].concat());
            }
        }
        for wide in [0x00, 0x80] {
            for map in [2, 3] {
                for kind in 0..4 {
                    heads.push(vec![0xc4, 0xe0 | map, wide | 0x70 | kind]);
                }
            }
        }
        for bits in [16u8, 32, 64] {
            for head in &heads {
                for opcode in 0..=255u8 {
                    for modrm in (0xc0..=0xff).chain((0x00..0x40).step_by(8)) {
                        let mut bytes = head.clone();
                        bytes.extend_from_slice(&[opcode, modrm]);
                        bytes.resize(15, 0);
                        let mut decoder = Decoder::new(u32::from(bits), &bytes, DecoderOptions::NONE);
                        let instruction = decoder.decode();
                        if !instruction.is_invalid() {
                            found.entry(instruction.code() as u16).or_insert((bits, bytes));
                        }
                    }
                }
            }
        }
        found
    }

    #[test]
    fn every_instruction_of_an_announced_feature_is_known() {
        let mut missing = Vec::new();
        let mut checked = 0;
        for (number, (bits, bytes)) in everything() {
            let code = Code::try_from(usize::from(number)).unwrap();
            let announced = code
                .cpuid_features()
                .iter()
                .all(|feature| ANNOUNCED.contains(feature));
            if !announced || exempt(code) {
                continue;
            }
            let Decoded::Op(op, _) = decode(&bytes, bits, 0, 0) else {
                continue;
            };
            let undefined: crate::op::Handler = crate::ops::branch::undefined;
            checked += 1;
            if std::ptr::fn_addr_eq(op.run, undefined) && !format!("{code:?}").starts_with("Ud") {
                missing.push(format!("{code:?}"));
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
        assert!(checked > 1000, "{checked}");
    }
}
