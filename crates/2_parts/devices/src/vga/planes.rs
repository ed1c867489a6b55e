//! The window at 0xa0000: how accesses reach the four planes, through latches and write modes (IBM VGA Technical Reference).
//!
//! The planes lie interleaved in the adapter's memory: byte `n` of plane `p` is byte `4 n + p`. So a text cell is two neighbouring bytes,
//! and a linear frame buffer of the Bochs extension is the same memory.

use std::sync::atomic::Ordering;

use guestmem::Block;

use super::registers::Registers;

/// A byte for each plane, all ones where the bit is set.
fn spread(bits: u8) -> u32 {
    (0..4)
        .filter(|plane| bits >> plane & 1 != 0)
        .fold(0, |mask, plane| mask | 0xff << (8 * plane))
}

/// The same byte for each plane.
fn all(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// Where an offset of the window (0 to 0x1ffff) lies in a plane; none outside of what is mapped there.
fn place(registers: &Registers, bank: u16, offset: u64) -> Option<u64> {
    let bank = u64::from(bank) << 16;
    match registers.graphics[6] >> 2 & 3 {
        0 => Some(offset),
        1 => (offset < 0x10000).then_some(offset + bank),
        2 => (0x10000..0x18000).contains(&offset).then(|| offset - 0x10000),
        _ => (0x18000..0x20000).contains(&offset).then(|| offset - 0x18000),
    }
}

fn byte(vram: &Block, at: u64) -> u8 {
    let mut byte = [0xff];
    // Beyond the end nothing answers.
    let _ = vram.read(at, &mut byte);
    byte[0]
}

/// A read of a byte.
pub fn read(registers: &mut Registers, vram: &Block, bank: u16, offset: u64) -> u8 {
    let Some(at) = place(registers, bank, offset) else {
        return 0xff;
    };
    if registers.sequencer[4] & 8 != 0 {
        return byte(vram, at);
    }
    let plane = registers.graphics[4] & 3;
    if registers.graphics[5] & 0x10 != 0 {
        return byte(vram, (at & !1) << 1 | u64::from(plane & 2) | at & 1);
    }
    registers.latch = vram.load_u32(at * 4, Ordering::Relaxed).unwrap_or(u32::MAX);
    if registers.graphics[5] & 8 == 0 {
        return (registers.latch >> (8 * plane)) as u8;
    }
    // Read mode 1: which pixels have this colour.
    let differ = (registers.latch ^ spread(registers.graphics[2])) & spread(registers.graphics[7]);
    !(differ | differ >> 8 | differ >> 16 | differ >> 24) as u8
}

/// What a write of a byte makes of the latched bytes.
fn combine(registers: &Registers, value: u8) -> u32 {
    let graphics = &registers.graphics;
    let turned = value.rotate_right(u32::from(graphics[3] & 7));
    let (new, mask) = match graphics[5] & 3 {
        0 => {
            let set = spread(graphics[1]);
            (all(turned) & !set | spread(graphics[0]) & set, graphics[8])
        }
        1 => return registers.latch,
        2 => (spread(value & 0xf), graphics[8]),
        _ => (spread(graphics[0]), graphics[8] & turned),
    };
    let latch = registers.latch;
    let done = match graphics[3] >> 3 & 3 {
        0 => new,
        1 => new & latch,
        2 => new | latch,
        _ => new ^ latch,
    };
    done & all(mask) | latch & !all(mask)
}

/// A write of a byte.
pub fn write(registers: &mut Registers, vram: &Block, bank: u16, offset: u64, value: u8) {
    let Some(at) = place(registers, bank, offset) else {
        return;
    };
    let planes = registers.sequencer[2];
    // What lies beyond the end is lost.
    if registers.sequencer[4] & 8 != 0 {
        if planes >> (at & 3) & 1 != 0 {
            let _ = vram.write(at, &[value]);
        }
    } else if registers.graphics[5] & 0x10 != 0 {
        let plane = u64::from(registers.graphics[4] & 2) | at & 1;
        if planes >> plane & 1 != 0 {
            let _ = vram.write((at & !1) << 1 | plane, &[value]);
        }
    } else if let Ok(old) = vram.load_u32(at * 4, Ordering::Relaxed) {
        let mask = spread(planes);
        let new = old & !mask | combine(registers, value) & mask;
        let _ = vram.store_u32(at * 4, new, Ordering::Relaxed);
    }
}
