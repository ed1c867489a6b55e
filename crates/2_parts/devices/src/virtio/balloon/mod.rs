//! Memory that a guest gives back: the virtio balloon with statistics and reporting of free pages (virtio 1.2, section 5.5).

mod worker;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fault::Result;
use serde::{Deserialize, Serialize};

use super::queue::Chain;
use super::{Activation, Notify, VirtioDevice, read_structure};
use crate::Saved;
use crate::work::{Crew, Job};
use worker::Worker;

const STATS: u64 = 1 << 1;
const DEFLATE_ON_OOM: u64 = 1 << 2;
const REPORTING: u64 = 1 << 5;
/// Bytes of a balloon's page.
const PAGE: u64 = 4096;

/// What a guest says of its memory; bytes, or counts since it started. What it does not say is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Read back from swap.
    pub swap_in: Option<u64>,
    /// Written to swap.
    pub swap_out: Option<u64>,
    /// Page faults that had to read a disk.
    pub major_faults: Option<u64>,
    /// Other page faults.
    pub minor_faults: Option<u64>,
    /// Unused memory.
    pub free: Option<u64>,
    /// All memory.
    pub total: Option<u64>,
    /// What new programs could have.
    pub available: Option<u64>,
    /// Caches of files.
    pub caches: Option<u64>,
}

/// What the device and its worker share.
#[derive(Default)]
struct Shared {
    stats: Mutex<Stats>,
    /// Somebody wants to know new statistics.
    asked: AtomicBool,
}

impl Shared {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A balloon.
pub struct Balloon {
    name: String,
    shared: Arc<Shared>,
    job: Job<Worker>,
    notify: Option<Arc<dyn Notify>>,
    /// Pages that the guest shall give.
    target: u32,
    /// Pages that it says it has given.
    actual: u32,
    generation: u8,
}

#[derive(Serialize, Deserialize)]
struct State {
    target: u32,
    actual: u32,
    stats: Stats,
    asked: bool,
    /// The request that statistics come in, kept until new ones are wanted.
    kept: Option<Chain>,
    deadline: Option<u64>,
}

impl Balloon {
    /// An empty balloon.
    ///
    /// # Errors
    /// When the host refuses a thread or descriptor.
    pub fn new(name: &str, crew: &Crew) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        Ok(Balloon {
            name: name.to_owned(),
            job: crew.hire(name, Worker::new(Arc::clone(&shared)))?,
            shared,
            notify: None,
            target: 0,
            actual: 0,
            generation: 0,
        })
    }

    /// Asks the guest to give so many bytes in all.
    pub fn set_target(&mut self, bytes: u64) {
        self.target = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        self.generation = self.generation.wrapping_add(1);
        if let Some(notify) = &self.notify {
            notify.config_changed();
        }
    }

    /// Bytes that the guest says it has given.
    #[must_use]
    pub fn actual(&self) -> u64 {
        u64::from(self.actual) * PAGE
    }

    /// The last statistics that the guest has sent.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.shared.stats()
    }

    /// Asks the guest for new statistics.
    pub fn ask_stats(&self) {
        self.shared.asked.store(true, Ordering::SeqCst);
        self.job.ring();
    }
}

impl VirtioDevice for Balloon {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u16 {
        5
    }

    fn class(&self) -> u32 {
        0x00_ff_00
    }

    fn features(&self) -> u64 {
        STATS | DEFLATE_ON_OOM | REPORTING
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![128; 4]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.target.to_le_bytes());
        bytes[4..].copy_from_slice(&self.actual.to_le_bytes());
        read_structure(&bytes, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (4, Ok(bytes)) = (offset, data.try_into()) {
            self.actual = u32::from_le_bytes(bytes);
        }
    }

    fn generation(&self) -> u8 {
        self.generation
    }

    fn activate(&mut self, activation: Activation) {
        let mut worker = self.job.worker();
        worker.inflate = activation.lane(0);
        worker.deflate = activation.lane(1);
        // Queues that were not agreed on have no number (Linux, QEMU; section 5.5.2 leaves it open).
        let mut next = 2;
        if activation.has(STATS) {
            worker.stats = activation.lane(next);
            next += 1;
        }
        if activation.has(REPORTING) {
            worker.reporting = activation.lane(next);
        }
        drop(worker);
        self.notify = Some(activation.notify);
    }

    fn notify(&mut self, _queue: u16) {
        self.job.ring();
    }

    fn doorbell(&self, _queue: u16) -> Option<BorrowedFd<'_>> {
        self.job.doorbell()
    }

    fn pause(&mut self) {
        self.job.pause();
    }

    fn resume(&mut self) {
        self.job.resume();
    }

    fn deactivate(&mut self) {
        self.job.worker().stop();
        self.job.set_deadline(None);
        self.notify = None;
        self.actual = 0;
        *self.shared.stats() = Stats::default();
    }

    fn save(&self) -> Result<Saved> {
        let state = State {
            target: self.target,
            actual: self.actual,
            stats: self.stats(),
            asked: self.shared.asked.load(Ordering::SeqCst),
            kept: self.job.worker().kept.clone(),
            deadline: self.job.deadline(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        (self.target, self.actual) = (state.target, state.actual);
        *self.shared.stats() = state.stats;
        self.shared.asked.store(state.asked, Ordering::SeqCst);
        self.job.worker().keep(state.kept);
        self.job.set_deadline(state.deadline);
        Ok(())
    }
}
