//! What a PVH kernel is told when it is entered: `hvm_start_info` (Xen's public/arch-x86/hvm/start_info.h).

use crate::Chunk;
use crate::e820::Range;

/// Where the start info lies; the module list and the map of memory follow it.
pub(super) const START_INFO: u64 = 0x6000;
const MAGIC: u32 = 0x336E_C578;
const VERSION: u32 = 1;
const START_INFO_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;

/// The start info of version 1.
pub(super) fn build(
    memory: &[Range],
    initrd: Option<(u64, u64)>,
    command_line: u64,
    rsdp: u64,
) -> Chunk<'static> {
    let modules = START_INFO + START_INFO_SIZE;
    let map = modules + MODULE_SIZE;
    let mut bytes = Vec::new();
    for field in [MAGIC, VERSION, 0, u32::from(initrd.is_some())] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    for field in [initrd.map_or(0, |_| modules), command_line, rsdp, map] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&(memory.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);

    let (address, size) = initrd.unwrap_or_default();
    for field in [address, size, 0, 0] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    for range in memory {
        bytes.extend_from_slice(&range.to_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    Chunk::owned(START_INFO, bytes)
}
