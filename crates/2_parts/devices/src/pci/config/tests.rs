//! Configuration spaces as a guest sees them.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::irq::{Msi, Wires};

#[derive(Default)]
struct Heard {
    levels: Mutex<Vec<bool>>,
    sent: Mutex<Vec<Msi>>,
}

impl Wires for Heard {
    fn set(&self, _: u32, level: bool) {
        self.levels.lock().unwrap().push(level);
    }
}

impl Messages for Heard {
    fn send(&self, message: Msi) {
        self.sent.lock().unwrap().push(message);
    }
}

fn make(heard: &Arc<Heard>) -> (Config, Intx, Msix) {
    let mut config = Config::new(Identity {
        vendor: 0x1af4,
        device: 0x1041,
        class: 0x02_00_00,
        revision: 1,
        subsystem: (0x1af4, 0x1100),
    })
    .bar(0, Bar::Io { size: 32 })
    .bar(
        1,
        Bar::Memory32 {
            size: 4096,
            prefetchable: false,
        },
    )
    .bar(
        4,
        Bar::Memory64 {
            size: 1 << 33,
            prefetchable: true,
        },
    )
    .bar(ROM, Bar::Rom { size: 0x10000 });
    let intx = config.intx(0, Line::new(heard.clone(), 0));
    let msix = config.msix(3, 1, 0, 0x800, heard.clone());
    (config, intx, msix)
}

fn read(config: &Config, offset: u16) -> u32 {
    let mut data = [0; 4];
    config.read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn bars_tell_their_sizes_and_open_windows_where_they_are_put() {
    let (mut config, ..) = make(&Arc::default());
    assert_eq!(read(&config, 0), 0x1041_1af4);
    for offset in [0x10, 0x14, 0x18, 0x20, 0x24, 0x30] {
        config.write(offset, &[0xff; 4]);
    }
    assert_eq!(read(&config, 0x10), 0xffff_ffe1);
    assert_eq!(read(&config, 0x14), 0xffff_f000);
    assert_eq!(read(&config, 0x18), 0);
    assert_eq!((read(&config, 0x20), read(&config, 0x24)), (0xc, 0xffff_fffe));
    assert_eq!(read(&config, 0x30), 0xffff_0001);
    config.write(0x10, &0xc001_u32.to_le_bytes());
    config.write(0x14, &0xe000_0000_u32.to_le_bytes());
    config.write(0x20, &[0; 4]);
    config.write(0x24, &6_u32.to_le_bytes());
    config.write(0x30, &0xe100_0000_u32.to_le_bytes());
    assert_eq!(config.windows().count(), 0);
    config.write(COMMAND, &[3, 0]);
    let windows: Vec<_> = config
        .windows()
        .map(|w| (w.bar, w.io, w.address, w.len))
        .collect();
    let expected = [
        (0, true, 0xc000, 32),
        (1, false, 0xe000_0000, 4096),
        (4, false, 6 << 32, 1 << 33),
    ];
    assert_eq!(windows, expected);
    config.write(0x30, &0xe100_0001_u32.to_le_bytes());
    assert_eq!(config.windows().last().unwrap().bar, ROM);
    config.reset();
    assert_eq!(config.windows().count(), 0);
    assert_eq!(read(&config, 0x24), 0);
}

#[test]
fn a_forbidden_interrupt_is_told_by_the_status_register_only() {
    let heard = Arc::new(Heard::default());
    let (mut config, intx, _) = make(&heard);
    intx.set(true);
    config.write(COMMAND, &[0, 4]);
    assert_eq!(*heard.levels.lock().unwrap(), [true, false]);
    assert_eq!(read(&config, COMMAND) >> 16 & 8, 8);
    config.write(COMMAND, &[0, 0]);
    assert_eq!(*heard.levels.lock().unwrap(), [true, false, true]);
}

#[test]
fn masked_messages_wait_and_go_when_they_are_unmasked() {
    let heard = Arc::new(Heard::default());
    let (mut config, _, msix) = make(&heard);
    let capability = config.u8(0x34);
    assert_eq!(config.u8(u16::from(capability)), 0x11);
    assert!(!msix.notify(1));
    config.write(u16::from(capability) + 2, &[0, 0x80]);
    assert_eq!(read(&config, u16::from(capability)) >> 16, 0x8002);
    msix.write(16, &0xfee0_1000_u64.to_le_bytes());
    msix.write(24, &0x41_u32.to_le_bytes());
    assert!(msix.notify(1));
    let mut pending = [0; 8];
    msix.read(0x800, &mut pending);
    assert_eq!((pending[0], heard.sent.lock().unwrap().len()), (2, 0));
    msix.write(28, &[0; 4]);
    msix.read(0x800, &mut pending);
    assert_eq!(pending[0], 0);
    config.write(u16::from(capability) + 2, &[0, 0xc0]);
    assert!(msix.notify(1));
    config.write(u16::from(capability) + 2, &[0, 0x80]);
    let message = Msi {
        address: 0xfee0_1000,
        data: 0x41,
    };
    assert_eq!(*heard.sent.lock().unwrap(), [message; 2]);
}

proptest! {
    #[test]
    fn any_writes_leave_a_space_that_can_be_saved_and_restored(
        writes in proptest::collection::vec((any::<u16>(), any::<u64>(), 1usize..5), 0..200),
        table in proptest::collection::vec((0u64..0x900, any::<u64>(), 1usize..9), 0..50),
    ) {
        let (mut config, intx, msix) = make(&Arc::default());
        for (offset, value, len) in writes {
            config.write(offset % 300, &value.to_le_bytes()[..len]);
            intx.set(value & 1 == 0);
            prop_assert!(config.windows().all(|window| window.address.checked_add(window.len).is_some()));
        }
        for (offset, value, len) in table {
            msix.write(offset, &value.to_le_bytes()[..len]);
            msix.notify(value as u16 % 5);
        }
        let (mut other, _, other_msix) = make(&Arc::default());
        other.restore(&config.save()).unwrap();
        for offset in (0..256).step_by(4) {
            prop_assert_eq!(read(&config, offset), read(&other, offset));
        }
        let (mut one, mut two) = ([0; 0x40], [0; 0x40]);
        for at in [0, 0x800] {
            msix.read(at, &mut one);
            other_msix.read(at, &mut two);
            prop_assert_eq!(one, two);
        }
        prop_assert_eq!(config.windows().collect::<Vec<_>>(), other.windows().collect::<Vec<_>>());
    }
}
