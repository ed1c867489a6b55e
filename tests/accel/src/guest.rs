//! One tiny guest: 4 MiB of memory, processors, and what they reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guestmem::Block;
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;
use vcpu::state::CpuState;
use vcpu::time::{Clock, HostClock, HostRandom};
use vcpu::{Accel, Access, Halt, Kick, Slot, Vcpu, Vm, VmConfig, cpuid};

use crate::recorder::Recorder;
use crate::states::{self, CODE};

/// Memory of a tiny guest.
const MEMORY: u64 = 4 << 20;
/// No tiny guest needs so long, on any accelerator.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tiny guest.
pub struct Guest {
    /// The machine.
    pub vm: Arc<dyn Vm>,
    /// Its memory, mapped from address 0 on.
    pub memory: Block,
    /// Its processors, from their reset state.
    pub processors: Vec<Box<dyn Vcpu>>,
    /// Its time.
    pub clock: Arc<HostClock>,
    /// Its outside.
    pub io: Arc<Recorder>,
}

/// Machine code for 16, 32 or 64 bits, to lie at an address.
///
/// # Panics
/// When it cannot be assembled.
pub fn assemble(
    bits: u32,
    address: u64,
    program: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(bits).expect("16, 32 and 64 are known");
    program(&mut assembler).expect("the program is well formed");
    assembler.assemble(address).expect("the program can be encoded")
}

impl Guest {
    /// A guest of so many processors, without code.
    ///
    /// # Panics
    /// When the accelerator refuses it.
    pub fn new(accel: &dyn Accel, processors: u32) -> Guest {
        let memory = Block::new("tiny", MEMORY).expect("the host has 4 MiB");
        states::write_tables(&memory);
        Self::on(accel, processors, memory)
    }

    /// A guest on memory that exists.
    ///
    /// # Panics
    /// When the accelerator refuses it.
    pub fn on(accel: &dyn Accel, processors: u32, memory: Block) -> Guest {
        let clock = Arc::new(HostClock::new(0));
        let config = VmConfig {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(HostRandom),
            ioapic_pins: 24,
        };
        let vm = accel.create(config).expect("a machine");
        let leaves = accel.cpuid().expect("leaves of CPUID");
        let io = Arc::new(Recorder::default());
        io.attach(&vm);
        let guest_slot = Self::slot(&memory);
        vm.map(&[guest_slot]).expect("memory is mapped");
        let processors = (0..processors)
            .map(|number| {
                let leaves = cpuid::for_processor(&leaves, number, processors);
                vm.vcpu(number, &leaves).expect("a processor")
            })
            .collect();
        Guest {
            vm,
            memory,
            processors,
            clock,
            io,
        }
    }

    /// The memory from address 0 on.
    #[must_use]
    pub fn slot(memory: &Block) -> Slot {
        Slot {
            start: 0,
            len: memory.len(),
            block: memory.clone(),
            offset: 0,
            access: Access::ReadWrite,
        }
    }

    /// Puts code at its place.
    ///
    /// # Panics
    /// When it cannot be assembled or does not fit.
    pub fn code(
        &self,
        bits: u32,
        address: u64,
        program: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) {
        let code = assemble(bits, address, program);
        self.memory.write(address, &code).expect("code fits memory");
    }

    /// A guest of one processor with code for its beginning state.
    pub fn with(
        accel: &dyn Accel,
        state: &CpuState,
        program: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Guest {
        let mut guest = Guest::new(accel, 1);
        let bits = match (state.segments[1].attributes >> 13 & 3, state.cr0 & 1) {
            (1, _) => 64,
            (2, _) => 32,
            _ => 16,
        };
        guest.code(bits, CODE, program);
        guest.set(0, state);
        guest
    }

    /// Puts a state in place.
    ///
    /// # Panics
    /// When it is refused.
    pub fn set(&mut self, number: usize, state: &CpuState) {
        self.processors[number].restore(state).expect("the state can be");
    }

    /// The state of a processor.
    ///
    /// # Panics
    /// When it is refused.
    pub fn get(&mut self, number: usize) -> CpuState {
        self.processors[number].save().expect("the state is told")
    }

    /// Runs processor 0 until it stops, which it must within some seconds.
    ///
    /// # Panics
    /// When it does not, or cannot go on.
    pub fn run(&mut self) -> Halt {
        run(&mut *self.processors[0], &self.io)
    }

    /// Runs all processors, each on a thread, until one of them writes to [`crate::STOP`].
    ///
    /// # Panics
    /// When none does within some seconds.
    pub fn run_all(&mut self) {
        let kicks: Vec<Arc<dyn Kick>> = self.processors.iter().map(|each| each.kick()).collect();
        let io = &self.io;
        std::thread::scope(|scope| {
            for processor in &mut self.processors {
                let kicks = &kicks;
                scope.spawn(move || {
                    run(&mut **processor, io);
                    kicks.iter().for_each(|kick| kick.kick());
                });
            }
        });
        assert!(io.stopped(), "a processor has stopped the machine");
    }

    /// Runs processor 0 and expects that the guest itself ended the run; tells what it did, without the end.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn run_to_stop(&mut self) -> Vec<crate::Event> {
        let halt = self.run();
        let mut events = self.io.take();
        assert!(
            self.io.stopped(),
            "{halt:?} after {events:?} in {}",
            self.where_it_is()
        );
        assert_eq!(halt, Halt::Kicked);
        self.io.go_on();
        events.pop();
        events
    }

    /// Instruction pointer and registers, for messages.
    pub fn where_it_is(&mut self) -> String {
        let state = self.get(0);
        format!("rip {:#x}, registers {:x?}", state.rip, state.registers)
    }

    /// A word of memory.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn word(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read(address, &mut bytes).expect("inside of memory");
        u64::from_le_bytes(bytes)
    }
}

fn run(processor: &mut dyn Vcpu, io: &Recorder) -> Halt {
    let kick = processor.kick();
    let (ended, late) = (AtomicBool::new(false), AtomicBool::new(false));
    let halt = std::thread::scope(|scope| {
        let watchdog = scope.spawn(|| {
            let begin = Instant::now();
            while !ended.load(Ordering::SeqCst) {
                if begin.elapsed() > PATIENCE {
                    late.store(true, Ordering::SeqCst);
                    kick.kick();
                    return;
                }
                std::thread::park_timeout(PATIENCE);
            }
        });
        let halt = processor.run(io);
        ended.store(true, Ordering::SeqCst);
        watchdog.thread().unpark();
        halt
    });
    let halt = halt.expect("the processor goes on");
    if late.load(Ordering::SeqCst) {
        let state = processor.save().expect("the state is told");
        panic!(
            "the guest did not stop: rip {:#x}, registers {:x?}, {:?}, {:?}, after {:?}",
            state.rip,
            state.registers,
            state.activity,
            state.events,
            io.take()
        );
    }
    halt
}
