//! Sockets between guest and host: the virtio socket device (virtio 1.2, section 5.10), streams only.
//!
//! The host's side of every connection is a Unix stream socket: one that [`VsockHost::accept`] gives when the guest connects to the
//! host (CID 2), or one half of a pair that [`Connector::connect`] makes. Connections do not outlive a restore: the guest's are then
//! reset.

mod connection;
mod packet;
mod worker;

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fault::Result;
use serde::{Deserialize, Serialize};

use super::{Activation, VirtioDevice, read_structure};
use crate::Saved;
use crate::work::{Bell, Crew, Job};
use packet::Packet;
use worker::Worker;

/// Most connections at once.
pub const MOST_CONNECTIONS: usize = 256;

/// The host, to which guests connect.
pub trait VsockHost: Send + Sync {
    /// The guest connects to a port of the host: the socket that shall be the host's side, or none to refuse. It must not wait.
    fn accept(&self, port: u32, guest_port: u32) -> Option<UnixStream>;
}

/// What the device, its worker and connectors share.
#[derive(Default)]
struct Shared {
    /// Connections that the host wants: the guest's port, our end.
    wanted: Mutex<Vec<(u32, UnixStream)>>,
    active: AtomicBool,
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Vec<(u32, UnixStream)>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to ports of the guest.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
    bell: Bell,
}

impl Connector {
    /// Connects to a port of the guest. What is written waits until the guest has accepted; if it refuses, the stream ends.
    ///
    /// # Errors
    /// `NotConnected` while the guest has no driver running, `ResourceBusy` when too many wait already, or the host's own.
    pub fn connect(&self, port: u32) -> io::Result<UnixStream> {
        if !self.shared.active.load(Ordering::SeqCst) {
            return Err(ErrorKind::NotConnected.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut wanted = self.shared.wanted();
        if wanted.len() >= MOST_CONNECTIONS {
            return Err(ErrorKind::ResourceBusy.into());
        }
        wanted.push((port, ours));
        drop(wanted);
        self.bell.ring();
        Ok(theirs)
    }
}

/// A socket device.
pub struct Vsock {
    name: String,
    cid: u32,
    shared: Arc<Shared>,
    job: Job<Worker>,
}

#[derive(Serialize, Deserialize)]
struct State {
    /// Connections were open, of which the guest must be told that they are gone.
    broken: bool,
    next_port: u32,
    answers: Vec<Packet>,
    deadline: Option<u64>,
}

impl Vsock {
    /// A device for the guest with this context identifier (3 or above).
    ///
    /// # Errors
    /// When the host refuses a thread or descriptor.
    pub fn new(name: &str, cid: u32, host: Arc<dyn VsockHost>, crew: &Crew) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Worker::new(u64::from(cid), host, Arc::clone(&shared));
        Ok(Vsock {
            name: name.to_owned(),
            cid,
            shared,
            job: crew.hire(name, worker)?,
        })
    }

    /// What connects to the guest, without the device's lock.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector {
            shared: Arc::clone(&self.shared),
            bell: self.job.bell(),
        }
    }
}

impl VirtioDevice for Vsock {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u16 {
        19
    }

    fn class(&self) -> u32 {
        0x07_80_00
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![128, 128, 16]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_structure(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, activation: Activation) {
        let mut worker = self.job.worker();
        worker.receive = activation.lane(0);
        worker.transmit = activation.lane(1);
        worker.events = activation.lane(2);
        self.shared.active.store(true, Ordering::SeqCst);
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
        self.shared.active.store(false, Ordering::SeqCst);
        self.shared.wanted().clear();
        self.job.worker().stop();
        self.job.set_deadline(None);
    }

    fn save(&self) -> Result<Saved> {
        let worker = self.job.worker();
        let state = State {
            broken: worker.has_connections(),
            next_port: worker.next_port,
            answers: worker.answers.iter().copied().collect(),
            deadline: self.job.deadline(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        let mut worker = self.job.worker();
        worker.begin_again(state.broken, state.next_port, state.answers);
        drop(worker);
        self.job.set_deadline(state.deadline);
        if state.broken {
            self.job.ring();
        }
        Ok(())
    }
}
