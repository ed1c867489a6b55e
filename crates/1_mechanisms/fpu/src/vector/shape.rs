//! The shape of a vector instruction, told by its description in iced-x86.

use super::{Entry, VectorOp};
use iced_x86::{Code, Mnemonic, OpCodeInfo, OpCodeOperandKind as Kind};

/// Which registers an operand may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// None: it is always in memory.
    None,
    /// XMM registers.
    Xmm,
    /// MM registers.
    Mm,
    /// General registers, 32 bits; a result is stored with zeros above.
    General32,
    /// General registers, 64 bits.
    General64,
}

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the operand in the instruction.
    pub operand: u32,
    /// The registers that it may be.
    pub file: File,
    /// Its bytes where it is in memory; 0 where it is never.
    pub memory: u8,
    /// Whether memory must be aligned to 16 bytes, else #GP(0) (SDM Vol. 1 §4.1.1, Vol. 3 table 23-4).
    pub aligned: bool,
}

/// Where a result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the first operand.
    First,
    /// The lower 32 bits of it to ECX, zeros above.
    Ecx,
    /// To XMM0.
    Xmm0,
    /// To memory at DS:rDI (or the overriding segment), those bytes that [`Operands::store_mask`](crate::Operands) names.
    Masked,
    /// Nowhere: only flags are written.
    Flags,
    /// Nowhere: EMMS.
    Nothing,
}

/// What an instruction reads without naming it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implicit {
    /// Nothing.
    None,
    /// XMM0, into [`Operands::third`](crate::Operands).
    Xmm0,
    /// RAX and RDX, into [`Operands::lengths`](crate::Operands).
    Lengths,
}

/// How an instruction uses the x87 registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmx {
    /// Not at all.
    None,
    /// As MMX registers: [`Fpu::enter_mmx`](crate::Fpu::enter_mmx) goes with it.
    Enter,
    /// As [`Mmx::Enter`] when its second operand is an MM register, not at all when it is in memory.
    EnterByRegister,
    /// It gives them back: [`Fpu::leave_mmx`](crate::Fpu::leave_mmx).
    Leave,
}

/// Full-width operands in memory that need no alignment.
fn unaligned(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Movups
            | M::Movupd
            | M::Movdqu
            | M::Lddqu
            | M::Pcmpestri
            | M::Pcmpestrm
            | M::Pcmpistri
            | M::Pcmpistrm
            | M::Pcmpestri64
            | M::Pcmpestrm64
    )
}

fn place(info: &OpCodeInfo, operand: u32) -> Option<Place> {
    let (file, in_memory) = match info.op_kind(operand) {
        Kind::xmm_reg | Kind::xmm_rm => (File::Xmm, false),
        Kind::xmm_or_mem => (File::Xmm, true),
        Kind::mm_reg | Kind::mm_rm => (File::Mm, false),
        Kind::mm_or_mem => (File::Mm, true),
        Kind::r32_reg | Kind::r32_rm => (File::General32, false),
        Kind::r32_or_mem => (File::General32, true),
        Kind::r64_reg | Kind::r64_rm => (File::General64, false),
        Kind::r64_or_mem => (File::General64, true),
        Kind::mem => (File::None, true),
        _ => return None,
    };
    // No instruction of the tables has more than 16 bytes in memory.
    let memory = if in_memory {
        info.memory_size().size() as u8
    } else {
        0
    };
    Some(Place {
        operand,
        file,
        memory,
        aligned: memory == 16 && !unaligned(info.mnemonic()),
    })
}

const NOWHERE: Place = Place {
    operand: 0,
    file: File::None,
    memory: 0,
    aligned: false,
};

/// The whole description of `entry`'s instruction.
pub(super) fn shape(entry: &Entry) -> VectorOp {
    use Mnemonic as M;
    let code = entry.code;
    let info = code.op_code();
    let mnemonic = info.mnemonic();
    let masked = matches!(mnemonic, M::Maskmovq | M::Maskmovdqu);
    let base = u32::from(masked);
    let first = place(info, base).unwrap_or(NOWHERE);
    let second = (base + 1 < info.op_count())
        .then(|| place(info, base + 1))
        .flatten();
    let target = match mnemonic {
        M::Maskmovq | M::Maskmovdqu => Target::Masked,
        M::Pcmpestri | M::Pcmpistri | M::Pcmpestri64 => Target::Ecx,
        M::Pcmpestrm | M::Pcmpistrm | M::Pcmpestrm64 => Target::Xmm0,
        M::Comiss | M::Comisd | M::Ucomiss | M::Ucomisd | M::Ptest => Target::Flags,
        M::Emms => Target::Nothing,
        _ => Target::First,
    };
    let implicit = match mnemonic {
        M::Pblendvb | M::Blendvps | M::Blendvpd | M::Sha256rnds2 => Implicit::Xmm0,
        M::Pcmpestri | M::Pcmpestri64 | M::Pcmpestrm | M::Pcmpestrm64 => Implicit::Lengths,
        _ => Implicit::None,
    };
    VectorOp {
        code,
        first,
        second,
        target,
        implicit,
        imm8: (0..info.op_count()).any(|n| info.op_kind(n) == Kind::imm8),
        floating: entry.floating,
        flags: matches!(target, Target::Ecx | Target::Xmm0 | Target::Flags),
        copies: entry.copies,
        mmx: mmx(code, first, second),
        registers: entry.registers,
        memory: entry.memory,
    }
}

fn mmx(code: Code, first: Place, second: Option<Place>) -> Mmx {
    let of = |place: Place| place.file == File::Mm;
    match code {
        Code::Emms => Mmx::Leave,
        Code::Cvtpi2pd_xmm_mmm64 | Code::Cvtpi2ps_xmm_mmm64 => Mmx::EnterByRegister,
        _ if of(first) || second.is_some_and(of) => Mmx::Enter,
        _ => Mmx::None,
    }
}
