//! Moves, inserts and extracts, most of them in plain Rust.

use super::{Done, Entry};
use crate::operands::{Operands, Xmm};
use iced_x86::Code;

/// The instructions, by frame and operands.
pub(super) static TABLES: &[&[Entry]] = &[COPIES, HALVES, INSERTS, EXTRACTS, SHUFFLES, MASKS];

/// The second operand is the result: its place and the first one's decide how much of it.
static COPIES: &[Entry] = &[
    Entry::copy(Code::Movups_xmm_xmmm128),
    Entry::copy(Code::Movupd_xmm_xmmm128),
    Entry::copy(Code::Movups_xmmm128_xmm),
    Entry::copy(Code::Movupd_xmmm128_xmm),
    Entry::copy(Code::Movaps_xmm_xmmm128),
    Entry::copy(Code::Movapd_xmm_xmmm128),
    Entry::copy(Code::Movaps_xmmm128_xmm),
    Entry::copy(Code::Movapd_xmmm128_xmm),
    Entry::copy(Code::Movdqa_xmm_xmmm128),
    Entry::copy(Code::Movdqu_xmm_xmmm128),
    Entry::copy(Code::Movdqa_xmmm128_xmm),
    Entry::copy(Code::Movdqu_xmmm128_xmm),
    Entry::copy(Code::Movntps_m128_xmm),
    Entry::copy(Code::Movntpd_m128_xmm),
    Entry::copy(Code::Movntdq_m128_xmm),
    Entry::copy(Code::Movntdqa_xmm_m128),
    Entry::copy(Code::Lddqu_xmm_m128),
    Entry::copy(Code::Movlps_m64_xmm),
    Entry::copy(Code::Movlpd_m64_xmm),
    Entry::copy(Code::Movd_mm_rm32),
    Entry::copy(Code::Movq_mm_rm64),
    Entry::copy(Code::Movd_xmm_rm32),
    Entry::copy(Code::Movq_xmm_rm64),
    Entry::copy(Code::Movd_rm32_mm),
    Entry::copy(Code::Movq_rm64_mm),
    Entry::copy(Code::Movd_rm32_xmm),
    Entry::copy(Code::Movq_rm64_xmm),
    Entry::copy(Code::Movq_mm_mmm64),
    Entry::copy(Code::Movq_mmm64_mm),
    Entry::copy(Code::Movntq_m64_mm),
    Entry::copy(Code::Movq2dq_xmm_mm),
    Entry::copy(Code::Movdq2q_mm_xmm),
];

/// Half a register or less is the result, or is replaced.
static HALVES: &[Entry] = &[
    Entry::copy_in_memory(Code::Movss_xmm_xmmm32, low_single),
    Entry::copy_in_memory(Code::Movss_xmmm32_xmm, low_single),
    Entry::copy_in_memory(Code::Movsd_xmm_xmmm64, low_double),
    Entry::copy_in_memory(Code::Movsd_xmmm64_xmm, low_double),
    Entry::copy_in_memory(Code::Movq_xmm_xmmm64, only_low_double),
    Entry::copy_in_memory(Code::Movq_xmmm64_xmm, only_low_double),
    Entry::new(Code::Movlps_xmm_m64, low_double),
    Entry::new(Code::Movlpd_xmm_m64, low_double),
    Entry::new(Code::Movhps_xmm_m64, high_double),
    Entry::new(Code::Movhpd_xmm_m64, high_double),
    Entry::new(Code::Movlhps_xmm_xmm, high_double),
    Entry::new(Code::Movhlps_xmm_xmm, high_to_low),
    Entry::new(Code::Movhps_m64_xmm, only_high_double),
    Entry::new(Code::Movhpd_m64_xmm, only_high_double),
];

static INSERTS: &[Entry] = &[
    Entry::new(Code::Pinsrb_xmm_r32m8_imm8, insert::<1>),
    Entry::new(Code::Pinsrb_xmm_r64m8_imm8, insert::<1>),
    Entry::new(Code::Pinsrw_xmm_r32m16_imm8, insert::<2>),
    Entry::new(Code::Pinsrw_xmm_r64m16_imm8, insert::<2>),
    Entry::new(Code::Pinsrd_xmm_rm32_imm8, insert::<4>),
    Entry::new(Code::Pinsrq_xmm_rm64_imm8, insert::<8>),
    Entry::new(Code::Pinsrw_mm_r32m16_imm8, insert_mmx),
    Entry::new(Code::Pinsrw_mm_r64m16_imm8, insert_mmx),
    Entry::by_place(
        Code::Insertps_xmm_xmmm32_imm8,
        always!(|o| machine!(o:
            "movdqa xmm0, [rdi]", "movdqa xmm1, [rdi + 16]",
            by_immediate!(256, "insertps xmm0, xmm1, .Limmediate"), "movdqa [rdi], xmm0")),
        plain!(by_immediate!(
            256,
            "insertps xmm0, dword ptr [rdi + 16], .Limmediate"
        )),
    ),
    Entry::new(Code::Pslldq_xmm_imm8, shift_left_bytes),
    Entry::new(Code::Psrldq_xmm_imm8, shift_right_bytes),
];

static EXTRACTS: &[Entry] = &[
    Entry::new(Code::Pextrb_r32m8_xmm_imm8, extract::<1>),
    Entry::new(Code::Pextrb_r64m8_xmm_imm8, extract::<1>),
    Entry::new(Code::Pextrw_r32_xmm_imm8, extract::<2>),
    Entry::new(Code::Pextrw_r64_xmm_imm8, extract::<2>),
    Entry::new(Code::Pextrw_r32m16_xmm_imm8, extract::<2>),
    Entry::new(Code::Pextrw_r64m16_xmm_imm8, extract::<2>),
    Entry::new(Code::Pextrd_rm32_xmm_imm8, extract::<4>),
    Entry::new(Code::Extractps_rm32_xmm_imm8, extract::<4>),
    Entry::new(Code::Extractps_r64m32_xmm_imm8, extract::<4>),
    Entry::new(Code::Pextrq_rm64_xmm_imm8, extract::<8>),
    Entry::new(Code::Pextrw_r32_mm_imm8, extract_mmx),
    Entry::new(Code::Pextrw_r64_mm_imm8, extract_mmx),
    Entry::new(Code::Movmskps_r32_xmm, to_general!("movmskps eax, xmm1")),
    Entry::new(Code::Movmskps_r64_xmm, to_general!("movmskps eax, xmm1")),
    Entry::new(Code::Movmskpd_r32_xmm, to_general!("movmskpd eax, xmm1")),
    Entry::new(Code::Movmskpd_r64_xmm, to_general!("movmskpd eax, xmm1")),
];

static SHUFFLES: &[Entry] = &[
    Entry::new(
        Code::Movsldup_xmm_xmmm128,
        plain!("movsldup xmm0, xmmword ptr [rdi + 16]"),
    ),
    Entry::new(
        Code::Movshdup_xmm_xmmm128,
        plain!("movshdup xmm0, xmmword ptr [rdi + 16]"),
    ),
    Entry::new(
        Code::Movddup_xmm_xmmm64,
        plain!("movddup xmm0, qword ptr [rdi + 16]"),
    ),
];

static MASKS: &[Entry] = &[
    Entry::new(Code::Maskmovq_rDI_mm_mm, masked),
    Entry::new(Code::Maskmovdqu_rDI_xmm_xmm, masked),
];

/// The result is the second operand.
pub(super) fn copy(o: &mut Operands) -> Done {
    o.first = o.second;
    Ok(())
}

fn low_single(o: &mut Operands) -> Done {
    o.first.0[..4].copy_from_slice(&o.second.0[..4]);
    Ok(())
}

fn low_double(o: &mut Operands) -> Done {
    o.first.0[..8].copy_from_slice(&o.second.0[..8]);
    Ok(())
}

fn only_low_double(o: &mut Operands) -> Done {
    o.first = o.second.low().into();
    Ok(())
}

fn high_double(o: &mut Operands) -> Done {
    o.first.0[8..].copy_from_slice(&o.second.0[..8]);
    Ok(())
}

fn high_to_low(o: &mut Operands) -> Done {
    o.first.0[..8].copy_from_slice(&o.second.0[8..]);
    Ok(())
}

fn only_high_double(o: &mut Operands) -> Done {
    o.first = o.second.high().into();
    Ok(())
}

/// Replaces the element of `N` bytes that the immediate chooses.
fn insert<const N: usize>(o: &mut Operands) -> Done {
    let at = usize::from(o.imm8) % (16 / N) * N;
    o.first.0[at..at + N].copy_from_slice(&o.second.0[..N]);
    Ok(())
}

fn insert_mmx(o: &mut Operands) -> Done {
    let at = usize::from(o.imm8 & 3) * 2;
    o.first.0[at..at + 2].copy_from_slice(&o.second.0[..2]);
    Ok(())
}

/// The element of `N` bytes that the immediate chooses, zeros above.
fn extract<const N: usize>(o: &mut Operands) -> Done {
    let at = usize::from(o.imm8) % (16 / N) * N;
    let mut result = Xmm::default();
    result.0[..N].copy_from_slice(&o.second.0[at..at + N]);
    o.first = result;
    Ok(())
}

fn extract_mmx(o: &mut Operands) -> Done {
    o.imm8 &= 3;
    extract::<2>(o)
}

fn shift_left_bytes(o: &mut Operands) -> Done {
    o.first = u128::from(o.first)
        .checked_shl(u32::from(o.imm8) * 8)
        .unwrap_or(0)
        .into();
    Ok(())
}

fn shift_right_bytes(o: &mut Operands) -> Done {
    o.first = u128::from(o.first)
        .checked_shr(u32::from(o.imm8) * 8)
        .unwrap_or(0)
        .into();
    Ok(())
}

/// The first operand is the data, the second the mask: the top bit of each byte.
fn masked(o: &mut Operands) -> Done {
    o.store_mask = o
        .second
        .0
        .iter()
        .enumerate()
        .fold(0, |mask, (i, byte)| mask | u16::from(byte >> 7) << i);
    Ok(())
}
