//! Interrupts as devices see them: a wire to pull, or a message to send.

use std::sync::Arc;

pub use vcpu::Msi;

/// What takes interrupt wires: the pair of 8259 and the IOAPIC behind it, or a test.
pub trait Wires: Send + Sync {
    /// Sets a wire. Telling the same level again changes nothing.
    fn set(&self, wire: u32, level: bool);
}

/// What takes message-signalled interrupts: the virtual machine, or a test.
pub trait Messages: Send + Sync {
    /// Sends one. What the host refuses is lost, as on a bus.
    fn send(&self, message: Msi);
}

impl Messages for Arc<dyn vcpu::Vm> {
    fn send(&self, message: Msi) {
        // A guest can write any address and data into its tables; the accelerator refuses what makes no sense.
        let _ = self.message(message);
    }
}

/// One interrupt wire, held by its device.
#[derive(Clone)]
pub struct Line {
    wires: Arc<dyn Wires>,
    wire: u32,
}

impl Line {
    /// Wire number `wire`.
    #[must_use]
    pub fn new(wires: Arc<dyn Wires>, wire: u32) -> Self {
        Line { wires, wire }
    }

    /// Sets its level.
    pub fn set(&self, level: bool) {
        self.wires.set(self.wire, level);
    }

    /// Up and down: an edge.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }
}
