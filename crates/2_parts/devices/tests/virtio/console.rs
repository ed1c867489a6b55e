//! Consoles and named ports through their queues.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use devices::Device;
use devices::virtio::console::{Console, Feed, Feeder, Setup, Stream};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::driver::{Buffer, Guest, INDIRECT, PACKED, Ring, Time};

type Output = Arc<Mutex<Vec<u8>>>;

fn feed() -> (Box<Feed>, Feeder, Output) {
    let output = Output::default();
    let sink = Arc::clone(&output);
    let (port, feeder) = Feed::new(Box::new(move |bytes| {
        let mut output = sink.lock().unwrap();
        if output.len() < 1 << 20 {
            output.extend(bytes);
        }
    }));
    (Box::new(port), feeder, output)
}

fn simple(time: &Time) -> (Console, Feeder, Output) {
    let (port, feeder, output) = feed();
    let ports = vec![Setup { name: None, port }];
    (Console::new("hvc", ports, &time.crew()).unwrap(), feeder, output)
}

/// A console and a port over a socket.
fn double(time: &Time) -> (Console, Feeder, UnixStream) {
    let (port, feeder, _) = feed();
    let (host, other) = UnixStream::pair().unwrap();
    let agent = Setup {
        name: Some("org.posada.agent".to_owned()),
        port: Box::new(Stream::new(other).unwrap()),
    };
    let ports = vec![Setup { name: None, port }, agent];
    (Console::new("hvc", ports, &time.crew()).unwrap(), feeder, host)
}

const MULTIPORT: u64 = 2;

#[test]
fn a_console_writes_and_reads_and_tells_its_size() {
    for time in [Time::counting(), Time::Threads] {
        let (console, feeder, output) = simple(&time);
        let mut guest = Guest::new(console, time.clone(), 16 << 20);
        assert_eq!(guest.offered() & MULTIPORT, 0);
        let mut rings = guest.start(1, 2, 16);
        guest.request(&mut rings[1], &[b"hello ", b"world\n"], &[]);
        assert_eq!(*output.lock().unwrap(), b"hello world\n");
        assert_eq!(feeder.feed(b"root\n"), 5);
        let buffers = rings[0].place(&[], &[64]);
        rings[0].add(&buffers).unwrap();
        guest.ring(&mut rings[0]);
        let (_, len) = guest.until("input", || rings[0].take());
        assert_eq!(rings[0].contents(&buffers)[..len as usize], *b"root\n");
        assert_eq!((guest.config(0, 2), guest.config(2, 2)), (80, 24));
        guest.isr();
        guest.lock().device_mut().set_size(132, 43);
        assert_eq!(
            (guest.config(0, 2), guest.config(2, 2), guest.isr() & 2),
            (132, 43, 2)
        );
        assert!(feeder.feed(&vec![0; 1 << 20]) <= 1 << 16);
    }
}

#[test]
fn input_that_waits_is_saved() {
    let time = Time::counting();
    let (console, feeder, _) = simple(&time);
    let mut guest = Guest::new(console, time.clone(), 16 << 20);
    let mut rings = guest.start(PACKED, 2, 16);
    feeder.feed(b"typed before");
    let saved = guest.save();
    let (console, ..) = simple(&time);
    let other = Guest::on(console, time.clone(), guest.memory.clone());
    other.lock().pause();
    other.lock().restore(&saved).unwrap();
    other.resume();
    let buffers = rings[0].place(&[], &[64]);
    rings[0].add(&buffers).unwrap();
    other.ring(&mut rings[0]);
    let (_, len) = other.until("input", || rings[0].take());
    assert_eq!(rings[0].contents(&buffers)[..len as usize], *b"typed before");
}

/// The next message on the control queue.
fn told(guest: &Guest<Console>, ring: &mut Ring) -> (u32, u16, u16, Vec<u8>) {
    let (bytes, len) = guest.request(ring, &[], &[64]);
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (
        u32::from(word(0)),
        word(4),
        word(6),
        bytes[8..len as usize].to_vec(),
    )
}

fn say(guest: &Guest<Console>, ring: &mut Ring, port: u32, event: u16, value: u16) {
    let bytes = [
        &port.to_le_bytes()[..],
        &event.to_le_bytes(),
        &value.to_le_bytes(),
    ]
    .concat();
    guest.request(ring, &[&bytes], &[]);
}

#[test]
fn named_ports_are_announced_opened_and_closed() {
    let time = Time::Threads;
    let (console, _, mut host) = double(&time);
    let mut guest = Guest::new(console, time, 64 << 20);
    let mut rings = guest.start(MULTIPORT | INDIRECT, 6, 16);
    say(&guest, &mut rings[3], 0, 0, 1);
    assert_eq!(told(&guest, &mut rings[2]), (0, 1, 1, vec![]));
    assert_eq!(told(&guest, &mut rings[2]), (1, 1, 1, vec![]));
    say(&guest, &mut rings[3], 0, 3, 1);
    assert_eq!(told(&guest, &mut rings[2]), (0, 4, 1, vec![]));
    assert_eq!(told(&guest, &mut rings[2]), (0, 5, 0, vec![80, 0, 24, 0]));
    assert_eq!(told(&guest, &mut rings[2]), (0, 6, 1, vec![]));
    say(&guest, &mut rings[3], 1, 3, 1);
    assert_eq!(
        told(&guest, &mut rings[2]),
        (1, 7, 1, b"org.posada.agent".to_vec())
    );
    assert_eq!(told(&guest, &mut rings[2]), (1, 6, 1, vec![]));
    // Nothing comes before the guest has opened the port.
    host.write_all(b"to the guest").unwrap();
    let buffers = rings[4].place(&[], &[64]);
    rings[4].add(&buffers).unwrap();
    guest.ring(&mut rings[4]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(rings[4].take().is_none());
    say(&guest, &mut rings[3], 1, 6, 1);
    let (_, len) = guest.until("input", || rings[4].take());
    assert_eq!(rings[4].contents(&buffers)[..len as usize], *b"to the guest");
    // A host that does not read holds the guest up, and loses nothing.
    let data: Vec<u8> = (0..2_000_000_u32).map(|n| (n >> 4) as u8).collect();
    let buffers = rings[5].place(&[&data[..1_000_000], &data[1_000_000..]], &[]);
    rings[5].add(&buffers).unwrap();
    guest.ring(&mut rings[5]);
    guest.lock().pause();
    guest.resume();
    let mut got = vec![0; data.len()];
    host.read_exact(&mut got).unwrap();
    assert!(got == data);
    guest.until("output", || rings[5].take());
    // The host goes.
    drop(host);
    let buffers = rings[4].place(&[], &[64]);
    rings[4].add(&buffers).unwrap();
    guest.ring(&mut rings[4]);
    assert_eq!(told(&guest, &mut rings[2]), (1, 6, 0, vec![]));
    guest.request(&mut rings[5], &[b"nobody hears"], &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chains_in_any_queue_do_no_harm(
        features in prop_oneof![Just(MULTIPORT), Just(PACKED | MULTIPORT), Just(0)],
        chains in vec((0u16..6, vec((0u64..0x100_0000, 0u32..70_000, any::<bool>()), 1..5)), 0..60),
        words in vec((0u64..0x100_0000, 0u64..1 << 36), 0..60),
    ) {
        let time = Time::counting();
        let (console, feeder, _host) = double(&time);
        let mut guest = Guest::new(console, time, 32 << 20);
        guest.negotiate(features);
        let queues = if features & MULTIPORT == 0 { 2 } else { 6 };
        let mut rings: Vec<Ring> = (0..queues).map(|n| guest.queue(n, 64)).collect();
        guest.go();
        for (at, word) in words {
            // Where the buffers lie: messages of any kind.
            guest.memory.write_u64(at & !7 | 1 << 23, word).unwrap();
        }
        for (queue, chain) in chains {
            let buffers: Vec<Buffer> = chain.iter().map(|&(address, len, writable)| Buffer { address: address & !7 | 1 << 23, len, writable }).collect();
            let ring = &mut rings[usize::from(queue % queues)];
            ring.add(&buffers);
            feeder.feed(b"x");
            guest.ring(ring);
            while guest.time.pass() {}
        }
        let saved = guest.save();
        guest.lock().restore(&saved).unwrap();
        prop_assert_eq!(saved, guest.save());
    }
}
