//! Applies the entries of an archive below a root.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::root::{Root, c_path, clean, split, unsafe_path};
use crate::tar::{Entry, Kind, Reader};
use crate::{OTHER_KIND, OWNER, READ, WRITE};

/// How entries are applied.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Give files the owners of the archive (needs CAP_CHOWN in the namespace).
    pub owners: bool,
    /// Make device nodes where the kernel lets us; else they are counted in [`Report::devices_skipped`].
    pub devices: bool,
    /// Set extended attributes and access control lists.
    pub xattrs: bool,
    /// Leave owner, mode and time of directories that are there already as they are.
    pub keep_directories: bool,
    /// Put no file in the place of a directory, no directory in the place of a file, and nothing in the place of a
    /// device, pipe or socket: what is copied into a living tree must not change what things there are.
    pub keep_kinds: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            owners: true,
            devices: true,
            xattrs: true,
            keep_directories: false,
            keep_kinds: false,
        }
    }
}

/// What was made and what could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries applied.
    pub entries: u64,
    /// Bytes of file data written.
    pub bytes: u64,
    /// Device nodes that were not made.
    pub devices_skipped: u64,
    /// Extended attributes that the file system or the kernel refused.
    pub xattrs_skipped: u64,
}

/// Applies entries below a root. Directories that are there already stay, also when a symbolic link stands in
/// their place (a merged /usr); other files are replaced, never written through.
#[derive(Debug)]
pub struct Extractor<'a> {
    root: &'a Root,
    options: Options,
    report: Report,
    /// The directory that was used last; archives list one directory after the other.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, set at the end since every new file inside changes them.
    directories: Vec<(Vec<u8>, Timestamps)>,
    buffer: Vec<u8>,
}

/// Unpacks a whole tar stream (already decompressed).
///
/// # Errors
/// The codes of this room.
pub fn extract(tar: impl Read, root: &Root, options: Options) -> Result<Report> {
    let mut reader = Reader::new(tar);
    let mut extractor = Extractor::new(root, options);
    while let Some(entry) = reader.next_entry()? {
        extractor.apply(&entry, &mut reader)?;
    }
    extractor.finish()
}

impl<'a> Extractor<'a> {
    /// An extractor into this root.
    #[must_use]
    pub fn new(root: &'a Root, options: Options) -> Self {
        Extractor {
            root,
            options,
            report: Report::default(),
            parent: None,
            directories: Vec::new(),
            buffer: vec![0; 128 << 10],
        }
    }

    /// Makes one entry; `data` yields its stored bytes.
    ///
    /// # Errors
    /// [`crate::UNSAFE_PATH`], [`crate::WRITE`], [`crate::OWNER`], [`crate::READ`] when `data` fails.
    pub fn apply(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let path = clean(&entry.path)?;
        self.report.entries += 1;
        if path.is_empty() {
            // The root itself.
            return match entry.kind {
                Kind::Dir if self.options.keep_directories => Ok(()),
                Kind::Dir => self.dress_directory(entry, b"."),
                _ => Err(unsafe_path(&entry.path)),
            };
        }
        let parent = self.open_parent(&path)?;
        let done = self.make(entry, &path, &parent, data);
        self.parent = Some((split(&path).0.to_vec(), parent));
        done
    }

    /// Sets the times of directories and tells what was done.
    ///
    /// # Errors
    /// [`crate::WRITE`].
    pub fn finish(mut self) -> Result<Report> {
        for (path, times) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Ok(directory) = self
                .root
                .lookup(&c_path(&path)?, OFlags::RDONLY | OFlags::DIRECTORY)
            {
                fs::futimens(&directory, &times).or_fault(|| cannot_write(&path))?;
            }
        }
        Ok(self.report)
    }

    fn open_parent(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let (directory, _) = split(path);
        match self.parent.take() {
            Some((last, fd)) if last == directory => Ok(fd),
            _ => self.root.directory(directory),
        }
    }

    fn make(&mut self, entry: &Entry, path: &[u8], parent: &OwnedFd, data: &mut dyn Read) -> Result<()> {
        let name = c_path(split(path).1)?;
        let name = name.as_c_str();
        if self.options.keep_kinds {
            self.check_kind(entry, parent, name, path)?;
        }
        match &entry.kind {
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = replacing(parent, name, path, || {
                    fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
                })?;
                self.fill(entry, &file, path, data)?;
                self.dress(entry, &file, path)
            }
            Kind::Dir => {
                match fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => {
                        if self.keep_directory(parent, name, path)? && self.options.keep_directories {
                            return Ok(());
                        }
                    }
                    Err(error) => return Err(cannot_write(path).because(error)),
                }
                self.dress_directory(entry, path)
            }
            Kind::Symlink(target) => {
                let target = c_path(target)?;
                replacing(parent, name, path, || {
                    fs::symlinkat(target.as_c_str(), parent, name)
                })?;
                self.own_by_name(entry, parent, name, path)
            }
            Kind::HardLink(target) => self.hard_link(target, parent, name, path),
            Kind::Fifo => self.node(entry, FileType::Fifo, 0, parent, name, path),
            Kind::Char(major, minor) => {
                let device = fs::makedev(*major, *minor);
                self.node(entry, FileType::CharacterDevice, device, parent, name, path)
            }
            Kind::Block(major, minor) => {
                let device = fs::makedev(*major, *minor);
                self.node(entry, FileType::BlockDevice, device, parent, name, path)
            }
        }
    }

    fn check_kind(&self, entry: &Entry, parent: &OwnedFd, name: &std::ffi::CStr, path: &[u8]) -> Result<()> {
        let Ok(there) = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        let fits = match (FileType::from_raw_mode(there.st_mode), &entry.kind) {
            (FileType::Directory, kind) => *kind == Kind::Dir,
            (FileType::Symlink, Kind::Dir) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                self.root.lookup(&c_path(path)?, flags).is_ok()
            }
            (FileType::RegularFile | FileType::Symlink, kind) => *kind != Kind::Dir,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Fault::new(OTHER_KIND).arg("path", String::from_utf8_lossy(path)))
    }

    /// Something has a directory's name: a directory or a link to one below the root may stay, else it goes.
    /// Whether it stayed.
    fn keep_directory(&self, parent: &OwnedFd, name: &std::ffi::CStr, path: &[u8]) -> Result<bool> {
        let there = self.root.lookup(&c_path(path)?, OFlags::PATH | OFlags::DIRECTORY);
        if there.is_ok() {
            return Ok(true);
        }
        fs::unlinkat(parent, name, AtFlags::empty())
            .and_then(|()| fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)))
            .or_fault(|| cannot_write(path))?;
        Ok(false)
    }

    fn hard_link(&self, target: &[u8], parent: &OwnedFd, name: &std::ffi::CStr, path: &[u8]) -> Result<()> {
        let target = clean(target)?;
        if target == path || target.is_empty() {
            return Err(unsafe_path(path));
        }
        let (directory, last) = split(&target);
        let directory = self
            .root
            .lookup(&c_path(directory)?, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| unsafe_path(&target).because(error))?;
        let last = c_path(last)?;
        replacing(parent, name, path, || {
            fs::linkat(&directory, last.as_c_str(), parent, name, AtFlags::empty())
        })
    }

    fn node(
        &mut self,
        entry: &Entry,
        kind: FileType,
        device: u64,
        parent: &OwnedFd,
        name: &std::ffi::CStr,
        path: &[u8],
    ) -> Result<()> {
        if kind != FileType::Fifo && !self.options.devices {
            self.report.devices_skipped += 1;
            return Ok(());
        }
        let mode = Mode::from_raw_mode(entry.mode);
        let made = (|| match fs::mknodat(parent, name, kind, mode, device) {
            Err(Errno::EXIST) => {
                fs::unlinkat(parent, name, AtFlags::empty())?;
                fs::mknodat(parent, name, kind, mode, device)
            }
            done => done,
        })();
        match made {
            Ok(()) => {}
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.report.devices_skipped += 1;
                return Ok(());
            }
            Err(error) => return Err(cannot_write(path).because(error)),
        }
        self.own_by_name(entry, parent, name, path)?;
        // The umask may have taken bits from the mode; nothing else can have replaced the name: see `replacing`.
        fs::chmodat(parent, name, mode, AtFlags::empty()).or_fault(|| cannot_write(path))
    }

    /// Writes a file's data, leaving holes where the map has them.
    fn fill(&mut self, entry: &Entry, file: &OwnedFd, path: &[u8], data: &mut dyn Read) -> Result<()> {
        let whole = [(0, entry.size)];
        let map = entry.sparse.as_deref().unwrap_or(&whole);
        let mut written = 0;
        for (offset, length) in map {
            let mut at = *offset;
            let mut left = *length;
            while left > 0 {
                let most = usize::try_from(left).map_or(self.buffer.len(), |l| l.min(self.buffer.len()));
                let n = match data.read(&mut self.buffer[..most]) {
                    Ok(0) => return Err(crate::damaged("entry cut short")),
                    Ok(n) => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(crate::damaged("entry cut short").because(error));
                    }
                    Err(error) => return Err(Fault::new(READ).because(error)),
                };
                write_at(file, &self.buffer[..n], at).or_fault(|| cannot_write(path))?;
                at += n as u64;
                left -= n as u64;
            }
            if *length > 0 {
                written = at;
            }
            self.report.bytes += length;
        }
        if written < entry.size {
            fs::ftruncate(file, entry.size).or_fault(|| cannot_write(path))?;
        }
        Ok(())
    }

    /// Owner, mode, attributes and time of a file, in the order in which none undoes the one before.
    fn dress(&mut self, entry: &Entry, file: &OwnedFd, path: &[u8]) -> Result<()> {
        if self.options.owners {
            fs::fchown(
                file,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            )
            .map_err(|error| wrong_owner(entry, path, error))?;
        }
        fs::fchmod(file, Mode::from_raw_mode(entry.mode)).or_fault(|| cannot_write(path))?;
        self.attributes(entry, file);
        fs::futimens(file, &times(entry)).or_fault(|| cannot_write(path))
    }

    fn dress_directory(&mut self, entry: &Entry, path: &[u8]) -> Result<()> {
        let directory = self
            .root
            .lookup(&c_path(path)?, OFlags::RDONLY | OFlags::DIRECTORY)
            .or_fault(|| cannot_write(path))?;
        self.directories.push((path.to_vec(), times(entry)));
        self.dress(entry, &directory, path)
    }

    fn own_by_name(&self, entry: &Entry, parent: &OwnedFd, name: &std::ffi::CStr, path: &[u8]) -> Result<()> {
        if self.options.owners {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| wrong_owner(entry, path, error))?;
        }
        fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).or_fault(|| cannot_write(path))
    }

    fn attributes(&mut self, entry: &Entry, file: &OwnedFd) {
        if !self.options.xattrs {
            return;
        }
        for (name, value) in &entry.xattrs {
            let wanted = name.starts_with(b"user.")
                || matches!(
                    &name[..],
                    b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
                );
            let set = wanted
                && c_path(name).is_ok_and(|name| {
                    fs::fsetxattr(file, name.as_c_str(), value, XattrFlags::empty()).is_ok()
                });
            if !set {
                self.report.xattrs_skipped += 1;
            }
        }
    }
}

/// Makes a new name; what stood there is unlinked first, so that nothing is written through links.
fn replacing<T>(
    parent: &OwnedFd,
    name: &std::ffi::CStr,
    path: &[u8],
    make: impl Fn() -> rustix::io::Result<T>,
) -> Result<T> {
    match make() {
        Err(Errno::EXIST) => {}
        done => return done.or_fault(|| cannot_write(path)),
    }
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => fs::unlinkat(parent, name, AtFlags::REMOVEDIR),
        done => done,
    }
    .and_then(|()| make())
    .or_fault(|| cannot_write(path))
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file.as_fd(), bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => {
                bytes = &bytes[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.0,
        tv_nsec: entry.mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn cannot_write(path: &[u8]) -> Fault {
    Fault::new(WRITE).arg("path", String::from_utf8_lossy(path))
}

fn wrong_owner(entry: &Entry, path: &[u8], error: Errno) -> Fault {
    match error {
        Errno::INVAL => Fault::new(OWNER)
            .arg("path", String::from_utf8_lossy(path))
            .arg("uid", entry.uid)
            .arg("gid", entry.gid),
        _ => cannot_write(path).because(error),
    }
}
