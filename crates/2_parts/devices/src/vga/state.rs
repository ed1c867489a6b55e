//! What is saved of the adapter: registers, and the pages of its memory that are not zero.

use fault::{Fault, OrFault, Result};
use guestmem::{Block, PAGE};
use rustix::fs::SeekFrom;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::dispi::Dispi;
use super::registers::Registers;
use crate::pci::config::ConfigState;
use crate::state::STATE_UNFIT;

#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub config: ConfigState,
    pub registers: Registers,
    pub dispi: Dispi,
    pub memory: Vec<(u32, Bytes)>,
}

/// Bytes that are written down as such, not as a list of numbers.
pub(super) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// The pages that are not zero. What the guest never touched has no memory behind it, and gets none by being looked at.
pub(super) fn memory(vram: &Block) -> Vec<(u32, Bytes)> {
    let mut pages = Vec::new();
    let mut page = vec![0; PAGE as usize];
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(vram.file(), SeekFrom::Data(at)) {
        let end = rustix::fs::seek(vram.file(), SeekFrom::Hole(start)).unwrap_or(vram.len());
        for number in start / PAGE..end.min(vram.len()).div_ceil(PAGE) {
            // Inside, as cut.
            let _ = vram.read(number * PAGE, &mut page);
            if page.iter().any(|byte| *byte != 0) {
                pages.push((number as u32, Bytes(page.clone())));
            }
        }
        at = end.max(start + PAGE);
    }
    pages
}

/// Puts pages back; all others become zero.
pub(super) fn restore_memory(vram: &Block, pages: &[(u32, Bytes)]) -> Result<()> {
    let unfit = || Fault::new(STATE_UNFIT);
    vram.discard(0, vram.len()).or_fault(unfit)?;
    for (number, Bytes(bytes)) in pages {
        if bytes.len() as u64 != PAGE {
            return Err(unfit().because_of("a page of another length"));
        }
        vram.write(u64::from(*number) * PAGE, bytes).or_fault(unfit)?;
    }
    Ok(())
}
