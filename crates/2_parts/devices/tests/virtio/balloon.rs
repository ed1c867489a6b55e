//! The balloon through its queues.

use devices::Device;
use devices::virtio::balloon::Balloon;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::driver::{Buffer, Guest, PACKED, Ring, Time};

const STATS: u64 = 1 << 1;
const REPORTING: u64 = 1 << 5;
const PAGE: u64 = 4096;

fn guest(time: Time) -> Guest<Balloon> {
    Guest::new(Balloon::new("balloon", &time.crew()).unwrap(), time, 32 << 20)
}

#[test]
fn pages_that_the_guest_gives_are_taken_and_come_back_as_zeros() {
    let mut guest = guest(Time::Threads);
    let mut rings = guest.start(STATS | REPORTING, 4, 16);
    guest.lock().device_mut().set_target(4 * PAGE);
    assert_eq!((guest.config(0, 4), guest.isr() & 2), (4, 2));
    guest.memory.write(0x100_0000, &[7; 0x8000]).unwrap();
    let pages: Vec<u8> = [0x1003_u32, 0x1001, 0x1002, 0xffff_ffff, 0x1006, 0x1001]
        .iter()
        .flat_map(|page| page.to_le_bytes())
        .collect();
    guest.request(&mut rings[0], &[&pages], &[]);
    guest.set_config(4, 4, 4);
    assert_eq!(guest.lock().device().actual(), 4 * PAGE);
    let kept: Vec<u64> = (0..8)
        .filter(|page| guest.memory.read_u8(0x100_0000 + page * PAGE).unwrap() == 7)
        .collect();
    assert_eq!(kept, [0, 4, 5, 7]);
    guest.request(&mut rings[1], &[&pages], &[]);
}

#[test]
fn reported_free_pages_are_given_back_whole_ones_only() {
    for (features, queue) in [(REPORTING, 2), (REPORTING | STATS | PACKED, 3)] {
        let mut guest = guest(Time::counting());
        let mut rings = guest.start(features, queue + 1, 16);
        guest.memory.write(0x100_0000, &[7; 0x8000]).unwrap();
        let free = Buffer {
            address: 0x100_0800,
            len: 0x3000,
            writable: true,
        };
        let ring = &mut rings[usize::from(queue)];
        ring.add(&[free]).unwrap();
        guest.ring(ring);
        guest.until("the report", || ring.take());
        let kept: Vec<u64> = (0..5)
            .filter(|page| guest.memory.read_u8(0x100_0000 + page * PAGE).unwrap() == 7)
            .collect();
        assert_eq!(kept, [0, 3, 4]);
    }
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let time = Time::counting();
    let mut guest = guest(time.clone());
    let mut rings = guest.start(STATS, 3, 16);
    let stats = |free: u64| {
        let mut bytes = Vec::new();
        for (tag, value) in [(4_u16, free), (5, 1 << 25), (99, 1)] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes
    };
    let ring = &mut rings[2];
    ring.add(&ring.place(&[&stats(1000)], &[])).unwrap();
    guest.ring(ring);
    while guest.time.pass() {}
    assert!(ring.take().is_none());
    let told = guest.lock().device().stats();
    assert_eq!(
        (told.free, told.total, told.caches),
        (Some(1000), Some(1 << 25), None)
    );
    // The kept request outlives a restore.
    let saved = guest.save();
    let other = Guest::on(
        Balloon::new("balloon", &time.crew()).unwrap(),
        time,
        guest.memory.clone(),
    );
    other.lock().pause();
    other.lock().restore(&saved).unwrap();
    other.resume();
    other.lock().device().ask_stats();
    other.until("the request", || ring.take());
    ring.add(&ring.place(&[&stats(2000)], &[])).unwrap();
    other.ring(ring);
    while other.time.pass() {}
    assert_eq!(other.lock().device().stats().free, Some(2000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chains_in_any_queue_do_no_harm(
        chains in vec((0usize..4, vec((0u64..0x100_0000, 0u32..70_000, any::<bool>()), 1..5)), 0..60),
        words in vec((0u64..0x100_0000, any::<u64>()), 0..60),
    ) {
        let mut guest = guest(Time::counting());
        let mut rings: Vec<Ring> = guest.start(STATS | REPORTING | PACKED, 4, 64);
        for (at, word) in words {
            guest.memory.write_u64(at & !7 | 1 << 23, word & 0xffff_ffff).unwrap();
        }
        for (queue, chain) in chains {
            let buffers: Vec<Buffer> = chain.iter().map(|&(address, len, writable)| Buffer { address: address & !7 | 1 << 23, len, writable }).collect();
            rings[queue].add(&buffers);
            guest.ring(&mut rings[queue]);
            while guest.time.pass() {}
        }
        let saved = guest.save();
        guest.lock().restore(&saved).unwrap();
        prop_assert_eq!(saved, guest.save());
    }
}
