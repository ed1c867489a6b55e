//! Disks through their queues.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use devices::Device;
use devices::virtio::block::{Block, Method};
use devices::virtio::{Trouble, Troubles};
use disk::Image;

use crate::driver::{EVENT_IDX, Guest, INDIRECT, PACKED, Ring, Time};

pub struct Silent;

impl Troubles for Silent {
    fn tell(&self, _: Trouble) {}
}

#[derive(Default)]
struct Told(Mutex<Vec<Trouble>>);

impl Troubles for Told {
    fn tell(&self, trouble: Trouble) {
        self.0.lock().unwrap().push(trouble);
    }
}

pub fn disk_of(size: u64) -> Arc<dyn Image> {
    Arc::new(disk::Raw::create(tempfile::tempfile().unwrap(), size).unwrap())
}

/// A disk in memory that can be full, counts flushes, and is no plain file.
struct Ram {
    bytes: Mutex<Vec<u8>>,
    full: AtomicBool,
    read_only: bool,
    flushes: AtomicUsize,
    discarded: Mutex<Vec<(u64, u64)>>,
}

impl Ram {
    fn new(read_only: bool) -> Arc<Self> {
        Arc::new(Ram {
            bytes: Mutex::new(vec![0; 1 << 20]),
            full: AtomicBool::new(false),
            read_only,
            flushes: AtomicUsize::new(0),
            discarded: Mutex::default(),
        })
    }
}

impl Image for Ram {
    fn size(&self) -> u64 {
        1 << 20
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.copy_from_slice(&self.bytes.lock().unwrap()[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().unwrap()[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.discarded.lock().unwrap().push((offset, len));
        Ok(())
    }
    fn write_zeroes(&self, offset: u64, len: u64, _: bool) -> io::Result<()> {
        self.write_at(&vec![0; len as usize], offset)
    }
    fn raw_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const F_FLUSH: u64 = 1 << 9;
const F_WCE: u64 = 1 << 11;

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

fn block(image: Arc<dyn Image>, method: Method, time: &Time, troubles: Arc<dyn Troubles>) -> Block {
    Block::new("vda", image, 2, "a serial number", method, &time.crew(), troubles).unwrap()
}

fn write(guest: &Guest<Block>, ring: &mut Ring, sector: u64, data: &[u8]) -> u8 {
    let pieces: Vec<&[u8]> = data.chunks(700).collect();
    let head = header(OUT, sector);
    let mut out = vec![head.as_slice()];
    out.extend(pieces);
    guest.request(ring, &out, &[1]).0[0]
}

fn read(guest: &Guest<Block>, ring: &mut Ring, sector: u64, len: usize) -> Result<Vec<u8>, u8> {
    let (mut data, used) = guest.request(ring, &[&header(IN, sector)], &[200, len - 200, 1]);
    match data.pop().unwrap() {
        0 => {
            assert_eq!(used as usize, len + 1);
            Ok(data)
        }
        status => Err(status),
    }
}

/// Every image, method, ring and clock.
fn everywhere(test: impl Fn(&mut Guest<Block>, &mut Vec<Ring>)) {
    for features in [0, INDIRECT | EVENT_IDX, PACKED, PACKED | INDIRECT | EVENT_IDX] {
        for way in 0..4 {
            let time = if way == 0 { Time::counting() } else { Time::Threads };
            let (image, method) = match way {
                0 => (disk_of(1 << 20), Method::OneByOne),
                1 => (disk_of(1 << 20), Method::OneByOne),
                2 => (disk_of(1 << 20), Method::Ring),
                _ => (Ram::new(false) as Arc<dyn Image>, Method::Ring),
            };
            let device = block(image, method, &time, Arc::new(Silent));
            let mut guest = Guest::new(device, time, 64 << 20);
            let mut rings = guest.start(features | F_FLUSH | F_WCE | 1 << 13 | 1 << 14, 2, 32);
            test(&mut guest, &mut rings);
        }
    }
}

#[test]
fn what_is_written_is_read_again_by_every_way() {
    everywhere(|guest, rings| {
        let data: Vec<u8> = (0..6144_u32).map(|n| (n * 7 >> 3) as u8).collect();
        assert_eq!(write(guest, &mut rings[0], 3, &data), 0);
        assert_eq!(read(guest, &mut rings[1], 4, 4096).unwrap(), data[512..][..4096]);
        assert_eq!(guest.request(&mut rings[0], &[&header(FLUSH, 0)], &[1]).0, [0]);
        // In place of many buffers one, and the end of the disk.
        let end = (1 << 20) / 512 - 8;
        assert_eq!(write(guest, &mut rings[1], end, &data[..4096]), 0);
        assert_eq!(read(guest, &mut rings[0], end, 4096).unwrap(), data[..4096]);
        assert_eq!(read(guest, &mut rings[0], end + 1, 4096), Err(1));
        assert_eq!(read(guest, &mut rings[0], u64::MAX / 512, 4096), Err(1));
        assert_eq!(read(guest, &mut rings[0], u64::MAX, 512), Err(1));
        assert_eq!(read(guest, &mut rings[0], 0, 513), Err(1));
        let (id, used) = guest.request(&mut rings[0], &[&header(GET_ID, 0)], &[20, 1]);
        assert_eq!(
            (&id[..16], id[20], used),
            (b"a serial number\0".as_slice(), 0, 21)
        );
        assert_eq!(guest.request(&mut rings[0], &[&header(99, 0)], &[1]).0, [2]);
        assert_eq!(guest.request(&mut rings[0], &[&[1, 2, 3]], &[1]).0, [1]);
    });
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn ranges_are_zeroed_and_discarded_within_the_limits_that_are_announced() {
    everywhere(|guest, rings| {
        let ring = &mut rings[0];
        write(guest, ring, 0, &[7; 4096]);
        let zero = header(WRITE_ZEROES, 0);
        let discard = header(DISCARD, 0);
        let two = [range(1, 2, 1), range(5, 1, 0)].concat();
        assert_eq!(guest.request(ring, &[&zero, &two], &[1]).0, [0]);
        let data = read(guest, ring, 0, 4096).unwrap();
        let is_zero = |n: usize| data[512 * n..][..512].iter().all(|&byte| byte == 0);
        assert_eq!((0..8).filter(|&n| is_zero(n)).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(guest.request(ring, &[&discard, &range(0, 8, 0)], &[1]).0, [0]);
        assert_eq!(guest.request(ring, &[&discard, &range(0, 8, 1)], &[1]).0, [2]);
        assert_eq!(guest.request(ring, &[&zero, &range(0, 8, 2)], &[1]).0, [2]);
        assert_eq!(guest.request(ring, &[&zero, &range(u64::MAX, 8, 0)], &[1]).0, [1]);
        let most = guest.config(48, 4) as u32;
        assert_eq!(guest.request(ring, &[&zero, &range(0, most + 1, 0)], &[1]).0, [1]);
        assert_eq!(guest.request(ring, &[&zero], &[1]).0, [1]);
    });
}

#[test]
fn a_read_only_disk_says_so_and_is_not_written() {
    let time = Time::counting();
    let image = Ram::new(true);
    let mut guest = Guest::new(
        block(image.clone(), Method::OneByOne, &time, Arc::new(Silent)),
        time,
        64 << 20,
    );
    assert_ne!(guest.offered() & 1 << 5, 0);
    assert_eq!(guest.offered() & (1 << 13 | 1 << 14), 0);
    let mut rings = guest.start(F_FLUSH, 2, 16);
    assert_eq!(write(&guest, &mut rings[0], 0, &[1; 512]), 1);
    let zero = [header(WRITE_ZEROES, 0), range(0, 1, 0)].concat();
    assert_eq!(guest.request(&mut rings[0], &[&zero], &[1]).0, [1]);
    assert!(image.bytes.lock().unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn writes_are_durable_at_once_unless_the_driver_can_flush() {
    let time = Time::counting();
    let image = Ram::new(false);
    let flushes = || image.flushes.swap(0, Ordering::SeqCst);
    let device = block(image.clone(), Method::OneByOne, &time, Arc::new(Silent));
    let mut guest = Guest::new(device, time, 64 << 20);
    let mut rings = guest.start(0, 1, 16);
    write(&guest, &mut rings[0], 0, &[1; 512]);
    assert_eq!(flushes(), 1);
    let mut rings = guest.start(F_FLUSH, 1, 16);
    write(&guest, &mut rings[0], 0, &[1; 512]);
    assert_eq!(flushes(), 0);
    guest.request(&mut rings[0], &[&header(FLUSH, 0)], &[1]);
    assert_eq!(flushes(), 1);
    let mut rings = guest.start(F_FLUSH | F_WCE, 1, 16);
    assert_eq!(guest.config(32, 1), 1);
    guest.set_config(32, 1, 0);
    write(&guest, &mut rings[0], 0, &[1; 512]);
    assert_eq!((guest.config(32, 1), flushes()), (0, 1));
}

#[test]
fn a_request_that_finds_the_host_full_is_held_and_done_after_resume_even_in_another_device() {
    for features in [0, PACKED] {
        for time in [Time::counting(), Time::Threads] {
            let (image, told) = (Ram::new(false), Arc::new(Told::default()));
            let device = block(image.clone(), Method::OneByOne, &time, told.clone());
            let mut guest = Guest::new(device, time.clone(), 64 << 20);
            let mut rings = guest.start(features, 2, 16);
            image.full.store(true, Ordering::SeqCst);
            let buffers = rings[0].place(&[&header(OUT, 2), &[5; 1024]], &[1]);
            rings[0].add(&buffers).unwrap();
            rings[0].add(&buffers).unwrap();
            guest.ring(&mut rings[0]);
            guest.until("the trouble", || {
                (!told.0.lock().unwrap().is_empty()).then_some(())
            });
            let saved = guest.save();
            assert!(rings[0].take().is_none());
            let device = Trouble::DiskFull {
                device: "vda".to_owned(),
            };
            assert_eq!(*told.0.lock().unwrap(), [device]);
            // Still full: held once more.
            guest.resume();
            guest.until("more trouble", || {
                (told.0.lock().unwrap().len() == 2).then_some(())
            });
            guest.lock().pause();
            image.full.store(false, Ordering::SeqCst);
            let device = block(image.clone(), Method::OneByOne, &time, told.clone());
            let other = Guest::on(device, time.clone(), guest.memory.clone());
            other.lock().pause();
            other.lock().restore(&saved).unwrap();
            other.resume();
            for _ in 0..2 {
                other.until("the held request", || rings[0].take());
            }
            assert_eq!(image.bytes.lock().unwrap()[1024..2048], [5; 1024]);
        }
    }
}

#[test]
fn many_requests_at_once_all_end_once_also_across_pauses() {
    for method in [Method::OneByOne, Method::Ring] {
        for features in [INDIRECT, PACKED | EVENT_IDX] {
            let device = block(disk_of(1 << 20), method, &Time::Threads, Arc::new(Silent));
            let mut guest = Guest::new(device, Time::Threads, 64 << 20);
            let mut rings = guest.start(features, 2, 128);
            let ring = &mut rings[1];
            let buffers = ring.place(&[&header(IN, 0)], &[4096, 1]);
            let (mut added, mut ended) = (0, 0);
            while ended < 3000 {
                while added < 3000 && ring.add(&buffers).is_some() {
                    added += 1;
                }
                guest.ring(ring);
                if added % 7 == 0 {
                    guest.lock().pause();
                    guest.resume();
                }
                ended += guest.until("requests", || {
                    let mut count = 0;
                    while ring.take().is_some() {
                        count += 1;
                    }
                    (count > 0).then_some(count)
                });
            }
            assert_eq!(ended, 3000);
        }
    }
}
