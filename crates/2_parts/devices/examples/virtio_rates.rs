//! Measures virtio devices through their queues, without a processor: `cargo run --release --example virtio_rates`.
//!
//! Each figure stands twice: by the clock, and by the worker's own time on a processor, which a busy host does not change.
#![allow(clippy::unwrap_used, reason = "a measurement ends where its ground fails")]
#![allow(unsafe_code, reason = "opens a tap in a network namespace of its own")]

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devices::virtio::block::{Block, Method};
use devices::virtio::net::{Net, Tap, feature};
use devices::virtio::{Trouble, Troubles, VirtioDevice};

#[path = "../tests/virtio/driver.rs"]
mod driver;

use driver::{Buffer, EVENT_IDX, Guest, INDIRECT, PACKED, Ring, Time};

struct Silent;

impl Troubles for Silent {
    fn tell(&self, trouble: Trouble) {
        eprintln!("{trouble:?}");
    }
}

const LENGTH: Duration = Duration::from_secs(2);
const DISK: u64 = 256 << 20;

/// Requests per second, by the clock and by the worker's time.
#[derive(Clone, Copy)]
struct Rate(f64, f64);

impl Rate {
    fn times(self, each: f64) -> Rate {
        Rate(self.0 * each, self.1 * each)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.0 < 1000.0 { 2 } else { 0 };
        write!(f, "{:.digits$} ({:.digits$})", self.0, self.1)
    }
}

/// Seconds that this process's threads of a name have run.
fn worked(name: &str) -> f64 {
    let mut nanos = 0.0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            let stat = read("schedstat");
            nanos += stat.split(' ').next().unwrap().parse::<f64>().unwrap_or(0.0);
        }
    }
    nanos / 1e9
}

/// Keeps a ring full of requests for a while.
fn rate<D: VirtioDevice + 'static>(
    guest: &Guest<D>,
    worker: &str,
    ring: &mut Ring,
    depth: usize,
    mut next: impl FnMut(usize) -> Vec<Buffer>,
) -> Rate {
    let (began, before_it) = (Instant::now(), worked(worker));
    let (mut count, mut under_way, mut n) = (0_u64, 0, 0);
    while began.elapsed() < LENGTH {
        while under_way < depth {
            ring.add(&next(n)).unwrap();
            n += 1;
            under_way += 1;
        }
        guest.ring(ring);
        let before = under_way;
        while ring.take().is_some() {
            under_way -= 1;
            count += 1;
        }
        if under_way == before {
            std::thread::yield_now();
        }
    }
    let count = count as f64;
    Rate(
        count / began.elapsed().as_secs_f64(),
        count / (worked(worker) - before_it),
    )
}

fn disks() {
    for (name, method) in [("preadv2", Method::OneByOne), ("ring", Method::Ring)] {
        for (kind, features) in [
            ("split", INDIRECT | EVENT_IDX),
            ("packed", INDIRECT | EVENT_IDX | PACKED),
        ] {
            let file = tempfile::tempfile().unwrap();
            let image = disk::Raw::create(file, DISK).unwrap();
            for at in (0..DISK).step_by(1 << 20) {
                disk::Image::write_at(&image, &[7; 1 << 20], at).unwrap();
            }
            let crew = Time::Threads.crew();
            let block = Block::new("vda", Arc::new(image), 1, "", method, &crew, Arc::new(Silent)).unwrap();
            let mut guest = Guest::new(block, Time::Threads, 128 << 20);
            let mut rings = guest.start(features | 1 << 9, 1, 128);
            let ring = &mut rings[0];
            let request = |guest: &Guest<Block>, slot: usize, sector: u64, kind: u32, len: u32| {
                let head = (8 << 20) + slot as u64 * 64;
                guest.memory.write_u32(head, kind).unwrap();
                guest.memory.write_u64(head + 8, sector).unwrap();
                let data = (16 << 20) + slot as u64 * (1 << 20);
                let mut buffers = vec![buffer(head, 16, false)];
                let piece = len.min(64 << 10);
                buffers
                    .extend((0..len / piece).map(|n| buffer(data + u64::from(n * piece), piece, kind == 0)));
                buffers.push(buffer(head + 32, 1, true));
                buffers
            };
            let mut seed = 1_u64;
            let mut random = move || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 33
            };
            for (what, op) in [("read", 0), ("write", 1)] {
                let large = rate(&guest, "vda.0", ring, 16, |n| {
                    request(&guest, n % 16, (n as u64 % 256) << 11, op, 1 << 20)
                });
                while !ring.is_empty() {
                    ring.take();
                }
                let small = rate(&guest, "vda.0", ring, 64, |n| {
                    request(&guest, n % 64, random() % (DISK >> 12) << 3, op, 4096)
                });
                while !ring.is_empty() {
                    ring.take();
                }
                println!(
                    "disk {name:8} {kind:6} {what:5}: {} GB/s in 1 MiB requests, {small} requests/s of 4 KiB",
                    large.times(f64::from(1 << 20) / 1e9)
                );
            }
        }
    }
}

fn buffer(address: u64, len: u32, writable: bool) -> Buffer {
    Buffer {
        address,
        len,
        writable,
    }
}

fn run(command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    assert!(
        Command::new(words[0])
            .args(&words[1..])
            .status()
            .unwrap()
            .success()
    );
}

/// A tap `tap0` in a network namespace of this thread.
fn tap(mtu: u32) -> OwnedFd {
    // SAFETY: concerns this thread's network only.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    // SAFETY: all zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"tap0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one request.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), 0x4004_54ca, &raw mut request) };
    assert_eq!(made, 0);
    run("ip addr add 10.9.0.1/24 dev tap0");
    run(&format!("ip link set tap0 mtu {mtu} up"));
    run("ip neigh add 10.9.0.2 lladdr 52:54:00:01:02:03 dev tap0");
    file.into()
}

fn network(frame: u32) {
    let interface = Tap::interface(vec![tap(frame)]).unwrap();
    let crew = Time::Threads.crew();
    let net = Net::new("eth0", [0x52, 0x54, 0, 1, 2, 3], None, interface, &crew).unwrap();
    let mut guest = Guest::new(net, Time::Threads, 128 << 20);
    let wanted = INDIRECT | EVENT_IDX | feature::MRG_RXBUF | feature::GUEST_CSUM | feature::CSUM;
    let mut rings = guest.start(wanted, 2, 256);
    // To the host: broadcasts of an unknown protocol, which it drops.
    guest.memory.write(16 << 20, &[0; 12]).unwrap();
    guest.memory.write((16 << 20) + 12, &[0xff; 12]).unwrap();
    let out = rate(&guest, "eth0.0", &mut rings[1], 128, |_| {
        vec![buffer(16 << 20, 12, false), buffer((16 << 20) + 12, frame, false)]
    });
    // From the host: datagrams.
    let over = Arc::new(AtomicBool::new(false));
    let socket = UdpSocket::bind("10.9.0.1:7").unwrap();
    let sender = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let data = vec![1; frame as usize - 28];
            while !over.load(Ordering::Relaxed) {
                let _ = socket.send_to(&data, "10.9.0.2:7");
            }
        }
    });
    let page = |n: usize| vec![buffer((16 << 20) + (n as u64 % 256) * 4096, 4096, true)];
    let chains = rate(&guest, "eth0.0", &mut rings[0], 255, page);
    over.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    let per_packet = f64::from((frame + 26).div_ceil(4096));
    let gigabits = f64::from(frame) * 8.0 / 1e9;
    println!(
        "net frames of {frame:5}: to the host {} Gbit/s, from the host {} Gbit/s",
        out.times(gigabits),
        chains.times(gigabits / per_packet)
    );
}

fn main() {
    disks();
    for frame in [1500, 9000, 65_000] {
        std::thread::spawn(move || network(frame)).join().unwrap();
    }
}
