//! Files and sysctls that the recipe writes inside, as the jail's root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fault::{Fault, OrFault, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::codes;
use crate::place;
use crate::recipe::FileEntry;

/// Writes all files below `root`.
pub(crate) fn write_all(root: OwnedFd, files: &[FileEntry]) -> Result<()> {
    for file in files {
        write_one(root.as_fd(), file)?;
    }
    Ok(())
}

fn write_one(root: BorrowedFd<'_>, file: &FileEntry) -> Result<()> {
    let fault = || Fault::new(codes::FILE_FAILED).arg("path", file.path.display());
    let (parent, name) = place::parent_of(root, &file.path)?;
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        // An empty file is no content to keep: images carry an empty machine-id.
        Ok(found) if file.keep_existing && found.st_size > 0 => return Ok(()),
        Ok(found) if same(&parent, name, file, found.st_mode) => return Ok(()),
        Ok(_) | Err(Errno::NOENT) => {}
        Err(error) => return Err(fault().because(error)),
    }
    let temporary = format!(".posada-{}", rustix::process::getpid().as_raw_nonzero());
    let write = || -> rustix::io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = match openat(&parent, &temporary, flags, Mode::from(0o600)) {
            Err(Errno::EXIST) => {
                unlinkat(&parent, &temporary, AtFlags::empty())?;
                openat(&parent, &temporary, flags, Mode::from(0o600))?
            }
            other => other?,
        };
        put(&made, file.content.as_bytes())?;
        fchmod(&made, Mode::from(file.mode))?;
        renameat(&parent, &temporary, &parent, name)
    };
    write().or_fault(|| {
        let _ = unlinkat(&parent, &temporary, AtFlags::empty());
        fault()
    })
}

/// Whether a regular file with this content and mode stands there already.
fn same(parent: impl AsFd, name: &std::ffi::OsStr, file: &FileEntry, mode: u32) -> bool {
    if FileType::from_raw_mode(mode) != FileType::RegularFile || mode & 0o7777 != file.mode {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(found) = openat(parent, name, flags, Mode::empty()) else {
        return false;
    };
    let mut buffer = vec![0; file.content.len() + 1];
    let mut filled = 0;
    while let Ok(count @ 1..) = rustix::io::read(&found, &mut buffer[filled..]) {
        filled += count;
    }
    buffer.get(..filled) == Some(file.content.as_bytes())
}

fn put(fd: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets a sysctl (`net.ipv4.ping_group_range`) through the jail's own /proc.
pub(crate) fn set_sysctl(root: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
    let fault = || {
        Fault::new(codes::SYSCTL_REFUSED)
            .arg("name", name)
            .arg("value", value)
    };
    // Names with slashes may contain dots (interfaces): net/ipv4/conf/eth0.1/forwarding.
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    let file = place::lookup(root, &Path::new("/proc/sys").join(path), OFlags::WRONLY).or_fault(fault)?;
    put(&file, value.as_bytes()).or_fault(fault)
}
