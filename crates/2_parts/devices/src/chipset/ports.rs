//! Small ports: reset, debug output, pvpanic, and the code that firmware shows of its progress.

use std::sync::{Arc, Mutex};

use fault::Result;

use super::{Signals, Sink};
use crate::{Access, Device, Ports, Saved};

/// Ports of [`Reset`]: system control port A, and the reset control register. The latter lies over the host bridge's address register:
/// put it on the bus after that.
pub const RESET_PORTS: &[(u16, u32)] = &[(0x92, 1), (0xcf9, 1)];
/// Ports of [`Debug`]: SeaBIOS's, and Bochs's.
pub const DEBUG_PORTS: &[(u16, u32)] = &[(0x402, 1), (0xe9, 1)];
/// Ports of [`Panic`].
pub const PANIC_PORTS: &[(u16, u32)] = &[(0x505, 1)];

/// System control port A (fast reset, A20) and the PIIX's reset control register.
pub struct Reset {
    system: u8,
    control: u8,
    signals: Arc<dyn Signals>,
}

impl Reset {
    /// Ports that reset the machine through `signals`.
    #[must_use]
    pub fn new(signals: Arc<dyn Signals>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Reset {
            system: 2,
            control: 0,
            signals,
        }))
    }
}

impl Device for Reset {
    fn name(&self) -> &str {
        "reset"
    }

    fn reset(&mut self) {
        (self.system, self.control) = (2, 0);
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &(self.system, self.control))
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        (self.system, self.control) = saved.fields(1)?;
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Reset {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        super::read_bytes(port, data, |port| match port {
            0x92 => self.system,
            0xcf9 => self.control,
            _ => 0xff,
        })
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        super::write_bytes(port, data, |port, value| {
            let register = match port {
                0x92 => &mut self.system,
                0xcf9 => &mut self.control,
                _ => return,
            };
            // Both reset when their bit rises: bit 0 of the one, bit 2 of the other.
            let (bit, kept) = if port == 0x92 { (1, 3) } else { (4, 6) };
            let rises = value & !*register & bit != 0;
            *register = value & kept;
            if rises {
                self.signals.reset();
            }
        })
    }
}

/// Output of firmware for its developers. Reading says that it is there.
pub struct Debug {
    output: Box<dyn Sink>,
}

impl Debug {
    /// Ports whose bytes go to `output`.
    #[must_use]
    pub fn new(output: Box<dyn Sink>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Debug { output }))
    }
}

impl Device for Debug {
    fn name(&self) -> &str {
        "debug"
    }

    fn reset(&mut self) {}

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &())
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        saved.fields(1)
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Debug {
    fn read(&mut self, _: u16, data: &mut [u8]) -> Access {
        data.fill(0xe9);
        Access::Done
    }

    fn write(&mut self, _: u16, data: &[u8]) -> Access {
        self.output.write(data);
        Access::Done
    }
}

/// pvpanic (QEMU, docs/specs/pvpanic.rst): the guest says that its kernel panicked.
pub struct Panic {
    signals: Arc<dyn Signals>,
}

impl Panic {
    /// A port that tells `signals`.
    #[must_use]
    pub fn new(signals: Arc<dyn Signals>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Panic { signals }))
    }
}

impl Device for Panic {
    fn name(&self) -> &str {
        "pvpanic"
    }

    fn reset(&mut self) {}

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &())
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        saved.fields(1)
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for Panic {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        // It understands bit 0, panicked, and bit 1, a crash kernel goes on.
        super::read_bytes(port, data, |port| if port == 0x505 { 3 } else { 0xff })
    }

    fn write(&mut self, _: u16, data: &[u8]) -> Access {
        let value = data.first().copied().unwrap_or(0);
        if value & 3 != 0 {
            self.signals.panicked(value & 1 == 0);
        }
        Access::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);

    impl Signals for Heard {
        fn reset(&self) {
            self.0.lock().unwrap().push("reset");
        }
        fn power_off(&self) {}
        fn panicked(&self, loaded: bool) {
            self.0
                .lock()
                .unwrap()
                .push(if loaded { "loaded" } else { "panicked" });
        }
    }

    #[test]
    fn resets_come_from_a_rising_bit_and_panics_are_told() {
        let heard = Arc::new(Heard::default());
        let reset = Reset::new(heard.clone());
        let panic = Panic::new(heard.clone());
        for (port, value) in [(0xcf9, 2), (0xcf9, 6), (0x92, 2), (0x92, 3), (0x92, 3)] {
            Ports::write(&mut *reset.lock().unwrap(), port, &[value]);
        }
        for value in [0, 1, 2] {
            Ports::write(&mut *panic.lock().unwrap(), 0x505, &[value]);
        }
        assert_eq!(*heard.0.lock().unwrap(), ["reset", "reset", "panicked", "loaded"]);
    }
}
