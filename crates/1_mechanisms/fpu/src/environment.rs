//! The x87 environment in its four formats (SDM Vol. 1 §8.1.10), and the state of FNSAVE and FRSTOR behind it.

use crate::state::{EXCEPTIONS, Extended, Fpu, LastInstruction};

/// How an environment is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvironmentForm {
    /// 32-bit operand size: 28 bytes, else 14.
    pub wide: bool,
    /// Selectors and opcode; else linear addresses as real and virtual-8086 mode have them.
    pub protected: bool,
}

impl EnvironmentForm {
    /// Bytes of the environment.
    pub const fn bytes(self) -> usize {
        if self.wide { 28 } else { 14 }
    }

    /// Reads field `n` of the environment.
    fn get(self, image: &[u8], n: usize) -> u32 {
        let half = |at: usize| u32::from(u16::from_le_bytes([image[at], image[at + 1]]));
        if self.wide {
            half(4 * n) | half(4 * n + 2) << 16
        } else {
            half(2 * n)
        }
    }

    /// Writes field `n` of the environment.
    fn put(self, image: &mut [u8], n: usize, value: u32) {
        if self.wide {
            image[4 * n..4 * n + 4].copy_from_slice(&value.to_le_bytes());
        } else {
            image[2 * n..2 * n + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
    }
}

/// The reserved upper half of a 32-bit field, which processors store as ones.
const ONES: u32 = 0xffff_0000;

impl Fpu {
    /// FNSTENV: writes the environment and masks every exception.
    ///
    /// # Panics
    /// `image` is shorter than [`EnvironmentForm::bytes`].
    pub fn fnstenv(&mut self, image: &mut [u8], form: EnvironmentForm) {
        self.save_environment(image, form);
        self.set_control(self.control | EXCEPTIONS);
    }

    /// FLDENV.
    ///
    /// # Panics
    /// `image` is shorter than [`EnvironmentForm::bytes`].
    pub fn fldenv(&mut self, image: &[u8], form: EnvironmentForm) {
        self.set_control(form.get(image, 0) as u16);
        self.set_status(form.get(image, 1) as u16);
        self.set_full_tags(form.get(image, 2) as u16);
        let [ip, code, dp, data] = [3, 4, 5, 6].map(|n| form.get(image, n));
        self.last = if form.protected {
            LastInstruction {
                // The 16-bit format has no room for the opcode.
                opcode: if form.wide { (code >> 16) as u16 & 0x7ff } else { 0 },
                ip: u64::from(ip),
                cs: code as u16,
                dp: u64::from(dp),
                ds: data as u16,
            }
        } else {
            LastInstruction {
                opcode: code as u16 & 0x7ff,
                ip: u64::from(ip & 0xffff | (code & !0xfff) << 4),
                cs: 0,
                dp: u64::from(dp & 0xffff | (data & !0xfff) << 4),
                ds: 0,
            }
        };
    }

    /// FNSAVE: writes environment and registers, then initialises.
    ///
    /// # Panics
    /// `image` is shorter than [`EnvironmentForm::bytes`] and 80.
    pub fn fnsave(&mut self, image: &mut [u8], form: EnvironmentForm) {
        self.save_environment(image, form);
        for i in 0..8 {
            let at = form.bytes() + 10 * i;
            image[at..at + 10].copy_from_slice(&self.st(i).to_bytes());
        }
        self.initialise();
    }

    /// FRSTOR.
    ///
    /// # Panics
    /// `image` is shorter than [`EnvironmentForm::bytes`] and 80.
    pub fn frstor(&mut self, image: &[u8], form: EnvironmentForm) {
        self.fldenv(image, form);
        for i in 0..8 {
            let mut bytes = [0; 10];
            bytes.copy_from_slice(&image[form.bytes() + 10 * i..][..10]);
            self.put_st(i, Extended::from_bytes(bytes));
        }
    }

    fn save_environment(&self, image: &mut [u8], form: EnvironmentForm) {
        form.put(image, 0, ONES | u32::from(self.control));
        form.put(image, 1, ONES | u32::from(self.status));
        form.put(image, 2, ONES | u32::from(self.full_tags()));
        let (ip, dp) = (self.last.ip as u32, self.last.dp as u32);
        let opcode = u32::from(self.last.opcode);
        if form.protected {
            form.put(image, 3, ip);
            form.put(image, 4, opcode << 16 | u32::from(self.last.cs));
            form.put(image, 5, dp);
            form.put(image, 6, ONES | u32::from(self.last.ds));
        } else {
            form.put(image, 3, ip & 0xffff);
            form.put(image, 4, ip >> 16 << 12 | opcode);
            form.put(image, 5, dp & 0xffff);
            form.put(image, 6, dp >> 16 << 12);
        }
    }
}
