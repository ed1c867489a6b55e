//! The driver's side of virtio: finds a function's structures, negotiates, builds rings in guest memory.
#![allow(dead_code, reason = "each user of the driver needs another part of it")]

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use devices::irq::{Line, Messages, Msi, Wires};
use devices::pci::Function;
use devices::virtio::queue::Layout;
use devices::virtio::{VirtioDevice, VirtioPci};
use devices::work::Crew;
use devices::{Device, Registers, Saved};
use guestmem::Memory;
use vcpu::time::{Clock, CountingClock, Timers};

pub const INDIRECT: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
pub const VERSION_1: u64 = 1 << 32;
pub const PACKED: u64 = 1 << 34;

const COMMON: u64 = 0;
const ISR: u64 = 0x1000;
const CONFIG: u64 = 0x2000;
const DOORBELLS: u64 = 0x3000;
const MSIX: u64 = 0x4000;

/// Interrupts that have come.
#[derive(Default)]
pub struct Heard {
    pub messages: Mutex<Vec<u32>>,
    pub level: Mutex<bool>,
}

impl Messages for Heard {
    fn send(&self, message: Msi) {
        self.messages.lock().unwrap().push(message.data);
    }
}

impl Wires for Heard {
    fn set(&self, _: u32, level: bool) {
        *self.level.lock().unwrap() = level;
    }
}

/// Whose time it is.
#[derive(Clone)]
pub enum Time {
    Threads,
    Counting(Arc<CountingClock>, Arc<Timers>),
}

impl Time {
    pub fn counting() -> Time {
        let clock = Arc::new(CountingClock::new(0, 0));
        Time::Counting(clock.clone(), Timers::new(clock))
    }

    pub fn crew(&self) -> Crew {
        match self {
            Time::Threads => Crew::threads(Arc::new(|_| {})),
            Time::Counting(_, timers) => Crew::counting(timers.clone()),
        }
    }

    /// Lets work be done for a moment; false when nothing is due any more (counting).
    pub fn pass(&self) -> bool {
        match self {
            Time::Threads => {
                std::thread::yield_now();
                true
            }
            Time::Counting(clock, timers) => {
                let Some(next) = timers.next() else { return false };
                clock.advance(next);
                timers.fire();
                true
            }
        }
    }
}

/// One device and its guest.
pub struct Guest<D> {
    pub memory: Memory,
    pub pci: Arc<Mutex<VirtioPci<D>>>,
    pub heard: Arc<Heard>,
    pub time: Time,
    next: u64,
    pub features: u64,
}

impl<D: VirtioDevice + 'static> Guest<D> {
    pub fn new(device: D, time: Time, ram: u64) -> Self {
        Self::on(device, time, Memory::new(ram).unwrap())
    }

    pub fn on(device: D, time: Time, memory: Memory) -> Self {
        let heard = Arc::new(Heard::default());
        let line = Line::new(heard.clone(), 0);
        let pci = VirtioPci::new(device, &memory, line, heard.clone(), None);
        Guest {
            memory,
            pci,
            heard,
            time,
            next: 0x1000,
            features: 0,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, VirtioPci<D>> {
        self.pci.lock().unwrap()
    }

    pub fn read(&self, offset: u64, len: usize) -> u64 {
        let mut bytes = [0; 8];
        Registers::read(&mut *self.lock(), 0, offset, &mut bytes[..len]);
        u64::from_le_bytes(bytes)
    }

    pub fn write(&self, offset: u64, len: usize, value: u64) {
        Registers::write(&mut *self.lock(), 0, offset, &value.to_le_bytes()[..len]);
    }

    pub fn status(&self) -> u8 {
        self.read(COMMON + 20, 1) as u8
    }

    pub fn set_status(&self, status: u8) {
        self.write(COMMON + 20, 1, u64::from(status));
    }

    pub fn isr(&self) -> u8 {
        self.read(ISR, 1) as u8
    }

    pub fn config(&self, offset: u64, len: usize) -> u64 {
        self.read(CONFIG + offset, len)
    }

    pub fn set_config(&self, offset: u64, len: usize, value: u64) {
        self.write(CONFIG + offset, len, value);
    }

    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.write(COMMON, 4, select);
            self.read(COMMON + 4, 4)
        };
        half(0) | half(1) << 32
    }

    /// Reset, acknowledge, agree on all wanted features that are offered.
    pub fn negotiate(&mut self, wanted: u64) -> u64 {
        self.set_status(0);
        self.set_status(3);
        self.features = self.offered() & (wanted | VERSION_1);
        for select in [0, 1] {
            self.write(COMMON + 8, 4, select);
            self.write(COMMON + 12, 4, self.features >> (32 * select) & 0xffff_ffff);
        }
        self.set_status(11);
        assert_eq!(self.status(), 11, "the device agrees");
        self.features
    }

    /// Switches MSI-X on: vector n sends data n.
    pub fn use_msix(&self) {
        let mut pci = self.lock();
        let mut at = pci.config().u8(0x34);
        while pci.config().u8(u16::from(at)) != 0x11 {
            at = pci.config().u8(u16::from(at) + 1);
        }
        for vector in 0..32_u64 {
            let mut entry = [0; 16];
            entry[..8].copy_from_slice(&0xfee0_0000_u64.to_le_bytes());
            entry[8..12].copy_from_slice(&(vector as u32).to_le_bytes());
            Registers::write(&mut *pci, 0, MSIX + 16 * vector, &entry[..8]);
            Registers::write(&mut *pci, 0, MSIX + 16 * vector + 8, &entry[8..]);
        }
        pci.config_write(u16::from(at) + 2, &[0, 0x80]);
    }

    pub fn alloc(&mut self, len: u64, align: u64) -> u64 {
        let at = self.next.next_multiple_of(align);
        self.next = at + len;
        assert!(
            self.next <= self.memory.len(),
            "the test's guest has enough memory"
        );
        at
    }

    /// Sets up a queue; vector n+1 for queue n.
    pub fn queue(&mut self, number: u16, size: u16) -> Ring {
        let packed = self.features & PACKED != 0;
        let entries = u64::from(size);
        let layout = Layout {
            size,
            descriptors: self.alloc(16 * entries, 16),
            driver: self.alloc(6 + 2 * entries, 4),
            device: self.alloc(6 + 8 * entries, 4),
        };
        for (start, len) in [
            (layout.descriptors, 16 * entries),
            (layout.driver, 6 + 2 * entries),
            (layout.device, 6 + 8 * entries),
        ] {
            self.memory.write(start, &vec![0; len as usize]).unwrap();
        }
        self.write(COMMON + 22, 2, u64::from(number));
        self.write(COMMON + 24, 2, entries);
        self.write(COMMON + 26, 2, u64::from(number) + 1);
        self.write(COMMON + 32, 8, layout.descriptors);
        self.write(COMMON + 40, 4, layout.driver & 0xffff_ffff);
        self.write(COMMON + 44, 4, layout.driver >> 32);
        self.write(COMMON + 48, 8, layout.device);
        self.write(COMMON + 28, 2, 1);
        let tables = self.alloc(16 * 64 * entries, 16);
        Ring::new(self.memory.clone(), number, layout, packed, self.features, tables)
    }

    pub fn go(&self) {
        self.set_status(15);
        assert_eq!(self.status(), 15, "the device runs");
    }

    /// Negotiates, sets up queues of this size, goes.
    pub fn start(&mut self, features: u64, queues: u16, size: u16) -> Vec<Ring> {
        self.negotiate(features);
        let rings = (0..queues).map(|n| self.queue(n, size)).collect();
        self.go();
        rings
    }

    pub fn ring(&self, ring: &mut Ring) {
        if ring.wants_notification() {
            self.write(DOORBELLS + 4 * u64::from(ring.number), 2, u64::from(ring.number));
        }
    }

    /// Waits until something is there.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let passed = self.time.pass();
            if !passed && let Some(found) = look() {
                return found;
            }
            assert!(passed, "nothing is under way any more while waiting for {what}");
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited too long for {what}"
            );
        }
    }

    /// Puts one request into a queue and waits until it is used.
    pub fn request(&self, ring: &mut Ring, out: &[&[u8]], into: &[usize]) -> (Vec<u8>, u32) {
        let buffers = ring.place(out, into);
        let id = ring.add(&buffers).expect("the ring has room");
        self.ring(ring);
        let (used, len) = self.until("a request", || ring.take());
        assert_eq!(used, id);
        (ring.contents(&buffers), len)
    }

    pub fn save(&self) -> Saved {
        let mut pci = self.lock();
        pci.pause();
        pci.save().unwrap()
    }

    pub fn resume(&self) {
        self.lock().resume();
    }
}

/// A buffer of a request.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    pub address: u64,
    pub len: u32,
    pub writable: bool,
}

/// The driver's side of one queue, of either kind.
#[derive(Clone)]
pub struct Ring {
    memory: Memory,
    pub number: u16,
    pub layout: Layout,
    packed: bool,
    event_idx: bool,
    /// Whether requests are put into indirect tables.
    pub indirect: bool,
    tables: u64,
    /// Data of requests made by `place`.
    data: u64,
    free: Vec<u16>,
    /// Entries of each request under way, by id.
    entries: Vec<Vec<u16>>,
    next: u16,
    wrap: bool,
    used: u16,
    used_wrap: bool,
    /// Entries added since the last question about notification.
    added: u16,
    room: u16,
}

/// Where requests made by `Ring::place` keep their data, per queue.
const DATA: u64 = 8 << 20;

impl Ring {
    fn new(memory: Memory, number: u16, layout: Layout, packed: bool, features: u64, tables: u64) -> Self {
        Ring {
            data: DATA + u64::from(number) * (4 << 20),
            memory,
            number,
            packed,
            event_idx: features & EVENT_IDX != 0,
            indirect: features & INDIRECT != 0,
            tables,
            free: (0..layout.size).rev().collect(),
            entries: vec![Vec::new(); usize::from(layout.size)],
            next: 0,
            wrap: true,
            used: 0,
            used_wrap: true,
            added: 0,
            room: layout.size,
            layout,
        }
    }

    /// Puts data of a request into memory, at a fixed place of the queue.
    pub fn place(&self, out: &[&[u8]], into: &[usize]) -> Vec<Buffer> {
        let mut at = self.data;
        let mut buffers = Vec::new();
        for bytes in out {
            self.memory.write(at, bytes).unwrap();
            buffers.push(Buffer {
                address: at,
                len: bytes.len() as u32,
                writable: false,
            });
            at += (bytes.len() as u64).next_multiple_of(16);
        }
        for &len in into {
            buffers.push(Buffer {
                address: at,
                len: len as u32,
                writable: true,
            });
            at += (len as u64).next_multiple_of(16);
        }
        buffers
    }

    /// What stands in the writable buffers.
    pub fn contents(&self, buffers: &[Buffer]) -> Vec<u8> {
        let mut all = Vec::new();
        for buffer in buffers.iter().filter(|buffer| buffer.writable) {
            let mut bytes = vec![0; buffer.len as usize];
            self.memory.read(buffer.address, &mut bytes).unwrap();
            all.extend(bytes);
        }
        all
    }

    fn flags(buffer: &Buffer, next: bool) -> u16 {
        u16::from(next) | u16::from(buffer.writable) << 1
    }

    fn descriptor(&self, at: u64, buffer: &Buffer, first: u16, second: u16) {
        self.memory.write_u64(at, buffer.address).unwrap();
        self.memory.write_u32(at + 8, buffer.len).unwrap();
        self.memory.write_u16(at + 12, first).unwrap();
        self.memory.write_u16(at + 14, second).unwrap();
    }

    /// An indirect table with these buffers, as one buffer.
    fn table(&self, id: u16, buffers: &[Buffer]) -> Buffer {
        let at = self.tables + u64::from(id) * 64 * 16;
        assert!(buffers.len() <= 64);
        for (n, buffer) in buffers.iter().enumerate() {
            let place = at + 16 * n as u64;
            let more = n + 1 < buffers.len();
            if self.packed {
                self.descriptor(place, buffer, 0, Self::flags(buffer, false));
            } else {
                self.descriptor(place, buffer, Self::flags(buffer, more), n as u16 + 1);
            }
        }
        Buffer {
            address: at,
            len: 16 * buffers.len() as u32,
            writable: false,
        }
    }

    /// Makes a request available; its id. None when the ring is full.
    pub fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        let need = if self.indirect { 1 } else { buffers.len() as u16 };
        if need > self.room {
            return None;
        }
        self.room -= need;
        self.added += need;
        let id = if self.packed {
            self.add_packed(buffers, need)
        } else {
            self.added = self.added - need + 1;
            self.add_split(buffers)
        };
        Some(id)
    }

    fn add_split(&mut self, buffers: &[Buffer]) -> u16 {
        let head = *self.free.last().unwrap();
        if self.indirect {
            self.free.pop();
            let table = self.table(head, buffers);
            self.descriptor(self.layout.descriptors + 16 * u64::from(head), &table, 4, 0);
            self.entries[usize::from(head)] = vec![head];
        } else {
            let taken: Vec<u16> = buffers.iter().map(|_| self.free.pop().unwrap()).collect();
            for (n, buffer) in buffers.iter().enumerate() {
                let next = taken.get(n + 1).copied();
                let at = self.layout.descriptors + 16 * u64::from(taken[n]);
                self.descriptor(at, buffer, Self::flags(buffer, next.is_some()), next.unwrap_or(0));
            }
            self.entries[usize::from(head)] = taken;
        }
        let slot = self.layout.driver + 4 + 2 * u64::from(self.next % self.layout.size);
        self.memory.write_u16(slot, head).unwrap();
        self.next = self.next.wrapping_add(1);
        self.memory
            .store_u16(self.layout.driver + 2, self.next, Ordering::Release)
            .unwrap();
        head
    }

    fn add_packed(&mut self, buffers: &[Buffer], need: u16) -> u16 {
        let id = self.free.pop().unwrap();
        let table = [self.table(id, &buffers[..buffers.len() * usize::from(self.indirect)])];
        let list: &[Buffer] = if self.indirect { &table } else { buffers };
        let mut first = None;
        for (n, buffer) in list.iter().enumerate() {
            let mut flags = Self::flags(buffer, n + 1 < list.len()) | u16::from(self.indirect) << 2;
            flags |= if self.wrap { 1 << 7 } else { 1 << 15 };
            let at = self.layout.descriptors + 16 * u64::from(self.next);
            if n == 0 {
                let old = self.memory.read_u16(at + 14).unwrap();
                self.descriptor(at, buffer, id, old);
                first = Some((at, flags));
            } else {
                self.descriptor(at, buffer, id, flags);
            }
            self.next += 1;
            if self.next == self.layout.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        let (at, flags) = first.expect("a request has buffers");
        self.memory.store_u16(at + 14, flags, Ordering::Release).unwrap();
        self.entries[usize::from(id)] = vec![0; usize::from(need)];
        id
    }

    /// Takes a used request: id and bytes written.
    pub fn take(&mut self) -> Option<(u16, u32)> {
        let (id, len) = if self.packed {
            let at = self.layout.descriptors + 16 * u64::from(self.used);
            let flags = self.memory.load_u16(at + 14, Ordering::Acquire).unwrap();
            if (flags >> 7 & 1 != 0) != self.used_wrap || (flags >> 15 != 0) != self.used_wrap {
                return None;
            }
            let id = self.memory.read_u16(at + 12).unwrap();
            self.used += self.entries[usize::from(id)].len() as u16;
            if self.used >= self.layout.size {
                self.used -= self.layout.size;
                self.used_wrap = !self.used_wrap;
            }
            (id, self.memory.read_u32(at + 8).unwrap())
        } else {
            if self
                .memory
                .load_u16(self.layout.device + 2, Ordering::Acquire)
                .unwrap()
                == self.used
            {
                return None;
            }
            let at = self.layout.device + 4 + 8 * u64::from(self.used % self.layout.size);
            self.used = self.used.wrapping_add(1);
            (
                self.memory.read_u32(at).unwrap() as u16,
                self.memory.read_u32(at + 4).unwrap(),
            )
        };
        let entries = std::mem::take(&mut self.entries[usize::from(id)]);
        assert!(!entries.is_empty(), "only what is under way is used");
        self.room += entries.len() as u16;
        if self.packed {
            self.free.push(id);
        } else {
            self.free.extend(entries);
        }
        Some((id, len))
    }

    /// Whether the device wants to be told of what was added since the last question.
    pub fn wants_notification(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let added = std::mem::take(&mut self.added);
        let read = |at| self.memory.read_u16(at).unwrap();
        if self.packed {
            match read(self.layout.device + 2) {
                0 => true,
                1 => false,
                _ => {
                    let event = read(self.layout.device);
                    let mut behind = i32::from(self.next) - i32::from(event & 0x7fff);
                    if (event >> 15 != 0) != self.wrap {
                        behind += i32::from(self.layout.size);
                    }
                    behind > 0 && behind <= i32::from(added)
                }
            }
        } else if self.event_idx {
            let event = read(self.layout.device + 4 + 8 * u64::from(self.layout.size));
            self.next.wrapping_sub(event).wrapping_sub(1) < added
        } else {
            read(self.layout.device) & 1 == 0
        }
    }

    /// Asks for an interrupt when the next request is used (event index), or in general, or not at all.
    pub fn want_interrupts(&mut self, on: bool) {
        if self.packed {
            let event = self.used | u16::from(self.used_wrap) << 15;
            self.memory.write_u16(self.layout.driver, event).unwrap();
            let wish = match (on, self.event_idx) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 0,
            };
            self.memory.write_u16(self.layout.driver + 2, wish).unwrap();
        } else if self.event_idx {
            let event = self.layout.driver + 4 + 2 * u64::from(self.layout.size);
            let at = if on { self.used } else { self.used.wrapping_sub(1) };
            self.memory.write_u16(event, at).unwrap();
        } else {
            self.memory.write_u16(self.layout.driver, u16::from(!on)).unwrap();
        }
        fence(Ordering::SeqCst);
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.room == self.layout.size
    }
}
