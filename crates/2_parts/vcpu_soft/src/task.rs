//! Hardware task switches between 32-bit task states (SDM Vol. 3 chapter 9), as 32-bit kernels use them for double faults.

use vcpu::state::Segment;

use crate::cpu::{Cpu, attr, cr0, seg};
use crate::exception::vector;
use crate::flags;
use crate::op::Stop;
use crate::segments::{Descriptor, kind, null};
use crate::transfer::Far;

/// Offsets in a 32-bit task state.
mod tss {
    pub(super) const LINK: u64 = 0;
    pub(super) const CR3: u64 = 28;
    pub(super) const EIP: u64 = 32;
    pub(super) const EFLAGS: u64 = 36;
    pub(super) const REGISTERS: u64 = 40;
    pub(super) const SEGMENTS: u64 = 72;
    pub(super) const LDT: u64 = 96;
    pub(super) const SIZE: u64 = 104;
}

/// What happens to the busy bits, the link and NT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Jump,
    Nested,
    Return,
}

impl Cpu {
    /// Task gate in the interrupt table.
    pub(crate) fn task_gate(
        &mut self,
        selector: u16,
        error: Option<u32>,
        rip: u64,
        ext: u32,
    ) -> Result<(), Stop> {
        let task = self.find_task(selector, vector::PROTECTION, false, ext)?;
        self.switch_task(&task, Why::Nested, rip)?;
        if let Some(error) = error {
            self.push(error)?;
        }
        Ok(())
    }

    /// JMP or CALL to a task.
    pub(crate) fn far_task(&mut self, selector: u16, how: Far) -> Result<(), Stop> {
        let task = self.find_task(selector, vector::PROTECTION, false, 0)?;
        match how {
            Far::Jump => self.switch_task(&task, Why::Jump, self.next_rip()),
            Far::Call { next, .. } => self.switch_task(&task, Why::Nested, next),
        }
    }

    /// IRET with NT set.
    pub(crate) fn task_return(&mut self) -> Result<(), Stop> {
        let link = self.load_system::<u16>(self.task.base.wrapping_add(tss::LINK))?;
        let task = self.find_task(link, vector::TASK, true, 0)?;
        self.switch_task(&task, Why::Return, self.next_rip())
    }

    fn find_task(&mut self, selector: u16, fault: u8, busy: bool, ext: u32) -> Result<Descriptor, Stop> {
        let error = u32::from(selector & !3) | ext;
        if selector & 4 != 0 || selector & !3 == 0 {
            return self.raise(fault, Some(error));
        }
        let found = self.descriptor_ext(selector, fault, ext)?;
        let wanted = if busy { kind::TSS_BUSY } else { kind::TSS };
        let narrow = if busy { kind::TSS_16_BUSY } else { kind::TSS_16 };
        if found.system() && found.kind() == narrow {
            return self.unsupported("16-bit task state");
        }
        if !found.system() || found.kind() != wanted {
            return self.raise(fault, Some(error));
        }
        if !found.present() {
            return self.raise(vector::NOT_PRESENT, Some(error));
        }
        if u64::from(found.limit()) < tss::SIZE - 1 {
            return self.raise(vector::TASK, Some(error));
        }
        Ok(found)
    }

    fn switch_task(&mut self, task: &Descriptor, why: Why, rip: u64) -> Result<(), Stop> {
        let old = self.task.base;
        let base = task.base();
        if self.task.attributes & 8 == 0 {
            return self.unsupported("16-bit task state");
        }
        // Everything that can fail is read and tried before anything is written.
        self.as_system(|cpu| {
            cpu.probe(old.wrapping_add(tss::EIP), 1, 0, true)?;
            cpu.probe(old.wrapping_add(tss::SIZE - 1), 1, 0, true)
        })?;
        let mut state = [0u32; (tss::SIZE / 4) as usize];
        for (n, word) in state.iter_mut().enumerate() {
            *word = self.load_system::<u32>(base.wrapping_add(4 * n as u64))?;
        }
        let mut bits = self.rflags();
        if why == Why::Return {
            bits &= !flags::NT;
        }
        self.save_task(old, rip, bits)?;
        if why != Why::Nested {
            let selector = self.task.selector;
            let found = self.descriptor(selector, vector::TASK)?;
            self.mark_busy(&found, false)?;
        } else {
            let link = self.task.selector;
            self.store_system(base.wrapping_add(tss::LINK), link)?;
        }
        if why != Why::Return {
            self.mark_busy(task, true)?;
        }
        let mut segment = task.segment();
        segment.attributes |= 2;
        self.task = segment;
        self.cr0 |= cr0::TS;
        let word = |offset: u64| state[(offset / 4) as usize];
        let nested = if why == Why::Nested { flags::NT } else { 0 };
        self.load_state(&word, nested)
    }

    fn save_task(&mut self, base: u64, rip: u64, bits: u64) -> Result<(), Stop> {
        self.store_system(base.wrapping_add(tss::EIP), rip as u32)?;
        self.store_system(base.wrapping_add(tss::EFLAGS), bits as u32)?;
        for n in 0..8 {
            let value = self.registers[n] as u32;
            self.store_system(base.wrapping_add(tss::REGISTERS + 4 * n as u64), value)?;
        }
        for n in 0..6 {
            let value = self.segments[n].selector;
            self.store_system(base.wrapping_add(tss::SEGMENTS + 4 * n as u64), value)?;
        }
        Ok(())
    }

    fn load_state(&mut self, word: &dyn Fn(u64) -> u32, nested: u64) -> Result<(), Stop> {
        if self.mode.paging {
            self.cr3 = u64::from(word(tss::CR3));
            self.tlb.switch(0, true);
        }
        self.rip = u64::from(word(tss::EIP));
        for n in 0..8 {
            self.registers[n] = u64::from(word(tss::REGISTERS + 4 * n as u64));
        }
        let selectors: [u16; 6] = std::array::from_fn(|n| word(tss::SEGMENTS + 4 * n as u64) as u16);
        self.set_rflags(u64::from(word(tss::EFLAGS)) | nested);
        if self.rflags & flags::VM != 0 {
            return self.unsupported("virtual-8086 mode");
        }
        self.debug[5] &= !0x155;
        // The selectors are loaded one by one; faults now happen in the new task.
        for (n, selector) in selectors.iter().enumerate() {
            self.segments[n] = null(*selector);
        }
        let level = selectors[seg::CS as usize] & 3;
        self.segments[seg::SS as usize].attributes |= u32::from(level) << 5;
        self.ldt = null(word(tss::LDT) as u16);
        self.refresh_segments();
        let ldt = word(tss::LDT) as u16;
        if ldt & !3 != 0 {
            let found = self.descriptor(ldt, vector::TASK)?;
            if ldt & 4 != 0 || !found.system() || found.kind() != kind::LDT || !found.present() {
                return self.raise(vector::TASK, Some(found.error()));
            }
            self.ldt = found.segment();
        }
        self.segments[seg::CS as usize] = self.task_code(selectors[seg::CS as usize])?;
        self.refresh_segments();
        for number in [seg::SS, seg::ES, seg::DS, seg::FS, seg::GS] {
            let segment = self.checked_segment(number, selectors[number as usize], vector::TASK)?;
            self.segments[number as usize] = segment;
            self.refresh_segments();
        }
        Ok(())
    }

    fn task_code(&mut self, selector: u16) -> Result<Segment, Stop> {
        if selector & !3 == 0 {
            return self.raise(vector::TASK, Some(0));
        }
        let code = self.descriptor(selector, vector::TASK)?;
        let rpl = (selector & 3) as u8;
        let fits = if code.conforming() {
            code.dpl() <= rpl
        } else {
            code.dpl() == rpl
        };
        if !code.code() || !fits || code.attributes() & attr::S == 0 {
            return self.raise(vector::TASK, Some(code.error()));
        }
        if !code.present() {
            return self.raise(vector::NOT_PRESENT, Some(code.error()));
        }
        Ok(self.mark_accessed(code)?.segment())
    }
}
