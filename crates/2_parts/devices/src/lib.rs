//! The devices of a PC, and the bus that they hang on.
//!
//! A device is a state machine behind a lock: processors reach it through the [`bus::Bus`], its own threads through the same lock or
//! through state that they own. It opens nothing: descriptors are handed to it. It never names an accelerator: interrupts leave
//! through [`irq::Line`] and [`irq::Messages`], memory is [`guestmem::Memory`], time is [`vcpu::time::Timers`].
//!
//! Every folder of a device has the same files where it needs them: `mod.rs` (the device: registers), `state.rs` (what is saved),
//! and for virtio devices `queue` work in a file of its own.

pub mod bus;
pub mod chipset;
pub mod irq;
pub mod pci;
pub mod rfb;
pub mod state;
pub mod vga;
pub mod virtio;
pub mod work;

use fault::Result;
pub use state::Saved;

/// What came of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Done; for a read the data are filled in.
    Done,
    /// Nothing is there: reads give ones, writes are lost.
    Unclaimed,
}

/// What every device can: be reset, stand still, be saved and restored. Facets tell what else.
pub trait Device: Send {
    /// Its name, unique in its machine, under which its state is saved: `serial0`, `virtio-blk-vda`.
    fn name(&self) -> &str;

    /// As after power-on. Contents of disks and the like stay.
    fn reset(&mut self);

    /// Returns when nothing of it is under way any more and nothing begins until [`Device::resume`]: its memory accesses, I/O, timers.
    fn pause(&mut self) {}

    /// Goes on.
    fn resume(&mut self) {}

    /// Its state; only while paused.
    ///
    /// # Errors
    /// When the state cannot be told (a back end is gone).
    fn save(&self) -> Result<Saved>;

    /// Puts a saved state in place; only while paused, on a device made with the same arguments.
    ///
    /// # Errors
    /// When the state is not of this device, newer than this program, or damaged.
    fn restore(&mut self, saved: &Saved) -> Result<()>;

    /// Facet: I/O ports.
    fn ports(&mut self) -> Option<&mut dyn Ports> {
        None
    }

    /// Facet: registers in memory.
    fn registers(&mut self) -> Option<&mut dyn Registers> {
        None
    }
}

/// Facet of a device with I/O ports. `port` is the number on the bus; data are 1, 2 or 4 bytes. The bus splits nothing: a device that has
/// only byte registers answers a wider access as its bus would (ISA: byte after byte).
pub trait Ports {
    /// IN.
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access;
    /// OUT.
    fn write(&mut self, port: u16, data: &[u8]) -> Access;
}

/// Facet of a device with registers in memory. `region` is the number that it was put on the bus with, `offset` counts from the region's
/// beginning; data are 1 to 8 bytes and never cross the region's end.
pub trait Registers {
    /// A read.
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Access;
    /// A write.
    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Access;
}
