//! IN, OUT and the permission to use ports.

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Flow, Op, Outcome, Stop};

impl Cpu {
    /// Raises #GP when the privilege level and the task's bitmap do not allow a port (SDM Vol. 1 §20.5).
    pub(crate) fn check_port(&mut self, port: u16, len: u64) -> Result<(), Stop> {
        if !self.protected() || self.cpl <= self.iopl() {
            return Ok(());
        }
        let limit = u64::from(self.task.limit);
        if self.task.attributes & 8 == 0 || limit < 103 {
            return self.protection(0);
        }
        let start = u64::from(self.load_system::<u16>(self.task.base.wrapping_add(102))?);
        let at = start + u64::from(port >> 3);
        if at + 1 > limit {
            return self.protection(0);
        }
        let bits = self.load_system::<u16>(self.task.base.wrapping_add(at))?;
        if bits >> (port & 7) & ((1 << len) - 1) != 0 {
            return self.protection(0);
        }
        Ok(())
    }

    /// Reads a port.
    pub(crate) fn port_in(&mut self, port: u16, len: u64) -> u64 {
        let mut bytes = [0; 8];
        self.sync_clock();
        self.io().port_read(port, &mut bytes[..len as usize]);
        self.cut = true;
        u64::from_le_bytes(bytes)
    }

    /// Writes a port.
    pub(crate) fn port_out(&mut self, port: u16, len: u64, value: u64) {
        self.sync_clock();
        self.io().port_write(port, &value.to_le_bytes()[..len as usize]);
        self.cut = true;
    }
}

/// IN from the port in `imm` or DX.
pub(crate) fn input<T: Int, const DX: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let port = if DX {
        cpu.registers[2] as u16
    } else {
        op.imm as u8 as u16
    };
    cpu.check_port(port, T::BYTES)?;
    let value = cpu.port_in(port, T::BYTES);
    T::set_reg(&mut cpu.registers, 0, T::cut(value));
    Ok(Flow::Cut)
}

/// OUT to the port in `imm` or DX.
pub(crate) fn output<T: Int, const DX: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let port = if DX {
        cpu.registers[2] as u16
    } else {
        op.imm as u8 as u16
    };
    cpu.check_port(port, T::BYTES)?;
    cpu.port_out(port, T::BYTES, T::reg(&cpu.registers, 0).wide());
    Ok(Flow::Cut)
}
