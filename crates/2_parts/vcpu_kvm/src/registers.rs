//! Registers as the saved state has them and as KVM has them.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use vcpu::state::{CpuState, Segment, Table, msr};

/// Bit of [`Segment::attributes`]: unusable.
const UNUSABLE: u32 = 1 << 16;

fn segment_to(segment: &Segment) -> kvm_segment {
    let bits = |from: u32, count: u32| (segment.attributes >> from & ((1 << count) - 1)) as u8;
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: bits(0, 4),
        s: bits(4, 1),
        dpl: bits(5, 2),
        present: bits(7, 1),
        avl: bits(12, 1),
        l: bits(13, 1),
        db: bits(14, 1),
        g: bits(15, 1),
        unusable: bits(16, 1),
        padding: 0,
    }
}

fn segment_from(segment: &kvm_segment) -> Segment {
    let bits = |value: u8, count: u32, to: u32| (u32::from(value) & ((1 << count) - 1)) << to;
    let attributes = bits(segment.type_, 4, 0)
        | bits(segment.s, 1, 4)
        | bits(segment.dpl, 2, 5)
        | bits(segment.present, 1, 7)
        | bits(segment.avl, 1, 12)
        | bits(segment.l, 1, 13)
        | bits(segment.db, 1, 14)
        | bits(segment.g, 1, 15);
    Segment {
        selector: segment.selector,
        base: segment.base,
        limit: segment.limit,
        attributes: attributes | if segment.unusable != 0 { UNUSABLE } else { 0 },
    }
}

fn table_to(table: &Table) -> kvm_dtable {
    kvm_dtable {
        base: table.base,
        limit: table.limit,
        padding: [0; 3],
    }
}

fn table_from(table: &kvm_dtable) -> Table {
    Table {
        base: table.base,
        limit: table.limit,
    }
}

/// General registers, instruction pointer and flags.
pub(crate) fn general_to(state: &CpuState) -> kvm_regs {
    let [
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = state.registers;
    kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: state.rip,
        rflags: state.rflags,
    }
}

/// The other way round.
pub(crate) fn general_from(regs: &kvm_regs, state: &mut CpuState) {
    let r = regs;
    state.registers = [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ];
    state.rip = r.rip;
    state.rflags = r.rflags;
}

/// Segments, tables and control registers; EFER and the base of the local APIC among them. The interrupt that waits goes with the
/// events. The kernel reads the page directory pointers of PAE anew from guest memory.
pub(crate) fn system_to(state: &CpuState) -> kvm_sregs {
    let [es, cs, ss, ds, fs, gs] = &state.segments;
    kvm_sregs {
        es: segment_to(es),
        cs: segment_to(cs),
        ss: segment_to(ss),
        ds: segment_to(ds),
        fs: segment_to(fs),
        gs: segment_to(gs),
        ldt: segment_to(&state.ldt),
        tr: segment_to(&state.task),
        gdt: table_to(&state.gdt),
        idt: table_to(&state.idt),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8: state.cr8,
        efer: state.msr(msr::EFER).unwrap_or(0),
        apic_base: state.msr(msr::APIC_BASE).unwrap_or(0xfee0_0800),
        interrupt_bitmap: [0; 4],
    }
}

/// The other way round.
pub(crate) fn system_from(sregs: &kvm_sregs, state: &mut CpuState) {
    let s = sregs;
    state.segments = [&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs].map(segment_from);
    state.ldt = segment_from(&s.ldt);
    state.task = segment_from(&s.tr);
    state.gdt = table_from(&s.gdt);
    state.idt = table_from(&s.idt);
    (state.cr0, state.cr2, state.cr3, state.cr4, state.cr8) = (s.cr0, s.cr2, s.cr3, s.cr4, s.cr8);
    state.set_msr(msr::APIC_BASE, s.apic_base);
    state.set_msr(msr::EFER, s.efer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_segment_survives_the_way_to_kvm_and_back(
            selector in any::<u16>(), base in any::<u64>(), limit in any::<u32>(), attributes in any::<u32>()
        ) {
            let segment = Segment { selector, base, limit, attributes: attributes & 0x1_f0ff };
            prop_assert_eq!(segment_from(&segment_to(&segment)), segment);
        }

        #[test]
        fn registers_survive_the_way_to_kvm_and_back(registers in any::<[u64; 16]>(), rip in any::<u64>(), cr3 in any::<u64>()) {
            let mut state = CpuState::reset(3);
            (state.registers, state.rip, state.cr3) = (registers, rip, cr3);
            let mut back = CpuState::reset(0);
            general_from(&general_to(&state), &mut back);
            system_from(&system_to(&state), &mut back);
            prop_assert_eq!((back.registers, back.rip, back.rflags), (state.registers, rip, state.rflags));
            prop_assert_eq!((back.segments, back.cr3, back.task), (state.segments, cr3, state.task));
            prop_assert_eq!(back.msr(msr::APIC_BASE), Some(0xfee0_0800));
        }
    }

    #[test]
    fn a_code_segment_has_its_bits_where_the_descriptor_has_them() {
        let code = Segment {
            selector: 8,
            base: 0,
            limit: u32::MAX,
            attributes: 0xa09b,
        };
        let kvm = segment_to(&code);
        assert_eq!((kvm.type_, kvm.s, kvm.dpl, kvm.present), (0xb, 1, 0, 1));
        assert_eq!((kvm.l, kvm.db, kvm.g, kvm.unusable), (1, 0, 1, 0));
    }
}
