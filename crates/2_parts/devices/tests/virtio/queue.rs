//! Rings alone: what the driver puts in comes out, in any order of completion, and no ring of a hostile driver does harm.

use devices::virtio::queue::{Broken, Chain, Layout, MOST_SEGMENTS, Options, Queue};
use guestmem::Memory;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::driver::{Buffer, EVENT_IDX, Guest, INDIRECT, PACKED, Ring, Time};

/// A device without any work, to set up rings.
struct Nothing;

impl devices::virtio::VirtioDevice for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }
    fn id(&self) -> u16 {
        63
    }
    fn class(&self) -> u32 {
        0xff_0000
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![64]
    }
    fn read_config(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn activate(&mut self, _: devices::virtio::Activation) {}
    fn notify(&mut self, _: u16) {}
    fn pause(&mut self) {}
    fn resume(&mut self) {}
    fn deactivate(&mut self) {}
    fn save(&self) -> fault::Result<devices::Saved> {
        devices::Saved::new(1, &())
    }
    fn restore(&mut self, _: &devices::Saved) -> fault::Result<()> {
        Ok(())
    }
}

fn options(features: u64) -> Options {
    Options {
        packed: features & PACKED != 0,
        event_idx: features & EVENT_IDX != 0,
        indirect: features & INDIRECT != 0,
    }
}

fn pair(features: u64, size: u16) -> (Ring, Queue, Memory) {
    let mut guest = Guest::new(Nothing, Time::counting(), 32 << 20);
    guest.negotiate(features);
    let ring = guest.queue(0, size);
    let queue = Queue::new(&guest.memory, &ring.layout, options(features)).unwrap();
    (ring, queue, guest.memory.clone())
}

fn any_features() -> impl Strategy<Value = u64> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(packed, event, indirect)| {
        u64::from(packed) * PACKED | u64::from(event) * EVENT_IDX | u64::from(indirect) * INDIRECT
    })
}

#[derive(Clone, Debug)]
enum Act {
    Add(Vec<(u32, bool)>),
    Pop,
    Push(usize),
    Take,
    Save,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => vec((1u32..5000, any::<bool>()), 1..5).prop_map(|mut list| {
            list.sort_by_key(|(_, writable)| *writable);
            Act::Add(list)
        }),
        3 => Just(Act::Pop),
        3 => any::<usize>().prop_map(Act::Push),
        3 => Just(Act::Take),
        1 => Just(Act::Save),
    ];
    vec(act, 0..400)
}

proptest! {
    #[test]
    fn requests_come_out_as_they_were_put_in_and_return_in_any_order(
        features in any_features(),
        size in prop_oneof![Just(4u16), Just(8), Just(16)],
        acts in acts(),
    ) {
        let (mut ring, mut queue, memory) = pair(features, size);
        let mut waiting = std::collections::VecDeque::new();
        let mut under_way: Vec<(Chain, u16)> = Vec::new();
        let mut used = std::collections::VecDeque::new();
        let mut written = 0;
        for act in acts {
            match act {
                Act::Add(list) => {
                    let buffers: Vec<Buffer> = list
                        .iter()
                        .enumerate()
                        .map(|(n, &(len, writable))| Buffer { address: 0x10_0000 + 0x2000 * n as u64, len, writable })
                        .collect();
                    if let Some(id) = ring.add(&buffers) {
                        waiting.push_back((id, buffers));
                    }
                }
                Act::Pop => {
                    let mut chain = Chain::default();
                    let popped = queue.pop(&mut chain).unwrap();
                    prop_assert_eq!(popped, !waiting.is_empty());
                    if let Some((id, buffers)) = waiting.pop_front() {
                        let expected = |writable| buffers.iter().filter(|b| b.writable == writable).map(|b| (b.address, b.len)).collect::<Vec<_>>();
                        let found = |list: &[devices::virtio::queue::Segment]| list.iter().map(|s| (s.offset, s.len)).collect::<Vec<_>>();
                        prop_assert_eq!(found(chain.readable()), expected(false));
                        prop_assert_eq!(found(chain.writable()), expected(true));
                        under_way.push((chain, id));
                    }
                }
                Act::Push(which) => {
                    if !under_way.is_empty() {
                        let (chain, id) = under_way.remove(which % under_way.len());
                        written += 1;
                        queue.push(chain.token(), written);
                        used.push_back((id, written));
                    }
                }
                Act::Take => prop_assert_eq!(ring.take(), used.pop_front()),
                Act::Save => {
                    queue = Queue::at(&memory, &ring.layout, options(features), queue.position()).unwrap();
                    prop_assert!(under_way.iter().all(|(chain, _)| queue.knows(chain)));
                }
            }
        }
    }

    /// A device that listens before it sleeps and a driver that rings when it is asked to never miss each other; the same with interrupts.
    #[test]
    fn nobody_sleeps_while_there_is_work(
        features in any_features(),
        acts in vec((1usize..6, any::<bool>()), 0..200),
    ) {
        let (mut ring, mut queue, _) = pair(features, 8);
        let mut chain = Chain::default();
        let buffer = [Buffer { address: 0x10_0000, len: 16, writable: true }];
        prop_assert!(!queue.listen());
        ring.want_interrupts(true);
        for (count, asleep) in acts {
            let mut added = 0;
            let mut rung = false;
            for _ in 0..count {
                added += usize::from(ring.add(&buffer).is_some());
                if asleep {
                    rung |= ring.wants_notification();
                }
            }
            prop_assert!(!asleep || rung || added == 0, "the device sleeps and was not rung for");
            ring.wants_notification();
            let mut interrupted = false;
            let mut done = 0;
            loop {
                queue.quiet();
                while queue.pop(&mut chain).unwrap() {
                    queue.push(chain.token(), 1);
                    interrupted |= queue.wants_interrupt();
                    done += 1;
                }
                if !queue.listen() {
                    break;
                }
            }
            prop_assert_eq!(done, added);
            prop_assert!(interrupted || done == 0, "the driver sleeps and was not interrupted");
            ring.want_interrupts(false);
            while ring.take().is_some() {}
            ring.want_interrupts(true);
        }
    }

    #[test]
    fn any_bytes_in_the_rings_are_taken_or_refused_in_bounded_work(
        features in any_features(),
        size in 1u16..64,
        noise in vec((0u64..0x1000, any::<u64>(), prop_oneof![Just(0u64), Just(1), any::<u64>()]), 0..100),
        alike in any::<bool>(),
    ) {
        let memory = Memory::new(1 << 20).unwrap();
        let layout = Layout { size, descriptors: 0, driver: 0x800, device: 0xc00 };
        let Ok(mut queue) = Queue::new(&memory, &layout, options(features)) else {
            prop_assert!(!size.is_power_of_two());
            return Ok(());
        };
        for (at, value, kind) in noise {
            // Half of the runs: descriptors that lie in memory.
            let value = if alike && at % 16 < 12 { value & 0xfff } else { value };
            let _ = memory.write_u64(at & !7, value & kind.wrapping_sub(1) | kind);
            let mut chain = Chain::default();
            for _ in 0..4 {
                match queue.pop(&mut chain) {
                    Ok(true) => {
                        prop_assert!(chain.readable().len() + chain.writable().len() <= MOST_SEGMENTS);
                        queue.push(chain.token(), 7);
                        queue.wants_interrupt();
                    }
                    Ok(false) => {
                        queue.listen();
                    }
                    Err(_) => {
                        prop_assert!(queue.pop(&mut chain).is_err());
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[test]
fn chains_in_circles_and_beyond_memory_break_the_queue() {
    let memory = Memory::new(1 << 20).unwrap();
    let layout = Layout {
        size: 4,
        descriptors: 0,
        driver: 0x800,
        device: 0xc00,
    };
    let broken = |address: u64, len: u32, flags: u16, next: u16, head: u16, count: u16| {
        memory.write_u64(0, address).unwrap();
        memory.write_u32(8, len).unwrap();
        memory.write_u16(12, flags).unwrap();
        memory.write_u16(14, next).unwrap();
        memory.write_u16(0x802, count).unwrap();
        memory.write_u16(0x804, head).unwrap();
        let options = options(INDIRECT);
        let mut queue = Queue::new(&memory, &layout, options).unwrap();
        queue.pop(&mut Chain::default())
    };
    assert_eq!(broken(0x1000, 4, 0, 0, 0, 1), Ok(true));
    assert_eq!(broken(0x1000, 4, 1, 0, 0, 1), Err(Broken::TooLong));
    assert_eq!(broken(0x1000, 4, 1, 9, 0, 1), Err(Broken::Descriptor));
    assert_eq!(broken(0x1000, 4, 0, 0, 9, 1), Err(Broken::Descriptor));
    assert_eq!(broken(0xf_ffff, 4, 0, 0, 0, 1), Err(Broken::Address));
    assert_eq!(broken(u64::MAX, u32::MAX, 0, 0, 0, 1), Err(Broken::Address));
    assert_eq!(broken(0x1000, 17, 4, 0, 0, 1), Err(Broken::Indirect));
    assert_eq!(broken(0x1000, 16, 5, 0, 0, 1), Err(Broken::Indirect));
    assert_eq!(broken(0x1000, 4, 0, 0, 0, 5), Err(Broken::Index));
    // A table that names itself as a table.
    memory.write_u64(0x2000, 0x2000).unwrap();
    memory.write_u32(0x2008, 16).unwrap();
    memory.write_u16(0x200c, 4).unwrap();
    assert_eq!(broken(0x2000, 16, 4, 0, 0, 1), Err(Broken::Indirect));
}

#[test]
fn rings_outside_of_memory_or_awry_are_refused() {
    let memory = Memory::new(1 << 20).unwrap();
    let good = Layout {
        size: 8,
        descriptors: 0x1000,
        driver: 0x2000,
        device: 0x3000,
    };
    for packed in [false, true] {
        let options = Options {
            packed,
            ..Options::default()
        };
        let make = |layout: Layout| Queue::new(&memory, &layout, options).map(drop);
        assert_eq!(make(good), Ok(()));
        for bad in [
            Layout { size: 0, ..good },
            Layout { size: 0x8000, ..good },
            Layout {
                descriptors: 0x1008,
                ..good
            },
            Layout {
                descriptors: 0xf_fff0,
                ..good
            },
            Layout {
                driver: 0x2001,
                ..good
            },
            Layout {
                device: 0x3002,
                ..good
            },
            Layout {
                device: u64::MAX - 3,
                ..good
            },
        ] {
            assert_eq!(make(bad), Err(Broken::Layout), "{bad:?}");
        }
    }
}
