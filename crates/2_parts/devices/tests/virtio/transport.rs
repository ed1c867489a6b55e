//! Registers of the PCI transport: negotiation, interrupts, access through configuration space.

use std::sync::Arc;

use devices::pci::Function;
use devices::virtio::block::{Block, Method};
use devices::{Device, Registers};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::block::{Silent, disk_of};
use crate::driver::{Guest, INDIRECT, PACKED, Time, VERSION_1};

fn guest(time: Time) -> Guest<Block> {
    let block = Block::new(
        "vda",
        disk_of(1 << 20),
        2,
        "serial",
        Method::OneByOne,
        &time.crew(),
        Arc::new(Silent),
    );
    Guest::new(block.unwrap(), time, 64 << 20)
}

#[test]
fn features_that_were_not_offered_or_are_of_old_devices_are_not_agreed_on() {
    let guest = guest(Time::counting());
    for (low, high) in [(0, 0), (1, 1), (0, 3), (0xffff_ffff, 1)] {
        guest.set_status(0);
        guest.set_status(3);
        for (select, bits) in [(0, low), (1, high)] {
            guest.write(8, 4, select);
            guest.write(12, 4, bits);
        }
        guest.set_status(11);
        assert_eq!(guest.status(), 3, "{low:#x} {high:#x}");
        guest.set_status(15);
        assert_eq!(guest.status() & 4, 0);
    }
}

#[test]
fn a_queue_that_cannot_be_leaves_the_device_in_need_of_a_reset_until_it_is_reset() {
    let mut guest = guest(Time::counting());
    guest.negotiate(0);
    guest.queue(0, 8);
    guest.write(22, 2, 1);
    guest.write(32, 8, 0xdead_beef_0000);
    guest.write(28, 2, 1);
    guest.set_status(15);
    assert_eq!(guest.status(), 15 | 64);
    assert_eq!((guest.isr(), *guest.heard.level.lock().unwrap()), (2, false));
    let mut rings = guest.start(0, 2, 8);
    let (read, _) = guest.request(&mut rings[1], &[&[0; 16]], &[512, 1]);
    assert_eq!(read[512], 0);
}

#[test]
fn interrupts_go_by_wire_until_messages_are_switched_on() {
    let mut guest = guest(Time::counting());
    let mut rings = guest.start(PACKED, 2, 8);
    guest.request(&mut rings[0], &[&[0; 16]], &[512, 1]);
    assert!(*guest.heard.level.lock().unwrap());
    assert_eq!(guest.isr(), 1);
    assert!(!*guest.heard.level.lock().unwrap());
    guest.use_msix();
    let mut rings = guest.start(PACKED, 2, 8);
    guest.request(&mut rings[1], &[&[0; 16]], &[512, 1]);
    assert_eq!(*guest.heard.messages.lock().unwrap(), [2]);
    assert_eq!((guest.isr(), *guest.heard.level.lock().unwrap()), (0, false));
}

#[test]
fn the_whole_device_can_be_driven_through_configuration_space() {
    let guest = guest(Time::counting());
    let mut pci = guest.lock();
    let mut at = u16::from(pci.config().u8(0x34));
    while (pci.config().u8(at), pci.config().u8(at + 3)) != (9, 5) {
        at = u16::from(pci.config().u8(at + 1));
    }
    let mut access = |offset: u32, len: u32, value: Option<u32>| {
        pci.config_write(at + 8, &offset.to_le_bytes());
        pci.config_write(at + 12, &len.to_le_bytes());
        let mut data = [0; 4];
        match value {
            Some(value) => pci.config_write(at + 16, &value.to_le_bytes()),
            None => pci.config_read(at + 16, &mut data[..len as usize]),
        }
        u32::from_le_bytes(data)
    };
    assert_eq!(access(18, 2, None), 2);
    access(20, 1, Some(3));
    assert_eq!(access(20, 1, None), 3);
    access(0, 4, Some(1));
    assert_eq!(u64::from(access(4, 4, None)), (VERSION_1 | PACKED) >> 32);
    assert_eq!(access(0x2000, 4, None), (1 << 20) / 512);
    // Nowhere.
    assert_eq!(access(0x9000, 4, None), 0);
    assert_eq!(access(2, 4, None), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_accesses_are_answered_and_the_same_after_a_restore(
        writes in vec((0u64..0x5100, prop_oneof![any::<u64>(), 0u64..16], 0usize..4), 0..150),
        reads in vec((0u64..0x5100, 0usize..4), 0..100),
    ) {
        let one = guest(Time::counting());
        let two = guest(Time::counting());
        for (offset, value, len) in writes {
            one.write(offset, 1 << len, value);
            one.lock().config_write(offset as u16 % 256 & !3, &value.to_le_bytes()[..4]);
            one.time.pass();
        }
        let saved = one.save();
        two.lock().pause();
        two.lock().restore(&saved).unwrap();
        let mut again = two.lock().save().unwrap();
        prop_assert_eq!(&saved, &again);
        one.resume();
        two.resume();
        for (offset, len) in reads {
            prop_assert_eq!(one.read(offset, 1 << len), two.read(offset, 1 << len));
        }
        again = one.save();
        prop_assert_eq!(again, two.save());
    }
}

#[test]
fn a_reset_in_the_middle_forgets_everything() {
    let mut guest = guest(Time::Threads);
    for _ in 0..20 {
        let mut rings = guest.start(INDIRECT, 2, 64);
        for _ in 0..30 {
            let buffers = rings[0].place(&[&[0; 16]], &[4096, 1]);
            rings[0].add(&buffers);
        }
        guest.ring(&mut rings[0]);
        guest.set_status(0);
        assert_eq!(guest.status(), 0);
        guest.write(22, 2, 0);
        assert_eq!(guest.read(28, 2), 0);
    }
    Registers::read(&mut *guest.lock(), 0, 0, &mut []);
}
