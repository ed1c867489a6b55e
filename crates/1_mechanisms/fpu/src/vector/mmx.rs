//! What works on MMX registers: MMX and what SSE, SSE2 and SSSE3 added to it.

use super::{Done, Entry};
use crate::operands::Operands;
use iced_x86::Code;

/// The instructions, by frame and operands.
pub(super) static TABLES: &[&[Entry]] = &[
    entries!(mmx, " mm0, qword ptr [rdi + 16]":
        Packsswb_mm_mmm64 "packsswb", Pcmpgtb_mm_mmm64 "pcmpgtb", Pcmpgtw_mm_mmm64 "pcmpgtw",
        Pcmpgtd_mm_mmm64 "pcmpgtd", Packuswb_mm_mmm64 "packuswb", Punpckhbw_mm_mmm64 "punpckhbw",
        Punpckhwd_mm_mmm64 "punpckhwd", Punpckhdq_mm_mmm64 "punpckhdq", Packssdw_mm_mmm64 "packssdw",
        Pcmpeqb_mm_mmm64 "pcmpeqb", Pcmpeqw_mm_mmm64 "pcmpeqw", Pcmpeqd_mm_mmm64 "pcmpeqd",
        Psrlw_mm_mmm64 "psrlw", Psrld_mm_mmm64 "psrld", Psrlq_mm_mmm64 "psrlq", Paddq_mm_mmm64 "paddq",
        Pmullw_mm_mmm64 "pmullw", Psubusb_mm_mmm64 "psubusb", Psubusw_mm_mmm64 "psubusw",
        Pminub_mm_mmm64 "pminub", Pand_mm_mmm64 "pand", Paddusb_mm_mmm64 "paddusb",
        Paddusw_mm_mmm64 "paddusw", Pmaxub_mm_mmm64 "pmaxub", Pandn_mm_mmm64 "pandn",
        Pavgb_mm_mmm64 "pavgb", Psraw_mm_mmm64 "psraw", Psrad_mm_mmm64 "psrad", Pavgw_mm_mmm64 "pavgw",
        Pmulhuw_mm_mmm64 "pmulhuw", Pmulhw_mm_mmm64 "pmulhw", Psubsb_mm_mmm64 "psubsb",
        Psubsw_mm_mmm64 "psubsw", Pminsw_mm_mmm64 "pminsw", Por_mm_mmm64 "por", Paddsb_mm_mmm64 "paddsb",
        Paddsw_mm_mmm64 "paddsw", Pmaxsw_mm_mmm64 "pmaxsw", Pxor_mm_mmm64 "pxor", Psllw_mm_mmm64 "psllw",
        Pslld_mm_mmm64 "pslld", Psllq_mm_mmm64 "psllq", Pmuludq_mm_mmm64 "pmuludq",
        Pmaddwd_mm_mmm64 "pmaddwd", Psadbw_mm_mmm64 "psadbw", Psubb_mm_mmm64 "psubb",
        Psubw_mm_mmm64 "psubw", Psubd_mm_mmm64 "psubd", Psubq_mm_mmm64 "psubq", Paddb_mm_mmm64 "paddb",
        Paddw_mm_mmm64 "paddw", Paddd_mm_mmm64 "paddd", Pshufb_mm_mmm64 "pshufb", Phaddw_mm_mmm64 "phaddw",
        Phaddd_mm_mmm64 "phaddd", Phaddsw_mm_mmm64 "phaddsw", Pmaddubsw_mm_mmm64 "pmaddubsw",
        Phsubw_mm_mmm64 "phsubw", Phsubd_mm_mmm64 "phsubd", Phsubsw_mm_mmm64 "phsubsw",
        Psignb_mm_mmm64 "psignb", Psignw_mm_mmm64 "psignw", Psignd_mm_mmm64 "psignd",
        Pmulhrsw_mm_mmm64 "pmulhrsw", Pabsb_mm_mmm64 "pabsb", Pabsw_mm_mmm64 "pabsw",
        Pabsd_mm_mmm64 "pabsd",
    ),
    entries!(mmx, " mm0, dword ptr [rdi + 16]":
        Punpcklbw_mm_mmm32 "punpcklbw", Punpcklwd_mm_mmm32 "punpcklwd", Punpckldq_mm_mmm32 "punpckldq",
    ),
    entries!(mmx_to_general, " eax, mm0":
        Pmovmskb_r32_mm "pmovmskb", Pmovmskb_r64_mm "pmovmskb",
    ),
    immediates!(mmx, " mm0, qword ptr [rdi + 16]":
        Pshufw_mm_mmm64_imm8 "pshufw" 256, Palignr_mm_mmm64_imm8 "palignr" 256,
    ),
    entries!(mmx_count, " mm0, qword ptr [rdi + 16]":
        Psrlw_mm_imm8 "psrlw", Psraw_mm_imm8 "psraw", Psllw_mm_imm8 "psllw", Psrld_mm_imm8 "psrld",
        Psrad_mm_imm8 "psrad", Pslld_mm_imm8 "pslld", Psrlq_mm_imm8 "psrlq", Psllq_mm_imm8 "psllq",
    ),
    &[Entry::new(Code::Emms, nothing)],
];

/// EMMS: the core puts the state of the registers into effect.
fn nothing(_: &mut Operands) -> Done {
    Ok(())
}
