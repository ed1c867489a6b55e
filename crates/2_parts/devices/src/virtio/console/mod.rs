//! Consoles and other streams of bytes: the virtio console device with several named ports (virtio 1.2, section 5.3).

mod port;
mod worker;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fault::Result;
use serde::{Deserialize, Serialize};

use super::{Activation, Notify, VirtioDevice, read_structure};
use crate::Saved;
use crate::work::{Crew, Job};
use worker::{Line, Worker, WorkerState};

pub use port::{Feed, Feeder, Port, Sink, Stream};

const SIZE: u64 = 1;
const MULTIPORT: u64 = 1 << 1;
const QUEUE_SIZE: u16 = 64;
/// Most ports of a device.
const MOST_PORTS: usize = 30;

/// One port as its machine wants it.
pub struct Setup {
    /// The name under which the guest finds it in `/dev/virtio-ports`; none for a console.
    pub name: Option<String>,
    /// The host's side.
    pub port: Box<dyn Port>,
}

/// What the device and its worker share.
#[derive(Default)]
struct Shared {
    /// Columns and rows of the consoles.
    size: Mutex<(u16, u16)>,
    resized: AtomicBool,
    generation: AtomicU8,
}

impl Shared {
    fn size(&self) -> (u16, u16) {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A console device.
pub struct Console {
    name: String,
    shared: Arc<Shared>,
    ports: usize,
    multiport: bool,
    job: Job<Worker>,
    notify: Option<Arc<dyn Notify>>,
}

#[derive(Serialize, Deserialize)]
struct State {
    size: (u16, u16),
    worker: WorkerState,
    deadline: Option<u64>,
}

impl Console {
    /// A device with these ports, of which port 0 is a console (`hvc0`).
    ///
    /// # Errors
    /// When the host refuses a thread or descriptor, or there are no ports, or too many.
    pub fn new(name: &str, ports: Vec<Setup>, crew: &Crew) -> io::Result<Self> {
        if !(1..=MOST_PORTS).contains(&ports.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let multiport = ports.len() > 1 || ports[0].name.is_some();
        let shared = Arc::new(Shared::default());
        *shared.size.lock().unwrap_or_else(PoisonError::into_inner) = (80, 24);
        let count = ports.len();
        let lines: Vec<Line> = ports.into_iter().map(Line::new).collect();
        let job = crew.hire(name, Worker::new(Arc::clone(&shared), lines))?;
        for line in &mut job.worker().lines {
            line.port.wake_by(job.bell());
        }
        Ok(Console {
            name: name.to_owned(),
            shared,
            ports: count,
            multiport,
            job,
            notify: None,
        })
    }

    /// Says how large the terminal of the consoles is.
    pub fn set_size(&mut self, columns: u16, rows: u16) {
        *self.shared.size.lock().unwrap_or_else(PoisonError::into_inner) = (columns, rows);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        self.shared.resized.store(true, Ordering::SeqCst);
        if let Some(notify) = &self.notify {
            notify.config_changed();
        }
        self.job.ring();
    }
}

/// Queues of a port: to the guest, from the guest (section 5.3.2).
fn queues(port: u16) -> (u16, u16) {
    if port == 0 {
        (0, 1)
    } else {
        (2 * port + 2, 2 * port + 3)
    }
}

impl VirtioDevice for Console {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u16 {
        3
    }

    fn class(&self) -> u32 {
        0x07_80_00
    }

    fn features(&self) -> u64 {
        SIZE | if self.multiport { MULTIPORT } else { 0 }
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let pairs = if self.multiport { self.ports + 1 } else { 1 };
        vec![QUEUE_SIZE; 2 * pairs]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let (columns, rows) = self.shared.size();
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&columns.to_le_bytes());
        bytes[2..4].copy_from_slice(&rows.to_le_bytes());
        bytes[4..].copy_from_slice(&(self.ports as u32).to_le_bytes());
        read_structure(&bytes, offset, data);
    }

    fn generation(&self) -> u8 {
        self.shared.generation.load(Ordering::SeqCst)
    }

    fn activate(&mut self, activation: Activation) {
        let multiport = activation.has(MULTIPORT);
        let mut worker = self.job.worker();
        for (number, line) in (0..).zip(&mut worker.lines) {
            if number > 0 && !multiport {
                break;
            }
            let (to, from) = queues(number);
            line.to_guest = activation.lane(to);
            line.from_guest = activation.lane(from);
            line.set_open(!multiport);
        }
        if multiport {
            worker.control_to_guest = activation.lane(2);
            worker.control_from_guest = activation.lane(3);
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
    }

    fn save(&self) -> Result<Saved> {
        let state = State {
            size: self.shared.size(),
            worker: self.job.worker().save(),
            deadline: self.job.deadline(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        *self.shared.size.lock().unwrap_or_else(PoisonError::into_inner) = state.size;
        self.job.worker().restore(state.worker);
        self.job.set_deadline(state.deadline);
        Ok(())
    }
}
