//! The parts of a machine: made from its plan, in the order in which they need one another.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use boot::layout;
use devices::bus::{Bus, Shared};
use devices::chipset::acpi_pm::AcpiPm;
use devices::chipset::i8042::I8042;
use devices::chipset::interrupts::{Apics, Input, Interrupts};
use devices::chipset::serial::Serial;
use devices::chipset::{Signals, Sink, attach, dma, fw_cfg, i8042, interrupts, pit, ports, rtc, serial};
use devices::irq::Messages;
use devices::pci::host::{self, Root};
use devices::pci::{Function, piix};
use devices::vga::{self, Vga};
use devices::virtio::balloon::Balloon;
use devices::virtio::block::{Block, Method};
use devices::virtio::net::Net;
use devices::virtio::rng::Rng;
use devices::virtio::vsock::{Connector, Vsock, VsockHost};
use devices::virtio::{Doorbells, VirtioDevice, VirtioPci};
use devices::work::Crew;
use disk::Image;
use fault::{Fault, OrFault, Result};
use guestmem::Memory;
use vcpu::Vm;
use vcpu::time::{Random, Timers};

use crate::life::Life;
use crate::machine::UNBUILDABLE;
use crate::map::Board;
use crate::packet::Packet;
use crate::plan::{self, DiskBus, Fd};
use crate::serial::Port;

/// First PCI slot of virtio devices.
const FIRST_SLOT: u8 = 3;

/// What all parts are made with.
pub struct Ground {
    /// The virtual machine.
    pub vm: Arc<dyn Vm>,
    /// RAM.
    pub memory: Memory,
    /// Timers of devices.
    pub timers: Arc<Timers>,
    /// Who does devices' work.
    pub crew: Crew,
    /// Where devices tell what happens.
    pub life: Arc<Life>,
    /// Whether doorbells may ring without the processor's thread.
    pub doorbells: bool,
}

/// The parts that somebody speaks to by name.
pub struct Parts {
    /// Ports and addresses.
    pub bus: Arc<Bus>,
    /// Interrupt controllers.
    pub interrupts: Arc<Interrupts>,
    /// Power management.
    pub power: Arc<Mutex<AcpiPm>>,
    /// Keyboard controller.
    pub keyboard: Arc<Mutex<I8042>>,
    /// First serial port.
    pub serial: Arc<Mutex<Serial>>,
    /// PCI.
    pub root: Arc<Mutex<Root>>,
    /// The display adapter, where there is one.
    pub screen: Option<Arc<Mutex<Vga>>>,
    /// What connects to ports of the guest.
    pub connector: Option<Connector>,
    /// The balloon.
    pub balloon: Option<Arc<Mutex<VirtioPci<Balloon>>>>,
    /// All devices, in the order in which they are paused and resumed; the host bridge comes after them.
    pub devices: Vec<Shared>,
    next_slot: u8,
}

/// What firmware and kernels read of the machine.
#[derive(Default)]
pub struct Told {
    /// Indices and values of CMOS.
    pub cmos: Vec<(u8, u8)>,
    /// Numbered items of fw_cfg.
    pub items: Vec<(u16, Vec<u8>)>,
    /// Files of fw_cfg.
    pub files: Vec<fw_cfg::File>,
}

/// Context identifier of the guest; 2 is the host (virtio 1.2, section 5.10.4).
const GUEST_CID: u32 = 3;

/// Port of the host at which the guest's agent knocks when its system is up.
const UP_PORT: u32 = 1025;

/// The host hears when the guest is up, and offers nothing else to guests that connect to it.
struct Ears(Arc<Life>);

impl VsockHost for Ears {
    fn accept(&self, port: u32, _guest_port: u32) -> Option<std::os::unix::net::UnixStream> {
        if port == UP_PORT {
            self.0.up();
        }
        None
    }
}

/// Doorbells ring through the virtual machine.
struct Bells(Arc<dyn Vm>);

impl Doorbells for Bells {
    fn set(&self, address: u64, event: Option<std::os::fd::BorrowedFd<'_>>) {
        // What the host refuses comes by way of the bus.
        let _ = self.0.doorbell(address, event);
    }
}

fn unbuildable(what: &str) -> Fault {
    Fault::new(UNBUILDABLE).arg("what", what)
}

impl Parts {
    /// The chipset. `direct`: a kernel is entered without firmware, so memory lies where firmware would have put it.
    pub fn chipset(
        ground: &Ground,
        board: Arc<Board>,
        direct: bool,
        told: Told,
        port: Port,
        firmware_log: Option<File>,
    ) -> Result<Parts> {
        let bus = Arc::new(Bus::new());
        let apics: Arc<dyn Apics> = Arc::new(Arc::clone(&ground.vm));
        let interrupts = Interrupts::new(apics);
        let signals: Arc<dyn Signals> = ground.life.clone();
        let line = |number| interrupts.line(Input::Isa(number));
        let windows = layout::PCI_WINDOWS
            .iter()
            .map(|(first, last)| u64::from(*first)..u64::from(*last) + 1)
            .chain(layout::pci_window_64(ground.memory.len(), 40).map(|(first, last)| first..last + 1));
        let root = Root::new(&bus, windows.collect(), direct, board);
        let mut cmos = vec![0; 128];
        for (index, value) in told.cmos {
            if let Some(byte) = cmos.get_mut(usize::from(index)) {
                *byte = value;
            }
        }
        let timers = &ground.timers;
        let power = AcpiPm::new(timers, line(layout::SCI), Arc::clone(&signals));
        let keyboard = I8042::new(line(1), None, Arc::clone(&signals));
        let Port { output, room, .. } = port;
        let serial = Serial::new("serial0", 0x3f8, line(4), output, room);
        let front: Shared = interrupts.device();
        bus.add_memory(layout::IOAPIC.into(), 0x1000, 0, &front);
        attach(&bus, &front, interrupts::PORTS);
        let root_shared: Shared = root.clone();
        attach(&bus, &root_shared, host::PORTS);
        bus.add_memory(layout::ECAM, layout::ECAM_LENGTH, 0, &root_shared);
        let mut devices: Vec<Shared> = vec![front];
        let mut add = |device: Shared, ports: &[(u16, u32)]| {
            attach(&bus, &device, ports);
            devices.push(device);
        };
        add(pit::Pit::new(timers, line(0)), pit::PORTS);
        add(rtc::Rtc::new(timers, cmos, line(8)), rtc::PORTS);
        add(dma::Dma::new(), dma::PORTS);
        add(keyboard.clone(), i8042::PORTS);
        add(serial.clone(), serial::PORTS);
        add(ports::Reset::new(Arc::clone(&signals)), ports::RESET_PORTS);
        add(
            ports::Debug::new(Box::new(FirmwareLog::new(firmware_log))),
            ports::DEBUG_PORTS,
        );
        add(ports::Panic::new(Arc::clone(&signals)), ports::PANIC_PORTS);
        add(power.clone(), devices::chipset::acpi_pm::PORTS);
        add(
            fw_cfg::FwCfg::new(ground.memory.clone(), told.items, told.files),
            fw_cfg::PORTS,
        );
        let bridge = piix::IsaBridge::new(Arc::clone(&interrupts));
        devices.push(bridge.clone());
        {
            let mut root = root.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            root.plug(layout::PIIX_SLOT, 0, bridge);
            root.plug(layout::PIIX_SLOT, 3, power.clone());
        }
        Ok(Parts {
            bus,
            interrupts,
            power,
            keyboard,
            serial,
            root,
            screen: None,
            connector: None,
            balloon: None,
            devices,
            next_slot: FIRST_SLOT,
        })
    }

    fn plug(&mut self, function: Arc<Mutex<dyn Function>>, shared: Shared) -> Result<()> {
        if self.next_slot > 31 {
            return Err(unbuildable("more than 29 PCI devices"));
        }
        let mut root = self
            .root
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        root.plug(self.next_slot, 0, function);
        drop(root);
        self.next_slot += 1;
        self.devices.push(shared);
        Ok(())
    }

    fn virtio<D: VirtioDevice + 'static>(
        &mut self,
        ground: &Ground,
        device: D,
    ) -> Result<Arc<Mutex<VirtioPci<D>>>> {
        let line = self.interrupts.line(Input::Pci {
            slot: self.next_slot,
            pin: 0,
        });
        let messages: Arc<dyn Messages> = Arc::new(Arc::clone(&ground.vm));
        let doorbells: Option<Arc<dyn Doorbells>> = ground
            .doorbells
            .then(|| Arc::new(Bells(Arc::clone(&ground.vm))) as Arc<dyn Doorbells>);
        let function = VirtioPci::new(device, &ground.memory, line, messages, doorbells);
        self.plug(function.clone(), function.clone())?;
        Ok(function)
    }

    /// Attaches a display adapter; `in_mode3`: it shows text from the beginning, for kernels that are entered without firmware.
    pub fn screen(&mut self, ground: &Ground, in_mode3: bool) -> Result<()> {
        let adapter = Vga::new(&ground.timers, None, in_mode3).or_fault(|| unbuildable("screen"))?;
        let shared: Shared = adapter.clone();
        attach(&self.bus, &shared, vga::PORTS);
        self.bus
            .add_memory(vga::WINDOW.0, vga::WINDOW.1, vga::WINDOW_REGION, &shared);
        let mut root = self
            .root
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        root.plug(layout::VGA_SLOT, 0, adapter.clone());
        drop(root);
        self.devices.push(shared);
        self.screen = Some(adapter);
        Ok(())
    }

    /// What every machine has besides disks and network cards: randomness, sockets to the host, a balloon.
    pub fn common(&mut self, ground: &Ground, random: Arc<dyn Random>) -> Result<()> {
        let rng = Rng::new("rng", random, &ground.crew).or_fault(|| unbuildable("rng"))?;
        self.virtio(ground, rng)?;
        let vsock = Vsock::new(
            "vsock",
            GUEST_CID,
            Arc::new(Ears(Arc::clone(&ground.life))),
            &ground.crew,
        );
        let vsock = vsock.or_fault(|| unbuildable("vsock"))?;
        self.connector = Some(vsock.connector());
        self.virtio(ground, vsock)?;
        let balloon = Balloon::new("balloon", &ground.crew).or_fault(|| unbuildable("balloon"))?;
        self.balloon = Some(self.virtio(ground, balloon)?);
        Ok(())
    }

    /// Attaches a disk.
    pub fn disk(&mut self, ground: &Ground, disk: &plan::Disk, fds: &mut Descriptors) -> Result<()> {
        if disk.bus != DiskBus::Virtio || disk.cdrom {
            return Ok(());
        }
        let Some(file) = disk.file else {
            return Err(unbuildable("a disk without a file"));
        };
        let image = open(disk, fds.take(file)?, fds)?;
        let block = Block::new(
            &format!("disk-{}", disk.name),
            image,
            1,
            &disk.name,
            Method::Ring,
            &ground.crew,
            ground.life.clone(),
        )
        .or_fault(|| unbuildable(&disk.name))?;
        self.virtio(ground, block).map(drop)
    }

    /// Attaches a network card.
    pub fn nic(
        &mut self,
        ground: &Ground,
        number: usize,
        nic: &plan::Nic,
        fds: &mut Descriptors,
    ) -> Result<()> {
        let name = format!("nic{number}");
        let interface = Packet::interface(fds.take(nic.link)?).or_fault(|| unbuildable(&name))?;
        let net = Net::new(&name, nic.mac, Some(nic.mtu), interface, &ground.crew)
            .or_fault(|| unbuildable(&name))?;
        self.virtio(ground, net).map(drop)
    }
}

/// The image of a disk; what is written goes to its scratch file, when it has one.
fn open(disk: &plan::Disk, file: OwnedFd, fds: &mut Descriptors) -> Result<Arc<dyn Image>> {
    let format = if disk.format == "qcow2" {
        disk::Format::Qcow2
    } else {
        disk::Format::Raw
    };
    let apart = disk.scratch.is_some();
    let image = disk::open(file.into(), format, disk.read_only || apart)?;
    match disk.scratch {
        None => Ok(image.into()),
        Some(scratch) => {
            let scratch: File = fds.take(scratch)?.into();
            let overlay = disk::Overlay::new(image, scratch).or_fault(|| unbuildable(&disk.name))?;
            Ok(Arc::new(overlay))
        }
    }
}

/// The descriptors that came with a plan, each taken once.
pub struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    /// In the order in which they came.
    #[must_use]
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Descriptors(fds.into_iter().map(Some).collect())
    }

    /// Takes one.
    ///
    /// # Errors
    /// `MAC003` when it did not come, or was taken before.
    pub fn take(&mut self, fd: Fd) -> Result<OwnedFd> {
        let taken = self.0.get_mut(fd.0).and_then(Option::take);
        taken.ok_or_else(|| unbuildable("a descriptor that did not come along"))
    }
}

/// Output of firmware, as much as a log may hold.
struct FirmwareLog {
    file: Option<File>,
    left: usize,
}

impl FirmwareLog {
    /// Most bytes of one run.
    const MOST: usize = 1 << 20;

    fn new(file: Option<File>) -> Self {
        FirmwareLog {
            file,
            left: Self::MOST,
        }
    }
}

impl Sink for FirmwareLog {
    fn write(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.left);
        self.left -= count;
        if let Some(file) = &mut self.file {
            // A log that cannot be written does the guest no harm.
            let _ = std::io::Write::write_all(file, &bytes[..count]);
        }
    }
}
