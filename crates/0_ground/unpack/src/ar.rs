//! The ar archive (the outer layer of a .deb), read as a stream; deb(5), ar(5).

use std::io::{self, Read};

use fault::{Fault, OrFault, Result};

use crate::{READ, damaged};

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, without the padding and without the slash that System V tools append.
    pub name: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
}

/// Reads the members one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    remaining: u64,
    padding: bool,
    begun: bool,
}

impl<R: Read> Reader<R> {
    /// A reader of a stream that stands at the archive's first byte.
    pub fn new(inner: R) -> Self {
        Reader {
            inner,
            remaining: 0,
            padding: false,
            begun: false,
        }
    }

    /// The next member, or none at the end; what was not read of the one before is skipped.
    ///
    /// # Errors
    /// [`crate::DAMAGED`] when the bytes are no ar archive, [`crate::READ`] when the stream fails.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        if !self.begun {
            let mut magic = [0; 8];
            fill(&mut self.inner, &mut magic)?;
            if &magic != b"!<arch>\n" {
                return Err(damaged("ar magic"));
            }
            self.begun = true;
        }
        let skip = self.remaining + u64::from(self.padding);
        let skipped =
            io::copy(&mut (&mut self.inner).take(skip), &mut io::sink()).or_fault(|| Fault::new(READ))?;
        if skipped < self.remaining {
            return Err(damaged("ar member cut short"));
        }
        let mut header = [0; 60];
        match first_byte(&mut self.inner)? {
            None => return Ok(None),
            Some(byte) => header[0] = byte,
        }
        fill(&mut self.inner, &mut header[1..])?;
        if &header[58..] != b"`\n" {
            return Err(damaged("ar header"));
        }
        let name = header[..16].trim_ascii_end();
        let name = name.strip_suffix(b"/").unwrap_or(name).to_vec();
        let digits = header[48..58].trim_ascii();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|d| d.parse::<u64>().ok())
            .ok_or_else(|| damaged("ar size"))?;
        self.remaining = size;
        self.padding = size % 2 == 1;
        Ok(Some(Member { name, size }))
    }
}

/// The bytes of the current member.
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
                "ar member cut short",
            ));
        }
        self.remaining -= n as u64;
        Ok(n)
    }
}

fn first_byte(from: &mut impl Read) -> Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::new(READ).because(error)),
        }
    }
}

fn fill(from: &mut impl Read, buf: &mut [u8]) -> Result<()> {
    from.read_exact(buf).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("ar header cut short"),
        _ => Fault::new(READ).because(error),
    })
}

/// Writes a whole archive from members in memory; for test archives and small packages.
///
/// # Errors
/// [`crate::WRITE`] when the sink fails.
pub fn write(sink: &mut impl io::Write, members: &[(&str, &[u8])]) -> Result<()> {
    let mut put = |bytes: &[u8]| {
        sink.write_all(bytes)
            .or_fault(|| Fault::new(crate::WRITE).arg("path", "ar"))
    };
    put(b"!<arch>\n")?;
    for (name, data) in members {
        put(format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            "100644",
            data.len()
        )
        .as_bytes())?;
        put(data)?;
        if data.len() % 2 == 1 {
            put(b"\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_read_back_as_written_also_when_skipped() {
        let mut bytes = Vec::new();
        write(
            &mut bytes,
            &[("debian-binary", b"2.0\n"), ("odd", b"abc"), ("last", b"xy")],
        )
        .unwrap();
        let mut reader = Reader::new(&bytes[..]);
        assert_eq!(reader.next_member().unwrap().unwrap().name, b"debian-binary");
        assert_eq!(reader.next_member().unwrap().unwrap().size, 3);
        let last = reader.next_member().unwrap().unwrap();
        assert_eq!(last.name, b"last");
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        assert_eq!(data, b"xy");
        assert!(reader.next_member().unwrap().is_none());
    }

    #[test]
    fn a_member_cut_short_is_told() {
        let mut bytes = Vec::new();
        write(&mut bytes, &[("data.tar", &[7; 100])]).unwrap();
        let mut reader = Reader::new(&bytes[..bytes.len() - 20]);
        reader.next_member().unwrap();
        assert!(reader.next_member().unwrap_err().is(crate::DAMAGED));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
            if magic {
                bytes.splice(0..0, *b"!<arch>\n");
            }
            let mut reader = Reader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_member() {}
        }
    }
}
