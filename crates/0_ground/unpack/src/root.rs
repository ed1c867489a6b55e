//! A directory that no path leads out of: every lookup is done by the kernel beneath it (openat2(2)).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fault::{Fault, OrFault, Result};
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{READ, UNSAFE_PATH, WRITE};

/// An open directory below which all names are looked up. Symbolic links of the tree are followed, absolute ones
/// from this directory on, and `..` in them never leads above it.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens a directory of the host, its symbolic links followed.
    ///
    /// # Errors
    /// [`READ`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        fs::open(path, flags, Mode::empty())
            .map(Root)
            .or_fault(|| Fault::new(READ).arg("path", path.display()))
    }

    /// A root of an open directory.
    #[must_use]
    pub fn from_fd(directory: OwnedFd) -> Self {
        Root(directory)
    }

    /// Opens what `path` leads to below the root, the last component followed too.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn lookup(&self, path: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            // The kernel gives up with EAGAIN when something was renamed during the walk.
            match fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// The directory `path`; those missing on the way are made with mode 755.
    ///
    /// # Errors
    /// [`UNSAFE_PATH`] when a component is no directory, [`WRITE`] when one cannot be made.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let fault = || Fault::new(WRITE).arg("path", String::from_utf8_lossy(path));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.lookup(&c_path(path)?, flags) {
            Err(Errno::NOENT) if path != b"." => {}
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
                return Err(unsafe_path(path).because(error));
            }
            done => return done.or_fault(fault),
        }
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        match fs::mkdirat(&parent, c_path(name)?.as_c_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fault().because(error)),
        }
        match self.lookup(&c_path(path)?, flags) {
            // There is a name, but it is a link to nowhere.
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                Err(unsafe_path(path).because(error))
            }
            done => done.or_fault(fault),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) fn unsafe_path(path: &[u8]) -> Fault {
    Fault::new(UNSAFE_PATH).arg("path", String::from_utf8_lossy(path))
}

pub(crate) fn c_path(path: &[u8]) -> Result<CString> {
    CString::new(path).map_err(|_| unsafe_path(path))
}

/// The directory part (`.` when there is none) and the last component of a clean path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

/// A name from an archive as a clean relative path: without leading or double slashes and `.`; empty for the
/// root itself.
///
/// # Errors
/// [`UNSAFE_PATH`] when it holds `..` or a zero byte, or is longer than any path can be.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(unsafe_path(name)),
            _ => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(component);
            }
        }
    }
    // PATH_MAX, as the kernel takes paths here in one piece.
    if out.len() > 4000 || out.contains(&0) {
        return Err(unsafe_path(&name[..name.len().min(200)]));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_clean_relative_paths() {
        assert_eq!(clean(b"./usr//bin/./ls").unwrap(), b"usr/bin/ls");
        assert_eq!(clean(b"/etc/passwd").unwrap(), b"etc/passwd");
        assert_eq!(clean(b"./").unwrap(), b"");
        for bad in [&b"../x"[..], b"a/../b", b"..", b"a\0b"] {
            assert!(clean(bad).unwrap_err().is(UNSAFE_PATH));
        }
    }

    #[test]
    fn a_lookup_stays_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root_dir = dir.path().join("root");
        std::fs::create_dir_all(root_dir.join("etc")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root_dir.join("up")).unwrap();
        std::os::unix::fs::symlink("/etc", root_dir.join("absolute")).unwrap();
        let root = Root::open(&root_dir).unwrap();
        for name in [c"up", c"absolute"] {
            let found = root.lookup(name, OFlags::PATH).unwrap();
            let stat = fs::fstat(&found).unwrap();
            let inside = fs::stat(root_dir.join("etc")).unwrap();
            assert_eq!((stat.st_dev, stat.st_ino), (inside.st_dev, inside.st_ino));
        }
    }

    proptest! {
        #[test]
        fn clean_paths_have_no_way_up(name in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 0..60)) {
            if let Ok(path) = clean(&name) {
                prop_assert!(!path.starts_with(b"/"));
                prop_assert!(path.split(|b| *b == b'/').all(|c| c != b".."));
            }
        }
    }
}
