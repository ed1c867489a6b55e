//! Places inside a root: found and made without ever following a link out of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use fault::{Fault, OrFault, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

use crate::codes;

/// What stands, or shall stand, at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

fn fault(path: &Path, error: Errno) -> Fault {
    Fault::new(codes::PLACE_FAILED)
        .arg("path", path.display())
        .because(error)
}

/// Opens (O_PATH) what stands at an absolute path below `root`, following links as if `root` were `/`.
pub(crate) fn find(root: impl AsFd, path: &Path) -> Result<Option<OwnedFd>> {
    match lookup(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(fault(path, error)),
    }
}

/// openat2(2) confined to `root`, without magic links of /proc; tries again when a rename raced with it.
pub(crate) fn lookup(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..64 {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// As [`find`]; what is missing is made: directories on the way, and a directory or an empty file at the end.
pub(crate) fn find_or_make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<OwnedFd> {
    if let Some(found) = find(root, path)? {
        return Ok(found);
    }
    let (parent, name) = parent_of(root, path)?;
    match kind {
        Kind::Directory => make_directory(&parent, name, path)?,
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&parent, name, flags, Mode::from(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fault(path, error)),
            }
        }
    }
    find(root, path)?.ok_or_else(|| fault(path, Errno::NOENT))
}

fn make_directory(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<()> {
    match mkdirat(parent, name, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(fault(path, error)),
    }
}

/// The directory that holds the last component of an absolute path, made when missing, and that component.
pub(crate) fn parent_of<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
    let broken = || fault(path, Errno::INVAL);
    if !path.is_absolute()
        || path
            .components()
            .any(|component| component == Component::ParentDir)
    {
        return Err(broken());
    }
    let name = path.file_name().ok_or_else(broken)?;
    let above = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = match lookup(root, above, flags) {
        Err(Errno::NOENT) => {
            let (grandparent, child) = parent_of(root, above)?;
            make_directory(&grandparent, child, path)?;
            lookup(root, above, flags)
        }
        other => other,
    };
    Ok((
        parent.or_fault(|| Fault::new(codes::PLACE_FAILED).arg("path", path.display()))?,
        name,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_to_the_hosts_root_leads_to_the_jails_root() {
        let outside = tempfile::tempdir().expect("a directory");
        let jail = tempfile::tempdir().expect("a directory");
        symlink(outside.path(), jail.path().join("etc")).expect("a link");
        let root = std::fs::File::open(jail.path()).expect("open");
        // The link's target does not exist inside, and it is not made either: a dangling link is an error.
        assert!(find_or_make(root.as_fd(), Path::new("/etc/hosts"), Kind::File).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).expect("read").count(), 0);
        symlink("../../../../srv", jail.path().join("var")).expect("a link");
        std::fs::create_dir(jail.path().join("srv")).expect("a directory");
        find_or_make(root.as_fd(), Path::new("/var/x"), Kind::Directory).expect("made inside");
        assert!(jail.path().join("srv/x").is_dir());
    }

    #[test]
    fn paths_with_dots_are_refused() {
        let jail = tempfile::tempdir().expect("a directory");
        let root = std::fs::File::open(jail.path()).expect("open");
        assert!(find_or_make(root.as_fd(), Path::new("/new/../../x"), Kind::File).is_err());
        assert!(find_or_make(root.as_fd(), Path::new("relative"), Kind::File).is_err());
    }
}
