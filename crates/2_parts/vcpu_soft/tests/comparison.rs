//! Random programs under block mode and under the reference; random bytes as code; states saved and restored in the middle.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod board;

use board::*;
use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use proptest::prelude::*;
use vcpu::Halt;
use vcpu::state::CpuState;
use vcpu_soft::Software;

/// Memory and state after a run.
fn outcome(accel: &Software, code: &[u8], real: bool, limit: u64) -> (Option<Halt>, CpuState, Vec<u8>) {
    let mut board = Board::counting(accel, 0);
    let mut state = if real { real_mode() } else { long_mode(&board) };
    for n in [0, 1, 2, 3, 5, 6, 7] {
        state.registers[n] = 0x9000 + 0x123 * n as u64;
    }
    for vector in 0..32 {
        gate(&board, vector, CODE + 0xf00);
    }
    board.load(code);
    board.memory.write(CODE + 0xf00, &[0xf4]).unwrap();
    let mut processor = board.processor();
    processor.restore(&state).unwrap();
    processor.stop_at(Some(limit));
    let halt = processor.run(&*board.devices).ok();
    let mut bytes = vec![0; 0x8_0000];
    board.memory.read(0, &mut bytes).unwrap();
    (halt, processor.save().unwrap(), bytes)
}

/// A random instruction of 64-bit mode that is no branch, no system instruction and touches memory near 0x9000 only.
fn instruction(seed: &[u8; 16]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::with_ip(64, seed, CODE, DecoderOptions::NONE);
    let mut found: Instruction = decoder.decode();
    let tame = !found.is_invalid()
        && found.flow_control() == FlowControl::Next
        && !found.is_privileged()
        && !found.is_stack_instruction()
        && found.code() != Code::Rdtsc
        && !matches!(
            found.mnemonic(),
            Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdrand | Mnemonic::Rdseed | Mnemonic::Hlt
        );
    if !tame {
        return None;
    }
    for n in 0..found.op_count() {
        if found.op_kind(n) == OpKind::Memory {
            found.set_memory_base(Register::RBX);
            found.set_memory_index(Register::None);
            found.set_memory_displacement64(u64::from(seed[15]) & 0x78);
            found.set_memory_displ_size(1);
            found.set_segment_prefix(Register::None);
        }
        if found.op_kind(n) == OpKind::Register && n == 0 {
            let full = found.op_register(n).full_register();
            if full == Register::RBX || full == Register::RSP {
                return None;
            }
        }
    }
    let mut encoder = Encoder::new(64);
    encoder.encode(&found, CODE).ok()?;
    Some(encoder.take_buffer())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn blocks_and_reference_agree_about_random_programs(seeds in proptest::collection::vec(any::<[u8; 16]>(), 1..120)) {
        let mut code: Vec<u8> = seeds.iter().filter_map(instruction).flatten().collect();
        code.truncate(0xe00);
        code.push(0xf4);
        let blocks = outcome(&Software::new(), &code, false, 400);
        let steps = outcome(&Software::reference(), &code, false, 400);
        prop_assert_eq!(blocks.0, steps.0);
        prop_assert_eq!(blocks.1, steps.1);
        prop_assert!(blocks.2 == steps.2, "memory differs");
    }

    #[test]
    fn random_bytes_are_executed_alike_by_both(bytes in proptest::collection::vec(any::<u8>(), 1..400), real: bool) {
        let blocks = outcome(&Software::new(), &bytes, real, 300);
        let steps = outcome(&Software::reference(), &bytes, real, 300);
        prop_assert_eq!(blocks.0, steps.0);
        prop_assert_eq!(blocks.1, steps.1);
        prop_assert!(blocks.2 == steps.2, "memory differs");
    }

    #[test]
    fn random_bytes_never_stop_the_host(bytes in proptest::collection::vec(any::<u8>(), 1..2000), real: bool) {
        let _ = outcome(&Software::new(), &bytes, real, 3000);
    }

    #[test]
    fn a_run_that_is_saved_and_restored_ends_like_one_that_is_not(
        bytes in proptest::collection::vec(any::<u8>(), 1..400),
        real: bool,
        at in 1u64..300,
    ) {
        let whole = outcome(&Software::new(), &bytes, real, 300);
        let accel = Software::new();
        let first = outcome(&accel, &bytes, real, at);
        if first.0 == Some(Halt::Reached) {
            let mut board = Board::counting(&accel, first.1.retired.unwrap_or(0));
            let _ = long_mode(&board);
            board.memory.write(0, &first.2).unwrap();
            if !real {
                // Tables above the part that is compared.
                let tables = long_mode(&board);
                let _ = tables;
                board.memory.write(0, &first.2).unwrap();
            }
            let mut processor = board.processor();
            processor.restore(&first.1).unwrap();
            processor.stop_at(Some(300));
            let halt = processor.run(&*board.devices).ok();
            let mut memory = vec![0; 0x8_0000];
            board.memory.read(0, &mut memory).unwrap();
            prop_assert_eq!(halt, whole.0);
            prop_assert_eq!(processor.save().unwrap(), whole.1);
            prop_assert!(memory == whole.2, "memory differs");
        }
    }
}
