//! Interrupts from every side: the 8259's wire, messages, the local APIC's timer, other processors, non-maskable ones.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::Arc;
use std::time::Duration;

use accel_tests::{Bench, Event, Guest, STOP, states, suite};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use states::{CODE, DATA, gate};
use vcpu::Msi;
use vcpu::state::{Activity, msr};

suite! {
    the_8259s_interrupt_is_acknowledged_once_and_taken,
    the_8259s_interrupt_waits_for_sti_and_its_shadow,
    the_8259s_interrupt_waits_behind_a_masked_lint0,
    the_8259s_interrupt_wakes_a_halted_processor,
    two_of_the_8259s_interrupts_come_one_after_the_other,
    a_message_is_taken_and_no_end_is_told_for_an_edge,
    a_message_wakes_a_halted_processor,
    messages_to_nobody_are_lost,
    an_interrupt_that_waits_at_sti_wakes_the_halt_behind_it,
    the_end_of_a_level_triggered_interrupt_is_told_once,
    the_end_of_a_level_triggered_interrupt_is_told_when_it_ends fit,
    a_vector_in_service_is_shown fit,
    a_masked_pin_still_tells_the_end_of_what_is_in_service,
    higher_vectors_come_first_and_the_task_priority_holds_back_lower_ones,
    the_timer_counts_down_once,
    the_timer_repeats,
    the_timer_waits_for_a_deadline_of_the_time_stamp_counter,
    x2apic_has_identity_priority_and_interrupts_to_itself,
    init_and_start_up_messages_begin_another_processor_in_real_mode,
    a_processor_interrupts_another_that_is_halted,
    nmis_are_delivered_one_at_a_time,
    a_message_can_be_an_nmi,
    the_paravirtual_end_of_interrupt_frees_the_vector,
}

const APIC: u64 = 0xfee0_0000;
const HANDLERS: u64 = CODE + 0x1000;
type Assembled = Result<(), IcedError>;

/// Switches the local APIC on (spurious vector 0xff) with the address of its registers in RBX.
fn apic_on(a: &mut CodeAssembler) -> Assembled {
    a.mov(rbx, APIC)?;
    a.mov(dword_ptr(rbx + 0xf0), 0x1ff)
}

/// Makes a handler for a vector: counts in the word at [`DATA`] + 8 × vector, writes the vector to port 0x80, ends the interrupt (where
/// asked for) and returns.
fn handler(guest: &Guest, vector: u8, end: bool) {
    let address = HANDLERS + 0x80 * u64::from(vector);
    guest.code(64, address, |a| {
        a.push(rax)?;
        a.push(rbx)?;
        a.inc(qword_ptr(DATA + 8 * u64::from(vector)))?;
        a.mov(al, u32::from(vector))?;
        a.out(0x80, al)?;
        if end {
            a.mov(rbx, APIC)?;
            a.mov(dword_ptr(rbx + 0xb0), 0)?;
        }
        a.pop(rbx)?;
        a.pop(rax)?;
        a.iretq()
    });
    gate(&guest.memory, vector, address);
}

fn taken(guest: &Guest, vector: u8) -> u64 {
    guest.word(DATA + 8 * u64::from(vector))
}

fn out(port: u16, byte: u8) -> Event {
    Event::Out(port, vec![byte])
}

/// Loops until the handler of a vector has run so many times.
fn wait_for(a: &mut CodeAssembler, vector: u8, times: i32) -> Assembled {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.pause()?;
    a.cmp(qword_ptr(DATA + 8 * u64::from(vector)), times)?;
    a.jb(again)
}

/// Passes some time with interrupts as they are.
fn idle(a: &mut CodeAssembler) -> Assembled {
    let mut again = a.create_label();
    a.mov(ecx, 1000)?;
    a.set_label(&mut again)?;
    a.dec(ecx)?;
    a.jnz(again)
}

fn long(bench: &Bench, program: impl FnOnce(&mut CodeAssembler) -> Assembled) -> Guest {
    Guest::with(&*bench.accel, &states::long(0), program)
}

/// Lets a write of one byte to port 0x20 raise the 8259's interrupt with this vector.
fn raise_on_port(guest: &Guest) {
    let io = Arc::downgrade(&guest.io);
    guest.io.on(0x20, move |data| {
        if let Some(io) = io.upgrade() {
            io.external(data[0]);
        }
    });
}

/// Lets a 32-bit write to port 0x30 send a message with this data to all processors (flat) or, for 0x34, to identity 0.
fn send_on_port(guest: &Guest) {
    for port in [0x30, 0x34] {
        let vm = Arc::downgrade(&guest.vm);
        guest.io.on(port, move |data| {
            let data = u32::from_le_bytes(data.try_into().unwrap());
            if let Some(vm) = vm.upgrade() {
                vm.message(Msi { address: APIC, data }).unwrap();
            }
        });
    }
}

fn the_8259s_interrupt_is_acknowledged_once_and_taken(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(rbx + 0x350), 0x700)?;
        a.sti()?;
        a.mov(al, 0x41)?;
        a.out(0x20, al)?;
        wait_for(a, 0x41, 1)?;
        idle(a)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, false);
    raise_on_port(&guest);
    let events = guest.run_to_stop();
    assert_eq!(events, [out(0x20, 0x41), Event::Acknowledged, out(0x80, 0x41)]);
    assert_eq!(taken(&guest, 0x41), 1);
}

fn the_8259s_interrupt_waits_for_sti_and_its_shadow(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(rbx + 0x350), 0x700)?;
        a.mov(al, 0x41)?;
        a.out(0x20, al)?;
        idle(a)?;
        a.out(0x81, al)?;
        a.sti()?;
        a.mov(rsi, qword_ptr(DATA + 8 * 0x41))?;
        wait_for(a, 0x41, 1)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, false);
    raise_on_port(&guest);
    let events = guest.run_to_stop();
    let expected = [
        out(0x20, 0x41),
        out(0x81, 0x41),
        Event::Acknowledged,
        out(0x80, 0x41),
    ];
    assert_eq!(events, expected);
    assert_eq!(
        guest.get(0).registers[6],
        0,
        "the instruction after STI comes first"
    );
}

fn the_8259s_interrupt_waits_behind_a_masked_lint0(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(rbx + 0x350), 0x1_0700)?;
        a.sti()?;
        a.mov(al, 0x41)?;
        a.out(0x20, al)?;
        idle(a)?;
        a.out(0x81, al)?;
        a.mov(dword_ptr(rbx + 0x350), 0x700)?;
        wait_for(a, 0x41, 1)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, false);
    raise_on_port(&guest);
    let events = guest.run_to_stop();
    let expected = [
        out(0x20, 0x41),
        out(0x81, 0x41),
        Event::Acknowledged,
        out(0x80, 0x41),
    ];
    assert_eq!(events, expected);
}

/// Does something on another thread while the guest runs, a moment after it has begun.
fn meanwhile(guest: &mut Guest, action: impl FnOnce() + Send + 'static) -> Vec<Event> {
    let thread = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(50));
        action();
    });
    let events = guest.run_to_stop();
    thread.join().unwrap();
    events
}

fn the_8259s_interrupt_wakes_a_halted_processor(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(rbx + 0x350), 0x700)?;
        a.sti()?;
        a.hlt()?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, false);
    let io = Arc::clone(&guest.io);
    let events = meanwhile(&mut guest, move || io.external(0x41));
    assert_eq!(events, [Event::Acknowledged, out(0x80, 0x41)]);
}

fn two_of_the_8259s_interrupts_come_one_after_the_other(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(rbx + 0x350), 0x700)?;
        a.mov(al, 0x41)?;
        a.out(0x20, al)?;
        a.mov(al, 0x42)?;
        a.out(0x20, al)?;
        a.sti()?;
        wait_for(a, 0x42, 1)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, false);
    handler(&guest, 0x42, false);
    raise_on_port(&guest);
    let events = guest.run_to_stop();
    let taken = [
        Event::Acknowledged,
        out(0x80, 0x41),
        Event::Acknowledged,
        out(0x80, 0x42),
    ];
    assert_eq!(events[2..], taken);
}

fn a_message_is_taken_and_no_end_is_told_for_an_edge(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.sti()?;
        a.mov(eax, 0x41)?;
        a.out(0x30, eax)?;
        wait_for(a, 0x41, 1)?;
        a.out(0x30, eax)?;
        wait_for(a, 0x41, 2)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, true);
    send_on_port(&guest);
    let sent = Event::Out(0x30, vec![0x41, 0, 0, 0]);
    let expected = [sent.clone(), out(0x80, 0x41), sent, out(0x80, 0x41)];
    assert_eq!(guest.run_to_stop(), expected);
}

fn a_message_wakes_a_halted_processor(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.sti()?;
        a.hlt()?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, true);
    let vm = Arc::clone(&guest.vm);
    let message = Msi {
        address: APIC,
        data: 0x41,
    };
    let events = meanwhile(&mut guest, move || vm.message(message).unwrap());
    assert_eq!(events, [out(0x80, 0x41)]);
}

fn messages_to_nobody_are_lost(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.sti()?;
        idle(a)?;
        a.out(i32::from(STOP), al)
    });
    for address in [APIC | 0x7 << 12, 0x1000, 0x12_0000_0000 | APIC, u64::MAX] {
        guest.vm.message(Msi { address, data: 0x41 }).unwrap();
    }
    assert_eq!(guest.run_to_stop(), []);
}

fn an_interrupt_that_waits_at_sti_wakes_the_halt_behind_it(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(eax, 0x41)?;
        a.out(0x30, eax)?;
        a.sti()?;
        a.hlt()?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, true);
    send_on_port(&guest);
    assert_eq!(guest.run_to_stop()[1..], [out(0x80, 0x41)]);
}

const LEVEL: u32 = 0xc000;

fn level(bench: &Bench) -> Vec<Event> {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.sti()?;
        a.mov(eax, LEVEL | 0x42)?;
        a.out(0x30, eax)?;
        wait_for(a, 0x42, 1)?;
        a.out(0x81, al)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x42, true);
    send_on_port(&guest);
    let pin = Msi {
        address: APIC,
        data: LEVEL | 0x42,
    };
    guest.vm.route(9, Some(pin)).unwrap();
    guest.run_to_stop()
}

fn the_end_of_a_level_triggered_interrupt_is_told_once(bench: &Bench) {
    let events = level(bench);
    let ends = events
        .iter()
        .filter(|event| **event == Event::Ended(0x42))
        .count();
    assert_eq!((ends, events.len()), (1, 4), "{events:?}");
}

/// After the handler's first access, before the next access of the program.
fn the_end_of_a_level_triggered_interrupt_is_told_when_it_ends(bench: &Bench) {
    assert_eq!(
        level(bench)[1..],
        [out(0x80, 0x42), Event::Ended(0x42), out(0x81, 0x42)]
    );
}

fn a_vector_in_service_is_shown(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.sti()?;
        a.mov(eax, 0x42)?;
        a.out(0x30, eax)?;
        a.hlt()
    });
    guest.code(64, HANDLERS, |a| {
        a.mov(esi, dword_ptr(rbx + 0x120))?;
        a.mov(edi, dword_ptr(rbx + 0xa0))?;
        a.mov(dword_ptr(rbx + 0xb0), 0)?;
        a.mov(ebp, dword_ptr(rbx + 0x120))?;
        a.out(i32::from(STOP), al)
    });
    gate(&guest.memory, 0x42, HANDLERS);
    send_on_port(&guest);
    guest.run_to_stop();
    let registers = guest.get(0).registers;
    assert_eq!((registers[6], registers[5]), (4, 0), "in service, then no longer");
    assert_eq!(registers[7] & 0xf0, 0x40, "processor priority");
}

/// As Linux does it when it moves an interrupt: the pin is masked, or gets another vector, before the end.
fn a_masked_pin_still_tells_the_end_of_what_is_in_service(bench: &Bench) {
    for changed in [None, Some(LEVEL | 0x52)] {
        let mut guest = long(bench, |a| {
            apic_on(a)?;
            a.sti()?;
            a.mov(eax, LEVEL | 0x42)?;
            a.out(0x30, eax)?;
            wait_for(a, 0x42, 1)?;
            a.out(i32::from(STOP), al)
        });
        handler(&guest, 0x42, true);
        send_on_port(&guest);
        let pin = |data| Msi { address: APIC, data };
        guest.vm.route(9, Some(pin(LEVEL | 0x42))).unwrap();
        let vm = Arc::downgrade(&guest.vm);
        guest.io.on(0x80, move |_| {
            if let Some(vm) = vm.upgrade() {
                vm.route(9, changed.map(pin)).unwrap();
            }
        });
        let events = guest.run_to_stop();
        assert!(events.contains(&Event::Ended(0x42)), "{events:?}");
    }
}

fn higher_vectors_come_first_and_the_task_priority_holds_back_lower_ones(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        for vector in [0x41, 0x61, 0x51] {
            a.mov(eax, vector)?;
            a.out(0x30, eax)?;
        }
        a.mov(rax, 5_u64)?;
        a.mov(cr8, rax)?;
        a.sti()?;
        wait_for(a, 0x61, 1)?;
        idle(a)?;
        a.out(0x81, al)?;
        a.xor(eax, eax)?;
        a.mov(cr8, rax)?;
        wait_for(a, 0x41, 1)?;
        a.out(i32::from(STOP), al)
    });
    for vector in [0x41, 0x51, 0x61] {
        handler(&guest, vector, true);
    }
    send_on_port(&guest);
    let events = guest.run_to_stop();
    let expected = [out(0x80, 0x61), out(0x81, 5), out(0x80, 0x51), out(0x80, 0x41)];
    assert_eq!(events[3..], expected);
}

/// Divides by 1, with this local vector entry and count.
fn timer(a: &mut CodeAssembler, entry: u32, count: u32) -> Assembled {
    a.mov(dword_ptr(rbx + 0x3e0), 0xb)?;
    a.mov(dword_ptr(rbx + 0x320), entry)?;
    a.mov(dword_ptr(rbx + 0x380), count)
}

fn the_timer_counts_down_once(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        timer(a, 0x41, 1_000_000)?;
        a.mov(esi, dword_ptr(rbx + 0x390))?;
        a.sti()?;
        a.hlt()?;
        idle(a)?;
        a.mov(edi, dword_ptr(rbx + 0x390))?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, true);
    assert_eq!(guest.run_to_stop(), [out(0x80, 0x41)]);
    let state = guest.get(0);
    assert!(
        (1..=1_000_000).contains(&state.registers[6]),
        "{}",
        state.registers[6]
    );
    assert_eq!(state.registers[7], 0);
}

fn the_timer_repeats(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        timer(a, 0x2_0041, 2_000_000)?;
        a.sti()?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.hlt()?;
        a.cmp(qword_ptr(DATA + 8 * 0x41), 3)?;
        a.jb(again)?;
        a.cli()?;
        a.mov(dword_ptr(rbx + 0x380), 0)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, true);
    guest.run_to_stop();
    assert!(taken(&guest, 0x41) >= 3);
}

fn the_timer_waits_for_a_deadline_of_the_time_stamp_counter(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(rbx + 0x320), 0x4_0041)?;
        a.rdtsc()?;
        a.shl(rdx, 32)?;
        a.or(rax, rdx)?;
        a.add(rax, 5_000_000)?;
        a.mov(r15, rax)?;
        a.mov(rdx, rax)?;
        a.shr(rdx, 32)?;
        a.mov(ecx, msr::TSC_DEADLINE)?;
        a.wrmsr()?;
        a.sti()?;
        a.hlt()?;
        a.rdtsc()?;
        a.shl(rdx, 32)?;
        a.or(rax, rdx)?;
        a.mov(r14, rax)?;
        a.mov(ecx, msr::TSC_DEADLINE)?;
        a.rdmsr()?;
        a.mov(r13d, eax)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 0x41, true);
    assert_eq!(guest.run_to_stop(), [out(0x80, 0x41)]);
    let registers = guest.get(0).registers;
    assert!(
        registers[14] >= registers[15],
        "not before its time: {registers:x?}"
    );
    assert_eq!(registers[13], 0, "a deadline that has passed reads as zero");
}

/// Writes EDX:EAX = value to a register.
fn wrmsr(a: &mut CodeAssembler, number: u32, value: u64) -> Assembled {
    a.mov(ecx, number)?;
    a.mov(eax, value as u32)?;
    a.mov(edx, (value >> 32) as u32)?;
    a.wrmsr()
}

fn x2apic_has_identity_priority_and_interrupts_to_itself(bench: &Bench) {
    let mut guest = long(bench, |a| {
        a.mov(ecx, msr::APIC_BASE)?;
        a.rdmsr()?;
        a.or(eax, 0x400)?;
        a.wrmsr()?;
        wrmsr(a, 0x80f, 0x1ff)?;
        a.mov(ecx, 0x802)?;
        a.rdmsr()?;
        a.mov(r15d, eax)?;
        wrmsr(a, 0x808, 0x30)?;
        a.mov(r14, cr8)?;
        a.sti()?;
        wrmsr(a, 0x83f, 0x41)?;
        wait_for(a, 0x41, 1)?;
        // A fixed interrupt to identity 0 by the command register.
        wrmsr(a, 0x830, 0x42)?;
        wait_for(a, 0x42, 1)?;
        a.mov(ecx, 0x80d)?;
        a.rdmsr()?;
        a.mov(r13d, eax)?;
        a.out(i32::from(STOP), al)
    });
    for vector in [0x41, 0x42] {
        let address = HANDLERS + 0x80 * u64::from(vector);
        guest.code(64, address, |a| {
            a.push(rax)?;
            a.push(rcx)?;
            a.push(rdx)?;
            a.inc(qword_ptr(DATA + 8 * u64::from(vector)))?;
            wrmsr(a, 0x80b, 0)?;
            a.pop(rdx)?;
            a.pop(rcx)?;
            a.pop(rax)?;
            a.iretq()
        });
        gate(&guest.memory, vector, address);
    }
    guest.run_to_stop();
    let state = guest.get(0);
    assert_eq!(state.registers[15], 0, "identity");
    assert_eq!(state.registers[14], 3, "CR8 is the task priority");
    assert_eq!(state.registers[13], 1, "logical identity: bit 0 of cluster 0");
    assert_eq!(state.msr(msr::APIC_BASE), Some(0xfee0_0d00));
}

/// INIT, start-up at page 0x30 twice, all but self; the other processor writes its identity and waits for ever.
fn init_and_start_up_messages_begin_another_processor_in_real_mode(bench: &Bench) {
    let mut guest = Guest::new(&*bench.accel, 2);
    guest.code(64, CODE, |a| {
        apic_on(a)?;
        for command in [0xc_4500, 0xc_4630, 0xc_4630] {
            a.mov(dword_ptr(rbx + 0x300), command)?;
            idle(a)?;
        }
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.cmp(dword_ptr(DATA), 0)?;
        a.je(again)?;
        a.out(i32::from(STOP), al)
    });
    guest.code(16, 0x3_0000, |a| {
        a.mov(bx, cs)?;
        a.mov(ax, 0x2000)?;
        a.mov(ds, ax)?;
        a.mov(eax, 1)?;
        a.cpuid()?;
        a.mov(dword_ptr(4), ebx)?;
        a.mov(bx, cs)?;
        a.mov(word_ptr(8), bx)?;
        a.mov(dword_ptr(0), 1)?;
        a.cli()?;
        a.hlt()
    });
    guest.set(0, &states::long(0));
    assert_eq!(guest.get(1).activity, Activity::WaitForInit);
    guest.run_all();
    assert_eq!(guest.word(DATA) >> 56, 1, "its identity");
    assert_eq!(guest.word(DATA + 8), 0x3000, "its code segment");
}

fn a_processor_interrupts_another_that_is_halted(bench: &Bench) {
    let other = CODE + 0x800;
    let mut guest = Guest::new(&*bench.accel, 2);
    guest.code(64, CODE, |a| {
        apic_on(a)?;
        // Until the other is ready; then a fixed interrupt to identity 1.
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.cmp(dword_ptr(DATA), 0)?;
        a.je(again)?;
        a.mov(dword_ptr(rbx + 0x310), 1 << 24)?;
        a.mov(dword_ptr(rbx + 0x300), 0x4041)?;
        wait_for(a, 0x41, 1)?;
        a.out(i32::from(STOP), al)
    });
    guest.code(64, other, |a| {
        apic_on(a)?;
        a.mov(dword_ptr(DATA), 1)?;
        a.sti()?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.hlt()?;
        a.jmp(again)
    });
    handler(&guest, 0x41, true);
    guest.set(0, &states::long(0));
    let mut state = states::long(1);
    state.activity = Activity::Running;
    state.rip = other;
    state.registers[4] = 0x6000;
    guest.set(1, &state);
    guest.run_all();
    assert_eq!(taken(&guest, 0x41), 1);
}

fn nmis_are_delivered_one_at_a_time(bench: &Bench) {
    let mut guest = long(bench, |a| {
        a.out(i32::from(STOP), al)?;
        wait_for(a, 2, 2)?;
        a.out(i32::from(STOP), al)
    });
    // The handler stops the machine inside of itself once: there the second one comes.
    guest.code(64, HANDLERS, |a| {
        a.out(0x80, al)?;
        a.out(i32::from(STOP), al)?;
        a.inc(qword_ptr(DATA + 16))?;
        a.out(0x81, al)?;
        a.iretq()
    });
    gate(&guest.memory, 2, HANDLERS);
    guest.run_to_stop();
    guest.processors[0].nmi().unwrap();
    assert_eq!(guest.run_to_stop(), [out(0x80, 0)]);
    guest.processors[0].nmi().unwrap();
    assert_eq!(guest.run_to_stop(), [out(0x81, 0), out(0x80, 0)]);
    assert_eq!(guest.run_to_stop(), [out(0x81, 0)]);
}

fn a_message_can_be_an_nmi(bench: &Bench) {
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        a.mov(eax, 0x400)?;
        a.out(0x30, eax)?;
        wait_for(a, 2, 1)?;
        a.out(i32::from(STOP), al)
    });
    handler(&guest, 2, false);
    send_on_port(&guest);
    assert_eq!(guest.run_to_stop()[1..], [out(0x80, 2)]);
}

/// Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN: if bit 0 of the word is set it is cleared instead of a write to the APIC.
fn the_paravirtual_end_of_interrupt_frees_the_vector(bench: &Bench) {
    let word = DATA + 0x8000;
    let mut guest = long(bench, |a| {
        apic_on(a)?;
        wrmsr(a, msr::KVM_PV_EOI, word | 1)?;
        a.sti()?;
        for times in 1..=3 {
            a.mov(eax, 0x41)?;
            a.out(0x30, eax)?;
            wait_for(a, 0x41, times)?;
        }
        a.out(i32::from(STOP), al)
    });
    guest.code(64, HANDLERS, |a| {
        let mut done = a.create_label();
        a.inc(qword_ptr(DATA + 8 * 0x41))?;
        a.btr(dword_ptr(word), 0)?;
        a.jc(done)?;
        a.mov(dword_ptr(rbx + 0xb0), 0)?;
        a.set_label(&mut done)?;
        a.iretq()
    });
    gate(&guest.memory, 0x41, HANDLERS);
    send_on_port(&guest);
    guest.run_to_stop();
    assert_eq!(taken(&guest, 0x41), 3);
}
