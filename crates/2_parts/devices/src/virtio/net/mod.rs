//! Network adapters: virtio net over a tap or a datagram socket (virtio 1.2, section 5.1).
//!
//! Each pair of queues has a worker; the first serves the control queue too. Offloads go through: the tap takes and gives packets
//! with the header that the guest's driver knows, larger than the wire allows and without checksums where both sides agree.

mod backend;
mod control;
mod tap;
mod worker;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fault::Result;
use serde::{Deserialize, Serialize};

use super::{Activation, Notify, VirtioDevice, read_structure};
use crate::Saved;
use crate::work::{Bell, Crew, Job};
use control::Filter;
use worker::Worker;

pub use backend::{Datagrams, Interface, NetControl, NetQueue};
pub use tap::Tap;

/// Feature bits (section 5.1.3).
pub mod feature {
    /// The device takes packets without checksum.
    pub const CSUM: u64 = 1;
    /// The driver takes packets without checksum.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The driver may change its offloads while running.
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    /// The device tells its largest packet.
    pub const MTU: u64 = 1 << 3;
    /// The device has an address.
    pub const MAC: u64 = 1 << 5;
    /// The driver takes large TCP segments over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// The driver takes large TCP segments over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// The device takes large TCP segments over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// The device takes large TCP segments over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// Packets may be spread over several receive buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// The device tells whether the link is up.
    pub const STATUS: u64 = 1 << 16;
    /// There is a control queue.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// The control queue sets what is received.
    pub const CTRL_RX: u64 = 1 << 18;
    /// Several pairs of queues.
    pub const MQ: u64 = 1 << 22;
    /// The control queue sets the address.
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
}

const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;
/// Most pairs of queues.
const MOST_PAIRS: usize = 16;
/// Offloads that the driver's side may have.
const GUEST_OFFLOADS: u64 = feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::GUEST_TSO6;

/// What workers, control queue and device share.
struct Shared {
    control: Arc<dyn NetControl>,
    filter: Mutex<Filter>,
    /// Pairs that the driver uses.
    pairs: AtomicU16,
    /// Offloads of the driver's side in force, as feature bits.
    offloads: AtomicU64,
    features: AtomicU64,
    link: AtomicBool,
    generation: AtomicU8,
    /// The workers' bells, one for each pair.
    bells: OnceLock<Vec<Bell>>,
}

impl Shared {
    fn filter(&self) -> std::sync::MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, feature: u64) -> bool {
        self.features.load(Ordering::Relaxed) & feature != 0
    }

    fn set_offloads(&self, offloads: u64) {
        self.offloads.store(offloads, Ordering::SeqCst);
        self.control.set_offloads(offloads);
    }

    fn set_pairs(&self, pairs: u16) {
        self.pairs.store(pairs, Ordering::SeqCst);
        self.control.set_pairs(pairs);
    }

    /// Lets all workers look whether something has changed for them.
    fn ring_all(&self) {
        self.bells.get().into_iter().flatten().for_each(Bell::ring);
    }

    /// Pairs that there are.
    fn most_pairs(&self) -> u16 {
        self.bells.get().map_or(1, |bells| bells.len() as u16)
    }
}

/// A network adapter.
pub struct Net {
    name: String,
    shared: Arc<Shared>,
    mac: [u8; 6],
    mtu: Option<u16>,
    has_offloads: bool,
    jobs: Vec<Job<Worker>>,
    notify: Option<Arc<dyn Notify>>,
}

#[derive(Serialize, Deserialize)]
struct State {
    filter: Filter,
    pairs: u16,
    offloads: u64,
    link: bool,
    queues: Vec<QueueState>,
}

#[derive(Serialize, Deserialize)]
struct QueueState {
    /// A packet that has come and waits for buffers.
    waiting: Vec<u8>,
    deadline: Option<u64>,
}

impl Net {
    /// An adapter with a pair of queues for each queue of the interface (at most 16 are used).
    ///
    /// # Errors
    /// When the host refuses threads or descriptors, or the interface has no queue.
    pub fn new(
        name: &str,
        mac: [u8; 6],
        mtu: Option<u16>,
        interface: Interface,
        crew: &Crew,
    ) -> io::Result<Self> {
        if interface.queues.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let shared = Arc::new(Shared {
            control: interface.control,
            filter: Mutex::new(Filter::new(mac)),
            pairs: AtomicU16::new(1),
            offloads: AtomicU64::new(0),
            features: AtomicU64::new(0),
            link: AtomicBool::new(true),
            generation: AtomicU8::new(0),
            bells: OnceLock::new(),
        });
        let workers = interface.queues.into_iter().take(MOST_PAIRS).enumerate();
        let jobs: Vec<_> = workers
            .map(|(n, queue)| {
                crew.hire(
                    &format!("{name}.{n}"),
                    Worker::new(Arc::clone(&shared), n as u16, queue),
                )
            })
            .collect::<io::Result<_>>()?;
        let _ = shared.bells.set(jobs.iter().map(Job::bell).collect());
        shared.set_offloads(0);
        shared.set_pairs(1);
        Ok(Net {
            name: name.to_owned(),
            shared,
            mac,
            mtu,
            has_offloads: interface.has_offloads,
            jobs,
            notify: None,
        })
    }

    /// Says whether the cable is in.
    pub fn set_link(&mut self, up: bool) {
        if self.shared.link.swap(up, Ordering::SeqCst) == up {
            return;
        }
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        if let Some(notify) = &self.notify {
            notify.config_changed();
        }
        self.shared.ring_all();
    }

    /// The number of the control queue, which follows the pairs that the driver knows of (section 5.1.2).
    fn control_queue(&self) -> u16 {
        if self.shared.has(feature::MQ) {
            2 * self.jobs.len() as u16
        } else {
            2
        }
    }

    /// The job that serves a queue.
    fn job(&self, queue: u16) -> Option<&Job<Worker>> {
        if self.shared.has(feature::CTRL_VQ) && queue == self.control_queue() {
            return self.jobs.first();
        }
        self.jobs.get(usize::from(queue / 2))
    }
}

impl VirtioDevice for Net {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u16 {
        1
    }

    fn class(&self) -> u32 {
        0x02_00_00
    }

    fn features(&self) -> u64 {
        use feature::*;
        let mut bits = MAC | MRG_RXBUF | STATUS | CTRL_VQ | CTRL_RX | CTRL_MAC_ADDR;
        if self.mtu.is_some() {
            bits |= MTU;
        }
        if self.jobs.len() > 1 {
            bits |= MQ;
        }
        if self.has_offloads {
            bits |= CSUM | HOST_TSO4 | HOST_TSO6 | GUEST_OFFLOADS | CTRL_GUEST_OFFLOADS;
        }
        bits
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let mut sizes = vec![QUEUE_SIZE; 2 * self.jobs.len()];
        sizes.push(CONTROL_QUEUE_SIZE);
        sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&self.mac);
        bytes[6] = u8::from(self.shared.link.load(Ordering::SeqCst));
        bytes[8..10].copy_from_slice(&(self.jobs.len() as u16).to_le_bytes());
        bytes[10..].copy_from_slice(&self.mtu.unwrap_or(0).to_le_bytes());
        read_structure(&bytes, offset, data);
    }

    fn generation(&self) -> u8 {
        self.shared.generation.load(Ordering::SeqCst)
    }

    fn activate(&mut self, activation: Activation) {
        let features = activation.features;
        self.shared.features.store(features, Ordering::SeqCst);
        self.shared.set_offloads(features & GUEST_OFFLOADS);
        self.shared.set_pairs(1);
        let control = self.control_queue();
        for (pair, job) in (0..).zip(&self.jobs) {
            let mut worker = job.worker();
            if pair == 0 || activation.has(feature::MQ) {
                worker.receive = activation.lane(2 * pair);
                worker.transmit = activation.lane(2 * pair + 1);
            }
            if pair == 0 && activation.has(feature::CTRL_VQ) {
                worker.control = activation.lane(control);
            }
        }
        self.notify = Some(activation.notify);
    }

    fn notify(&mut self, queue: u16) {
        if let Some(job) = self.job(queue) {
            job.ring();
        }
    }

    fn doorbell(&self, queue: u16) -> Option<BorrowedFd<'_>> {
        // Which worker serves the third queue is known only when features are agreed on: its bell goes through the device.
        let certain = self.jobs.len() == 1 || queue != 2;
        let job = match usize::from(queue) {
            last if last == 2 * self.jobs.len() => self.jobs.first(),
            queue => self.jobs.get(queue / 2),
        };
        job.filter(|_| certain)?.doorbell()
    }

    fn pause(&mut self) {
        self.jobs.iter().for_each(Job::pause);
    }

    fn resume(&mut self) {
        self.jobs.iter().for_each(Job::resume);
    }

    fn deactivate(&mut self) {
        for job in &self.jobs {
            job.worker().stop();
            job.set_deadline(None);
        }
        self.notify = None;
        self.shared.features.store(0, Ordering::SeqCst);
        self.shared.set_offloads(0);
        self.shared.set_pairs(1);
        *self.shared.filter() = Filter::new(self.mac);
    }

    fn save(&self) -> Result<Saved> {
        let queue = |job: &Job<Worker>| QueueState {
            waiting: job.worker().waiting().to_vec(),
            deadline: job.deadline(),
        };
        let state = State {
            filter: self.shared.filter().clone(),
            pairs: self.shared.pairs.load(Ordering::SeqCst),
            offloads: self.shared.offloads.load(Ordering::SeqCst),
            link: self.shared.link.load(Ordering::SeqCst),
            queues: self.jobs.iter().map(queue).collect(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        *self.shared.filter() = state.filter;
        let pairs = state.pairs.clamp(1, self.jobs.len() as u16);
        self.shared.set_pairs(pairs);
        self.shared.set_offloads(state.offloads & GUEST_OFFLOADS);
        self.shared.link.store(state.link, Ordering::SeqCst);
        for (job, queue) in self.jobs.iter().zip(&state.queues) {
            job.worker().set_waiting(&queue.waiting);
            job.set_deadline(queue.deadline);
        }
        Ok(())
    }
}
