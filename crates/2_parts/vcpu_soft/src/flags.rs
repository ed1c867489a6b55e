//! Arithmetic flags, kept as the last result and its carries until somebody asks for them.
//!
//! The idea is that of Bochs: the result tells ZF, SF and PF; the vector of carries tells CF, OF and AF. Any combination of flags
//! can be expressed, so that loading flags is no special case, and no record of the last operation's kind is needed.

use crate::int::Int;

/// Carry flag.
pub(crate) const CF: u64 = 1;
/// Parity flag.
pub(crate) const PF: u64 = 1 << 2;
/// Auxiliary carry flag.
pub(crate) const AF: u64 = 1 << 4;
/// Zero flag.
pub(crate) const ZF: u64 = 1 << 6;
/// Sign flag.
pub(crate) const SF: u64 = 1 << 7;
/// Overflow flag.
pub(crate) const OF: u64 = 1 << 11;
/// The six arithmetic flags.
pub(crate) const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// Trap flag.
pub(crate) const TF: u64 = 1 << 8;
/// Interrupt flag.
pub(crate) const IF: u64 = 1 << 9;
/// Direction flag.
pub(crate) const DF: u64 = 1 << 10;
/// I/O privilege level.
pub(crate) const IOPL: u64 = 3 << 12;
/// Nested task.
pub(crate) const NT: u64 = 1 << 14;
/// Resume flag.
pub(crate) const RF: u64 = 1 << 16;
/// Virtual-8086 mode.
pub(crate) const VM: u64 = 1 << 17;
/// Alignment check, or access control.
pub(crate) const AC: u64 = 1 << 18;
/// Virtual interrupt flag.
pub(crate) const VIF: u64 = 1 << 19;
/// Virtual interrupt pending.
pub(crate) const VIP: u64 = 1 << 20;
/// Identification flag.
pub(crate) const ID: u64 = 1 << 21;

/// The arithmetic flags.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    /// The last result, sign-extended: 0 is ZF, the low byte's parity is PF, bit 63 is SF; the last two are changed by `aux`.
    result: u64,
    /// Bit 63 CF; bit 62 the carry into the top bit (CF ^ OF); bit 3 AF; bits 8–15 are xored to the byte of PF; bit 0 to SF.
    aux: u64,
}

const TOP: u64 = 3 << 62;

impl Flags {
    /// After an operation that clears CF, OF and AF.
    #[inline(always)]
    pub(crate) fn logic<T: Int>(&mut self, result: T) {
        self.result = result.signed();
        self.aux = 0;
    }

    #[inline(always)]
    fn carries<T: Int>(&mut self, carries: u64, result: T) {
        self.result = result.signed();
        self.aux = (carries << (64 - T::BITS)) & TOP | carries & 8;
    }

    /// After `a + b (+ 1) = result`.
    #[inline(always)]
    pub(crate) fn sum<T: Int>(&mut self, a: T, b: T, result: T) {
        let (x, y, r) = (a.wide(), b.wide(), result.wide());
        self.carries((x & y) | ((x | y) & !r), result);
    }

    /// After `a - b (- 1) = result`.
    #[inline(always)]
    pub(crate) fn difference<T: Int>(&mut self, a: T, b: T, result: T) {
        let (x, y, r) = (a.wide(), b.wide(), result.wide());
        self.carries((!x & y) | (!(x ^ y) & r), result);
    }

    /// After an operation whose flags other than CF are those of a sum or difference: keeps CF (INC and DEC).
    #[inline(always)]
    pub(crate) fn keep_carry(&mut self, before: Flags) {
        let overflow = (self.aux ^ self.aux << 1) & 1 << 63;
        let carry = before.aux & 1 << 63;
        self.aux = self.aux & 8 | carry | (carry ^ overflow) >> 1;
    }

    /// Result with its CF and OF given (shifts, multiplications); AF is cleared.
    #[inline(always)]
    pub(crate) fn shifted<T: Int>(&mut self, result: T, carry: bool, overflow: bool) {
        self.result = result.signed();
        self.aux = u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62;
    }

    /// Changes CF and OF only.
    #[inline(always)]
    pub(crate) fn set_carry_overflow(&mut self, carry: bool, overflow: bool) {
        self.aux = self.aux & !TOP | u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62;
    }

    /// Changes CF only.
    #[inline(always)]
    pub(crate) fn set_carry(&mut self, carry: bool) {
        self.set_carry_overflow(carry, self.of());
    }

    /// CF.
    #[inline(always)]
    pub(crate) fn cf(&self) -> bool {
        self.aux >> 63 != 0
    }
    /// OF.
    #[inline(always)]
    pub(crate) fn of(&self) -> bool {
        (self.aux ^ self.aux << 1) >> 63 != 0
    }
    /// ZF.
    #[inline(always)]
    pub(crate) fn zf(&self) -> bool {
        self.result == 0
    }
    /// SF.
    #[inline(always)]
    pub(crate) fn sf(&self) -> bool {
        (self.result >> 63 ^ self.aux & 1) != 0
    }
    /// PF.
    #[inline(always)]
    pub(crate) fn pf(&self) -> bool {
        ((self.result ^ self.aux >> 8) as u8).count_ones() & 1 == 0
    }
    /// AF.
    #[inline(always)]
    pub(crate) fn af(&self) -> bool {
        self.aux & 8 != 0
    }

    /// The six flags at their places in RFLAGS.
    pub(crate) fn bits(&self) -> u64 {
        u64::from(self.cf())
            | u64::from(self.pf()) << 2
            | u64::from(self.af()) << 4
            | u64::from(self.zf()) << 6
            | u64::from(self.sf()) << 7
            | u64::from(self.of()) << 11
    }

    /// Takes the six flags from their places in RFLAGS.
    pub(crate) fn set_bits(&mut self, bits: u64) {
        let carry = bits & CF != 0;
        let overflow = bits & OF != 0;
        self.result = if bits & ZF != 0 { 0 } else { 1 << 16 };
        self.aux = u64::from(carry) << 63
            | u64::from(carry ^ overflow) << 62
            | u64::from(bits & AF != 0) << 3
            | u64::from(bits & PF == 0) << 8
            | u64::from(bits & SF != 0);
    }

    /// One of the sixteen conditions, by its number in an instruction (SDM Vol. 2, appendix B.1.4.7).
    #[inline(always)]
    pub(crate) fn condition(&self, number: u8) -> bool {
        let met = match number >> 1 & 7 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        met != (number & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The flags of an addition by their definitions (SDM Vol. 1 §3.4.3.1).
    fn added(a: u8, b: u8, carry: u8) -> u64 {
        let sum = u16::from(a) + u16::from(b) + u16::from(carry);
        let signed = i16::from(a as i8) + i16::from(b as i8) + i16::from(carry);
        let mut bits = 0;
        for (flag, set) in [
            (CF, sum > 0xff),
            (PF, (sum as u8).count_ones().is_multiple_of(2)),
            (AF, (a & 15) + (b & 15) + carry > 15),
            (ZF, sum as u8 == 0),
            (SF, sum & 0x80 != 0),
            (OF, !(-128..128).contains(&signed)),
        ] {
            bits |= if set { flag } else { 0 };
        }
        bits
    }

    #[test]
    fn any_combination_of_flags_can_be_set_and_read() {
        for bits in 0..1 << 12 {
            let bits = bits & ARITHMETIC;
            let mut flags = Flags::default();
            flags.set_bits(bits);
            assert_eq!(flags.bits(), bits);
        }
    }

    #[test]
    fn sums_and_differences_have_the_flags_of_their_definition() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for carry in 0..2u8 {
                    let mut flags = Flags::default();
                    flags.sum(a, b, a.wrapping_add(b).wrapping_add(carry));
                    assert_eq!(flags.bits(), added(a, b, carry), "{a} + {b} + {carry}");
                    // a - b - c = a + !b + !c, with carries turned around.
                    let mut flags = Flags::default();
                    flags.difference(a, b, a.wrapping_sub(b).wrapping_sub(carry));
                    let expected = added(a, !b, 1 - carry) ^ CF ^ AF;
                    assert_eq!(flags.bits(), expected, "{a} - {b} - {carry}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn wide_sums_carry_as_128_bits_do(a: u64, b: u64) {
            let mut flags = Flags::default();
            flags.sum(a, b, a.wrapping_add(b));
            prop_assert_eq!(flags.cf(), a.checked_add(b).is_none());
            prop_assert_eq!(flags.of(), (a as i64).checked_add(b as i64).is_none());
            let (x, y) = (a as u32, b as u32);
            flags.difference(x, y, x.wrapping_sub(y));
            prop_assert_eq!(flags.cf(), x < y);
            prop_assert_eq!(flags.of(), (x as i32).checked_sub(y as i32).is_none());
        }
    }
}
