//! The chipset of a PC: interrupt controllers, timers, clock, serial port, keyboard controller, power management, and small ports.
//!
//! Every device has a constant `PORTS`, the ranges that [`attach`] puts on the bus.

pub mod acpi_pm;
pub mod dma;
pub mod fw_cfg;
pub mod i8042;
pub mod interrupts;
pub mod ioapic;
pub mod pic;
pub mod pit;
pub mod ports;
pub mod rough;
pub mod rtc;
pub mod serial;
mod ticker;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Access;
use crate::bus::{Bus, Shared, Ticket};
pub use ticker::{Tick, Ticker};

/// What devices tell the machine. Called with the device's lock held, on a processor's thread: whoever hears it notes it and returns.
pub trait Signals: Send + Sync {
    /// The guest asks for a reset of the whole machine.
    fn reset(&self);
    /// The guest switches itself off.
    fn power_off(&self);
    /// The guest says that it panicked; `loaded` when a crash kernel goes on in it.
    fn panicked(&self, loaded: bool);
    /// The guest sets the keyboard's lamps: bit 0 scroll lock, bit 1 num lock, bit 2 caps lock.
    fn leds(&self, _leds: u8) {}
}

/// Where bytes go that a guest puts out: a console, a log. It takes everything at once and bounds what it keeps.
pub trait Sink: Send {
    /// Takes bytes.
    fn write(&mut self, bytes: &[u8]);
}

/// Puts a device's port ranges on the bus.
pub fn attach(bus: &Bus, device: &Shared, ports: &[(u16, u32)]) -> Vec<Ticket> {
    ports
        .iter()
        .map(|(first, count)| bus.add_ports(*first, *count, device))
        .collect()
}

/// Locks a device that one knows by its kind; see [`crate::bus::lock`].
fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A read of byte registers: byte after byte, as the ISA bus splits it.
pub(crate) fn read_bytes(port: u16, data: &mut [u8], mut read: impl FnMut(u16) -> u8) -> Access {
    for (at, byte) in (0..).zip(data) {
        *byte = read(port.wrapping_add(at));
    }
    Access::Done
}

/// A write of byte registers.
pub(crate) fn write_bytes(port: u16, data: &[u8], mut write: impl FnMut(u16, u8)) -> Access {
    for (at, byte) in (0..).zip(data) {
        write(port.wrapping_add(at), *byte);
    }
    Access::Done
}
