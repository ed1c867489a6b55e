//! The RAM of a guest by guest physical address, as devices see it.

use std::sync::atomic::Ordering;

use crate::{Block, HostRange, OutOfRange};

/// RAM below this address comes first; above it, up to 4 GiB, lie PCI windows, interrupt controllers and firmware.
pub const LOW_LIMIT: u64 = 0xc000_0000;
/// RAM that does not fit below [`LOW_LIMIT`] goes on here.
pub const HIGH_START: u64 = 0x1_0000_0000;

/// A range of guest physical addresses with RAM behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First guest physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where it begins in the block.
    pub offset: u64,
}

/// The RAM of a guest. A clone is the same RAM.
#[derive(Clone)]
pub struct Memory {
    block: Block,
    regions: [Region; 2],
}

impl Memory {
    /// RAM of so many bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// When the host refuses it.
    pub fn new(len: u64) -> std::io::Result<Memory> {
        Ok(Self::on(Block::new("guest-ram", len)?))
    }

    /// RAM on a block that exists already.
    #[must_use]
    pub fn on(block: Block) -> Memory {
        let low = block.len().min(LOW_LIMIT);
        let high = block.len() - low;
        let regions = [
            Region {
                start: 0,
                len: low,
                offset: 0,
            },
            Region {
                start: HIGH_START,
                len: high,
                offset: low,
            },
        ];
        Memory { block, regions }
    }

    /// The block that holds it.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The ranges of addresses with RAM, ascending; one or two.
    pub fn regions(&self) -> impl Iterator<Item = Region> + '_ {
        self.regions.iter().copied().filter(|region| region.len > 0)
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.block.len()
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The offset in the block of a range that lies in one region.
    ///
    /// # Errors
    /// When there is no RAM at some of it.
    pub fn offset(&self, address: u64, len: u64) -> Result<u64, OutOfRange> {
        for region in &self.regions {
            if address >= region.start && address - region.start < region.len.max(1) {
                let inside = address - region.start;
                if len <= region.len - inside.min(region.len) {
                    return Ok(region.offset + inside);
                }
            }
        }
        Err(OutOfRange { address, len })
    }

    /// Copies RAM out.
    ///
    /// # Errors
    /// When there is no RAM at some of it; then nothing is copied. The same for the other accesses.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        self.block.read(self.offset(address, bytes.len() as u64)?, bytes)
    }

    /// Copies bytes into RAM and marks the pages as written.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.block.write(self.offset(address, bytes.len() as u64)?, bytes)
    }

    /// Where a range lies in this process; see [`HostRange`].
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn host(&self, address: u64, len: u64) -> Result<HostRange, OutOfRange> {
        self.block.host(self.offset(address, len)?, len)
    }

    /// Marks a range as written through a [`HostRange`].
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn written(&self, address: u64, len: u64) -> Result<(), OutOfRange> {
        self.block.written(self.offset(address, len)?, len);
        Ok(())
    }

    /// Gives the host memory behind whole pages back; they read as zeros.
    ///
    /// # Errors
    /// When there is no RAM at some of it, or the host refuses.
    pub fn discard(&self, address: u64, len: u64) -> std::io::Result<()> {
        let offset = self.offset(address, len).map_err(std::io::Error::other)?;
        self.block.discard(offset, len)
    }
}

macro_rules! values {
    ($($read:ident $write:ident $load:ident $store:ident $type:ty;)*) => {
        impl Memory {
            $(
                /// Reads a little-endian value at any address.
                ///
                /// # Errors
                /// As [`Memory::read`].
                pub fn $read(&self, address: u64) -> Result<$type, OutOfRange> {
                    let mut bytes = [0; size_of::<$type>()];
                    self.read(address, &mut bytes)?;
                    Ok(<$type>::from_le_bytes(bytes))
                }

                /// Writes a little-endian value at any address.
                ///
                /// # Errors
                /// As [`Memory::read`].
                pub fn $write(&self, address: u64, value: $type) -> Result<(), OutOfRange> {
                    self.write(address, &value.to_le_bytes())
                }

                /// Reads an aligned little-endian value in one piece.
                ///
                /// # Errors
                /// As [`Memory::read`], and when the address is not aligned.
                pub fn $load(&self, address: u64, order: Ordering) -> Result<$type, OutOfRange> {
                    self.block.$load(self.offset(address, size_of::<$type>() as u64)?, order)
                }

                /// Writes an aligned little-endian value in one piece.
                ///
                /// # Errors
                /// As [`Memory::read`], and when the address is not aligned.
                pub fn $store(&self, address: u64, value: $type, order: Ordering) -> Result<(), OutOfRange> {
                    self.block.$store(self.offset(address, size_of::<$type>() as u64)?, value, order)
                }
            )*
        }
    };
}

values! {
    read_u8 write_u8 load_u8 store_u8 u8;
    read_u16 write_u16 load_u16 store_u16 u16;
    read_u32 write_u32 load_u32 store_u32 u32;
    read_u64 write_u64 load_u64 store_u64 u64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ram_beyond_three_gib_goes_on_at_four_and_the_hole_is_none() {
        let memory = Memory::new(LOW_LIMIT + 0x10000).unwrap();
        memory.write_u64(HIGH_START + 8, 7).unwrap();
        assert_eq!(memory.read_u64(HIGH_START + 8).unwrap(), 7);
        assert_eq!(
            memory.block().load_u64(LOW_LIMIT + 8, Ordering::Relaxed).unwrap(),
            7
        );
        assert!(memory.read_u8(LOW_LIMIT).is_err());
        assert!(memory.read_u16(LOW_LIMIT - 1).is_err());
        assert!(memory.read_u8(HIGH_START + 0x10000).is_err());
        assert!(memory.read_u64(u64::MAX - 3).is_err());
    }

    #[test]
    fn writes_of_devices_to_decoded_code_are_collected_and_others_are_not() {
        let memory = Memory::new(1 << 16).unwrap();
        memory.block().mark_code(3);
        memory.write(0x2ff8, &[1; 16]).unwrap();
        memory.write(0x5000, &[1]).unwrap();
        assert!(memory.block().any_rewritten());
        assert_eq!(memory.block().take_rewritten(), [3]);
        assert!(!memory.block().any_rewritten());
        assert_eq!(memory.block().take_dirty().iter().collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(memory.block().take_dirty().iter().count(), 0);
    }

    #[test]
    fn discarded_pages_read_as_zeros_and_partial_ones_are_kept() {
        let memory = Memory::new(1 << 16).unwrap();
        memory.write(0, &[9; 0x4000]).unwrap();
        memory.discard(0x800, 0x2000).unwrap();
        assert_eq!(memory.read_u8(0xfff).unwrap(), 9);
        assert_eq!(memory.read_u8(0x1000).unwrap(), 0);
        assert_eq!(memory.read_u8(0x2000).unwrap(), 9);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_beside_it_changes(address in 0u64..0x4000, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let memory = Memory::new(0x4000).unwrap();
            let fits = address + bytes.len() as u64 <= 0x4000;
            prop_assert_eq!(memory.write(address, &bytes).is_ok(), fits);
            let mut all = vec![0; 0x4000];
            memory.read(0, &mut all).unwrap();
            let mut expected = vec![0; 0x4000];
            if fits {
                expected[address as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            prop_assert_eq!(all, expected);
        }
    }
}
