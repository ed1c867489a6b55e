//! Writes a tar archive as a stream: ustar headers, with PAX records for what they cannot hold.

use std::io::{self, Read, Write};

use fault::{Fault, OrFault, Result};

use super::header::BLOCK;
use super::pax::record;
use super::{Entry, Kind};
use crate::{PACK, WRITE};

/// Largest number in the octal field of a size.
const MOST_OCTAL_SIZE: u64 = 0o77_777_777_777;
/// Largest number in the octal field of an owner.
const MOST_OCTAL_ID: u32 = 0o7_777_777;

/// Writes entries one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    /// A writer of a new archive.
    pub fn new(sink: W) -> Self {
        Writer { sink }
    }

    /// Writes an entry; `data` yields its stored bytes (for a sparse file those of the map, in order).
    ///
    /// # Errors
    /// [`crate::WRITE`] when the sink fails, [`crate::PACK`] when `data` fails or is too short.
    pub fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let map = entry.sparse.as_deref().map(map_block).unwrap_or_default();
        let stored = entry.stored() + map.len() as u64;
        let records = records(entry, stored);
        if !records.is_empty() {
            let mut header = Entry::new(b"./PaxHeaders/entry".to_vec(), Kind::File, 0o644);
            header.mtime = entry.mtime;
            self.put(&block(&header, b'x', records.len() as u64))?;
            self.put(&records)?;
            self.pad(records.len() as u64)?;
        }
        let flag = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::Char(..) => b'3',
            Kind::Block(..) => b'4',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
        };
        if entry.kind != Kind::File {
            return self.put(&block(entry, flag, 0));
        }
        self.put(&block(entry, flag, stored))?;
        self.put(&map)?;
        let length = entry.stored();
        let copied = self.copy(&mut data.take(length), &entry.path)?;
        if copied < length {
            return Err(Fault::new(PACK)
                .arg("path", String::from_utf8_lossy(&entry.path))
                .because_of("the file became shorter while it was read"));
        }
        self.pad(stored)
    }

    /// Writes the end of the archive and gives the sink back.
    ///
    /// # Errors
    /// [`crate::WRITE`].
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.sink
            .flush()
            .or_fault(|| Fault::new(WRITE).arg("path", "archive"))?;
        Ok(self.sink)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink
            .write_all(bytes)
            .or_fault(|| Fault::new(WRITE).arg("path", "archive"))
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let rest = (length % BLOCK as u64) as usize;
        match rest {
            0 => Ok(()),
            rest => self.put(&[0; BLOCK][rest..]),
        }
    }

    fn copy(&mut self, data: &mut dyn Read, path: &[u8]) -> Result<u64> {
        let mut buffer = [0; 64 << 10];
        let mut copied = 0;
        loop {
            match data.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(n) => {
                    self.put(&buffer[..n])?;
                    copied += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Fault::new(PACK)
                        .arg("path", String::from_utf8_lossy(path))
                        .because(error));
                }
            }
        }
    }
}

/// The map of a sparse file as format 1.0 puts it before the data, padded to a block.
fn map_block(map: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", map.len());
    for (offset, length) in map {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// What the ustar header cannot say.
fn records(entry: &Entry, stored: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if entry.sparse.is_some() {
        out.extend(record(b"GNU.sparse.major", b"1"));
        out.extend(record(b"GNU.sparse.minor", b"0"));
        out.extend(record(b"GNU.sparse.name", &entry.path));
        out.extend(record(b"GNU.sparse.realsize", entry.size.to_string().as_bytes()));
    }
    if entry.path.len() > 100 {
        out.extend(record(b"path", &entry.path));
    }
    if let Kind::HardLink(link) | Kind::Symlink(link) = &entry.kind
        && link.len() > 100
    {
        out.extend(record(b"linkpath", link));
    }
    if stored > MOST_OCTAL_SIZE {
        out.extend(record(b"size", stored.to_string().as_bytes()));
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > MOST_OCTAL_ID {
            out.extend(record(key, id.to_string().as_bytes()));
        }
    }
    if entry.mtime.1 != 0 || entry.mtime.0 < 0 || entry.mtime.0 as u64 > MOST_OCTAL_SIZE {
        out.extend(record(b"mtime", time(entry.mtime).as_bytes()));
    }
    for (name, value) in &entry.xattrs {
        out.extend(record(&[b"SCHILY.xattr.", &name[..]].concat(), value));
    }
    out
}

fn time((seconds, nanos): (i64, u32)) -> String {
    match (seconds, nanos) {
        (s, 0) => s.to_string(),
        (s, n) if s < 0 => {
            // -1.25 is stored as (-2, 750_000_000).
            format!("-{}.{:09}", -(s + 1), 1_000_000_000 - n)
        }
        (s, n) => format!("{s}.{n:09}"),
    }
}

/// The header block; what does not fit is cut here and stands in PAX records.
fn block(entry: &Entry, flag: u8, size: u64) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    let name = &entry.path[..entry.path.len().min(100)];
    out[..name.len()].copy_from_slice(name);
    octal(&mut out[100..108], u64::from(entry.mode & 0o7777));
    octal(&mut out[108..116], u64::from(entry.uid.min(MOST_OCTAL_ID)));
    octal(&mut out[116..124], u64::from(entry.gid.min(MOST_OCTAL_ID)));
    octal(&mut out[124..136], size.min(MOST_OCTAL_SIZE));
    octal(
        &mut out[136..148],
        (entry.mtime.0.max(0) as u64).min(MOST_OCTAL_SIZE),
    );
    out[156] = flag;
    match &entry.kind {
        Kind::HardLink(link) | Kind::Symlink(link) => {
            let link = &link[..link.len().min(100)];
            out[157..157 + link.len()].copy_from_slice(link);
        }
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            octal(&mut out[329..337], u64::from(*major));
            octal(&mut out[337..345], u64::from(*minor));
        }
        _ => {}
    }
    out[257..265].copy_from_slice(b"ustar\x0000");
    out[148..156].copy_from_slice(b"        ");
    let sum: u64 = out.iter().map(|b| u64::from(*b)).sum();
    octal(&mut out[148..155], sum);
    out
}

/// Zero-padded octal digits and a final zero byte.
fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use proptest::prelude::*;

    fn round(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
        let mut writer = Writer::new(Vec::new());
        writer.entry(entry, &mut &data[..]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = Reader::new(&bytes[..]);
        let back = reader.next_entry().unwrap().unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        (back, read)
    }

    #[test]
    fn long_names_big_owners_and_attributes_survive() {
        let mut entry = Entry::new(vec![b'n'; 300], Kind::Symlink(vec![b't'; 250]), 0o777);
        entry.uid = 3_000_000;
        entry.mtime = (-2, 750_000_000);
        entry.xattrs = vec![(b"user.x".to_vec(), vec![0, b'\n', 255])];
        assert_eq!(round(&entry, b"").0, entry);
    }

    #[test]
    fn sparse_files_survive() {
        let mut entry = Entry::new(b"hole".to_vec(), Kind::File, 0o600);
        entry.size = 1 << 40;
        entry.sparse = Some(vec![(4096, 5), (1 << 30, 3), (1 << 40, 0)]);
        let (back, data) = round(&entry, b"helloxyz");
        assert_eq!(back, entry);
        assert_eq!(data, b"helloxyz");
    }

    #[test]
    fn a_file_that_became_shorter_is_told() {
        let mut entry = Entry::new(b"f".to_vec(), Kind::File, 0o600);
        entry.size = 10;
        let mut writer = Writer::new(Vec::new());
        assert!(writer.entry(&entry, &mut &b"short"[..]).unwrap_err().is(PACK));
    }

    proptest! {
        #[test]
        fn entries_read_back_as_written(
            path in "[a-z./]{1,150}[a-z]", mode in 0..0o10000_u32, uid: u32, gid: u32, seconds: i32, nanos in 0..1_000_000_000_u32,
            data in proptest::collection::vec(any::<u8>(), 0..1500),
        ) {
            let mut entry = Entry::new(path.into_bytes(), Kind::File, mode);
            (entry.uid, entry.gid) = (uid, gid);
            entry.mtime = (i64::from(seconds), nanos);
            entry.size = data.len() as u64;
            let (back, read) = round(&entry, &data);
            prop_assert_eq!(back, entry);
            prop_assert_eq!(read, data);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(flag: u8, noise in proptest::collection::vec(any::<u8>(), 0..2000), at in 0..512_usize, byte: u8) {
            let mut entry = Entry::new(b"x".to_vec(), Kind::File, 0);
            entry.size = noise.len() as u64;
            let mut header = super::block(&entry, flag, entry.size);
            header[at] = byte;
            header[148..156].copy_from_slice(b"        ");
            let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
            super::octal(&mut header[148..155], sum);
            let bytes = [&header[..], &noise].concat();
            let mut reader = Reader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_entry() {}
        }
    }
}
