//! What every virtio transport has: status, feature negotiation, queue set-up, reset; as the registers of the common configuration
//! structure (virtio 1.2, section 4.1.4.3).

use std::sync::{Arc, Mutex, PoisonError};

use fault::{Fault, Result};
use guestmem::Memory;
use serde::{Deserialize, Serialize};

use super::queue::{Layout, Options, Position, Queue};
use super::{Activation, Notify, SharedQueue, VirtioDevice, features};
use crate::Saved;
use crate::state::STATE_UNFIT;

/// Bits of the device status (section 2.1).
pub mod status {
    /// The driver knows how to drive the device.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on without a reset.
    pub const NEEDS_RESET: u8 = 64;
}

/// A queue as the driver sets it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    layout: Layout,
    enabled: bool,
}

/// What is saved of a transport and the device behind it.
#[derive(Serialize, Deserialize)]
pub struct TransportState {
    status: u8,
    device_select: u32,
    driver_select: u32,
    driver_features: u64,
    queue_select: u16,
    slots: Vec<Slot>,
    positions: Vec<Option<Position>>,
    device: Saved,
}

/// One device and what its driver has set up.
pub struct Transport<D> {
    device: D,
    memory: Memory,
    notify: Arc<dyn Notify>,
    status: u8,
    device_select: u32,
    driver_select: u32,
    driver_features: u64,
    queue_select: u16,
    sizes: Vec<u16>,
    slots: Vec<Slot>,
    queues: Vec<Option<SharedQueue>>,
    paused: bool,
    active: bool,
}

impl<D: VirtioDevice> Transport<D> {
    /// A device as after power-on.
    pub fn new(device: D, memory: Memory, notify: Arc<dyn Notify>) -> Self {
        let sizes = device.queue_sizes();
        let mut transport = Transport {
            device,
            memory,
            notify,
            status: 0,
            device_select: 0,
            driver_select: 0,
            driver_features: 0,
            queue_select: 0,
            slots: Vec::new(),
            queues: Vec::new(),
            sizes,
            paused: false,
            active: false,
        };
        transport.reset();
        transport
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Number of queues.
    pub fn queue_count(&self) -> u16 {
        self.sizes.len() as u16
    }

    /// The device status, without [`status::NEEDS_RESET`].
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Which queue the driver looks at.
    pub fn queue_select(&self) -> u16 {
        self.queue_select
    }

    /// Features offered.
    pub fn offered(&self) -> u64 {
        use features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, VERSION_1};
        self.device.features() | VERSION_1 | INDIRECT_DESC | EVENT_IDX | RING_PACKED
    }

    /// Everything as after power-on.
    pub fn reset(&mut self) {
        if self.active {
            self.device.pause();
            self.device.deactivate();
            self.active = false;
        }
        self.status = 0;
        self.device_select = 0;
        self.driver_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        let slot = |&size| Slot {
            layout: Layout {
                size,
                ..Layout::default()
            },
            enabled: false,
        };
        self.slots = self.sizes.iter().map(slot).collect();
        self.queues = vec![None; self.sizes.len()];
    }

    /// Reads a field: all but the interrupt vectors and `config_generation`, which the bus knows.
    pub fn read(&self, offset: u64) -> u64 {
        let slot = self.slots.get(usize::from(self.queue_select));
        let half = |features: u64, select: u32| match select {
            0 => features & 0xffff_ffff,
            1 => features >> 32,
            _ => 0,
        };
        let field = |get: fn(&Slot) -> u64| slot.map_or(0, get);
        match offset {
            0 => u64::from(self.device_select),
            4 => half(self.offered(), self.device_select),
            8 => u64::from(self.driver_select),
            12 => half(self.driver_features, self.driver_select),
            18 => u64::from(self.queue_count()),
            20 => u64::from(self.status),
            21 => u64::from(self.device.generation()),
            22 => u64::from(self.queue_select),
            24 => field(|slot| u64::from(slot.layout.size)),
            28 => field(|slot| u64::from(slot.enabled)),
            30 => slot.map_or(0, |_| u64::from(self.queue_select)),
            32 => field(|slot| slot.layout.descriptors),
            40 => field(|slot| slot.layout.driver),
            48 => field(|slot| slot.layout.device),
            56 => slot.map_or(0, |_| u64::from(self.queue_select)),
            _ => 0,
        }
    }

    /// Writes a field in its own width. What may not be written now is left as it is.
    pub fn write(&mut self, offset: u64, value: u64) {
        match offset {
            0 => self.device_select = value as u32,
            8 => self.driver_select = value as u32,
            12 => self.set_features(value as u32),
            20 => self.set_status(value as u8),
            22 => self.queue_select = value as u16,
            24..=55 => self.set_queue(offset, value),
            _ => {}
        }
    }

    fn set_features(&mut self, value: u32) {
        if self.status & status::FEATURES_OK != 0 {
            return;
        }
        let shift = match self.driver_select {
            0 => 0,
            1 => 32,
            _ => return,
        };
        self.driver_features &= !(0xffff_ffff << shift);
        self.driver_features |= u64::from(value) << shift;
    }

    fn set_queue(&mut self, offset: u64, value: u64) {
        if self.status & status::DRIVER_OK != 0 {
            return;
        }
        let Some(slot) = self.slots.get_mut(usize::from(self.queue_select)) else {
            return;
        };
        if slot.enabled {
            return;
        }
        let most = self.sizes[usize::from(self.queue_select)];
        match offset {
            24 if (1..=u64::from(most)).contains(&value) => slot.layout.size = value as u16,
            28 => slot.enabled = value == 1,
            32 => slot.layout.descriptors = value,
            40 => slot.layout.driver = value,
            48 => slot.layout.device = value,
            _ => {}
        }
    }

    fn set_status(&mut self, value: u8) {
        if value == 0 {
            self.reset();
            return;
        }
        let mut new = self.status | value & !status::NEEDS_RESET;
        let agreed =
            self.driver_features & !self.offered() == 0 && self.driver_features & features::VERSION_1 != 0;
        if self.status & status::FEATURES_OK == 0 && !agreed {
            new &= !status::FEATURES_OK;
        }
        if new & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        let ready = new & !self.status & status::DRIVER_OK != 0;
        self.status = new;
        if ready {
            let positions = vec![None; self.slots.len()];
            self.activate(&positions);
        }
    }

    /// Makes the queues and hands them to the device. Queues that cannot be leave the device in need of a reset.
    fn activate(&mut self, positions: &[Option<Position>]) {
        let options = Options {
            packed: self.driver_features & features::RING_PACKED != 0,
            event_idx: self.driver_features & features::EVENT_IDX != 0,
            indirect: self.driver_features & features::INDIRECT_DESC != 0,
        };
        self.queues = vec![None; self.slots.len()];
        for (number, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.enabled) {
            let made = match positions.get(number).copied().flatten() {
                Some(at) => Queue::at(&self.memory, &slot.layout, options, at),
                None => Queue::new(&self.memory, &slot.layout, options),
            };
            match made {
                Ok(queue) => self.queues[number] = Some(Arc::new(Mutex::new(queue))),
                Err(why) => {
                    self.notify.broken(number as u16, why);
                    return;
                }
            }
        }
        self.device.activate(Activation {
            features: self.driver_features,
            queues: self.queues.clone(),
            notify: Arc::clone(&self.notify),
        });
        self.active = true;
        if !self.paused {
            self.device.resume();
        }
    }

    /// The driver has rung a queue's doorbell.
    pub fn notify(&mut self, queue: u16) {
        if self.active && self.queues.get(usize::from(queue)).is_some_and(Option::is_some) {
            self.device.notify(queue);
        }
    }

    /// The driver reads the device's own configuration.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    /// The driver writes the device's own configuration.
    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    /// Returns when nothing is under way any more.
    pub fn pause(&mut self) {
        if !self.paused && self.active {
            self.device.pause();
        }
        self.paused = true;
    }

    /// Goes on.
    pub fn resume(&mut self) {
        if self.paused && self.active {
            self.device.resume();
        }
        self.paused = false;
    }

    /// Its state, while paused.
    ///
    /// # Errors
    /// When the device's state cannot be told.
    pub fn save(&self) -> Result<TransportState> {
        let position = |queue: &Option<SharedQueue>| {
            let queue = queue.as_ref()?;
            Some(queue.lock().unwrap_or_else(PoisonError::into_inner).position())
        };
        Ok(TransportState {
            status: self.status,
            device_select: self.device_select,
            driver_select: self.driver_select,
            driver_features: self.driver_features,
            queue_select: self.queue_select,
            slots: self.slots.clone(),
            positions: self.queues.iter().map(position).collect(),
            device: self.device.save()?,
        })
    }

    /// Puts a saved state in place, while paused.
    ///
    /// # Errors
    /// When it is not of such a device.
    pub fn restore(&mut self, state: &TransportState) -> Result<()> {
        let unfit = || Fault::new(STATE_UNFIT);
        if state.slots.len() != self.slots.len() || state.positions.len() != self.slots.len() {
            return Err(unfit().because_of("another number of queues"));
        }
        if state.driver_features & !self.offered() != 0 && state.status & status::FEATURES_OK != 0 {
            return Err(unfit().because_of("features that the device does not have"));
        }
        self.reset();
        self.status = state.status;
        self.device_select = state.device_select;
        self.driver_select = state.driver_select;
        self.driver_features = state.driver_features;
        self.queue_select = state.queue_select;
        self.slots.clone_from(&state.slots);
        if self.status & status::DRIVER_OK != 0 {
            self.activate(&state.positions);
        }
        self.device.restore(&state.device)
    }
}
