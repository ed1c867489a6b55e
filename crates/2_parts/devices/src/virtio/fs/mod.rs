//! Directories of the host in a guest: the virtio file system device (virtio 1.2, section 5.11).
//!
//! ```text
//! queues ─▶ Worker ─▶ FuseServer ─┬─ Passthrough       (in this process)
//!                                 └─ Remote ─▶ serve()  (a confined process, over a socket) ─▶ Passthrough
//! ```
//!
//! The device carries FUSE messages and knows nothing of files; a [`FuseServer`] answers them.

mod file;
mod names;
mod nodes;
mod passthrough;
mod remote;
mod wire;

use std::io;
use std::os::fd::BorrowedFd;

use fault::Result;
use guestmem::Block;
use serde::{Deserialize, Serialize};

use super::queue::Chain;
use super::{Activation, Lane, Step, VirtioDevice, read_structure};
use crate::Saved;
use crate::work::{self, Crew, Job};

pub use passthrough::Passthrough;
pub use remote::{Remote, serve};

/// Most bytes of data in a message.
pub const MOST_DATA: usize = 128 << 10;
/// Most bytes of a message.
pub const MOST_MESSAGE: usize = MOST_DATA + 4096;

/// Answers FUSE requests.
pub trait FuseServer: Send {
    /// Answers a request: appends the answer, of at most `room` bytes, to the empty `answer`. Some requests have none.
    fn answer(&mut self, request: &[u8], answer: &mut Vec<u8>, room: usize);

    /// Forgets everything that the guest had looked up and opened: its driver begins anew.
    fn reset(&mut self);

    /// What the guest has looked up and opened.
    ///
    /// # Errors
    /// When the server is gone.
    fn save(&mut self) -> Result<Saved>;

    /// Looks up and opens again what was saved. What is not there any more fails when it is used.
    ///
    /// # Errors
    /// When the state does not fit, or the server is gone.
    fn restore(&mut self, saved: &Saved) -> Result<()>;
}

/// A file system device.
pub struct Fs {
    name: String,
    tag: [u8; 36],
    job: Job<Worker>,
    has_state: bool,
}

struct Worker {
    /// Forgets and interrupts; requests.
    lanes: [Option<Lane>; 2],
    server: Box<dyn FuseServer>,
    request: Vec<u8>,
    answer: Vec<u8>,
    more: bool,
}

#[derive(Serialize, Deserialize)]
struct State {
    server: Option<Saved>,
    deadline: Option<u64>,
}

/// One request.
fn carry(
    chain: &Chain,
    block: &Block,
    server: &mut dyn FuseServer,
    request: &mut [u8],
    answer: &mut Vec<u8>,
) -> Step {
    let mut reader = chain.reader(block);
    answer.clear();
    // What is larger than any request gets no answer: its sender is not a driver.
    if reader.left() <= request.len() as u64 {
        let len = reader.read(request);
        let room = chain.writable_len().min(MOST_MESSAGE as u64) as usize;
        server.answer(&request[..len], answer, room);
    }
    let mut writer = chain.writer(block);
    writer.write(answer);
    Step::Used(writer.written())
}

impl work::Worker for Worker {
    fn work(&mut self) {
        self.more = false;
        let (server, request, answer) = (&mut *self.server, &mut self.request, &mut self.answer);
        for lane in self.lanes.iter_mut().flatten() {
            self.more |= lane.serve(|chain, block| carry(chain, block, server, request, answer));
        }
    }

    fn has_more(&self) -> bool {
        self.more
    }
}

impl Fs {
    /// A file system that the guest mounts by this tag (at most 36 bytes).
    ///
    /// # Errors
    /// When the host refuses a thread or descriptor, or the tag is too long or empty.
    pub fn new(name: &str, tag: &str, server: Box<dyn FuseServer>, crew: &Crew) -> io::Result<Self> {
        if !(1..=36).contains(&tag.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = [0; 36];
        bytes[..tag.len()].copy_from_slice(tag.as_bytes());
        let worker = Worker {
            lanes: [None, None],
            server,
            request: vec![0; MOST_MESSAGE],
            answer: Vec::new(),
            more: false,
        };
        Ok(Fs {
            name: name.to_owned(),
            tag: bytes,
            job: crew.hire(name, worker)?,
            has_state: false,
        })
    }
}

impl VirtioDevice for Fs {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u16 {
        26
    }

    fn class(&self) -> u32 {
        0x01_80_00
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![128; 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut bytes = [0; 40];
        bytes[..36].copy_from_slice(&self.tag);
        bytes[36] = 1;
        read_structure(&bytes, offset, data);
    }

    fn activate(&mut self, activation: Activation) {
        self.job.worker().lanes = [activation.lane(0), activation.lane(1)];
        self.has_state = true;
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
        let mut worker = self.job.worker();
        worker.lanes = [None, None];
        worker.more = false;
        worker.server.reset();
        drop(worker);
        self.job.set_deadline(None);
        self.has_state = false;
    }

    fn save(&self) -> Result<Saved> {
        let server = self.has_state.then(|| self.job.worker().server.save());
        let state = State {
            server: server.transpose()?,
            deadline: self.job.deadline(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        if let Some(server) = &state.server {
            self.job.worker().server.restore(server)?;
        }
        self.job.set_deadline(state.deadline);
        Ok(())
    }
}
