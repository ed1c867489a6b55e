//! Small programs whose outcome is known.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod board;

use board::*;
use iced_x86::code_asm::*;
use vcpu::state::msr;
use vcpu::{Accel, Halt, Msi, Vcpu};
use vcpu_soft::Software;

fn both(test: impl Fn(&Software)) {
    test(&Software::new());
    test(&Software::reference());
}

#[test]
fn a_program_in_real_mode_adds_and_speaks_to_a_port() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let code = assemble(16, 0, |a| {
            let mut again = a.create_label();
            a.xor(ax, ax)?;
            a.mov(cx, 10)?;
            a.set_label(&mut again)?;
            a.add(ax, cx)?;
            a.loop_(again)?;
            a.out(0xe9, al)?;
            a.in_(al, 0x10)?;
            a.out(0xe9, al)?;
            a.hlt()
        });
        let (halt, state) = board.run(&code, &real_mode(), 1000);
        assert_eq!(halt, Halt::Idle { until: None });
        assert_eq!(*board.devices.said.lock().unwrap(), [55, 0x5a]);
        assert_eq!(state.registers[1], 0);
        assert_eq!(state.retired, Some(2 + 20 + 4));
    });
}

#[test]
fn real_mode_interrupts_go_through_the_vector_table_and_come_back() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let code = assemble(16, 0, |a| {
            let mut handler = a.create_label();
            let mut start = a.create_label();
            a.jmp(start)?;
            a.set_label(&mut handler)?;
            a.mov(bx, 0x1234)?;
            a.iret()?;
            a.set_label(&mut start)?;
            a.int(0x21)?;
            a.hlt()
        });
        let mut state = real_mode();
        board.memory.write(0x21 * 4, &[2, 0, 0, 0x10]).unwrap();
        state.registers[3] = 0;
        let (_, state) = board.run(&code, &state, 100);
        assert_eq!(state.registers[3], 0x1234);
        assert_eq!(state.registers[4], 0xf000);
    });
}

#[test]
fn a_user_program_calls_the_kernel_and_returns() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let kernel = CODE + 0x800;
        let code = assemble(64, CODE, |a| {
            a.mov(rcx, CODE + 0x400)?;
            a.mov(r11, 0x202u64)?;
            a.sysretq()
        });
        let user = assemble(64, CODE + 0x400, |a| {
            a.mov(rdi, 41u64)?;
            a.syscall()?;
            a.mov(rbx, rax)?;
            a.int(0x80)
        });
        let handler = assemble(64, kernel, |a| {
            a.lea(rax, qword_ptr(rdi + 1))?;
            a.sysretq()
        });
        let end = assemble(64, kernel + 0x100, |a| a.hlt());
        let mut state = long_mode(&board);
        board.memory.write(CODE + 0x400, &user).unwrap();
        board.memory.write(kernel, &handler).unwrap();
        board.memory.write(kernel + 0x100, &end).unwrap();
        gate(&board, 0x80, kernel + 0x100);
        state.set_msr(msr::STAR, 0x001b_0008 << 32);
        state.set_msr(msr::LSTAR, kernel);
        state.set_msr(msr::SFMASK, 0x700);
        let (halt, state) = board.run(&code, &state, 100);
        assert_eq!(halt, Halt::Idle { until: None });
        assert_eq!((state.registers[0], state.registers[3]), (42, 42));
        // The kernel's stack of the task holds the user's frame.
        let mut frame = [0; 8];
        board.memory.read(STACK - 0x1000 - 8, &mut frame).unwrap();
        assert_eq!(u64::from_le_bytes(frame), u64::from(USER_DATA));
        assert_eq!(state.segments[1].selector, KERNEL_CODE);
        assert_eq!(state.registers[4], STACK - 0x1000 - 40);
    });
}

#[test]
fn a_page_fault_tells_address_and_cause_and_the_instruction_is_started_again() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let state = long_mode(&board);
        // The page at 4 MiB is absent; the handler maps it to the one at 2 MiB.
        let entry = TABLES + 0x2000 + 16;
        board.memory.write(entry, &[0; 8]).unwrap();
        let code = assemble(64, CODE, |a| {
            a.mov(dword_ptr(0x40_0010u64), 0x77)?;
            a.mov(eax, dword_ptr(0x20_0010u64))?;
            a.hlt()
        });
        let handler = assemble(64, CODE + 0x400, |a| {
            a.pop(rsi)?;
            a.mov(rdi, cr2)?;
            a.mov(rax, entry)?;
            a.mov(qword_ptr(rax), 0x20_0087)?;
            a.iretq()
        });
        board.memory.write(CODE + 0x400, &handler).unwrap();
        gate(&board, 14, CODE + 0x400);
        let (_, state) = board.run(&code, &state, 100);
        assert_eq!(state.registers[7], 0x40_0010, "address");
        assert_eq!(
            state.registers[6], 2,
            "a write to an absent page by the supervisor"
        );
        assert_eq!(state.registers[0], 0x77);
        assert_eq!(state.retired, Some(3 + 5));
        let mut marked = [0; 8];
        board.memory.read(entry, &mut marked).unwrap();
        assert_eq!(u64::from_le_bytes(marked), 0x20_00e7, "accessed and dirty");
    });
}

#[test]
fn an_instruction_that_was_just_rewritten_is_executed_as_it_is_now() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let code = assemble(64, CODE, |a| {
            let mut again = a.create_label();
            let mut patched = a.create_label();
            a.xor(ebx, ebx)?;
            a.mov(ecx, 3)?;
            a.set_label(&mut again)?;
            a.lea(rdx, ptr(patched))?;
            a.inc(byte_ptr(rdx + 1))?;
            a.set_label(&mut patched)?;
            a.mov(al, 0)?;
            a.movzx(eax, al)?;
            a.add(ebx, eax)?;
            a.dec(ecx)?;
            a.jnz(again)?;
            a.hlt()
        });
        let state = long_mode(&board);
        let (_, state) = board.run(&code, &state, 100);
        assert_eq!(state.registers[3], 1 + 2 + 3);
    });
}

#[test]
fn code_that_a_device_rewrites_is_decoded_anew() {
    let mut board = Board::counting(&Software::new(), 0);
    let state = long_mode(&board);
    let code = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(eax, 1)?;
        a.jmp(again)
    });
    board.load(&code);
    let mut processor = board.processor();
    processor.restore(&state).unwrap();
    processor.stop_at(Some(100));
    assert_eq!(processor.run(&*board.devices).unwrap(), Halt::Reached);
    board.memory.write(CODE + 1, &[2]).unwrap();
    processor.stop_at(Some(104));
    processor.run(&*board.devices).unwrap();
    assert_eq!(processor.save().unwrap().registers[0], 2);
}

#[test]
fn the_run_stops_at_exactly_the_instruction_wanted() {
    let mut board = Board::counting(&Software::new(), 0);
    let state = long_mode(&board);
    let code = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        for _ in 0..7 {
            a.inc(rax)?;
        }
        a.jmp(again)
    });
    board.load(&code);
    let mut processor = board.processor();
    processor.restore(&state).unwrap();
    for wanted in [1, 2, 3, 7, 8, 9, 100, 101, 1000, 12345] {
        processor.stop_at(Some(wanted));
        assert_eq!(processor.run(&*board.devices).unwrap(), Halt::Reached);
        assert_eq!(processor.retired(), Some(wanted));
        let expected = wanted / 8 * 7 + wanted % 8;
        assert_eq!(processor.save().unwrap().registers[0], expected, "{wanted}");
    }
}

#[test]
fn the_timer_fires_at_the_instruction_that_its_count_names() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let mut state = long_mode(&board);
        state.set_msr(msr::APIC_BASE, 0xfee0_0d00);
        let handler = assemble(64, CODE + 0x400, |a| a.hlt());
        board.memory.write(CODE + 0x400, &handler).unwrap();
        gate(&board, 0x50, CODE + 0x400);
        let code = assemble(64, CODE, |a| {
            let mut again = a.create_label();
            for (register, value) in [(0x80f, 0x1ff), (0x832, 0x50), (0x83e, 0xb), (0x838, 1000)] {
                a.mov(ecx, register)?;
                a.mov(eax, value)?;
                a.xor(edx, edx)?;
                a.wrmsr()?;
            }
            a.sti()?;
            a.set_label(&mut again)?;
            a.inc(rbx)?;
            a.jmp(again)
        });
        let (halt, state) = board.run(&code, &state, 5000);
        assert_eq!(halt, Halt::Idle { until: None });
        // The count begins with the sixteenth instruction; HLT is one more.
        assert_eq!(state.retired, Some(15 + 1000 + 1));
    });
}

#[test]
fn a_halted_processor_tells_when_its_timer_fires() {
    let mut board = Board::counting(&Software::new(), 0);
    let mut state = long_mode(&board);
    state.set_msr(msr::APIC_BASE, 0xfee0_0d00);
    let code = assemble(64, CODE, |a| {
        for (register, value) in [(0x80f, 0x1ff), (0x832, 0x4_0050)] {
            a.mov(ecx, register)?;
            a.mov(eax, value)?;
            a.xor(edx, edx)?;
            a.wrmsr()?;
        }
        a.rdtsc()?;
        a.add(eax, 5000)?;
        a.mov(ecx, 0x6e0)?;
        a.wrmsr()?;
        a.sti()?;
        a.hlt()
    });
    state.set_msr(msr::TSC, 0);
    let (halt, _) = board.run(&code, &state, 5000);
    assert_eq!(
        halt,
        Halt::Idle {
            until: Some(8 + 5000)
        }
    );
}

#[test]
fn a_level_triggered_message_is_served_by_priority_and_its_end_is_told() {
    let mut board = Board::counting(&Software::new(), 0);
    let mut state = long_mode(&board);
    state.set_msr(msr::APIC_BASE, 0xfee0_0d00);
    let handler = assemble(64, CODE + 0x400, |a| {
        a.mov(eax, 0)?;
        a.mov(edx, 0)?;
        a.mov(ecx, 0x80b)?;
        a.wrmsr()?;
        a.iretq()
    });
    board.memory.write(CODE + 0x400, &handler).unwrap();
    gate(&board, 0x60, CODE + 0x400);
    gate(&board, 0x61, CODE + 0x400);
    let code = assemble(64, CODE, |a| {
        a.mov(ecx, 0x80f)?;
        a.mov(eax, 0x1ff)?;
        a.xor(edx, edx)?;
        a.wrmsr()?;
        a.sti()?;
        a.nop()?;
        a.hlt()
    });
    board.load(&code);
    let mut processor = board.processor();
    processor.restore(&state).unwrap();
    assert_eq!(
        processor.run(&*board.devices).unwrap(),
        Halt::Idle { until: None }
    );
    let message = |vector: u32| Msi {
        address: 0xfee0_0000,
        data: 0x8000 | vector,
    };
    board.vm.message(message(0x60)).unwrap();
    board.vm.message(message(0x61)).unwrap();
    processor.stop_at(Some(processor.retired().unwrap() + 12));
    processor.run(&*board.devices).unwrap();
    assert_eq!(*board.devices.ends.lock().unwrap(), [0x61, 0x60]);
}

/// The whole wait is bounded by the test's own patience only.
fn run_thread(
    mut processor: Box<dyn Vcpu>,
    devices: std::sync::Arc<Devices>,
) -> std::thread::JoinHandle<Box<dyn Vcpu>> {
    std::thread::spawn(move || {
        while processor.run(&*devices).unwrap() != Halt::Kicked {}
        processor
    })
}

#[test]
fn two_processors_start_each_other_and_count_with_locks() {
    let mut board = Board::host(&Software::new());
    let mut state = long_mode(&board);
    state.set_msr(msr::APIC_BASE, 0xfee0_0d00);
    const COUNTER: u64 = 0x9000;
    const DONE: u64 = 0x9008;
    const ROUNDS: u32 = 20_000;
    // The second processor begins in real mode at 0x8000.
    let second = assemble(16, 0, |a| {
        let mut again = a.create_label();
        a.xor(ax, ax)?;
        a.mov(ds, ax)?;
        a.mov(ecx, ROUNDS)?;
        a.set_label(&mut again)?;
        a.lock().inc(dword_ptr(COUNTER as u32))?;
        a.dec(ecx)?;
        a.jnz(again)?;
        a.mov(byte_ptr(DONE as u32), 1)?;
        a.hlt()
    });
    board.memory.write(0x8000, &second).unwrap();
    let code = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        let mut wait = a.create_label();
        a.mov(ecx, 0x80f)?;
        a.mov(eax, 0x1ff)?;
        a.xor(edx, edx)?;
        a.wrmsr()?;
        a.mov(ecx, 0x830)?;
        a.mov(edx, 1)?;
        a.mov(eax, 0x4500)?;
        a.wrmsr()?;
        a.mov(eax, 0x4608)?;
        a.wrmsr()?;
        a.mov(ecx, ROUNDS)?;
        a.set_label(&mut again)?;
        a.lock().add(dword_ptr(COUNTER), 1)?;
        a.dec(ecx)?;
        a.jnz(again)?;
        a.set_label(&mut wait)?;
        a.cmp(byte_ptr(DONE), 0)?;
        a.jz(wait)?;
        a.out(0xe9, al)?;
        a.hlt()
    });
    board.load(&code);
    let mut first = board.processor();
    first.restore(&state).unwrap();
    let second = board.processor();
    let kicks = [first.kick(), second.kick()];
    let threads = [
        run_thread(first, board.devices.clone()),
        run_thread(second, board.devices.clone()),
    ];
    while board.devices.said.lock().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    kicks.iter().for_each(|kick| kick.kick());
    for thread in threads {
        thread.join().unwrap();
    }
    let mut counter = [0; 4];
    board.memory.read(COUNTER, &mut counter).unwrap();
    assert_eq!(u32::from_le_bytes(counter), 2 * ROUNDS);
}

#[test]
fn a_double_fault_without_handlers_is_a_triple_fault() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let mut state = long_mode(&board);
        state.idt.limit = 0;
        let code = assemble(64, CODE, |a| a.ud2());
        let (halt, _) = board.run(&code, &state, 100);
        assert_eq!(halt, Halt::TripleFault);
    });
}

#[test]
fn single_steps_trap_after_each_instruction() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let state = long_mode(&board);
        let handler = assemble(64, CODE + 0x400, |a| {
            a.inc(rbx)?;
            a.mov(rsi, dr6)?;
            a.iretq()
        });
        board.memory.write(CODE + 0x400, &handler).unwrap();
        gate(&board, 1, CODE + 0x400);
        let code = assemble(64, CODE, |a| {
            a.xor(ebx, ebx)?;
            a.pushfq()?;
            a.or(dword_ptr(rsp), 0x100)?;
            a.popfq()?;
            a.nop()?;
            a.nop()?;
            a.pushfq()?;
            a.and(dword_ptr(rsp), !0x100)?;
            a.popfq()?;
            a.hlt()
        });
        let (_, state) = board.run(&code, &state, 200);
        // NOP, NOP, PUSHF, AND, POPF: the last one is still stepped.
        assert_eq!(state.registers[3], 5);
        assert_eq!(state.registers[6] & 0x4000, 0x4000);
    });
}

#[test]
fn watched_data_and_code_raise_debug_exceptions() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let state = long_mode(&board);
        let handler = assemble(64, CODE + 0x400, |a| {
            a.mov(rsi, dr6)?;
            a.shl(rbx, 8)?;
            a.or(bl, sil)?;
            a.mov(qword_ptr(0x9100u64), rbx)?;
            a.xor(eax, eax)?;
            a.mov(dr6, rax)?;
            // Go on past a code breakpoint.
            a.or(dword_ptr(rsp + 16), 0x1_0000)?;
            a.iretq()
        });
        board.memory.write(CODE + 0x400, &handler).unwrap();
        gate(&board, 1, CODE + 0x400);
        let target = CODE + 0x200;
        let code = assemble(64, CODE, |a| {
            a.mov(rax, 0x9000u64)?;
            a.mov(dr0, rax)?;
            a.mov(rax, target)?;
            a.mov(dr1, rax)?;
            // DR0: writes of 4 bytes; DR1: execution.
            a.mov(eax, 0x000d_0005)?;
            a.mov(dr7, rax)?;
            a.xor(ebx, ebx)?;
            a.mov(edx, dword_ptr(0x9000u64))?;
            a.mov(byte_ptr(0x9003u64), 1)?;
            a.jmp(target)
        });
        let end = assemble(64, target, |a| {
            a.nop()?;
            a.hlt()
        });
        board.memory.write(target, &end).unwrap();
        let (_, state) = board.run(&code, &state, 200);
        let causes = state.registers[3];
        assert_eq!(
            causes & 0xf0f,
            0x102,
            "first the write, then the execution: {causes:#x}"
        );
    });
}

#[test]
fn a_dirty_log_names_the_pages_that_were_written() {
    let mut board = Board::counting(&Software::new(), 0);
    let state = long_mode(&board);
    let code = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.inc(dword_ptr(0x9000u64))?;
        a.inc(dword_ptr(0xb000u64))?;
        a.jmp(again)
    });
    board.load(&code);
    let mut processor = board.processor();
    processor.restore(&state).unwrap();
    let mut run = |to| {
        processor.stop_at(Some(to));
        processor.run(&*board.devices).unwrap();
    };
    run(100);
    board.vm.log_dirty(true).unwrap();
    run(101);
    let block = board.memory.block();
    board.vm.dirty(block).unwrap();
    run(200);
    board.vm.dirty(block).unwrap();
    run(300);
    let dirty: Vec<_> = board.vm.dirty(block).unwrap().iter().collect();
    assert!(dirty.contains(&9) && dirty.contains(&11), "{dirty:?}");
    assert!(
        !dirty.contains(&10) && !dirty.contains(&(CODE >> 12)),
        "{dirty:?}"
    );
}

#[test]
fn every_announced_feature_can_be_asked_for_by_the_guest() {
    let accel = Software::new();
    let mut board = Board::counting(&accel, 0);
    let state = long_mode(&board);
    let code = assemble(64, CODE, |a| {
        a.mov(eax, 1)?;
        a.cpuid()?;
        a.mov(esi, ecx)?;
        a.mov(edi, edx)?;
        a.mov(eax, 0x4000_0000u32)?;
        a.cpuid()?;
        a.hlt()
    });
    let (_, state) = board.run(&code, &state, 100);
    let leaves = accel.cpuid().unwrap();
    let leaf = vcpu::cpuid::find(&leaves, 1, 0).unwrap();
    assert_eq!(state.registers[6], u64::from(leaf.ecx));
    assert_eq!(state.registers[3], 0x4b4d_564b);
}

#[test]
fn accesses_beyond_memory_go_to_devices_and_doorbells_to_their_descriptor() {
    use std::os::fd::AsFd;
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let state = long_mode(&board);
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        board.vm.doorbell(0x1000_0040, Some(event.as_fd())).unwrap();
        let code = assemble(64, CODE, |a| {
            a.mov(eax, dword_ptr(0x1000_0004u64))?;
            a.mov(qword_ptr(0x1000_0008u64), rax)?;
            a.mov(word_ptr(0x1000_0040u64), 7)?;
            a.mov(word_ptr(0x1000_0040u64), 7)?;
            a.lock().inc(dword_ptr(0x1000_0010u64))?;
            a.hlt()
        });
        let (_, state) = board.run(&code, &state, 100);
        assert_eq!(state.registers[0], 0x1000_0004);
        let written = board.devices.written.lock().unwrap().clone();
        let expected = vec![
            (0x1000_0008, 0x1000_0004u64.to_le_bytes().to_vec()),
            (0x1000_0010, 0x1000_0011u32.to_le_bytes().to_vec()),
        ];
        assert_eq!(written, expected);
        let mut count = [0; 8];
        rustix::io::read(&event, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2);
    });
}

#[test]
fn code_that_another_processor_rewrites_is_decoded_anew() {
    let mut board = Board::host(&Software::new());
    let state = long_mode(&board);
    // The first runs at CODE until the byte that it moves is 2; the second writes that byte, after a while.
    let first = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(al, 1)?;
        a.cmp(al, 2)?;
        a.jne(again)?;
        a.out(0xe9, al)?;
        a.hlt()
    });
    let second = assemble(64, CODE + 0x1000, |a| {
        let mut wait = a.create_label();
        // Takes permission to write to the page before the other has decoded it, or after.
        a.mov(byte_ptr(CODE + 0x800), 0)?;
        a.mov(ecx, 200_000)?;
        a.set_label(&mut wait)?;
        a.dec(ecx)?;
        a.jnz(wait)?;
        a.mov(byte_ptr(CODE + 1), 2)?;
        a.hlt()
    });
    board.load(&first);
    board.memory.write(CODE + 0x1000, &second).unwrap();
    let mut one = board.processor();
    let mut two = board.processor();
    one.restore(&state).unwrap();
    let mut other = state.clone();
    other.rip = CODE + 0x1000;
    two.restore(&other).unwrap();
    let kicks = [one.kick(), two.kick()];
    let threads = [
        run_thread(one, board.devices.clone()),
        run_thread(two, board.devices.clone()),
    ];
    while board.devices.said.lock().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    kicks.iter().for_each(|kick| kick.kick());
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_new_map_counts_from_the_next_access_on() {
    let accel = Software::new();
    let mut board = Board::counting(&accel, 0);
    let state = long_mode(&board);
    let code = assemble(64, CODE, |a| {
        a.mov(eax, dword_ptr(0x10_0000u64))?;
        a.mov(ebx, dword_ptr(0x10_0000u64))?;
        a.hlt()
    });
    board.load(&code);
    board.memory.write(0x10_0000, &[1, 0, 0, 0]).unwrap();
    let mut processor = board.processor();
    processor.restore(&state).unwrap();
    processor.stop_at(Some(1));
    processor.run(&*board.devices).unwrap();
    let slot = |start, len, block: &guestmem::Block, offset| vcpu::Slot {
        start,
        len,
        block: block.clone(),
        offset,
        access: vcpu::Access::ReadWrite,
    };
    let other = guestmem::Block::new("other", 4096).unwrap();
    other.write(0, &[2]).unwrap();
    let ram = board.memory.block();
    board
        .vm
        .map(&[slot(0, 0x10_0000, ram, 0), slot(0x10_0000, 0x1000, &other, 0)])
        .unwrap();
    processor.stop_at(None);
    processor.run(&*board.devices).unwrap();
    let state = processor.save().unwrap();
    assert_eq!((state.registers[0], state.registers[3]), (1, 2));
}

#[test]
fn a_32_bit_task_gate_switches_tasks_and_iret_returns() {
    both(|accel| {
        let mut board = Board::counting(accel, 0);
        let put = |at: u64, value: u64| board.memory.write(at, &value.to_le_bytes()).unwrap();
        // 1 code, 2 data, 3 first task (busy), 4 second task.
        let task = |at: u64, kind: u64| 0x67 | (at & 0xff_ffff) << 16 | (0x80 | kind) << 40;
        let (one, two) = (0x9000, 0x9100);
        for (n, descriptor) in [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            task(one, 11),
            task(two, 9),
        ]
        .iter()
        .enumerate()
        {
            put(GDT + 8 * n as u64, *descriptor);
        }
        put(IDT + 8 * 0x20, 0x8500_0020_0000);
        let handler = CODE + 0x400;
        for (offset, value) in [
            (32, handler),
            (36, 2),
            (56, STACK - 0x800),
            (72, 0x10),
            (76, 0x08),
            (80, 0x10),
            (84, 0x10),
            (88, 0x10),
            (92, 0x10),
        ] {
            board
                .memory
                .write(two + offset, &(value as u32).to_le_bytes())
                .unwrap();
        }
        let mut state = long_mode(&board);
        for (n, descriptor) in [
            0x00cf_9b00_0000_ffff_u64,
            0x00cf_9300_0000_ffff,
            task(one, 11),
            task(two, 9),
        ]
        .iter()
        .enumerate()
        {
            put(GDT + 8 * (n as u64 + 1), *descriptor);
        }
        state.cr0 = 0x11;
        state.cr4 = 0;
        state.set_msr(msr::EFER, 0);
        state.segments[1].attributes = 0xc09b;
        state.task.selector = 0x18;
        state.task.base = one;
        let code = assemble(32, CODE, |a| {
            a.mov(ebx, 5)?;
            a.int(0x20)?;
            a.inc(ebx)?;
            a.hlt()
        });
        let other = assemble(32, handler, |a| {
            a.mov(ebx, 0x77)?;
            a.mov(dword_ptr(0xa000u32), ebx)?;
            a.iret()
        });
        board.memory.write(handler, &other).unwrap();
        let (halt, state) = board.run(&code, &state, 100);
        assert_eq!(halt, Halt::Idle { until: None });
        assert_eq!(state.registers[3], 6, "the first task's registers came back");
        assert_eq!(state.task.selector, 0x18);
        assert_eq!(state.rflags & 0x4000, 0);
        let mut noted = [0; 4];
        board.memory.read(0xa000, &mut noted).unwrap();
        assert_eq!(noted[0], 0x77);
    });
}

#[test]
fn a_timer_that_is_saved_and_restored_fires_at_the_same_instruction() {
    let accel = Software::new();
    let code = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        // Divide by 16; periodic, 100 ticks.
        for (register, value) in [(0x80f, 0x1ff), (0x832, 0x2_0050), (0x83e, 3), (0x838, 100)] {
            a.mov(ecx, register)?;
            a.mov(eax, value)?;
            a.xor(edx, edx)?;
            a.wrmsr()?;
        }
        a.sti()?;
        a.set_label(&mut again)?;
        a.inc(rbx)?;
        a.jmp(again)
    });
    let handler = assemble(64, CODE + 0x400, |a| {
        a.mov(rbp, rbx)?;
        a.hlt()
    });
    let prepare = |board: &Board| {
        let mut state = long_mode(board);
        state.set_msr(msr::APIC_BASE, 0xfee0_0d00);
        board.memory.write(CODE + 0x400, &handler).unwrap();
        gate(board, 0x50, CODE + 0x400);
        board.load(&code);
        state
    };
    for at in [20, 21, 100, 777, 1000, 1600] {
        let mut board = Board::counting(&accel, 0);
        let state = prepare(&board);
        let mut processor = board.processor();
        processor.restore(&state).unwrap();
        processor.stop_at(Some(at));
        assert_eq!(processor.run(&*board.devices).unwrap(), Halt::Reached);
        let middle = processor.save().unwrap();
        let mut board = Board::counting(&accel, at);
        prepare(&board);
        let mut processor = board.processor();
        processor.restore(&middle).unwrap();
        processor.run(&*board.devices).unwrap();
        assert_eq!(processor.retired(), Some(15 + 1600 + 2), "{at}");
    }
}
