//! Little-endian fields of a file that may end anywhere.

/// `N` bytes at an offset, if the file goes that far.
pub(crate) fn take<const N: usize>(file: &[u8], offset: usize) -> Option<[u8; N]> {
    file.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// The byte at an offset.
pub(crate) fn u8_at(file: &[u8], offset: usize) -> Option<u8> {
    file.get(offset).copied()
}

/// The 16-bit number at an offset.
pub(crate) fn u16_at(file: &[u8], offset: usize) -> Option<u16> {
    take(file, offset).map(u16::from_le_bytes)
}

/// The 32-bit number at an offset.
pub(crate) fn u32_at(file: &[u8], offset: usize) -> Option<u32> {
    take(file, offset).map(u32::from_le_bytes)
}

/// The 64-bit number at an offset.
pub(crate) fn u64_at(file: &[u8], offset: usize) -> Option<u64> {
    take(file, offset).map(u64::from_le_bytes)
}

/// Writes a field; the offset is one of ours and inside.
pub(crate) fn put(page: &mut [u8], offset: usize, field: &[u8]) {
    page[offset..offset + field.len()].copy_from_slice(field);
}
