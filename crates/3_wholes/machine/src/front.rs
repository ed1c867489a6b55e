//! What processors reach outside of themselves: the bus, the interrupt controllers, and time that goes with instructions.

use std::sync::Arc;

use devices::bus::Bus;
use devices::chipset::interrupts::Interrupts;
use vcpu::Io;
use vcpu::time::Timers;

use crate::life::Life;

/// The outside of all processors of a machine.
pub struct Front {
    /// Ports and addresses.
    pub bus: Arc<Bus>,
    /// Interrupt controllers.
    pub interrupts: Arc<Interrupts>,
    /// Where the end of the machine is told.
    pub life: Arc<Life>,
    /// Timers to be fired by processors, when time goes with their instructions.
    pub counting: Option<Arc<Timers>>,
}

impl Io for Front {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.bus.port_read(port, data);
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        self.bus.port_write(port, data);
    }

    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        self.bus.mmio_read(address, data);
    }

    fn mmio_write(&self, address: u64, data: &[u8]) {
        self.bus.mmio_write(address, data);
    }

    fn acknowledge(&self) -> u8 {
        self.interrupts.acknowledge()
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.interrupts.end_of_interrupt(vector);
    }

    fn stopping(&self) -> bool {
        self.life.is_stopping()
    }

    fn due(&self) -> Option<u64> {
        let timers = self.counting.as_ref()?;
        timers.fire();
        timers.next()
    }
}
