//! What processors of a machine share, and the mailbox by which others reach each of them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use guestmem::Block;
use vcpu::{Kick, Msi, VmConfig};

use crate::memory::map::Map;

/// Bits of [`Mailbox::requests`].
pub(crate) mod request {
    /// Leave the run.
    pub(crate) const KICK: u32 = 1;
    /// Interrupts were posted.
    pub(crate) const INTERRUPT: u32 = 2;
    /// The wire of the 8259 pair has changed.
    pub(crate) const EXTERNAL: u32 = 4;
    /// A non-maskable interrupt.
    pub(crate) const NMI: u32 = 8;
    /// INIT.
    pub(crate) const INIT: u32 = 16;
    /// A start-up message.
    pub(crate) const START: u32 = 32;
    /// The map of memory has changed.
    pub(crate) const MAP: u32 = 64;
    /// Pages became code: no fast writes to them any more.
    pub(crate) const PROTECT: u32 = 128;
    /// Code was rewritten: drop what was decoded from it.
    pub(crate) const REWRITTEN: u32 = 256;
    /// Pages are to be marked when written from now on.
    pub(crate) const DIRTY: u32 = 512;
}

/// The way to a processor from other threads.
pub(crate) struct Mailbox {
    /// What waits, by bits of [`request`].
    pub(crate) requests: AtomicU32,
    posted: [AtomicU32; 8],
    posted_level: [AtomicU32; 8],
    start_vector: AtomicU8,
    pub(crate) external: AtomicBool,
    /// Identity of the local APIC, its logical one, the format of the latter, and whether it is in x2APIC mode: for senders.
    pub(crate) logical: AtomicU32,
    pub(crate) format: AtomicU32,
    pub(crate) x2apic: AtomicBool,
    pub(crate) number: u32,
    /// Pages (physical addresses) to be protected, and those rewritten.
    pages: Mutex<(Vec<u64>, Vec<u64>)>,
    sleeping: Mutex<()>,
    wake: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Mailbox {
    pub(crate) fn new(number: u32) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            requests: AtomicU32::new(0),
            posted: Default::default(),
            posted_level: Default::default(),
            start_vector: AtomicU8::new(0),
            external: AtomicBool::new(false),
            logical: AtomicU32::new(0),
            format: AtomicU32::new(u32::MAX),
            x2apic: AtomicBool::new(false),
            number,
            pages: Mutex::default(),
            sleeping: Mutex::new(()),
            wake: Condvar::new(),
        })
    }

    /// Asks for something and wakes the processor.
    pub(crate) fn ask(&self, bits: u32) {
        self.requests.fetch_or(bits, Ordering::SeqCst);
        drop(lock(&self.sleeping));
        self.wake.notify_all();
    }

    /// Takes what was asked for.
    pub(crate) fn take(&self) -> u32 {
        self.requests.swap(0, Ordering::SeqCst)
    }

    /// Sleeps until something is asked for, or for so long.
    pub(crate) fn sleep(&self, most: Option<Duration>) {
        let guard = lock(&self.sleeping);
        if self.requests.load(Ordering::SeqCst) != 0 {
            return;
        }
        match most {
            Some(most) => drop(self.wake.wait_timeout(guard, most)),
            None => drop(self.wake.wait(guard)),
        }
    }

    /// Posts a fixed interrupt.
    pub(crate) fn post(&self, vector: u8, level: bool) {
        let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
        if level {
            self.posted_level[word].fetch_or(bit, Ordering::SeqCst);
        }
        self.posted[word].fetch_or(bit, Ordering::SeqCst);
        self.ask(request::INTERRUPT);
    }

    /// Takes the posted interrupts: for each word of 32 vectors those that wait, and which of them are level-triggered.
    pub(crate) fn posted(&self) -> [(u32, u32); 8] {
        std::array::from_fn(|word| {
            let waiting = self.posted[word].swap(0, Ordering::SeqCst);
            let level = self.posted_level[word].fetch_and(!waiting, Ordering::SeqCst) & waiting;
            (waiting, level)
        })
    }

    /// Sends a start-up message.
    pub(crate) fn start(&self, vector: u8) {
        self.start_vector.store(vector, Ordering::SeqCst);
        self.ask(request::START);
    }

    pub(crate) fn start_vector(&self) -> u8 {
        self.start_vector.load(Ordering::SeqCst)
    }

    /// Asks to take fast writes to a page away.
    pub(crate) fn protect(&self, physical: u64) {
        lock(&self.pages).0.push(physical);
        self.ask(request::PROTECT);
    }

    /// Asks to drop what was decoded from a page.
    pub(crate) fn rewritten(&self, physical: u64) {
        lock(&self.pages).1.push(physical);
        self.ask(request::REWRITTEN);
    }

    /// Takes the pages to be protected and those rewritten.
    pub(crate) fn take_pages(&self) -> (Vec<u64>, Vec<u64>) {
        std::mem::take(&mut *lock(&self.pages))
    }
}

impl Kick for Mailbox {
    fn kick(&self) {
        self.ask(request::KICK);
    }
}

/// What the processors of a machine share.
pub(crate) struct Shared {
    pub(crate) config: VmConfig,
    pub(crate) map: RwLock<Arc<Map>>,
    pub(crate) processors: RwLock<Vec<Arc<Mailbox>>>,
    /// Whether written pages are noted.
    pub(crate) logging: AtomicBool,
    doorbells: RwLock<BTreeMap<u64, Arc<OwnedFd>>>,
    any_doorbell: AtomicBool,
    routes: Mutex<Vec<Option<Msi>>>,
    /// The paravirtual clock minus the machine's clock.
    pub(crate) clock_shift: AtomicU64,
    /// Round-robin of lowest-priority delivery.
    turn: AtomicU32,
}

fn read<T>(locked: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    locked.read().expect("no holder of this lock panics")
}

impl Shared {
    pub(crate) fn new(config: VmConfig) -> Shared {
        let pins = usize::from(config.ioapic_pins);
        Shared {
            config,
            map: RwLock::default(),
            processors: RwLock::default(),
            logging: AtomicBool::new(false),
            doorbells: RwLock::default(),
            any_doorbell: AtomicBool::new(false),
            routes: Mutex::new(vec![None; pins]),
            clock_shift: AtomicU64::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// The present map.
    pub(crate) fn map(&self) -> Arc<Map> {
        Arc::clone(&read(&self.map))
    }

    /// Asks all processors for something.
    pub(crate) fn ask_all(&self, bits: u32) {
        for mailbox in read(&self.processors).iter() {
            mailbox.ask(bits);
        }
    }

    /// The mailboxes of the processors other than `number`.
    pub(crate) fn others(&self, number: u32, mut each: impl FnMut(&Mailbox)) {
        for mailbox in read(&self.processors).iter() {
            if mailbox.number != number {
                each(mailbox);
            }
        }
    }

    /// How many processors there are.
    pub(crate) fn count(&self) -> usize {
        read(&self.processors).len()
    }

    pub(crate) fn set_doorbell(&self, address: u64, event: Option<OwnedFd>) {
        let mut bells = self.doorbells.write().expect("no holder of this lock panics");
        match event {
            Some(event) => bells.insert(address, Arc::new(event)),
            None => bells.remove(&address),
        };
        self.any_doorbell.store(!bells.is_empty(), Ordering::SeqCst);
    }

    /// Rings the doorbell of an address, if there is one.
    pub(crate) fn ring(&self, address: u64, len: u64) -> bool {
        if !self.any_doorbell.load(Ordering::SeqCst) || !matches!(len, 2 | 4) {
            return false;
        }
        let Some(event) = read(&self.doorbells).get(&address).cloned() else {
            return false;
        };
        // A full counter means that the other side has not looked yet: it will.
        let _ = rustix::io::write(&*event, &1u64.to_ne_bytes());
        true
    }

    pub(crate) fn set_route(&self, pin: u8, message: Option<Msi>) -> bool {
        match lock(&self.routes).get_mut(usize::from(pin)) {
            Some(route) => {
                *route = message;
                true
            }
            None => false,
        }
    }

    /// Hands on pages that devices have written since the last look: their code is decoded anew by every processor.
    pub(crate) fn spread_rewritten(&self, map: &Map) {
        for block in map.blocks() {
            if block.any_rewritten() {
                self.spread(map, block);
            }
        }
    }

    fn spread(&self, map: &Map, block: &Block) {
        for page in block.take_rewritten() {
            for physical in map.places(block, u64::from(page)) {
                for mailbox in read(&self.processors).iter() {
                    mailbox.rewritten(physical);
                }
            }
        }
    }

    /// Delivers a message-signalled interrupt (SDM Vol. 3 §12.11).
    pub(crate) fn message(&self, message: Msi) {
        // Bits 40 up of the address carry more bits of the destination, where remapping or an extension is used.
        let low = (message.address >> 12 & 0xff) as u32;
        let high = (message.address >> 32) as u32 & 0xffff_ff00;
        let signal = Signal {
            mode: (message.data >> 8 & 7) as u8,
            vector: message.data as u8,
            level: message.data & 1 << 15 != 0,
        };
        let logical = message.address & 4 != 0;
        let wide = high != 0;
        self.send(low | high, logical, wide, signal);
    }

    /// Sends to all processors that a destination means.
    pub(crate) fn send(&self, destination: u32, logical: bool, wide: bool, signal: Signal) {
        let processors = read(&self.processors);
        let meant = |mailbox: &&Arc<Mailbox>| matches(mailbox, destination, logical, wide);
        if signal.mode == Signal::LOWEST {
            let all: Vec<_> = processors.iter().filter(meant).collect();
            if !all.is_empty() {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
                all[turn % all.len()].post(signal.vector, signal.level);
            }
            return;
        }
        for mailbox in processors.iter().filter(meant) {
            signal.deliver(mailbox);
        }
    }
}

/// Whether a destination means a processor (SDM Vol. 3 §12.6.2).
fn matches(mailbox: &Mailbox, destination: u32, logical: bool, wide: bool) -> bool {
    let x2apic = mailbox.x2apic.load(Ordering::Relaxed);
    let broadcast = if wide || destination > 0xff {
        u32::MAX
    } else {
        0xff
    };
    if !logical {
        return destination == broadcast || destination == mailbox.number;
    }
    let mine = mailbox.logical.load(Ordering::Relaxed);
    if x2apic {
        return destination == u32::MAX
            || destination >> 16 == mine >> 16 && destination & mine & 0xffff != 0;
    }
    let mine = mine >> 24;
    if mailbox.format.load(Ordering::Relaxed) >> 28 == 0xf {
        destination & mine != 0
    } else {
        destination == 0xff || destination >> 4 == mine >> 4 && destination & mine & 15 != 0
    }
}

/// What an interrupt message says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal {
    pub(crate) mode: u8,
    pub(crate) vector: u8,
    pub(crate) level: bool,
}

impl Signal {
    pub(crate) const FIXED: u8 = 0;
    pub(crate) const LOWEST: u8 = 1;
    pub(crate) const NMI: u8 = 4;
    pub(crate) const INIT: u8 = 5;
    pub(crate) const START: u8 = 6;
    pub(crate) const EXTERNAL: u8 = 7;

    /// Delivers it to one processor.
    pub(crate) fn deliver(self, mailbox: &Mailbox) {
        match self.mode {
            Signal::FIXED | Signal::LOWEST => mailbox.post(self.vector, self.level),
            Signal::NMI => mailbox.ask(request::NMI),
            Signal::INIT => mailbox.ask(request::INIT),
            Signal::START => mailbox.start(self.vector),
            Signal::EXTERNAL => {
                mailbox.external.store(true, Ordering::SeqCst);
                mailbox.ask(request::EXTERNAL);
            }
            _ => {}
        }
    }
}
