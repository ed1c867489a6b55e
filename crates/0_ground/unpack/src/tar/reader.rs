//! Reads a tar archive as a stream, entry by entry.

use std::io::{self, Read};

use fault::{Fault, Result};

use super::header::{BLOCK, Header, unsigned};
use super::pax::{Pax, decimal};
use super::{Entry, Kind};
use crate::{READ, damaged};

/// Longest extended header or long name that is taken.
const LONGEST_HEADER: u64 = 1 << 20;
/// Most pieces of a sparse file.
const MOST_PIECES: usize = 1 << 20;

/// Reads the entries one after the other; the data of the current one through [`Read`].
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    /// Data of the current entry that was not read yet.
    remaining: u64,
    padding: u64,
    ended: bool,
    global: Pax,
}

impl<R: Read> Reader<R> {
    /// A reader of a stream that stands at the archive's first byte.
    pub fn new(inner: R) -> Self {
        Reader {
            inner,
            remaining: 0,
            padding: 0,
            ended: false,
            global: Pax::default(),
        }
    }

    /// The next entry, or none at the end; what was not read of the one before is skipped. Entries of kinds
    /// that no file system knows (volume labels, multi-volume parts) are passed over.
    ///
    /// # Errors
    /// [`crate::DAMAGED`] for bytes that are no tar archive, [`crate::READ`] when the stream fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut pax = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.size()?;
            match header.typeflag() {
                b'x' => {
                    let bytes = self.small(size)?;
                    pax.read(&bytes)?;
                }
                b'g' => {
                    let bytes = self.small(size)?;
                    self.global.read(&bytes)?;
                    pax.read(&bytes)?;
                }
                b'L' => long_path = Some(name(self.small(size)?)),
                b'K' => long_link = Some(name(self.small(size)?)),
                b'V' | b'M' | b'N' => self.open(size),
                _ => {
                    if let Some(path) = long_path.take() {
                        pax.path.get_or_insert(path);
                    }
                    if let Some(link) = long_link.take() {
                        pax.link.get_or_insert(link);
                    }
                    return self.entry(&header, pax).map(Some);
                }
            }
        }
    }

    fn entry(&mut self, header: &Header, pax: Pax) -> Result<Entry> {
        let stored = pax.size.map_or_else(|| header.size(), Ok)?;
        let link = || pax.link.clone().unwrap_or_else(|| header.link());
        let mut path = pax.path.clone().unwrap_or_else(|| header.path());
        let kind = match header.typeflag() {
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' => header.device().map(|(major, minor)| Kind::Char(major, minor))?,
            b'4' => header.device().map(|(major, minor)| Kind::Block(major, minor))?,
            b'5' | b'D' => Kind::Dir,
            b'6' => Kind::Fifo,
            // POSIX: unknown kinds are taken for regular files. An old ustar directory ends with a slash.
            0 | b'0' if path.ends_with(b"/") => Kind::Dir,
            _ => Kind::File,
        };
        // Only regular files have data; the size of a hard link is that of its target, of others nonsense.
        self.open(if kind == Kind::File { stored } else { 0 });
        let mut size = if kind == Kind::File { stored } else { 0 };
        let mut sparse = None;
        if kind == Kind::File {
            if header.typeflag() == b'S' && header.is_gnu() {
                let (map, real) = self.old_gnu_map(header)?;
                (sparse, size) = (Some(map), real);
            } else if pax.sparse.major == Some(1) {
                size = pax.sparse.real_size.ok_or_else(|| damaged("sparse size"))?;
                sparse = Some(self.embedded_map()?);
            } else if pax.sparse.seen {
                size = pax.sparse.real_size.ok_or_else(|| damaged("sparse size"))?;
                sparse = Some(pairs(&pax.sparse.numbers)?);
            }
            if let Some(map) = &sparse {
                check_map(map, size, self.remaining)?;
                if let Some(name) = pax.sparse.name {
                    path = name;
                }
            }
        }
        Ok(Entry {
            path,
            kind,
            mode: header.mode()?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: pax.mtime.map_or_else(|| header.mtime().map(|s| (s, 0)), Ok)?,
            size,
            xattrs: pax.xattrs,
            sparse,
        })
    }

    /// The next header block, after what is left of the current entry; none at the end of the archive: a block
    /// of zeros, or the stream's end.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let skip = self
            .remaining
            .checked_add(self.padding)
            .ok_or_else(|| damaged("size"))?;
        let skipped = io::copy(&mut (&mut self.inner).take(skip), &mut io::sink()).map_err(failed)?;
        if skipped < self.remaining {
            return Err(damaged("entry cut short"));
        }
        (self.remaining, self.padding) = (0, 0);
        let mut header = Header([0; BLOCK]);
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut header.0[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if filled == 0 || (filled == BLOCK && header.is_zero()) {
            self.ended = true;
            return Ok(None);
        }
        if filled < BLOCK {
            return Err(damaged("header cut short"));
        }
        if !header.checksum_holds() {
            return Err(damaged("checksum of a header"));
        }
        Ok(Some(header))
    }

    fn open(&mut self, size: u64) {
        self.remaining = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The whole data of a header that describes the next entry.
    fn small(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > LONGEST_HEADER {
            return Err(damaged("length of an extended header"));
        }
        self.open(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.inner.read_exact(&mut block).map_err(failed)?;
        Ok(block)
    }

    /// The map of the old GNU format: in the header and in blocks right after it.
    fn old_gnu_map(&mut self, header: &Header) -> Result<(Vec<(u64, u64)>, u64)> {
        let mut map = Vec::new();
        let mut take = |field: &[u8]| -> Result<()> {
            for piece in field.chunks_exact(24) {
                if piece[0] != 0 {
                    map.push((
                        unsigned(&piece[..12], "sparse")?,
                        unsigned(&piece[12..], "sparse")?,
                    ));
                }
            }
            Ok(())
        };
        take(&header.0[386..482])?;
        let real = unsigned(&header.0[483..495], "sparse size")?;
        let mut more = header.0[482] != 0;
        let mut blocks = 0;
        while more {
            let block = self.block()?;
            take(&block[..504])?;
            more = block[504] != 0;
            blocks += 1;
            if blocks > MOST_PIECES / 21 {
                return Err(damaged("sparse map"));
            }
        }
        Ok((map, real))
    }

    /// The map of format 1.0: decimal numbers in lines at the beginning of the data, padded to a block.
    fn embedded_map(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut expected = 1;
        let mut line = Vec::new();
        while numbers.len() < expected {
            let mut block = [0; BLOCK];
            self.read_exact(&mut block).map_err(failed)?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(damaged("sparse map"));
                    }
                    continue;
                }
                numbers.push(decimal(&line)?);
                line.clear();
                if numbers.len() == 1 {
                    let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    if count > MOST_PIECES {
                        return Err(damaged("sparse map"));
                    }
                    expected = 1 + 2 * count;
                }
                if numbers.len() == expected {
                    break;
                }
            }
        }
        pairs(&numbers[1..])
    }
}

/// The stored bytes of the current entry; those of a sparse file without its holes.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.remaining).map_or(buf.len(), |r| r.min(buf.len()));
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..most])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "tar entry cut short",
            ));
        }
        self.remaining -= n as u64;
        Ok(n)
    }
}

fn failed(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("entry cut short").because(error),
        _ => Fault::new(READ).because(error),
    }
}

/// A long name up to its zero byte.
fn name(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MOST_PIECES {
        return Err(damaged("sparse map"));
    }
    Ok(numbers.chunks_exact(2).map(|p| (p[0], p[1])).collect())
}

/// A map must ascend without overlap, end within the file, and be as long as the stored data.
fn check_map(map: &[(u64, u64)], size: u64, stored: u64) -> Result<()> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for (offset, length) in map {
        if *offset < end {
            return Err(damaged("sparse map"));
        }
        end = offset.checked_add(*length).ok_or_else(|| damaged("sparse map"))?;
        sum += length;
    }
    if end > size || sum != stored || size > i64::MAX as u64 {
        return Err(damaged("sparse map"));
    }
    Ok(())
}
