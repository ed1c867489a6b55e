//! Randomness: the virtio entropy device (virtio 1.2, section 5.4).

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fault::Result;
use vcpu::time::Random;

use super::{Activation, Lane, Step, VirtioDevice};
use crate::Saved;
use crate::work::{self, Crew, Job};

/// Most bytes for one request; the driver asks again.
const MOST: usize = 4096;

/// A source of randomness.
pub struct Rng {
    name: String,
    job: Job<Worker>,
}

struct Worker {
    lane: Option<Lane>,
    random: Arc<dyn Random>,
    more: bool,
}

impl work::Worker for Worker {
    fn work(&mut self) {
        let random = &self.random;
        self.more = self.lane.as_mut().is_some_and(|lane| {
            lane.serve_quickly(|chain, block| {
                let mut bytes = [0; MOST];
                let mut writer = chain.writer(block);
                let len = writer.left().min(MOST as u64) as usize;
                random.fill(&mut bytes[..len]);
                writer.write(&bytes[..len]);
                Step::Used(writer.written())
            })
        });
    }

    fn has_more(&self) -> bool {
        self.more
    }
}

impl Rng {
    /// A device that hands on this randomness.
    ///
    /// # Errors
    /// When the host refuses a thread or descriptor.
    pub fn new(name: &str, random: Arc<dyn Random>, crew: &Crew) -> io::Result<Self> {
        let worker = Worker {
            lane: None,
            random,
            more: false,
        };
        Ok(Rng {
            name: name.to_owned(),
            job: crew.hire(name, worker)?,
        })
    }
}

impl VirtioDevice for Rng {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u16 {
        4
    }

    fn class(&self) -> u32 {
        0x00_ff_00
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64]
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, activation: Activation) {
        self.job.worker().lane = activation.lane(0);
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
        self.job.worker().lane = None;
        self.job.set_deadline(None);
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.job.deadline())
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.job.set_deadline(saved.fields(1)?);
        Ok(())
    }
}
