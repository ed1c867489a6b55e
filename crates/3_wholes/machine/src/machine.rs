//! A machine as its process holds it: made from a plan, standing still until it is let go.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use boot::firmware::{self, Key};
use boot::kernel::{self, ConfigWrite, DirectBoot};
use boot::{Contents, Entry};
use devices::bus::lock;
use devices::chipset::fw_cfg;
use devices::work::Crew;
use fault::{Code, Fault, OrFault, Result};
use guestmem::{Block, Memory};
use vcpu::time::{Clock, CountingClock, HostClock, HostRandom, Random, SeededRandom, Timers};
use vcpu::{Accel, CpuState, Vm, VmConfig, cpuid};

use crate::control::{Order, Said};
use crate::cpus::Cpus;
use crate::front::Front;
use crate::life::Life;
use crate::load;
use crate::map::Board;
use crate::parts::{Descriptors, Ground, Parts, Told};
use crate::plan::{Boot, MachinePlan, Processor, Time};
use crate::screen::{NO_PICTURE, Outlook};
use crate::serial::{Port, Stream};

/// The machine cannot be built as planned.
pub const UNBUILDABLE: Code = Code("MAC003");
/// The memory of the machine cannot be had.
pub const NO_MEMORY: Code = Code("MAC004");

/// Pins of the IOAPIC.
const PINS: u8 = 24;

/// A machine.
pub struct Machine {
    // Dropped in this order: processors first, then what they call.
    cpus: Cpus,
    _stream: Stream,
    timer_thread: Option<JoinHandle<()>>,
    parts: Parts,
    outlook: Option<Outlook>,
    timers: Arc<Timers>,
    life: Arc<Life>,
    host_clock: Option<Arc<HostClock>>,
    board: Arc<Board>,
    memory: u64,
}

/// What a machine starts from.
struct Beginning {
    entry: Entry,
    configuration: Vec<ConfigWrite>,
    told: Told,
    firmware: Option<Block>,
}

impl Machine {
    /// Makes a machine with the descriptors of its plan; nothing runs yet.
    ///
    /// # Errors
    /// `MAC…`, or those of the part that could not be made.
    pub fn new(plan: &MachinePlan, fds: Vec<OwnedFd>) -> Result<Machine> {
        let enter: Enter = Arc::new(|_: &str| {});
        let mut fds = Descriptors::new(fds);
        let sources = Sources::new(plan.time);
        let accel = accel(plan.processor, &mut fds)?;
        let ground = ground(plan, &*accel, &sources, &enter)?;
        let beginning = begin(plan, &ground.memory, &*sources.random, &mut fds)?;
        let board = Board::new(Arc::clone(&ground.vm), ground.memory.clone(), beginning.firmware);
        let board = Arc::new(board);
        let port = Port::new().or_fault(|| unbuildable("serial port"))?;
        let link = port.link();
        let direct = matches!(plan.boot, Boot::Kernel { .. });
        let log = plan.firmware_log.map(|fd| fds.take(fd)).transpose()?;
        let told = beginning.told;
        let mut parts = Parts::chipset(
            &ground,
            Arc::clone(&board),
            direct,
            told,
            port,
            log.map(Into::into),
        )?;
        attach(plan, &ground, &mut parts, sources.random, direct, &mut fds)?;
        configure(&parts, &beginning.configuration);
        let stream = link
            .carry(
                fds.take(plan.serial)?,
                Arc::clone(&parts.serial),
                Arc::clone(&enter),
            )
            .or_fault(|| unbuildable("serial port"))?;
        let outlook = parts.screen.clone().map(|screen| {
            let keymap = plan.display.as_deref().unwrap_or_default();
            Outlook::new(
                &plan.name,
                screen,
                parts.keyboard.clone(),
                keymap,
                Arc::clone(&enter),
            )
        });
        let Ground { vm, timers, life, .. } = ground;
        let front = Arc::new(Front {
            bus: Arc::clone(&parts.bus),
            interrupts: Arc::clone(&parts.interrupts),
            life: Arc::clone(&life),
            counting: sources.host.is_none().then(|| Arc::clone(&timers)),
        });
        let vcpus = processors(&*accel, &*vm, plan.cpus, &beginning.entry)?;
        let cpus = Cpus::new(vcpus, front, life.clone(), Arc::clone(&timers), &enter)?;
        let timer_thread = match &sources.host {
            None => None,
            Some(_) => Some(timer_thread(&timers, enter)?),
        };
        Ok(Machine {
            cpus,
            _stream: stream,
            timer_thread,
            parts,
            outlook,
            timers,
            life,
            host_clock: sources.host,
            board,
            memory: plan.memory,
        })
    }

    /// Where news of the machine is.
    #[must_use]
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// Its processors.
    #[must_use]
    pub fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(clock) = &self.host_clock {
            clock.go();
            self.timers.wake();
        }
        for device in &self.parts.devices {
            lock(device).resume();
        }
        let mut root = self.parts.root.lock().unwrap_or_else(PoisonError::into_inner);
        devices::Device::resume(&mut *root);
        drop(root);
        self.cpus.resume();
    }

    /// Returns when nothing of it moves.
    pub fn pause(&self) {
        self.cpus.pause();
        for device in &self.parts.devices {
            lock(device).pause();
        }
        if let Some(clock) = &self.host_clock {
            clock.stop();
        }
    }

    /// Stands still for good: what was written to disks is written.
    pub fn finish(&self) {
        self.pause();
    }

    /// Carries out an order.
    ///
    /// # Errors
    /// When it cannot be carried out.
    pub fn obey(&self, order: Order, fds: Vec<OwnedFd>) -> Result<(Said, Vec<OwnedFd>)> {
        match order {
            Order::Begin { .. } => return Err(Fault::new(UNBUILDABLE).arg("what", "it is built already")),
            Order::PowerButton => {
                let mut power = self.parts.power.lock().unwrap_or_else(PoisonError::into_inner);
                power.press_power_button();
            }
            Order::Pause => self.pause(),
            Order::Resume | Order::Retry => self.resume(),
            Order::Connect { port } => {
                let silent = || Fault::new(UNBUILDABLE).arg("what", "vsock");
                let connector = self.parts.connector.as_ref().ok_or_else(silent)?;
                let stream = connector.connect(port).or_fault(silent)?;
                return Ok((Said::Done, vec![stream.into()]));
            }
            Order::Display { password } => {
                let outlook = self.outlook()?;
                let listener = fds.into_iter().next();
                let listener =
                    listener.ok_or_else(|| Fault::new(UNBUILDABLE).arg("what", "listening socket"))?;
                outlook.listen(listener, password)?;
            }
            Order::Screenshot { text } => return self.outlook()?.look(text),
            Order::Memory { bytes } => {
                let balloon = self.parts.balloon.as_ref();
                let balloon = balloon.ok_or_else(|| Fault::new(UNBUILDABLE).arg("what", "balloon"))?;
                let mut balloon = balloon.lock().unwrap_or_else(PoisonError::into_inner);
                let all = self.memory;
                balloon.device_mut().set_target(all.saturating_sub(bytes));
            }
            Order::Counters => {
                let count = |number| self.cpus.processor(number).and_then(|cpu| cpu.retired());
                let clock = self.timers.clock().now();
                let instructions = if self.cpus.are_still() {
                    (0..self.cpus.count()).map(count).sum()
                } else {
                    None
                };
                return Ok((Said::Counters { instructions, clock }, Vec::new()));
            }
            Order::Keys { scancodes } => {
                let mut keyboard = self.parts.keyboard.lock().unwrap_or_else(PoisonError::into_inner);
                keyboard.press(&scancodes);
            }
            other => {
                let what = format!("{other:?}");
                let what = what
                    .split(|c: char| !c.is_alphanumeric())
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                return Err(Fault::new(UNBUILDABLE).arg("what", what));
            }
        }
        Ok((Said::Done, Vec::new()))
    }

    fn outlook(&self) -> Result<&Outlook> {
        self.outlook
            .as_ref()
            .ok_or_else(|| Fault::new(NO_PICTURE).arg("what", "screen"))
    }

    /// Why a processor could not go on, or memory not be mapped.
    #[must_use]
    pub fn trouble(&self) -> Option<Fault> {
        self.life.broken().or_else(|| self.board.refused())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cpus.pause();
        self.timers.end();
        if let Some(thread) = self.timer_thread.take() {
            let _ = thread.join();
        }
    }
}

/// What every thread of a machine calls first, with its name.
type Enter = Arc<dyn Fn(&str) + Send + Sync>;

/// Where time and randomness come from.
struct Sources {
    clock: Arc<dyn Clock>,
    /// The clock again, where it is the host's.
    host: Option<Arc<HostClock>>,
    random: Arc<dyn Random>,
}

impl Sources {
    /// The host's clock stands still until the machine is let go.
    fn new(time: Time) -> Self {
        match time {
            Time::Host => {
                let clock = Arc::new(HostClock::new(0));
                clock.stop();
                Sources {
                    clock: clock.clone(),
                    host: Some(clock),
                    random: Arc::new(HostRandom),
                }
            }
            Time::Counting { epoch, seed } => Sources {
                clock: Arc::new(CountingClock::new(0, epoch)),
                host: None,
                random: Arc::new(SeededRandom::new(seed)),
            },
        }
    }
}

fn unbuildable(what: &str) -> Fault {
    Fault::new(UNBUILDABLE).arg("what", what)
}

/// What the parts are made with.
fn ground(plan: &MachinePlan, accel: &dyn Accel, sources: &Sources, enter: &Enter) -> Result<Ground> {
    let memory = Memory::new(plan.memory).or_fault(|| Fault::new(NO_MEMORY).arg("memory", plan.memory))?;
    let timers = Timers::new(Arc::clone(&sources.clock));
    let vm = accel.create(VmConfig {
        clock: Arc::clone(&sources.clock),
        random: Arc::clone(&sources.random),
        ioapic_pins: PINS,
    })?;
    let crew = match sources.host {
        Some(_) => Crew::threads(Arc::clone(enter)),
        None => Crew::counting(Arc::clone(&timers)),
    };
    Ok(Ground {
        vm,
        memory,
        timers,
        crew,
        life: Arc::new(Life::new()?),
        doorbells: sources.host.is_some(),
    })
}

/// Attaches what the plan names besides the chipset.
fn attach(
    plan: &MachinePlan,
    ground: &Ground,
    parts: &mut Parts,
    random: Arc<dyn Random>,
    direct: bool,
    fds: &mut Descriptors,
) -> Result<()> {
    if plan.display.is_some() {
        parts.screen(ground, direct)?;
    }
    for disk in &plan.disks {
        parts.disk(ground, disk, fds)?;
    }
    for (number, nic) in plan.nics.iter().enumerate() {
        parts.nic(ground, number, nic, fds)?;
    }
    parts.common(ground, random)
}

/// What executes the machine.
fn accel(processor: Processor, fds: &mut Descriptors) -> Result<Box<dyn Accel>> {
    Ok(match processor {
        Processor::Kvm { device } => Box::new(vcpu_kvm::Kvm::from_fd(fds.take(device)?)?),
        Processor::Software => Box::new(vcpu_soft::Software::new()),
        Processor::Reference => Box::new(vcpu_soft::Software::reference()),
    })
}

/// Puts what the machine starts with into its memory.
fn begin(
    plan: &MachinePlan,
    memory: &Memory,
    random: &dyn Random,
    fds: &mut Descriptors,
) -> Result<Beginning> {
    let machine = boot::Machine {
        display: plan.display.is_some(),
        uuid: plan.uuid,
        ..boot::Machine::new(plan.memory, plan.cpus)
    };
    match &plan.boot {
        Boot::Kernel {
            kernel,
            initrd,
            command_line,
        } => {
            let kernel = load::read(&fds.take(*kernel)?.into())?;
            let archives: Vec<Vec<u8>> = initrd
                .iter()
                .map(|fd| load::read(&fds.take(*fd)?.into()))
                .collect::<Result<_>>()?;
            let archives: Vec<&[u8]> = archives.iter().map(Vec::as_slice).collect();
            let mut seed = [0; 32];
            random.fill(&mut seed);
            let start = kernel::direct(
                &machine,
                &DirectBoot {
                    kernel: &kernel,
                    initrd: &archives,
                    command_line: command_line.as_bytes(),
                    handover: None,
                    seed: Some(seed),
                },
            )?;
            load::place(memory, &start.chunks)?;
            Ok(Beginning {
                entry: start.entry,
                configuration: start.configuration,
                told: told(
                    firmware::cmos(&machine, &firmware::Firmware::default()),
                    firmware::items(&machine, &firmware::Firmware::default()),
                ),
                firmware: None,
            })
        }
        Boot::Firmware { image, vga, order } => {
            let image = load::read(&fds.take(*image)?.into())?;
            let rom = vga.map(|fd| load::read(&fds.take(fd)?.into())).transpose()?;
            let firmware = firmware::Firmware {
                order: boot_order(plan, order),
                vga_rom: rom.as_deref(),
                ..firmware::Firmware::default()
            };
            let start = firmware::start(&machine, &firmware, &image)?;
            let no_memory = || Fault::new(NO_MEMORY).arg("memory", image.len());
            let block = Block::new("firmware", image.len() as u64).or_fault(no_memory)?;
            if let Contents::Bytes(bytes) = &start.rom.contents {
                block.write(0, bytes).or_fault(no_memory)?;
            }
            Ok(Beginning {
                entry: start.entry,
                configuration: Vec::new(),
                told: told(start.cmos, start.fw_cfg),
                firmware: Some(block),
            })
        }
    }
}

fn told(cmos: Vec<(u8, u8)>, all: Vec<firmware::Item>) -> Told {
    let mut told = Told {
        cmos,
        ..Told::default()
    };
    for item in all {
        match item.key {
            Key::Selector(number) => told.items.push((number, item.bytes)),
            Key::File(name) => told.files.push(fw_cfg::File::new(&name, item.bytes)),
        }
    }
    told
}

/// Disks in the order in which firmware tries them.
fn boot_order(_plan: &MachinePlan, _order: &[String]) -> Vec<firmware::BootDevice> {
    Vec::new()
}

/// Writes into PCI configuration space what firmware would have written.
fn configure(parts: &Parts, writes: &[ConfigWrite]) {
    for write in writes {
        let address = 1 << 31
            | u32::from(write.slot) << 11
            | u32::from(write.function) << 8
            | u32::from(write.register);
        parts.bus.port_write(0xcf8, &address.to_le_bytes());
        parts.bus.port_write(0xcfc, &write.value.to_le_bytes());
    }
}

fn processors(accel: &dyn Accel, vm: &dyn Vm, count: u32, entry: &Entry) -> Result<Vec<Box<dyn vcpu::Vcpu>>> {
    let leaves = accel.cpuid()?;
    let mut all = Vec::new();
    for number in 0..count {
        let mut vcpu = vm.vcpu(number, &cpuid::for_processor(&leaves, number, count))?;
        let state = if number == 0 {
            load::enter(entry)
        } else {
            CpuState::reset(number)
        };
        vcpu.restore(&state)?;
        all.push(vcpu);
    }
    Ok(all)
}

fn timer_thread(timers: &Arc<Timers>, enter: Arc<dyn Fn(&str) + Send + Sync>) -> Result<JoinHandle<()>> {
    let timers = Arc::clone(timers);
    let thread = std::thread::Builder::new()
        .name("timers".to_owned())
        .spawn(move || {
            enter("timers");
            timers.serve();
        });
    thread.or_fault(|| Fault::new(crate::cpus::NO_THREAD).arg("thread", "timers"))
}
