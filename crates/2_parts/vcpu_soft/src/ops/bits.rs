//! Single bits and bit counts: BT family, BSF, BSR, POPCNT, CRC32, and the bit manipulation of BMI1, BMI2 and LZCNT.

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Flow, Handler, Op, Outcome};
use crate::ops::by_size;

/// What BT, BTS, BTR and BTC make of the bit.
pub(crate) trait Bit: 'static {
    const WRITES: bool = true;
    fn change(value: u64, bit: u64) -> u64;
}

macro_rules! bit {
    ($($name:ident $writes:literal |$value:ident, $bit:ident| $body:expr;)*) => {$(
        pub(crate) struct $name;
        impl Bit for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn change($value: u64, $bit: u64) -> u64 { $body }
        }
    )*};
}

bit! {
    Test false |value, _bit| value;
    Set true |value, bit| value | bit;
    Reset true |value, bit| value & !bit;
    Complement true |value, bit| value ^ bit;
}

#[inline(always)]
fn in_register<B: Bit, T: Int>(cpu: &mut Cpu, op: &Op, number: u64) -> Outcome {
    let value = T::reg(&cpu.registers, op.dst).wide();
    let number = number & u64::from(T::BITS - 1);
    cpu.flags.set_carry(value >> number & 1 != 0);
    if B::WRITES {
        T::set_reg(&mut cpu.registers, op.dst, T::cut(B::change(value, 1 << number)));
    }
    Ok(Flow::Next)
}

fn rr<B: Bit, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    in_register::<B, T>(cpu, op, cpu.registers[op.src as usize & 31])
}
fn ri<B: Bit, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    in_register::<B, T>(cpu, op, op.imm)
}

fn in_memory<B: Bit, T: Int>(cpu: &mut Cpu, op: &Op, lock: bool, number: u64, whole: u64) -> Outcome {
    // `whole` operands away from the address (bit strings), at the same address with an immediate.
    let op = &Op {
        disp: op.disp.wrapping_add(whole.wrapping_mul(T::BYTES)),
        ..*op
    };
    let linear = cpu.address(op, T::BYTES, B::WRITES)?;
    let number = number & u64::from(T::BITS - 1);
    let set = if lock {
        cpu.atomic::<T, bool>(linear, op.seg, |value| {
            let value = value.wide();
            (T::cut(B::change(value, 1 << number)), value >> number & 1 != 0)
        })?
    } else if B::WRITES {
        let mut set = false;
        cpu.modify::<T>(linear, op.seg, |_, value| {
            let value = value.wide();
            set = value >> number & 1 != 0;
            T::cut(B::change(value, 1 << number))
        })?;
        set
    } else {
        cpu.load::<T>(linear, op.seg)?.wide() >> number & 1 != 0
    };
    cpu.flags.set_carry(set);
    Ok(Flow::Next)
}

fn mr<B: Bit, T: Int, const LOCK: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let number = T::reg(&cpu.registers, op.src).signed();
    let whole = (number as i64 >> T::BITS.trailing_zeros()) as u64;
    in_memory::<B, T>(cpu, op, LOCK, number, whole)
}
fn mi<B: Bit, T: Int, const LOCK: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    in_memory::<B, T>(cpu, op, LOCK, op.imm, 0)
}

/// The handler of an instruction of the BT family.
pub(crate) fn bit<B: Bit>(memory: bool, immediate: bool, size: u64, lock: bool) -> Handler {
    macro_rules! pick {
        ($name:ident, $lock:literal) => {
            match size {
                2 => $name::<B, u16, $lock>,
                4 => $name::<B, u32, $lock>,
                _ => $name::<B, u64, $lock>,
            }
        };
    }
    match (memory, immediate, lock) {
        (false, false, _) => by_size!(size, rr<B, _>),
        (false, true, _) => by_size!(size, ri<B, _>),
        (true, false, false) => pick!(mr, false),
        (true, false, true) => pick!(mr, true),
        (true, true, false) => pick!(mi, false),
        (true, true, true) => pick!(mi, true),
    }
}

/// An instruction that counts or finds bits in its source.
pub(crate) trait Count: 'static {
    /// The result, or `None` to leave the destination alone; sets the flags.
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T>;
}

/// BSF.
pub(crate) struct Forward;
/// BSR.
pub(crate) struct Reverse;
/// POPCNT.
pub(crate) struct Population;
/// TZCNT.
pub(crate) struct Trailing;
/// LZCNT.
pub(crate) struct Leading;
/// BLSR.
pub(crate) struct ResetLowest;
/// BLSMSK.
pub(crate) struct MaskLowest;
/// BLSI.
pub(crate) struct IsolateLowest;

fn zero_flag<T: Int>(cpu: &mut Cpu, zero: bool) {
    // The other flags are undefined; processors leave them as a comparison with 0 does.
    cpu.flags.logic(T::cut(u64::from(!zero)));
}

impl Count for Forward {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        zero_flag::<T>(cpu, value.wide() == 0);
        (value.wide() != 0).then(|| T::cut(u64::from(value.wide().trailing_zeros())))
    }
}
impl Count for Reverse {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        zero_flag::<T>(cpu, value.wide() == 0);
        (value.wide() != 0).then(|| T::cut(u64::from(63 - value.wide().leading_zeros())))
    }
}
impl Count for Population {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        let zero = value.wide() == 0;
        // All other flags are cleared, PF too.
        cpu.flags.set_bits(if zero { crate::flags::ZF } else { 0 });
        Some(T::cut(u64::from(value.wide().count_ones())))
    }
}
impl Count for Trailing {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        let count = value.wide().trailing_zeros().min(T::BITS);
        let result = T::cut(u64::from(count));
        cpu.flags.shifted(result, count == T::BITS, false);
        Some(result)
    }
}
impl Count for Leading {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        let count = value.wide().leading_zeros() - (64 - T::BITS);
        let result = T::cut(u64::from(count));
        cpu.flags.shifted(result, count == T::BITS, false);
        Some(result)
    }
}
impl Count for ResetLowest {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        let result = T::cut(value.wide() & value.wide().wrapping_sub(1));
        cpu.flags.shifted(result, value.wide() == 0, false);
        Some(result)
    }
}
impl Count for MaskLowest {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        let result = T::cut(value.wide() ^ value.wide().wrapping_sub(1));
        cpu.flags.shifted(result, value.wide() == 0, false);
        Some(result)
    }
}
impl Count for IsolateLowest {
    fn run<T: Int>(cpu: &mut Cpu, value: T) -> Option<T> {
        let result = T::cut(value.wide() & value.wide().wrapping_neg());
        cpu.flags.shifted(result, value.wide() != 0, false);
        Some(result)
    }
}

fn count_r<C: Count, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = T::reg(&cpu.registers, op.src);
    if let Some(result) = C::run(cpu, value) {
        T::set_reg(&mut cpu.registers, op.dst, result);
    }
    Ok(Flow::Next)
}
fn count_m<C: Count, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let value = cpu.load::<T>(linear, op.seg)?;
    if let Some(result) = C::run(cpu, value) {
        T::set_reg(&mut cpu.registers, op.dst, result);
    }
    Ok(Flow::Next)
}

/// The handler of a count.
pub(crate) fn count<C: Count>(memory: bool, size: u64) -> Handler {
    if memory {
        by_size!(size, count_m<C, _>)
    } else {
        by_size!(size, count_r<C, _>)
    }
}

/// An instruction of BMI with two sources: `first` may be memory, `second` is a register (`imm` holds its number).
pub(crate) trait Pick: 'static {
    fn run<T: Int>(cpu: &mut Cpu, first: T, second: T) -> T;
}

/// ANDN (the register is complemented).
pub(crate) struct AndNot;
/// BEXTR.
pub(crate) struct Extract;
/// BZHI.
pub(crate) struct ZeroHigh;
/// SARX.
pub(crate) struct Sarx;
/// SHLX.
pub(crate) struct Shlx;
/// SHRX.
pub(crate) struct Shrx;
/// PDEP (the register is the source, the first operand the mask).
pub(crate) struct Deposit;
/// PEXT.
pub(crate) struct Collect;

impl Pick for AndNot {
    fn run<T: Int>(cpu: &mut Cpu, first: T, second: T) -> T {
        let result = T::cut(first.wide() & !second.wide());
        cpu.flags.logic(result);
        result
    }
}
impl Pick for Extract {
    fn run<T: Int>(cpu: &mut Cpu, first: T, second: T) -> T {
        let (start, len) = (second.wide() & 0xff, second.wide() >> 8 & 0xff);
        let shifted = first.wide().checked_shr(start as u32).unwrap_or(0);
        let result = if len < 64 {
            shifted & ((1 << len) - 1)
        } else {
            shifted
        };
        let result = T::cut(result);
        cpu.flags.logic(result);
        result
    }
}
impl Pick for ZeroHigh {
    fn run<T: Int>(cpu: &mut Cpu, first: T, second: T) -> T {
        let index = second.wide() & 0xff;
        let beyond = index >= u64::from(T::BITS);
        let result = if beyond {
            first.wide()
        } else {
            first.wide() & ((1 << index) - 1)
        };
        let result = T::cut(result);
        cpu.flags.shifted(result, beyond, false);
        result
    }
}
impl Pick for Sarx {
    fn run<T: Int>(_: &mut Cpu, first: T, second: T) -> T {
        T::cut((first.signed() as i64 >> (second.wide() & u64::from(T::BITS - 1))) as u64)
    }
}
impl Pick for Shlx {
    fn run<T: Int>(_: &mut Cpu, first: T, second: T) -> T {
        T::cut(first.wide() << (second.wide() & u64::from(T::BITS - 1)))
    }
}
impl Pick for Shrx {
    fn run<T: Int>(_: &mut Cpu, first: T, second: T) -> T {
        T::cut(first.wide() >> (second.wide() & u64::from(T::BITS - 1)))
    }
}
impl Pick for Deposit {
    fn run<T: Int>(_: &mut Cpu, first: T, second: T) -> T {
        let (mut mask, mut source, mut result) = (first.wide(), second.wide(), 0);
        while mask != 0 {
            let lowest = mask & mask.wrapping_neg();
            if source & 1 != 0 {
                result |= lowest;
            }
            source >>= 1;
            mask &= mask - 1;
        }
        T::cut(result)
    }
}
impl Pick for Collect {
    fn run<T: Int>(_: &mut Cpu, first: T, second: T) -> T {
        let (mut mask, source, mut result, mut place) = (first.wide(), second.wide(), 0, 0);
        while mask != 0 {
            let lowest = mask & mask.wrapping_neg();
            if source & lowest != 0 {
                result |= 1 << place;
            }
            place += 1;
            mask &= mask - 1;
        }
        T::cut(result)
    }
}

fn pick_r<P: Pick, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let first = T::reg(&cpu.registers, op.src);
    let second = T::reg(&cpu.registers, op.imm as u8);
    let result = P::run(cpu, first, second);
    T::set_reg(&mut cpu.registers, op.dst, result);
    Ok(Flow::Next)
}
fn pick_m<P: Pick, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let first = cpu.load::<T>(linear, op.seg)?;
    let second = T::reg(&cpu.registers, op.imm as u8);
    let result = P::run(cpu, first, second);
    T::set_reg(&mut cpu.registers, op.dst, result);
    Ok(Flow::Next)
}

/// The handler of a BMI instruction with two sources.
pub(crate) fn pick<P: Pick>(memory: bool, size: u64) -> Handler {
    if memory {
        by_size!(size, pick_m<P, _>)
    } else {
        by_size!(size, pick_r<P, _>)
    }
}

/// RORX: the count is `imm`.
pub(crate) fn rorx<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = if op.form.extra != 0 {
        let linear = cpu.address(op, T::BYTES, false)?;
        cpu.load::<T>(linear, op.seg)?
    } else {
        T::reg(&cpu.registers, op.src)
    }
    .wide();
    let count = op.imm as u32 & (T::BITS - 1);
    let result = if count == 0 {
        value
    } else {
        value >> count | value << (T::BITS - count)
    };
    T::set_reg(&mut cpu.registers, op.dst, T::cut(result));
    Ok(Flow::Next)
}

/// CRC-32C of one more value (polynomial 0x11edc6f41, reflected).
fn crc32c(mut crc: u32, value: u64, bytes: u64) -> u32 {
    for n in 0..bytes {
        crc ^= (value >> (8 * n)) as u32 & 0xff;
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    crc
}

/// CRC32 register, register.
pub(crate) fn crc_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let value = T::reg(&cpu.registers, op.src).wide();
    let crc = crc32c(cpu.registers[op.dst as usize & 31] as u32, value, T::BYTES);
    cpu.registers[op.dst as usize & 31] = u64::from(crc);
    Ok(Flow::Next)
}

/// CRC32 register, memory.
pub(crate) fn crc_m<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let value = cpu.load::<T>(linear, op.seg)?.wide();
    let crc = crc32c(cpu.registers[op.dst as usize & 31] as u32, value, T::BYTES);
    cpu.registers[op.dst as usize & 31] = u64::from(crc);
    Ok(Flow::Next)
}
