//! The contracts of processors: [`Accel`], [`Vm`], [`Vcpu`]; their saved state; time and randomness as a guest sees them.
//!
//! KVM and the software CPU look the same from above: `machine` and `devices` never name an accelerator. Local APICs belong to the
//! accelerator (their timers and priorities are part of executing instructions); 8259 pair, IOAPIC and PIT are devices. What crosses
//! in between: [`Vm::message`] (message-signalled interrupts, also those that the IOAPIC makes), [`Vm::external`] (the 8259's wire),
//! and back through [`Io`]: acknowledgement of the 8259 and ends of interrupts for the IOAPIC.

pub mod cpuid;
pub mod state;
pub mod time;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fault::Result;
use guestmem::{Block, DirtyPages};

pub use state::CpuState;

/// Instructions that a machine reports with (SDM Vol. 3 §11.11): address `0xfee.....` and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Msi {
    /// Where the message is written.
    pub address: u64,
    /// What is written: vector, delivery mode, trigger mode.
    pub data: u32,
}

/// What may be done with the memory of a [`Slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// RAM.
    ReadWrite,
    /// Firmware, or shadow RAM that is write-protected: a write goes to [`Io::mmio_write`].
    ReadOnly,
}

/// Memory at guest physical addresses. Both `start` and `len` are whole pages.
#[derive(Clone)]
pub struct Slot {
    /// First guest physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// The memory.
    pub block: Block,
    /// Where in the block it begins.
    pub offset: u64,
    /// What may be done with it.
    pub access: Access,
}

/// A way to execute guests: `/dev/kvm`, or software.
pub trait Accel: Send + Sync {
    /// Its name in listings and reports: `kvm`, `software`.
    fn name(&self) -> &'static str;

    /// The CPUID leaves that a processor of it can have, without topology: feature words tell what is implemented.
    ///
    /// # Errors
    /// When the host's kernel does not tell.
    fn cpuid(&self) -> Result<Vec<cpuid::Leaf>>;

    /// A virtual machine without memory and processors.
    ///
    /// # Errors
    /// When the host refuses.
    fn create(&self, config: VmConfig) -> Result<Arc<dyn Vm>>;
}

/// What a virtual machine is told when it is made.
#[derive(Clone)]
pub struct VmConfig {
    /// Time as its processors see it. An accelerator whose time is the host's ([`time::Clock::is_host`] must be true) refuses others.
    pub clock: Arc<dyn time::Clock>,
    /// Randomness as its processors see it (RDRAND, RDSEED).
    pub random: Arc<dyn time::Random>,
    /// Pins of the IOAPIC, whose vectors' ends are told by [`Io::end_of_interrupt`].
    pub ioapic_pins: u8,
}

/// One virtual machine: what its processors share. Every call may come from any thread.
pub trait Vm: Send + Sync {
    /// Replaces the whole map of memory. Processors see it from their next memory access after the present instruction on.
    ///
    /// # Errors
    /// When slots overlap or are not made of whole pages, or the host refuses.
    fn map(&self, slots: &[Slot]) -> Result<()>;

    /// Makes the next processor; numbers go up from 0, local APIC identity = number. Processor 0 is the bootstrap processor and runs at
    /// once from its reset state; the others wait for INIT and start-up messages.
    ///
    /// # Errors
    /// When the host refuses.
    fn vcpu(&self, number: u32, cpuid: &[cpuid::Leaf]) -> Result<Box<dyn Vcpu>>;

    /// Delivers a message-signalled interrupt.
    ///
    /// # Errors
    /// When the host refuses.
    fn message(&self, message: Msi) -> Result<()>;

    /// Tells what a pin of the IOAPIC sends; `level` pins want [`Io::end_of_interrupt`] for their vector.
    ///
    /// # Errors
    /// When the host refuses.
    fn route(&self, pin: u8, message: Option<Msi>) -> Result<()>;

    /// The wire from the 8259 pair to LINT0 of the bootstrap processor.
    ///
    /// # Errors
    /// When the host refuses.
    fn external(&self, asserted: bool) -> Result<()>;

    /// From now on a 16 or 32 bit write to this guest physical address only adds 1 to the event descriptor: nothing is told to [`Io`].
    /// Replaced by a second call with another descriptor, taken away by `None`.
    ///
    /// # Errors
    /// When the host refuses.
    fn doorbell(&self, address: u64, event: Option<BorrowedFd<'_>>) -> Result<()>;

    /// From now on (or no longer) notes which pages the processors write.
    ///
    /// # Errors
    /// When the host refuses.
    fn log_dirty(&self, on: bool) -> Result<()>;

    /// The pages of a block that processors and devices have written since the last call.
    ///
    /// # Errors
    /// When the host refuses.
    fn dirty(&self, block: &Block) -> Result<DirtyPages>;

    /// State shared by the processors: the paravirtual clock.
    ///
    /// # Errors
    /// When the host refuses.
    fn save(&self) -> Result<state::VmState>;

    /// Puts [`Vm::save`]'s state back, before any processor runs.
    ///
    /// # Errors
    /// When the host refuses or the state cannot be.
    fn restore(&self, state: &state::VmState) -> Result<()>;
}

/// One virtual processor. It stays with the thread that runs it; others reach it through its [`Kick`].
pub trait Vcpu: Send {
    /// Runs the guest until a reason to stop. Halting (HLT, waiting for start-up) is waited out inside, but for clocks that are not the
    /// host's: see [`Halt::Idle`].
    ///
    /// # Errors
    /// When the processor cannot go on for a reason of the host; the fault carries the registers.
    fn run(&mut self, io: &dyn Io) -> Result<Halt>;

    /// A handle that makes [`Vcpu::run`] return [`Halt::Kicked`] soon, whatever the guest does.
    fn kick(&self) -> Arc<dyn Kick>;

    /// Stops with [`Halt::Reached`] when so many instructions in all have retired; `None` takes it away. Only software counts exactly;
    /// others answer with `false` and ignore it.
    fn stop_at(&mut self, retired: Option<u64>) -> bool;

    /// Instructions retired since the machine began, where they are counted.
    fn retired(&self) -> Option<u64>;

    /// Everything that the guest could tell, while not running.
    ///
    /// # Errors
    /// When the host refuses.
    fn save(&mut self) -> Result<CpuState>;

    /// Puts a saved or a composed state in place.
    ///
    /// # Errors
    /// When the state cannot be (a bad control register), or the host refuses.
    fn restore(&mut self, state: &CpuState) -> Result<()>;

    /// Delivers a non-maskable interrupt at the next boundary.
    ///
    /// # Errors
    /// When the host refuses.
    fn nmi(&mut self) -> Result<()>;

    /// The guest physical address behind a linear one, by the guest's own page tables; for debugging and tests.
    fn translate(&mut self, linear: u64) -> Option<u64>;
}

/// Wakes or interrupts a processor from another thread.
pub trait Kick: Send + Sync {
    /// Makes the present or the next [`Vcpu::run`] return [`Halt::Kicked`].
    fn kick(&self);
}

/// Why a processor stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Somebody kicked it.
    Kicked,
    /// A triple fault: the machine resets, by policy.
    TripleFault,
    /// It waits for an interrupt, and time is not the host's: the caller moves time on. The nearest deadline of the processor's own
    /// timers comes along.
    Idle {
        /// In nanoseconds of the machine's clock; none when only a device can wake it.
        until: Option<u64>,
    },
    /// [`Vcpu::stop_at`] was reached.
    Reached,
}

/// What a processor reaches outside of itself. Called on the processor's thread, without any lock of the accelerator held.
pub trait Io {
    /// IN: fills 1, 2 or 4 bytes; what nobody claims reads as ones.
    fn port_read(&self, port: u16, data: &mut [u8]);
    /// OUT of 1, 2 or 4 bytes.
    fn port_write(&self, port: u16, data: &[u8]);
    /// Reads 1 to 8 bytes at a guest physical address without memory.
    fn mmio_read(&self, address: u64, data: &mut [u8]);
    /// Writes 1 to 8 bytes at a guest physical address without (writable) memory.
    fn mmio_write(&self, address: u64, data: &[u8]);
    /// The 8259 pair's vector, acknowledged; called once after the wire of [`Vm::external`] is up and the processor takes it.
    fn acknowledge(&self) -> u8;
    /// A local APIC has ended an interrupt of this vector that was level-triggered.
    fn end_of_interrupt(&self, vector: u8);
    /// Whether the guest has asked for a stop of this run (reset, power off, pause), asked after each access.
    fn stopping(&self) -> bool {
        false
    }
    /// With a clock that counts instructions: called whenever the clock has reached the deadline that the last call returned (and at
    /// the start of each run, and after each access); does what is due and returns the next deadline in nanoseconds of the machine's clock.
    fn due(&self) -> Option<u64> {
        None
    }
}
