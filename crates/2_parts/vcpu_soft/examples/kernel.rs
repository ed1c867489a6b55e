//! Boots a bzImage on the software CPU with nothing but a serial port: `kernel BZIMAGE [--initrd FILE] [--memory MIB]
//! [--cpus N] [--seconds S] [--counting] [--protected] [--append "…"]`. The kernel's words come on standard output, figures on standard error.
//! With `--retire N --snapshots M` time counts instructions, the machine is saved, dropped and restored M times in the first N
//! instructions, and a digest of registers and memory is told: the same for every M.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use guestmem::Memory;
use vcpu::state::{CpuState, Segment, msr};
use vcpu::time::{Clock, CountingClock, HostClock, HostRandom, Random, SeededRandom};
use vcpu::{Accel, Access, Halt, Io, Slot, Vm, VmConfig};
use vcpu_soft::Software;

/// A 16550 that is always ready, on COM1.
#[derive(Default)]
struct Serial {
    registers: [AtomicU8; 8],
}

impl Io for Serial {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if (0x3f8..0x400).contains(&port) {
            data[0] = match port - 0x3f8 {
                5 => 0x60,
                2 => 1,
                6 => 0xb0,
                0 => 0,
                n => self.registers[n as usize].load(Ordering::Relaxed),
            };
        }
        if port == 0x61 {
            // PIT channel 2 has always expired, for calibrations.
            data[0] = 0x20;
        }
    }
    fn port_write(&self, port: u16, data: &[u8]) {
        if (0x3f8..0x400).contains(&port) {
            let n = usize::from(port - 0x3f8);
            if n == 0 && self.registers[3].load(Ordering::Relaxed) & 0x80 == 0 {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(&data[..1]);
                let _ = out.flush();
            }
            self.registers[n].store(data[0], Ordering::Relaxed);
        }
    }
    fn mmio_read(&self, _address: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn mmio_write(&self, _address: u64, _data: &[u8]) {}
    fn acknowledge(&self) -> u8 {
        0xff
    }
    fn end_of_interrupt(&self, _vector: u8) {}
}

struct Options {
    kernel: String,
    initrd: Option<String>,
    memory: u64,
    cpus: u32,
    seconds: u64,
    counting: bool,
    append: String,
    retire: u64,
    snapshots: u64,
    protected: bool,
}

fn options() -> Options {
    let mut options = Options {
        kernel: String::new(),
        initrd: None,
        memory: 512,
        cpus: 1,
        seconds: 60,
        counting: false,
        retire: 0,
        snapshots: 0,
        protected: false,
        append: "earlyprintk=ttyS0 console=ttyS0 no_timer_check".into(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option wants a value");
        match argument.as_str() {
            "--initrd" => options.initrd = Some(value()),
            "--memory" => options.memory = value().parse().expect("a number of MiB"),
            "--cpus" => options.cpus = value().parse().expect("a number"),
            "--seconds" => options.seconds = value().parse().expect("a number"),
            "--counting" => options.counting = true,
            "--protected" => options.protected = true,
            "--retire" => options.retire = value().parse().expect("a number"),
            "--snapshots" => options.snapshots = value().parse().expect("a number"),
            "--append" => options.append = value(),
            _ => options.kernel = argument,
        }
    }
    options
}

const PARAMETERS: u64 = 0x1_0000;
const TABLES: u64 = 0x2_0000;
const COMMAND_LINE: u64 = 0x3_0000;
const RSDP: u64 = 0x4_0000;
const GDT: u64 = 0x5_0000;
const KERNEL: u64 = 0x100_0000;

/// Checksummed ACPI table.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = Vec::new();
    table.extend_from_slice(signature);
    table.extend_from_slice(&(36 + body.len() as u32).to_le_bytes());
    table.extend_from_slice(&[revision, 0]);
    table.extend_from_slice(b"POSADAPOSADA  \x01\0\0\0POSA\x01\0\0\0");
    table.extend_from_slice(body);
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = 0u8.wrapping_sub(sum);
    table
}

/// RSDP, XSDT, MADT and a FADT of hardware-reduced ACPI.
fn acpi(memory: &Memory, cpus: u32) {
    let mut madt = vec![0, 0, 0xe0, 0xfe, 0, 0, 0, 0];
    for n in 0..cpus as u8 {
        madt.extend_from_slice(&[0, 8, n, n, 1, 0, 0, 0]);
    }
    let madt = table(b"APIC", 4, &madt);
    let dsdt = table(b"DSDT", 2, &[]);
    let (madt_at, fadt_at, dsdt_at, xsdt_at) = (RSDP + 0x100, RSDP + 0x400, RSDP + 0x800, RSDP + 0xa00);
    let mut fadt = vec![0; 276 - 36];
    fadt[112 - 36..116 - 36].copy_from_slice(&(1u32 << 20).to_le_bytes());
    fadt[140 - 36..148 - 36].copy_from_slice(&dsdt_at.to_le_bytes());
    let fadt = table(b"FACP", 6, &fadt);
    let pointers: Vec<u8> = [fadt_at, madt_at]
        .iter()
        .flat_map(|at| at.to_le_bytes())
        .collect();
    let xsdt = table(b"XSDT", 1, &pointers);
    let mut rsdp = b"RSD PTR \0POSADA\x02".to_vec();
    rsdp.extend_from_slice(&0u32.to_le_bytes());
    rsdp.extend_from_slice(&36u32.to_le_bytes());
    rsdp.extend_from_slice(&xsdt_at.to_le_bytes());
    rsdp.extend_from_slice(&[0; 4]);
    rsdp[8] = 0u8.wrapping_sub(rsdp[..20].iter().fold(0, |sum, byte| sum.wrapping_add(*byte)));
    rsdp[32] = 0u8.wrapping_sub(rsdp.iter().fold(0, |sum, byte| sum.wrapping_add(*byte)));
    for (at, bytes) in [
        (RSDP, &rsdp),
        (madt_at, &madt),
        (fadt_at, &fadt),
        (dsdt_at, &dsdt),
        (xsdt_at, &xsdt),
    ] {
        memory.write(at, bytes).expect("low memory");
    }
}

/// Loads kernel and initrd and composes the state of the 64-bit entry (Documentation/arch/x86/boot.rst).
fn load(memory: &Memory, options: &Options) -> CpuState {
    let image = std::fs::read(&options.kernel).expect("the kernel is readable");
    let setup = (usize::from(image[0x1f1]) + 1) * 512;
    memory.write(KERNEL, &image[setup..]).expect("the kernel fits");
    let mut parameters = vec![0u8; 4096];
    let header_end = 0x202 + usize::from(image[0x201]);
    parameters[0x1f1..header_end].copy_from_slice(&image[0x1f1..header_end]);
    parameters[0x210] = 0xff;
    parameters[0x211] |= 1;
    parameters[0x228..0x22c].copy_from_slice(&(COMMAND_LINE as u32).to_le_bytes());
    parameters[0x70..0x78].copy_from_slice(&RSDP.to_le_bytes());
    let bytes = options.memory << 20;
    if let Some(initrd) = &options.initrd {
        let initrd = std::fs::read(initrd).expect("the initrd is readable");
        let at = (bytes.min(0x7000_0000) - initrd.len() as u64) & !0xfff;
        memory.write(at, &initrd).expect("the initrd fits");
        parameters[0x218..0x21c].copy_from_slice(&(at as u32).to_le_bytes());
        parameters[0x21c..0x220].copy_from_slice(&(initrd.len() as u32).to_le_bytes());
    }
    let map: [(u64, u64, u32); 2] = [(0, 0x9_f000, 1), (0x10_0000, bytes - 0x10_0000, 1)];
    parameters[0x1e8] = map.len() as u8;
    for (n, (start, len, kind)) in map.iter().enumerate() {
        let at = 0x2d0 + 20 * n;
        parameters[at..at + 8].copy_from_slice(&start.to_le_bytes());
        parameters[at + 8..at + 16].copy_from_slice(&len.to_le_bytes());
        parameters[at + 16..at + 20].copy_from_slice(&kind.to_le_bytes());
    }
    memory.write(PARAMETERS, &parameters).expect("low memory");
    let mut line = options.append.clone().into_bytes();
    line.push(0);
    memory.write(COMMAND_LINE, &line).expect("low memory");
    acpi(memory, options.cpus);
    for (at, value) in [(TABLES, TABLES + 0x1003), (TABLES + 0x1000, TABLES + 0x2003)] {
        memory.write(at, &value.to_le_bytes()).expect("low memory");
    }
    for n in 0..4u64 {
        let directory = TABLES + 0x2000 + n * 0x1000;
        memory
            .write(TABLES + 0x1000 + 8 * n, &(directory | 3).to_le_bytes())
            .expect("low memory");
        for m in 0..512u64 {
            let entry = (n * 512 + m) << 21 | 0x83;
            memory
                .write(directory + 8 * m, &entry.to_le_bytes())
                .expect("low memory");
        }
    }
    let code = if options.protected {
        0x00cf_9b00_0000_ffff_u64
    } else {
        0x00af_9b00_0000_ffff
    };
    for (n, entry) in [0, 0, code, 0x00cf_9300_0000_ffff].iter().enumerate() {
        memory
            .write(GDT + 8 * n as u64, &entry.to_le_bytes())
            .expect("low memory");
    }
    if options.protected {
        protected_state()
    } else {
        entry_state()
    }
}

/// The 32-bit entry: flat segments, no paging.
fn protected_state() -> CpuState {
    let mut state = entry_state();
    state.segments[1].attributes = 0xc09b;
    state.cr0 = 0x11;
    state.cr3 = 0;
    state.cr4 = 0;
    state.set_msr(msr::EFER, 0);
    state.rip = KERNEL;
    state
}

fn entry_state() -> CpuState {
    let mut state = CpuState::reset(0);
    let data = Segment {
        selector: 0x18,
        base: 0,
        limit: u32::MAX,
        attributes: 0xc093,
    };
    state.segments = [data; 6];
    state.segments[1] = Segment {
        selector: 0x10,
        attributes: 0xa09b,
        ..data
    };
    state.gdt.base = GDT;
    state.gdt.limit = 31;
    state.cr0 = 0x8000_0031;
    state.cr3 = TABLES;
    state.cr4 = 0x20;
    state.set_msr(msr::EFER, 0x500);
    state.rip = KERNEL + 0x200;
    state.registers[6] = PARAMETERS;
    state.registers[4] = 0x8000;
    state
}

fn slots(memory: &Memory) -> Vec<Slot> {
    memory
        .regions()
        .map(|region| Slot {
            start: region.start,
            len: region.len,
            block: memory.block().clone(),
            offset: region.offset,
            access: Access::ReadWrite,
        })
        .collect()
}

/// Runs so many instructions in pieces, each under a new machine, and tells a digest of the end.
fn repeat(memory: &Memory, mut state: CpuState, options: &Options) {
    let accel = Software::new();
    let serial = Serial::default();
    let (mut seed, mut now) = (7, 0);
    let pieces = options.snapshots + 1;
    for piece in 1..=pieces {
        // Unequal pieces, so that they end anywhere.
        let end = if piece == pieces {
            options.retire
        } else {
            options.retire * piece / pieces + piece * 7919 % 1000
        };
        let clock = Arc::new(CountingClock::new(now, 1_700_000_000_000_000_000));
        let random = Arc::new(SeededRandom::new(seed));
        let config = VmConfig {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::clone(&random) as Arc<dyn Random>,
            ioapic_pins: 24,
        };
        let vm = accel.create(config).expect("a machine");
        vm.map(&slots(memory)).expect("a map");
        let leaves = accel.cpuid().expect("leaves");
        let own = vcpu::cpuid::for_processor(&leaves, 0, 1);
        let mut processor = vm.vcpu(0, &own).expect("a processor");
        processor.restore(&state).expect("a good state");
        processor.stop_at(Some(end));
        loop {
            match processor.run(&serial).expect("the guest is no trouble") {
                Halt::Idle { until: Some(until) } => clock.advance(until),
                other => {
                    if other != Halt::Reached {
                        eprintln!("\nended early: {other:?}");
                    }
                    break;
                }
            }
        }
        state = processor.save().expect("a state");
        (seed, now) = (random.save().unwrap_or(0), clock.now());
    }
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    add(format!("{state:?}").as_bytes());
    eprintln!("\nstate {digest:#x} at {now}");
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    let mut page = vec![0; 1 << 20];
    for at in (0..options.memory << 20).step_by(1 << 20) {
        memory.block().read(at, &mut page).expect("RAM");
        add(&page);
    }
    eprintln!("with memory {digest:#x}");
}

fn main() {
    let options = options();
    let memory = Memory::new(options.memory << 20).expect("guest memory");
    let state = load(&memory, &options);
    if options.retire != 0 {
        return repeat(&memory, state, &options);
    }
    let clock: Arc<dyn Clock> = if options.counting {
        Arc::new(CountingClock::new(0, 1_700_000_000_000_000_000))
    } else {
        Arc::new(HostClock::new(0))
    };
    let accel = Software::new();
    let config = VmConfig {
        clock: Arc::clone(&clock),
        random: Arc::new(HostRandom),
        ioapic_pins: 24,
    };
    let vm: Arc<dyn Vm> = accel.create(config).expect("a machine");
    vm.map(&slots(&memory)).expect("a map");
    let leaves = accel.cpuid().expect("leaves");
    let serial = Arc::new(Serial::default());
    let started = Instant::now();
    let mut threads = Vec::new();
    let mut kicks = Vec::new();
    for number in 0..options.cpus {
        let own = vcpu::cpuid::for_processor(&leaves, number, options.cpus);
        let mut processor = vm.vcpu(number, &own).expect("a processor");
        if number == 0 {
            processor.restore(&state).expect("a good state");
        }
        kicks.push(processor.kick());
        let serial = Arc::clone(&serial);
        let clock = Arc::clone(&clock);
        threads.push(std::thread::spawn(move || {
            let halt = loop {
                match processor.run(&*serial) {
                    Ok(Halt::Idle { until: Some(until) }) => clock.advance(until),
                    other => break other,
                }
            };
            let state = processor.save().expect("a state");
            let busy = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let busy = busy.tv_sec as f64 + busy.tv_nsec as f64 / 1e9;
            (halt, processor.retired().unwrap_or(0), state, busy)
        }));
    }
    let deadline = started + Duration::from_secs(options.seconds);
    while Instant::now() < deadline && !threads.iter().any(std::thread::JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(50));
    }
    for kick in kicks {
        kick.kick();
    }
    let elapsed = started.elapsed().as_secs_f64();
    for (number, thread) in threads.into_iter().enumerate() {
        let (halt, retired, state, busy) = thread.join().expect("the processor's thread");
        let rate = retired as f64 / busy / 1e6;
        eprintln!(
            "\nprocessor {number}: {halt:?}, {retired} instructions, {busy:.1} s busy of {elapsed:.1}, {rate:.1} M/s"
        );
        eprintln!(
            "rip {:#x} cr2 {:#x} cr3 {:#x} activity {:?} rflags {:#x}",
            state.rip, state.cr2, state.cr3, state.activity, state.rflags
        );
        eprintln!("registers {:x?}", state.registers);
    }
}
