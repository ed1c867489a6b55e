//! Reading LZ4's legacy frames, as the kernel's build and initramfs-tools write them (`lz4 -l`).
//!
//! Follows lz4's `doc/lz4_Block_format.md`; a frame is blocks of up to 8 MiB of plain bytes, each behind its length.

use std::io::{self, Read};

/// First bytes of a frame.
pub(super) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Plain bytes of a block.
const BLOCK: usize = 8 << 20;

/// A stream of the plain bytes.
pub(super) struct Frames<R> {
    from: R,
    plain: Vec<u8>,
    at: usize,
}

impl<R: Read> Frames<R> {
    /// From a stream that begins with a frame.
    pub(super) fn new(from: R) -> Self {
        Frames {
            from,
            plain: Vec::new(),
            at: 0,
        }
    }

    /// Unpacks the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut len = [0; 4];
        loop {
            match self.from.read_exact(&mut len) {
                Ok(()) if len == MAGIC => {}
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let len = u64::from(u32::from_le_bytes(len));
        // The most that a block of bytes without any repetition takes.
        if len == 0 || len > (BLOCK + BLOCK / 255 + 16) as u64 {
            return Ok(false);
        }
        let mut packed = Vec::new();
        (&mut self.from).take(len).read_to_end(&mut packed)?;
        self.plain.clear();
        self.at = 0;
        unpack(&packed, &mut self.plain).ok_or_else(|| io::Error::other("a damaged lz4 block"))?;
        Ok(true)
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let n = buf.len().min(self.plain.len() - self.at);
        buf[..n].copy_from_slice(&self.plain[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Unpacks a block: literals and copies of what is already there, in turns.
fn unpack(mut packed: &[u8], plain: &mut Vec<u8>) -> Option<()> {
    while let Some(token) = take(&mut packed) {
        let literals = length(&mut packed, token >> 4)?;
        plain.extend(packed.get(..literals)?);
        packed = &packed[literals..];
        if packed.is_empty() {
            break;
        }
        let distance = usize::from(u16::from_le_bytes([take(&mut packed)?, take(&mut packed)?]));
        let len = length(&mut packed, token & 15)? + 4;
        let start = plain.len().checked_sub(distance).filter(|_| distance > 0)?;
        if plain.len() + len > BLOCK {
            return None;
        }
        for at in start..start + len {
            plain.push(plain[at]);
        }
    }
    (plain.len() <= BLOCK).then_some(())
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// A length of four bits that more bytes may add to.
fn length(bytes: &mut &[u8], nibble: u8) -> Option<usize> {
    let mut len = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = take(bytes)?;
            len += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_reads_back() {
        // "abc", then 20 more of it, then "END": 3 literals, copy of 20 from 3 back, 3 literals.
        let block = [0x3f, b'a', b'b', b'c', 3, 0, 1, 0x30, b'E', b'N', b'D'];
        let mut frame = MAGIC.to_vec();
        frame.extend((block.len() as u32).to_le_bytes());
        frame.extend(block);
        let mut plain = String::new();
        Frames::new(&frame[..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, format!("{}abEND", "abc".repeat(7)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes, &mut Vec::new());
            let mut frame = MAGIC.to_vec();
            frame.extend(bytes);
            let _ = Frames::new(&frame[..]).read_to_end(&mut Vec::new());
        }
    }
}
