//! The FXSAVE and XSAVE areas (SDM Vol. 1 §10.5.1 and §13.4 to §13.8), standard format, components x87 and SSE.

use crate::operands::Xmm;
use crate::state::{Extended, Fpu, Gp, LastInstruction, MXCSR_MASK};

/// Bytes of an XSAVE area with the components x87 and SSE: legacy region and header.
pub const XSAVE_BYTES: usize = 576;
/// XCR0 and RFBM: the x87 component.
pub const COMPONENT_X87: u64 = 1;
/// XCR0 and RFBM: the SSE component.
pub const COMPONENT_SSE: u64 = 2;

/// How an area looks to the code that saves or restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaForm {
    /// REX.W: 64-bit pointers without selectors (FXSAVE64, XSAVE64 and their likes).
    pub wide: bool,
    /// 64-bit mode: sixteen XMM registers, else eight.
    pub long: bool,
}

impl AreaForm {
    fn registers(self) -> usize {
        if self.long { 16 } else { 8 }
    }
}

fn get<const N: usize>(area: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&area[at..at + N]);
    bytes
}

fn put(area: &mut [u8], at: usize, bytes: &[u8]) {
    area[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Fpu {
    /// FXSAVE: everything but bytes 416 to 511, which no processor writes, and XMM8 to XMM15 outside of 64-bit mode.
    pub fn fxsave(&self, area: &mut [u8; 512], form: AreaForm) {
        self.save_x87(area, form);
        self.save_mxcsr(area);
        self.save_xmm(area, form);
    }

    /// FXRSTOR.
    ///
    /// # Errors
    /// A reserved bit of MXCSR is set; nothing was loaded.
    pub fn fxrstor(&mut self, area: &[u8; 512], form: AreaForm) -> Result<(), Gp> {
        self.set_mxcsr(u32::from_le_bytes(get(area, 24)))?;
        self.load_x87(area, form);
        self.load_xmm(area, form);
        Ok(())
    }

    /// XSAVE, also as XSAVEOPT (which may save more than it must): the components of `requested` (EDX:EAX and XCR0).
    /// The caller read the area from the guest before, and writes back what [`xsave_writes`] names.
    pub fn xsave(&self, area: &mut [u8; XSAVE_BYTES], requested: u64, form: AreaForm) {
        if requested & COMPONENT_X87 != 0 {
            self.save_x87(area, form);
        }
        if requested & COMPONENT_SSE != 0 {
            self.save_mxcsr(area);
            self.save_xmm(area, form);
        }
        let known = requested & (COMPONENT_X87 | COMPONENT_SSE);
        let before = u64::from_le_bytes(get(area, 512));
        put(area, 512, &(before & !requested | known).to_le_bytes());
    }

    /// XRSTOR of the standard format: the components of `requested` (EDX:EAX and XCR0); those that the header lacks get
    /// their initial state.
    ///
    /// # Errors
    /// The header names a component outside of `xcr0` or is of another format, or a reserved bit of MXCSR is set;
    /// nothing was loaded.
    pub fn xrstor(
        &mut self,
        area: &[u8; XSAVE_BYTES],
        requested: u64,
        xcr0: u64,
        form: AreaForm,
    ) -> Result<(), Gp> {
        let present = u64::from_le_bytes(get(area, 512));
        if present & !xcr0 != 0 || area[520..536].iter().any(|&byte| byte != 0) {
            return Err(Gp);
        }
        if requested & COMPONENT_SSE != 0 {
            // The standard form loads MXCSR whatever the header says.
            self.set_mxcsr(u32::from_le_bytes(get(area, 24)))?;
            if present & COMPONENT_SSE != 0 {
                self.load_xmm(area, form);
            } else {
                (0..form.registers()).for_each(|n| self.set_xmm(n, Xmm::default()));
            }
        }
        if requested & COMPONENT_X87 != 0 {
            if present & COMPONENT_X87 != 0 {
                self.load_x87(area, form);
            } else {
                self.initialise();
                (0..8).for_each(|i| self.put_st(i, Extended::default()));
            }
        }
        Ok(())
    }

    fn save_x87(&self, area: &mut [u8], form: AreaForm) {
        put(area, 0, &self.control.to_le_bytes());
        put(area, 2, &self.status.to_le_bytes());
        put(area, 4, &[self.tags, 0]);
        put(area, 6, &self.last.opcode.to_le_bytes());
        if form.wide {
            put(area, 8, &self.last.ip.to_le_bytes());
            put(area, 16, &self.last.dp.to_le_bytes());
        } else {
            put(area, 8, &(self.last.ip as u32).to_le_bytes());
            put(area, 12, &u32::from(self.last.cs).to_le_bytes());
            put(area, 16, &(self.last.dp as u32).to_le_bytes());
            put(area, 20, &u32::from(self.last.ds).to_le_bytes());
        }
        for i in 0..8 {
            put(area, 32 + 16 * i, &self.st(i).to_bytes());
            put(area, 42 + 16 * i, &[0; 6]);
        }
    }

    fn load_x87(&mut self, area: &[u8], form: AreaForm) {
        self.set_control(u16::from_le_bytes(get(area, 0)));
        self.set_status(u16::from_le_bytes(get(area, 2)));
        self.tags = area[4];
        let half = |at| u64::from(u32::from_le_bytes(get(area, at)));
        self.last = LastInstruction {
            opcode: u16::from_le_bytes(get(area, 6)) & 0x7ff,
            ip: if form.wide {
                u64::from_le_bytes(get(area, 8))
            } else {
                half(8)
            },
            cs: if form.wide {
                0
            } else {
                u16::from_le_bytes(get(area, 12))
            },
            dp: if form.wide {
                u64::from_le_bytes(get(area, 16))
            } else {
                half(16)
            },
            ds: if form.wide {
                0
            } else {
                u16::from_le_bytes(get(area, 20))
            },
        };
        for i in 0..8 {
            self.put_st(i, Extended::from_bytes(get(area, 32 + 16 * i)));
        }
    }

    fn save_mxcsr(&self, area: &mut [u8]) {
        put(area, 24, &self.mxcsr().to_le_bytes());
        put(area, 28, &MXCSR_MASK.to_le_bytes());
    }

    fn save_xmm(&self, area: &mut [u8], form: AreaForm) {
        (0..form.registers()).for_each(|n| put(area, 160 + 16 * n, &self.xmm(n).0));
    }

    fn load_xmm(&mut self, area: &[u8], form: AreaForm) {
        (0..form.registers()).for_each(|n| self.set_xmm(n, Xmm(get(area, 160 + 16 * n))));
    }
}

/// The byte ranges of its area that an XSAVE of `requested` writes; the others keep what is in memory.
pub fn xsave_writes(requested: u64, form: AreaForm) -> impl Iterator<Item = std::ops::Range<usize>> {
    let x87 = requested & COMPONENT_X87 != 0;
    let sse = requested & COMPONENT_SSE != 0;
    let parts = [
        (x87, 0..24),
        (sse, 24..32),
        (x87, 32..160),
        (sse, 160..160 + 16 * form.registers()),
    ];
    parts
        .into_iter()
        .chain([(true, 512..520)])
        .filter(|(written, _)| *written)
        .map(|(_, range)| range)
}
