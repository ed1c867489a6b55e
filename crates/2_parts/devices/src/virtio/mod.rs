//! Virtio devices (OASIS virtio 1.2): what they have in common. Modern ones only, `VIRTIO_F_VERSION_1`.
//!
//! ```text
//! guest ─ registers ─▶ pci::VirtioPci ─▶ Transport ─▶ VirtioDevice      (the processor's thread, behind the device's lock)
//!       ─ rings ─────▶ Queue ◀─ Lane ◀─ Worker                           (a worker's thread, without the device's lock)
//!       ◀ interrupts ─ Notices ◀─ Lane                                   (any thread)
//! ```
//!
//! A worker never takes the lock of its device: the device waits for it to stand still while it holds that lock.

pub mod balloon;
pub mod block;
pub mod console;
pub mod fs;
pub mod lane;
pub mod net;
pub mod pci;
pub mod queue;
pub mod rng;
pub mod transport;
pub mod vsock;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use fault::Result;

use crate::Saved;
pub use lane::{Lane, Step};
pub use pci::{Doorbells, VirtioPci};
pub use queue::Queue;
pub use transport::Transport;

/// Feature bits of the rings and the transport (section 6).
pub mod features {
    /// Indirect descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Event indices, or event suppression at one descriptor.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Packed rings.
    pub const RING_PACKED: u64 = 1 << 34;
}

/// A queue as its worker and the transport share it. The transport touches it only while the device stands still.
pub type SharedQueue = Arc<Mutex<Queue>>;

/// How a device tells its driver something. Called from any thread.
pub trait Notify: Send + Sync {
    /// A queue has used buffers.
    fn used(&self, queue: u16);
    /// The device's configuration has changed.
    fn config_changed(&self);
    /// A queue makes no sense: the device needs a reset.
    fn broken(&self, queue: u16, why: queue::Broken);
}

/// What a device tells its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The host's disk is full: requests wait until the device is resumed.
    DiskFull {
        /// The device's name.
        device: String,
    },
    /// The host could not read or write a disk; the guest was told of an I/O error.
    DiskError {
        /// The device's name.
        device: String,
        /// What the host said.
        error: String,
    },
}

/// What takes a device's troubles: the machine. Called from workers' threads; it must not wait for the device.
pub trait Troubles: Send + Sync {
    /// There is trouble. A guest can provoke some of it as often as it likes.
    fn tell(&self, trouble: Trouble);
}

/// Everything that a driver has set up when it says `DRIVER_OK`.
pub struct Activation {
    /// The features agreed on.
    pub features: u64,
    /// The queues by number; the driver need not enable all.
    pub queues: Vec<Option<SharedQueue>>,
    /// How to tell the driver something.
    pub notify: Arc<dyn Notify>,
}

impl Activation {
    /// The lane of a queue, if the driver has enabled it.
    #[must_use]
    pub fn lane(&self, queue: u16) -> Option<Lane> {
        let shared = self.queues.get(usize::from(queue))?.as_ref()?;
        Some(Lane::new(Arc::clone(shared), queue, Arc::clone(&self.notify)))
    }

    /// Whether a feature was agreed on.
    #[must_use]
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }
}

/// One kind of virtio device, apart from its transport, which calls it in this order:
/// `activate` – `resume` – (`notify` | `pause` – `save` – `resume`)* – `pause` – `deactivate`.
pub trait VirtioDevice: Send {
    /// Its name, unique in its machine.
    fn name(&self) -> &str;

    /// Device ID (section 5).
    fn id(&self) -> u16;

    /// PCI class code: class, subclass, interface.
    fn class(&self) -> u32;

    /// Features of its own (bits 0 to 23, 50 to 127 apart: those below 64).
    fn features(&self) -> u64;

    /// Most entries of each of its queues.
    fn queue_sizes(&self) -> Vec<u16>;

    /// Reads its configuration; what lies behind it reads as zeros.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// The driver writes the configuration.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// Counts changes of the configuration that the driver did not make.
    fn generation(&self) -> u8 {
        0
    }

    /// The driver is ready. Work begins with [`VirtioDevice::resume`].
    fn activate(&mut self, activation: Activation);

    /// The driver has rung a queue's doorbell.
    fn notify(&mut self, queue: u16);

    /// The event descriptor that does the same as [`VirtioDevice::notify`].
    fn doorbell(&self, _queue: u16) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Returns when nothing is under way any more.
    fn pause(&mut self);

    /// Work begins, or goes on.
    fn resume(&mut self);

    /// Forgets the queues and what the driver has set; called while paused.
    fn deactivate(&mut self);

    /// What the driver and the work have made of it, apart from queues; while paused.
    ///
    /// # Errors
    /// When the state cannot be told.
    fn save(&self) -> Result<Saved>;

    /// Puts a saved state in place, while paused; after `activate` if the device was active.
    ///
    /// # Errors
    /// When the state does not fit.
    fn restore(&mut self, saved: &Saved) -> Result<()>;
}

/// Reads from a configuration structure; zeros behind its end.
pub(crate) fn read_structure(structure: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let from = usize::try_from(offset).map_or(structure.len(), |offset| offset.min(structure.len()));
    let there = &structure[from..];
    let len = there.len().min(data.len());
    data[..len].copy_from_slice(&there[..len]);
}
