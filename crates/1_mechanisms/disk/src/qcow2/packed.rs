//! Compressed clusters: reading them, with the last one kept.

use std::fs::File;
use std::io;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::header::{Compression, read_up_to};
use super::layout::Packed;
use super::tables::corrupt;

/// Largest window that a Zstandard frame of one cluster (2 MiB) can sensibly ask for.
const MOST_WINDOW: u64 = 8 << 20;

/// The cluster that was unpacked last: a guest reads it in many small pieces.
#[derive(Default)]
pub(super) struct Last {
    of: Option<Packed>,
    bytes: Vec<u8>,
}

impl Last {
    /// The plain bytes of a compressed cluster.
    pub(super) fn unpack(
        &mut self,
        file: &File,
        packed: Packed,
        compression: Compression,
        cluster_size: u64,
    ) -> io::Result<&[u8]> {
        if self.of != Some(packed) {
            self.of = None;
            let len = usize::try_from(packed.len).map_err(io::Error::other)?;
            let mut input = vec![0; len];
            let have = read_up_to(file, &mut input, packed.offset)?;
            self.bytes = vec![0; usize::try_from(cluster_size).map_err(io::Error::other)?];
            match compression {
                Compression::Zlib => inflate(&input[..have], &mut self.bytes)?,
                Compression::Zstd => zstd(&input[..have], &mut self.bytes)?,
            }
            self.of = Some(packed);
        }
        Ok(&self.bytes)
    }
}

/// Raw deflate that fills the output; what stands behind it in the input belongs to others.
fn inflate(input: &[u8], out: &mut [u8]) -> io::Result<()> {
    let mut state = Box::new(DecompressorOxide::new());
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, n) = decompress(&mut state, input, out, 0, flags);
    let good = matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput);
    if !good || n != out.len() {
        return Err(corrupt("a compressed cluster"));
    }
    Ok(())
}

fn zstd(mut input: &[u8], out: &mut [u8]) -> io::Result<()> {
    let broken = |_| corrupt("a compressed cluster");
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MOST_WINDOW);
    decoder.init(&mut input).map_err(broken)?;
    let mut have = 0;
    while have < out.len() {
        if !decoder.is_finished() {
            decoder
                .decode_blocks(&mut input, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(broken)?;
        }
        let n = io::Read::read(&mut decoder, &mut out[have..])?;
        if n == 0 && decoder.is_finished() {
            return Err(corrupt("a compressed cluster"));
        }
        have += n;
    }
    Ok(())
}
