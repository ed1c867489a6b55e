//! What a machine starts with, put into its memory and its first processor.

use std::fs::File;
use std::io::Read;

use boot::{Chunk, Contents, Entry};
use fault::{Fault, OrFault, Result};
use guestmem::Memory;
use vcpu::CpuState;
use vcpu::state::{Segment, Table, msr};

use crate::machine::UNBUILDABLE;

/// Most bytes of a kernel or an archive of its initrd.
const MOST: u64 = 2 << 30;

/// Reads a whole file from its beginning, wherever its descriptor stands.
///
/// # Errors
/// `MAC003` when it cannot be read or is larger than any kernel.
pub fn read(file: &File) -> Result<Vec<u8>> {
    let fault = |what: &str| Fault::new(UNBUILDABLE).arg("what", what);
    let size = file.metadata().or_fault(|| fault("kernel"))?.len();
    if size > MOST {
        return Err(fault("a kernel or initrd of more than 2 GiB"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let mut file = file.try_clone().or_fault(|| fault("kernel"))?;
    std::io::Seek::rewind(&mut file).or_fault(|| fault("kernel"))?;
    file.take(MOST)
        .read_to_end(&mut bytes)
        .or_fault(|| fault("kernel"))?;
    Ok(bytes)
}

/// Writes images of memory where they belong.
///
/// # Errors
/// `MAC003` when there is no memory at some of it.
pub fn place(memory: &Memory, chunks: &[Chunk<'_>]) -> Result<()> {
    for chunk in chunks {
        let done = match &chunk.contents {
            Contents::Bytes(bytes) => memory.write(chunk.address, bytes),
            // New memory is zero already.
            Contents::Zeros(len) => memory.offset(chunk.address, *len).map(drop),
        };
        done.or_fault(|| Fault::new(UNBUILDABLE).arg("what", "memory"))?;
    }
    Ok(())
}

/// The state in which the first processor begins.
#[must_use]
pub fn enter(entry: &Entry) -> CpuState {
    let mut state = CpuState::reset(0);
    let Some(registers) = entry.registers() else {
        return state;
    };
    let segment = |segment: &boot::Segment| Segment {
        selector: segment.selector,
        base: segment.base,
        limit: segment.limit,
        attributes: segment.access.into(),
    };
    state.registers = [0; 16];
    state.registers[3] = registers.rbx;
    state.registers[6] = registers.rsi;
    state.rip = registers.rip;
    state.rflags = registers.rflags;
    state.cr0 = registers.cr0;
    state.cr3 = registers.cr3;
    state.cr4 = registers.cr4;
    state.set_msr(msr::EFER, registers.efer);
    // ES, CS, SS, DS, FS, GS.
    state.segments = [segment(&registers.data); 6];
    state.segments[1] = segment(&registers.code);
    state.task = segment(&registers.task);
    state.ldt = Segment {
        attributes: 1 << 16,
        ..Segment::default()
    };
    state.gdt = Table {
        base: registers.gdt_base,
        limit: registers.gdt_limit,
    };
    state.idt = Table::default();
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_entered_as_its_protocol_says() {
        let state = enter(&Entry::Long64 {
            rip: 0x10_0200,
            rsi: 0x7000,
        });
        assert_eq!((state.rip, state.registers[6]), (0x10_0200, 0x7000));
        assert_eq!(state.segments[1].attributes, 0xa09b);
        assert_eq!(state.msr(msr::EFER).map(|efer| efer & 0x500), Some(0x500));
        assert_ne!(state.cr0 & 1 << 31, 0);
    }

    #[test]
    fn firmware_begins_where_the_processor_does() {
        assert_eq!(enter(&Entry::Reset), CpuState::reset(0));
    }
}
