//! Sockets between guest and host through their queues.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use devices::Device;
use devices::virtio::vsock::{Vsock, VsockHost};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::driver::{Buffer, Guest, INDIRECT, PACKED, Ring, Time};

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RST: u16 = 3;
const SHUTDOWN: u16 = 4;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;
const CID: u64 = 7;

/// Accepts on port 22 only.
#[derive(Default)]
struct Host(Mutex<Vec<UnixStream>>);

impl VsockHost for Host {
    fn accept(&self, port: u32, _: u32) -> Option<UnixStream> {
        let (ours, theirs) = UnixStream::pair().ok()?;
        if port != 22 {
            return None;
        }
        self.0.lock().unwrap().push(theirs);
        Some(ours)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Packet {
    ports: (u32, u32),
    op: u16,
    flags: u32,
    buffer: u32,
    forwarded: u32,
    data: Vec<u8>,
}

fn packet(ports: (u32, u32), op: u16, data: &[u8]) -> Packet {
    Packet {
        ports,
        op,
        flags: 0,
        buffer: 8192,
        forwarded: 0,
        data: data.to_vec(),
    }
}

fn header(packet: &Packet) -> Vec<u8> {
    let mut bytes = [CID.to_le_bytes(), 2_u64.to_le_bytes()].concat();
    for word in [
        packet.ports.0,
        packet.ports.1,
        packet.data.len() as u32,
        1 | u32::from(packet.op) << 16,
        packet.flags,
        packet.buffer,
        packet.forwarded,
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

struct Wire {
    guest: Guest<Vsock>,
    rings: Vec<Ring>,
    host: Arc<Host>,
}

impl Wire {
    fn new(time: Time, features: u64) -> Self {
        let host = Arc::new(Host::default());
        let device = Vsock::new("vsock", CID as u32, host.clone(), &time.crew()).unwrap();
        let mut guest = Guest::new(device, time, 64 << 20);
        let rings = guest.start(features, 3, 32);
        Wire { guest, rings, host }
    }

    fn say(&mut self, packet: &Packet) {
        self.guest
            .request(&mut self.rings[1], &[&header(packet), &packet.data], &[]);
    }

    fn hear(&mut self) -> Packet {
        let (bytes, len) = self.guest.request(&mut self.rings[0], &[], &[44, 4000]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        assert_eq!((word(0), word(8), word(28) & 0xffff), (2, CID as u32, 1));
        assert_eq!(word(24) + 44, len);
        Packet {
            ports: (word(20), word(16)),
            op: (word(28) >> 16) as u16,
            flags: word(32),
            buffer: word(36),
            forwarded: word(40),
            data: bytes[44..len as usize].to_vec(),
        }
    }

    fn op(&mut self) -> (u16, Vec<u8>) {
        let packet = self.hear();
        (packet.op, packet.data)
    }
}

#[test]
fn a_guest_connects_to_the_host_talks_and_leaves() {
    for features in [0, PACKED | INDIRECT] {
        let mut wire = Wire::new(Time::Threads, features);
        assert_eq!(wire.guest.config(0, 8), CID);
        let ports = (1000, 22);
        wire.say(&packet(ports, REQUEST, &[]));
        let answer = wire.hear();
        assert_eq!((answer.ports, answer.op), (ports, RESPONSE));
        assert!(answer.buffer > 4096);
        let mut stream = wire.host.0.lock().unwrap().pop().unwrap();
        wire.say(&packet(ports, RW, b"hello host"));
        let mut got = [0; 10];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, *b"hello host");
        stream.write_all(b"hello guest").unwrap();
        assert_eq!(wire.op(), (RW, b"hello guest".to_vec()));
        let mut end = packet(ports, SHUTDOWN, &[]);
        end.flags = 3;
        wire.say(&end);
        assert_eq!(wire.op(), (RST, vec![]));
        assert_eq!(stream.read(&mut got).unwrap(), 0);
        // Another port refuses; what is not connected is reset.
        wire.say(&packet((1000, 23), REQUEST, &[]));
        assert_eq!(wire.op(), (RST, vec![]));
        wire.say(&packet(ports, RW, b"who?"));
        assert_eq!(wire.op(), (RST, vec![]));
    }
}

#[test]
fn the_host_connects_to_the_guest_and_half_closes() {
    let mut wire = Wire::new(Time::Threads, 0);
    let connector = wire.guest.lock().device().connector();
    let mut stream = connector.connect(4000).unwrap();
    stream.write_all(b"early").unwrap();
    let request = wire.hear();
    assert_eq!((request.ports.0, request.op), (4000, REQUEST));
    wire.say(&packet(request.ports, RESPONSE, &[]));
    assert_eq!(wire.op(), (RW, b"early".to_vec()));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let end = wire.hear();
    assert_eq!((end.op, end.flags), (SHUTDOWN, 2));
    wire.say(&packet(request.ports, RW, b"late"));
    let mut got = [0; 4];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, *b"late");
    // A refusal ends the stream; so does a host that goes away.
    let mut refused = connector.connect(4001).unwrap();
    let request = wire.hear();
    wire.say(&packet(request.ports, RST, &[]));
    assert_eq!(refused.read(&mut got).unwrap(), 0);
    let going = connector.connect(4002).unwrap();
    let request = wire.hear();
    wire.say(&packet(request.ports, RESPONSE, &[]));
    drop(going);
    let end = wire.hear();
    assert_eq!((end.op, end.flags), (SHUTDOWN, 3));
    wire.guest.set_status(0);
    assert!(connector.connect(1).is_err());
}

#[test]
fn neither_side_sends_more_than_the_other_has_room_for() {
    let mut wire = Wire::new(Time::Threads, 0);
    let ports = (1000, 22);
    wire.say(&packet(ports, REQUEST, &[]));
    let room = wire.hear().buffer as usize;
    let mut stream = wire.host.0.lock().unwrap().pop().unwrap();
    // To the guest: 8192 bytes, then a question, then more.
    let sent: Vec<u8> = (0..20_000_u32).map(|n| (n >> 5) as u8).collect();
    stream.write_all(&sent).unwrap();
    let mut got = Vec::new();
    loop {
        let (op, data) = wire.op();
        got.extend(data);
        if op == CREDIT_REQUEST {
            assert_eq!(got.len() % 8192, 0);
            let mut update = packet(ports, CREDIT_UPDATE, &[]);
            update.forwarded = got.len() as u32;
            wire.say(&update);
        }
        if got.len() == sent.len() {
            break;
        }
    }
    assert!(got == sent);
    // To the host, which does not read: everything that there is room for is taken, and told when it is read.
    let mut told = 0;
    let mut given = 0_usize;
    let chunk = vec![1; 32 << 10];
    let mut update = packet(ports, RW, &chunk);
    update.forwarded = got.len() as u32;
    while given - told + chunk.len() <= room {
        wire.say(&update);
        given += chunk.len();
        if given - told + chunk.len() > room {
            let mut ask = packet(ports, CREDIT_REQUEST, &[]);
            ask.forwarded = got.len() as u32;
            wire.say(&ask);
            let answer = loop {
                let answer = wire.hear();
                if answer.op == CREDIT_UPDATE {
                    break answer;
                }
            };
            if told == answer.forwarded as usize {
                break;
            }
            told = answer.forwarded as usize;
        }
    }
    let mut all = vec![0; given];
    stream.read_exact(&mut all).unwrap();
    let mut ask = packet(ports, CREDIT_REQUEST, &[]);
    ask.forwarded = got.len() as u32;
    loop {
        wire.say(&ask);
        if wire.hear().forwarded as usize == given {
            break;
        }
    }
    // Too much breaks the connection.
    let mut reset = false;
    for _ in 0..60 {
        wire.say(&update);
    }
    for _ in 0..50 {
        reset |= wire.hear().op == RST;
        if reset {
            break;
        }
    }
    assert!(reset);
}

#[test]
fn a_restored_guest_is_told_that_its_connections_are_gone_if_it_had_any() {
    for connected in [false, true] {
        let time = Time::counting();
        let mut wire = Wire::new(time.clone(), 0);
        if connected {
            wire.say(&packet((1000, 22), REQUEST, &[]));
            assert_eq!(wire.op(), (RESPONSE, vec![]));
        }
        let buffers = wire.rings[2].place(&[], &[4]);
        wire.rings[2].add(&buffers).unwrap();
        let saved = wire.guest.save();
        let device = Vsock::new("vsock", CID as u32, wire.host.clone(), &time.crew()).unwrap();
        let other = Guest::on(device, time, wire.guest.memory.clone());
        other.lock().pause();
        other.lock().restore(&saved).unwrap();
        other.resume();
        while other.time.pass() {}
        assert_eq!(wire.rings[2].take().is_some(), connected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_packets_and_chains_do_no_harm(
        features in prop_oneof![Just(0), Just(PACKED)],
        packets in vec((0u32..4, 20u32..24, 0u16..9, 0u32..5, any::<u32>(), 0usize..6000), 0..60),
        chains in vec((0usize..3, vec((0u64..0x100_0000, 0u32..70_000, any::<bool>()), 1..5)), 0..30),
    ) {
        let mut wire = Wire::new(Time::counting(), features);
        let Wire { guest, rings, .. } = &mut wire;
        for (n, chain) in chains {
            let buffers: Vec<Buffer> = chain.iter().map(|&(address, len, writable)| Buffer { address: address | 1 << 24, len, writable }).collect();
            rings[n].add(&buffers);
            guest.ring(&mut rings[n]);
            while guest.time.pass() {}
        }
        while rings[1].take().is_some() {}
        for (from, to, op, flags, buffer, len) in packets {
            let mut packet = packet((from, to), op, &vec![9; len]);
            (packet.flags, packet.buffer) = (flags, buffer);
            let buffers = rings[1].place(&[&header(&packet), &packet.data], &[]);
            rings[1].add(&buffers);
            guest.ring(&mut rings[1]);
            while guest.time.pass() {}
            while rings[1].take().is_some() {}
        }
        guest.save();
        guest.resume();
    }
}
