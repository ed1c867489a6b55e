//! The control instructions: they touch words and images, not numbers.

use super::{Store, X87Op, X87Operands};
use crate::environment::EnvironmentForm;
use crate::state::{EXCEPTIONS, Fpu};

/// The format of an environment or state of this operation.
fn form(op: &X87Op, operands: &X87Operands) -> EnvironmentForm {
    EnvironmentForm {
        wide: matches!(op.load.max(op.store), 28 | 108),
        protected: operands.protected,
    }
}

fn word(operands: &X87Operands) -> u16 {
    u16::from_le_bytes([operands.memory[0], operands.memory[1]])
}

/// WAIT, and what 80287 systems needed and later processors ignore: FNENI, FNDISI, FNSETPM.
pub(super) fn nothing(_: &X87Op, _: &mut Fpu, _: &mut X87Operands) -> Store {
    Store::Yes
}

pub(super) fn fninit(_: &X87Op, fpu: &mut Fpu, _: &mut X87Operands) -> Store {
    fpu.initialise();
    Store::Yes
}

/// FNCLEX: exception flags, stack fault, summary and busy.
pub(super) fn fnclex(_: &X87Op, fpu: &mut Fpu, _: &mut X87Operands) -> Store {
    const STACK_FAULT: u16 = 1 << 6;
    fpu.status &= !(EXCEPTIONS | STACK_FAULT);
    fpu.summarise();
    Store::Yes
}

pub(super) fn fldcw(_: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    fpu.set_control(word(operands));
    Store::Yes
}

pub(super) fn fnstcw(_: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    operands.memory[..2].copy_from_slice(&fpu.control.to_le_bytes());
    Store::Yes
}

/// FNSTSW to AX and to memory.
pub(super) fn fnstsw(_: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    operands.ax = fpu.status;
    operands.memory[..2].copy_from_slice(&fpu.status.to_le_bytes());
    Store::Yes
}

pub(super) fn fldenv(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    fpu.fldenv(&operands.memory, form(op, operands));
    Store::Yes
}

pub(super) fn fnstenv(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let form = form(op, operands);
    fpu.fnstenv(&mut operands.memory, form);
    Store::Yes
}

pub(super) fn frstor(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    fpu.frstor(&operands.memory, form(op, operands));
    Store::Yes
}

pub(super) fn fnsave(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let form = form(op, operands);
    fpu.fnsave(&mut operands.memory, form);
    Store::Yes
}
