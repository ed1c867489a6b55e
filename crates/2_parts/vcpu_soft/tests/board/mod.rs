//! A bare board for tests: some RAM, one or more processors, a port that collects bytes.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of it; a test may unwrap"
)]

use std::sync::{Arc, Mutex};

use guestmem::Memory;
use iced_x86::code_asm::CodeAssembler;
use vcpu::state::{CpuState, Segment, msr};
use vcpu::time::{Clock, CountingClock, HostClock, SeededRandom};
use vcpu::{Accel, Access, Halt, Io, Slot, Vcpu, Vm, VmConfig};
use vcpu_soft::Software;

/// RAM of a board.
pub const RAM: u64 = 4 << 20;
/// Where programs are put.
pub const CODE: u64 = 0x1_0000;
/// Page tables of [`long_mode`]: identity for the first GiB, user pages.
pub const TABLES: u64 = 0x8_0000;
/// Global descriptor table of [`long_mode`].
pub const GDT: u64 = 0x7_0000;
/// Interrupt descriptor table of [`long_mode`].
pub const IDT: u64 = 0x7_1000;
/// 64-bit task state of [`long_mode`].
pub const TASK: u64 = 0x7_2000;
/// Top of the stack of [`long_mode`].
pub const STACK: u64 = 0x6_0000;

/// Selectors of [`long_mode`].
pub const KERNEL_CODE: u16 = 0x08;
pub const KERNEL_DATA: u16 = 0x10;
pub const USER_DATA: u16 = 0x23;
pub const USER_CODE: u16 = 0x2b;
pub const KERNEL_CODE_32: u16 = 0x30;

/// The devices: port 0xe9 collects bytes, port 0x10 answers 0x5a; memory outside of RAM answers its address.
#[derive(Default)]
pub struct Devices {
    pub said: Mutex<Vec<u8>>,
    pub written: Mutex<Vec<(u64, Vec<u8>)>>,
    pub ends: Mutex<Vec<u8>>,
}

impl Io for Devices {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(if port == 0x10 { 0x5a } else { 0xff });
    }
    fn port_write(&self, port: u16, data: &[u8]) {
        if port == 0xe9 {
            self.said.lock().unwrap().extend_from_slice(data);
        }
    }
    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        let len = data.len();
        data.copy_from_slice(&address.to_le_bytes()[..len]);
    }
    fn mmio_write(&self, address: u64, data: &[u8]) {
        let mut written = self.written.lock().unwrap();
        if written.len() < 1000 {
            written.push((address, data.to_vec()));
        }
    }
    fn acknowledge(&self) -> u8 {
        0x77
    }
    fn end_of_interrupt(&self, vector: u8) {
        self.ends.lock().unwrap().push(vector);
    }
}

/// A board.
pub struct Board {
    pub memory: Memory,
    pub vm: Arc<dyn Vm>,
    pub clock: Arc<dyn Clock>,
    pub devices: Arc<Devices>,
    count: u32,
    leaves: Vec<vcpu::cpuid::Leaf>,
}

impl Board {
    /// With time that counts instructions.
    pub fn counting(accel: &Software, now: u64) -> Board {
        Self::with(accel, Arc::new(CountingClock::new(now, 0)))
    }

    /// With the host's time.
    pub fn host(accel: &Software) -> Board {
        Self::with(accel, Arc::new(HostClock::new(0)))
    }

    fn with(accel: &Software, clock: Arc<dyn Clock>) -> Board {
        let memory = Memory::new(RAM).unwrap();
        let config = VmConfig {
            clock: Arc::clone(&clock),
            random: Arc::new(SeededRandom::new(1)),
            ioapic_pins: 24,
        };
        let vm = accel.create(config).unwrap();
        vm.map(&[Slot {
            start: 0,
            len: RAM,
            block: memory.block().clone(),
            offset: 0,
            access: Access::ReadWrite,
        }])
        .unwrap();
        Board {
            memory,
            vm,
            clock,
            devices: Arc::default(),
            count: 0,
            leaves: accel.cpuid().unwrap(),
        }
    }

    /// The next processor.
    pub fn processor(&mut self) -> Box<dyn Vcpu> {
        let number = self.count;
        self.count += 1;
        let leaves = vcpu::cpuid::for_processor(&self.leaves, number, 2);
        self.vm.vcpu(number, &leaves).unwrap()
    }

    /// Puts a program at [`CODE`].
    pub fn load(&self, code: &[u8]) {
        self.memory.write(CODE, code).unwrap();
    }

    /// Runs a program in a state until it halts for good or `limit` instructions have gone; the state afterwards.
    pub fn run(&mut self, code: &[u8], state: &CpuState, limit: u64) -> (Halt, CpuState) {
        self.load(code);
        let mut processor = self.processor();
        processor.restore(state).unwrap();
        processor.stop_at(Some(state.retired.unwrap_or(0) + limit));
        let halt = processor.run(&*self.devices).unwrap();
        (halt, processor.save().unwrap())
    }
}

/// Real mode at [`CODE`], with a stack below it.
pub fn real_mode() -> CpuState {
    let mut state = CpuState::reset(0);
    state.segments[1] = Segment {
        selector: (CODE >> 4) as u16,
        base: CODE,
        limit: 0xffff,
        attributes: 0x9b,
    };
    state.rip = 0;
    state.registers[4] = 0xf000;
    state.idt.limit = 0x3ff;
    state
}

fn put(memory: &Memory, at: u64, value: u64) {
    memory.write(at, &value.to_le_bytes()).unwrap();
}

/// 64-bit mode at [`CODE`] in ring 0; everything below 1 GiB is mapped for users by 2 MiB pages.
pub fn long_mode(board: &Board) -> CpuState {
    let memory = &board.memory;
    put(memory, TABLES, TABLES + 0x1007);
    put(memory, TABLES + 0x1000, TABLES + 0x2007);
    for n in 0..512 {
        put(memory, TABLES + 0x2000 + 8 * n, n << 21 | 0x87);
    }
    let descriptors = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0x00cf_9b00_0000_ffff,
        0,
        0x0000_8900_0000_0067 | (TASK & 0xff_ffff) << 16,
        0,
    ];
    for (n, descriptor) in descriptors.iter().enumerate() {
        put(memory, GDT + 8 * n as u64, *descriptor);
    }
    // RSP0 of the task.
    put(memory, TASK + 4, STACK - 0x1000);
    let mut state = CpuState::reset(0);
    let data = Segment {
        selector: KERNEL_DATA,
        base: 0,
        limit: u32::MAX,
        attributes: 0xc093,
    };
    state.segments = [data; 6];
    state.segments[1] = Segment {
        selector: KERNEL_CODE,
        attributes: 0xa09b,
        ..data
    };
    state.task = Segment {
        selector: 0x40,
        base: TASK,
        limit: 0x67,
        attributes: 0x8b,
    };
    (state.gdt.base, state.gdt.limit) = (GDT, 0x4f);
    (state.idt.base, state.idt.limit) = (IDT, 0xfff);
    state.cr0 = 0x8001_0033;
    state.cr3 = TABLES;
    state.cr4 = 0x620;
    state.set_msr(msr::EFER, 0x501);
    state.rip = CODE;
    state.registers[4] = STACK;
    state
}

/// Puts a 64-bit interrupt gate in place; users may call it.
pub fn gate(board: &Board, vector: u64, target: u64) {
    let low = target & 0xffff | u64::from(KERNEL_CODE) << 16 | 0xee00 << 32 | (target >> 16 & 0xffff) << 48;
    put(&board.memory, IDT + 16 * vector, low);
    put(&board.memory, IDT + 16 * vector + 8, target >> 32);
}

/// Assembles a program.
pub fn assemble(
    bits: u32,
    at: u64,
    program: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>,
) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(bits).unwrap();
    program(&mut assembler).unwrap();
    assembler.assemble(at).unwrap()
}
