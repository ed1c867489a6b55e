//! From bytes to operations: iced-x86 decodes, this module resolves operands, `table` chooses the handler.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};

use crate::op::{BLOCK, Form, HIGH, Op, ZERO};
use crate::ops::branch;
use crate::table;

/// Longest instruction (SDM Vol. 2 §2.3.11).
pub(crate) const LONGEST: usize = 15;

/// What decoding makes of some bytes.
pub(crate) enum Decoded {
    /// An operation, and whether the block ends with it.
    Op(Op, bool),
    /// The bytes end in the middle of an instruction.
    Short,
}

/// Decodes one instruction. `ip` is its instruction pointer, `block` that of its block's beginning.
pub(crate) fn decode(bytes: &[u8], bits: u8, ip: u64, block: u64) -> Decoded {
    let options = DecoderOptions::NO_WBNOINVD;
    let mut decoder = Decoder::with_ip(u32::from(bits), bytes, ip, options);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        if decoder.last_error() == iced_x86::DecoderError::NoMoreBytes && bytes.len() < LONGEST {
            return Decoded::Short;
        }
        let too_long = decoder.last_error() == iced_x86::DecoderError::NoMoreBytes;
        return Decoded::Op(invalid(too_long), true);
    }
    let mut builder = Builder {
        i: &instruction,
        bytes,
        bits,
        block,
        op: template(),
        ends: false,
    };
    builder.resolve();
    match table::handler(&mut builder) {
        Some(run) => builder.op.run = run,
        None => return Decoded::Op(invalid(false), true),
    }
    builder.op.len = instruction.len() as u8;
    Decoded::Op(builder.op, builder.ends)
}

fn template() -> Op {
    Op {
        run: branch::undefined,
        imm: 0,
        disp: 0,
        vector: None,
        base: ZERO,
        index: ZERO,
        scale: 0,
        seg: 3,
        dst: ZERO + 2,
        src: ZERO,
        flat: false,
        form: Form::default(),
        len: 0,
        number: 0,
        next: 0,
    }
}

fn invalid(too_long: bool) -> Op {
    Op {
        run: if too_long {
            branch::too_long
        } else {
            branch::undefined
        },
        len: 1,
        ..template()
    }
}

/// An instruction on its way to an operation.
pub(crate) struct Builder<'a> {
    pub(crate) i: &'a Instruction,
    bytes: &'a [u8],
    /// 16, 32 or 64.
    pub(crate) bits: u8,
    block: u64,
    pub(crate) op: Op,
    /// The block ends with it.
    pub(crate) ends: bool,
}

/// Number of a general register; AH to BH have [`HIGH`].
fn general(register: Register) -> u8 {
    let high = matches!(
        register,
        Register::AH | Register::CH | Register::DH | Register::BH
    );
    register.full_register().number() as u8 & 15 | if high { HIGH } else { 0 }
}

impl Builder<'_> {
    /// Resolves memory operand, registers and sizes as far as they are the same for every instruction.
    fn resolve(&mut self) {
        let i = self.i;
        let mut address = u64::from(self.bits / 8);
        for n in 0..i.op_count() {
            match i.op_kind(n) {
                OpKind::Memory => {
                    address = self.address_size();
                    self.memory(address);
                }
                OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => address = 2,
                OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => address = 4,
                OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => address = 8,
                _ => {}
            }
        }
        if self.is_string() {
            self.op.seg = segment(i.memory_segment());
        }
        if i.op_count() > 0 && i.op_kind(0) == OpKind::Register && i.op_register(0).is_gpr() {
            self.op.dst = general(i.op_register(0));
        }
        for n in [1, 0] {
            if i.op_count() > n && i.op_kind(n) == OpKind::Register && i.op_register(n).is_gpr() {
                self.op.src = general(i.op_register(n));
                break;
            }
        }
        self.op.form = Form::new(self.size(), address, 0);
    }

    fn is_string(&self) -> bool {
        (0..self.i.op_count()).any(|n| {
            matches!(
                self.i.op_kind(n),
                OpKind::MemorySegSI
                    | OpKind::MemorySegESI
                    | OpKind::MemorySegRSI
                    | OpKind::MemorySegDI
                    | OpKind::MemorySegEDI
                    | OpKind::MemorySegRDI
            )
        })
    }

    fn address_size(&self) -> u64 {
        let i = self.i;
        for register in [i.memory_base(), i.memory_index()] {
            if register != Register::None {
                return if matches!(register, Register::RIP) {
                    8
                } else if register == Register::EIP {
                    4
                } else {
                    register.size() as u64
                };
            }
        }
        match i.memory_displ_size() {
            8 => 8,
            2 => 2,
            _ => 4,
        }
    }

    fn memory(&mut self, address: u64) {
        let i = self.i;
        let op = &mut self.op;
        op.disp = i.memory_displacement64();
        op.base = match i.memory_base() {
            Register::None => ZERO,
            Register::RIP | Register::EIP => {
                op.disp = op.disp.wrapping_sub(self.block);
                BLOCK
            }
            register => general(register),
        };
        op.index = match i.memory_index() {
            Register::None => ZERO,
            register => general(register),
        };
        op.scale = i.memory_index_scale().trailing_zeros() as u8;
        op.seg = segment(i.memory_segment());
        op.flat = self.bits == 64 && address == 8;
    }

    /// Operand size in bytes: that of the first operand which tells one.
    pub(crate) fn size(&self) -> u64 {
        let i = self.i;
        if i.op_count() > 0 {
            match i.op_kind(0) {
                OpKind::Register => return i.op_register(0).size() as u64,
                OpKind::NearBranch16 => return 2,
                OpKind::NearBranch32 => return 4,
                OpKind::NearBranch64 => return 8,
                OpKind::Memory
                | OpKind::MemorySegSI
                | OpKind::MemorySegESI
                | OpKind::MemorySegRSI
                | OpKind::MemoryESDI
                | OpKind::MemoryESEDI
                | OpKind::MemoryESRDI => return i.memory_size().size() as u64,
                _ => {}
            }
        }
        u64::from(self.bits / 8)
    }

    /// Operand size of instructions that have it in their name only (RET, IRET, PUSHF …).
    pub(crate) fn named_size(&self) -> u64 {
        match self.i.code().op_code().operand_size() {
            0 => u64::from(self.bits / 8),
            bits => u64::from(bits / 8),
        }
    }

    /// Whether an operand is memory.
    pub(crate) fn is_memory(&self, n: u32) -> bool {
        self.i.op_count() > n && self.i.op_kind(n) == OpKind::Memory
    }

    /// Whether an operand is a register.
    pub(crate) fn is_register(&self, n: u32) -> bool {
        self.i.op_count() > n && self.i.op_kind(n) == OpKind::Register
    }

    /// Number of a general register operand.
    pub(crate) fn register(&self, n: u32) -> u8 {
        general(self.i.op_register(n))
    }

    /// Size of a register or memory operand.
    pub(crate) fn size_of(&self, n: u32) -> u64 {
        if self.is_memory(n) {
            self.i.memory_size().size() as u64
        } else {
            self.i.op_register(n).size() as u64
        }
    }

    /// The immediate of an operand.
    pub(crate) fn immediate(&mut self, n: u32) {
        self.op.imm = self.i.immediate(n);
    }

    /// The byte after the opcode 0xd8–0xdf of an x87 instruction.
    pub(crate) fn x87_modrm(&self) -> u8 {
        let bytes = &self.bytes[..self.i.len().min(self.bytes.len())];
        let opcode = bytes.iter().position(|byte| (0xd8..=0xdf).contains(byte));
        opcode.and_then(|at| bytes.get(at + 1)).copied().unwrap_or(0)
    }

    /// The target of a near branch.
    pub(crate) fn branch(&mut self) {
        self.op.imm = self.i.near_branch_target().wrapping_sub(self.block);
        self.ends = true;
    }

    /// Operand size, keeping the address size.
    pub(crate) fn set_size(&mut self, size: u64) {
        let address = match self.op.form.address_mask() {
            u64::MAX => 8,
            0xffff_ffff => 4,
            _ => 2,
        };
        self.op.form = Form::new(size, address, self.op.form.extra);
    }

    /// Address size of instructions whose counter register tells it.
    pub(crate) fn set_address(&mut self, address: u64) {
        self.op.form = Form::new(self.op.form.operand(), address, self.op.form.extra);
    }
}

/// Number of a segment register.
pub(crate) fn segment(register: Register) -> u8 {
    match register {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    }
}
