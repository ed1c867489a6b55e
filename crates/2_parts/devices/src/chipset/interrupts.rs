//! The interrupt wires of a PC: sources are or-ed onto the inputs of the 8259 pair and of the IOAPIC.
//!
//! ISA interrupt n goes to input n of the pair and pin n of the IOAPIC (0 to pin 2). An INTx pin of PCI goes to its own pin of the
//! IOAPIC (16 to 23), and over its PIRQ line to the ISA interrupt that the PIIX's registers name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use super::ioapic::{Ioapic, PINS};
use super::pic::Pair;
use crate::bus::Shared;
use crate::irq::{Line, Messages, Msi, Wires};
use crate::pci::intx;
use crate::state::STATE_UNFIT;
use crate::{Access, Device, Ports, Registers, Saved};

/// Ports of the 8259 pair.
pub const PORTS: &[(u16, u32)] = &[(0x20, 2), (0xa0, 2), (0x4d0, 2)];
/// A PIRQ register that routes nowhere.
pub const PIRQ_OFF: u8 = 0x80;

/// What interrupt controllers tell the accelerator.
pub trait Apics: Messages {
    /// The wire from the 8259 pair to the bootstrap processor.
    fn external(&self, asserted: bool);
    /// What a pin of the IOAPIC sends.
    fn route(&self, pin: u8, message: Option<Msi>);
}

impl Apics for Arc<dyn vcpu::Vm> {
    fn external(&self, asserted: bool) {
        // What the host refuses here it has refused for good: the machine's next run says so.
        let _ = vcpu::Vm::external(&**self, asserted);
    }

    fn route(&self, pin: u8, message: Option<Msi>) {
        // A guest can write any message into the IOAPIC; the accelerator refuses what makes no sense.
        let _ = vcpu::Vm::route(&**self, pin, message);
    }
}

/// Where a source is wired to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// An ISA interrupt, 0 to 15 (not 2).
    Isa(u8),
    /// The INTx pin (0 for A) of a PCI slot.
    Pci {
        /// Slot.
        slot: u8,
        /// Pin.
        pin: u8,
    },
}

struct Source {
    input: Input,
    level: bool,
}

struct Inner {
    sources: Vec<Source>,
    /// How many sources are up at each ISA interrupt, PIRQ line, and pin of the IOAPIC from 16 on.
    isa: [u32; 16],
    links: [u32; 4],
    pins: [u32; 8],
    pirq: [u8; 4],
    pair: Pair,
    ioapic: Ioapic,
    external: bool,
    routes: [Option<Msi>; PINS as usize],
}

#[derive(Serialize, Deserialize)]
struct State {
    levels: Vec<bool>,
    pirq: [u8; 4],
    pair: Pair,
    ioapic: Ioapic,
}

/// The wires and both kinds of interrupt controllers. Lines of devices lead here.
pub struct Interrupts {
    inner: Mutex<Inner>,
    apics: Arc<dyn Apics>,
}

impl Interrupts {
    /// Controllers as after power-on, without sources.
    #[must_use]
    pub fn new(apics: Arc<dyn Apics>) -> Arc<Self> {
        let inner = Inner {
            sources: Vec::new(),
            isa: [0; 16],
            links: [0; 4],
            pins: [0; 8],
            pirq: [PIRQ_OFF; 4],
            pair: Pair::default(),
            ioapic: Ioapic::default(),
            external: false,
            routes: [None; PINS as usize],
        };
        Arc::new(Interrupts {
            inner: Mutex::new(inner),
            apics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new source: each device has its own, also where several share an input. Sources are made in the same order in every life of a
    /// machine: their levels are saved by number.
    #[must_use]
    pub fn line(self: &Arc<Self>, input: Input) -> Line {
        let mut inner = self.lock();
        inner.sources.push(Source { input, level: false });
        let number = inner.sources.len() as u32 - 1;
        drop(inner);
        Line::new(Arc::clone(self) as Arc<dyn Wires>, number)
    }

    /// The controllers as a device of the bus: [`PORTS`], and the IOAPIC's registers as region 0. Save and restore it after all devices
    /// that have lines.
    #[must_use]
    pub fn device(self: &Arc<Self>) -> Shared {
        Arc::new(Mutex::new(Front(Arc::clone(self))))
    }

    /// The processor takes the 8259's interrupt ([`vcpu::Io::acknowledge`]).
    #[must_use]
    pub fn acknowledge(&self) -> u8 {
        let mut inner = self.lock();
        let vector = inner.pair.acknowledge();
        inner.tell(&self.apics);
        vector
    }

    /// A local APIC has ended a level-triggered interrupt ([`vcpu::Io::end_of_interrupt`]).
    pub fn end_of_interrupt(&self, vector: u8) {
        self.lock()
            .ioapic
            .end_of_interrupt(vector, &mut |message| self.apics.send(message));
    }

    /// Routes a PIRQ line (0 to 3): bit 7 switches it off, bits 3 to 0 name the ISA interrupt.
    pub fn route_pirq(&self, link: u8, value: u8) {
        let mut inner = self.lock();
        let register = &mut inner.pirq[usize::from(link & 3)];
        let old = std::mem::replace(register, value);
        for value in [old, value] {
            inner.update_isa(value & 0xf, &self.apics);
        }
        inner.tell(&self.apics);
    }
}

impl Inner {
    fn update_isa(&mut self, irq: u8, apics: &Arc<dyn Apics>) {
        let routed = |(value, up): (&u8, &u32)| *value & 0x8f == irq && *up > 0;
        let level = self.isa[usize::from(irq)] > 0 || self.pirq.iter().zip(&self.links).any(routed);
        if irq == 2 {
            return;
        }
        self.pair.set(irq, level);
        let pin = if irq == 0 { 2 } else { irq };
        if let Some(message) = self.ioapic.set(pin, level) {
            apics.send(message);
        }
    }

    fn set(&mut self, number: u32, level: bool, apics: &Arc<dyn Apics>) {
        let Some(source) = self
            .sources
            .get_mut(number as usize)
            .filter(|source| source.level != level)
        else {
            return;
        };
        source.level = level;
        let input = source.input;
        let count = |count: &mut u32| {
            *count = if level {
                *count + 1
            } else {
                count.saturating_sub(1)
            }
        };
        match input {
            Input::Isa(irq) => {
                count(&mut self.isa[usize::from(irq & 0xf)]);
                self.update_isa(irq & 0xf, apics);
            }
            Input::Pci { slot, pin } => {
                let (link, pin) = (intx::link(slot, pin), intx::ioapic_pin(slot, pin));
                count(&mut self.links[usize::from(link)]);
                let up = &mut self.pins[usize::from(pin - 16)];
                count(up);
                if let Some(message) = self.ioapic.set(pin, *up > 0) {
                    apics.send(message);
                }
                let routed = self.pirq[usize::from(link)];
                if routed & 0x80 == 0 {
                    self.update_isa(routed & 0xf, apics);
                }
            }
        }
        self.tell(apics);
    }

    /// Tells the accelerator what has changed of the pair's wire.
    fn tell(&mut self, apics: &Arc<dyn Apics>) {
        let asserted = self.pair.asserted();
        if self.external != asserted {
            self.external = asserted;
            apics.external(asserted);
        }
    }

    fn tell_route(&mut self, pin: u8, apics: &Arc<dyn Apics>) {
        let route = self.ioapic.route(pin);
        if self.routes[usize::from(pin)] != route {
            self.routes[usize::from(pin)] = route;
            apics.route(pin, route);
        }
    }

    fn tell_all(&mut self, apics: &Arc<dyn Apics>) {
        self.external = self.pair.asserted();
        apics.external(self.external);
        for pin in 0..PINS {
            self.tell_route(pin, apics);
        }
    }
}

impl Wires for Interrupts {
    fn set(&self, wire: u32, level: bool) {
        self.lock().set(wire, level, &self.apics);
    }
}

struct Front(Arc<Interrupts>);

impl Device for Front {
    fn name(&self) -> &str {
        "interrupts"
    }

    fn reset(&mut self) {
        let mut inner = self.0.lock();
        inner.pirq = [PIRQ_OFF; 4];
        inner.pair.reset();
        inner.ioapic.reset();
        for irq in 0..16 {
            inner.update_isa(irq, &self.0.apics);
        }
        inner.tell_all(&self.0.apics);
    }

    fn save(&self) -> Result<Saved> {
        let inner = self.0.lock();
        let state = State {
            levels: inner.sources.iter().map(|source| source.level).collect(),
            pirq: inner.pirq,
            pair: inner.pair.clone(),
            ioapic: inner.ioapic.clone(),
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let state: State = saved.fields(1)?;
        let mut inner = self.0.lock();
        if state.levels.len() != inner.sources.len() {
            return Err(Fault::new(STATE_UNFIT).because_of("another number of interrupt sources"));
        }
        let Inner {
            sources,
            isa,
            links,
            pins,
            ..
        } = &mut *inner;
        (*isa, *links, *pins) = ([0; 16], [0; 4], [0; 8]);
        for (source, level) in sources.iter_mut().zip(state.levels) {
            source.level = level;
            match source.input {
                Input::Isa(irq) => isa[usize::from(irq & 0xf)] += u32::from(level),
                Input::Pci { slot, pin } => {
                    links[usize::from(intx::link(slot, pin))] += u32::from(level);
                    pins[usize::from(intx::ioapic_pin(slot, pin) - 16)] += u32::from(level);
                }
            }
        }
        (inner.pirq, inner.pair, inner.ioapic) = (state.pirq, state.pair, state.ioapic);
        inner.tell_all(&self.0.apics);
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }

    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}

impl Ports for Front {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        let mut inner = self.0.lock();
        let done = super::read_bytes(port, data, |port| inner.pair.read(port));
        inner.tell(&self.0.apics);
        done
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        let mut inner = self.0.lock();
        let done = super::write_bytes(port, data, |port, value| inner.pair.write(port, value));
        inner.tell(&self.0.apics);
        done
    }
}

impl Registers for Front {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Access {
        let value = u64::from(self.0.lock().ioapic.read(offset)) >> (8 * (offset & 3));
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        Access::Done
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Access {
        let mut value = [0; 4];
        let len = data.len().min(4);
        value[..len].copy_from_slice(&data[..len]);
        let mut inner = self.0.lock();
        let apics = &self.0.apics;
        let pin = inner
            .ioapic
            .write(offset, u32::from_le_bytes(value), &mut |message| {
                apics.send(message)
            });
        if let Some(pin) = pin {
            inner.tell_route(pin, apics);
        }
        Access::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::lock;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Messages for Heard {
        fn send(&self, message: Msi) {
            self.0.lock().unwrap().push(format!("send {:x}", message.data));
        }
    }

    impl Apics for Heard {
        fn external(&self, asserted: bool) {
            self.0.lock().unwrap().push(format!("external {asserted}"));
        }
        fn route(&self, pin: u8, message: Option<Msi>) {
            let data = message.map(|message| message.data);
            self.0.lock().unwrap().push(format!("route {pin} {data:x?}"));
        }
    }

    impl Heard {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    fn made() -> (Arc<Heard>, Arc<Interrupts>, Shared) {
        let heard = Arc::new(Heard::default());
        let interrupts = Interrupts::new(heard.clone());
        let device = interrupts.device();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 4),
            (0x21, 1),
            (0xa0, 0x11),
            (0xa1, 0x38),
            (0xa1, 2),
            (0xa1, 1),
        ] {
            Ports::write(&mut Front(interrupts.clone()), port, &[value]);
        }
        (heard, interrupts, device)
    }

    fn set_entry(device: &Shared, pin: u8, low: u32) {
        let mut device = lock(device);
        let registers = device.registers().unwrap();
        registers.write(0, 0, &[0x10 + 2 * pin, 0, 0, 0]);
        registers.write(0, 0x10, &low.to_le_bytes());
    }

    #[test]
    fn two_functions_share_an_input_until_both_let_it_go() {
        let (heard, interrupts, device) = made();
        let [one, two] = [3, 11].map(|slot| interrupts.line(Input::Pci { slot, pin: 0 }));
        set_entry(&device, 19, 0xa061);
        assert_eq!(heard.take(), ["route 19 Some(c061)"]);
        one.set(true);
        two.set(true);
        assert_eq!(heard.take(), ["send c061"]);
        one.set(false);
        interrupts.end_of_interrupt(0x61);
        assert_eq!(heard.take(), ["send c061"]);
        two.set(false);
        interrupts.end_of_interrupt(0x61);
        assert_eq!(heard.take(), [""; 0]);
    }

    #[test]
    fn a_pirq_reaches_the_interrupt_that_its_register_names() {
        let (heard, interrupts, device) = made();
        lock(&device).ports().unwrap().write(0x4d1, &[0x0c]);
        let line = interrupts.line(Input::Pci { slot: 3, pin: 0 });
        line.set(true);
        assert_eq!(heard.take(), [""; 0]);
        interrupts.route_pirq(2, 11);
        assert_eq!(heard.take(), ["external true"]);
        assert_eq!(interrupts.acknowledge(), 0x3b);
        interrupts.route_pirq(2, PIRQ_OFF);
        interrupts.route_pirq(2, 10);
        assert_eq!(
            heard.take(),
            ["external false"],
            "the cascade is still in service"
        );
    }

    #[test]
    fn the_timer_comes_to_pin_2_and_input_0() {
        let (heard, interrupts, device) = made();
        let line = interrupts.line(Input::Isa(0));
        set_entry(&device, 2, 0x30);
        line.pulse();
        assert_eq!(heard.take(), ["route 2 Some(30)", "send 30", "external true"]);
        assert_eq!(interrupts.acknowledge(), 0x30);
    }
}
