//! Copying between host and guest: a process inside, which holds one end of a stream and nothing of the host, reads or
//! writes a tar archive. No path of the guest is ever looked at from outside.

use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use engine::protocol::FileJob;
use fault::{Fault, OrFault, Result};
use jail::Stdio;
use unpack::tar::{Entry, Kind, Writer};
use unpack::{Options, PACK, PackOptions, Root, Steady, WRITE};

use super::loops::Server;
use super::reactor::{Interest, Token};
use super::set_up;
use crate::process::exit_of;

impl Server {
    /// Starts a process that copies; the client's end of its stream.
    pub fn copy(&mut self, job: &FileJob) -> Result<OwnedFd> {
        let fault = || set_up("a process that copies");
        let (ours, theirs) = UnixStream::pair().or_fault(fault)?;
        if let Some(ids) = self.guest.jailed().plan().ids {
            crate::pty::own(&theirs, ids.base, ids.base).or_fault(fault)?;
        }
        let stdio = Stdio {
            stdin: theirs.try_clone().or_fault(fault)?.into(),
            stdout: theirs.into(),
            stderr: std::fs::File::options()
                .write(true)
                .open("/dev/null")
                .or_fault(fault)?
                .into(),
        };
        let pidfd = self.guest.copy(job, stdio)?;
        let number = self.number();
        self.reactor
            .add(&pidfd, Token::Copy(number), Interest::Read)
            .or_fault(fault)?;
        self.copies.insert(number, pidfd);
        Ok(ours.into())
    }

    /// It has ended.
    pub fn copy_ended(&mut self, number: u32) {
        let Some(pidfd) = self.copies.get(&number) else {
            return;
        };
        if exit_of(pidfd.as_fd()).is_none() {
            return;
        }
        self.reactor.remove(pidfd);
        self.copies.remove(&number);
        self.start_when_idle();
    }
}

/// The work of [`crate::Guest::copy`], done inside. Standard input and output are the stream. Returns an exit code.
#[must_use]
pub fn work(job: &FileJob) -> i32 {
    let done = match job {
        FileJob::Read { path } => read(Path::new(path)),
        FileJob::Write { path } => write(Path::new(path)).map(|()| say(b"done")),
    };
    if let Err(fault) = done {
        say(&serde_json::to_vec(&fault).unwrap_or_default());
        return 1;
    }
    0
}

fn say(bytes: &[u8]) {
    let mut out = std::io::stdout();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Standard output without Rust's own line buffer; remembers whether anything went out.
struct Sink(bool);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = true;
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the archive of what lies at a path. A fault counts only while nothing has been sent: later the missing end
/// mark tells that the archive is not whole.
fn read(path: &Path) -> Result<()> {
    let mut sink = Sink(false);
    let packed = pack(path, BufWriter::with_capacity(64 * 1024, &mut sink));
    match packed {
        Err(fault) if !sink.0 => Err(fault),
        _ => Ok(()),
    }
}

fn pack(path: &Path, sink: impl Write) -> Result<()> {
    let fault = || Fault::new(PACK).arg("path", path.display());
    let metadata = std::fs::metadata(path).or_fault(fault)?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
    let mut writer = Writer::new(sink);
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
        entry.uid = metadata.uid();
        entry.gid = metadata.gid();
        entry.mtime = (
            metadata.mtime(),
            u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        );
        let mut content = Steady::of(file, metadata.len()).or_fault(fault)?;
        entry.size = content.size();
        writer.entry(&entry, &mut content)?;
    } else {
        return Err(fault().because_of("neither file nor directory"));
    }
    let mut sink = writer.finish()?;
    sink.flush().or_fault(fault)
}

/// Unpacks the archive that comes on the stream into a directory that exists.
fn write(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return Err(Fault::new(WRITE)
            .arg("path", path.display())
            .because_of("no such directory"));
    }
    let options = Options {
        keep_directories: true,
        keep_kinds: true,
        ..Options::default()
    };
    let mut input = std::io::stdin().lock();
    let unpacked = unpack::extract(&mut input, &Root::open(path)?, options);
    // What follows the archive's end is taken, so that the other side never writes to a closed stream.
    let _ = std::io::copy(&mut input, &mut std::io::sink());
    unpacked.map(drop)
}
