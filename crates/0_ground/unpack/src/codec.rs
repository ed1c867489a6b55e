//! Compression around archives: found by its first bytes, undone as a stream; and put on.

use std::io::{self, BufRead, Read, Write};

use fault::{Fault, OrFault, Result};

use crate::{COMPRESSION, READ, WRITE};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// gzip, RFC 1952.
    Gz,
    /// The xz format.
    Xz,
    /// Zstandard, RFC 8878.
    Zst,
}

impl Codec {
    /// The codec that a file name ends with: `.gz`, `.tgz`, `.xz`, `.txz`, `.zst`, `.tzst`; else plain.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name.rsplit('.').next().unwrap_or_default() {
            "gz" | "tgz" => Codec::Gz,
            "xz" | "txz" => Codec::Xz,
            "zst" | "tzst" => Codec::Zst,
            _ => Codec::Plain,
        }
    }

    /// The codec whose magic number stands at the beginning of these bytes; else plain.
    #[must_use]
    pub fn of_magic(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Codec::Gz,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Codec::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zst,
            _ => Codec::Plain,
        }
    }
}

/// A stream of the plain bytes; the codec is found by the magic number.
///
/// # Errors
/// [`crate::READ`] when the stream fails, [`crate::COMPRESSION`] when the codec is not built in.
pub fn decode<'a>(mut from: impl BufRead + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let codec = Codec::of_magic(from.fill_buf().or_fault(|| Fault::new(READ))?);
    decode_as(codec, from)
}

/// A stream of the plain bytes of this codec.
///
/// # Errors
/// [`crate::COMPRESSION`] when the codec is not built in.
pub fn decode_as<'a>(codec: Codec, from: impl BufRead + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match codec {
        Codec::Plain => Box::new(from),
        #[cfg(feature = "gz")]
        Codec::Gz => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        #[cfg(feature = "xz")]
        Codec::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(from, true, XZ_MEMORY_KIB)),
        #[cfg(feature = "zst")]
        Codec::Zst => Box::new(zst::Frames::new(from)),
        #[allow(unreachable_patterns, reason = "without all features there are other codecs")]
        other => return Err(Fault::new(COMPRESSION).arg("codec", format!("{other:?}"))),
    })
}

/// A sink that compresses what is written; finish with [`Encoder::finish`].
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Plain(W),
    #[cfg(feature = "gz")]
    Gz(flate2::write::GzEncoder<W>),
    #[cfg(feature = "zst")]
    Zst(zst::Encoder<W>),
}

impl<W: Write> Encoder<W> {
    /// A sink of this codec; xz can only be read here.
    ///
    /// # Errors
    /// [`crate::COMPRESSION`] for a codec that cannot be written.
    pub fn new(codec: Codec, sink: W) -> Result<Self> {
        Ok(Encoder(match codec {
            Codec::Plain => Inner::Plain(sink),
            #[cfg(feature = "gz")]
            Codec::Gz => Inner::Gz(flate2::write::GzEncoder::new(
                sink,
                flate2::Compression::default(),
            )),
            #[cfg(feature = "zst")]
            Codec::Zst => Inner::Zst(zst::Encoder::new(sink)),
            other => return Err(Fault::new(COMPRESSION).arg("codec", format!("{other:?}"))),
        }))
    }

    /// Writes what is still held back and gives the sink back.
    ///
    /// # Errors
    /// [`crate::WRITE`] when the sink fails.
    pub fn finish(self) -> Result<W> {
        let fault = || Fault::new(WRITE).arg("path", "archive");
        match self.0 {
            Inner::Plain(sink) => Ok(sink),
            #[cfg(feature = "gz")]
            Inner::Gz(encoder) => encoder.finish().or_fault(fault),
            #[cfg(feature = "zst")]
            Inner::Zst(encoder) => encoder.finish().or_fault(fault),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(sink) => sink.write(buf),
            #[cfg(feature = "gz")]
            Inner::Gz(encoder) => encoder.write(buf),
            #[cfg(feature = "zst")]
            Inner::Zst(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Plain(sink) => sink.flush(),
            #[cfg(feature = "gz")]
            Inner::Gz(encoder) => encoder.flush(),
            #[cfg(feature = "zst")]
            Inner::Zst(encoder) => encoder.flush(),
        }
    }
}

/// Most memory that an xz stream may ask for: the largest preset takes 64 MiB of dictionary.
#[cfg(feature = "xz")]
const XZ_MEMORY_KIB: u32 = 200 << 10;

#[cfg(feature = "zst")]
mod zst {
    //! Zstandard as streams of any number of frames.

    use std::io::{self, BufRead, Read, Write};

    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    /// Bytes of one frame that is written: frames are independent, so this also bounds the memory.
    const FRAME: usize = 8 << 20;

    /// Reads all frames of a stream, passing over skippable ones and checking each frame's checksum.
    pub(super) struct Frames<R: BufRead> {
        from: R,
        decoder: Box<FrameDecoder>,
        inside: bool,
    }

    impl<R: BufRead> Frames<R> {
        pub(super) fn new(from: R) -> Self {
            Frames {
                from,
                decoder: Box::new(FrameDecoder::new()),
                inside: false,
            }
        }

        /// Goes into the next frame; false at the end of the stream.
        fn open(&mut self) -> io::Result<bool> {
            while !self.from.fill_buf()?.is_empty() {
                match self.decoder.reset(&mut self.from) {
                    Ok(()) => {
                        self.inside = true;
                        return Ok(true);
                    }
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length,
                        ..
                    })) => {
                        io::copy(&mut (&mut self.from).take(u64::from(length)), &mut io::sink())?;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            Ok(false)
        }
    }

    impl<R: BufRead> Read for Frames<R> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            loop {
                if !self.inside && !self.open()? {
                    return Ok(0);
                }
                let decoder = &mut self.decoder;
                while decoder.can_collect() == 0 && !decoder.is_finished() {
                    decoder
                        .decode_blocks(&mut self.from, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
                let n = decoder.read(buf)?;
                if n > 0 || buf.is_empty() {
                    return Ok(n);
                }
                if let Some(stored) = decoder.get_checksum_from_data()
                    && Some(stored) != decoder.get_calculated_checksum()
                {
                    return Err(io::Error::other("checksum of a zstd frame"));
                }
                self.inside = false;
            }
        }
    }

    /// Writes frames of [`FRAME`] bytes each.
    pub(super) struct Encoder<W: Write> {
        sink: W,
        held: Vec<u8>,
        written: bool,
    }

    impl<W: Write> Encoder<W> {
        pub(super) fn new(sink: W) -> Self {
            Encoder {
                sink,
                held: Vec::with_capacity(FRAME),
                written: false,
            }
        }

        fn put(&mut self) -> io::Result<()> {
            let frame = compress_to_vec(&self.held[..], CompressionLevel::Fastest);
            self.held.clear();
            self.written = true;
            self.sink.write_all(&frame)
        }

        pub(super) fn finish(mut self) -> io::Result<W> {
            if !self.held.is_empty() || !self.written {
                self.put()?;
            }
            self.sink.flush()?;
            Ok(self.sink)
        }
    }

    impl<W: Write> Write for Encoder<W> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let n = buf.len().min(FRAME - self.held.len());
            self.held.extend_from_slice(&buf[..n]);
            if self.held.len() == FRAME {
                self.put()?;
            }
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.sink.flush()
        }
    }
}

#[cfg(all(test, feature = "gz", feature = "xz", feature = "zst"))]
#[allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        decode(bytes).unwrap().read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn what_is_compressed_reads_back() {
        let text: Vec<u8> = (0..9_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        for codec in [Codec::Plain, Codec::Gz, Codec::Zst] {
            let mut encoder = Encoder::new(codec, Vec::new()).unwrap();
            encoder.write_all(&text).unwrap();
            assert!(back(&encoder.finish().unwrap()) == text, "{codec:?}");
        }
    }

    #[test]
    fn a_broken_frame_is_an_error() {
        let mut encoder = Encoder::new(Codec::Zst, Vec::new()).unwrap();
        encoder.write_all(&[b'a'; 5000]).unwrap();
        let mut bytes = encoder.finish().unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(decode(&bytes[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic in 0..4_usize) {
            let magics: [&[u8]; 4] = [b"", &[0x1f, 0x8b, 8], &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
            let bytes = [magics[magic], &bytes].concat();
            let _ = decode(&bytes[..]).map(|mut d| d.read_to_end(&mut Vec::new()));
        }
    }
}
