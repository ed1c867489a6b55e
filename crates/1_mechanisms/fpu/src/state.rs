//! The guest's x87, MMX and SSE registers, and the rules that hold between them (SDM Vol. 1, chapters 8 to 10).

use crate::operands::Xmm;

/// FSW: the six exception flags, in the order of FCW's masks: invalid, denormal, zero divide, overflow, underflow, precision.
pub(crate) const EXCEPTIONS: u16 = 0x3f;
/// FSW: exception summary.
const ERROR_SUMMARY: u16 = 1 << 7;
/// FSW: busy, a copy of the exception summary since the 80387.
const BUSY: u16 = 1 << 15;
/// FSW: the condition codes C0, C2 and C3 (C1 apart).
pub(crate) const C0_C2_C3: u16 = 0x4500;
/// FSW: condition code C1.
pub(crate) const C1: u16 = 1 << 9;
/// FSW: the number of the register that is ST(0).
const TOP: u16 = 7 << 11;

/// MXCSR bits that the guest may set: the 16 that SSE2 knows.
pub const MXCSR_MASK: u32 = 0xffff;
/// MXCSR after reset: every exception masked.
pub const MXCSR_INIT: u32 = 0x1f80;

/// A general-protection fault, error code 0: a reserved bit was set in what an instruction loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gp;

/// An 80-bit number in the double extended-precision format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Extended {
    /// Significand with its explicit integer bit.
    pub significand: u64,
    /// Sign (bit 15) and biased exponent.
    pub exponent: u16,
}

impl Extended {
    /// From ten bytes as memory holds them.
    pub fn from_bytes(bytes: [u8; 10]) -> Extended {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        Extended {
            significand: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            exponent: u16::from_le_bytes([i, j]),
        }
    }

    /// To ten bytes as memory holds them.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.significand.to_le_bytes());
        bytes[8..].copy_from_slice(&self.exponent.to_le_bytes());
        bytes
    }

    /// Whether it is neither zero, denormal, infinite, no number nor of a format that processors no longer support.
    pub(crate) fn is_normal(self) -> bool {
        self.tag() == 0
    }

    /// The two tag bits of a register that holds this number: 0 valid, 1 zero, 2 special.
    fn tag(self) -> u16 {
        match (self.exponent & 0x7fff, self.significand >> 63) {
            (0, _) if self.significand == 0 => 1,
            (0 | 0x7fff, _) | (_, 0) => 2,
            _ => 0,
        }
    }
}

/// What the last x87 instruction was that is not a control instruction (SDM Vol. 1 §8.1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastInstruction {
    /// FOP: the low three bits of the first opcode byte and the whole second one.
    pub opcode: u16,
    /// FIP: its offset.
    pub ip: u64,
    /// FCS: its code segment.
    pub cs: u16,
    /// FDP: the offset of its memory operand.
    pub dp: u64,
    /// FDS: the segment of its memory operand.
    pub ds: u16,
}

/// The x87, MMX and SSE state of one guest processor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Fpu {
    xmm: [Xmm; 16],
    /// By physical number: R0 to R7, which are also MM0 to MM7.
    registers: [Extended; 8],
    mxcsr: u32,
    pub(crate) control: u16,
    pub(crate) status: u16,
    /// Bit i: Ri holds a value (FXSAVE's abridged tag word).
    pub(crate) tags: u8,
    /// What the last x87 instruction was.
    pub last: LastInstruction,
}

impl Default for Fpu {
    /// The state after power-up (SDM Vol. 3, table 10-1).
    fn default() -> Fpu {
        Fpu {
            xmm: [Xmm::default(); 16],
            registers: [Extended::default(); 8],
            mxcsr: MXCSR_INIT,
            control: 0x40,
            status: 0,
            tags: 0xff,
            last: LastInstruction::default(),
        }
    }
}

/// The state and its parts.
impl Fpu {
    /// The register XMM`n`; `n` is below 16.
    #[inline]
    pub fn xmm(&self, n: usize) -> Xmm {
        self.xmm[n]
    }

    /// Writes the register XMM`n`; `n` is below 16.
    #[inline]
    pub fn set_xmm(&mut self, n: usize, value: Xmm) {
        self.xmm[n] = value;
    }

    /// The register MM`n`; `n` is below 8.
    #[inline]
    pub fn mm(&self, n: usize) -> u64 {
        self.registers[n].significand
    }

    /// Writes the register MM`n`, which also sets the sign and exponent of R`n` to ones; `n` is below 8.
    #[inline]
    pub fn set_mm(&mut self, n: usize, value: u64) {
        self.registers[n] = Extended {
            significand: value,
            exponent: 0xffff,
        };
    }

    /// What an MMX instruction does besides its work: TOP becomes 0, every register holds a value.
    #[inline]
    pub fn enter_mmx(&mut self) {
        self.status &= !TOP;
        self.tags = 0xff;
    }

    /// EMMS: TOP becomes 0, every register empty.
    pub fn leave_mmx(&mut self) {
        self.status &= !TOP;
        self.tags = 0;
    }

    /// MXCSR.
    #[inline]
    pub fn mxcsr(&self) -> u32 {
        self.mxcsr
    }

    /// LDMXCSR.
    ///
    /// # Errors
    /// A reserved bit is set.
    #[inline]
    pub fn set_mxcsr(&mut self, value: u32) -> Result<(), Gp> {
        if value & !MXCSR_MASK != 0 {
            return Err(Gp);
        }
        self.mxcsr = value;
        Ok(())
    }

    /// The x87 control word.
    pub fn control(&self) -> u16 {
        self.control
    }

    /// The x87 status word with TOP.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The abridged tag word: bit i tells that the physical register Ri holds a value.
    pub fn tags(&self) -> u8 {
        self.tags
    }

    /// Whether an unmasked x87 exception waits: the next waiting instruction raises #MF instead of running.
    #[inline]
    pub fn pending(&self) -> bool {
        self.status & ERROR_SUMMARY != 0
    }

    /// FNINIT: registers keep their contents but are empty.
    pub fn initialise(&mut self) {
        self.control = 0x37f;
        self.status = 0;
        self.tags = 0;
        self.last = LastInstruction::default();
    }

    /// FLDCW.
    pub(crate) fn set_control(&mut self, value: u16) {
        // Bit 6 always reads as one; the other reserved bits as zero (infinity control, bit 12, is stored).
        self.control = value & 0x1f3f | 0x40;
        self.summarise();
    }

    /// Loads the status word from an image; summary and busy follow from flags and masks.
    pub(crate) fn set_status(&mut self, value: u16) {
        self.status = value;
        self.summarise();
    }

    /// Sets summary and busy by flags and masks.
    pub(crate) fn summarise(&mut self) {
        let raised = self.status & !self.control & EXCEPTIONS != 0;
        self.status &= !(ERROR_SUMMARY | BUSY);
        if raised {
            self.status |= ERROR_SUMMARY | BUSY;
        }
    }
}

/// The register stack.
impl Fpu {
    /// TOP.
    #[inline]
    pub(crate) fn top(&self) -> usize {
        usize::from(self.status >> 11 & 7)
    }

    #[inline]
    fn set_top(&mut self, top: usize) {
        self.status = self.status & !TOP | (top as u16 & 7) << 11;
    }

    #[inline]
    fn physical(&self, i: usize) -> usize {
        (self.top() + i) & 7
    }

    /// ST(`i`), whatever its tag says.
    #[inline]
    pub fn st(&self, i: usize) -> Extended {
        self.registers[self.physical(i)]
    }

    /// Writes ST(`i`) without touching its tag.
    #[inline]
    pub(crate) fn put_st(&mut self, i: usize, value: Extended) {
        self.registers[self.physical(i)] = value;
    }

    /// Writes ST(`i`), which then holds a value.
    #[inline]
    pub(crate) fn set_st(&mut self, i: usize, value: Extended) {
        let n = self.physical(i);
        self.registers[n] = value;
        self.tags |= 1 << n;
    }

    /// Whether ST(`i`) holds a value.
    #[inline]
    pub fn holds(&self, i: usize) -> bool {
        self.tags >> self.physical(i) & 1 != 0
    }

    /// Pushes onto a stack that has room.
    #[inline]
    pub(crate) fn push(&mut self, value: Extended) {
        self.set_top(self.top().wrapping_sub(1));
        self.set_st(0, value);
    }

    /// Pops.
    #[inline]
    pub(crate) fn pop(&mut self) {
        self.tags &= !(1 << self.top());
        self.set_top(self.top() + 1);
    }

    /// The full tag word: two bits for each physical register, 3 for an empty one.
    pub fn full_tags(&self) -> u16 {
        let mut word = 0;
        for (n, register) in self.registers.iter().enumerate() {
            let tag = if self.tags >> n & 1 == 0 {
                3
            } else {
                register.tag()
            };
            word |= tag << (2 * n);
        }
        word
    }

    /// Loads a full tag word, of which only "empty" counts.
    pub(crate) fn set_full_tags(&mut self, word: u16) {
        self.tags = (0..8)
            .filter(|n| word >> (2 * n) & 3 != 3)
            .fold(0, |tags, n| tags | 1 << n);
    }
}
