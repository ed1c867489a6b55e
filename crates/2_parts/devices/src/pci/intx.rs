//! A function's interrupt pin: its level, whether the guest forbids it, and how pins are wired to interrupt inputs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::irq::Line;

/// The PIRQ line (0 to 3 for A to D) of a slot's pin (0 to 3 for INTA to INTD), as the i440FX is wired. The same formula stands in the
/// tables that `boot` writes (`layout::pci_link`).
#[must_use]
pub fn link(slot: u8, pin: u8) -> u8 {
    slot.wrapping_add(pin).wrapping_sub(1) & 3
}

/// The IOAPIC's pin (16 to 23) of a slot's pin. The same formula stands in the tables that `boot` writes (`layout::pci_gsi`).
#[must_use]
pub fn ioapic_pin(slot: u8, pin: u8) -> u8 {
    16 + (slot.wrapping_add(pin) & 7)
}

/// An interrupt pin. A clone is the same pin; any thread may set it.
#[derive(Clone)]
pub struct Intx(Arc<Mutex<Pin>>);

struct Pin {
    line: Line,
    level: bool,
    disabled: bool,
}

impl Pin {
    fn tell(&self) {
        self.line.set(self.level && !self.disabled);
    }
}

impl Intx {
    pub(super) fn new(line: Line) -> Self {
        Intx(Arc::new(Mutex::new(Pin {
            line,
            level: false,
            disabled: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Pin> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the function wants an interrupt.
    pub fn set(&self, level: bool) {
        let mut pin = self.lock();
        pin.level = level;
        pin.tell();
    }

    /// Whether the function wants an interrupt, forbidden or not.
    #[must_use]
    pub fn level(&self) -> bool {
        self.lock().level
    }

    /// The guest forbids or allows it in the command register.
    pub(super) fn disable(&self, disabled: bool) {
        let mut pin = self.lock();
        if pin.disabled != disabled {
            pin.disabled = disabled;
            pin.tell();
        }
    }
}
