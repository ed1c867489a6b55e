//! The i440FX host bridge (8086:1237; Intel 290549): configuration accesses, windows of BARs, shadow memory below 1 MiB.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fault::Result;
use guestmem::{Block, PAGE};
use serde::{Deserialize, Serialize};

use super::config::ConfigState;
use super::{Config, Function, Identity, ROM, Window};
use crate::bus::{Bus, Shared, Ticket};
use crate::{Access, Device, Ports, Registers, Saved};

/// Ports: configuration address and data.
pub const PORTS: &[(u16, u32)] = &[(0xcf8, 4), (0xcfc, 4)];
/// Length of the ECAM window: 256 buses, of which bus 0 has functions.
pub const ECAM_LEN: u64 = 256 << 20;

/// Programmable attribute map: registers, and the ranges that their halves are of.
const PAM: u16 = 0x59;
const SMRAM: u16 = 0x72;

/// A range below 1 MiB that is RAM or not. What is not RAM is the PCI bus: there firmware lies, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// First address.
    pub start: u64,
    /// Length.
    pub len: u64,
    /// Reads come from RAM.
    pub read: bool,
    /// Writes go to RAM.
    pub write: bool,
}

/// A window of a BAR with memory behind it ([`Function::bar_memory`]).
#[derive(Clone)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// The memory, all of it.
    pub block: Block,
    /// The guest may write it (no expansion ROM).
    pub writable: bool,
}

impl PartialEq for Mapped {
    fn eq(&self, other: &Self) -> bool {
        self.start == other.start && self.writable == other.writable && self.block.is(&other.block)
    }
}

/// What the memory map depends on.
#[derive(Clone, PartialEq)]
pub struct Map {
    /// 0xc0000 to 0xfffff, ascending, without gaps.
    pub shadows: Vec<Shadow>,
    /// RAM at 0xa0000 to 0xbffff is open to everybody instead of the display's window.
    pub smram: bool,
    /// Windows with memory behind them; none overlaps another.
    pub windows: Vec<Mapped>,
}

/// Who maps memory: the machine.
pub trait Mapper: Send + Sync {
    /// The map has changed. Called with the root's lock held, on the thread of the processor that changed it, before that goes on.
    fn changed(&self, map: &Map);
}

struct Slot {
    number: u8,
    function: Arc<Mutex<dyn Function>>,
    wanted: Vec<Window>,
}

/// A window that is open.
struct Open {
    number: u8,
    window: Window,
    /// On the bus; or, without a ticket, this memory.
    ticket: Option<Ticket>,
    block: Option<Block>,
}

/// The host bridge, and bus 0 behind it.
pub struct Root {
    config: Config,
    /// The configuration address register.
    address: u32,
    bus: Weak<Bus>,
    windows: Vec<Range<u64>>,
    slots: Vec<Slot>,
    open: Vec<Open>,
    mapper: Arc<dyn Mapper>,
    told: Option<Map>,
}

#[derive(Serialize, Deserialize)]
struct State {
    config: ConfigState,
    address: u32,
}

impl Root {
    /// A host bridge that opens windows on `bus`. BARs in memory open only inside one of `windows`: so a guest cannot lay one over RAM,
    /// interrupt controllers, firmware or the ECAM window. `open_shadow`: after a reset 0xc0000 to 0xfffff is RAM (a machine that boots
    /// a kernel without firmware). Put [`PORTS`] on the bus, and the ECAM window as region 0.
    #[must_use]
    pub fn new(
        bus: &Arc<Bus>,
        windows: Vec<Range<u64>>,
        open_shadow: bool,
        mapper: Arc<dyn Mapper>,
    ) -> Arc<Mutex<Self>> {
        let mut config = Config::new(Identity {
            vendor: 0x8086,
            device: 0x1237,
            class: 0x06_00_00,
            revision: 2,
            subsystem: (0x1af4, 0x1100),
        });
        config.allow(0x40, &[0xff; 0xc0]);
        config.set_u16(super::config::COMMAND, 6);
        config.set_u16(super::config::STATUS, 0x0280);
        config.set_u8(SMRAM, 2);
        config.allow(SMRAM, &[0x78]);
        config.set_u8(0x51, 1);
        if open_shadow {
            config.set_u8(PAM, 0x30);
            (1..7).for_each(|at| config.set_u8(PAM + at, 0x33));
        }
        Arc::new(Mutex::new(Root {
            config,
            address: 0,
            bus: Arc::downgrade(bus),
            windows,
            slots: Vec::new(),
            open: Vec::new(),
            mapper,
            told: None,
        }))
    }

    /// Puts a function in a slot (0 to 31; slot 0 function 0 is the bridge itself). One that is there is replaced.
    pub fn plug(&mut self, slot: u8, function: u8, device: Arc<Mutex<dyn Function>>) {
        let number = slot << 3 | function & 7;
        self.slots.retain(|slot| slot.number != number);
        self.slots.push(Slot {
            number,
            function: device,
            wanted: Vec::new(),
        });
        self.slots.sort_by_key(|slot| slot.number);
        self.sync();
    }

    /// Opens and closes windows as all functions say now, and tells the mapper. Called by [`Device::resume`], since other devices may
    /// have been reset or restored before.
    pub fn sync(&mut self) {
        for slot in &mut self.slots {
            slot.wanted = lock(&slot.function).windows();
        }
        self.open_windows();
        self.tell();
    }

    /// The map now.
    #[must_use]
    pub fn map(&self) -> Map {
        let mut shadows = Vec::new();
        let mut add = |start, len, bits: u8| {
            shadows.push(Shadow {
                start,
                len,
                read: bits & 1 != 0,
                write: bits & 2 != 0,
            });
        };
        for register in 1..7_u16 {
            let value = self.config.u8(PAM + register);
            let start = 0xc0000 + 0x8000 * u64::from(register - 1);
            add(start, 0x4000, value);
            add(start + 0x4000, 0x4000, value >> 4);
        }
        add(0xf0000, 0x10000, self.config.u8(PAM) >> 4);
        let windows = self.open.iter().filter_map(|open| {
            Some(Mapped {
                start: open.window.address,
                block: open.block.clone()?,
                writable: open.window.bar != ROM,
            })
        });
        // Open, and enabled at all.
        let smram = self.config.u8(SMRAM) & 0x48 == 0x48;
        Map {
            shadows,
            smram,
            windows: windows.collect(),
        }
    }

    fn tell(&mut self) {
        let map = self.map();
        if self.told.as_ref() != Some(&map) {
            self.mapper.changed(&map);
            self.told = Some(map);
        }
    }

    /// The windows that may be open: of two that overlap the one of the lower function and BAR.
    fn allowed(&self) -> Vec<(u8, Window)> {
        let mut allowed: Vec<(u8, Window)> = Vec::new();
        for slot in &self.slots {
            for window in &slot.wanted {
                let end = window.address.saturating_add(window.len);
                let inside = window.io && end <= 0x10000
                    || !window.io
                        && self
                            .windows
                            .iter()
                            .any(|it| it.start <= window.address && end <= it.end);
                let free = |(_, other): &(u8, Window)| {
                    other.io != window.io
                        || end <= other.address
                        || other.address.saturating_add(other.len) <= window.address
                };
                if inside && allowed.iter().all(free) {
                    allowed.push((slot.number, *window));
                }
            }
        }
        allowed
    }

    fn open_windows(&mut self) {
        let Some(bus) = self.bus.upgrade() else { return };
        let allowed = self.allowed();
        let mut moved: Vec<(u8, u8)> = Vec::new();
        self.open.retain(|open| {
            let stays = allowed.contains(&(open.number, open.window));
            if !stays {
                if let Some(ticket) = open.ticket {
                    bus.remove(ticket);
                }
                moved.push((open.number, open.window.bar));
            }
            stays
        });
        for (number, window) in allowed {
            if self
                .open
                .iter()
                .any(|open| (open.number, open.window) == (number, window))
            {
                continue;
            }
            let Some(slot) = self.slots.iter().find(|slot| slot.number == number) else {
                continue;
            };
            let block = lock(&slot.function).bar_memory(window.bar).filter(|block| {
                !window.io && block.len() == window.len && window.address.is_multiple_of(PAGE)
            });
            let ticket = block.is_none().then(|| {
                let device: Shared = Arc::clone(&slot.function) as Shared;
                let region = u32::from(window.bar);
                if window.io {
                    bus.add_port_registers(window.address as u16, window.len as u32, region, &device)
                } else {
                    bus.add_memory(window.address, window.len, region, &device)
                }
            });
            moved.push((number, window.bar));
            self.open.push(Open {
                number,
                window,
                ticket,
                block,
            });
        }
        self.open.sort_by_key(|open| (open.number, open.window.bar));
        moved.sort_unstable();
        moved.dedup();
        for (number, bar) in moved {
            let at = self
                .open
                .iter()
                .find(|open| (open.number, open.window.bar) == (number, bar));
            let address = at.map(|open| open.window.address);
            if let Some(slot) = self.slots.iter().find(|slot| slot.number == number) {
                lock(&slot.function).moved(bar, address);
            }
        }
    }

    /// A read of configuration space, within a double word.
    fn read_config(&self, number: u8, offset: u16, data: &mut [u8]) {
        if number == 0 {
            self.config.read(offset, data);
        } else if let Some(slot) = self.slots.iter().find(|slot| slot.number == number) {
            lock(&slot.function).config_read(offset, data);
        } else {
            data.fill(0xff);
        }
    }

    /// A write of configuration space, within a double word.
    fn write_config(&mut self, number: u8, offset: u16, data: &[u8]) {
        if number == 0 {
            let locked = self.config.u8(SMRAM) & 0x10 != 0;
            let before = self.config.u8(SMRAM);
            self.config.write(offset, data);
            if locked {
                // Locked SMRAM stays as it is, and closed, until a reset.
                self.config.set_u8(SMRAM, before);
            }
            if self.config.u8(SMRAM) & 0x10 != 0 {
                self.config.set_u8(SMRAM, self.config.u8(SMRAM) & !0x40);
            }
            self.tell();
        } else if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            let mut function = lock(&slot.function);
            function.config_write(offset, data);
            let wanted = function.windows();
            drop(function);
            if slot.wanted != wanted {
                slot.wanted = wanted;
                self.open_windows();
                self.tell();
            }
        }
    }

    /// The function and the register that the address register and a data port name.
    fn named(&self, port: u16) -> Option<(u8, u16)> {
        let bus = self.address >> 16 & 0xff;
        let enabled = self.address & 1 << 31 != 0;
        let offset = (self.address & 0xfc) as u16 | port & 3;
        (enabled && bus == 0).then_some(((self.address >> 8) as u8, offset))
    }

    /// Splits an access into pieces within double words.
    fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = at;
            let left = 4 - (offset.wrapping_add(at as u64) & 3) as usize;
            at = len.min(at + left);
            (start < at).then_some(start..at)
        })
    }
}

fn lock(function: &Arc<Mutex<dyn Function>>) -> std::sync::MutexGuard<'_, dyn Function + 'static> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device for Root {
    fn name(&self) -> &str {
        "pci"
    }

    fn reset(&mut self) {
        self.address = 0;
        self.config.reset();
        self.sync();
    }

    fn resume(&mut self) {
        self.sync();
    }

    fn save(&self) -> Result<Saved> {
        let state = State {
            config: self.config.save(),
            address: self.address,
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        self.config.restore(&state.config)?;
        self.address = state.address;
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }

    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}

impl Ports for Root {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        match (port, self.named(port)) {
            (0xcf8, _) if data.len() == 4 => data.copy_from_slice(&self.address.to_le_bytes()),
            (0xcfc..=0xcff, Some((number, offset))) => {
                let len = data.len().min(4 - usize::from(offset & 3));
                data.fill(0xff);
                self.read_config(number, offset, &mut data[..len]);
            }
            _ => return Access::Unclaimed,
        }
        Access::Done
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        match (port, data, self.named(port)) {
            (0xcf8, &[a, b, c, d], _) => self.address = u32::from_le_bytes([a, b, c, d]) & 0x80ff_fffc,
            (0xcfc..=0xcff, _, Some((number, offset))) => {
                let len = data.len().min(4 - usize::from(offset & 3));
                self.write_config(number, offset, &data[..len]);
            }
            _ => return Access::Unclaimed,
        }
        Access::Done
    }
}

/// The ECAM window (PCI Express Base Specification, §7.2.2): bus, slot, function and register by address.
impl Registers for Root {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Access {
        if offset >> 20 != 0 {
            return Access::Unclaimed;
        }
        for piece in Self::pieces(offset, data.len()) {
            let at = offset.wrapping_add(piece.start as u64);
            self.read_config((at >> 12) as u8, (at & 0xfff) as u16, &mut data[piece]);
        }
        Access::Done
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Access {
        if offset >> 20 != 0 {
            return Access::Unclaimed;
        }
        for piece in Self::pieces(offset, data.len()) {
            let at = offset.wrapping_add(piece.start as u64);
            self.write_config((at >> 12) as u8, (at & 0xfff) as u16, &data[piece]);
        }
        Access::Done
    }
}

#[cfg(test)]
mod tests;
