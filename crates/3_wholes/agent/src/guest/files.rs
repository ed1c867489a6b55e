//! Files of the guest as tar streams, with the semantics that copies have in containers.

use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use unpack::tar::{Entry, Kind, Writer};
use unpack::{Options, PACK, PackOptions, Root, Steady, WRITE};

/// Standard output without Rust's own line buffer.
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the archive of what lies at a path to standard output.
///
/// # Errors
/// Those of [`unpack::pack`].
pub fn read_files(path: &Path) -> Result<()> {
    let fault = || Fault::new(PACK).arg("path", path.display());
    let metadata = std::fs::metadata(path).or_fault(fault)?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
    let mut writer = Writer::new(BufWriter::with_capacity(64 * 1024, Sink));
    if metadata.is_dir() {
        let prefix = if name.is_empty() {
            Vec::new()
        } else {
            [name, b"/".to_vec()].concat()
        };
        let options = PackOptions {
            prefix,
            ..PackOptions::default()
        };
        unpack::pack(&Root::open(path)?, &options, &mut writer)?;
    } else if metadata.is_file() {
        let file = std::fs::File::open(path).or_fault(fault)?;
        let mut entry = Entry::new(name, Kind::File, metadata.mode() & 0o7777);
        (entry.uid, entry.gid) = (metadata.uid(), metadata.gid());
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        entry.mtime = (metadata.mtime(), nanoseconds);
        let mut content = Steady::of(file, metadata.len()).or_fault(fault)?;
        entry.size = content.size();
        writer.entry(&entry, &mut content)?;
    } else {
        return Err(fault().because_of("neither file nor directory"));
    }
    let mut sink = writer.finish()?;
    sink.flush().or_fault(fault)
}

/// Unpacks the archive that comes as standard input into a directory that exists.
///
/// # Errors
/// Those of [`unpack::extract`].
pub fn write_files(path: &Path) -> Result<()> {
    let fault = || Fault::new(WRITE).arg("path", path.display());
    if !path.is_dir() {
        return Err(fault().because_of("no such directory"));
    }
    let options = Options {
        keep_directories: true,
        keep_kinds: true,
        ..Options::default()
    };
    let mut input = std::io::stdin().lock();
    let unpacked = unpack::extract(&mut input, &Root::open(path)?, options);
    // What follows the archive's end is taken, so that the host never waits for credit.
    let _ = std::io::copy(&mut input, &mut std::io::sink());
    unpacked.map(drop)
}
