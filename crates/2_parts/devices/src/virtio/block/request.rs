//! What a request asks for (virtio 1.2, section 5.2.6).

use disk::SECTOR;
use guestmem::Block;

use crate::virtio::queue::Chain;

/// Status bytes.
pub(super) const OK: u8 = 0;
pub(super) const IOERR: u8 = 1;
pub(super) const UNSUPP: u8 = 2;

/// Bytes before the data of a request.
pub(super) const HEADER: u64 = 16;
/// Most bytes that one request reads or writes.
const MOST_BYTES: u64 = 64 << 20;
/// Most sectors in a range of a discard request.
pub(super) const MOST_DISCARDED: u32 = 1 << 22;
/// Most sectors in a range of a write-zeroes request, which may have to write them.
pub(super) const MOST_ZEROED: u32 = 1 << 17;
/// Most ranges in a request.
pub(super) const MOST_RANGES: u32 = 16;

/// A request that makes sense for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Disk to memory: offset and length in bytes.
    Read(u64, u64),
    /// Memory to disk.
    Write(u64, u64),
    Flush,
    GetId,
    Discard,
    WriteZeroes,
}

/// A range of a discard or write-zeroes request, in bytes.
pub(super) struct Range {
    pub offset: u64,
    pub len: u64,
    pub unmap: bool,
}

/// Bytes of a chain's data that the device writes: all but the status byte.
pub(super) fn writable_data(chain: &Chain) -> u64 {
    chain.writable_len().saturating_sub(1)
}

/// Reads the header and checks sizes against the disk. The error is the status byte.
pub(super) fn parse(chain: &Chain, block: &Block, size: u64) -> Result<Request, u8> {
    let header: [u8; HEADER as usize] = chain.reader(block).array().ok_or(IOERR)?;
    let [kind, _, low, high] = std::array::from_fn(|n| {
        let word = [
            header[4 * n],
            header[4 * n + 1],
            header[4 * n + 2],
            header[4 * n + 3],
        ];
        u32::from_le_bytes(word)
    });
    let sector = u64::from(low) | u64::from(high) << 32;
    let out = chain.readable_len() - HEADER;
    match kind {
        0 => place(sector, writable_data(chain), size).map(|at| Request::Read(at, writable_data(chain))),
        1 => place(sector, out, size).map(|at| Request::Write(at, out)),
        4 => Ok(Request::Flush),
        8 => Ok(Request::GetId),
        11 => Ok(Request::Discard),
        13 => Ok(Request::WriteZeroes),
        _ => Err(UNSUPP),
    }
}

/// The offset of a sector, if so many bytes lie on the disk from there.
fn place(sector: u64, len: u64, size: u64) -> Result<u64, u8> {
    let offset = sector.checked_mul(SECTOR).ok_or(IOERR)?;
    let end = offset.checked_add(len).ok_or(IOERR)?;
    let sound = len.is_multiple_of(SECTOR) && len <= MOST_BYTES && end <= size;
    sound.then_some(offset).ok_or(IOERR)
}

/// The ranges of a discard (`zero` false) or write-zeroes request.
pub(super) fn ranges(chain: &Chain, block: &Block, size: u64, zero: bool) -> Result<Vec<Range>, u8> {
    let mut reader = chain.reader(block);
    reader.skip(HEADER);
    let left = reader.left();
    if left == 0 || !left.is_multiple_of(16) || left / 16 > u64::from(MOST_RANGES) {
        return Err(IOERR);
    }
    let most = if zero { MOST_ZEROED } else { MOST_DISCARDED };
    let mut ranges = Vec::with_capacity((left / 16) as usize);
    while let Some(bytes) = reader.array::<16>() {
        let [low, high, sectors, flags] = std::array::from_fn(|n| {
            let word = [bytes[4 * n], bytes[4 * n + 1], bytes[4 * n + 2], bytes[4 * n + 3]];
            u32::from_le_bytes(word)
        });
        // Bit 0 is unmap, which a discard must not have (section 5.2.6.2).
        if flags & !u32::from(zero) != 0 {
            return Err(UNSUPP);
        }
        if sectors > most {
            return Err(IOERR);
        }
        let len = u64::from(sectors) * SECTOR;
        let sector = u64::from(low) | u64::from(high) << 32;
        let offset = sector.checked_mul(SECTOR).ok_or(IOERR)?;
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(IOERR);
        }
        ranges.push(Range {
            offset,
            len,
            unmap: flags & 1 != 0,
        });
    }
    Ok(ranges)
}
