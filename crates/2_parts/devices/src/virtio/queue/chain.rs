//! A chain of buffers: what the driver lets the device read, then what the device may write.

use guestmem::{Block, Memory};
use serde::{Deserialize, Serialize};

use super::{Broken, MOST_SEGMENTS, Token};

/// A piece of guest memory, checked to lie in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Where it begins in the RAM's block.
    pub offset: u64,
    /// Its length in bytes, never 0.
    pub len: u32,
}

/// One request. Kept and filled again and again, so that nothing is allocated for a request. One that is under way is saved whole:
/// in a packed ring its descriptors may be gone already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub(super) token: Token,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    /// Descriptors met, those of no length too.
    met: usize,
}

impl Chain {
    pub(super) fn begin(&mut self, token: Token) {
        self.token = token;
        self.readable.clear();
        self.writable.clear();
        self.met = 0;
    }

    pub(super) fn add(
        &mut self,
        memory: &Memory,
        address: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), Broken> {
        self.met += 1;
        if self.met > MOST_SEGMENTS {
            return Err(Broken::TooLong);
        }
        if !writable && !self.writable.is_empty() {
            return Err(Broken::Order);
        }
        if len != 0 {
            let offset = memory
                .offset(address, u64::from(len))
                .map_err(|_| Broken::Address)?;
            let side = if writable {
                &mut self.writable
            } else {
                &mut self.readable
            };
            side.push(Segment { offset, len });
        }
        Ok(())
    }

    /// Whether all of it lies in a block; for a chain that was saved.
    pub(super) fn is_inside(&self, block: &Block) -> bool {
        let mut segments = self.readable.iter().chain(&self.writable);
        segments.all(|segment| block.host(segment.offset, u64::from(segment.len)).is_ok())
            && self.met <= MOST_SEGMENTS
    }

    /// By what the queue knows it.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// What the device may read.
    #[must_use]
    pub fn readable(&self) -> &[Segment] {
        &self.readable
    }

    /// What the device may write.
    #[must_use]
    pub fn writable(&self) -> &[Segment] {
        &self.writable
    }

    /// Bytes to read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        length(&self.readable)
    }

    /// Bytes to write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        length(&self.writable)
    }

    /// Reads what is readable from its beginning.
    #[must_use]
    pub fn reader<'a>(&'a self, block: &'a Block) -> Reader<'a> {
        Reader(Cursor::new(&self.readable, block))
    }

    /// Writes what is writable from its beginning.
    #[must_use]
    pub fn writer<'a>(&'a self, block: &'a Block) -> Writer<'a> {
        Writer {
            cursor: Cursor::new(&self.writable, block),
            written: 0,
        }
    }
}

/// Bytes in all segments.
fn length(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.len)).sum()
}

/// A place in segments.
struct Cursor<'a> {
    segments: &'a [Segment],
    inside: u32,
    block: &'a Block,
}

impl<'a> Cursor<'a> {
    fn new(segments: &'a [Segment], block: &'a Block) -> Self {
        Cursor {
            segments,
            inside: 0,
            block,
        }
    }

    fn left(&self) -> u64 {
        length(self.segments) - u64::from(self.inside)
    }

    /// The next piece of at most `most` bytes; moves on behind it.
    fn piece(&mut self, most: usize) -> Option<Segment> {
        let first = self.segments.first()?;
        let rest = first.len - self.inside;
        let len = rest.min(u32::try_from(most).unwrap_or(u32::MAX));
        let piece = Segment {
            offset: first.offset + u64::from(self.inside),
            len,
        };
        if len == rest {
            self.segments = &self.segments[1..];
            self.inside = 0;
        } else {
            self.inside += len;
        }
        Some(piece)
    }

    fn skip(&mut self, mut bytes: u64) {
        while bytes > 0 {
            let Some(piece) = self.piece(usize::try_from(bytes).unwrap_or(usize::MAX)) else {
                return;
            };
            bytes -= u64::from(piece.len);
        }
    }
}

/// Reads the readable buffers of a chain, one after the other.
pub struct Reader<'a>(Cursor<'a>);

impl Reader<'_> {
    /// Bytes not yet read.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.left()
    }

    /// Reads as much as there is of the buffer's length; tells how much.
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some(piece) = self.0.piece(bytes.len() - done) else {
                break;
            };
            let target = &mut bytes[done..done + piece.len as usize];
            self.0
                .block
                .read(piece.offset, target)
                .expect("segments are checked when they are added");
            done += piece.len as usize;
        }
        done
    }

    /// Reads an array, if so much is left.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read(&mut bytes) == N).then_some(bytes)
    }

    /// Goes on behind so many bytes.
    pub fn skip(&mut self, bytes: u64) {
        self.0.skip(bytes);
    }

    /// The next piece of memory of at most `most` bytes.
    pub fn piece(&mut self, most: usize) -> Option<Segment> {
        self.0.piece(most)
    }
}

/// Writes the writable buffers of a chain, one after the other.
pub struct Writer<'a> {
    cursor: Cursor<'a>,
    written: u32,
}

impl Writer<'_> {
    /// Bytes not yet written.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.cursor.left()
    }

    /// Bytes written so far: what [`super::Queue::push`] wants to know.
    #[must_use]
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Writes as many of the bytes as there is room for; tells how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some(piece) = self.cursor.piece(bytes.len() - done) else {
                break;
            };
            let source = &bytes[done..done + piece.len as usize];
            self.cursor
                .block
                .write(piece.offset, source)
                .expect("segments are checked when they are added");
            done += piece.len as usize;
        }
        self.written = self.written.saturating_add(done as u32);
        done
    }

    /// Goes on behind so many bytes, which somebody else writes.
    pub fn skip(&mut self, bytes: u64) {
        self.cursor.skip(bytes);
        self.written = self
            .written
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}
