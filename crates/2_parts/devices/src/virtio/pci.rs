//! Virtio over PCI (virtio 1.2, section 4.1): one memory BAR with all structures, MSI-X or INTx, doorbells.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fault::Result;
use guestmem::Memory;
use serde::{Deserialize, Serialize};

use super::queue::Broken;
use super::transport::{Transport, TransportState, status};
use super::{Notify, VirtioDevice};
use crate::irq::{Line, Messages};
use crate::pci::config::ConfigState;
use crate::pci::{Bar, Config, Function, Identity, Intx, Msix};
use crate::{Access, Device, Registers, Saved};

/// The BAR that all structures lie in.
pub const BAR: u8 = 0;
/// Its length.
pub const BAR_SIZE: u32 = 0x8000;
const COMMON: u64 = 0;
const COMMON_SIZE: u64 = 64;
const ISR: u64 = 0x1000;
const CONFIG: u64 = 0x2000;
/// Where in the BAR the doorbells begin, four bytes each.
pub const DOORBELLS: u64 = 0x3000;
const MSIX_TABLE: u32 = 0x4000;
const MSIX_PENDING: u32 = 0x5000;
/// Most MSI-X vectors: the configuration's and one for each queue, where there are not too many.
const MOST_VECTORS: u16 = 128;
/// "No vector" in the vector registers.
const NO_VECTOR: u16 = 0xffff;

/// Fields of the common configuration structure (section 4.1.4.3): offset and width.
const FIELDS: [(u64, u64); 19] = [
    (0, 4),
    (4, 4),
    (8, 4),
    (12, 4),
    (16, 2),
    (18, 2),
    (20, 1),
    (21, 1),
    (22, 2),
    (24, 2),
    (26, 2),
    (28, 2),
    (30, 2),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 2),
    (58, 2),
    (60, 4),
];
const CONFIG_VECTOR: u64 = 16;
const DEVICE_STATUS: u64 = 20;
const QUEUE_VECTOR: u64 = 26;

/// Who lets a write to an address ring a doorbell without asking the bus: the virtual machine.
pub trait Doorbells: Send + Sync {
    /// From now on a write to this guest physical address only adds 1 to the event descriptor; `None` takes it back.
    fn set(&self, address: u64, event: Option<BorrowedFd<'_>>);
}

/// How a PCI function tells its driver something.
struct Notices {
    inner: Mutex<NoticesState>,
    intx: Intx,
    msix: Msix,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NoticesState {
    isr: u8,
    needs_reset: bool,
    config_vector: u16,
    vectors: Vec<u16>,
}

impl NoticesState {
    fn new(queues: u16) -> Self {
        NoticesState {
            isr: 0,
            needs_reset: false,
            config_vector: NO_VECTOR,
            vectors: vec![NO_VECTOR; usize::from(queues)],
        }
    }
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, NoticesState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, inner: &mut NoticesState, vector: u16, isr: u8) {
        if !self.msix.notify(vector) {
            inner.isr |= isr;
            self.intx.set(true);
        }
    }

    /// The driver reads the interrupt status, which clears it.
    fn take_isr(&self) -> u8 {
        let mut inner = self.lock();
        self.intx.set(false);
        std::mem::take(&mut inner.isr)
    }

    fn reset(&self) {
        let mut inner = self.lock();
        *inner = NoticesState::new(inner.vectors.len() as u16);
        self.intx.set(false);
    }
}

impl Notify for Notices {
    fn used(&self, queue: u16) {
        let mut inner = self.lock();
        let vector = inner.vectors.get(usize::from(queue)).copied();
        self.raise(&mut inner, vector.unwrap_or(NO_VECTOR), 1);
    }

    fn config_changed(&self) {
        let mut inner = self.lock();
        let vector = inner.config_vector;
        self.raise(&mut inner, vector, 2);
    }

    fn broken(&self, _queue: u16, _why: Broken) {
        let mut inner = self.lock();
        if !std::mem::replace(&mut inner.needs_reset, true) {
            let vector = inner.config_vector;
            self.raise(&mut inner, vector, 2);
        }
    }
}

/// What is saved of the function.
#[derive(Serialize, Deserialize)]
struct State {
    config: ConfigState,
    notices: NoticesState,
    transport: TransportState,
}

/// A virtio device as a PCI function.
pub struct VirtioPci<D> {
    transport: Transport<D>,
    notices: Arc<Notices>,
    config: Config,
    /// Offset of the capability through which configuration space gives access to the BAR (section 4.1.4.9).
    access: u16,
    doorbells: Option<Arc<dyn Doorbells>>,
    placed: Option<u64>,
}

fn capability(config: &mut Config, kind: u8, offset: u64, len: u64, more: &[u8], writable: &[u8]) -> u16 {
    let mut body = vec![16 + more.len() as u8, kind, BAR, 0, 0, 0];
    body.extend_from_slice(&(offset as u32).to_le_bytes());
    body.extend_from_slice(&(len as u32).to_le_bytes());
    body.extend_from_slice(more);
    config.capability(9, &body, writable)
}

impl<D: VirtioDevice + 'static> VirtioPci<D> {
    /// A function with pin INTA on this line. `doorbells` is none where every access shall pass the bus.
    pub fn new(
        device: D,
        memory: &Memory,
        line: Line,
        messages: Arc<dyn Messages>,
        doorbells: Option<Arc<dyn Doorbells>>,
    ) -> Arc<Mutex<Self>> {
        let queues = device.queue_sizes().len() as u16;
        let mut config = Config::new(Identity {
            vendor: 0x1af4,
            device: 0x1040 + device.id(),
            class: device.class(),
            revision: 1,
            subsystem: (0x1af4, 0x1100),
        })
        .bar(
            BAR,
            Bar::Memory32 {
                size: BAR_SIZE,
                prefetchable: false,
            },
        );
        let intx = config.intx(0, line);
        let vectors = (queues + 1).min(MOST_VECTORS);
        let msix = config.msix(vectors, BAR, MSIX_TABLE, MSIX_PENDING, messages);
        capability(&mut config, 1, COMMON, COMMON_SIZE, &[], &[]);
        capability(
            &mut config,
            2,
            DOORBELLS,
            4 * u64::from(queues),
            &4_u32.to_le_bytes(),
            &[],
        );
        capability(&mut config, 3, ISR, 1, &[], &[]);
        capability(&mut config, 4, CONFIG, 0x1000, &[], &[]);
        let writable = [
            0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        let access = capability(&mut config, 5, 0, 0, &[0; 4], &writable);
        let notices = Arc::new(Notices {
            inner: Mutex::new(NoticesState::new(queues)),
            intx,
            msix,
        });
        Arc::new(Mutex::new(VirtioPci {
            transport: Transport::new(device, memory.clone(), notices.clone()),
            notices,
            config,
            access,
            doorbells,
            placed: None,
        }))
    }

    /// The device behind it.
    pub fn device(&self) -> &D {
        self.transport.device()
    }

    /// The device behind it.
    pub fn device_mut(&mut self) -> &mut D {
        self.transport.device_mut()
    }

    fn field(&self, offset: u64) -> u64 {
        let notices = self.notices.lock();
        match offset {
            CONFIG_VECTOR => u64::from(notices.config_vector),
            QUEUE_VECTOR => {
                let queue = usize::from(self.transport.queue_select());
                u64::from(notices.vectors.get(queue).copied().unwrap_or(NO_VECTOR))
            }
            DEVICE_STATUS => {
                let broken = u8::from(notices.needs_reset) * status::NEEDS_RESET;
                u64::from(self.transport.status() | broken)
            }
            _ => self.transport.read(offset),
        }
    }

    fn read_common(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            let field = FIELDS
                .iter()
                .find(|(start, len)| (*start..start + len).contains(&at));
            *byte = field.map_or(0, |(start, _)| (self.field(*start) >> (8 * (at - start))) as u8);
        }
    }

    /// Fields are written whole, 64-bit ones also by halves; other writes are lost.
    fn write_common(&mut self, offset: u64, data: &[u8]) {
        let mut bytes = [0; 8];
        let len = data.len().min(8);
        bytes[..len].copy_from_slice(&data[..len]);
        let value = u64::from_le_bytes(bytes);
        let known = |start: u64, width: u64| FIELDS.contains(&(start, width));
        match len as u64 {
            4 if known(offset, 8) => {
                let old = self.field(offset);
                self.write_field(offset, old & !0xffff_ffff | value);
            }
            4 if offset >= 4 && known(offset - 4, 8) => {
                let old = self.field(offset - 4);
                self.write_field(offset - 4, old & 0xffff_ffff | value << 32);
            }
            width if known(offset, width) => self.write_field(offset, value),
            _ => {}
        }
    }

    fn write_field(&mut self, offset: u64, value: u64) {
        let vector = if value < u64::from(self.notices.msix.vectors()) {
            value as u16
        } else {
            NO_VECTOR
        };
        match offset {
            CONFIG_VECTOR => self.notices.lock().config_vector = vector,
            QUEUE_VECTOR => {
                let queue = usize::from(self.transport.queue_select());
                if let Some(slot) = self.notices.lock().vectors.get_mut(queue) {
                    *slot = vector;
                }
            }
            DEVICE_STATUS if value == 0 => {
                self.transport.reset();
                self.notices.reset();
            }
            _ => self.transport.write(offset, value),
        }
    }

    fn read_bar(&mut self, offset: u64, data: &mut [u8]) {
        match offset {
            COMMON..ISR => self.read_common(offset, data),
            ISR => {
                data.fill(0);
                if let Some(first) = data.first_mut() {
                    *first = self.notices.take_isr();
                }
            }
            CONFIG..DOORBELLS => self.transport.read_config(offset - CONFIG, data),
            _ => self.notices.msix.read(offset, data),
        }
    }

    fn write_bar(&mut self, offset: u64, data: &[u8]) {
        match offset {
            COMMON..ISR => self.write_common(offset, data),
            ISR..CONFIG => {}
            CONFIG..DOORBELLS => self.transport.write_config(offset - CONFIG, data),
            DOORBELLS..0x4000 => self.transport.notify(((offset - DOORBELLS) / 4) as u16),
            _ => self.notices.msix.write(offset, data),
        }
    }

    /// Where the access capability points and how wide: only to this function's BAR, naturally aligned.
    fn window(&self) -> Option<(u64, usize)> {
        let bar = self.config.u8(self.access + 4);
        let offset = u64::from(self.config.u32(self.access + 8));
        let len = self.config.u32(self.access + 12);
        let fits = bar == BAR
            && matches!(len, 1 | 2 | 4)
            && offset.is_multiple_of(u64::from(len))
            && offset < u64::from(BAR_SIZE);
        fits.then_some((offset, len as usize))
    }

    fn is_window(&self, offset: u16) -> bool {
        (self.access + 16..self.access + 20).contains(&offset)
    }

    fn ring_by(&self, address: u64, on: bool) {
        let Some(doorbells) = &self.doorbells else { return };
        for queue in 0..self.transport.queue_count() {
            if let Some(bell) = self.device().doorbell(queue) {
                doorbells.set(address + DOORBELLS + 4 * u64::from(queue), on.then_some(bell));
            }
        }
    }
}

impl<D: VirtioDevice + 'static> Registers for VirtioPci<D> {
    fn read(&mut self, _region: u32, offset: u64, data: &mut [u8]) -> Access {
        self.read_bar(offset, data);
        Access::Done
    }

    fn write(&mut self, _region: u32, offset: u64, data: &[u8]) -> Access {
        self.write_bar(offset, data);
        Access::Done
    }
}

impl<D: VirtioDevice + 'static> Function for VirtioPci<D> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        if self.is_window(offset)
            && let Some((at, len)) = self.window()
        {
            let mut bytes = [0; 4];
            self.read_bar(at, &mut bytes[..len]);
            let from = usize::from(offset - self.access - 16);
            for (byte, there) in data.iter_mut().zip(&bytes[from..]) {
                *byte = *there;
            }
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        if !self.is_window(offset) {
            self.config.write(offset, data);
        } else if let Some((at, len)) = self.window()
            && offset == self.access + 16
            && data.len() >= len
        {
            self.write_bar(at, &data[..len]);
        }
    }

    fn moved(&mut self, bar: u8, address: Option<u64>) {
        if bar != BAR {
            return;
        }
        if let Some(old) = self.placed.take() {
            self.ring_by(old, false);
        }
        if let Some(new) = address {
            self.ring_by(new, true);
        }
        self.placed = address;
    }
}

impl<D: VirtioDevice + 'static> Device for VirtioPci<D> {
    fn name(&self) -> &str {
        self.device().name()
    }

    fn reset(&mut self) {
        self.transport.reset();
        self.notices.reset();
        self.config.reset();
    }

    fn pause(&mut self) {
        self.transport.pause();
    }

    fn resume(&mut self) {
        self.transport.resume();
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(
            1,
            &State {
                config: self.config.save(),
                notices: self.notices.lock().clone(),
                transport: self.transport.save()?,
            },
        )
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        let mut notices = state.notices;
        notices
            .vectors
            .resize(usize::from(self.transport.queue_count()), NO_VECTOR);
        *self.notices.lock() = notices;
        self.config.restore(&state.config)?;
        self.transport.restore(&state.transport)
    }

    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}
