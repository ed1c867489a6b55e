//! A whole chipset under rough hands: any accesses of any width at any port and register, for property tests and fuzzing.

use std::sync::{Arc, Mutex};

use guestmem::{Block, Memory};
use vcpu::time::{Clock, CountingClock, Timers};

use super::acpi_pm::{self, AcpiPm};
use super::dma::{self, Dma};
use super::fw_cfg::{self, File, FwCfg};
use super::i8042::{self, I8042};
use super::interrupts::{self, Apics, Input, Interrupts};
use super::pit::{self, Pit};
use super::ports::{self, Debug, Panic, Reset};
use super::rtc::{self, Rtc};
use super::serial::{self, Serial};
use super::{Signals, Sink, attach, ioapic};
use crate::bus::{self, Bus, Shared};
use crate::irq::{Messages, Msi};
use crate::pci::host::{self, Map, Mapper, Root};
use crate::pci::piix::IsaBridge;
use crate::pci::{Bar, Config, Function, Identity, Msix};
use crate::{Access, Device, Registers, Saved};

const ECAM: u64 = 0xe000_0000;
/// Ports that accesses go to most.
const PORTS: [u16; 28] = [
    0x00, 0x0c, 0x20, 0x21, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xa0, 0xa1, 0xb2,
    0x3f8, 0x3fa, 0x402, 0x4d0, 0x505, 0x510, 0x511, 0x600, 0xcf8, 0xcfc, 0xcf9,
];

/// What devices tell, as a digest.
#[derive(Default)]
struct Outside(Mutex<u64>);

impl Outside {
    fn note(&self, values: [u64; 3]) {
        let mut digest = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for value in values {
            // FNV-1a by words.
            *digest = (*digest ^ value).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl Messages for Outside {
    fn send(&self, message: Msi) {
        self.note([1, message.address, u64::from(message.data)]);
    }
}

impl Apics for Outside {
    fn external(&self, asserted: bool) {
        self.note([2, u64::from(asserted), 0]);
    }
    fn route(&self, pin: u8, message: Option<Msi>) {
        let message = message.map_or(0, |message| message.address << 32 | u64::from(message.data));
        self.note([3, u64::from(pin), message]);
    }
}

impl Signals for Outside {
    fn reset(&self) {
        self.note([4, 0, 0]);
    }
    fn power_off(&self) {
        self.note([5, 0, 0]);
    }
    fn panicked(&self, loaded: bool) {
        self.note([6, u64::from(loaded), 0]);
    }
}

impl Mapper for Outside {
    fn changed(&self, map: &Map) {
        let shadows = map.shadows.iter().fold(0, |bits, it| {
            bits << 2 | u64::from(it.read) << 1 | u64::from(it.write)
        });
        self.note([7, shadows, u64::from(map.smram)]);
        for window in &map.windows {
            self.note([8, window.start, u64::from(window.writable)]);
        }
    }
}

struct Hears(Arc<Outside>);

impl Sink for Hears {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0.note([9, u64::from(*byte), 0]));
    }
}

/// A PCI function with every kind of BAR, INTx and MSI-X.
struct Card {
    config: Config,
    msix: Msix,
    intx: crate::pci::Intx,
    block: Block,
}

impl Device for Card {
    fn name(&self) -> &str {
        "card"
    }
    fn reset(&mut self) {
        self.config.reset();
    }
    fn save(&self) -> fault::Result<Saved> {
        Saved::new(1, &self.config.save())
    }
    fn restore(&mut self, saved: &Saved) -> fault::Result<()> {
        self.config.restore(&saved.fields(1)?)
    }
    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}

impl Registers for Card {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Access {
        self.msix.read(offset, data);
        Access::Done
    }
    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Access {
        self.msix.write(offset, data);
        if region == 2 {
            self.intx.set(data[0] & 1 != 0);
            self.msix.notify(offset as u16);
        }
        Access::Done
    }
}

impl Function for Card {
    fn config(&self) -> &Config {
        &self.config
    }
    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }
    fn bar_memory(&self, bar: u8) -> Option<Block> {
        (bar == 4).then(|| self.block.clone())
    }
}

/// A chipset without processors, on a clock that counts.
pub struct Bench {
    clock: Arc<CountingClock>,
    timers: Arc<Timers>,
    bus: Arc<Bus>,
    outside: Arc<Outside>,
    interrupts: Arc<Interrupts>,
    keyboard: Arc<Mutex<I8042>>,
    serial: Arc<Mutex<Serial>>,
    memory: Memory,
    /// In the order in which they are saved and restored.
    devices: Vec<Shared>,
}

impl Bench {
    /// A chipset at this moment of its clock.
    ///
    /// # Errors
    /// When the host has no memory.
    pub fn new(now: u64) -> std::io::Result<Self> {
        let clock = Arc::new(CountingClock::new(now, 1_700_000_000_000_000_000));
        let timers = Timers::new(clock.clone());
        let bus = Arc::new(Bus::new());
        let outside = Arc::new(Outside::default());
        let interrupts = Interrupts::new(outside.clone());
        let isa = |irq| interrupts.line(Input::Isa(irq));
        let memory = Memory::new(1 << 20)?;
        let mut changed = File::new("etc/changed", vec![0; 16]);
        let heard = outside.clone();
        changed.written = Some(Box::new(move |bytes| heard.note([10, bytes.len() as u64, 0])));

        let pit = Pit::new(&timers, isa(0));
        let rtc = Rtc::new(&timers, vec![0; 128], isa(8));
        let sink = || Box::new(Hears(outside.clone()));
        let heard = outside.clone();
        let room = Box::new(move || heard.note([11, 0, 0]));
        let serial = Serial::new("serial0", 0x3f8, isa(4), sink(), room);
        let keyboard = I8042::new(isa(1), Some(isa(12)), outside.clone());
        let pm = AcpiPm::new(&timers, isa(9), outside.clone());
        let fw_cfg = FwCfg::new(
            memory.clone(),
            vec![(fw_cfg::PROCESSORS, vec![1, 0])],
            vec![changed],
        );
        let bridge = IsaBridge::new(interrupts.clone());
        let card = Self::card(&interrupts, &outside)?;
        let windows = vec![0xc000_0000..ECAM, 0xf000_0000..0xfec0_0000, 1 << 32..1 << 40];
        let root = Root::new(&bus, windows, false, outside.clone());
        for (slot, function, device) in [
            (1, 0, bridge.clone() as Arc<Mutex<dyn Function>>),
            (1, 3, pm.clone()),
            (3, 0, card.clone()),
        ] {
            super::lock(&root).plug(slot, function, device);
        }
        let placed: Vec<(Shared, &[(u16, u32)])> = vec![
            (pit, pit::PORTS),
            (rtc, rtc::PORTS),
            (serial.clone(), serial::PORTS),
            (keyboard.clone(), i8042::PORTS),
            (pm, acpi_pm::PORTS),
            (fw_cfg, fw_cfg::PORTS),
            (bridge, &[]),
            (card, &[]),
            (root.clone(), host::PORTS),
            (Reset::new(outside.clone()), ports::RESET_PORTS),
            (Debug::new(sink()), ports::DEBUG_PORTS),
            (Panic::new(outside.clone()), ports::PANIC_PORTS),
            (Dma::new(), dma::PORTS),
            (interrupts.device(), interrupts::PORTS),
        ];
        for (device, ports) in &placed {
            attach(&bus, device, ports);
        }
        let devices: Vec<Shared> = placed.into_iter().map(|(device, _)| device).collect();
        bus.add_memory(ioapic::BASE, ioapic::LEN, 0, &devices[devices.len() - 1]);
        let root: Shared = root;
        bus.add_memory(ECAM, host::ECAM_LEN, 0, &root);
        Ok(Bench {
            clock,
            timers,
            bus,
            outside,
            interrupts,
            keyboard,
            serial,
            memory,
            devices,
        })
    }

    fn card(interrupts: &Arc<Interrupts>, outside: &Arc<Outside>) -> std::io::Result<Arc<Mutex<Card>>> {
        let mut config = Config::new(Identity {
            vendor: 0x1af4,
            device: 0x1041,
            ..Identity::default()
        })
        .bar(
            0,
            Bar::Memory32 {
                size: 0x1000,
                prefetchable: false,
            },
        )
        .bar(2, Bar::Io { size: 64 })
        .bar(
            4,
            Bar::Memory64 {
                size: 0x4000,
                prefetchable: true,
            },
        );
        let intx = config.intx(0, interrupts.line(Input::Pci { slot: 3, pin: 0 }));
        let msix = config.msix(3, 0, 0, 0x800, outside.clone());
        let block = Block::new("card", 0x4000)?;
        Ok(Arc::new(Mutex::new(Card {
            config,
            msix,
            intx,
            block,
        })))
    }

    /// Plays accesses, 12 bytes each, and gives a digest of all answers and of what was told outside.
    pub fn play(&self, accesses: &[u8]) -> u64 {
        *self
            .outside
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = 0xcbf2_9ce4_8422_2325;
        for access in accesses.chunks_exact(12) {
            let (head, tail) = access.split_at(4);
            let mut value = [0; 8];
            value.copy_from_slice(tail);
            self.access([head[0], head[1], head[2], head[3]], value);
        }
        *self
            .outside
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn access(&self, [what, low, high, step]: [u8; 4], mut value: [u8; 8]) {
        self.clock
            .advance(self.clock.now() + (u64::from(step) << (low & 15)));
        self.timers.fire();
        let near = PORTS[usize::from(low) % PORTS.len()].wrapping_add(u16::from(high & 3));
        let port = if high & 0xe0 == 0xe0 {
            u16::from_le_bytes([low, high])
        } else {
            near
        };
        let width = [1, 2, 4, 1][usize::from(what >> 6)];
        let place = u64::from(u16::from_le_bytes([low, high]));
        let address = match what >> 4 & 3 {
            0 => ioapic::BASE + (place & 0x5f),
            1 => ECAM + (place & 7) * 0x8000 + (place >> 3 & 0xff),
            2 => 0xf000_0000 + place,
            _ => ECAM + place * 16,
        };
        let long = 1 + usize::from(what >> 5 & 7);
        match what & 0xf {
            0..=3 => self.bus.port_write(port, &value[..width]),
            4..=7 => {
                self.bus.port_read(port, &mut value[..width]);
                self.outside.note([12, u64::from_le_bytes(value), 0]);
            }
            // Into a BAR, as if it was to be put where accesses look for it.
            9 if what >> 4 & 3 == 1 => {
                value[2..4].copy_from_slice(&[0, 0xf0]);
                self.bus.mmio_write(address & !3, &value[..4]);
            }
            8 | 9 => self.bus.mmio_write(address, &value[..long]),
            10 => {
                self.bus.mmio_read(address, &mut value[..long]);
                self.outside.note([13, u64::from_le_bytes(value), 0]);
            }
            11 => self
                .outside
                .note([14, u64::from(self.interrupts.acknowledge()), 0]),
            12 => self.interrupts.end_of_interrupt(value[0]),
            13 => {
                let mut keyboard = super::lock(&self.keyboard);
                self.outside
                    .note([15, u64::from(keyboard.press(&value[..long])), 0]);
                keyboard.motion(i32::from(value[0] as i8), i32::from(value[1] as i8), 1, value[2]);
            }
            14 => self
                .outside
                .note([16, super::lock(&self.serial).receive(&value) as u64, 0]),
            // A request for fw_cfg, or anything else in memory.
            _ => {
                let _ = self.memory.write(place, &value);
            }
        }
    }

    /// A second chipset with the state of this one.
    ///
    /// # Errors
    /// When the state is refused.
    pub fn copied(&self) -> fault::Result<Self> {
        use fault::OrFault;
        let other = Self::new(self.clock.now()).or_fault(|| fault::Fault::new(crate::state::STATE_UNFIT))?;
        for device in self.devices.iter().chain(&other.devices) {
            bus::lock(device).pause();
        }
        for (from, to) in self.devices.iter().zip(&other.devices) {
            let saved = bus::lock(from).save()?;
            bus::lock(to).restore(&saved)?;
        }
        let mut bytes = vec![0; self.memory.len() as usize];
        let copied = self
            .memory
            .read(0, &mut bytes)
            .and_then(|()| other.memory.write(0, &bytes));
        copied.or_fault(|| fault::Fault::new(crate::state::STATE_UNFIT))?;
        for device in self.devices.iter().chain(&other.devices) {
            bus::lock(device).resume();
        }
        Ok(other)
    }

    /// Resets every device.
    pub fn reset(&self) {
        self.devices.iter().for_each(|device| bus::lock(device).reset());
    }
}

/// Plays the first half of the accesses, copies the chipset by saving and restoring, and plays the second half on both: whether both said
/// the same.
///
/// # Errors
/// When the chipset cannot be made, or its own state is refused.
pub fn survives(accesses: &[u8]) -> fault::Result<bool> {
    use fault::OrFault;
    let bench = Bench::new(0).or_fault(|| fault::Fault::new(crate::state::STATE_UNFIT))?;
    let (first, second) = accesses.split_at(accesses.len() / 24 * 12);
    bench.play(first);
    let other = bench.copied()?;
    let same = bench.play(second) == other.play(second);
    bench.reset();
    bench.play(first);
    Ok(same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_accesses_are_survived_and_a_restored_chipset_goes_on_alike(accesses in proptest::collection::vec(any::<u8>(), 0..12_000)) {
            prop_assert!(survives(&accesses).unwrap());
        }
    }

    #[test]
    fn different_accesses_have_different_answers() {
        let bench = Bench::new(0).unwrap();
        assert_ne!(bench.play(&[0; 12]), bench.play(&[4; 12]));
    }
}
