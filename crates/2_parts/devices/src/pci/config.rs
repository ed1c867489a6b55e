//! A configuration space: bytes with masks of what the guest may write, BARs, and a list of capabilities.

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use super::msix::MsixState;
use super::{Intx, Msix, ROM};
use crate::irq::{Line, Messages};
use crate::state::STATE_UNFIT;

/// Command register (PCI §6.2.2) and what of it the guest may write: I/O, memory, bus master, parity, SERR#, interrupt disable.
pub const COMMAND: u16 = 0x04;
const COMMAND_WRITABLE: u16 = 0x0547;
const COMMAND_IO: u8 = 1;
const COMMAND_MEMORY: u8 = 2;
const COMMAND_MASTER: u8 = 4;
const COMMAND_INTX_DISABLE: u8 = 4; // of the upper byte
/// Status register (PCI §6.2.3); its error bits are cleared by writing ones.
pub const STATUS: u16 = 0x06;
const STATUS_CLEARED: u16 = 0xf900;
const STATUS_INTERRUPT: u8 = 8;
const STATUS_CAPABILITIES: u8 = 0x10;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;

/// Who a function says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass and programming interface: `0x01_01_80`.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Vendor and number of the subsystem.
    pub subsystem: (u16, u16),
}

/// What a base address register stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// I/O ports: a power of two, from 4 to 256.
    Io {
        /// Ports.
        size: u32,
    },
    /// Memory below 4 GiB.
    Memory32 {
        /// Bytes: a power of two, from 16 up.
        size: u32,
        /// Reading has no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; the next BAR is its upper half.
    Memory64 {
        /// Bytes: a power of two, from 16 up.
        size: u64,
        /// Reading has no side effects.
        prefetchable: bool,
    },
    /// An expansion ROM; number [`ROM`] only.
    Rom {
        /// Bytes: a power of two, from 2 KiB up.
        size: u32,
    },
}

impl Bar {
    /// Length of the window.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Bar::Io { size } | Bar::Memory32 { size, .. } | Bar::Rom { size } => u64::from(size),
            Bar::Memory64 { size, .. } => size,
        }
    }
}

/// A window that a BAR opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The BAR's number; [`ROM`] for the expansion ROM.
    pub bar: u8,
    /// Ports, or else memory.
    pub io: bool,
    /// First port or guest physical address.
    pub address: u64,
    /// Length.
    pub len: u64,
}

/// A configuration space of 256 or 4096 bytes.
pub struct Config {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    /// Bits that a written one clears.
    cleared: Vec<u8>,
    /// As made, for [`Config::reset`].
    initial: Vec<u8>,
    bars: [Option<Bar>; 7],
    /// Where the next capability goes.
    free: usize,
    /// Where the link to the next capability is.
    link: usize,
    intx: Option<Intx>,
    msix: Option<(Msix, usize)>,
}

/// What is saved of a [`Config`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigState {
    bytes: Vec<u8>,
    intx: bool,
    msix: Option<MsixState>,
}

impl Config {
    /// A space of 256 bytes without BARs and capabilities.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let mut config = Config {
            bytes: vec![0; 256],
            writable: vec![0; 256],
            cleared: vec![0; 256],
            initial: Vec::new(),
            bars: [None; 7],
            free: 0x40,
            link: CAPABILITIES,
            intx: None,
            msix: None,
        };
        config.set_u16(0x00, identity.vendor);
        config.set_u16(0x02, identity.device);
        config.set_u8(0x08, identity.revision);
        for (offset, byte) in (0x09..).zip(&identity.class.to_le_bytes()[..3]) {
            config.set_u8(offset, *byte);
        }
        config.set_u16(0x2c, identity.subsystem.0);
        config.set_u16(0x2e, identity.subsystem.1);
        config.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        config.allow(0x0c, &[0xff, 0xff]); // cache line size, latency timer
        config.allow(INTERRUPT_LINE as u16, &[0xff]);
        config.cleared[usize::from(STATUS)..][..2].copy_from_slice(&STATUS_CLEARED.to_le_bytes());
        config
    }

    /// Makes it 4096 bytes long (reached through the ECAM window only).
    #[must_use]
    pub fn extended(mut self) -> Self {
        for bytes in [&mut self.bytes, &mut self.writable, &mut self.cleared] {
            bytes.resize(4096, 0);
        }
        self
    }

    /// Says that the device has several functions; for function 0 of such a device.
    #[must_use]
    pub fn multifunction(mut self) -> Self {
        self.bytes[0x0e] |= 0x80;
        self
    }

    /// Adds a BAR: number 0 to 5, or [`ROM`].
    ///
    /// # Panics
    /// When the size is no power of two or the number no BAR's: a mistake of the device's author.
    #[must_use]
    pub fn bar(mut self, number: u8, bar: Bar) -> Self {
        let size = bar.size();
        assert!(size.is_power_of_two(), "a BAR's size is a power of two");
        let offset = if number == ROM {
            0x30
        } else {
            0x10 + 4 * u16::from(number)
        };
        let mask = !(size - 1);
        let (kind, least, writable) = match bar {
            Bar::Io { .. } => (1, 4, mask & 0xffff_fffc),
            Bar::Memory32 { prefetchable, .. } => (u8::from(prefetchable) << 3, 16, mask & 0xffff_fff0),
            Bar::Memory64 { prefetchable, .. } => (4 | u8::from(prefetchable) << 3, 16, mask & !0xf),
            Bar::Rom { .. } => (0, 2048, mask & 0xffff_f800 | 1),
        };
        let wide = matches!(bar, Bar::Memory64 { .. });
        let rom = matches!(bar, Bar::Rom { .. });
        assert!(
            size >= least && rom == (number == ROM) && number + u8::from(wide) <= if rom { ROM } else { 5 }
        );
        self.set_u8(offset, kind);
        self.allow(offset, &writable.to_le_bytes()[..if wide { 8 } else { 4 }]);
        self.bars[usize::from(number)] = Some(bar);
        self
    }

    /// Appends a capability: identity and what follows the link. `writable` masks what of the body the guest may write (shorter: the rest
    /// is read-only). Returns its offset.
    ///
    /// # Panics
    /// When there is no room left: a mistake of the device's author.
    pub fn capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u16 {
        let offset = self.free;
        let end = offset + 2 + body.len();
        assert!(
            end <= 256 && writable.len() <= body.len(),
            "capabilities fit below 256"
        );
        self.bytes[usize::from(STATUS)] |= STATUS_CAPABILITIES;
        self.bytes[self.link] = offset as u8;
        self.bytes[offset] = id;
        self.bytes[offset + 2..end].copy_from_slice(body);
        self.writable[offset + 2..][..writable.len()].copy_from_slice(writable);
        self.link = offset + 1;
        self.free = end.next_multiple_of(4);
        offset as u16
    }

    /// Lets the first capability begin here; for functions whose own registers begin at 0x40.
    pub fn capabilities_from(&mut self, offset: u8) {
        self.free = self.free.max(usize::from(offset));
    }

    /// Gives it an interrupt pin (0 for INTA) that pulls this line. The command and status registers are wired to it.
    pub fn intx(&mut self, pin: u8, line: Line) -> Intx {
        let intx = Intx::new(line);
        self.bytes[INTERRUPT_PIN] = (pin & 3) + 1;
        self.intx = Some(intx.clone());
        intx
    }

    /// Gives it an MSI-X capability (PCI §6.8.2) with tables at these offsets of a BAR. The function passes accesses of the BAR that
    /// [`Msix::covers`] on to it.
    pub fn msix(
        &mut self,
        vectors: u16,
        bar: u8,
        table: u32,
        pending: u32,
        messages: std::sync::Arc<dyn Messages>,
    ) -> Msix {
        let msix = Msix::new(vectors, table, pending, messages);
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(msix.vectors() - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table & !7 | u32::from(bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pending & !7 | u32::from(bar)).to_le_bytes());
        let offset = self.capability(0x11, &body, &[0, 0xc0]);
        self.msix = Some((msix.clone(), usize::from(offset)));
        msix
    }

    /// Its length.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Lets the guest write these bits of the bytes from `offset` on.
    pub fn allow(&mut self, offset: u16, mask: &[u8]) {
        self.writable[usize::from(offset)..][..mask.len()].copy_from_slice(mask);
    }

    /// A byte; 0 beyond the end.
    #[must_use]
    pub fn u8(&self, offset: u16) -> u8 {
        self.bytes.get(usize::from(offset)).copied().unwrap_or(0)
    }

    /// Two bytes.
    #[must_use]
    pub fn u16(&self, offset: u16) -> u16 {
        u16::from_le_bytes([self.u8(offset), self.u8(offset.saturating_add(1))])
    }

    /// Four bytes.
    #[must_use]
    pub fn u32(&self, offset: u16) -> u32 {
        u32::from(self.u16(offset)) | u32::from(self.u16(offset.saturating_add(2))) << 16
    }

    /// Sets a byte, whatever the masks say.
    pub fn set_u8(&mut self, offset: u16, value: u8) {
        self.bytes[usize::from(offset)] = value;
    }

    /// Sets two bytes, whatever the masks say.
    pub fn set_u16(&mut self, offset: u16, value: u16) {
        self.bytes[usize::from(offset)..][..2].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets four bytes, whatever the masks say.
    pub fn set_u32(&mut self, offset: u16, value: u32) {
        self.bytes[usize::from(offset)..][..4].copy_from_slice(&value.to_le_bytes());
    }

    /// What the guest reads; zeros beyond the end.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (at, byte) in (usize::from(offset)..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
            if at == usize::from(STATUS) && self.intx.as_ref().is_some_and(Intx::level) {
                *byte |= STATUS_INTERRUPT;
            }
        }
    }

    /// What the guest writes: masked bits change, others stay.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        if self.initial.is_empty() {
            self.initial.clone_from(&self.bytes);
        }
        for (at, byte) in (usize::from(offset)..).zip(data) {
            let Some(old) = self.bytes.get_mut(at) else { return };
            let mask = self.writable[at];
            *old = (*old & !mask | *byte & mask) & !(*byte & self.cleared[at]);
        }
        self.tell();
    }

    /// Tells interrupts what the registers say of them.
    fn tell(&self) {
        if let Some(intx) = &self.intx {
            intx.disable(self.bytes[usize::from(COMMAND) + 1] & COMMAND_INTX_DISABLE != 0);
        }
        if let Some((msix, offset)) = &self.msix {
            let control = self.bytes[offset + 3];
            msix.control(control & 0x80 != 0, control & 0x40 != 0);
        }
    }

    /// Whether the function may access memory by itself.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.bytes[usize::from(COMMAND)] & COMMAND_MASTER != 0
    }

    /// Whether MSI-X is switched on; then INTx is not used.
    #[must_use]
    pub fn uses_msix(&self) -> bool {
        self.msix.as_ref().is_some_and(|(msix, _)| msix.is_enabled())
    }

    /// The windows that its BARs open now, ascending by number. Those whose end does not fit the addresses are not open.
    pub fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        let command = self.bytes[usize::from(COMMAND)];
        (0..7_u8).filter_map(move |number| {
            let bar = self.bars[usize::from(number)]?;
            let offset = 0x10 + 4 * u16::from(number);
            let (open, address, top) = match bar {
                Bar::Io { .. } => (command & COMMAND_IO, u64::from(self.u32(offset) & !3), 1 << 16),
                Bar::Memory32 { .. } => (
                    command & COMMAND_MEMORY,
                    u64::from(self.u32(offset) & !0xf),
                    1 << 32,
                ),
                Bar::Memory64 { .. } => {
                    let low = u64::from(self.u32(offset) & !0xf);
                    (
                        command & COMMAND_MEMORY,
                        low | u64::from(self.u32(offset + 4)) << 32,
                        u64::MAX,
                    )
                }
                Bar::Rom { .. } => {
                    let value = self.u32(0x30);
                    let enabled = u8::from(value & 1 != 0) * COMMAND_MEMORY;
                    (command & enabled, u64::from(value & !0x7ff), 1 << 32)
                }
            };
            let fits = address.checked_add(bar.size()).is_some_and(|end| end <= top);
            (open != 0 && fits && address != 0).then_some(Window {
                bar: number,
                io: matches!(bar, Bar::Io { .. }),
                address,
                len: bar.size(),
            })
        })
    }

    /// As after power-on.
    pub fn reset(&mut self) {
        if !self.initial.is_empty() {
            self.bytes.clone_from(&self.initial);
        }
        if let Some(intx) = &self.intx {
            intx.set(false);
        }
        if let Some((msix, _)) = &self.msix {
            msix.reset();
        }
        self.tell();
    }

    /// What is to be saved.
    #[must_use]
    pub fn save(&self) -> ConfigState {
        ConfigState {
            bytes: self.bytes.clone(),
            intx: self.intx.as_ref().is_some_and(Intx::level),
            msix: self.msix.as_ref().map(|(msix, _)| msix.save()),
        }
    }

    /// Puts a saved state in place: what the guest could have written, and the interrupts. The line is told its level again.
    ///
    /// # Errors
    /// `DEV001` when it is not of such a space.
    pub fn restore(&mut self, state: &ConfigState) -> Result<()> {
        let alike = state.bytes.len() == self.bytes.len() && state.msix.is_some() == self.msix.is_some();
        if !alike {
            return Err(Fault::new(STATE_UNFIT).because_of("another configuration space"));
        }
        if self.initial.is_empty() {
            self.initial.clone_from(&self.bytes);
        }
        for (at, saved) in state.bytes.iter().enumerate() {
            let mask = self.writable[at] | self.cleared[at];
            self.bytes[at] = self.bytes[at] & !mask | saved & mask;
        }
        if let (Some((msix, _)), Some(state)) = (&self.msix, &state.msix) {
            msix.restore(state)?;
        }
        self.tell();
        if let Some(intx) = &self.intx {
            intx.set(state.intx);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
