//! The comparisons of strings of SSE4.2.

use super::Entry;
use crate::operands::Operands;

/// The instructions, by frame and operands.
pub(super) static TABLES: &[&[Entry]] = &[
    immediates!(string_index, " xmm1, xmmword ptr [rdi + 16]":
        Pcmpestri_xmm_xmmm128_imm8 "pcmpestri" 128, Pcmpistri_xmm_xmmm128_imm8 "pcmpistri" 128,
    ),
    immediates!(string_index_wide, " xmm1, xmmword ptr [rdi + 16]":
        Pcmpestri64_xmm_xmmm128_imm8 "pcmpestri" 128,
    ),
    immediates!(string_mask, " xmm1, xmmword ptr [rdi + 16]":
        Pcmpestrm_xmm_xmmm128_imm8 "pcmpestrm" 128, Pcmpistrm_xmm_xmmm128_imm8 "pcmpistrm" 128,
    ),
    immediates!(string_mask_wide, " xmm1, xmmword ptr [rdi + 16]":
        Pcmpestrm64_xmm_xmmm128_imm8 "pcmpestrm" 128,
    ),
];

/// Makes 64-bit lengths fit 32 bits: the processor takes the absolute value and at most 16 of it.
pub(super) fn narrow_lengths(o: &mut Operands) {
    o.lengths = o.lengths.map(|length| (length as i64).clamp(-16, 16) as u64);
}
