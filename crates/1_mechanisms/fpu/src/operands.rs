//! What a vector instruction works on: sixteen-byte values, the immediate, MXCSR and the flags.

/// The contents of an XMM register, or anything narrower with zeros above it; little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Xmm(pub [u8; 16]);

impl Xmm {
    /// The lower half.
    #[inline]
    pub fn low(self) -> u64 {
        u128::from_le_bytes(self.0) as u64
    }

    /// The upper half.
    #[inline]
    pub fn high(self) -> u64 {
        (u128::from_le_bytes(self.0) >> 64) as u64
    }
}

impl From<u64> for Xmm {
    #[inline]
    fn from(value: u64) -> Xmm {
        Xmm(u128::from(value).to_le_bytes())
    }
}

impl From<u128> for Xmm {
    #[inline]
    fn from(value: u128) -> Xmm {
        Xmm(value.to_le_bytes())
    }
}

impl From<Xmm> for u128 {
    #[inline]
    fn from(value: Xmm) -> u128 {
        u128::from_le_bytes(value.0)
    }
}

/// An unmasked SIMD floating-point exception: #XM, or #UD while CR4.OSXMMEXCPT is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimdException;

/// The operands of one vector instruction, in and out. A core keeps one and fills in what the shape names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Operands {
    /// In: the old contents of the first operand, where it is an XMM or MM register. Out: the result.
    pub first: Xmm,
    /// In: the second operand, zeros above its width.
    pub second: Xmm,
    /// In: XMM0, where the instruction names it without saying so.
    pub third: Xmm,
    /// In and out: MXCSR, where the shape says `floating`.
    pub mxcsr: u32,
    /// Scratch: the host's MXCSR while the guest's is loaded.
    pub(crate) host_mxcsr: u32,
    /// Out: CF, PF, AF, ZF, SF and OF at their places in EFLAGS, where the shape says `flags`.
    pub flags: u32,
    /// Out: bit i tells that byte i of `first` is to be stored, for a masked store.
    pub store_mask: u16,
    /// In: the immediate byte.
    pub imm8: u8,
    /// In: RAX and RDX, where the instruction takes its lengths from them.
    pub lengths: [u64; 2],
}
