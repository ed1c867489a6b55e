//! Instructions of the guest on the real processor: a page of code that loads a block of state, executes one
//! instruction and stores what became of it.

use iced_x86::code_asm::*;
use iced_x86::{Instruction, OpCodeOperandKind as Kind, OpKind, Register};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Everything that an instruction under test may read or write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Block {
    /// FSAVE's image in the 32-bit protected format.
    pub x87: [u8; 112],
    /// XMM0 to XMM2.
    pub xmm: [[u8; 16]; 3],
    /// RAX, RCX, RDX, R8 and R9.
    pub general: [u64; 5],
    pub flags: u64,
    pub mxcsr: u32,
    host_mxcsr: u32,
    /// Whether the instruction raised SIGFPE.
    pub fault: u64,
    /// Where RSI and RDI point.
    pub memory: [u8; 128],
}

impl Default for Block {
    fn default() -> Block {
        Block {
            x87: [0; 112],
            xmm: [[0; 16]; 3],
            general: [0; 5],
            flags: 2,
            mxcsr: 0x1f80,
            host_mxcsr: 0,
            fault: 0,
            memory: [0; 128],
        }
    }
}

impl Block {
    /// Where two blocks differ, in words; empty if nowhere.
    pub fn differences(&self, theirs: &Block) -> String {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let mut list = Vec::new();
        let mut bytes = |name: String, ours: &[u8], theirs: &[u8]| {
            if ours != theirs {
                list.push(format!("{name} {} for {}", hex(ours), hex(theirs)));
            }
        };
        for (name, at) in [("control", 0), ("status", 4), ("tags", 8)] {
            bytes(name.into(), &self.x87[at..at + 2], &theirs.x87[at..at + 2]);
        }
        for n in 0..8 {
            let at = 28 + 10 * n;
            bytes(format!("st{n}"), &self.x87[at..at + 10], &theirs.x87[at..at + 10]);
        }
        for n in 0..3 {
            bytes(format!("xmm{n}"), &self.xmm[n], &theirs.xmm[n]);
        }
        for (n, name) in ["rax", "rcx", "rdx", "r8", "r9"].into_iter().enumerate() {
            bytes(
                name.into(),
                &self.general[n].to_le_bytes(),
                &theirs.general[n].to_le_bytes(),
            );
        }
        bytes(
            "flags".into(),
            &self.flags.to_le_bytes(),
            &theirs.flags.to_le_bytes(),
        );
        bytes(
            "mxcsr".into(),
            &self.mxcsr.to_le_bytes(),
            &theirs.mxcsr.to_le_bytes(),
        );
        bytes(
            "fault".into(),
            &self.fault.to_le_bytes(),
            &theirs.fault.to_le_bytes(),
        );
        bytes("memory".into(), &self.memory, &theirs.memory);
        list.join(", ")
    }

    /// Forgets what is no result: the host's MXCSR.
    pub fn forget_host(&mut self) {
        self.host_mxcsr = 0;
    }
}

pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const R8: usize = 3;

const PAGE: usize = 4096;

/// The page of code. Only one thread uses it at a time: where SIGFPE goes on is common to all.
pub struct Page(*mut u8);

// SAFETY: the page is reached through the mutex only.
unsafe impl Send for Page {}

static PAGES: Mutex<Option<Page>> = Mutex::new(None);
static BLOCK: AtomicPtr<Block> = AtomicPtr::new(std::ptr::null_mut());
static AFTER: AtomicU64 = AtomicU64::new(0);

/// Goes on behind the instruction that raised the signal, and notes it.
extern "C" fn on_sigfpe(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a ucontext; the block is the one of the running call.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        (*context).uc_mcontext.gregs[libc::REG_RIP as usize] = AFTER.load(Ordering::SeqCst) as i64;
        (*BLOCK.load(Ordering::SeqCst)).fault = 1;
    }
}

/// The page with `instruction` in it.
pub struct Native(MutexGuard<'static, Option<Page>>);

fn page() -> Page {
    // SAFETY: an anonymous mapping of its own; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigfpe as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGFPE, &action, std::ptr::null_mut()), 0);
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), PAGE, rights, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        Page(page.cast())
    }
}

impl Native {
    /// Puts `instruction` between loading and storing.
    pub fn new(instruction: Instruction) -> Native {
        let mut guard = PAGES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let base = guard.get_or_insert_with(page).0;
        let (code, after) = assemble(instruction, base as u64).expect("assembled");
        assert!(code.len() < PAGE);
        // SAFETY: the page is ours and holds the code.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), base, code.len()) };
        AFTER.store(after, Ordering::SeqCst);
        Native(guard)
    }

    /// Runs the instruction on `block`.
    pub fn run(&self, block: &mut Block) {
        BLOCK.store(block, Ordering::SeqCst);
        let base = self.0.as_ref().expect("a page").0;
        // SAFETY: the page holds a function of this type that keeps the calling convention.
        unsafe {
            let function: extern "C" fn(*mut Block) = std::mem::transmute(base);
            function(block);
        }
    }
}

fn assemble(instruction: Instruction, base: u64) -> Result<(Vec<u8>, u64), iced_x86::IcedError> {
    use std::mem::offset_of;
    let mut a = CodeAssembler::new(64)?;
    let at = |offset: usize| rbx + offset;
    let general = |n: usize| rbx + (offset_of!(Block, general) + 8 * n);
    let xmm = |n: usize| rbx + (offset_of!(Block, xmm) + 16 * n);
    a.push(rbx)?;
    a.mov(rbx, rdi)?;
    a.stmxcsr(dword_ptr(at(offset_of!(Block, host_mxcsr))))?;
    a.frstor(ptr(at(0)))?;
    a.movdqu(xmm0, xmmword_ptr(xmm(0)))?;
    a.movdqu(xmm1, xmmword_ptr(xmm(1)))?;
    a.movdqu(xmm2, xmmword_ptr(xmm(2)))?;
    for (n, register) in [rax, rcx, rdx, r8, r9].into_iter().enumerate() {
        a.mov(register, qword_ptr(general(n)))?;
    }
    a.lea(rsi, qword_ptr(at(offset_of!(Block, memory))))?;
    a.mov(rdi, rsi)?;
    a.push(qword_ptr(at(offset_of!(Block, flags))))?;
    a.popfq()?;
    a.ldmxcsr(dword_ptr(at(offset_of!(Block, mxcsr))))?;
    a.add_instruction(instruction)?;
    let mut after = a.create_label();
    a.set_label(&mut after)?;
    a.stmxcsr(dword_ptr(at(offset_of!(Block, mxcsr))))?;
    a.ldmxcsr(dword_ptr(at(offset_of!(Block, host_mxcsr))))?;
    a.pushfq()?;
    a.pop(qword_ptr(at(offset_of!(Block, flags))))?;
    for (n, register) in [rax, rcx, rdx, r8, r9].into_iter().enumerate() {
        a.mov(qword_ptr(general(n)), register)?;
    }
    a.movdqu(xmmword_ptr(xmm(0)), xmm0)?;
    a.movdqu(xmmword_ptr(xmm(1)), xmm1)?;
    a.movdqu(xmmword_ptr(xmm(2)), xmm2)?;
    a.fnsave(ptr(at(0)))?;
    a.pop(rbx)?;
    a.ret()?;
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let result = a.assemble_options(base, options)?;
    let after = result.label_ip(&after)?;
    Ok((result.inner.code_buffer, after))
}

/// An instruction of `code`: operand 0 in register 1 of its file or in R8, operand 1 in register 2 or in R9; with
/// `memory` the operand that may be in memory is there. `index` is the number of ST(i).
pub fn instruction(code: iced_x86::Code, memory: bool, imm8: u8, index: usize) -> Instruction {
    let info = code.op_code();
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    let mut number = 0_usize;
    for n in 0..info.op_count() {
        let choose = |list: [Register; 2]| list[number.min(1)];
        let in_memory = |instruction: &mut Instruction| {
            instruction.set_op_kind(n, OpKind::Memory);
            instruction.set_memory_base(Register::RSI);
        };
        let register = match info.op_kind(n) {
            Kind::xmm_or_mem | Kind::mm_or_mem | Kind::r32_or_mem | Kind::r64_or_mem if memory => {
                in_memory(&mut instruction);
                Register::None
            }
            Kind::mem => {
                in_memory(&mut instruction);
                Register::None
            }
            Kind::xmm_reg | Kind::xmm_rm | Kind::xmm_or_mem => choose([Register::XMM1, Register::XMM2]),
            Kind::mm_reg | Kind::mm_rm | Kind::mm_or_mem => choose([Register::MM1, Register::MM2]),
            Kind::r32_reg | Kind::r32_rm | Kind::r32_or_mem => choose([Register::R8D, Register::R9D]),
            Kind::r64_reg | Kind::r64_rm | Kind::r64_or_mem => choose([Register::R8, Register::R9]),
            Kind::st0 => Register::ST0,
            Kind::sti_opcode => Register::ST0 + index as u32,
            Kind::ax => Register::AX,
            Kind::imm8 => {
                instruction.set_op_kind(n, OpKind::Immediate8);
                instruction.set_immediate8(imm8);
                Register::None
            }
            Kind::seg_rDI => {
                // It counts as no operand here: the data is the first, the mask the second.
                instruction.set_op_kind(n, OpKind::MemorySegRDI);
                continue;
            }
            kind => panic!("{code:?} has an operand of kind {kind:?}"),
        };
        number += 1;
        if register != Register::None {
            instruction.set_op_kind(n, OpKind::Register);
            instruction.set_op_register(n, register);
        }
    }
    instruction
}
