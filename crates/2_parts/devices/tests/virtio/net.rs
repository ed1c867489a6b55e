//! Network adapters through their queues: over sockets, and over a tap in a network namespace of the test's own.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use devices::Device;
use devices::virtio::net::{Datagrams, Net, feature};
use devices::virtio::queue::MOST_SEGMENTS;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::driver::{Buffer, EVENT_IDX, Guest, INDIRECT, PACKED, Ring, Time};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const BROADCAST: [u8; 6] = [0xff; 6];

fn net(time: &Time) -> (Net, UnixDatagram) {
    let (host, other) = UnixDatagram::pair().unwrap();
    let interface = Datagrams::interface(other).unwrap();
    let net = Net::new("eth0", MAC, Some(1500), interface, &time.crew()).unwrap();
    host.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (net, host)
}

fn guest(time: Time) -> (Guest<Net>, UnixDatagram) {
    let (net, host) = net(&time);
    (Guest::new(net, time, 64 << 20), host)
}

fn frame(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend((6..len).map(|n| n as u8));
    frame
}

/// Gives the device receive buffers of this size.
fn fill(guest: &Guest<Net>, ring: &mut Ring, count: u64, len: u32) -> Vec<Buffer> {
    let buffers: Vec<Buffer> = (0..count)
        .map(|n| Buffer {
            address: 0x200_0000 + n * 0x2000,
            len,
            writable: true,
        })
        .collect();
    for buffer in &buffers {
        ring.add(&[*buffer]).unwrap();
    }
    guest.ring(ring);
    buffers
}

/// The next packet in receive buffers that were filled in order.
fn packet(guest: &Guest<Net>, ring: &mut Ring, buffers: &[Buffer], next: &mut usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut count = 1;
    while count > 0 {
        let (_, len) = guest.until("a packet", || ring.take());
        let mut part = vec![0; len as usize];
        guest.memory.read(buffers[*next].address, &mut part).unwrap();
        *next += 1;
        if bytes.is_empty() {
            count = u16::from_le_bytes([part[10], part[11]]);
        }
        bytes.extend(part);
        count -= 1;
    }
    bytes
}

#[test]
fn packets_go_both_ways_in_their_order() {
    for features in [0, INDIRECT | EVENT_IDX, PACKED | EVENT_IDX] {
        let (mut guest, host) = guest(Time::Threads);
        let mut rings = guest.start(features | feature::MAC, 2, 64);
        let buffers = fill(&guest, &mut rings[0], 60, 2048);
        let mut next = 0;
        for n in 0..50 {
            let sent = frame(BROADCAST, 60 + n);
            guest.request(&mut rings[1], &[&[0; 12], &sent], &[]);
            let mut got = [0; 2048];
            let len = host.recv(&mut got).unwrap();
            assert_eq!(got[..len], sent);
            host.send(&sent).unwrap();
            let received = packet(&guest, &mut rings[0], &buffers, &mut next);
            assert_eq!(received[12..], sent);
            assert_eq!(received[10], 1);
        }
    }
}

#[test]
fn large_packets_are_spread_over_merged_buffers_or_wait_for_more() {
    let (mut guest, host) = guest(Time::Threads);
    let mut rings = guest.start(feature::MRG_RXBUF, 2, 64);
    let buffers = fill(&guest, &mut rings[0], 3, 512);
    let sent = frame(BROADCAST, 3000);
    host.send(&sent).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(rings[0].take().is_none());
    // The waiting packet is saved.
    let saved = guest.save();
    let (other, host) = self::net(&Time::Threads);
    let guest = Guest::on(other, Time::Threads, guest.memory.clone());
    guest.lock().pause();
    guest.lock().restore(&saved).unwrap();
    guest.resume();
    host.send(&frame(BROADCAST, 100)).unwrap();
    let more: Vec<Buffer> = (3..20)
        .map(|n| Buffer {
            address: 0x200_0000 + n * 0x2000,
            ..buffers[0]
        })
        .collect();
    for buffer in &more {
        rings[0].add(&[*buffer]).unwrap();
    }
    guest.ring(&mut rings[0]);
    let all = [buffers, more].concat();
    let mut next = 0;
    let received = packet(&guest, &mut rings[0], &all, &mut next);
    assert_eq!((&received[12..], received[10]), (&sent[..], 6));
    assert_eq!(packet(&guest, &mut rings[0], &all, &mut next).len(), 112);
}

#[test]
fn a_packet_that_no_single_buffer_holds_is_lost_without_merging() {
    let (mut guest, host) = guest(Time::Threads);
    let mut rings = guest.start(0, 2, 64);
    let buffers = fill(&guest, &mut rings[0], 3, 512);
    host.send(&frame(BROADCAST, 3000)).unwrap();
    host.send(&frame(BROADCAST, 100)).unwrap();
    let received = packet(&guest, &mut rings[0], &buffers, &mut 0);
    assert_eq!(received.len(), 112);
}

#[test]
fn the_control_queue_says_what_is_received() {
    let (mut guest, host) = guest(Time::Threads);
    guest.negotiate(feature::CTRL_VQ | feature::CTRL_RX | feature::CTRL_MAC_ADDR);
    let mut rings: Vec<Ring> = (0..3).map(|n| guest.queue(n, 64)).collect();
    guest.go();
    let buffers = fill(&guest, &mut rings[0], 40, 512);
    let mut next = 0;
    let command = |guest: &Guest<Net>, ring: &mut Ring, bytes: &[u8]| {
        guest.request(ring, &[&bytes[..2], &bytes[2..]], &[1]).0[0]
    };
    let other = [2, 0, 0, 0, 0, 9];
    let group = [1, 0, 0x5e, 0, 0, 1];
    let mut received = |guest: &Guest<Net>, ring: &mut Ring, frames: &[[u8; 6]]| {
        for (n, to) in frames.iter().enumerate() {
            host.send(&frame(*to, 60 + n)).unwrap();
        }
        host.send(&frame(BROADCAST, 200)).unwrap();
        let mut seen = Vec::new();
        loop {
            let len = packet(guest, ring, &buffers, &mut next).len() - 12;
            if len == 200 {
                return seen;
            }
            seen.push(len - 60);
        }
    };
    let all = [MAC, other, group];
    assert_eq!(received(&guest, &mut rings[0], &all), [0, 1, 2]);
    assert_eq!(command(&guest, &mut rings[2], &[0, 0, 0]), 0);
    assert_eq!(received(&guest, &mut rings[0], &all), [0]);
    assert_eq!(command(&guest, &mut rings[2], &[0, 1, 1]), 0);
    assert_eq!(received(&guest, &mut rings[0], &all), [0, 2]);
    let table = [&[1, 0][..], &1_u32.to_le_bytes(), &other, &0_u32.to_le_bytes()].concat();
    assert_eq!(command(&guest, &mut rings[2], &[0, 1, 0]), 0);
    assert_eq!(command(&guest, &mut rings[2], &table), 0);
    assert_eq!(received(&guest, &mut rings[0], &all), [0, 1]);
    let mac = [&[1, 1][..], &[2, 0, 0, 0, 0, 1]].concat();
    assert_eq!(command(&guest, &mut rings[2], &mac), 0);
    assert_eq!(received(&guest, &mut rings[0], &all), [1]);
    // Nonsense: unknown, short, more addresses than there are bytes.
    for bad in [
        &[9, 9, 0][..],
        &[1, 1, 0],
        &[1, 0, 0xff, 0xff, 0xff, 0xff, 0],
        &[4, 0, 1, 0],
    ] {
        assert_eq!(command(&guest, &mut rings[2], bad), 1);
    }
}

#[test]
fn a_link_that_goes_down_is_told_and_carries_nothing() {
    let (mut guest, host) = guest(Time::Threads);
    let mut rings = guest.start(feature::STATUS, 2, 64);
    let buffers = fill(&guest, &mut rings[0], 3, 512);
    assert_eq!(guest.config(6, 2), 1);
    let generation = guest.read(21, 1);
    guest.lock().device_mut().set_link(false);
    assert_eq!((guest.config(6, 2), guest.isr() & 2), (0, 2));
    assert_ne!(guest.read(21, 1), generation);
    host.send(&frame(BROADCAST, 100)).unwrap();
    guest.request(&mut rings[1], &[&[0; 12], &frame(BROADCAST, 60)], &[]);
    guest.lock().device_mut().set_link(true);
    let received = packet(&guest, &mut rings[0], &buffers, &mut 0);
    assert_eq!(received.len(), 112);
    host.set_nonblocking(true).unwrap();
    assert!(host.recv(&mut [0; 100]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chains_in_any_queue_do_no_harm(
        features in prop_oneof![Just(0), Just(PACKED), Just(INDIRECT)],
        chains in vec((0usize..3, vec((0u64..0x400_0000, 0u32..70_000, any::<bool>()), 1..5)), 0..60),
        frames in vec(0usize..2000, 0..20),
    ) {
        let (mut guest, host) = guest(Time::counting());
        guest.negotiate(features | feature::CTRL_VQ | feature::MRG_RXBUF);
        let mut rings: Vec<Ring> = (0..3).map(|n| guest.queue(n, 64)).collect();
        guest.go();
        host.set_nonblocking(true).unwrap();
        for len in frames {
            let _ = host.send(&vec![0xff; len]);
        }
        for (queue, chain) in chains {
            let buffers: Vec<Buffer> = chain.iter().map(|&(address, len, writable)| Buffer { address: address | 1 << 23, len, writable }).collect();
            prop_assert!(buffers.len() <= MOST_SEGMENTS);
            rings[queue].add(&buffers);
            guest.ring(&mut rings[queue]);
            while guest.time.pass() {}
            while host.recv(&mut [0; 100]).is_ok() {}
        }
        let saved = guest.save();
        guest.lock().restore(&saved).unwrap();
        prop_assert_eq!(saved, guest.save());
    }
}

mod tap {
    //! With the kernel's own stack on the other side.
    #![allow(unsafe_code, reason = "opens a tap in a network namespace of its own")]

    use std::fs::File;
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::process::Command;

    use devices::virtio::net::Tap;

    use super::*;

    /// Runs in a network namespace of its own with a tap `tap0` of so many queues, 10.9.0.1/24; skipped where the host refuses that.
    fn with_tap(queues: usize, test: impl FnOnce(Vec<OwnedFd>) + Send + 'static) {
        let thread = std::thread::spawn(move || {
            // SAFETY: concerns this thread's network only.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                eprintln!("skipped: no network namespace of our own");
                return;
            }
            let mut taps = Vec::new();
            for _ in 0..queues {
                let Ok(file) = File::options().read(true).write(true).open("/dev/net/tun") else {
                    eprintln!("skipped: no /dev/net/tun");
                    return;
                };
                // SAFETY: all zeros are a valid request.
                let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
                for (to, from) in request.ifr_name.iter_mut().zip(b"tap0") {
                    *to = *from as libc::c_char;
                }
                let multi = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
                request.ifr_ifru.ifru_flags =
                    (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | multi) as libc::c_short;
                // SAFETY: TUNSETIFF reads and writes one request.
                let done = unsafe { libc::ioctl(file.as_raw_fd(), 0x4004_54ca, &raw mut request) };
                assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
                taps.push(file.into());
            }
            for command in [
                "ip addr add 10.9.0.1/24 dev tap0",
                "ip link set tap0 up",
                "ip link set lo up",
                "ip neigh add 10.9.0.2 lladdr 52:54:00:01:02:03 dev tap0",
            ] {
                let words: Vec<_> = command.split(' ').collect();
                assert!(
                    Command::new(words[0])
                        .args(&words[1..])
                        .status()
                        .unwrap()
                        .success()
                );
            }
            test(taps);
        });
        thread.join().unwrap();
    }

    #[test]
    fn the_hosts_datagrams_come_without_checksums_where_that_is_agreed_on() {
        for (features, partial) in [(0, false), (feature::GUEST_CSUM, true)] {
            with_tap(1, move |taps| {
                let interface = Tap::interface(taps).unwrap();
                let net = Net::new("eth0", MAC, None, interface, &Time::Threads.crew()).unwrap();
                let mut guest = Guest::new(net, Time::Threads, 64 << 20);
                let mut rings = guest.start(features | feature::MRG_RXBUF, 2, 64);
                let buffers = fill(&guest, &mut rings[0], 60, 2048);
                let socket = UdpSocket::bind((Ipv4Addr::new(10, 9, 0, 1), 7)).unwrap();
                socket
                    .send_to(b"hello guest", (Ipv4Addr::new(10, 9, 0, 2), 7))
                    .unwrap();
                let mut next = 0;
                let received = loop {
                    let received = packet(&guest, &mut rings[0], &buffers, &mut next);
                    if received.ends_with(b"hello guest") {
                        break received;
                    }
                };
                assert_eq!(received[0] & 1 != 0, partial, "{:?}", &received[..12]);
                // And back, with the checksum left to the host: swap addresses and ports.
                let mut answer = received.clone();
                answer[12..24].rotate_left(6);
                answer[12 + 26..12 + 34].rotate_left(4);
                if !partial {
                    answer[..10].fill(0);
                }
                guest.request(&mut rings[1], &[&answer], &[]);
                let mut got = [0; 64];
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                assert_eq!(socket.recv(&mut got).unwrap(), 11);
            });
        }
    }

    #[test]
    fn pairs_of_queues_are_taken_into_use_by_the_control_queue() {
        with_tap(2, |taps| {
            let interface = Tap::interface(taps).unwrap();
            let net = Net::new("eth0", MAC, None, interface, &Time::Threads.crew()).unwrap();
            let mut guest = Guest::new(net, Time::Threads, 64 << 20);
            assert_ne!(guest.offered() & feature::MQ, 0);
            assert_eq!(guest.config(8, 2), 2);
            let mut rings = guest.start(feature::MQ | feature::CTRL_VQ | feature::MRG_RXBUF, 5, 64);
            let first = fill(&guest, &mut rings[0], 60, 2048);
            for buffer in &first {
                let buffer = Buffer {
                    address: buffer.address + 0x100_0000,
                    ..*buffer
                };
                rings[2].add(&[buffer]).unwrap();
            }
            guest.ring(&mut rings[2]);
            let mut command = |pairs: u8| guest.request(&mut rings[4], &[&[4, 0], &[pairs, 0]], &[1]).0[0];
            assert_eq!((command(3), command(0), command(2)), (1, 1, 0));
            let socket = UdpSocket::bind((Ipv4Addr::new(10, 9, 0, 1), 7)).unwrap();
            // A packet of the guest by the second pair teaches the tap to answer there.
            let mut port = 1000_u16;
            guest.until("a packet by the second pair", || {
                port += 1;
                let to = (Ipv4Addr::new(10, 9, 0, 2), port);
                socket.send_to(b"x", to).unwrap();
                std::thread::sleep(Duration::from_millis(1));
                while rings[0].take().is_some() {}
                rings[2].take()
            });
        });
    }
}
