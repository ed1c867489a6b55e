//! Initial RAM disks: archives put behind one another, and cpio of the "newc" kind written and read.
//!
//! Documentation/driver-api/early-userspace/buffer-format.rst: an initrd is any number of archives, compressed or
//! not, with zeros between them, and each plain one begins at a multiple of four.

use std::borrow::Cow;

use fault::{Fault, Result};

use crate::faults::CPIO_DAMAGED;

const MAGIC: &[u8] = b"070701";
/// The same with a checksum of the contents, which is not looked at here.
const MAGIC_SUMMED: &[u8] = b"070702";
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest name, with its NUL, as the kernel reads (`PATH_MAX`).
const MOST_NAME: usize = 4096;

/// Bits of a mode that say what an entry is.
pub const TYPE_MASK: u32 = 0o170_000;
/// Mode of a directory, without permissions.
pub const DIRECTORY: u32 = 0o040_000;
/// Mode of a regular file, without permissions.
pub const REGULAR: u32 = 0o100_000;
/// Mode of a symbolic link; its contents are its target.
pub const SYMLINK: u32 = 0o120_000;

/// One entry of a cpio archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Path without a slash in front.
    pub path: Cow<'a, [u8]>,
    /// Type and permissions.
    pub mode: u32,
    /// Contents of a file, target of a symbolic link.
    pub bytes: Cow<'a, [u8]>,
}

/// The archives, with zeros after each that does not end at a multiple of four.
#[must_use]
pub fn align<'a>(archives: &[&'a [u8]]) -> Vec<Cow<'a, [u8]>> {
    let mut parts = Vec::new();
    for archive in archives {
        parts.push(Cow::Borrowed(*archive));
        match archive.len() % 4 {
            0 => {}
            over => parts.push(Cow::Owned(vec![0; 4 - over])),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// An archive of (path, mode, contents), everything owned by root and without times; directories must come before
/// what lies in them. A mode without a type is a regular file's.
///
/// # Errors
///
/// [`CPIO_DAMAGED`] for a path or contents that the format has no room for.
pub fn cpio(entries: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (index, (path, mode, bytes)) in entries.iter().enumerate() {
        let mode = if mode & TYPE_MASK == 0 {
            mode | REGULAR
        } else {
            *mode
        };
        let path = path.trim_start_matches('/').as_bytes();
        if path.is_empty() || path.len() >= MOST_NAME || path.contains(&0) || path == TRAILER {
            return Err(damaged("a path that cannot be stored"));
        }
        write(&mut archive, index as u32 + 1, mode, path, bytes)?;
    }
    write(&mut archive, 0, 0, TRAILER, &[])?;
    Ok(archive)
}

fn write(archive: &mut Vec<u8>, inode: u32, mode: u32, path: &[u8], bytes: &[u8]) -> Result<()> {
    let size = u32::try_from(bytes.len()).map_err(|_| damaged("a file of 4 GiB or more"))?;
    let links = if mode & TYPE_MASK == DIRECTORY { 2 } else { 1 };
    let name_size = path.len() as u32 + 1;
    archive.extend_from_slice(MAGIC);
    for field in [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(path);
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

/// Reads the plain cpio archive at the beginning of an initrd: its entries and the bytes behind it, without the
/// zeros between.
///
/// # Errors
///
/// [`CPIO_DAMAGED`].
pub fn read(archive: &[u8]) -> Result<(Vec<Entry<'_>>, &[u8])> {
    let mut entries = Vec::new();
    let mut at = 0_usize;
    loop {
        let header = slice(archive, at, HEADER)?;
        if !header.starts_with(MAGIC) && !header.starts_with(MAGIC_SUMMED) {
            return Err(damaged("an entry without its magic number"));
        }
        let mode = field(header, 1)?;
        let size = field(header, 6)? as usize;
        let name_size = field(header, 11)? as usize;
        if name_size == 0 || name_size > MOST_NAME {
            return Err(damaged("a name of an impossible length"));
        }
        let name = slice(archive, at + HEADER, name_size)?;
        let (Some(0), path) = (name.last(), &name[..name_size - 1]) else {
            return Err(damaged("a name without its end"));
        };
        let start = (at + HEADER + name_size).next_multiple_of(4);
        let bytes = slice(archive, start, size)?;
        at = (start + size).next_multiple_of(4);
        if path == TRAILER {
            let rest = archive.get(at..).unwrap_or_default();
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            return Ok((entries, &rest[zeros..]));
        }
        entries.push(Entry {
            path: path.into(),
            mode,
            bytes: bytes.into(),
        });
    }
}

fn slice(archive: &[u8], start: usize, length: usize) -> Result<&[u8]> {
    let end = start.saturating_add(length);
    archive.get(start..end).ok_or_else(|| damaged("it ends early"))
}

/// One of the thirteen numbers of eight hexadecimal digits after the magic number.
fn field(header: &[u8], index: usize) -> Result<u32> {
    let digits = &header[6 + index * 8..14 + index * 8];
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16);
        digit
            .map(|digit| (value << 4) | digit)
            .ok_or_else(|| damaged("a number that is none"))
    })
}

fn damaged(what: &str) -> Fault {
    Fault::new(CPIO_DAMAGED).arg("what", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn archives_are_padded_to_multiples_of_four() {
        let parts = align(&[b"12345", b"", b"1234", b"1"]);
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [5, 3, 4, 1, 3]);
    }

    #[test]
    fn what_follows_an_archive_is_handed_back() {
        let mut archive = cpio(&[("bin", DIRECTORY | 0o755, b""), ("bin/init", 0o755, b"#!")]).unwrap();
        archive.extend_from_slice(b"\0\0\0\0\0\0\0\0\x1F\x8Bmore");
        let (entries, rest) = read(&archive).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1].mode, REGULAR | 0o755);
        assert_eq!(rest, b"\x1F\x8Bmore");
    }

    #[test]
    fn cpio_itself_lists_what_was_written() {
        let archive = cpio(&[("etc", DIRECTORY | 0o755, b""), ("etc/a b", 0o644, b"hello")]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.cpio");
        std::fs::write(&file, archive).unwrap();
        let Ok(output) = std::process::Command::new("cpio")
            .args(["-it", "--quiet", "-F"])
            .arg(&file)
            .output()
        else {
            eprintln!("skipped: there is no cpio here");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "etc\netc/a b\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(files in prop::collection::vec(("[a-z/]{1,20}", any::<u16>(), prop::collection::vec(any::<u8>(), 0..50)), 0..8)) {
            let files: Vec<_> = files.into_iter().filter(|(path, ..)| !path.trim_start_matches('/').is_empty()).collect();
            let given: Vec<_> = files.iter().map(|(path, mode, bytes)| (path.as_str(), u32::from(*mode) | REGULAR, bytes.as_slice())).collect();
            let archive = cpio(&given).unwrap();
            let (entries, rest) = read(&archive).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(entries.len(), given.len());
            for (entry, (path, mode, bytes)) in entries.iter().zip(given) {
                prop_assert_eq!(&*entry.path, path.trim_start_matches('/').as_bytes());
                prop_assert_eq!(entry.mode, mode);
                prop_assert_eq!(&*entry.bytes, bytes);
            }
        }

        #[test]
        fn damaged_archives_are_refused_and_never_panic(at in 0_usize..400, byte in any::<u8>(), length in 0_usize..400) {
            let mut archive = cpio(&[("a", 0o644, b"hello"), ("b/c", 0o755, &[7; 40])]).unwrap();
            let at = at % archive.len();
            archive[at] = byte;
            archive.truncate(length);
            let _ = read(&archive);
        }
    }
}
