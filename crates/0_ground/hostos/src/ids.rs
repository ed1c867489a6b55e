//! Ids by which the kernel checks this thread's access to files.
#![allow(unsafe_code)] // setfsuid(2) and setfsgid(2) have no safe wrapper.

/// Runs `work` with the given file-system user and group (setfsuid(2)): what it makes belongs to them, and the
/// capabilities to override file permissions are off meanwhile, as long as the caller is root and `uid` is not.
pub fn acting_as<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    // SAFETY: these calls change only credentials of this thread and never fail in a way that touches memory.
    let (old_uid, old_gid) = unsafe {
        let gid = libc::setfsgid(gid);
        (libc::setfsuid(uid), gid)
    };
    let result = work();
    // SAFETY: as above.
    unsafe {
        libc::setfsuid(u32::try_from(old_uid).unwrap_or(0));
        libc::setfsgid(u32::try_from(old_gid).unwrap_or(0));
    }
    result
}
