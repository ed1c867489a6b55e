//! PCI: configuration spaces, base address registers that move, interrupts, and the host bridge in front of them.
//!
//! A [`Function`] owns a [`Config`]; most functions need nothing but its masks. The root ([`host::Root`]) gives the guest access to
//! configuration spaces, and puts the windows that base address registers (BARs) open on the [`crate::bus::Bus`], where they reach the
//! function's [`crate::Registers`] with the BAR's number as region – for memory BARs and I/O BARs alike.
//!
//! References are to the PCI Local Bus Specification 3.0 ("PCI") unless another one is named.

pub mod config;
pub mod host;
pub mod intx;
pub mod msix;
pub mod piix;

use guestmem::Block;

use crate::Device;
pub use config::{Bar, Config, Identity, Window};
pub use intx::Intx;
pub use msix::Msix;

/// Number of the expansion ROM among the BARs.
pub const ROM: u8 = 6;

/// One function of a PCI device.
///
/// The root calls it with its lock held; a function never calls the root. Threads of the device that raise interrupts do so through
/// clones of [`Intx`] and [`Msix`], which need no lock of the function.
pub trait Function: Device {
    /// Its configuration space.
    fn config(&self) -> &Config;

    /// Its configuration space, to be changed.
    fn config_mut(&mut self) -> &mut Config;

    /// The guest reads 1, 2 or 4 bytes, never across a double word.
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config().read(offset, data);
    }

    /// The guest writes 1, 2 or 4 bytes, never across a double word.
    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config_mut().write(offset, data);
    }

    /// Memory that stands for a BAR: the guest reaches it without leaving its processor, as RAM. The block is as long as the BAR.
    fn bar_memory(&self, _bar: u8) -> Option<Block> {
        None
    }

    /// The windows that are open now; the numbers are regions of its [`crate::Registers`]. For functions that have others than BARs.
    fn windows(&self) -> Vec<Window> {
        self.config().windows().collect()
    }

    /// A BAR's window has come to an address, or gone.
    fn moved(&mut self, _bar: u8, _address: Option<u64>) {}
}
