//! The devices, as long as a run lasts.
#![allow(
    unsafe_code,
    reason = "keeps a borrowed object where handlers find it, for the time of the borrow"
)]

use vcpu::{Halt, Io};

use crate::cpu::Cpu;
use crate::run::{Impossible, Processor};

/// Where the devices are while [`vcpu::Vcpu::run`] is on the stack; nothing otherwise.
#[derive(Default)]
pub(crate) struct Outside(Option<*const (dyn Io + 'static)>);

// SAFETY: the pointer is there only during `Processor::run_with`, which does not let the processor go to another thread.
unsafe impl Send for Outside {}

/// Takes the pointer away when the run ends, by a panic too.
struct Borrowed<'a>(&'a mut Processor);

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.0.cpu.outside = Outside(None);
    }
}

impl Processor {
    /// Runs with devices at hand.
    pub(crate) fn run_with(&mut self, io: &dyn Io) -> Result<Halt, Impossible> {
        let pointer: *const (dyn Io + '_) = io;
        // SAFETY: only the lifetime changes; the pointer is taken away before the borrow of `io` ends.
        let pointer: *const (dyn Io + 'static) = unsafe { std::mem::transmute(pointer) };
        self.cpu.outside = Outside(Some(pointer));
        let borrowed = Borrowed(self);
        borrowed.0.run(io)
    }
}

impl Cpu {
    /// The devices. Outside of a run there are none: everything reads as ones.
    pub(crate) fn io(&self) -> &dyn Io {
        match self.outside.0 {
            // SAFETY: set by `run_with` only, which is on the stack with its borrow of the devices.
            Some(pointer) => unsafe { &*pointer },
            None => &Nobody,
        }
    }
}

/// An empty bus.
pub(crate) struct Nobody;

impl Io for Nobody {
    fn port_read(&self, _port: u16, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn port_write(&self, _port: u16, _data: &[u8]) {}
    fn mmio_read(&self, _address: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn mmio_write(&self, _address: u64, _data: &[u8]) {}
    fn acknowledge(&self) -> u8 {
        0xff
    }
    fn end_of_interrupt(&self, _vector: u8) {}
}
