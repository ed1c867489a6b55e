//! Turns a tree into a tar stream: names in order, hard links, attributes and holes kept.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::PACK;
use crate::root::{Root, c_path};
use crate::tar::{Entry, Kind, Writer};

/// What of a tree is packed, and under which names.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Put before every name, as `web/`; names begin with `./` when empty.
    pub prefix: Vec<u8>,
    /// Paths below the root that are left out with all below them.
    pub exclude: Vec<Vec<u8>>,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// Owner and group that every entry gets instead of its own.
    pub owner: Option<(u32, u32)>,
}

/// How much was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries written.
    pub entries: u64,
    /// Bytes of file data.
    pub bytes: u64,
}

/// Writes the tree below a root into a tar stream. Sockets are left out, as in every tar.
///
/// # Errors
/// [`crate::PACK`] when a file cannot be read, [`crate::WRITE`] when the sink fails.
pub fn pack<W: Write>(root: &Root, options: &PackOptions, writer: &mut Writer<W>) -> Result<Packed> {
    let mut packer = Packer {
        options,
        writer,
        links: HashMap::new(),
        packed: Packed::default(),
        device: 0,
    };
    let directory =
        fs::openat(root, c".", directory_flags(), Mode::empty()).or_fault(|| cannot_read(b"."))?;
    let stat = fs::fstat(&directory).or_fault(|| cannot_read(b"."))?;
    packer.device = stat.st_dev;
    packer.directory(directory, &stat, b"")?;
    Ok(packer.packed)
}

struct Packer<'a, W> {
    options: &'a PackOptions,
    writer: &'a mut Writer<W>,
    /// First name of every file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    device: u64,
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

impl<W: Write> Packer<'_, W> {
    /// Packs a directory and, in order of name, all below it. `path` is empty for the root.
    fn directory(&mut self, directory: OwnedFd, stat: &Stat, path: &[u8]) -> Result<()> {
        let mut entry = self.entry(stat, path, Kind::Dir);
        if !entry.path.ends_with(b"/") {
            entry.path.push(b'/');
        }
        entry.xattrs = attributes(&directory);
        self.put(&entry, &mut io::empty())?;
        if self.options.one_file_system && stat.st_dev != self.device {
            return Ok(());
        }
        let mut names = Vec::new();
        for item in Dir::read_from(&directory).or_fault(|| cannot_read(path))? {
            let item = item.or_fault(|| cannot_read(path))?;
            if !matches!(item.file_name().to_bytes(), b"." | b"..") {
                names.push(item.file_name().to_owned());
            }
        }
        names.sort_unstable();
        for name in names {
            let below = match path {
                b"" => name.to_bytes().to_vec(),
                _ => [path, b"/", name.to_bytes()].concat(),
            };
            if !self.options.exclude.contains(&below) {
                self.item(&directory, name, &below)?;
            }
        }
        Ok(())
    }

    fn item(&mut self, directory: &OwnedFd, name: CString, path: &[u8]) -> Result<()> {
        let fault = || cannot_read(path);
        let stat = match fs::statat(directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            // It went away since the directory was read.
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.or_fault(fault)?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let below = fs::openat(directory, name, directory_flags(), Mode::empty()).or_fault(fault)?;
            return self.directory(below, &stat, path);
        }
        if stat.st_nlink > 1 {
            let full = self.name(path);
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let entry = self.entry(&stat, path, Kind::HardLink(first.clone()));
                return self.put(&entry, &mut io::empty());
            }
            self.links.insert((stat.st_dev, stat.st_ino), full);
        }
        let device = || (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
        let kind = match kind {
            FileType::RegularFile => return self.file(directory, name, path),
            FileType::Symlink => {
                let target = fs::readlinkat(directory, name, Vec::new()).or_fault(fault)?;
                Kind::Symlink(target.into_bytes())
            }
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Char(device().0, device().1),
            FileType::BlockDevice => Kind::Block(device().0, device().1),
            _ => return Ok(()),
        };
        let entry = self.entry(&stat, path, kind);
        self.put(&entry, &mut io::empty())
    }

    fn file(&mut self, directory: &OwnedFd, name: CString, path: &[u8]) -> Result<()> {
        let fault = || cannot_read(path);
        // NONBLOCK: should a pipe have taken the file's place, opening it must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(directory, name, flags, Mode::empty()).or_fault(fault)?;
        let stat = fs::fstat(&file).or_fault(fault)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let mut entry = self.entry(&stat, path, Kind::File);
        entry.size = stat.st_size as u64;
        if entry.size == 0 {
            let mut content = Steady::of(std::fs::File::from(file), 0).or_fault(fault)?;
            entry.size = content.size();
            return self.put(&entry, &mut content);
        }
        entry.xattrs = attributes(&file);
        if (stat.st_blocks as u64) * 512 < entry.size {
            entry.sparse = pieces(&file, entry.size);
        }
        let whole = [(0, entry.size)];
        let map = entry.sparse.clone().unwrap_or_else(|| whole.to_vec());
        let mut data = Pieces {
            file: &file,
            map: &map,
            done: 0,
        };
        self.put(&entry, &mut data)
    }

    fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.packed.entries += 1;
        self.packed.bytes += entry.stored();
        self.writer.entry(entry, data)
    }

    fn name(&self, path: &[u8]) -> Vec<u8> {
        match &self.options.prefix[..] {
            b"" => [b"./", path].concat(),
            prefix => [prefix, path].concat(),
        }
    }

    fn entry(&self, stat: &Stat, path: &[u8], kind: Kind) -> Entry {
        let mut entry = Entry::new(self.name(path), kind, stat.st_mode & 0o7777);
        (entry.uid, entry.gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        entry.mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        entry
    }
}

/// All attributes of an open file that an archive shall carry; none where the file system has none.
fn attributes(file: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Some(names) = whole(|buffer| fs::flistxattr(file, buffer)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let wanted = name.starts_with(b"user.")
            || matches!(
                name,
                b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
            );
        if wanted
            && let Ok(c_name) = c_path(name)
            && let Some(value) = whole(|buffer| fs::fgetxattr(file, c_name.as_c_str(), buffer))
        {
            found.push((name.to_vec(), value));
        }
    }
    found.sort_unstable();
    found
}

/// Calls a function that fills a buffer with a buffer large enough.
fn whole(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Some(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            Err(_) => return None,
        }
    }
}

/// Where a file has data, by the file system's word (lseek(2)); none when it cannot tell or there is no hole.
fn pieces(file: &OwnedFd, size: u64) -> Option<Vec<(u64, u64)>> {
    let mut map = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = fs::seek(file, SeekFrom::Hole(data)).ok()?.min(size);
        if end <= data {
            break;
        }
        map.push((data, end - data));
        at = end;
    }
    let stored: u64 = map.iter().map(|(_, len)| len).sum();
    (stored < size).then_some(map)
}

/// Reads the pieces of a file one after the other.
struct Pieces<'a> {
    file: &'a OwnedFd,
    map: &'a [(u64, u64)],
    done: u64,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, length)) = self.map.first() {
            let left = length - self.done;
            if left == 0 {
                self.map = &self.map[1..];
                self.done = 0;
                continue;
            }
            let most = usize::try_from(left).map_or(buf.len(), |l| l.min(buf.len()));
            let n = rustix::io::pread(self.file.as_fd(), &mut buf[..most], offset + self.done)?;
            // A file that has shrunk meanwhile ends in zeros: its size has been told already.
            let n = if n == 0 { zeros(&mut buf[..most]) } else { n };
            self.done += n as u64;
            return Ok(n);
        }
        Ok(0)
    }
}

fn zeros(buf: &mut [u8]) -> usize {
    buf.fill(0);
    buf.len()
}

/// The content of a file with a size that stays: what grows meanwhile is cut, what shrinks ends in zeros, and what has
/// content but no size (files of /proc) is read first.
#[derive(Debug)]
pub struct Steady {
    head: io::Cursor<Vec<u8>>,
    file: std::fs::File,
    left: u64,
    size: u64,
}

/// Most bytes of a file without a size that are read.
const UNSIZED: u64 = 16 << 20;

impl Steady {
    /// Over an open file whose metadata tells this size.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn of(file: std::fs::File, size: u64) -> io::Result<Self> {
        let mut head = Vec::new();
        if size == 0 {
            (&file).take(UNSIZED).read_to_end(&mut head)?;
        }
        Ok(Steady {
            size: if size == 0 { head.len() as u64 } else { size },
            head: io::Cursor::new(head),
            file,
            left: size,
        })
    }

    /// How many bytes come.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for Steady {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return self.head.read(buf);
        }
        let most = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = match self.file.read(&mut buf[..most])? {
            0 => zeros(&mut buf[..most]),
            n => n,
        };
        self.left -= n as u64;
        Ok(n)
    }
}

fn cannot_read(path: &[u8]) -> Fault {
    Fault::new(PACK).arg("path", String::from_utf8_lossy(path))
}
