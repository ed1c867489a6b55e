//! The ISA bridge of the PIIX3 (8086:7000, function 0): where PIRQ lines are routed to interrupts of the 8259 pair.

use std::sync::{Arc, Mutex};

use fault::Result;

use super::{Config, Function, Identity};
use crate::chipset::interrupts::{Interrupts, PIRQ_OFF};
use crate::pci::config::ConfigState;
use crate::{Device, Saved};

/// PIRQ route control registers, A to D.
const PIRQ: u16 = 0x60;

/// The ISA bridge.
pub struct IsaBridge {
    config: Config,
    interrupts: Arc<Interrupts>,
}

impl IsaBridge {
    /// A bridge that routes in `interrupts`.
    #[must_use]
    pub fn new(interrupts: Arc<Interrupts>) -> Arc<Mutex<Self>> {
        let mut config = Config::new(Identity {
            vendor: 0x8086,
            device: 0x7000,
            class: 0x06_01_00,
            revision: 0,
            subsystem: (0x1af4, 0x1100),
        })
        .multifunction();
        config.allow(0x40, &[0xff; 0xc0]);
        config.set_u16(super::config::COMMAND, 7);
        config.set_u16(super::config::STATUS, 0x0200);
        for (offset, value) in [
            (0x4c, 0x4d),
            (0x4e, 3),
            (0x69, 2),
            (0x70, 0x80),
            (0x76, 0xc),
            (0x77, 0xc),
            (0x78, 2),
            (0xa0, 8),
            (0xa8, 0xf),
        ] {
            config.set_u8(offset, value);
        }
        for link in 0..4 {
            config.set_u8(PIRQ + link, PIRQ_OFF);
            config.allow(PIRQ + link, &[0x8f]);
        }
        Arc::new(Mutex::new(IsaBridge { config, interrupts }))
    }

    fn route(&self) {
        for link in 0..4 {
            let value = self.config.u8(PIRQ + u16::from(link));
            // The interrupts that a PCI card can have; the others route nowhere.
            let allowed = matches!(value & 0xf, 3..=7 | 9..=12 | 14 | 15);
            self.interrupts
                .route_pirq(link, if allowed { value } else { PIRQ_OFF });
        }
    }
}

impl Device for IsaBridge {
    fn name(&self) -> &str {
        "isa_bridge"
    }

    fn reset(&mut self) {
        self.config.reset();
        self.route();
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.config.save())
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: ConfigState = saved.fields(1)?;
        self.config.restore(&state)?;
        self.route();
        Ok(())
    }
}

impl Function for IsaBridge {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
        if (PIRQ..PIRQ + 4).contains(&(offset & !3)) {
            self.route();
        }
    }
}
