//! Integers of the four operand sizes, as instructions handle them.

use crate::memory::raw;

/// `u8`, `u16`, `u32` or `u64` as the operand of an instruction.
pub(crate) trait Int: Copy + Eq + raw::Plain + 'static {
    /// Bits.
    const BITS: u32;
    /// Bytes.
    const BYTES: u64;
    /// The low bits of a value.
    fn cut(value: u64) -> Self;
    /// Zero-extended.
    fn wide(self) -> u64;
    /// Sign-extended.
    fn signed(self) -> u64;
    /// Reads a general register; see [`crate::op::Op`] for the numbers.
    fn reg(registers: &[u64; 32], number: u8) -> Self;
    /// Writes a general register: 32 bits clear the upper half, 8 and 16 bits keep the rest.
    fn set_reg(registers: &mut [u64; 32], number: u8, value: Self);
}

impl Int for u8 {
    const BITS: u32 = 8;
    const BYTES: u64 = 1;
    #[inline(always)]
    fn cut(value: u64) -> u8 {
        value as u8
    }
    #[inline(always)]
    fn wide(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn signed(self) -> u64 {
        self as i8 as u64
    }
    #[inline(always)]
    fn reg(registers: &[u64; 32], number: u8) -> u8 {
        // Bit 5 of the number: bits 8–15 (AH, CH, DH, BH).
        (registers[number as usize & 31] >> (number >> 2 & 8)) as u8
    }
    #[inline(always)]
    fn set_reg(registers: &mut [u64; 32], number: u8, value: u8) {
        let shift = number >> 2 & 8;
        let register = &mut registers[number as usize & 31];
        *register = *register & !(0xff << shift) | u64::from(value) << shift;
    }
}

impl Int for u16 {
    const BITS: u32 = 16;
    const BYTES: u64 = 2;
    #[inline(always)]
    fn cut(value: u64) -> u16 {
        value as u16
    }
    #[inline(always)]
    fn wide(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn signed(self) -> u64 {
        self as i16 as u64
    }
    #[inline(always)]
    fn reg(registers: &[u64; 32], number: u8) -> u16 {
        registers[number as usize & 31] as u16
    }
    #[inline(always)]
    fn set_reg(registers: &mut [u64; 32], number: u8, value: u16) {
        let register = &mut registers[number as usize & 31];
        *register = *register & !0xffff | u64::from(value);
    }
}

impl Int for u32 {
    const BITS: u32 = 32;
    const BYTES: u64 = 4;
    #[inline(always)]
    fn cut(value: u64) -> u32 {
        value as u32
    }
    #[inline(always)]
    fn wide(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn signed(self) -> u64 {
        self as i32 as u64
    }
    #[inline(always)]
    fn reg(registers: &[u64; 32], number: u8) -> u32 {
        registers[number as usize & 31] as u32
    }
    #[inline(always)]
    fn set_reg(registers: &mut [u64; 32], number: u8, value: u32) {
        registers[number as usize & 31] = u64::from(value);
    }
}

impl Int for u64 {
    const BITS: u32 = 64;
    const BYTES: u64 = 8;
    #[inline(always)]
    fn cut(value: u64) -> u64 {
        value
    }
    #[inline(always)]
    fn wide(self) -> u64 {
        self
    }
    #[inline(always)]
    fn signed(self) -> u64 {
        self
    }
    #[inline(always)]
    fn reg(registers: &[u64; 32], number: u8) -> u64 {
        registers[number as usize & 31]
    }
    #[inline(always)]
    fn set_reg(registers: &mut [u64; 32], number: u8, value: u64) {
        registers[number as usize & 31] = value;
    }
}
