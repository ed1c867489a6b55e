//! mount_setattr(2): attributes of mounts, and id-mapped mounts.
#![allow(unsafe_code)] // mount_setattr(2) has no wrapper in rustix.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Attributes of a mount that can be set.
pub mod attr {
    /// Read-only.
    pub const READ_ONLY: u64 = 0x1;
    /// Setuid bits and file capabilities do not work.
    pub const NO_SUID: u64 = 0x2;
    /// Device nodes do not work.
    pub const NO_DEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NO_EXEC: u64 = 0x8;
    /// Symbolic links are not followed.
    pub const NO_SYMFOLLOW: u64 = 0x0020_0000;
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// What [`set`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Attributes to set, of [`attr`].
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Makes it id-mapped by this user namespace; only for a mount that is not attached yet.
    pub idmap: Option<BorrowedFd<'a>>,
    /// Makes it private: no mount event comes in or goes out.
    pub private: bool,
    /// Including all mounts below it.
    pub recursive: bool,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Changes the mount that `dir` and `path` (empty: `dir` itself) lead to.
///
/// # Errors
/// Those of mount_setattr(2): EINVAL when the file system cannot be id-mapped, EPERM without the right.
pub fn set(dir: impl AsFd, path: &CStr, change: Change<'_>) -> io::Result<()> {
    let attr = MountAttr {
        set: change.set
            | if change.idmap.is_some() {
                MOUNT_ATTR_IDMAP
            } else {
                0
            },
        clear: change.clear,
        propagation: if change.private { libc::MS_PRIVATE } else { 0 },
        userns: change
            .idmap
            .map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(0)),
    };
    let mut flags = libc::AT_EMPTY_PATH.cast_unsigned();
    if change.recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the path is null-terminated, the structure has the layout of mount_setattr(2) and its true size is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
