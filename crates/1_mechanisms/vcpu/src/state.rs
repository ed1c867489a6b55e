//! The saved state of processors, the same whoever runs them: saved under one accelerator, restored under the other.

use serde::{Deserialize, Serialize};

/// Layout version that this code writes; every older one is read.
pub const STATE_VERSION: u32 = 1;

/// Everything of one processor that a guest can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8–R15: the order of their numbers in instructions.
    pub registers: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS: the order of their numbers in instructions.
    pub segments: [Segment; 6],
    /// Local descriptor table.
    pub ldt: Segment,
    /// Task register.
    pub task: Segment,
    /// Global descriptor table.
    pub gdt: Table,
    /// Interrupt descriptor table.
    pub idt: Table,
    /// Control registers.
    pub cr0: u64,
    /// Linear address of the last page fault.
    pub cr2: u64,
    /// Page table, and PCID in its low bits.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Task priority; the local APIC has it too.
    pub cr8: u64,
    /// XCR0.
    pub xcr0: u64,
    /// DR0–DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// Model-specific registers, by number; which ones [`MSRS`] tells. EFER and the APIC base are among them.
    pub msrs: Vec<(u32, u64)>,
    /// XSAVE area in standard format (SDM Vol. 1 §13.4), as long as XCR0's features need.
    #[serde(with = "bytes")]
    pub xsave: Vec<u8>,
    /// The register page of the local APIC (SDM Vol. 3 §11.4.1; in x2APIC mode too, with the identity in bits 31–24 of offset 0x20 or,
    /// in x2APIC mode, all of it), 1 KiB.
    #[serde(with = "bytes")]
    pub apic: Vec<u8>,
    /// What is to be delivered before the next instruction.
    pub events: Events,
    /// Whether it runs.
    pub activity: Activity,
    /// Instructions retired, where they are counted.
    pub retired: Option<u64>,
}

/// One segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Visible part.
    pub selector: u16,
    /// Base address.
    pub base: u64,
    /// Last offset, in bytes whatever the granularity.
    pub limit: u32,
    /// Attributes as in bits 8–23 of a descriptor's upper half, shifted down by 8 (type 0–3, S 4, DPL 5–6, P 7, AVL 12, L 13, D/B 14, G 15);
    /// bit 16: unusable.
    pub attributes: u32,
}

/// A descriptor table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Linear address.
    pub base: u64,
    /// Last offset.
    pub limit: u16,
}

/// What waits for the next instruction boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// An exception that was raised but not delivered: vector and error code.
    pub exception: Option<(u8, Option<u32>)>,
    /// An external interrupt that was acknowledged but not delivered: its vector.
    pub interrupt: Option<u8>,
    /// The next instruction cannot be interrupted: after STI.
    pub sti_shadow: bool,
    /// The next instruction cannot be interrupted: after MOV SS or POP SS.
    pub mov_ss_shadow: bool,
    /// A non-maskable interrupt waits.
    pub nmi_pending: bool,
    /// Non-maskable interrupts are blocked until IRET.
    pub nmi_masked: bool,
}

/// Whether a processor executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// It executes.
    #[default]
    Running,
    /// After HLT.
    Halted,
    /// Waits for INIT (never started).
    WaitForInit,
    /// After INIT, waits for a start-up message.
    WaitForStartup,
}

/// State that the processors of a machine share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    /// The paravirtual clock, in nanoseconds.
    pub clock: u64,
}

/// Numbers of the model-specific registers that are saved: IA32_* by their names in SDM Vol. 4, then those of kvm-clock
/// (Documentation/virt/kvm/x86/msr.rst). TSC comes first among those that depend on one another: TSC_ADJUST before TSC_DEADLINE.
pub mod msr {
    #![allow(
        missing_docs,
        reason = "the names are the documentation: SDM Vol. 4, and the kernel's msr.rst"
    )]
    pub const TSC: u32 = 0x10;
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const MTRR_CAP: u32 = 0xfe;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const XSS: u32 = 0xda0;
    pub const KVM_WALL_CLOCK: u32 = 0x4b56_4d00;
    pub const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;
    pub const KVM_PV_EOI: u32 = 0x4b56_4d04;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// The registers that a saved state carries, in the order in which they are put back.
pub const MSRS: &[u32] = &[
    msr::APIC_BASE,
    msr::EFER,
    msr::TSC,
    msr::TSC_ADJUST,
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::MISC_ENABLE,
    msr::PAT,
    msr::MTRR_DEF_TYPE,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::SFMASK,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
    msr::TSC_AUX,
    msr::KVM_WALL_CLOCK,
    msr::KVM_SYSTEM_TIME,
    msr::KVM_PV_EOI,
    msr::TSC_DEADLINE,
];

impl CpuState {
    /// A processor after reset (SDM Vol. 3 table 10-1): real mode, at 0xffff_fff0. `number` is its APIC identity; all but 0 wait.
    #[must_use]
    pub fn reset(number: u32) -> Self {
        let data = Segment {
            limit: 0xffff,
            attributes: 0x93,
            ..Segment::default()
        };
        let code = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            limit: 0xffff,
            attributes: 0x9b,
        };
        let mut apic = vec![0; 1024];
        apic[0x20..0x24].copy_from_slice(&(number << 24).to_le_bytes());
        apic[0x30..0x34].copy_from_slice(&0x0005_0014_u32.to_le_bytes());
        apic[0xe0..0xe4].copy_from_slice(&u32::MAX.to_le_bytes());
        apic[0xf0..0xf4].copy_from_slice(&0xff_u32.to_le_bytes());
        for lvt in [0x320, 0x330, 0x340, 0x350, 0x360, 0x370] {
            apic[lvt..lvt + 4].copy_from_slice(&0x1_0000_u32.to_le_bytes());
        }
        let mut xsave = vec![0; 576];
        xsave[0..2].copy_from_slice(&0x40_u16.to_le_bytes());
        xsave[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        let mut registers = [0; 16];
        registers[2] = 0x0008_06f8;
        CpuState {
            version: STATE_VERSION,
            registers,
            rip: 0xfff0,
            rflags: 2,
            segments: [data, code, data, data, data, data],
            ldt: Segment {
                limit: 0xffff,
                attributes: 0x82,
                ..Segment::default()
            },
            task: Segment {
                limit: 0xffff,
                attributes: 0x8b,
                ..Segment::default()
            },
            gdt: Table {
                base: 0,
                limit: 0xffff,
            },
            idt: Table {
                base: 0,
                limit: 0xffff,
            },
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            xcr0: 1,
            debug: [0, 0, 0, 0, 0xffff_0ff0, 0x400],
            msrs: vec![
                (msr::APIC_BASE, 0xfee0_0800 | if number == 0 { 0x100 } else { 0 }),
                (msr::EFER, 0),
                (msr::PAT, 0x0007_0406_0007_0406),
                (msr::MISC_ENABLE, 1),
            ],
            xsave,
            apic,
            events: Events::default(),
            activity: if number == 0 {
                Activity::Running
            } else {
                Activity::WaitForInit
            },
            retired: None,
        }
    }

    /// The value of a model-specific register, where the state has it.
    #[must_use]
    pub fn msr(&self, number: u32) -> Option<u64> {
        self.msrs
            .iter()
            .find(|(known, _)| *known == number)
            .map(|(_, value)| *value)
    }

    /// Sets a model-specific register.
    pub fn set_msr(&mut self, number: u32, value: u64) {
        match self.msrs.iter_mut().find(|(known, _)| *known == number) {
            Some(known) => known.1 = value,
            None => self.msrs.push((number, value)),
        }
    }
}

/// Byte strings as byte strings, not as lists of numbers.
mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}
