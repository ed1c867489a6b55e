//! The description of a machine, as far as kernels and firmware are told of it.

use fault::{Fault, Result};

use crate::faults::{BAD_CPUS, BAD_MEMORY};
use crate::layout::{LOW_MEMORY_END, MIB, memory_top};

/// What kernels, firmware and tables are told of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory: whole MiB.
    pub memory: u64,
    /// Processors; their APIC ids are 0, 1, 2, …
    pub cpus: u32,
    /// Bits of a physical address, as CPUID leaf 8000_0008h says.
    pub physical_bits: u8,
    /// Whether there is a VGA adapter.
    pub display: bool,
    /// 16550 serial ports: 0 to 2 (COM1, COM2).
    pub serial_ports: u8,
    /// Whether there is a pvpanic device.
    pub pvpanic: bool,
    /// Whether there is a fw_cfg device.
    pub fw_cfg: bool,
    /// The machine's UUID in the order in which it is printed.
    pub uuid: [u8; 16],
    /// Serial number of the system, for SMBIOS; may be empty.
    pub serial_number: String,
}

impl Machine {
    /// Most processors that the tables have room for.
    pub const MOST_CPUS: u32 = 1024;
    /// Least memory, in bytes.
    pub const LEAST_MEMORY: u64 = 2 * MIB;

    /// A machine of so many bytes and processors, with one serial port and no screen.
    #[must_use]
    pub fn new(memory: u64, cpus: u32) -> Self {
        Machine {
            memory,
            cpus,
            physical_bits: 40,
            display: false,
            serial_ports: 1,
            pvpanic: true,
            fw_cfg: true,
            uuid: [0; 16],
            serial_number: String::new(),
        }
    }

    /// Refuses what cannot be built: [`BAD_MEMORY`], [`BAD_CPUS`].
    pub fn check(&self) -> Result<()> {
        let addressable = 1_u64 << self.physical_bits.clamp(32, 52);
        // The tables promise PCI a window above memory: leave it as much as the memory may have.
        let most = (addressable / 2).max(LOW_MEMORY_END);
        let fits = memory_top(self.memory.min(most)) <= addressable && self.memory <= most;
        if self.memory < Self::LEAST_MEMORY || !self.memory.is_multiple_of(MIB) || !fits {
            return Err(Fault::new(BAD_MEMORY)
                .arg("memory", self.memory)
                .arg("most", most / MIB));
        }
        if self.cpus == 0 || self.cpus > Self::MOST_CPUS {
            return Err(Fault::new(BAD_CPUS)
                .arg("cpus", self.cpus)
                .arg("most", Self::MOST_CPUS));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::GIB;

    #[test]
    fn a_machine_without_memory_or_with_more_than_its_processor_addresses_is_refused() {
        assert!(Machine::new(512 * MIB, 1).check().is_ok());
        for memory in [0, MIB, 3 * MIB + 1, 1 << 41, u64::MAX] {
            let fault = Machine::new(memory, 1).check().unwrap_err();
            assert!(fault.is(BAD_MEMORY), "{memory}: {fault}");
        }
        let mut small = Machine::new(8 * GIB, 1);
        small.physical_bits = 32;
        assert!(small.check().unwrap_err().is(BAD_MEMORY));
    }

    #[test]
    fn a_machine_without_processors_or_with_too_many_is_refused() {
        for cpus in [0, 1025, u32::MAX] {
            assert!(Machine::new(MIB * 64, cpus).check().unwrap_err().is(BAD_CPUS));
        }
    }
}
