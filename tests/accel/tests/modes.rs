//! Real, protected and long mode: instructions, ports, memory-mapped devices, exceptions.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use accel_tests::{Bench, Event, Guest, STOP, states, suite};
use iced_x86::code_asm::*;
use states::{CODE, DATA, GDT, gate};
use vcpu::state::msr;
use vcpu::{Access, Halt, Slot};

suite! {
    real_mode_reaches_ports_of_every_width_and_memory,
    a_string_of_ports_is_one_access_each,
    real_mode_enters_protected_mode_and_long_mode_by_itself,
    devices_in_memory_are_read_and_written_in_every_width,
    an_access_across_the_end_of_memory_reaches_the_device_behind_it,
    a_read_modify_write_of_a_device_reads_and_writes,
    what_is_not_there_reads_as_ones,
    cpuid_answers_what_the_processor_was_given,
    exceptions_push_their_error_codes_and_addresses,
    an_unknown_model_specific_register_is_a_protection_fault,
    model_specific_registers_keep_what_is_written,
    a_triple_fault_ends_the_run,
    read_only_memory_is_read_and_executed_and_its_writes_are_told,
    linear_addresses_are_translated_by_the_guests_tables,
}

fn out(port: u16, bytes: &[u8]) -> Event {
    Event::Out(port, bytes.to_vec())
}

fn real_mode_reaches_ports_of_every_width_and_memory(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::real(0), |a| {
        a.mov(ax, 0x2000)?;
        a.mov(ds, ax)?;
        a.mov(dx, 0x510)?;
        a.mov(eax, 0x1234_5678)?;
        a.out(dx, al)?;
        a.out(dx, ax)?;
        a.out(dx, eax)?;
        a.in_(eax, dx)?;
        a.mov(dword_ptr(8), eax)?;
        a.in_(ax, dx)?;
        a.in_(al, dx)?;
        a.mov(dword_ptr(12), eax)?;
        a.out(i32::from(STOP), al)
    });
    guest.io.answer(0x510, &[0xaa, 0xbb, 0xcc, 0xdd]);
    let events = guest.run_to_stop();
    let expected = [
        out(0x510, &[0x78]),
        out(0x510, &[0x78, 0x56]),
        out(0x510, &[0x78, 0x56, 0x34, 0x12]),
        Event::In(0x510, 4),
        Event::In(0x510, 2),
        Event::In(0x510, 1),
    ];
    assert_eq!(events, expected);
    assert_eq!(guest.word(DATA + 8), 0xddcc_bbaa_ddcc_bbaa);
}

fn a_string_of_ports_is_one_access_each(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(rsi, DATA)?;
        a.mov(rdi, DATA + 64)?;
        a.mov(edx, 0x3f8)?;
        a.mov(ecx, 5)?;
        a.rep().outsb()?;
        a.mov(edx, 0x1f0)?;
        a.mov(ecx, 3)?;
        a.rep().insw()?;
        a.out(i32::from(STOP), al)
    });
    guest.memory.write(DATA, b"hello").unwrap();
    guest.io.answer(0x1f0, &[1, 2]);
    let events = guest.run_to_stop();
    let mut expected: Vec<Event> = b"hello".iter().map(|byte| out(0x3f8, &[*byte])).collect();
    expected.extend([const { Event::In(0x1f0, 2) }; 3]);
    assert_eq!(events, expected);
    assert_eq!(guest.word(DATA + 64), 0x0201_0201_0201);
}

/// The way of every boot loader: LGDT, CR0.PE, far jump; then CR4.PAE, CR3, EFER.LME, CR0.PG, far jump.
fn real_mode_enters_protected_mode_and_long_mode_by_itself(bench: &Bench) {
    let (in_32, in_64) = (CODE + 0x100, CODE + 0x200);
    let mut guest = Guest::with(&*bench.accel, &states::real(0), |a| {
        a.cli()?;
        a.lgdt(dword_ptr(0x600))?;
        a.mov(eax, cr0)?;
        a.or(eax, 1)?;
        a.mov(cr0, eax)?;
        // jmp far 24:in_32
        a.db(&[0x66, 0xea])?;
        a.dd(&[in_32 as u32])?;
        a.dw(&[24])
    });
    guest.code(32, in_32, |a| {
        a.mov(eax, 16)?;
        a.mov(ds, eax)?;
        a.mov(es, eax)?;
        a.mov(ss, eax)?;
        a.mov(esp, states::STACK as u32)?;
        a.out(0x80, al)?;
        a.mov(eax, cr4)?;
        a.or(eax, 0x20)?;
        a.mov(cr4, eax)?;
        a.mov(eax, states::PAGES as u32)?;
        a.mov(cr3, eax)?;
        a.mov(ecx, msr::EFER)?;
        a.rdmsr()?;
        a.or(eax, 0x100)?;
        a.wrmsr()?;
        a.mov(eax, cr0)?;
        a.or(eax, 0x8000_0000_u32)?;
        a.mov(cr0, eax)?;
        // jmp far 8:in_64
        a.db(&[0xea])?;
        a.dd(&[in_64 as u32])?;
        a.dw(&[8])
    });
    guest.code(64, in_64, |a| {
        a.mov(rax, 0x0123_4567_89ab_cdef_u64)?;
        a.mov(r15, rax)?;
        a.push(r15)?;
        a.pop(qword_ptr(DATA))?;
        a.out(i32::from(STOP), al)
    });
    let mut table = 63_u16.to_le_bytes().to_vec();
    table.extend((GDT as u32).to_le_bytes());
    guest.memory.write(0x600, &table).unwrap();
    assert_eq!(guest.run_to_stop(), [out(0x80, &[0x10])]);
    assert_eq!(guest.word(DATA), 0x0123_4567_89ab_cdef);
    let state = guest.get(0);
    assert_eq!(
        state.msr(msr::EFER).unwrap() & 0x500,
        0x500,
        "long mode is active"
    );
    assert_eq!(state.segments[1].selector, 8);
    assert_eq!(state.segments[1].attributes, 0xa09b);
}

fn devices_in_memory_are_read_and_written_in_every_width(bench: &Bench) {
    let device = 0xd000_0000_u64;
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(rbx, device)?;
        a.mov(rax, 0x1122_3344_5566_7788_u64)?;
        a.mov(byte_ptr(rbx), al)?;
        a.mov(word_ptr(rbx), ax)?;
        a.mov(dword_ptr(rbx), eax)?;
        a.mov(qword_ptr(rbx), rax)?;
        a.mov(rcx, qword_ptr(rbx + 8))?;
        a.mov(edx, dword_ptr(rbx + 8))?;
        a.movzx(esi, word_ptr(rbx + 8))?;
        a.movsx(rdi, byte_ptr(rbx + 15))?;
        a.out(i32::from(STOP), al)
    });
    let answer = [1, 2, 3, 4, 5, 6, 7, 0x88];
    guest.io.answer(device + 8, &answer);
    guest.io.answer(device + 15, &answer[7..]);
    let events = guest.run_to_stop();
    let bytes = 0x1122_3344_5566_7788_u64.to_le_bytes();
    let mut expected: Vec<Event> = [1, 2, 4, 8]
        .map(|len| Event::Write(device, bytes[..len].to_vec()))
        .to_vec();
    expected.extend([8, 4, 2].map(|len| Event::Read(device + 8, len)));
    expected.push(Event::Read(device + 15, 1));
    assert_eq!(events, expected);
    let state = guest.get(0);
    assert_eq!(state.registers[1], u64::from_le_bytes(answer));
    assert_eq!(state.registers[2], 0x0403_0201);
    assert_eq!(state.registers[6], 0x0201);
    assert_eq!(state.registers[7], 0xffff_ffff_ffff_ff88);
}

fn an_access_across_the_end_of_memory_reaches_the_device_behind_it(bench: &Bench) {
    let end = 4_u64 << 20;
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(rbx, end - 3)?;
        a.mov(rax, 0x1122_3344_5566_7788_u64)?;
        a.mov(qword_ptr(rbx), rax)?;
        a.mov(rcx, qword_ptr(rbx))?;
        a.out(i32::from(STOP), al)
    });
    for byte in 0..5 {
        let answer: Vec<u8> = (0xa0 + byte as u8..0xa5).collect();
        guest.io.answer(end + byte, &answer);
    }
    // In one piece or several, ascending.
    let (mut written, mut read) = (Vec::new(), 0);
    for event in guest.run_to_stop() {
        match event {
            Event::Write(at, bytes) => {
                assert_eq!(at, end + written.len() as u64);
                written.extend(bytes);
            }
            Event::Read(at, len) => {
                assert_eq!(at, end + read);
                read += len as u64;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((written, read), (vec![0x55, 0x44, 0x33, 0x22, 0x11], 5));
    assert_eq!(guest.word(end - 8) >> 40, 0x66_7788);
    assert_eq!(guest.get(0).registers[1], 0xa4a3_a2a1_a066_7788);
}

fn a_read_modify_write_of_a_device_reads_and_writes(bench: &Bench) {
    let device = 0xd000_0000_u64;
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(rbx, device)?;
        a.or(dword_ptr(rbx), 0x10)?;
        a.out(i32::from(STOP), al)
    });
    guest.io.answer(device, &[1, 0, 0, 0]);
    let expected = [Event::Read(device, 4), Event::Write(device, vec![0x11, 0, 0, 0])];
    assert_eq!(guest.run_to_stop(), expected);
}

fn what_is_not_there_reads_as_ones(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::protected(0), |a| {
        a.mov(edx, 0xcfc)?;
        a.in_(eax, dx)?;
        a.mov(ebx, eax)?;
        a.mov(ecx, dword_ptr(0xe000_0000_u32))?;
        a.out(i32::from(STOP), al)
    });
    guest.run_to_stop();
    let state = guest.get(0);
    assert_eq!(
        (state.registers[3], state.registers[1]),
        (0xffff_ffff, 0xffff_ffff)
    );
}

fn cpuid_answers_what_the_processor_was_given(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        for (n, function) in [0x4000_0000_u32, 0x4000_0001, 1, 0x8000_0001]
            .into_iter()
            .enumerate()
        {
            a.mov(eax, function)?;
            a.xor(ecx, ecx)?;
            a.cpuid()?;
            a.mov(dword_ptr(DATA + 16 * n as u64), eax)?;
            a.mov(dword_ptr(DATA + 16 * n as u64 + 4), ebx)?;
            a.mov(dword_ptr(DATA + 16 * n as u64 + 8), ecx)?;
            a.mov(dword_ptr(DATA + 16 * n as u64 + 12), edx)?;
        }
        a.out(i32::from(STOP), al)
    });
    guest.run_to_stop();
    let mut signature = [0; 12];
    guest.memory.read(DATA + 4, &mut signature).unwrap();
    assert_eq!(&signature, b"KVMKVMKVM\0\0\0");
    let features = guest.word(DATA + 16) as u32;
    let clock = vcpu::cpuid::FEATURE_CLOCK | vcpu::cpuid::FEATURE_PV_EOI;
    assert_eq!(features & clock, clock);
    let ecx_1 = guest.word(DATA + 32 + 8) as u32;
    assert_eq!(ecx_1 & 1 << 31, 1 << 31, "a hypervisor is there");
    assert_eq!(
        ecx_1 & (1 << 21 | 1 << 24),
        1 << 21 | 1 << 24,
        "x2APIC, TSC deadline"
    );
    assert_eq!(ecx_1 & (1 << 3 | 1 << 5), 0, "neither MONITOR nor VMX");
    let edx_amd = (guest.word(DATA + 48 + 8) >> 32) as u32;
    assert_ne!(edx_amd & 1 << 29, 0, "long mode");
}

/// Writes vector, error code and CR2 of each exception and goes on behind the instruction, whose length is in R12.
fn exceptions_push_their_error_codes_and_addresses(bench: &Bench) {
    let (with_code, without) = (CODE + 0x400, CODE + 0x500);
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(rdi, DATA)?;
        // #DE: div ecx is two bytes.
        a.xor(ecx, ecx)?;
        a.mov(r12, 2_u64)?;
        a.div(ecx)?;
        a.ud2()?;
        // #PF, a write to a page that is not there: mov [rax], ecx is two bytes.
        a.mov(rax, 0x1_2345_6789_u64)?;
        a.mov(dword_ptr(rax), ecx)?;
        // #GP, a non-canonical address: no error code but zero.
        a.mov(rax, 0x8000_0000_0000_0000_u64)?;
        a.mov(dword_ptr(rax), ecx)?;
        // #GP with a selector beyond the table: mov ds, eax is two bytes.
        a.mov(eax, 0x48)?;
        a.mov(ds, eax)?;
        a.out(i32::from(STOP), al)
    });
    guest.code(64, with_code, |a| {
        a.pop(qword_ptr(rdi))?;
        a.mov(rbx, cr2)?;
        a.mov(qword_ptr(rdi + 8), rbx)?;
        a.add(rdi, 16)?;
        a.add(qword_ptr(rsp), r12)?;
        a.iretq()
    });
    guest.code(64, without, |a| {
        a.mov(qword_ptr(rdi), -1)?;
        a.mov(qword_ptr(rdi + 8), 0)?;
        a.add(rdi, 16)?;
        a.add(qword_ptr(rsp), r12)?;
        a.iretq()
    });
    for vector in [0, 6] {
        gate(&guest.memory, vector, without);
    }
    for vector in [13, 14] {
        gate(&guest.memory, vector, with_code);
    }
    guest.run_to_stop();
    let told: Vec<(u64, u64)> = (0..5)
        .map(|n| (guest.word(DATA + 16 * n), guest.word(DATA + 16 * n + 8)))
        .collect();
    let all = u64::MAX;
    let address = 0x1_2345_6789;
    assert_eq!(
        told,
        [(all, 0), (all, 0), (2, address), (0, address), (0x48, address)]
    );
}

fn an_unknown_model_specific_register_is_a_protection_fault(bench: &Bench) {
    let handler = CODE + 0x400;
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(ecx, 0x1234_5678)?;
        a.rdmsr()?;
        a.hlt()
    });
    guest.code(64, handler, |a| {
        a.pop(rbx)?;
        a.out(i32::from(STOP), al)
    });
    gate(&guest.memory, 13, handler);
    guest.run_to_stop();
    assert_eq!(guest.get(0).registers[3], 0);
}

fn model_specific_registers_keep_what_is_written(bench: &Bench) {
    let registers = [
        (msr::STAR, 0x0023_0010_0000_0000_u64),
        (msr::LSTAR, 0xffff_8000_0000_1000),
        (msr::SFMASK, 0x4_7700),
        (msr::KERNEL_GS_BASE, 0xffff_8880_0000_2000),
        (msr::PAT, 0x0407_0506_0007_0106),
        (msr::SYSENTER_EIP, 0xffff_ffff_8000_0000),
    ];
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        for (n, (number, value)) in registers.into_iter().enumerate() {
            a.mov(ecx, number)?;
            a.mov(eax, value as u32)?;
            a.mov(edx, (value >> 32) as u32)?;
            a.wrmsr()?;
            a.xor(eax, eax)?;
            a.xor(edx, edx)?;
            a.rdmsr()?;
            a.mov(dword_ptr(DATA + 8 * n as u64), eax)?;
            a.mov(dword_ptr(DATA + 8 * n as u64 + 4), edx)?;
        }
        a.out(i32::from(STOP), al)
    });
    guest.run_to_stop();
    let state = guest.get(0);
    for (n, (number, value)) in registers.into_iter().enumerate() {
        assert_eq!(
            guest.word(DATA + 8 * n as u64),
            value,
            "read by the guest: {number:#x}"
        );
        assert_eq!(state.msr(number), Some(value), "saved: {number:#x}");
    }
}

fn a_triple_fault_ends_the_run(bench: &Bench) {
    let mut state = states::long(0);
    state.idt.limit = 0;
    let mut guest = Guest::with(&*bench.accel, &state, |a| a.ud2());
    assert_eq!(guest.run(), Halt::TripleFault);
    // It is reset like any other and runs again.
    guest.code(16, CODE, |a| a.out(i32::from(STOP), al));
    guest.set(0, &states::real(0));
    assert!(guest.run_to_stop().is_empty());
}

fn read_only_memory_is_read_and_executed_and_its_writes_are_told(bench: &Bench) {
    let firmware = 0x10_0000_u64 * 16;
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(rbx, firmware)?;
        a.call(rbx)?;
        a.mov(rax, qword_ptr(rbx + 0x100))?;
        a.mov(qword_ptr(DATA), rax)?;
        a.mov(dword_ptr(rbx + 0x100), ecx)?;
        a.mov(rax, qword_ptr(rbx + 0x100))?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.out(i32::from(STOP), al)
    });
    let block = guestmem::Block::new("firmware", 0x1000).unwrap();
    let code = accel_tests::assemble(64, firmware, |a| {
        a.mov(ecx, 0x1234)?;
        a.ret()
    });
    block.write(0, &code).unwrap();
    block.write(0x100, &77_u64.to_le_bytes()).unwrap();
    let slots = [
        Guest::slot(&guest.memory),
        Slot {
            start: firmware,
            len: 0x1000,
            block,
            offset: 0,
            access: Access::ReadOnly,
        },
    ];
    guest.vm.map(&slots).unwrap();
    let told = Event::Write(firmware + 0x100, vec![0x34, 0x12, 0, 0]);
    assert_eq!(guest.run_to_stop(), [told]);
    assert_eq!((guest.word(DATA), guest.word(DATA + 8)), (77, 77));
}

fn linear_addresses_are_translated_by_the_guests_tables(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| a.out(i32::from(STOP), al));
    // The page at 1 GiB shows the second 2 MiB of memory.
    let entry = 0x20_0083_u64.to_le_bytes();
    guest.memory.write(states::PAGES + 0x3000, &entry).unwrap();
    guest.run_to_stop();
    let processor = &mut guest.processors[0];
    assert_eq!(processor.translate(CODE), Some(CODE));
    assert_eq!(processor.translate((1 << 30) + 0x12345), Some(0x21_2345));
    assert_eq!(processor.translate(1 << 40), None);
}
