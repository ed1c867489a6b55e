//! The frames in which one vector instruction of the host runs on [`Operands`]: each macro gives a [`Run`].

use crate::operands::Operands;
use std::mem::offset_of;

// The assembly below names fields by these distances from rdi.
const _: () = assert!(
    offset_of!(Operands, first) == 0
        && offset_of!(Operands, second) == 16
        && offset_of!(Operands, third) == 32
        && offset_of!(Operands, mxcsr) == 48
        && offset_of!(Operands, host_mxcsr) == 52
        && offset_of!(Operands, flags) == 56
        && offset_of!(Operands, imm8) == 62
        && offset_of!(Operands, lengths) == 64
);

/// Runs lines of assembly with rdi at the operands; they may change the registers named here, memory behind rdi, the
/// stack below, and the x87 and MMX registers provided that EMMS follows.
macro_rules! machine {
    ($operands:ident: $($line:expr),+ $(,)?) => {
        // SAFETY: the lines touch only the operands behind rdi and what is declared here; lines that load MXCSR put
        // the host's back, lines that use MMX end with EMMS, lines that call return.
        unsafe {
            std::arch::asm!(
                $($line,)+
                in("rdi") std::ptr::from_mut::<$crate::operands::Operands>($operands),
                out("rax") _, out("rcx") _, out("rdx") _, out("r8") _, out("r9") _,
                out("xmm0") _, out("xmm1") _,
            )
        }
    };
}

/// As `machine!`, for lines that use MMX registers and end with EMMS.
macro_rules! machine_mmx {
    ($operands:ident: $($line:expr),+ $(,)?) => {
        // SAFETY: as in `machine!`; the x87 and MMX registers are declared changed, and EMMS leaves the stack empty.
        unsafe {
            std::arch::asm!(
                $($line,)+
                in("rdi") std::ptr::from_mut::<$crate::operands::Operands>($operands),
                out("rax") _, out("r8") _, out("r9") _, out("xmm0") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
            )
        }
    };
}

/// A function item that runs `$body` on the operands, as a [`Run`] that cannot fail.
macro_rules! always {
    (|$operands:ident| $body:expr) => {{
        fn run($operands: &mut $crate::operands::Operands) -> $crate::vector::Done {
            $body;
            Ok(())
        }
        run as $crate::vector::Run
    }};
}

/// xmm0 is the first operand and the result.
macro_rules! plain {
    ($line:expr) => {
        always!(|o| machine!(o: "movdqa xmm0, [rdi]", $line, "movdqa [rdi], xmm0"))
    };
}

/// xmm1 is the first operand and the result, xmm0 the implicit one.
macro_rules! implicit {
    ($line:expr) => {
        always!(|o| machine!(o: "movdqa xmm0, [rdi + 32]", "movdqa xmm1, [rdi]", $line, "movdqa [rdi], xmm1"))
    };
}

/// xmm1 is the second operand, rax the result.
macro_rules! to_general {
    ($line:expr) => {
        always!(|o| machine!(o: "movdqa xmm1, [rdi + 16]", $line, "mov [rdi], rax"))
    };
}

/// mm0 is the first operand and the result.
macro_rules! mmx {
    ($line:expr) => {
        always!(|o| machine_mmx!(o: "movq mm0, [rdi]", $line, "movq [rdi], mm0", "emms"))
    };
}

/// mm0 is the second operand, rax the result.
macro_rules! mmx_to_general {
    ($line:expr) => {
        always!(|o| machine_mmx!(o: "movq mm0, [rdi + 16]", $line, "mov [rdi], rax", "emms"))
    };
}

/// Runs an instruction that has an immediate: `$count` copies of `$line`, which names the immediate `.Limmediate`, stand
/// in a table of eight bytes each; the guest's immediate, taken modulo `$count`, chooses one.
macro_rules! by_immediate {
    ($count:literal, $line:expr) => {
        concat!(
            "movzx r8d, byte ptr [rdi + 62]\n",
            "and r8d, ",
            $count,
            " - 1\n",
            "lea r9, [rip + 2f]\n",
            "lea r9, [r9 + r8 * 8]\n",
            "call r9\n",
            "jmp 3f\n",
            ".p2align 3\n",
            "2:\n",
            ".set .Limmediate, 0\n",
            ".rept ",
            $count,
            "\n",
            $line,
            "\n",
            "ret\n",
            ".p2align 3\n",
            ".set .Limmediate, .Limmediate + 1\n",
            ".endr\n",
            "3:\n",
        )
    };
}

/// Collects CF, PF, AF, ZF, SF and OF into the operands.
macro_rules! store_flags {
    () => {
        "lahf\nseto al\nmovzx ecx, ah\nand ecx, 0xd5\nmovzx eax, al\nshl eax, 11\nor ecx, eax\nmov [rdi + 56], ecx"
    };
}

/// Lines under the guest's MXCSR. With every exception masked that is all; else the slow rules follow.
macro_rules! under_mxcsr {
    ($machine:ident, $results:expr; $($line:expr),+) => {{
        fn kernel(o: &mut $crate::operands::Operands) {
            $machine!(o:
                "stmxcsr [rdi + 52]", "ldmxcsr [rdi + 48]", $($line,)+ "stmxcsr [rdi + 48]", "ldmxcsr [rdi + 52]");
        }
        fn run(o: &mut $crate::operands::Operands) -> $crate::vector::Done {
            if o.mxcsr & $crate::vector::unmasked::MASKS == $crate::vector::unmasked::MASKS {
                kernel(o);
                return Ok(());
            }
            $crate::vector::unmasked::run(o, kernel, $results)
        }
        run as $crate::vector::Run
    }};
}

/// Floating point: xmm0 is the first operand and the result.
macro_rules! floating {
    ($results:expr; $line:expr) => {
        under_mxcsr!(machine, $results; "movdqa xmm0, [rdi]", $line, "movdqa [rdi], xmm0")
    };
}

/// Floating point: xmm0 is the first operand, the flags are the result.
macro_rules! floating_flags {
    ($results:expr; $line:expr) => {
        under_mxcsr!(machine, $results; "movdqa xmm0, [rdi]", $line, store_flags!())
    };
}

/// Floating point: rax is the result.
macro_rules! floating_to_general {
    ($results:expr; $line:expr) => {
        under_mxcsr!(machine, $results; $line, "mov [rdi], rax")
    };
}

/// Floating point: mm0 is the result.
macro_rules! floating_to_mmx {
    ($results:expr; $line:expr) => {
        under_mxcsr!(machine_mmx, $results; $line, "movq [rdi], mm0", "emms")
    };
}

/// Floating point from an MMX register: xmm0 is the first operand and the result.
macro_rules! floating_from_mmx {
    ($results:expr; $line:expr) => {
        under_mxcsr!(machine_mmx, $results; "movdqa xmm0, [rdi]", $line, "emms", "movdqa [rdi], xmm0")
    };
}

/// A list of [`Entry`](crate::vector::Entry)s: a frame, what it needs to know, the operands of the host's instruction,
/// and then each instruction with its name.
macro_rules! entries {
    ($frame:ident, $operands:literal: $($code:ident $name:literal),+ $(,)?) => {
        &[$($crate::vector::Entry::new(iced_x86::Code::$code, $frame!(concat!($name, $operands)))),+]
    };
    ($frame:ident[$results:expr], $operands:literal: $($code:ident $name:literal),+ $(,)?) => {
        &[$($crate::vector::Entry::floating(
            iced_x86::Code::$code,
            $frame!($results; concat!($name, $operands)),
        )),+]
    };
}

/// As `entries!`, for instructions with an immediate: each has the number of immediates that differ.
macro_rules! immediates {
    ($frame:ident, $operands:literal: $($code:ident $name:literal $count:literal),+ $(,)?) => {
        &[$($crate::vector::Entry::new(
            iced_x86::Code::$code,
            $frame!(by_immediate!($count, concat!($name, $operands, ", .Limmediate"))),
        )),+]
    };
    ($frame:ident[$results:expr], $operands:literal: $($code:ident $name:literal $count:literal),+ $(,)?) => {
        &[$($crate::vector::Entry::floating(
            iced_x86::Code::$code,
            $frame!($results; by_immediate!($count, concat!($name, $operands, ", .Limmediate"))),
        )),+]
    };
}

/// xmm0 is the first operand, the flags are the result.
macro_rules! plain_flags {
    ($line:expr) => {
        always!(|o| machine!(o: "movdqa xmm0, [rdi]", $line, store_flags!()))
    };
}

/// A shift by the immediate, done as a shift by the second operand: xmm0 is the first operand and the result.
macro_rules! count {
    ($line:expr) => {
        always!(|o| {
            o.second = u64::from(o.imm8).into();
            machine!(o: "movdqa xmm0, [rdi]", $line, "movdqa [rdi], xmm0")
        })
    };
}

/// A shift by the immediate, done as a shift by the second operand: mm0 is the first operand and the result.
macro_rules! mmx_count {
    ($line:expr) => {
        always!(|o| {
            o.second = u64::from(o.imm8).into();
            machine_mmx!(o: "movq mm0, [rdi]", $line, "movq [rdi], mm0", "emms")
        })
    };
}

/// A comparison of strings: xmm1 is the first operand, ecx and the flags are the result.
macro_rules! string_index {
    ($line:expr) => {
        always!(|o| machine!(o:
            "mov rax, [rdi + 64]", "mov rdx, [rdi + 72]", "movdqa xmm1, [rdi]",
            $line, "mov ecx, ecx", "mov [rdi], rcx", store_flags!()))
    };
}

/// A comparison of strings: xmm1 is the first operand, xmm0 and the flags are the result.
macro_rules! string_mask {
    ($line:expr) => {
        always!(|o| machine!(o:
            "mov rax, [rdi + 64]", "mov rdx, [rdi + 72]", "movdqa xmm1, [rdi]",
            $line, "movdqa [rdi], xmm0", store_flags!()))
    };
}

/// As `string_index!`, with lengths of 64 bits.
macro_rules! string_index_wide {
    ($line:expr) => {
        always!(|o| {
            $crate::vector::strings::narrow_lengths(o);
            machine!(o:
                "mov rax, [rdi + 64]", "mov rdx, [rdi + 72]", "movdqa xmm1, [rdi]",
                $line, "mov ecx, ecx", "mov [rdi], rcx", store_flags!())
        })
    };
}

/// As `string_mask!`, with lengths of 64 bits.
macro_rules! string_mask_wide {
    ($line:expr) => {
        always!(|o| {
            $crate::vector::strings::narrow_lengths(o);
            machine!(o:
                "mov rax, [rdi + 64]", "mov rdx, [rdi + 72]", "movdqa xmm1, [rdi]",
                $line, "movdqa [rdi], xmm0", store_flags!())
        })
    };
}
