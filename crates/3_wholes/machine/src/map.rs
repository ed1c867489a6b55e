//! The memory map: RAM, shadow memory below 1 MiB, firmware, and the memory of devices that moves with their BARs.

use std::sync::{Arc, Mutex, PoisonError};

use boot::layout;
use devices::pci::host::{Map, Mapper, Shadow};
use fault::Fault;
use guestmem::{Block, Memory};
use vcpu::{Access, Slot, Vm};

/// Keeps the accelerator's map of memory as the host bridge says.
pub struct Board {
    vm: Arc<dyn Vm>,
    memory: Memory,
    /// Firmware, which ends at 4 GiB; its last 128 KiB are seen below 1 MiB too.
    firmware: Option<Block>,
    refused: Mutex<Option<Fault>>,
}

impl Board {
    /// Maps nothing yet.
    #[must_use]
    pub fn new(vm: Arc<dyn Vm>, memory: Memory, firmware: Option<Block>) -> Self {
        Board {
            vm,
            memory,
            firmware,
            refused: Mutex::new(None),
        }
    }

    /// Why the last change could not be made, if it could not.
    pub fn refused(&self) -> Option<Fault> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn slots(&self, map: &Map) -> Vec<Slot> {
        let mut slots = Vec::new();
        let ram = |start: u64, len: u64, access| Slot {
            start,
            len,
            block: self.memory.block().clone(),
            offset: start,
            access,
        };
        let end = if map.smram { 0xc_0000 } else { layout::VGA_WINDOW };
        slots.push(ram(0, end.min(self.memory.len()), Access::ReadWrite));
        for shadow in &map.shadows {
            slots.extend(self.shadow(shadow, &ram));
        }
        for region in self.memory.regions() {
            let start = region.start.max(layout::MIB);
            if region.start + region.len > start {
                slots.push(Slot {
                    start,
                    len: region.start + region.len - start,
                    block: self.memory.block().clone(),
                    offset: region.offset + (start - region.start),
                    access: Access::ReadWrite,
                });
            }
        }
        if let Some(firmware) = &self.firmware {
            slots.push(Slot {
                start: layout::HIGH_MEMORY - firmware.len(),
                len: firmware.len(),
                block: firmware.clone(),
                offset: 0,
                access: Access::ReadOnly,
            });
        }
        for window in &map.windows {
            slots.push(Slot {
                start: window.start,
                len: window.block.len(),
                block: window.block.clone(),
                offset: 0,
                access: if window.writable {
                    Access::ReadWrite
                } else {
                    Access::ReadOnly
                },
            });
        }
        join(slots)
    }

    fn shadow(&self, shadow: &Shadow, ram: &dyn Fn(u64, u64, Access) -> Slot) -> Option<Slot> {
        if shadow.start + shadow.len > self.memory.len() {
            return None;
        }
        match (shadow.read, shadow.write, &self.firmware) {
            (true, true, _) => Some(ram(shadow.start, shadow.len, Access::ReadWrite)),
            (true, false, _) => Some(ram(shadow.start, shadow.len, Access::ReadOnly)),
            (false, _, Some(firmware)) => {
                let below = layout::MIB - shadow.start;
                (below <= firmware.len().min(128 << 10)).then(|| Slot {
                    start: shadow.start,
                    len: shadow.len,
                    block: firmware.clone(),
                    offset: firmware.len() - below,
                    access: Access::ReadOnly,
                })
            }
            (false, _, None) => None,
        }
    }
}

/// Joins neighbours that go on in the same memory: accelerators have few slots.
fn join(slots: Vec<Slot>) -> Vec<Slot> {
    let mut joined: Vec<Slot> = Vec::new();
    for slot in slots.into_iter().filter(|slot| slot.len > 0) {
        match joined.last_mut() {
            Some(last)
                if last.start + last.len == slot.start
                    && last.offset + last.len == slot.offset
                    && last.access == slot.access
                    && last.block.is(&slot.block) =>
            {
                last.len += slot.len;
            }
            _ => joined.push(slot),
        }
    }
    joined
}

impl Mapper for Board {
    fn changed(&self, map: &Map) {
        if let Err(fault) = self.vm.map(&self.slots(map)) {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        }
    }
}
