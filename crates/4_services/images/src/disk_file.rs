//! Disk files among images: told from archives by their first bytes, copied sparsely, named by their content.
//!
//! Nothing but a few fixed places of a file is looked at here, so this needs no worker; what is in a disk is read by
//! the machine that it belongs to, confined.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::Format;
use fault::{Fault, Result};
use model::{Progress, Watcher};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codes;
use crate::fetch::hex;
use crate::tree::At;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// Zeroes of this many bytes become holes.
const GRAIN: usize = 64 << 10;
/// Where the first volume descriptor of a CD-ROM has its mark (ECMA-119, section 8.1).
const CDROM: u64 = 0x8001;
/// Where the superblock of ext2, ext3 and ext4 has its magic number.
const EXT: u64 = 1024 + 56;

/// What is known of a disk file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Its format, settled once.
    pub format: Format,
    /// Bytes of the disk as a machine sees it.
    pub size: u64,
}

/// The shape of a disk file; none for a file that is something else, an archive for example.
///
/// # Errors
/// [`codes::IO`], [`codes::IS_CDROM`], [`disk::FOREIGN`], [`disk::BACKING`].
pub(crate) fn recognise(path: &Path) -> Result<Option<Shape>> {
    let file = File::open(path).at(path)?;
    let length = file.metadata().at(path)?.len();
    let format = disk::detect(&file)?;
    if format == Format::Qcow2 {
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0).at(path)?;
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        // qcow2.txt, "Header": offset of the backing file's name at 8, virtual size at 24.
        if word(8) != 0 {
            return Err(Fault::new(disk::BACKING).arg("path", path.display()));
        }
        return Ok(Some(Shape {
            format,
            size: word(24),
        }));
    }
    let mut start = [0; 1024];
    let have = read_up_to(&file, &mut start, 0).at(path)?;
    if have < start.len() || is_archive(&start) {
        return Ok(None);
    }
    let mut mark = [0; 5];
    if read_up_to(&file, &mut mark, CDROM).at(path)? == mark.len() && &mark == b"CD001" {
        return Err(Fault::new(codes::IS_CDROM).arg("path", path.display()));
    }
    let mut magic = [0; 2];
    let is_ext = read_up_to(&file, &mut magic, EXT).at(path)? == 2 && magic == [0x53, 0xef];
    Ok((is_ext || has_table(&start)).then_some(Shape { format, size: length }))
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Whether a file begins as a tar archive or as what packs one.
fn is_archive(start: &[u8; 1024]) -> bool {
    let packed: [&[u8]; 5] = [
        b"\x1f\x8b",
        b"\x28\xb5\x2f\xfd",
        b"\xfd7zXZ\0",
        b"BZh",
        b"\x04\x22\x4d\x18",
    ];
    packed.iter().any(|magic| start.starts_with(magic)) || &start[257..262] == b"ustar"
}

/// Whether the first two sectors hold a partition table: a master boot record with at least one entry, or a GPT.
fn has_table(start: &[u8; 1024]) -> bool {
    let signed = start[510..512] == [0x55, 0xaa];
    let entries = || start[446..510].chunks_exact(16);
    let plausible = entries().all(|entry| matches!(entry[0], 0 | 0x80));
    let used = entries().any(|entry| entry[4] != 0 && entry[12..16] != [0; 4]);
    &start[512..520] == b"EFI PART" || (signed && plausible && used)
}

/// Copies a disk file into an empty one: by sharing its blocks where the file system can, else what is not zero.
pub(crate) fn copy(from: &File, to: &File, path: &Path, watcher: &dyn Watcher) -> Result<()> {
    let length = from.metadata().at(path)?.len();
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    to.set_len(length).at(path)?;
    each_block(from, length, path, watcher, "step-copy", &mut |block, offset| {
        to.write_all_at(block, offset)
    })
}

/// The digest of a disk: SHA-256 over its shape and all its blocks that are not zero, so that holes make no difference.
pub(crate) fn digest(file: &File, shape: Shape, path: &Path, watcher: &dyn Watcher) -> Result<String> {
    let length = file.metadata().at(path)?.len();
    let mut hasher = Sha256::new();
    hasher.update(format!("disk {:?} {} {length}\n", shape.format, shape.size));
    each_block(
        file,
        length,
        path,
        watcher,
        "step-digest",
        &mut |block, offset| {
            hasher.update(offset.to_le_bytes());
            hasher.update(block);
            Ok(())
        },
    )?;
    Ok(hex(&hasher.finalize()))
}

/// Calls `work` with every block that is not zero, in order, and its offset.
fn each_block(
    file: &File,
    length: u64,
    path: &Path,
    watcher: &dyn Watcher,
    step: &str,
    work: &mut dyn FnMut(&[u8], u64) -> io::Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some(data) = next_data(file, at).at(path)?.filter(|data| *data < length) {
        if watcher.is_cancelled() {
            return Err(Fault::new(model::CANCELLED));
        }
        // Holes need not keep to our blocks.
        at = data - data % GRAIN as u64;
        let have = read_up_to(file, &mut buffer, at).at(path)?;
        if have == 0 {
            break;
        }
        for (block, number) in buffer[..have].chunks(GRAIN).zip(0..) {
            if block.iter().any(|byte| *byte != 0) {
                work(block, at + number * GRAIN as u64).at(path)?;
            }
        }
        at += have as u64;
        watcher.progress(Progress {
            step: step.to_owned(),
            done: at,
            total: length,
            unit: "bytes".to_owned(),
            ..Progress::default()
        });
    }
    Ok(())
}

/// Where data begins at or after an offset; none when only a hole follows.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // A file system without holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Unwatched;
    use std::os::unix::fs::MetadataExt;

    fn file(bytes: &[(u64, &[u8])], length: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        for (offset, bytes) in bytes {
            file.as_file().write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    /// An active partition of type 0x83 from sector 2048 on, and the signature.
    const MBR: [(u64, &[u8]); 2] = [
        (446, &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]),
        (510, &[0x55, 0xaa]),
    ];

    #[test]
    fn disks_are_known_by_their_tables_and_file_systems() {
        let length = 4 << 20;
        for bytes in [&MBR[..], &[(512, b"EFI PART")], &[(EXT, &[0x53, 0xef])]] {
            let file = file(bytes, length);
            let shape = recognise(file.path()).unwrap();
            let raw = Shape {
                format: Format::Raw,
                size: length,
            };
            assert_eq!(shape, Some(raw), "{bytes:?}");
        }
    }

    #[test]
    fn archives_and_other_files_are_no_disks() {
        let gzip_with_a_signature = [(0, &b"\x1f\x8b"[..]), MBR[0], MBR[1]];
        let tar = [(257, &b"ustar"[..]), (EXT, &[0x53, 0xef])];
        let boot_sector_without_partitions = [MBR[1]];
        for bytes in [
            &gzip_with_a_signature[..],
            &tar,
            &boot_sector_without_partitions,
            &[],
        ] {
            assert_eq!(recognise(file(bytes, 1 << 20).path()).unwrap(), None, "{bytes:?}");
        }
        assert_eq!(recognise(file(&MBR, 600).path()).unwrap(), None, "too short");
    }

    #[test]
    fn a_cd_rom_is_named_even_when_it_has_a_partition_table_too() {
        let hybrid = [MBR[0], MBR[1], (CDROM, b"CD001")];
        let fault = recognise(file(&hybrid, 1 << 20).path()).unwrap_err();
        assert!(fault.is(codes::IS_CDROM), "{fault}");
    }

    #[test]
    fn a_qcow2_image_tells_its_size_and_may_stand_on_no_other() {
        let header = [(0, &b"QFI\xfb\0\0\0\x03"[..]), (24, &[0, 0, 0, 1, 0, 0, 0, 0])];
        let shape = recognise(file(&header, 64 << 10).path()).unwrap().unwrap();
        assert_eq!((shape.format, shape.size), (Format::Qcow2, 1 << 32));
        let backed = [header[0], (8, &[0, 0, 0, 0, 0, 0, 1, 0]), header[1]];
        let fault = recognise(file(&backed, 64 << 10).path()).unwrap_err();
        assert!(fault.is(disk::BACKING), "{fault}");
    }

    #[test]
    fn a_copy_is_equal_and_sparse_and_has_the_same_digest_as_a_file_without_holes() {
        let length = 40 << 20;
        let bytes = [(0, &[1; 100][..]), (5 << 20, &[2; 70_000]), (length - 1, &[3])];
        let sparse = file(&bytes, length);
        let full = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(full.path(), std::fs::read(sparse.path()).unwrap()).unwrap();
        let to = tempfile::NamedTempFile::new().unwrap();
        copy(full.as_file(), to.as_file(), to.path(), &Unwatched).unwrap();
        assert_eq!(
            std::fs::read(to.path()).unwrap(),
            std::fs::read(full.path()).unwrap()
        );
        assert!(to.as_file().metadata().unwrap().blocks() * 512 < 1 << 20);
        let shape = Shape {
            format: Format::Raw,
            size: length,
        };
        let digest = |file: &tempfile::NamedTempFile| digest(file.as_file(), shape, file.path(), &Unwatched);
        assert_eq!(digest(&sparse).unwrap(), digest(&full).unwrap());
        full.as_file().write_all_at(&[9], 7 << 20).unwrap();
        assert_ne!(digest(&sparse).unwrap(), digest(&full).unwrap());
    }
}
