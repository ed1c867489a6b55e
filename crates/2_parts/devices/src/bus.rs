//! The bus: which device answers at a port or an address. Ranges come and go while processors run (PCI windows move).

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::{Access, Device};

/// A device as the bus and its owner share it.
pub type Shared = Arc<Mutex<dyn Device>>;

/// Who put a range on the bus, to take it away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Clone)]
struct Entry<A> {
    range: Range<A>,
    /// Which region of the device's `Registers` it is; none for its `Ports`.
    region: Option<u32>,
    ticket: Ticket,
    device: Shared,
}

/// Ports and addresses, and who answers there. A later entry lies over an earlier one.
#[derive(Default)]
pub struct Bus {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    ports: Vec<Entry<u32>>,
    memory: Vec<Entry<u64>>,
    next: u64,
}

impl Bus {
    /// An empty bus.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a device (with facet `Ports`) answer at `count` ports from `first` on.
    pub fn add_ports(&self, first: u16, count: u32, device: &Shared) -> Ticket {
        let mut tables = self.tables();
        tables.next += 1;
        let ticket = Ticket(tables.next);
        let range = u32::from(first)..u32::from(first) + count;
        tables.ports.insert(
            0,
            Entry {
                range,
                region: None,
                ticket,
                device: Arc::clone(device),
            },
        );
        ticket
    }

    /// Lets a device (with facet `Registers`) answer at ports (an I/O window of a PCI function). Such a range lies under all others.
    pub fn add_port_registers(&self, first: u16, count: u32, region: u32, device: &Shared) -> Ticket {
        let mut tables = self.tables();
        tables.next += 1;
        let ticket = Ticket(tables.next);
        tables.ports.push(Entry {
            range: u32::from(first)..u32::from(first) + count,
            region: Some(region),
            ticket,
            device: Arc::clone(device),
        });
        ticket
    }

    /// Lets a device (with facet `Registers`) answer at addresses; `region` tells it which of its regions is meant.
    pub fn add_memory(&self, first: u64, len: u64, region: u32, device: &Shared) -> Ticket {
        let mut tables = self.tables();
        tables.next += 1;
        let ticket = Ticket(tables.next);
        let range = first..first.saturating_add(len);
        tables.memory.insert(
            0,
            Entry {
                range,
                region: Some(region),
                ticket,
                device: Arc::clone(device),
            },
        );
        ticket
    }

    /// Takes a range away.
    pub fn remove(&self, ticket: Ticket) {
        let mut tables = self.tables();
        tables.ports.retain(|entry| entry.ticket != ticket);
        tables.memory.retain(|entry| entry.ticket != ticket);
    }

    fn at_port(&self, port: u16, len: usize) -> Option<(Shared, Option<(u32, u64)>)> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let port = u32::from(port);
        let entry = tables.ports.iter().find(|entry| entry.range.contains(&port))?;
        let within = (entry.range.end - port) as usize >= len;
        let place = entry
            .region
            .map(|region| (region, u64::from(port - entry.range.start)));
        (within || place.is_none()).then(|| (Arc::clone(&entry.device), place))
    }

    fn at_address(&self, address: u64, len: usize) -> Option<(Shared, u32, u64)> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let entry = tables
            .memory
            .iter()
            .find(|entry| entry.range.contains(&address))?;
        (entry.range.end - address >= len as u64).then(|| {
            (
                Arc::clone(&entry.device),
                entry.region.unwrap_or_default(),
                address - entry.range.start,
            )
        })
    }

    /// IN. What nobody claims reads as ones.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        let done = self.at_port(port, data.len()).and_then(|(device, place)| {
            let mut device = lock(&device);
            match place {
                None => device.ports().map(|ports| ports.read(port, data)),
                Some((region, offset)) => device.registers().map(|it| it.read(region, offset, data)),
            }
        });
        if done != Some(Access::Done) {
            data.fill(0xff);
        }
    }

    /// OUT. What nobody claims is lost.
    pub fn port_write(&self, port: u16, data: &[u8]) {
        if let Some((device, place)) = self.at_port(port, data.len()) {
            let mut device = lock(&device);
            match place {
                None => device.ports().map(|ports| ports.write(port, data)),
                Some((region, offset)) => device.registers().map(|it| it.write(region, offset, data)),
            };
        }
    }

    /// A read of 1 to 8 bytes where no memory is. What nobody claims, and what crosses the end of a range, reads as ones.
    pub fn mmio_read(&self, address: u64, data: &mut [u8]) {
        let done = self
            .at_address(address, data.len())
            .map(|(device, region, offset)| {
                let mut device = lock(&device);
                device.registers().map_or(Access::Unclaimed, |registers| {
                    registers.read(region, offset, data)
                })
            });
        if done != Some(Access::Done) {
            data.fill(0xff);
        }
    }

    /// A write of 1 to 8 bytes where no memory is.
    pub fn mmio_write(&self, address: u64, data: &[u8]) {
        if let Some((device, region, offset)) = self.at_address(address, data.len()) {
            let mut device = lock(&device);
            device
                .registers()
                .map(|registers| registers.write(region, offset, data));
        }
    }
}

/// Locks a device; one that panicked while locked is used on: its guest may have broken it, not its neighbours.
pub fn lock(device: &Shared) -> std::sync::MutexGuard<'_, dyn Device + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ports, Registers, Saved};
    use fault::Result;

    struct Latch(u8);

    impl Device for Latch {
        fn name(&self) -> &str {
            "latch"
        }
        fn reset(&mut self) {
            self.0 = 0;
        }
        fn save(&self) -> Result<Saved> {
            Saved::new(1, &self.0)
        }
        fn restore(&mut self, saved: &Saved) -> Result<()> {
            self.0 = saved.fields(1)?;
            Ok(())
        }
        fn ports(&mut self) -> Option<&mut dyn Ports> {
            Some(self)
        }
        fn registers(&mut self) -> Option<&mut dyn Registers> {
            Some(self)
        }
    }

    impl Ports for Latch {
        fn read(&mut self, _: u16, data: &mut [u8]) -> Access {
            data.fill(self.0);
            Access::Done
        }
        fn write(&mut self, _: u16, data: &[u8]) -> Access {
            self.0 = data[0];
            Access::Done
        }
    }

    impl Registers for Latch {
        fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Access {
            data.fill(self.0 + region as u8 + offset as u8);
            Access::Done
        }
        fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Access {
            Access::Unclaimed
        }
    }

    #[test]
    fn a_later_range_lies_over_an_earlier_one_until_it_is_taken_away() {
        let bus = Bus::new();
        let [below, above]: [Shared; 2] = [Arc::new(Mutex::new(Latch(1))), Arc::new(Mutex::new(Latch(2)))];
        bus.add_memory(0x1000, 0x1000, 0, &below);
        let ticket = bus.add_memory(0x1800, 0x10, 4, &above);
        let read = |address| {
            let mut data = [0];
            bus.mmio_read(address, &mut data);
            data[0]
        };
        assert_eq!(read(0x1803), 2 + 4 + 3);
        bus.remove(ticket);
        assert_eq!(read(0x1803), 4);
        assert_eq!(read(0x2000), 0xff);
        let mut crossing = [0; 8];
        bus.mmio_read(0x1ffc, &mut crossing);
        assert_eq!(crossing, [0xff; 8]);
    }

    #[test]
    fn the_last_ports_belong_to_the_bus_too() {
        let bus = Bus::new();
        let device: Shared = Arc::new(Mutex::new(Latch(0)));
        bus.add_ports(0xfff0, 16, &device);
        bus.port_write(0xffff, &[7]);
        let mut data = [0; 4];
        bus.port_read(0xffff, &mut data);
        assert_eq!(data, [7; 4]);
        bus.port_read(0, &mut data);
        assert_eq!(data, [0xff; 4]);
        bus.add_port_registers(0xffe0, 32, 5, &device);
        bus.port_read(0xffe2, &mut data);
        assert_eq!(data, [7 + 5 + 2; 4]);
        bus.port_read(0xfff0, &mut data);
        assert_eq!(data, [7; 4]);
    }
}
