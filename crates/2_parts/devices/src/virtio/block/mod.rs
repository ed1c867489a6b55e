//! Disks: virtio block devices over [`disk::Image`] (virtio 1.2, section 5.2).
//!
//! Each queue has a worker. Requests run one after the other, or many at once where the kernel's I/O rings may be used. A request that
//! finds the host's disk full is held; it is tried again when the machine is resumed.

mod execute;
mod inplace;
mod request;
mod uring;
mod worker;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::Image;
use fault::Result;
use serde::{Deserialize, Serialize};

use super::queue::Chain;
use super::{Activation, Troubles, VirtioDevice, read_structure};
use crate::Saved;
use crate::work::{Crew, Job};
use worker::{Disk, Worker};

pub use execute::Method;

/// Feature bits (section 5.2.3).
mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

const QUEUE_SIZE: u16 = 256;
/// Most buffers of data in a request: a full ring without header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Where `writeback` lies in the configuration.
const WRITEBACK: u64 = 32;

/// A disk.
pub struct Block {
    disk: Arc<Disk>,
    jobs: Vec<Job<Worker>>,
    features: u64,
}

#[derive(Serialize, Deserialize)]
struct State {
    writeback: bool,
    queues: Vec<QueueState>,
}

#[derive(Serialize, Deserialize)]
struct QueueState {
    /// Requests that found the host's disk full.
    held: Vec<Chain>,
    stalled: bool,
    deadline: Option<u64>,
}

impl Block {
    /// A disk with so many queues. `serial` is cut to 20 bytes.
    ///
    /// # Errors
    /// When the host refuses threads or descriptors.
    pub fn new(
        name: &str,
        image: Arc<dyn Image>,
        queues: u16,
        serial: &str,
        method: Method,
        crew: &Crew,
        troubles: Arc<dyn Troubles>,
    ) -> io::Result<Self> {
        let mut id = [0; 20];
        let len = serial.len().min(id.len());
        id[..len].copy_from_slice(&serial.as_bytes()[..len]);
        let disk = Arc::new(Disk {
            name: name.to_owned(),
            image,
            serial: id,
            writeback: AtomicBool::new(true),
            troubles,
        });
        // Completions of a ring come when they come: not for a machine that shall do the same every time.
        let method = if crew.is_counting() {
            Method::OneByOne
        } else {
            method
        };
        let jobs = (0..queues.clamp(1, 64))
            .map(|n| crew.hire(&format!("{name}.{n}"), Worker::new(Arc::clone(&disk), method)?))
            .collect::<io::Result<_>>()?;
        Ok(Block {
            disk,
            jobs,
            features: 0,
        })
    }

    /// The configuration structure (section 5.2.4).
    fn structure(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &(self.disk.image.size() / disk::SECTOR).to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        put(20, &(disk::SECTOR as u32).to_le_bytes());
        put(24, &[3, 0]); // 8 logical blocks are a physical one
        put(26, &8_u16.to_le_bytes());
        put(32, &[u8::from(self.disk.writeback.load(Ordering::Relaxed))]);
        put(34, &(self.jobs.len() as u16).to_le_bytes());
        put(36, &request::MOST_DISCARDED.to_le_bytes());
        put(40, &request::MOST_RANGES.to_le_bytes());
        put(44, &8_u32.to_le_bytes());
        put(48, &request::MOST_ZEROED.to_le_bytes());
        put(52, &request::MOST_RANGES.to_le_bytes());
        put(56, &[1]);
        bytes
    }

    /// Without the driver's word on write-back it follows from the flush feature (section 5.2.6.2).
    fn initial_writeback(&self) -> bool {
        self.features & feature::FLUSH != 0
    }
}

impl VirtioDevice for Block {
    fn name(&self) -> &str {
        &self.disk.name
    }

    fn id(&self) -> u16 {
        2
    }

    fn class(&self) -> u32 {
        0x01_00_00
    }

    fn features(&self) -> u64 {
        use feature::*;
        let mut bits = SEG_MAX | BLK_SIZE | TOPOLOGY | FLUSH | CONFIG_WCE;
        if self.jobs.len() > 1 {
            bits |= MQ;
        }
        bits | if self.disk.image.read_only() {
            RO
        } else {
            DISCARD | WRITE_ZEROES
        }
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.jobs.len()]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_structure(&self.structure(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if offset == WRITEBACK && data.len() == 1 && self.features & feature::CONFIG_WCE != 0 {
            self.disk.writeback.store(data[0] & 1 != 0, Ordering::SeqCst);
        }
    }

    fn activate(&mut self, activation: Activation) {
        self.features = activation.features;
        let writeback = self.initial_writeback();
        self.disk.writeback.store(writeback, Ordering::SeqCst);
        for (number, job) in (0..).zip(&self.jobs) {
            job.worker().lane = activation.lane(number);
        }
    }

    fn notify(&mut self, queue: u16) {
        if let Some(job) = self.jobs.get(usize::from(queue)) {
            job.ring();
        }
    }

    fn doorbell(&self, queue: u16) -> Option<BorrowedFd<'_>> {
        self.jobs.get(usize::from(queue))?.doorbell()
    }

    fn pause(&mut self) {
        self.jobs.iter().for_each(Job::pause);
    }

    fn resume(&mut self) {
        for job in &self.jobs {
            let stalled = std::mem::take(&mut job.worker().stalled);
            job.resume();
            if stalled {
                job.ring();
            }
        }
    }

    fn deactivate(&mut self) {
        self.features = 0;
        self.disk.writeback.store(true, Ordering::SeqCst);
        for job in &self.jobs {
            job.worker().stop();
            job.set_deadline(None);
        }
    }

    fn save(&self) -> Result<Saved> {
        let queue = |job: &Job<Worker>| {
            let worker = job.worker();
            QueueState {
                held: worker.held.clone(),
                stalled: worker.stalled,
                deadline: job.deadline(),
            }
        };
        let state = State {
            writeback: self.disk.writeback.load(Ordering::SeqCst),
            queues: self.jobs.iter().map(queue).collect(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        self.disk.writeback.store(state.writeback, Ordering::SeqCst);
        for (job, queue) in self.jobs.iter().zip(state.queues) {
            let mut worker = job.worker();
            worker.held = queue.held;
            worker.forget_foreign();
            worker.stalled = queue.stalled;
            drop(worker);
            job.set_deadline(queue.deadline);
        }
        Ok(())
    }
}
