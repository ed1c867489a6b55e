//! What instructions do, by group. Handlers are generic over operand size and form; `table` picks them.

pub(crate) mod alu;
pub(crate) mod atomic;
pub(crate) mod bits;
pub(crate) mod branch;
pub(crate) mod control;
pub(crate) mod decimal;
pub(crate) mod float;
pub(crate) mod mov;
pub(crate) mod muldiv;
pub(crate) mod ports;
pub(crate) mod protect;
pub(crate) mod shift;
pub(crate) mod stack;
pub(crate) mod string;
pub(crate) mod system;

use crate::cpu::Cpu;
use crate::op::{BLOCK, Op};

/// Chooses the instance of a generic handler by operand size.
macro_rules! by_size {
    ($size:expr, $($path:ident)::+ < _ >) => {
        match $size {
            1 => $($path)::+::<u8>,
            2 => $($path)::+::<u16>,
            4 => $($path)::+::<u32>,
            _ => $($path)::+::<u64>,
        }
    };
    ($size:expr, $name:ident < $first:ident, _ >) => {
        match $size {
            1 => $name::<$first, u8>,
            2 => $name::<$first, u16>,
            4 => $name::<$first, u32>,
            _ => $name::<$first, u64>,
        }
    };
}
pub(crate) use by_size;

impl Cpu {
    /// The bits of an instruction pointer in this code segment.
    #[inline(always)]
    pub(crate) fn ip_mask(&self) -> u64 {
        match self.bits {
            64 => u64::MAX,
            _ => 0xffff_ffff,
        }
    }

    /// Instruction pointer after an instruction of the present block.
    #[inline(always)]
    pub(crate) fn after(&self, op: &Op) -> u64 {
        self.registers[BLOCK as usize].wrapping_add(u64::from(op.next)) & self.ip_mask()
    }

    /// Instruction pointer of an instruction of the present block.
    #[inline(always)]
    pub(crate) fn before(&self, op: &Op) -> u64 {
        self.registers[BLOCK as usize]
            .wrapping_add(u64::from(op.next))
            .wrapping_sub(u64::from(op.len))
            & self.ip_mask()
    }

    /// Instructions retired before the present one.
    #[inline]
    pub(crate) fn retired_now(&self) -> u64 {
        self.retired + self.at
    }
}
