//! The table of x87 instructions, most of it told by their descriptions in iced-x86.

use super::choose::{Operand, choose};
use super::{Run, X87Op, control, moves, native};
use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic as M, OpCodeOperandKind as Kind};
use std::sync::LazyLock;

/// How to execute `code`, if it is an x87 instruction.
pub fn x87(code: Code) -> Option<&'static X87Op> {
    let at = (*TABLE.index.get(code as usize)?)?;
    TABLE.ops.get(usize::from(at))
}

/// All that [`x87`] knows.
pub fn x87_ops() -> impl Iterator<Item = &'static X87Op> {
    TABLE.ops.iter()
}

struct Table {
    ops: Vec<X87Op>,
    index: Vec<Option<u16>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        ops: Vec::new(),
        index: vec![None; Code::values().len()],
    };
    for code in Code::values().filter(|&code| is_x87(code)) {
        table.index[code as usize] = u16::try_from(table.ops.len()).ok();
        table.ops.push(describe(code));
    }
    table
});

/// Whether a decoder meets `code` on a processor of today: a WAIT before an instruction is one of its own, and the
/// additions of the 80287XL and 80387SL are gone.
fn is_x87(code: Code) -> bool {
    let info = code.op_code();
    let old = [CpuidFeature::FPU287XL_ONLY, CpuidFeature::FPU387SL_ONLY];
    let of_x87 = [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387];
    let has = |list: &[CpuidFeature]| code.cpuid_features().iter().any(|feature| list.contains(feature));
    code == Code::Wait
        || code.encoding() == EncodingKind::Legacy && has(&of_x87) && !has(&old) && !info.fwait()
}

fn describe(code: Code) -> X87Op {
    let info = code.op_code();
    let mnemonic = info.mnemonic();
    let memory = if (0..info.op_count()).any(|n| info.op_kind(n) == Kind::mem) {
        // The largest is FSAVE's image of 108 bytes.
        info.memory_size().size() as u8
    } else {
        0
    };
    let stores = matches!(
        mnemonic,
        M::Fst
            | M::Fstp
            | M::Fist
            | M::Fistp
            | M::Fisttp
            | M::Fbstp
            | M::Fnstcw
            | M::Fnstsw
            | M::Fnstenv
            | M::Fnsave
    );
    let register = (0..info.op_count()).find(|&n| info.op_kind(n) == Kind::sti_opcode);
    let run = control(mnemonic);
    let bytes = info.op_code();
    let opcode = match info.op_code_len() {
        2 => [(bytes >> 8) as u8 & 7, bytes as u8],
        _ => [bytes as u8 & 7, (info.group_index().max(0) as u8) << 3],
    };
    let operand = match (memory, register) {
        (0, None) => Operand::None,
        (0, Some(_)) => Operand::Register,
        _ => Operand::Memory,
    };
    let (quick_run, quick) = choose(code, opcode, operand);
    X87Op {
        code,
        load: if stores { 0 } else { memory },
        store: if stores { memory } else { 0 },
        indexed: register.is_some(),
        register: register.unwrap_or(0),
        waits: !matches!(
            mnemonic,
            M::Fninit
                | M::Fnclex
                | M::Fnstcw
                | M::Fnstsw
                | M::Fnstenv
                | M::Fnsave
                | M::Fneni
                | M::Fndisi
                | M::Fnsetpm
        ),
        records: run.is_none(),
        reads_flags: matches!(
            mnemonic,
            M::Fcmovb
                | M::Fcmovbe
                | M::Fcmove
                | M::Fcmovnb
                | M::Fcmovnbe
                | M::Fcmovne
                | M::Fcmovnu
                | M::Fcmovu
        ),
        writes_flags: matches!(mnemonic, M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip),
        writes_ax: code == Code::Fnstsw_AX,
        opcode,
        quick,
        run: run
            .or_else(|| moves::choose(code))
            .or(quick_run)
            .unwrap_or(native::run),
    }
}

/// The function of a control instruction.
fn control(mnemonic: M) -> Option<Run> {
    Some(match mnemonic {
        M::Wait | M::Fneni | M::Fndisi | M::Fnsetpm => control::nothing,
        M::Fninit => control::fninit,
        M::Fnclex => control::fnclex,
        M::Fldcw => control::fldcw,
        M::Fnstcw => control::fnstcw,
        M::Fnstsw => control::fnstsw,
        M::Fldenv => control::fldenv,
        M::Fnstenv => control::fnstenv,
        M::Frstor => control::frstor,
        M::Fnsave => control::fnsave,
        _ => return None,
    })
}
