//! Vector instructions: the crate against the processor.

use crate::block::{self, Block, Native, R8, RAX, RCX, RDX};
use crate::values::{DOUBLES, Random, SINGLES, cases};
use fpu::vector::{Copies, File, Implicit, Mmx, Place, Target, vectors};
use fpu::{EnvironmentForm, Fpu, Operands, VectorOp, Xmm};

const FORM: EnvironmentForm = EnvironmentForm {
    wide: true,
    protected: true,
};
const ARITHMETIC: u64 = 0x8d5;

/// What a place holds: operand `n` of two.
fn fetch(place: Place, n: usize, memory: bool, block: &Block, fpu: &Fpu) -> Xmm {
    if memory && place.memory != 0 {
        let mut bytes = [0; 16];
        let length = usize::from(place.memory);
        bytes[..length].copy_from_slice(&block.memory[..length]);
        return Xmm(bytes);
    }
    match place.file {
        File::Xmm => fpu.xmm(1 + n),
        File::Mm => fpu.mm(1 + n).into(),
        File::General32 => u64::from(block.general[R8 + n] as u32).into(),
        File::General64 => block.general[R8 + n].into(),
        File::None => panic!("no operand"),
    }
}

/// What a core does with a vector instruction.
fn execute(op: &VectorOp, memory: bool, imm8: u8, block: &mut Block) {
    let mut fpu = Fpu::default();
    fpu.frstor(&block.x87, FORM);
    (0..3).for_each(|n| fpu.set_xmm(n, Xmm(block.xmm[n])));
    fpu.set_mxcsr(block.mxcsr).expect("no reserved bit");
    let mut o = Operands::default();
    (o.imm8, o.mxcsr) = (imm8, fpu.mxcsr());
    if matches!(op.first.file, File::Xmm | File::Mm) && !(memory && op.first.memory != 0) {
        o.first = fetch(op.first, 0, memory, block, &fpu);
    }
    if let Some(place) = op.second {
        o.second = fetch(place, 1, memory, block, &fpu);
    }
    match op.implicit {
        Implicit::None => {}
        Implicit::Xmm0 => o.third = fpu.xmm(0),
        Implicit::Lengths => o.lengths = [block.general[RAX], block.general[RDX]],
    }
    let second = o.second;
    let run = if memory { op.in_memory() } else { op.in_registers() };
    let done = run(&mut o);
    if op.floating {
        fpu.set_mxcsr(o.mxcsr).expect("no reserved bit");
    }
    if op.copies == Copies::Always || memory && op.copies == Copies::InMemory {
        assert_eq!(o.first, second, "{:?} copies", op.code);
    }
    if op.uses_x87(memory) {
        if op.mmx == Mmx::Leave {
            fpu.leave_mmx()
        } else {
            fpu.enter_mmx()
        }
    }
    match done {
        Ok(()) => store(op, memory, &o, block, &mut fpu),
        Err(_) => block.fault = 1,
    }
    (0..3).for_each(|n| block.xmm[n] = fpu.xmm(n).0);
    block.mxcsr = fpu.mxcsr();
    fpu.fnsave(&mut block.x87, FORM);
}

fn store(op: &VectorOp, memory: bool, o: &Operands, block: &mut Block, fpu: &mut Fpu) {
    if op.flags {
        block.flags = block.flags & !ARITHMETIC | u64::from(o.flags);
    }
    match op.target {
        Target::Flags | Target::Nothing => {}
        Target::Ecx => block.general[RCX] = u64::from(o.first.low() as u32),
        Target::Xmm0 => fpu.set_xmm(0, o.first),
        Target::Masked => {
            let chosen = |i: &usize| o.store_mask >> i & 1 != 0;
            let length = if op.first.file == File::Mm { 8 } else { 16 };
            (0..length)
                .filter(chosen)
                .for_each(|i| block.memory[i] = o.first.0[i]);
        }
        Target::First if memory && op.first.memory != 0 => {
            let length = usize::from(op.first.memory);
            block.memory[..length].copy_from_slice(&o.first.0[..length]);
        }
        Target::First => match op.first.file {
            File::Xmm => fpu.set_xmm(1, o.first),
            File::Mm => fpu.set_mm(1, o.first.low()),
            File::General32 => block.general[R8] = u64::from(o.first.low() as u32),
            File::General64 => block.general[R8] = o.first.low(),
            File::None => panic!("no place"),
        },
    }
}

fn random_block(random: &mut Random, unmasked: bool) -> Block {
    let mut block = Block::default();
    block.x87[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    block.x87[4..6].copy_from_slice(&((random.next() as u16 & 7) << 11).to_le_bytes());
    block.x87[8..10].copy_from_slice(&(random.next() as u16).to_le_bytes());
    for i in 0..8 {
        let mut register = random.extended();
        register[..8].copy_from_slice(&random.vector()[..8]);
        block.x87[28 + 10 * i..][..10].copy_from_slice(&register);
    }
    for xmm in &mut block.xmm {
        *xmm = random.vector();
    }
    if random.one_in(8) {
        block.xmm[2] = block.xmm[1];
    }
    for register in &mut block.general {
        *register = random.integer();
    }
    for chunk in block.memory.as_chunks_mut::<16>().0 {
        *chunk = random.vector();
    }
    block.flags = random.next() & ARITHMETIC | 2;
    block.mxcsr = random.next() as u32 & 0xe07f | 0x1f80;
    if random.one_in(2) {
        block.mxcsr &= !0x3f;
    }
    if unmasked {
        block.mxcsr &= !(random.next() as u32 & 0x1f80);
    }
    block
}

/// What is defined and visible of a block after an instruction.
fn visible(mut block: Block) -> Block {
    block.flags &= ARITHMETIC;
    // Reserved halves and the pointers, which the host keeps for itself.
    block.x87[12..28].fill(0);
    block.x87[108..].fill(0);
    (0..3).for_each(|n| block.x87[4 * n + 2..4 * n + 4].fill(0));
    block.forget_host();
    block
}

fn compare(
    op: &VectorOp,
    memory: bool,
    random: &mut Random,
    count: usize,
    unmasked: bool,
) -> Result<(), String> {
    let immediates = if op.imm8 { count.div_ceil(4) } else { 1 };
    for _ in 0..immediates {
        let imm8 = random.next() as u8;
        let instruction = block::instruction(op.code, memory, imm8, 0);
        let native = Native::new(instruction);
        for _ in 0..if op.imm8 { 4 } else { count } {
            let before = random_block(random, unmasked);
            let (mut theirs, mut ours) = (before.clone(), before.clone());
            native.run(&mut theirs);
            execute(op, memory, imm8, &mut ours);
            let differences = visible(ours).differences(&visible(theirs));
            if !differences.is_empty() {
                return Err(format!(
                    "{:?} {imm8:#x}, memory {memory}: {differences}; before: {}",
                    op.code,
                    before.differences(&Block::default())
                ));
            }
        }
    }
    Ok(())
}

/// Whether an instruction has the form in registers, and the one in memory.
fn forms(op: &VectorOp) -> impl Iterator<Item = bool> {
    let places = [Some(op.first), op.second];
    let some = |test: fn(&Place) -> bool| places.iter().flatten().any(test);
    let only_memory = some(|place| place.file == File::None && place.memory != 0);
    let memory = some(|place| place.memory != 0);
    [(!only_memory, false), (memory, true)]
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, memory)| memory)
}

fn with_forms(op: &VectorOp) -> impl Iterator<Item = (&VectorOp, bool)> {
    forms(op).map(move |memory| (op, memory))
}

#[test]
fn every_vector_instruction_does_what_the_processor_does() {
    let mut random = Random(1);
    let mut check = |op, memory| compare(op, memory, &mut random, cases(200), false).err();
    let wrong: Vec<_> = vectors()
        .flat_map(with_forms)
        .filter_map(|(op, memory)| check(op, memory))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_unmasked_exception_leaves_what_the_processor_leaves() {
    let mut random = Random(2);
    let mut check = |op, memory| compare(op, memory, &mut random, cases(200), true).err();
    let wrong: Vec<_> = vectors()
        .filter(|op| op.floating)
        .flat_map(with_forms)
        .filter_map(|(op, memory)| check(op, memory))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_immediate_is_the_processors() {
    let mut random = Random(3);
    for op in vectors().filter(|op| op.imm8) {
        for memory in forms(op) {
            for imm8 in 0..=255 {
                let native = Native::new(block::instruction(op.code, memory, imm8, 0));
                let before = random_block(&mut random, false);
                let (mut theirs, mut ours) = (before.clone(), before);
                native.run(&mut theirs);
                execute(op, memory, imm8, &mut ours);
                assert_eq!(
                    visible(ours),
                    visible(theirs),
                    "{:?} {imm8:#x}, memory {memory}",
                    op.code
                );
            }
        }
    }
}

/// Sixteen bytes in which the edges `even` and `odd` alternate, of either sign.
fn alternate(random: &mut Random, single: bool, even: usize, odd: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    for n in 0..if single { 4 } else { 2 } {
        let (edge, sign) = ([even, odd][n % 2], random.next());
        if single {
            bytes[4 * n..][..4].copy_from_slice(&(SINGLES[edge] | (sign as u32) << 31).to_le_bytes());
        } else {
            bytes[8 * n..][..8].copy_from_slice(&(DOUBLES[edge] | sign << 63).to_le_bytes());
        }
    }
    bytes
}

/// Every pair of edges, in two ways: each repeated in an operand, and both in the second operand.
fn pairs(random: &mut Random, single: bool) -> Vec<[[u8; 16]; 2]> {
    let count = if single { SINGLES.len() } else { DOUBLES.len() };
    let both = (0..count).flat_map(|n| (0..count).map(move |m| (n, m)));
    let ways = both.flat_map(|(n, m)| [(n, m, m), (n, n, m), (n, m, m), (n, m, n)]);
    ways.map(|(n, even, odd)| {
        [
            alternate(random, single, n, n),
            alternate(random, single, even, odd),
        ]
    })
    .collect()
}

#[test]
fn pairs_of_edges_raise_what_the_processor_raises() {
    let mut random = Random(6);
    for op in vectors().filter(|op| op.floating && !op.imm8 && op.first.file == File::Xmm) {
        let native = Native::new(block::instruction(op.code, false, 0, 0));
        for pair in [true, false]
            .into_iter()
            .flat_map(|single| pairs(&mut random, single))
            .collect::<Vec<_>>()
        {
            let mut before = random_block(&mut random, true);
            (before.xmm[1], before.xmm[2]) = (pair[0], pair[1]);
            let (mut theirs, mut ours) = (before.clone(), before.clone());
            native.run(&mut theirs);
            execute(op, false, 0, &mut ours);
            let differences = visible(ours).differences(&visible(theirs));
            assert!(
                differences.is_empty(),
                "{:?} {pair:x?} {:x}: {differences}",
                op.code,
                before.mxcsr
            );
        }
    }
}
