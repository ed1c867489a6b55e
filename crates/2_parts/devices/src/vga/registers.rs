//! The registers of a VGA: sequencer, graphics controller, attribute controller, CRT controller, palette (IBM VGA Technical Reference).

use serde::{Deserialize, Serialize};

/// Bits of the sequencer's registers that exist.
const SEQUENCER_MASKS: [u8; 8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0x00, 0x00, 0xff];
/// Bits of the graphics controller's registers that exist.
const GRAPHICS_MASKS: [u8; 16] = [
    0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0,
];
/// Bits of the attribute controller's registers from 0x10 on that exist.
const ATTRIBUTE_MASKS: [u8; 5] = [0xef, 0xff, 0x3f, 0x0f, 0x0f];
/// Bytes of a palette: 256 colours of red, green, blue.
const PALETTE: usize = 768;

/// All registers that ports reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// Miscellaneous output.
    pub misc: u8,
    feature: u8,
    sequencer_index: u8,
    /// Sequencer.
    pub sequencer: [u8; 8],
    graphics_index: u8,
    /// Graphics controller.
    pub graphics: [u8; 16],
    attribute_index: u8,
    /// The next write to 0x3c0 is a value.
    attribute_value: bool,
    /// Attribute controller.
    pub attribute: [u8; 32],
    crtc_index: u8,
    /// CRT controller.
    pub crtc: [u8; 32],
    dac_reads: bool,
    dac_index: u8,
    dac_part: u8,
    dac_kept: [u8; 2],
    dac_mask: u8,
    /// Colours of 6 bits a part, or 8 bits when the Bochs extension says so.
    palette: Vec<u8>,
    /// Colours have 8 bits a part.
    pub wide_palette: bool,
    /// The bytes of all planes at the address that was read last.
    pub latch: u32,
}

impl Default for Registers {
    fn default() -> Self {
        Registers {
            misc: 0,
            feature: 0,
            sequencer_index: 0,
            sequencer: [0; 8],
            graphics_index: 0,
            graphics: [0; 16],
            attribute_index: 0,
            attribute_value: false,
            attribute: [0; 32],
            crtc_index: 0,
            crtc: [0; 32],
            dac_reads: false,
            dac_index: 0,
            dac_part: 0,
            dac_kept: [0; 2],
            dac_mask: 0xff,
            palette: vec![0; PALETTE],
            wide_palette: false,
            latch: 0,
        }
    }
}

impl Registers {
    /// Whether the CRT controller answers at this port: at 0x3bx for a monochrome display, at 0x3dx for a colour one.
    fn answers(&self, port: u16) -> bool {
        match port >> 4 {
            0x3b => self.misc & 1 == 0,
            0x3d => self.misc & 1 == 1,
            _ => true,
        }
    }

    /// IN of a byte. `status` is input status register 1: where the beam is.
    pub fn read(&mut self, port: u16, status: u8) -> u8 {
        if !self.answers(port) {
            return 0xff;
        }
        match port {
            0x3c0 if self.attribute_value => 0,
            0x3c0 => self.attribute_index,
            0x3c1 => self.attribute[usize::from(self.attribute_index & 0x1f)],
            0x3c2 => 0,
            0x3c3 => 1,
            0x3c4 => self.sequencer_index,
            0x3c5 => self.sequencer[usize::from(self.sequencer_index & 7)],
            0x3c6 => self.dac_mask,
            0x3c7 => u8::from(self.dac_reads) * 3,
            0x3c8 => self.dac_index,
            0x3c9 => self.read_palette(),
            0x3ca => self.feature,
            0x3cc => self.misc,
            0x3ce => self.graphics_index,
            0x3cf => self.graphics[usize::from(self.graphics_index & 0xf)],
            0x3b4 | 0x3d4 => self.crtc_index,
            0x3b5 | 0x3d5 => self.crtc.get(usize::from(self.crtc_index)).copied().unwrap_or(0),
            0x3ba | 0x3da => {
                self.attribute_value = false;
                status
            }
            _ => 0,
        }
    }

    /// OUT of a byte.
    pub fn write(&mut self, port: u16, value: u8) {
        if !self.answers(port) {
            return;
        }
        match port {
            0x3c0 => {
                if self.attribute_value {
                    self.write_attribute(value);
                } else {
                    self.attribute_index = value & 0x3f;
                }
                self.attribute_value = !self.attribute_value;
            }
            0x3c2 => self.misc = value & !0x10,
            0x3c4 => self.sequencer_index = value & 7,
            0x3c5 => {
                let at = usize::from(self.sequencer_index & 7);
                self.sequencer[at] = value & SEQUENCER_MASKS[at];
            }
            0x3c6 => self.dac_mask = value,
            0x3c7 | 0x3c8 => {
                self.dac_reads = port == 0x3c7;
                self.dac_index = value;
                self.dac_part = 0;
            }
            0x3c9 => self.write_palette(value),
            0x3ce => self.graphics_index = value & 0xf,
            0x3cf => {
                let at = usize::from(self.graphics_index & 0xf);
                self.graphics[at] = value & GRAPHICS_MASKS[at];
            }
            0x3b4 | 0x3d4 => self.crtc_index = value,
            0x3b5 | 0x3d5 => self.write_crtc(value),
            0x3ba | 0x3da => self.feature = value & 0x10,
            _ => {}
        }
    }

    fn write_attribute(&mut self, value: u8) {
        let at = usize::from(self.attribute_index & 0x1f);
        self.attribute[at] = match at {
            0..=0xf => value & 0x3f,
            0x10..=0x14 => value & ATTRIBUTE_MASKS[at - 0x10],
            _ => return,
        };
    }

    fn write_crtc(&mut self, value: u8) {
        let at = usize::from(self.crtc_index);
        let protected = self.crtc[0x11] & 0x80 != 0;
        match at {
            // Of the protected registers only a bit of the line compare can be written.
            7 if protected => self.crtc[7] = self.crtc[7] & !0x10 | value & 0x10,
            0..=7 if protected => {}
            0..=0x18 => self.crtc[at] = value,
            _ => {}
        }
    }

    fn read_palette(&mut self) -> u8 {
        let value = self.palette[usize::from(self.dac_index) * 3 + usize::from(self.dac_part % 3)];
        self.step_palette();
        value
    }

    /// The parts of a colour take effect together, with the third.
    fn write_palette(&mut self, value: u8) {
        let value = if self.wide_palette { value } else { value & 0x3f };
        match self.dac_part {
            part @ 0..=1 => self.dac_kept[usize::from(part)] = value,
            _ => {
                let [red, green] = self.dac_kept;
                self.set_colour(self.dac_index, [red, green, value]);
            }
        }
        self.step_palette();
    }

    fn step_palette(&mut self) {
        self.dac_part += 1;
        if self.dac_part > 2 {
            self.dac_part = 0;
            self.dac_index = self.dac_index.wrapping_add(1);
        }
    }

    /// Sets a colour of the palette.
    pub fn set_colour(&mut self, index: u8, parts: [u8; 3]) {
        self.palette[usize::from(index) * 3..][..3].copy_from_slice(&parts);
    }

    /// A colour of the palette as 0x00rrggbb.
    #[must_use]
    pub fn colour(&self, index: u8) -> u32 {
        let at = usize::from(index & self.dac_mask) * 3;
        self.palette[at..at + 3].iter().fold(0, |colour, part| {
            let part = if self.wide_palette {
                *part
            } else {
                (part & 0x3f) << 2 | part >> 4 & 3
            };
            colour << 8 | u32::from(part)
        })
    }

    /// The sixteen colours that the attribute controller makes of four bits.
    #[must_use]
    pub fn colours(&self) -> [u32; 16] {
        let (mode, select) = (self.attribute[0x10], self.attribute[0x14]);
        std::array::from_fn(|at| {
            let inner = self.attribute[at & usize::from(self.attribute[0x12] & 0xf)];
            self.colour(if mode & 0x80 != 0 {
                (select & 0xf) << 4 | inner & 0xf
            } else {
                (select & 0xc) << 4 | inner & 0x3f
            })
        })
    }

    /// Whether anything is displayed: the palette is not being changed, and the sequencer does not blank the screen.
    #[must_use]
    pub fn is_lit(&self) -> bool {
        self.attribute_index & 0x20 != 0 && self.sequencer[1] & 0x20 == 0
    }

    /// Lights the screen.
    pub fn light(&mut self) {
        self.attribute_index |= 0x20;
    }

    /// Whether the adapter shows graphics.
    #[must_use]
    pub fn is_graphics(&self) -> bool {
        self.graphics[6] & 1 != 0
    }

    /// Two bytes of the CRT controller, the upper one first.
    #[must_use]
    pub fn crtc_pair(&self, at: usize) -> u32 {
        u32::from(self.crtc[at]) << 8 | u32::from(self.crtc[at + 1])
    }

    /// Lines that are displayed.
    #[must_use]
    pub fn lines(&self) -> u32 {
        let overflow = u32::from(self.crtc[7]);
        (u32::from(self.crtc[0x12]) | (overflow & 2) << 7 | (overflow & 0x40) << 3) + 1
    }

    /// The line at which the display begins anew at address 0.
    #[must_use]
    pub fn line_compare(&self) -> u32 {
        u32::from(self.crtc[0x18])
            | (u32::from(self.crtc[7]) & 0x10) << 4
            | (u32::from(self.crtc[9]) & 0x40) << 3
    }

    /// Makes a state that came from outside one that can be.
    pub fn mend(&mut self) {
        self.palette.resize(PALETTE, 0);
        self.dac_part %= 3;
        self.attribute_index &= 0x3f;
    }
}
