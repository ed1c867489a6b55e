//! The virtual machine and its processors, as the contract in `vcpu` wants them.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use fault::{Code, Fault, OrFault, Result};
use guestmem::{Block, DirtyPages};
use vcpu::state::{CpuState, VmState};
use vcpu::{Halt, Io, Kick, Msi, Slot, Vcpu, Vm, VmConfig, cpuid};

use crate::block::Cache;
use crate::cpu::Cpu;
use crate::execute::{Blocks, Execute, Steps};
use crate::memory::map::Map;
use crate::memory::tlb::Tlb;
use crate::run::{Impossible, Processor};
use crate::shared::{Mailbox, Shared, request};
use crate::time::Time;

const BAD_SLOT: Code = Code("CPU001");
const BAD_PROCESSOR: Code = Code("CPU002");
const BAD_STATE: Code = Code("CPU003");
const UNSUPPORTED: Code = Code("CPU004");
const BAD_PIN: Code = Code("CPU005");
const NO_DESCRIPTOR: Code = Code("CPU006");

/// The software CPU as an accelerator.
pub struct Software {
    steps: bool,
}

impl Software {
    /// Block mode.
    #[must_use]
    pub fn new() -> Software {
        Software { steps: false }
    }

    /// The reference: decodes each instruction anew and keeps nothing. Slow; for comparisons.
    #[must_use]
    pub fn reference() -> Software {
        Software { steps: true }
    }
}

impl Default for Software {
    fn default() -> Self {
        Software::new()
    }
}

impl vcpu::Accel for Software {
    fn name(&self) -> &'static str {
        "software"
    }

    fn cpuid(&self) -> Result<Vec<cpuid::Leaf>> {
        Ok(crate::cpuid::leaves())
    }

    fn create(&self, config: VmConfig) -> Result<Arc<dyn Vm>> {
        Ok(Arc::new(Machine {
            shared: Arc::new(Shared::new(config)),
            steps: self.steps,
            making: Mutex::new(()),
        }))
    }
}

struct Machine {
    shared: Arc<Shared>,
    steps: bool,
    making: Mutex<()>,
}

impl Vm for Machine {
    fn map(&self, slots: &[Slot]) -> Result<()> {
        let map = Map::new(slots)
            .map_err(|bad| Fault::new(BAD_SLOT).arg("address", format_args!("{:#x}", bad.0)))?;
        *self.shared.map.write().expect("no holder of this lock panics") = map;
        self.shared.ask_all(request::MAP);
        Ok(())
    }

    fn vcpu(&self, number: u32, leaves: &[cpuid::Leaf]) -> Result<Box<dyn Vcpu>> {
        let _one_at_a_time = self.making.lock().expect("no holder of this lock panics");
        if number as usize != self.shared.count() {
            return Err(Fault::new(BAD_PROCESSOR).arg("number", number));
        }
        let mailbox = Mailbox::new(number);
        let execute: Box<dyn Execute> = if self.steps {
            Box::new(Steps)
        } else {
            Box::new(Blocks)
        };
        let cpu = Cpu::new(number, &self.shared, &mailbox, leaves);
        let mut processor = Processor {
            cpu,
            cache: Cache::new(),
            execute,
            stop: None,
            due: None,
            look_at: 0,
        };
        processor
            .cpu
            .restore(&CpuState::reset(number))
            .map_err(|bad| Fault::new(BAD_STATE).because_of(bad.0))?;
        self.shared
            .processors
            .write()
            .expect("no holder of this lock panics")
            .push(mailbox);
        Ok(Box::new(processor))
    }

    fn message(&self, message: Msi) -> Result<()> {
        self.shared.message(message);
        Ok(())
    }

    fn route(&self, pin: u8, message: Option<Msi>) -> Result<()> {
        if self.shared.set_route(pin, message) {
            Ok(())
        } else {
            Err(Fault::new(BAD_PIN).arg("pin", pin))
        }
    }

    fn external(&self, asserted: bool) -> Result<()> {
        let processors = self
            .shared
            .processors
            .read()
            .expect("no holder of this lock panics");
        if let Some(first) = processors.first() {
            first.external.store(asserted, Ordering::SeqCst);
            if asserted {
                first.ask(request::EXTERNAL);
            }
        }
        Ok(())
    }

    fn doorbell(&self, address: u64, event: Option<BorrowedFd<'_>>) -> Result<()> {
        let event = event
            .map(|event| event.try_clone_to_owned())
            .transpose()
            .or_fault(|| Fault::new(NO_DESCRIPTOR))?;
        self.shared.set_doorbell(address, event);
        Ok(())
    }

    fn log_dirty(&self, on: bool) -> Result<()> {
        self.shared.logging.store(on, Ordering::SeqCst);
        self.shared.ask_all(request::DIRTY);
        Ok(())
    }

    fn dirty(&self, block: &Block) -> Result<DirtyPages> {
        let pages = block.take_dirty();
        // Writes by way of permissions that were given before are marked anew when the processors look.
        if self.shared.logging.load(Ordering::SeqCst) {
            self.shared.ask_all(request::DIRTY);
        }
        Ok(pages)
    }

    fn save(&self) -> Result<VmState> {
        let shift = self.shared.clock_shift.load(Ordering::SeqCst);
        Ok(VmState {
            clock: self.shared.config.clock.now().wrapping_add(shift),
        })
    }

    fn restore(&self, state: &VmState) -> Result<()> {
        let shift = state.clock.wrapping_sub(self.shared.config.clock.now());
        self.shared.clock_shift.store(shift, Ordering::SeqCst);
        Ok(())
    }
}

impl Cpu {
    fn new(number: u32, shared: &Arc<Shared>, mailbox: &Arc<Mailbox>, leaves: &[cpuid::Leaf]) -> Cpu {
        let host = shared.config.clock.is_host();
        let time = Time {
            host,
            shift: 0,
            khz: Cpu::promised_khz(leaves),
            tsc_shift: 0,
        };
        Cpu {
            registers: [0; 32],
            flags: Default::default(),
            rip: 0,
            rflags: 0,
            bases: [0; 8],
            limits: Default::default(),
            cut: false,
            long: false,
            cpl: 0,
            bits: 16,
            stack_mask: 0xffff,
            at: 0,
            next: 0,
            retired: 0,
            tlb: Tlb::new(),
            segments: Default::default(),
            ldt: Default::default(),
            task: Default::default(),
            gdt: Default::default(),
            idt: Default::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            debug: [0; 6],
            msrs: Default::default(),
            fpu: Box::default(),
            scratch: Box::default(),
            mode: Default::default(),
            aligned: false,
            implicit: false,
            watching: false,
            accessed: false,
            breakpoints: false,
            debug_pending: 0,
            shadow: Default::default(),
            nmi_pending: false,
            nmi_masked: false,
            activity: Default::default(),
            pending_exception: None,
            pending_interrupt: None,
            stop: Default::default(),
            exception: Default::default(),
            code_writes: Vec::new(),
            tables: Default::default(),
            logging: shared.logging.load(Ordering::SeqCst),
            map: shared.map(),
            shared: Arc::clone(shared),
            mailbox: Arc::clone(mailbox),
            apic: Default::default(),
            time,
            cpuid: leaves.to_vec(),
            outside: Default::default(),
            number,
            code_segment: (0, 0),
        }
    }
}

impl Vcpu for Processor {
    fn run(&mut self, io: &dyn Io) -> Result<Halt> {
        self.run_with(io).map_err(|Impossible(what)| {
            Fault::new(UNSUPPORTED)
                .arg("what", what)
                .because_of(self.cpu.describe())
        })
    }

    fn kick(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.cpu.mailbox) as Arc<dyn Kick>
    }

    fn stop_at(&mut self, retired: Option<u64>) -> bool {
        self.stop = retired;
        true
    }

    fn retired(&self) -> Option<u64> {
        Some(self.cpu.retired)
    }

    fn save(&mut self) -> Result<CpuState> {
        Ok(self.cpu.save())
    }

    fn restore(&mut self, state: &CpuState) -> Result<()> {
        self.cpu.map = self.cpu.shared.map();
        self.cpu.tlb.clear();
        self.cache.clear();
        self.look_at = 0;
        self.cpu
            .restore(state)
            .map_err(|bad| Fault::new(BAD_STATE).because_of(bad.0))
    }

    fn nmi(&mut self) -> Result<()> {
        self.cpu.mailbox.ask(request::NMI);
        Ok(())
    }

    fn translate(&mut self, linear: u64) -> Option<u64> {
        self.cpu.look_up(linear)
    }
}
