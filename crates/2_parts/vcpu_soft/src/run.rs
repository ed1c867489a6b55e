//! Running: blocks one after another, and between them a look at requests, interrupts and time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use vcpu::state::Activity;
use vcpu::{Halt, Io};

use crate::block::Cache;
use crate::cpu::{Cpu, Shadow};
use crate::exception::{Why, vector};
use crate::execute::Execute;
use crate::flags;
use crate::op::Stop;
use crate::shared::request;

/// Instructions between two looks at the host's clock: some twenty microseconds.
const SLICE: u64 = 2000;
/// DR6: single step.
pub(crate) const STEP: u64 = 1 << 14;

/// A processor with what it has decoded.
pub(crate) struct Processor {
    pub(crate) cpu: Cpu,
    pub(crate) cache: Cache,
    pub(crate) execute: Box<dyn Execute>,
    /// [`vcpu::Vcpu::stop_at`].
    pub(crate) stop: Option<u64>,
    /// The devices' next deadline, with a counting clock.
    pub(crate) due: Option<u64>,
    /// Instructions retired at the next look at the host's clock.
    pub(crate) look_at: u64,
}

/// What is to be done next.
enum Next {
    /// Run so many instructions at most.
    Run(u64),
    /// Leave.
    Leave(Halt),
    /// Look again.
    Again,
}

/// Why the processor cannot go on.
pub(crate) struct Impossible(pub(crate) &'static str);

impl Processor {
    /// Runs until a reason to stop.
    pub(crate) fn run(&mut self, io: &dyn Io) -> Result<Halt, Impossible> {
        self.cpu.join_clock();
        if !self.cpu.time.host {
            self.due = io.due();
        }
        loop {
            match self.boundary(io)? {
                Next::Leave(halt) => {
                    self.leave();
                    return Ok(halt);
                }
                Next::Again => {}
                Next::Run(budget) => {
                    if self.instructions(budget).is_err()
                        && let Some(halt) = self.stopped()?
                    {
                        self.leave();
                        return Ok(halt);
                    }
                }
            }
        }
    }

    /// Puts everything in order that others may look at after the run.
    fn leave(&mut self) {
        let cpu = &mut self.cpu;
        if !cpu.time.host {
            cpu.shared.config.clock.advance(cpu.now());
        }
        self.follow_code();
        let waiting = self.cpu.mailbox.requests.load(Ordering::SeqCst);
        if waiting & request::DIRTY != 0 {
            self.cpu
                .mailbox
                .requests
                .fetch_and(!request::DIRTY, Ordering::SeqCst);
            self.refresh_logging();
        }
    }

    /// Executes up to so many instructions, with single steps and breakpoints where they are on.
    fn instructions(&mut self, budget: u64) -> Result<(), Stop> {
        let cpu = &mut self.cpu;
        let stepping = cpu.rflags & flags::TF != 0;
        let careful = stepping || cpu.breakpoints || cpu.rflags & flags::RF != 0;
        if !careful && cpu.shadow == Shadow::None {
            return self.execute.run(cpu, &mut self.cache, budget);
        }
        let shadow = std::mem::take(&mut cpu.shadow);
        if cpu.breakpoints && cpu.rflags & flags::RF == 0 && shadow != Shadow::Stack {
            cpu.check_breakpoints()?;
        }
        let resumed = cpu.rflags & flags::RF != 0;
        let before = cpu.retired;
        self.execute.run(cpu, &mut self.cache, 1)?;
        let cpu = &mut self.cpu;
        if cpu.retired != before {
            if resumed {
                cpu.rflags &= !flags::RF;
            }
            if stepping && cpu.shadow != Shadow::Stack {
                cpu.debug_pending |= STEP;
            }
        }
        Ok(())
    }

    /// After an instruction that did not complete: delivers its exception.
    fn stopped(&mut self) -> Result<Option<Halt>, Impossible> {
        let cpu = &mut self.cpu;
        if cpu.stop == Why::Exception && cpu.deliver_exception().is_ok() {
            return Ok(None);
        }
        match cpu.stop {
            Why::Again => Ok(None),
            Why::Shutdown => Ok(Some(Halt::TripleFault)),
            Why::Unsupported(what) => Err(Impossible(what)),
            Why::Exception => Ok(Some(Halt::TripleFault)),
        }
    }

    /// Between two instructions: everything that is not an instruction (SDM Vol. 3 table 7-2).
    fn boundary(&mut self, io: &dyn Io) -> Result<Next, Impossible> {
        self.follow_code();
        let accessed = std::mem::take(&mut self.cpu.accessed);
        if accessed {
            if io.stopping() {
                return Ok(Next::Leave(Halt::Kicked));
            }
            self.call_due(io);
        }
        let waiting = self.cpu.mailbox.requests.load(Ordering::SeqCst);
        let look = self.looks(waiting) || accessed;
        if look {
            // Before the requests are taken: it makes some.
            self.cpu.shared.spread_rewritten(&self.cpu.map);
        }
        let requests = self.cpu.mailbox.take();
        if requests != 0 {
            self.answer(requests);
        }
        self.cpu.collect_interrupts(requests, look);
        if requests & request::KICK != 0 {
            // What else was asked for has been done.
            return Ok(Next::Leave(Halt::Kicked));
        }
        if let (false, Some(due)) = (self.cpu.time.host, self.due)
            && due <= self.cpu.now()
        {
            self.call_due(io);
            return Ok(Next::Again);
        }
        if let Some(next) = self.pending_events()? {
            return Ok(next);
        }
        if self.stop.is_some_and(|stop| self.cpu.retired >= stop) {
            return Ok(Next::Leave(Halt::Reached));
        }
        if let Some(next) = self.interrupts(io)? {
            return Ok(next);
        }
        if self.cpu.activity != Activity::Running {
            return Ok(self.wait());
        }
        Ok(Next::Run(self.budget()))
    }

    /// Whether it is time to look at the clock and at what devices have written: not after each instruction that ends a block.
    fn looks(&mut self, requests: u32) -> bool {
        let cpu = &self.cpu;
        let due = !cpu.time.host
            || requests != 0
            || cpu.activity != Activity::Running
            || cpu.retired >= self.look_at;
        if due {
            self.look_at = cpu.retired + SLICE;
        }
        due
    }

    fn call_due(&mut self, io: &dyn Io) {
        if !self.cpu.time.host {
            self.cpu.shared.config.clock.advance(self.cpu.now());
            // A deadline that has passed again is met one instruction later, not in an endless loop.
            self.due = io.due().map(|due| due.max(self.cpu.now() + 1));
        }
    }

    /// Instructions until something is due.
    fn budget(&self) -> u64 {
        let mut budget = if self.cpu.time.host {
            self.look_at.saturating_sub(self.cpu.retired).min(SLICE)
        } else {
            let now = self.cpu.now();
            [self.due, self.cpu.apic.deadline()]
                .into_iter()
                .flatten()
                .map(|deadline| deadline.saturating_sub(now))
                .fold(1 << 20, u64::min)
        };
        if let Some(stop) = self.stop {
            budget = budget.min(stop - self.cpu.retired);
        }
        budget.max(1)
    }

    /// Drops decoded code that was written by this processor.
    fn follow_code(&mut self) {
        self.cpu.cut = false;
        if self.cpu.code_writes.is_empty() {
            return;
        }
        let writes = std::mem::take(&mut self.cpu.code_writes);
        let shared = std::sync::Arc::clone(&self.cpu.shared);
        for (physical, len) in writes {
            let map = std::sync::Arc::clone(&self.cpu.map);
            let Some(region) = map.find(physical) else {
                continue;
            };
            let page = region.page(physical);
            let mut empty = true;
            for place in map.places(&region.block, page) {
                empty &= self.cache.rewrite(place | physical & 0xfff, u64::from(len));
                self.cpu.table_written(place);
                shared.others(self.cpu.number, |mailbox| mailbox.rewritten(place));
            }
            if empty && shared.count() <= 1 {
                region.block.clear_code(page);
            }
        }
    }

    /// Does what other threads have asked for.
    fn answer(&mut self, requests: u32) {
        let cpu = &mut self.cpu;
        if requests & request::MAP != 0 {
            cpu.map = cpu.shared.map();
            cpu.tlb.flush();
            cpu.tlb.clear();
            self.cache.clear();
        }
        if requests & (request::PROTECT | request::REWRITTEN) != 0 {
            self.answer_code();
        }
        if requests & request::DIRTY != 0 {
            self.refresh_logging();
        }
        let cpu = &mut self.cpu;
        cpu.nmi_pending |= requests & request::NMI != 0;
        if requests & request::INIT != 0 {
            cpu.initialise();
        }
        if requests & request::START != 0 && cpu.activity == Activity::WaitForStartup {
            let vector = cpu.mailbox.start_vector();
            cpu.start_up(vector);
        }
    }

    fn answer_code(&mut self) {
        let (protect, rewritten) = self.cpu.mailbox.take_pages();
        let shared = std::sync::Arc::clone(&self.cpu.shared);
        for physical in protect {
            if self.cpu.tlb.protect(physical) {
                // It could be written until now: what the others decoded meanwhile may be old.
                shared.others(self.cpu.number, |mailbox| mailbox.rewritten(physical));
            }
        }
        for physical in rewritten {
            self.cache.forget_page(physical);
            self.cpu.table_written(physical);
        }
    }

    fn refresh_logging(&mut self) {
        let cpu = &mut self.cpu;
        cpu.logging = cpu.shared.logging.load(Ordering::SeqCst);
        let map = std::sync::Arc::clone(&cpu.map);
        cpu.tlb.protect_all(&map);
    }

    /// What follows a delivery: another look, or the end.
    fn delivered(&mut self, done: Result<(), Stop>) -> Result<Option<Next>, Impossible> {
        if done.is_err()
            && let Some(halt) = self.stopped()?
        {
            return Ok(Some(Next::Leave(halt)));
        }
        Ok(Some(Next::Again))
    }

    /// Delivers what was pending in a restored state, and debug traps.
    fn pending_events(&mut self) -> Result<Option<Next>, Impossible> {
        let cpu = &mut self.cpu;
        let done = if let Some((number, error)) = cpu.pending_exception.take() {
            cpu.raise(number, error)
        } else if let Some(number) = cpu.pending_interrupt.take() {
            cpu.deliver_external(number)
        } else if cpu.debug_pending != 0 && cpu.shadow != Shadow::Stack {
            cpu.debug[4] |= std::mem::take(&mut cpu.debug_pending);
            cpu.raise(vector::DEBUG, None)
        } else {
            return Ok(None);
        };
        self.delivered(done)
    }

    /// Delivers an interrupt, if one may be.
    fn interrupts(&mut self, io: &dyn Io) -> Result<Option<Next>, Impossible> {
        let cpu = &mut self.cpu;
        let waiting = matches!(cpu.activity, Activity::WaitForInit | Activity::WaitForStartup);
        if cpu.shadow != Shadow::None || waiting {
            return Ok(None);
        }
        let done = if cpu.nmi_pending && !cpu.nmi_masked {
            cpu.nmi_pending = false;
            cpu.nmi_masked = true;
            cpu.deliver_external(vector::NMI)
        } else if cpu.rflags & flags::IF == 0 {
            return Ok(None);
        } else if cpu.mailbox.external.load(Ordering::SeqCst) && cpu.apic.passes_external() {
            cpu.sync_clock();
            let number = io.acknowledge();
            cpu.deliver_external(number)
        } else if let Some(number) = cpu.apic.deliverable() {
            cpu.apic.accept(number);
            cpu.deliver_external(number)
        } else {
            return Ok(None);
        };
        self.delivered(done)
    }

    /// Waits while the processor is halted.
    fn wait(&mut self) -> Next {
        let cpu = &mut self.cpu;
        let deadline = cpu.apic.deadline();
        if cpu.time.host {
            let most = deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(cpu.now())));
            // A clock that stands still must not make us spin.
            cpu.mailbox
                .sleep(most.map(|most| most.max(Duration::from_micros(5))));
            return Next::Again;
        }
        let until = if cpu.activity == Activity::Halted {
            deadline
        } else {
            None
        };
        Next::Leave(Halt::Idle { until })
    }
}

impl Cpu {
    /// Raises #DB when a debug register watches the present instruction.
    fn check_breakpoints(&mut self) -> Result<(), Stop> {
        let linear = if self.long {
            self.rip
        } else {
            self.rip.wrapping_add(self.code_segment.0) & 0xffff_ffff
        };
        let control = self.debug[5];
        let hits = (0..4)
            .filter(|n| control >> (2 * n) & 3 != 0 && control >> (16 + 4 * n) & 3 == 0)
            .filter(|n| self.debug[*n] == linear)
            .fold(0, |hits, n| hits | 1 << n);
        if hits == 0 {
            return Ok(());
        }
        self.debug[4] |= hits;
        // The saved RFLAGS keep RF clear: the handler sets it to go on.
        self.raise(vector::DEBUG, None)
    }
}
