//! x87, MMX and SSE: what they do comes from crate `fpu`; checks, operands and exceptions are handled here.

use fpu::vector::{Copies, File, Implicit, Mmx, Target};
use fpu::{AreaForm, LastInstruction, Operands, Store, VectorOp, X87Op, X87Operands, XSAVE_BYTES, Xmm};
use iced_x86::{CpuidFeature, Mnemonic as M};

use crate::cpu::{Cpu, cr0, cr4, seg};
use crate::decode::Builder;
use crate::exception::vector;
use crate::int::Int;
use crate::op::{Flow, Handler, Op, Outcome, Stop};
use crate::saved::BadState;

/// Scratch for the operands of one instruction.
#[derive(Default)]
pub(crate) struct Scratch {
    vector: Operands,
    x87: X87Operands,
}

/// Whether the host has a feature that `fpu` needs (named as Rust's feature detection does).
pub(crate) fn host_has(name: &str) -> bool {
    let wanted = match name {
        "sse3" => CpuidFeature::SSE3,
        "pclmulqdq" => CpuidFeature::PCLMULQDQ,
        "ssse3" => CpuidFeature::SSSE3,
        "sse4.1" => CpuidFeature::SSE4_1,
        "sse4.2" => CpuidFeature::SSE4_2,
        "aes" => CpuidFeature::AES,
        _ => return false,
    };
    fpu::host_features().any(|feature| feature == wanted)
}

/// [`crate::op::Form::extra`]: uses XMM registers.
const SSE: u8 = 1;
/// [`crate::op::Form::extra`]: uses the x87 registers as MMX registers, or gives them back.
const X87: u8 = 2;

/// Chooses the handler of what this module does.
pub(crate) fn handler(b: &mut Builder) -> Option<Handler> {
    let memory = (0..b.i.op_count()).any(|n| b.is_memory(n));
    let code = b.i.code();
    if code.cpuid_features().contains(&CpuidFeature::SHA) {
        // Not announced.
        return None;
    }
    if let Some(found) = fpu::vector(code) {
        return Some(vector_handler(b, found, memory));
    }
    if let Some(found) = fpu::x87(code) {
        b.op.imm = code as u64 | u64::from(b.x87_modrm()) << 32;
        if found.indexed {
            b.op.src = b.i.op_register(found.register).number() as u8;
        }
        b.op.form.extra = u8::from(memory);
        return Some(if b.i.mnemonic() == M::Wait { wait } else { x87 });
    }
    area_handler(b)
}

fn vector_handler(b: &mut Builder, found: &'static VectorOp, memory: bool) -> Handler {
    let number = |operand: u32| {
        if b.is_register(operand) {
            b.i.op_register(operand).number() as u8
        } else {
            0
        }
    };
    let uses =
        |file: File| found.first.file == file || found.second.is_some_and(|second| second.file == file);
    let dst = number(found.first.operand);
    let src = found.second.map_or(0, |second| number(second.operand));
    (b.op.dst, b.op.src) = (dst, src);
    b.op.vector = Some(found);
    b.op.form.extra = if uses(File::Xmm) { SSE } else { 0 } | if found.uses_x87(memory) { X87 } else { 0 };
    if found.imm8 {
        let last = b.i.op_count() - 1;
        b.op.imm = b.i.immediate(last) & 0xff;
    }
    if found.target == Target::Masked {
        // The memory operand is at rDI.
        b.op.seg = crate::decode::segment(b.i.memory_segment());
        return vector_op::<false>;
    }
    let copies = match found.copies {
        Copies::Always => true,
        Copies::InMemory => memory,
        Copies::Never => false,
    };
    let xmm = |file: File| file == File::Xmm;
    if copies && found.mmx == Mmx::None {
        let stores = b.is_memory(found.first.operand);
        let loads = found.second.is_some_and(|second| b.is_memory(second.operand));
        if loads && xmm(found.first.file) {
            return copy_load;
        }
        if stores && found.second.is_some_and(|second| xmm(second.file)) {
            return copy_store;
        }
        if !memory && xmm(found.first.file) && found.second.is_some_and(|second| xmm(second.file)) {
            return copy_register;
        }
    }
    if memory {
        vector_op::<true>
    } else {
        vector_op::<false>
    }
}

impl Cpu {
    /// #UD or #NM as CR0 and CR4 say; #MF before MMX.
    #[inline(always)]
    fn check_vector(&mut self, op: &Op) -> Result<(), Stop> {
        let sse = op.form.extra & SSE != 0;
        if self.cr0 & (cr0::EM | cr0::TS) != 0 || sse && self.cr4 & cr4::OSFXSR == 0 {
            return self.refuse_vector(sse);
        }
        if op.form.extra & X87 != 0 && self.fpu.pending() {
            return self.raise(vector::FLOAT, None);
        }
        Ok(())
    }

    #[cold]
    fn refuse_vector(&mut self, sse: bool) -> Result<(), Stop> {
        if self.cr0 & cr0::EM != 0 || sse && self.cr4 & cr4::OSFXSR == 0 {
            return self.undefined();
        }
        self.raise(vector::NO_DEVICE, None)
    }

    /// Address of a vector operand in memory.
    #[inline(always)]
    fn vector_address(&mut self, op: &Op, len: u64, aligned: bool, write: bool) -> Result<u64, Stop> {
        let linear = self.address(op, len, write)?;
        if aligned && linear & 15 != 0 {
            return self.protection(0);
        }
        Ok(linear)
    }

    #[inline(always)]
    fn load_vector(&mut self, linear: u64, seg: u8, len: u8) -> Result<Xmm, Stop> {
        Ok(match len {
            16 => {
                let low = self.load::<u64>(linear, seg)?;
                let high = self.load::<u64>(linear.wrapping_add(8), seg)?;
                Xmm::from(u128::from(low) | u128::from(high) << 64)
            }
            8 => Xmm::from(self.load::<u64>(linear, seg)?),
            4 => Xmm::from(u64::from(self.load::<u32>(linear, seg)?)),
            2 => Xmm::from(u64::from(self.load::<u16>(linear, seg)?)),
            _ => Xmm::from(u64::from(self.load::<u8>(linear, seg)?)),
        })
    }

    #[inline(always)]
    fn store_vector(&mut self, linear: u64, seg: u8, len: u8, value: Xmm) -> Result<(), Stop> {
        match len {
            16 => {
                if (linear ^ linear.wrapping_add(15)) >> 12 != 0 {
                    self.probe(linear, 16, seg, true)?;
                }
                self.store(linear, seg, value.low())?;
                self.store(linear.wrapping_add(8), seg, value.high())
            }
            8 => self.store(linear, seg, value.low()),
            4 => self.store(linear, seg, value.low() as u32),
            2 => self.store(linear, seg, value.low() as u16),
            _ => self.store(linear, seg, value.low() as u8),
        }
    }

    /// A register operand.
    #[inline(always)]
    fn vector_register(&self, file: File, number: u8) -> Xmm {
        match file {
            File::Xmm => self.fpu.xmm(usize::from(number & 15)),
            File::Mm => Xmm::from(self.fpu.mm(usize::from(number & 7))),
            File::General32 => Xmm::from(self.registers[usize::from(number & 15)] & 0xffff_ffff),
            File::General64 => Xmm::from(self.registers[usize::from(number & 15)]),
            File::None => Xmm::default(),
        }
    }

    #[inline(always)]
    fn set_vector_register(&mut self, file: File, number: u8, value: Xmm) {
        match file {
            File::Xmm => self.fpu.set_xmm(usize::from(number & 15), value),
            File::Mm => self.fpu.set_mm(usize::from(number & 7), value.low()),
            File::General32 => self.registers[usize::from(number & 15)] = value.low() & 0xffff_ffff,
            File::General64 => self.registers[usize::from(number & 15)] = value.low(),
            File::None => {}
        }
    }

    /// #XM, or #UD without CR4.OSXMMEXCPT.
    #[cold]
    fn simd_exception<T>(&mut self) -> Result<T, Stop> {
        if self.cr4 & cr4::OSXMMEXCPT == 0 {
            return self.undefined();
        }
        self.raise(vector::SIMD, None)
    }
}

/// Memory to XMM register, zeros above.
fn copy_load(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_vector(op)?;
    if let Some(second) = op.vector.and_then(|vector| vector.second) {
        let linear = cpu.vector_address(op, u64::from(second.memory), second.aligned, false)?;
        let value = cpu.load_vector(linear, op.seg, second.memory)?;
        cpu.fpu.set_xmm(usize::from(op.dst & 15), value);
    }
    Ok(Flow::Next)
}

/// XMM register to memory.
fn copy_store(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_vector(op)?;
    if let Some(vector) = op.vector {
        let first = vector.first;
        let linear = cpu.vector_address(op, u64::from(first.memory), first.aligned, true)?;
        let value = cpu.fpu.xmm(usize::from(op.src & 15));
        cpu.store_vector(linear, op.seg, first.memory, value)?;
    }
    Ok(Flow::Next)
}

/// XMM register to XMM register.
fn copy_register(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_vector(op)?;
    let value = cpu.fpu.xmm(usize::from(op.src & 15));
    cpu.fpu.set_xmm(usize::from(op.dst & 15), value);
    Ok(Flow::Next)
}

/// Any vector instruction.
fn vector_op<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let Some(found) = op.vector else {
        return cpu.undefined();
    };
    cpu.check_vector(op)?;
    let mut target = 0;
    let stores = MEMORY && found.first.memory != 0 && found.second.is_none_or(|second| second.memory == 0);
    let first = cpu.vector_register(found.first.file, op.dst);
    let mut second = Xmm::default();
    if stores {
        let len = u64::from(found.first.memory);
        target = cpu.vector_address(op, len, found.first.aligned, true)?;
    }
    if let Some(place) = found.second {
        second = if MEMORY && !stores {
            let linear = cpu.vector_address(op, u64::from(place.memory), place.aligned, false)?;
            cpu.load_vector(linear, op.seg, place.memory)?
        } else {
            cpu.vector_register(place.file, op.src)
        };
    }
    let operands = &mut cpu.scratch.vector;
    operands.first = first;
    operands.second = second;
    operands.imm8 = op.imm as u8;
    match found.implicit {
        Implicit::None => {}
        Implicit::Xmm0 => operands.third = cpu.fpu.xmm(0),
        Implicit::Lengths => operands.lengths = [cpu.registers[0], cpu.registers[2]],
    }
    let run = if MEMORY {
        found.in_memory()
    } else {
        found.in_registers()
    };
    let mut done = Ok(());
    if found.floating {
        operands.mxcsr = cpu.fpu.mxcsr();
        done = run(operands);
        let mxcsr = operands.mxcsr;
        // What the function leaves is always legal.
        let _ = cpu.fpu.set_mxcsr(mxcsr);
    } else {
        let _ = run(operands);
    }
    if done.is_err() {
        return cpu.simd_exception();
    }
    if stores {
        let value = cpu.scratch.vector.first;
        cpu.store_vector(target, op.seg, found.first.memory, value)?;
        finish_mmx(cpu, found, MEMORY);
        return Ok(Flow::Next);
    }
    finish(cpu, op, found, MEMORY)
}

fn finish_mmx(cpu: &mut Cpu, found: &VectorOp, memory: bool) {
    match found.mmx {
        Mmx::None => {}
        Mmx::Leave => cpu.fpu.leave_mmx(),
        Mmx::EnterByRegister if memory => {}
        Mmx::Enter | Mmx::EnterByRegister => cpu.fpu.enter_mmx(),
    }
}

/// Stores the result where it goes.
#[inline(always)]
fn finish(cpu: &mut Cpu, op: &Op, found: &VectorOp, memory: bool) -> Outcome {
    let result = cpu.scratch.vector.first;
    match found.target {
        Target::First => cpu.set_vector_register(found.first.file, op.dst, result),
        Target::Ecx => cpu.registers[1] = result.low() & 0xffff_ffff,
        Target::Xmm0 => cpu.fpu.set_xmm(0, result),
        Target::Masked => store_masked(cpu, op, result)?,
        Target::Flags | Target::Nothing => {}
    }
    if found.flags {
        let bits = u64::from(cpu.scratch.vector.flags);
        cpu.flags.set_bits(bits);
    }
    finish_mmx(cpu, found, memory);
    Ok(Flow::Next)
}

/// The bytes of a masked store, at rDI.
fn store_masked(cpu: &mut Cpu, op: &Op, value: Xmm) -> Result<(), Stop> {
    let mask = cpu.scratch.vector.store_mask;
    let start = cpu.registers[7];
    let mut places = [0; 16];
    for pass in 0..2 {
        for n in (0..16u64).filter(|n| mask >> n & 1 != 0) {
            if pass == 0 {
                let offset = start.wrapping_add(n) & op.form.address_mask();
                let linear = cpu.segmented(op.seg, offset, 1, true)?;
                cpu.probe(linear, 1, op.seg, true)?;
                places[n as usize] = linear;
            } else {
                cpu.store(places[n as usize], op.seg, value.0[n as usize])?;
            }
        }
    }
    Ok(())
}

/// WAIT.
fn wait(cpu: &mut Cpu, _op: &Op) -> Outcome {
    if cpu.cr0 & (cr0::TS | cr0::MP) == cr0::TS | cr0::MP {
        return cpu.raise(vector::NO_DEVICE, None);
    }
    if cpu.fpu.pending() {
        return cpu.raise(vector::FLOAT, None);
    }
    Ok(Flow::Next)
}

/// The instruction of a code that was known when it was decoded.
fn x87_op(op: &Op) -> Option<&'static X87Op> {
    iced_x86::Code::try_from(op.imm as u32 as usize)
        .ok()
        .and_then(fpu::x87)
}

/// Any x87 instruction.
fn x87(cpu: &mut Cpu, op: &Op) -> Outcome {
    let Some(found) = x87_op(op) else {
        return cpu.undefined();
    };
    if cpu.cr0 & (cr0::EM | cr0::TS) != 0 {
        return cpu.raise(vector::NO_DEVICE, None);
    }
    if found.waits && cpu.fpu.pending() {
        return cpu.raise(vector::FLOAT, None);
    }
    let memory = op.form.extra != 0;
    let len = u64::from(found.load.max(found.store));
    let mut linear = 0;
    if memory {
        linear = cpu.address(op, len, found.store != 0)?;
        if found.store != 0 {
            cpu.probe(linear, len, op.seg, true)?;
        }
        for n in 0..usize::from(found.load) {
            let byte = cpu.load::<u8>(linear.wrapping_add(n as u64), op.seg)?;
            cpu.scratch.x87.memory[n] = byte;
        }
    }
    let flags = cpu.flags.bits();
    let protected = cpu.protected();
    let operands = &mut cpu.scratch.x87;
    operands.index = op.src & 7;
    operands.protected = protected;
    operands.flags = flags as u32;
    let Ok(store) = found.execute(&mut cpu.fpu, operands) else {
        return cpu.raise(vector::FLOAT, None);
    };
    if memory && found.store != 0 && store == Store::Yes {
        for n in 0..usize::from(found.store) {
            let byte = cpu.scratch.x87.memory[n];
            cpu.store(linear.wrapping_add(n as u64), op.seg, byte)?;
        }
    }
    if found.writes_flags {
        let bits = u64::from(cpu.scratch.x87.flags);
        cpu.flags.set_bits(bits);
    }
    if found.writes_ax {
        let ax = cpu.scratch.x87.ax;
        u16::set_reg(&mut cpu.registers, 0, ax);
    }
    if found.records {
        record(cpu, op, found, memory);
    }
    Ok(Flow::Next)
}

/// Notes what the last x87 instruction was.
fn record(cpu: &mut Cpu, op: &Op, found: &X87Op, memory: bool) {
    let before = cpu.fpu.last;
    cpu.fpu.last = LastInstruction {
        opcode: found.last_opcode((op.imm >> 32) as u8),
        ip: cpu.before(op),
        cs: cpu.segments[seg::CS as usize].selector,
        dp: if memory { cpu.offset(op) } else { before.dp },
        ds: if memory {
            cpu.segments[op.seg as usize % 6].selector
        } else {
            before.ds
        },
    };
}

fn area_handler(b: &mut Builder) -> Option<Handler> {
    let wide = matches!(
        b.i.mnemonic(),
        M::Fxsave64 | M::Fxrstor64 | M::Xsave64 | M::Xsaveopt64 | M::Xrstor64
    );
    b.op.imm = u64::from(wide);
    Some(match b.i.mnemonic() {
        M::Fxsave | M::Fxsave64 => fxsave,
        M::Fxrstor | M::Fxrstor64 => fxrstor,
        M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 => xsave,
        M::Xrstor | M::Xrstor64 => xrstor,
        M::Ldmxcsr => ldmxcsr,
        M::Stmxcsr => stmxcsr,
        _ => return None,
    })
}

impl Cpu {
    fn area_form(&self, op: &Op) -> AreaForm {
        AreaForm {
            wide: op.imm != 0,
            long: self.long,
        }
    }

    fn area(&mut self, op: &Op, len: u64, align: u64, write: bool) -> Result<u64, Stop> {
        let linear = self.address(op, len, write)?;
        if linear & (align - 1) != 0 {
            return self.protection(0);
        }
        self.probe(linear, len, op.seg, write)?;
        Ok(linear)
    }

    fn load_area(&mut self, linear: u64, seg: u8, bytes: &mut [u8]) -> Result<(), Stop> {
        for (n, piece) in bytes.chunks_exact_mut(8).enumerate() {
            let value = self.load::<u64>(linear.wrapping_add(8 * n as u64), seg)?;
            piece.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    fn store_area(&mut self, linear: u64, seg: u8, bytes: &[u8]) -> Result<(), Stop> {
        for (n, piece) in bytes.chunks_exact(8).enumerate() {
            let mut value = [0; 8];
            value.copy_from_slice(piece);
            self.store(linear.wrapping_add(8 * n as u64), seg, u64::from_le_bytes(value))?;
        }
        Ok(())
    }

    fn check_area(&mut self) -> Result<(), Stop> {
        if self.cr0 & (cr0::EM | cr0::TS) != 0 {
            return self.raise(vector::NO_DEVICE, None);
        }
        Ok(())
    }

    fn check_xsave(&mut self) -> Result<(), Stop> {
        if self.cr4 & cr4::OSXSAVE == 0 {
            return self.undefined();
        }
        if self.cr0 & cr0::TS != 0 {
            return self.raise(vector::NO_DEVICE, None);
        }
        Ok(())
    }

    fn requested(&self) -> u64 {
        (self.registers[0] & 0xffff_ffff | self.registers[2] << 32) & self.xcr0
    }

    /// The XSAVE area of the whole state.
    pub(crate) fn save_vectors(&self) -> Vec<u8> {
        let mut area = [0; XSAVE_BYTES];
        let form = AreaForm {
            wide: true,
            long: true,
        };
        self.fpu.xsave(&mut area, crate::cpuid::XCR0, form);
        area.to_vec()
    }

    /// The state from such an area.
    pub(crate) fn restore_vectors(&mut self, saved: &[u8]) -> Result<(), BadState> {
        let mut area = [0; XSAVE_BYTES];
        let len = saved.len().min(XSAVE_BYTES);
        area[..len].copy_from_slice(&saved[..len]);
        // A component that is not in the header is in its initial state, but for MXCSR.
        let form = AreaForm {
            wide: true,
            long: true,
        };
        let all = crate::cpuid::XCR0;
        self.fpu
            .xrstor(&area, all, all, form)
            .map_err(|_| BadState("XSAVE area"))
    }
}

fn fxsave(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_area()?;
    let linear = cpu.area(op, 512, 16, true)?;
    let mut bytes = [0; 512];
    cpu.load_area(linear, op.seg, &mut bytes)?;
    let form = cpu.area_form(op);
    cpu.fpu.fxsave(&mut bytes, form);
    cpu.store_area(linear, op.seg, &bytes[..416])?;
    Ok(Flow::Next)
}

fn fxrstor(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_area()?;
    let linear = cpu.area(op, 512, 16, false)?;
    let mut bytes = [0; 512];
    cpu.load_area(linear, op.seg, &mut bytes)?;
    let form = cpu.area_form(op);
    if cpu.fpu.fxrstor(&bytes, form).is_err() {
        return cpu.protection(0);
    }
    Ok(Flow::Next)
}

fn xsave(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_xsave()?;
    let linear = cpu.area(op, XSAVE_BYTES as u64, 64, true)?;
    let mut bytes = [0; XSAVE_BYTES];
    cpu.load_area(linear, op.seg, &mut bytes)?;
    let (form, requested) = (cpu.area_form(op), cpu.requested());
    cpu.fpu.xsave(&mut bytes, requested, form);
    for range in fpu::xsave_writes(requested, form) {
        cpu.store_area(linear.wrapping_add(range.start as u64), op.seg, &bytes[range])?;
    }
    Ok(Flow::Next)
}

fn xrstor(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_xsave()?;
    let linear = cpu.area(op, XSAVE_BYTES as u64, 64, false)?;
    let mut bytes = [0; XSAVE_BYTES];
    cpu.load_area(linear, op.seg, &mut bytes)?;
    let (form, requested, xcr0) = (cpu.area_form(op), cpu.requested(), cpu.xcr0);
    if cpu.fpu.xrstor(&bytes, requested, xcr0, form).is_err() {
        return cpu.protection(0);
    }
    Ok(Flow::Next)
}

fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_sse()?;
    let linear = cpu.address(op, 4, false)?;
    let value = cpu.load::<u32>(linear, op.seg)?;
    if cpu.fpu.set_mxcsr(value).is_err() {
        return cpu.protection(0);
    }
    Ok(Flow::Next)
}

fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Outcome {
    cpu.check_sse()?;
    let linear = cpu.address(op, 4, true)?;
    let value = cpu.fpu.mxcsr();
    cpu.store(linear, op.seg, value)?;
    Ok(Flow::Next)
}

impl Cpu {
    fn check_sse(&mut self) -> Result<(), Stop> {
        if self.cr0 & (cr0::EM | cr0::TS) != 0 || self.cr4 & cr4::OSFXSR == 0 {
            return self.refuse_vector(true);
        }
        Ok(())
    }
}
