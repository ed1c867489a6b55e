//! The zero page: what Linux is told when it is entered (`struct boot_params`).
//!
//! Documentation/arch/x86/zero-page.rst; arch/x86/include/uapi/asm/bootparam.h; include/uapi/linux/screen_info.h.

use super::bytes::put;
use super::bzimage::SETUP_HEADER;
use crate::Chunk;
use crate::e820::Range;

/// Where the zero page lies.
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// Where the random seed lies.
const SETUP_DATA: u64 = 0x8000;
/// `SETUP_RNG_SEED`, known since Linux 6.0 and skipped before.
const SETUP_RNG_SEED: u32 = 9;
/// "Some boot loader without a number."
const LOADER_UNDEFINED: u8 = 0xFF;
const MOST_RANGES: usize = 128;

/// What goes into the zero page.
pub(super) struct Told<'a> {
    /// The kernel's setup header, when it has one.
    pub(super) setup_header: Option<&'a [u8]>,
    /// The map of memory.
    pub(super) memory: &'a [Range],
    /// Address and size of the initrd.
    pub(super) initrd: Option<(u64, u64)>,
    /// Address of the command line.
    pub(super) command_line: u64,
    /// Address of the RSDP.
    pub(super) rsdp: u64,
    /// Whether there is a VGA adapter, in mode 3.
    pub(super) display: bool,
    /// Bytes for the kernel's random number generator.
    pub(super) seed: Option<[u8; 32]>,
}

/// The zero page and what it points to.
pub(super) fn build(told: &Told<'_>) -> Vec<Chunk<'static>> {
    let mut page = vec![0_u8; 4096];
    match told.setup_header {
        Some(header) => put(&mut page, SETUP_HEADER, header),
        None => {
            // A vmlinux checks these three as little as the rest, but tools that read them back do.
            put(&mut page, 0x1FE, &0xAA55_u16.to_le_bytes());
            put(&mut page, 0x202, b"HdrS");
            put(&mut page, 0x206, &0x020C_u16.to_le_bytes());
        }
    }
    if told.display {
        text_mode(&mut page);
    }
    put(&mut page, 0x070, &told.rsdp.to_le_bytes());
    put(&mut page, 0x1FA, &0xFFFF_u16.to_le_bytes()); // vid_mode: normal
    put(&mut page, 0x210, &[LOADER_UNDEFINED]);

    // Everything lies below 4 GiB, so the upper halves at C0h, C4h and C8h stay zero.
    let (initrd, size) = told.initrd.unwrap_or_default();
    put(&mut page, 0x218, &(initrd as u32).to_le_bytes());
    put(&mut page, 0x21C, &(size as u32).to_le_bytes());
    put(&mut page, 0x228, &(told.command_line as u32).to_le_bytes());

    let ranges = &told.memory[..told.memory.len().min(MOST_RANGES)];
    page[0x1E8] = ranges.len() as u8;
    for (index, range) in ranges.iter().enumerate() {
        put(&mut page, 0x2D0 + index * 20, &range.to_bytes());
    }

    let mut chunks = Vec::new();
    if let Some(seed) = told.seed {
        put(&mut page, 0x250, &SETUP_DATA.to_le_bytes());
        let mut data = vec![0_u8; 16];
        put(&mut data, 8, &SETUP_RNG_SEED.to_le_bytes());
        put(&mut data, 12, &32_u32.to_le_bytes());
        data.extend_from_slice(&seed);
        chunks.push(Chunk::owned(SETUP_DATA, data));
    } else {
        put(&mut page, 0x250, &0_u64.to_le_bytes());
    }
    chunks.push(Chunk::owned(ZERO_PAGE, page));
    chunks
}

/// `screen_info` of a VGA adapter that is in mode 3, 80 columns by 25 lines, the cursor at the top.
fn text_mode(page: &mut [u8]) {
    page[0x06] = 3; // orig_video_mode
    page[0x07] = 80; // orig_video_cols
    put(page, 0x0A, &3_u16.to_le_bytes()); // orig_video_ega_bx: colour, 256 KiB
    page[0x0E] = 25; // orig_video_lines
    page[0x0F] = 1; // orig_video_isVGA
    put(page, 0x10, &16_u16.to_le_bytes()); // orig_video_points
}
