//! What is around a processor: kicks, the map of memory, dirty pages, doorbells, clocks.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use accel_tests::{Bench, Event, Guest, STOP, clock, states, suite};
use guestmem::Block;
use iced_x86::code_asm::*;
use states::{CODE, DATA};
use vcpu::state::VmState;
use vcpu::time::{CountingClock, HostRandom};
use vcpu::{Access, Halt, Kick, Slot, VmConfig};

suite! {
    a_kick_ends_a_loop_with_interrupts_off,
    a_kick_ends_a_halt_with_interrupts_off,
    a_kick_before_a_run_ends_the_next_one_and_only_that,
    a_kicked_guest_goes_on_as_if_nothing_had_been,
    a_processor_that_waits_for_start_up_can_be_kicked,
    writes_of_processors_and_devices_are_told_once,
    pages_are_told_by_their_place_in_the_block,
    what_was_written_through_a_slot_that_went_away_is_told,
    doorbells_ring_instead_of_reaching_the_device,
    a_doorbell_rings_the_last_bell_given_and_none_when_taken_away,
    maps_change_while_processors_run,
    maps_that_cannot_be_are_refused,
    memory_shows_twice_and_its_rest_elsewhere,
    the_paravirtual_clock_shows_the_machines_time,
    the_paravirtual_clock_begins_with_what_was_put_back,
    the_paravirtual_clock_stands_still_while_the_machine_is_paused,
}

fn kick_later(kick: Arc<dyn Kick>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        kick.kick();
    })
}

fn a_kick_ends_a_loop_with_interrupts_off(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.jmp(again)
    });
    let thread = kick_later(guest.processors[0].kick());
    assert_eq!(guest.run(), Halt::Kicked);
    thread.join().unwrap();
    assert_eq!(guest.get(0).rip, CODE);
}

fn a_kick_ends_a_halt_with_interrupts_off(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::real(0), |a| {
        a.cli()?;
        a.hlt()
    });
    for _ in 0..2 {
        let thread = kick_later(guest.processors[0].kick());
        assert_eq!(guest.run(), Halt::Kicked);
        thread.join().unwrap();
        let state = guest.get(0);
        assert_eq!(
            (state.rip, state.activity),
            (CODE + 2, vcpu::state::Activity::Halted)
        );
    }
}

fn a_kick_before_a_run_ends_the_next_one_and_only_that(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::real(0), |a| a.out(i32::from(STOP), al));
    guest.processors[0].kick().kick();
    guest.processors[0].kick().kick();
    assert_eq!(guest.run(), Halt::Kicked);
    assert!(!guest.io.stopped());
    assert_eq!(guest.run_to_stop(), []);
}

/// A guest that adds up under a rain of kicks, with string input (many accesses in one instruction) in between.
fn a_kicked_guest_goes_on_as_if_nothing_had_been(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        let mut again = a.create_label();
        a.xor(ebx, ebx)?;
        a.mov(r9d, 0xd000_0000_u32)?;
        a.set_label(&mut again)?;
        a.mov(rdi, DATA)?;
        a.mov(ecx, 100)?;
        a.mov(edx, 0x1f0)?;
        a.rep().insb()?;
        a.movzx(eax, byte_ptr(DATA + 99))?;
        a.add(rbx, rax)?;
        a.mov(dword_ptr(r9), ebx)?;
        a.cmp(ebx, 500)?;
        a.jb(again)?;
        a.out(i32::from(STOP), al)
    });
    guest.io.answer(0x1f0, &[5]);
    let kick = guest.processors[0].kick();
    let done = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::SeqCst) {
                kick.kick();
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
    while !guest.io.stopped() {
        assert_eq!(guest.run(), Halt::Kicked);
        let state = guest.get(0);
        guest.set(0, &state);
    }
    done.store(true, Ordering::SeqCst);
    thread.join().unwrap();
    let events = guest.io.take();
    let (reads, writes): (Vec<&Event>, Vec<&Event>) = events[..events.len() - 1]
        .iter()
        .partition(|event| matches!(event, Event::In(..)));
    assert_eq!(reads.len(), 100 * 100);
    let sums: Vec<u32> = writes
        .iter()
        .map(|event| match event {
            Event::Write(0xd000_0000, bytes) => u32::from_le_bytes(bytes[..].try_into().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sums, (1..=100).map(|n| n * 5).collect::<Vec<u32>>());
}

fn a_processor_that_waits_for_start_up_can_be_kicked(bench: &Bench) {
    let mut guest = Guest::new(&*bench.accel, 2);
    let thread = kick_later(guest.processors[1].kick());
    let halt = guest.processors[1].run(&*guest.io).unwrap();
    thread.join().unwrap();
    assert_eq!(halt, Halt::Kicked);
    assert_eq!(guest.get(1).activity, vcpu::state::Activity::WaitForInit);
}

fn dirty(guest: &Guest) -> Vec<u64> {
    guest.vm.dirty(&guest.memory).unwrap().iter().collect()
}

fn writes_of_processors_and_devices_are_told_once(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(byte_ptr(0x10_0000), 1)?;
        a.mov(rax, qword_ptr(0x10_2000))?;
        // Across two pages.
        a.mov(qword_ptr(0x10_4ffc), rax)?;
        a.out(i32::from(STOP), al)?;
        a.mov(byte_ptr(0x10_6000), 1)?;
        a.out(i32::from(STOP), al)
    });
    guest.vm.log_dirty(true).unwrap();
    let _ = dirty(&guest);
    guest.run_to_stop();
    guest.memory.write(0x20_0000, &[1]).unwrap();
    let first: Vec<u64> = dirty(&guest);
    let told = |page: u64| first.contains(&page);
    assert!(
        told(0x100) && told(0x104) && told(0x105) && told(0x200),
        "{first:x?}"
    );
    assert!(!told(0x102) && !told(0x106), "{first:x?}");
    assert!(!dirty(&guest).contains(&0x100));
    guest.run_to_stop();
    assert!(dirty(&guest).contains(&0x106));
    guest.vm.log_dirty(false).unwrap();
}

fn pages_are_told_by_their_place_in_the_block(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(byte_ptr(0x80_3000_u64), 1)?;
        a.out(i32::from(STOP), al)
    });
    let display = Block::new("display", 0x10_0000).unwrap();
    let shown = Slot {
        start: 0x80_0000,
        len: 0x8000,
        block: display.clone(),
        offset: 0x4_5000,
        access: Access::ReadWrite,
    };
    guest.vm.log_dirty(true).unwrap();
    guest.vm.map(&[Guest::slot(&guest.memory), shown]).unwrap();
    guest.run_to_stop();
    let pages: Vec<u64> = guest.vm.dirty(&display).unwrap().iter().collect();
    assert_eq!(pages, [0x48]);
}

fn what_was_written_through_a_slot_that_went_away_is_told(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(byte_ptr(0x80_3000_u64), 1)?;
        a.out(i32::from(STOP), al)
    });
    let display = Block::new("display", 0x1_0000).unwrap();
    let shown = Slot {
        start: 0x80_0000,
        len: 0x1_0000,
        block: display.clone(),
        offset: 0,
        access: Access::ReadWrite,
    };
    guest.vm.log_dirty(true).unwrap();
    guest.vm.map(&[Guest::slot(&guest.memory), shown]).unwrap();
    guest.run_to_stop();
    guest.vm.map(&[Guest::slot(&guest.memory)]).unwrap();
    let pages: Vec<u64> = guest.vm.dirty(&display).unwrap().iter().collect();
    assert_eq!(pages, [3]);
}

fn bell() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap()
}

/// How often it rang since the last question.
fn rings(bell: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(bell, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

fn ringing(bench: &Bench) -> Guest {
    Guest::with(&*bench.accel, &states::long(0), |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(ebx, 0xd000_0000_u32)?;
        a.mov(word_ptr(rbx), ax)?;
        a.mov(dword_ptr(rbx), eax)?;
        a.mov(dword_ptr(rbx + 4), eax)?;
        a.mov(eax, dword_ptr(rbx))?;
        a.out(i32::from(STOP), al)?;
        a.jmp(again)
    })
}

fn doorbells_ring_instead_of_reaching_the_device(bench: &Bench) {
    let mut guest = ringing(bench);
    let bell = bell();
    guest.vm.doorbell(0xd000_0000, Some(bell.as_fd())).unwrap();
    let events = guest.run_to_stop();
    let expected = [Event::Write(0xd000_0004, vec![0; 4]), Event::Read(0xd000_0000, 4)];
    assert_eq!(events, expected);
    assert_eq!(rings(&bell), 2);
}

fn a_doorbell_rings_the_last_bell_given_and_none_when_taken_away(bench: &Bench) {
    let mut guest = ringing(bench);
    let (one, two) = (bell(), bell());
    guest.vm.doorbell(0xd000_0000, Some(one.as_fd())).unwrap();
    guest.vm.doorbell(0xd000_0000, Some(two.as_fd())).unwrap();
    guest.run_to_stop();
    assert_eq!((rings(&one), rings(&two)), (0, 2));
    guest.vm.doorbell(0xd000_0000, None).unwrap();
    guest.vm.doorbell(0xd000_0000, None).unwrap();
    let events = guest.run_to_stop();
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!((rings(&one), rings(&two)), (0, 0));
}

/// A processor reads a word without pause while its slot is replaced: it must never see that there is nothing.
fn maps_change_while_processors_run(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        let mut again = a.create_label();
        a.mov(ebx, 0x80_0000)?;
        a.set_label(&mut again)?;
        a.mov(eax, dword_ptr(rbx))?;
        a.cmp(eax, 7)?;
        a.je(again)?;
        a.out(i32::from(STOP), al)
    });
    let block = Block::new("other", 0x2000).unwrap();
    block.write(0, &7_u32.to_le_bytes()).unwrap();
    block.write(0x1000, &7_u32.to_le_bytes()).unwrap();
    let shown = |offset, access| Slot {
        start: 0x80_0000,
        len: 0x1000,
        block: block.clone(),
        offset,
        access,
    };
    let main = Guest::slot(&guest.memory);
    guest
        .vm
        .map(&[main.clone(), shown(0, Access::ReadWrite)])
        .unwrap();
    let vm = Arc::clone(&guest.vm);
    let slots: Vec<[Slot; 2]> = (0..40)
        .map(|n| {
            let access = if n % 3 == 0 {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            };
            [main.clone(), shown(n % 2 * 0x1000, access)]
        })
        .collect();
    let end = block.clone();
    let thread = std::thread::spawn(move || {
        for slots in slots {
            vm.map(&slots).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        end.write(0, &8_u32.to_le_bytes()).unwrap();
        end.write(0x1000, &8_u32.to_le_bytes()).unwrap();
    });
    let events = guest.run_to_stop();
    thread.join().unwrap();
    assert_eq!(events, [], "no read reached a device");
    assert_eq!(guest.get(0).registers[0], 8);
}

fn maps_that_cannot_be_are_refused(bench: &Bench) {
    let guest = Guest::new(&*bench.accel, 1);
    let main = Guest::slot(&guest.memory);
    let changed = |change: fn(&mut Slot)| {
        let mut slot = main.clone();
        change(&mut slot);
        slot
    };
    let bad = [
        vec![main.clone(), changed(|slot| slot.start = 0x1000)],
        vec![changed(|slot| slot.start = 0x800)],
        vec![changed(|slot| slot.len -= 1)],
        vec![changed(|slot| slot.offset = 0x1000)],
        vec![changed(|slot| slot.start = u64::MAX - 0xfff)],
    ];
    for slots in bad {
        assert!(guest.vm.map(&slots).is_err());
    }
    guest.vm.map(&[main]).unwrap();
    let counting = VmConfig {
        clock: Arc::new(CountingClock::new(0, 0)),
        random: Arc::new(HostRandom),
        ioapic_pins: 24,
    };
    let refused = bench.accel.create(counting).is_err();
    assert_eq!(
        refused,
        bench.accel.name() == "kvm",
        "KVM has no time but the host's"
    );
}

fn memory_shows_twice_and_its_rest_elsewhere(bench: &Bench) {
    let mut guest = Guest::with(&*bench.accel, &states::long(0), |a| {
        a.mov(dword_ptr(0x80_0000_u64), 0x1234)?;
        a.mov(eax, dword_ptr(0x90_0000_u64))?;
        a.out(i32::from(STOP), al)
    });
    let show = |start, offset| Slot {
        start,
        len: 0x1000,
        block: guest.memory.clone(),
        offset,
        access: Access::ReadWrite,
    };
    let slots = [
        Guest::slot(&guest.memory),
        show(0x80_0000, 0x30_0000),
        show(0x90_0000, 0x30_0000),
    ];
    guest.vm.map(&slots).unwrap();
    guest.run_to_stop();
    assert_eq!(guest.get(0).registers[0], 0x1234);
    assert_eq!(guest.word(0x30_0000), 0x1234);
}

const SECOND: u64 = 1_000_000_000;

fn the_paravirtual_clock_shows_the_machines_time(bench: &Bench) {
    let mut guest = clock::guest(bench);
    guest.run_to_stop();
    let before = clock::compare(&mut guest);
    std::thread::sleep(Duration::from_millis(300));
    let after = clock::compare(&mut guest);
    assert!(after - before >= 300_000_000, "{before} {after}");
}

fn the_paravirtual_clock_begins_with_what_was_put_back(bench: &Bench) {
    let mut guest = clock::guest(bench);
    let begin = 5000 * SECOND;
    guest.vm.restore(&VmState { clock: begin }).unwrap();
    guest.run_to_stop();
    let time = clock::compare(&mut guest);
    assert!((begin..begin + 60 * SECOND).contains(&time), "{time}");
}

/// As a machine pauses: its processors are outside, the clock is saved and put back.
fn the_paravirtual_clock_stands_still_while_the_machine_is_paused(bench: &Bench) {
    let mut guest = clock::guest(bench);
    guest.run_to_stop();
    let before = clock::look(&mut guest);
    let paused = guest.vm.save().unwrap();
    guest.clock.stop();
    std::thread::sleep(Duration::from_secs(3));
    guest.clock.go();
    guest.vm.restore(&paused).unwrap();
    // Up to its first look it may have the time stamp of before.
    clock::look(&mut guest);
    let after = clock::compare(&mut guest);
    assert!(after > before && after - before < 3 * SECOND, "{before} {after}");
}
