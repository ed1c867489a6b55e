//! What the kernel knows of the IOAPIC's pins: enough to tell which vectors' ends are wanted.
//!
//! With a split interrupt chip a local APIC tells the end of a vector (KVM_EXIT_IOAPIC_EOI) when one of the reserved routes is a
//! level-triggered message with it. Edges need no route: all messages go through KVM_SIGNAL_MSI. The vector that a pin had before
//! stays known in a second row of routes, because its interrupt may still be in service when the guest changes or masks the pin.

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_msi,
};
use vcpu::Msi;

/// Bit of a message's data: level-triggered (SDM Vol. 3 §11.11.2).
const LEVEL: u32 = 1 << 15;

/// The present and the previous level-triggered message of each pin.
pub(crate) struct Routes {
    present: Vec<Option<Msi>>,
    previous: Vec<Option<Msi>>,
}

/// Whether a message is addressed to local APICs in a way that KVM takes (api.rst, KVM_SIGNAL_MSI with 32-bit identities).
pub(crate) fn deliverable(message: Msi) -> bool {
    message.address as u32 >> 20 == 0xfee && message.address >> 32 & 0xff == 0
}

impl Routes {
    /// Routes of so many pins.
    pub(crate) fn new(pins: u8) -> Self {
        Routes {
            present: vec![None; pins.into()],
            previous: vec![None; pins.into()],
        }
    }

    /// How many routes are reserved for `pins` pins.
    pub(crate) fn reserved(pins: u8) -> u64 {
        u64::from(pins) * 2
    }

    /// Notes what a pin sends from now on; tells whether the kernel must know.
    pub(crate) fn set(&mut self, pin: u8, message: Option<Msi>) -> bool {
        let Some(present) = self.present.get_mut(usize::from(pin)) else {
            return false;
        };
        match message.filter(|message| message.data & LEVEL != 0 && deliverable(*message)) {
            Some(new) if *present != Some(new) => {
                if let Some(old) = present.replace(new) {
                    self.previous[usize::from(pin)] = Some(old);
                }
                true
            }
            _ => false,
        }
    }

    /// The table for KVM_SET_GSI_ROUTING.
    pub(crate) fn entries(&self) -> Vec<kvm_irq_routing_entry> {
        let rows = self.present.iter().chain(&self.previous).enumerate();
        rows.filter_map(|(gsi, message)| Some(entry(gsi as u32, (*message)?)))
            .collect()
    }
}

fn entry(gsi: u32, message: Msi) -> kvm_irq_routing_entry {
    let mut msi = kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        ..kvm_irq_routing_msi::default()
    };
    msi.data = message.data;
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..kvm_irq_routing_entry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(vector: u32) -> Option<Msi> {
        Some(Msi {
            address: 0xfee0_0000,
            data: LEVEL | 1 << 14 | vector,
        })
    }

    #[test]
    fn a_changed_pin_keeps_its_previous_vector_and_a_masked_one_its_own() {
        let mut routes = Routes::new(24);
        assert!(routes.set(9, level(0x31)));
        assert!(!routes.set(9, None));
        assert!(!routes.set(9, level(0x31)));
        assert!(routes.set(9, level(0x32)));
        let gsis: Vec<u32> = routes.entries().iter().map(|entry| entry.gsi).collect();
        assert_eq!(gsis, [9, 33]);
    }

    #[test]
    fn edges_unknown_pins_and_bad_addresses_need_no_route() {
        let mut routes = Routes::new(24);
        let edge = Msi {
            address: 0xfee0_0000,
            data: 0x31,
        };
        assert!(!routes.set(1, Some(edge)));
        assert!(!routes.set(24, level(0x31)));
        let astray = Msi {
            address: 0x12_fee0_0000,
            data: LEVEL | 0x31,
        };
        assert!(!routes.set(1, Some(astray)));
        assert!(routes.entries().is_empty());
    }
}
