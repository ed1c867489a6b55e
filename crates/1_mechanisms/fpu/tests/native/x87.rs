//! x87 instructions: the crate against the processor.

use crate::block::{self, Block, Native, RAX};
use crate::values::{Random, cases};
use fpu::x87::x87_ops;
use fpu::{EnvironmentForm, Fpu, Pending, Store, X87Op, X87Operands, x87};
use iced_x86::{Code, Mnemonic as M};

const FORM: EnvironmentForm = EnvironmentForm {
    wide: true,
    protected: true,
};
const ARITHMETIC: u64 = 0x8d5;

/// What a core does with an x87 instruction.
fn execute(op: &X87Op, index: usize, block: &mut Block) {
    let mut fpu = Fpu::default();
    fpu.frstor(&block.x87, FORM);
    let mut o = X87Operands {
        index: index as u8,
        flags: block.flags as u32,
        ..X87Operands::default()
    };
    o.memory.copy_from_slice(&block.memory[..112]);
    let done = op.execute(&mut fpu, &mut o).expect("nothing pends");
    if op.store != 0 && done == Store::Yes {
        let length = usize::from(op.store);
        block.memory[..length].copy_from_slice(&o.memory[..length]);
    }
    if op.writes_ax {
        block.general[RAX] = block.general[RAX] & !0xffff | u64::from(o.ax);
    }
    if op.writes_flags {
        block.flags = block.flags & !ARITHMETIC | u64::from(o.flags) & ARITHMETIC;
    }
    fpu.fnsave(&mut block.x87, FORM);
}

fn random_block(op: &X87Op, random: &mut Random, unmasked: bool) -> Block {
    let mut block = Block::default();
    let masks = if unmasked {
        random.next() as u16 & 0x3f
    } else {
        0x3f
    };
    let precision = [0, 2, 3, 3][random.below(4)] << 8;
    let control = masks | 0x40 | precision | (random.next() as u16 & 3) << 10;
    let raised = if op.waits {
        random.next() as u16 & masks
    } else {
        random.next() as u16 & 0x3f
    };
    let status = random.next() as u16 & 0x7f40 | if random.one_in(2) { raised } else { 0 };
    // Mostly full, mostly empty, or anything.
    let tags = match random.below(4) {
        0 => random.next() as u16,
        1 => 0,
        // Only the register that a push takes is empty.
        2 => 3 << ((((status >> 11) + 7) & 7) * 2),
        _ => [0xffff, 0xfffc, 0x00ff, 0xff00][random.below(4)],
    };
    for (at, word) in [(0, control), (4, status), (8, tags)] {
        block.x87[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }
    for i in 0..8 {
        block.x87[28 + 10 * i..][..10].copy_from_slice(&random.extended());
    }
    block.flags = random.next() & ARITHMETIC | 2;
    for chunk in block.memory.as_chunks_mut::<16>().0 {
        *chunk = random.vector();
    }
    match op.code.mnemonic() {
        M::Fldenv | M::Frstor => {
            let image = random_block_image(random);
            block.memory[..112].copy_from_slice(&image);
        }
        M::Fbld => block.memory[..9].iter_mut().for_each(|byte| {
            *byte = (random.below(10) << 4 | random.below(10)) as u8;
        }),
        M::Fldcw => block.memory[0] = random.next() as u8,
        _ if op.load == 10 => block.memory[..10].copy_from_slice(&random.extended()),
        _ if op.load == 4 && random.one_in(2) => {
            block.memory[..4].copy_from_slice(&random.single().to_le_bytes())
        }
        _ if op.load == 8 && random.one_in(2) => {
            block.memory[..8].copy_from_slice(&random.double().to_le_bytes())
        }
        _ => {}
    }
    block
}

/// An image for FLDENV and FRSTOR, of any format.
fn random_block_image(random: &mut Random) -> [u8; 112] {
    let mut image = [0; 112];
    image.iter_mut().for_each(|byte| *byte = random.next() as u8);
    image
}

/// What is defined and visible of a block after an instruction.
fn visible(op: &X87Op, mut block: Block) -> Block {
    block.flags &= ARITHMETIC;
    block.x87[12..28].fill(0);
    block.x87[108..].fill(0);
    (0..3).for_each(|n| block.x87[4 * n + 2..4 * n + 4].fill(0));
    // The pointers in what FSTENV and FSAVE store are the host's.
    match op.store {
        14 | 94 => block.memory[6..14].fill(0),
        28 | 108 => block.memory[12..28].fill(0),
        _ => {}
    }
    block.forget_host();
    block
}

fn compare(op: &X87Op, random: &mut Random, count: usize, unmasked: bool) -> Result<(), String> {
    for index in if op.indexed { 0..8 } else { 0..1 } {
        let native = Native::new(block::instruction(op.code, op.load | op.store != 0, 0, index));
        for _ in 0..if op.indexed { count.div_ceil(4) } else { count } {
            let before = random_block(op, random, unmasked);
            let (mut theirs, mut ours) = (before.clone(), before.clone());
            native.run(&mut theirs);
            execute(op, index, &mut ours);
            let differences = visible(op, ours).differences(&visible(op, theirs));
            if !differences.is_empty() {
                let before = before.differences(&Block::default());
                return Err(format!(
                    "{:?} ST({index}): {differences}\n    before: {before}",
                    op.code
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn every_x87_instruction_does_what_the_processor_does() {
    let mut random = Random(4);
    let wrong: Vec<_> = x87_ops()
        .filter_map(|op| compare(op, &mut random, cases(300), false).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_unmasked_x87_exception_leaves_what_the_processor_leaves() {
    let mut random = Random(5);
    let wrong: Vec<_> = x87_ops()
        .filter_map(|op| compare(op, &mut random, cases(300), true).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_unmasked_exception_waits_for_the_next_waiting_instruction() {
    let mut fpu = Fpu::default();
    let mut o = X87Operands::default();
    let mut run = |fpu: &mut Fpu, code: Code| {
        x87(code)
            .expect("an x87 instruction")
            .execute(fpu, &mut o)
            .map(|_| ())
    };
    assert_eq!(run(&mut fpu, Code::Fninit), Ok(()));
    let mut masks = X87Operands::default();
    masks.memory[..2].copy_from_slice(&0x37b_u16.to_le_bytes());
    let load = x87(Code::Fldcw_m2byte).expect("an x87 instruction");
    assert_eq!(load.execute(&mut fpu, &mut masks), Ok(Store::Yes));
    [Code::Fldz, Code::Fld1]
        .into_iter()
        .for_each(|code| assert_eq!(run(&mut fpu, code), Ok(())));
    assert!(!fpu.pending());
    // ST(0) / ST(1), one by zero.
    let divide = x87(Code::Fdiv_st0_sti).expect("an x87 instruction");
    let mut by_next = X87Operands {
        index: 1,
        ..X87Operands::default()
    };
    assert_eq!(divide.execute(&mut fpu, &mut by_next), Ok(Store::Yes));
    assert!(fpu.pending());
    let before = fpu.clone();
    for code in [
        Code::Wait,
        Code::Fld1,
        Code::Fnop,
        Code::Fstp_m64fp,
        Code::Fldcw_m2byte,
        Code::Frstor_m108byte,
    ] {
        assert_eq!(run(&mut fpu, code), Err(Pending), "{code:?}");
    }
    assert_eq!(fpu, before);
    assert_eq!(run(&mut fpu, Code::Fnstsw_AX), Ok(()));
    assert_eq!(run(&mut fpu, Code::Fnclex), Ok(()));
    assert_eq!(run(&mut fpu, Code::Wait), Ok(()));
}

#[test]
fn the_last_opcode_is_eleven_bits_of_two_bytes() {
    assert_eq!(
        x87(Code::Fld1).expect("an x87 instruction").last_opcode(0xe8),
        0x1e8
    );
    assert_eq!(
        x87(Code::Fadd_m64fp)
            .expect("an x87 instruction")
            .last_opcode(0x45),
        0x445
    );
}

#[test]
fn flags_of_one_instruction_do_not_reach_the_next() {
    let mut fpu = Fpu::default();
    let mut o = X87Operands {
        index: 1,
        ..X87Operands::default()
    };
    let mut run = |fpu: &mut Fpu, code: Code| {
        x87(code)
            .expect("an x87 instruction")
            .execute(fpu, &mut o)
            .expect("nothing pends");
        fpu.status() & 0x7f
    };
    [Code::Fninit, Code::Fld1, Code::Fldpi]
        .into_iter()
        .for_each(|code| assert_eq!(run(&mut fpu, code), 0));
    let clean = fpu.clone();
    // Inexact, then a division by zero.
    assert_eq!(run(&mut fpu, Code::Fsqrt), 0x20);
    assert_eq!(run(&mut fpu, Code::Fldz), 0x20);
    assert_eq!(run(&mut fpu, Code::Fdivp_sti_st0), 0x24);
    // Another state, in which an exact sum is the first.
    fpu = clean;
    (0..2).for_each(|_| assert_eq!(run(&mut fpu, Code::Fld1), 0));
    assert_eq!(run(&mut fpu, Code::Fadd_st0_sti), 0);
    assert_eq!(run(&mut fpu, Code::Fcomi_st0_sti), 0);
    assert_eq!(run(&mut fpu, Code::Fst_m64fp), 0);
}
