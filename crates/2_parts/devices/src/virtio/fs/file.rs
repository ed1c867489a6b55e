//! Requests about files: attributes, opening, reading, writing, extended attributes.

use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::MOST_DATA;
use super::passthrough::{Handle, Passthrough};
use super::wire::{In, Out};

/// Which attributes to set (`FATTR_*`).
mod set {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const HANDLE: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
}

/// Mode bits that guests may set: not those that lend the owner's rights.
const MODE: u32 = 0o1777;

impl Passthrough {
    /// How a file may be opened: what the guest asks for, without what would lead elsewhere or change where writes go.
    pub(super) fn how(flags: u32) -> OFlags {
        let kept = libc::O_ACCMODE | libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC;
        OFlags::from_bits_truncate(flags & kept as u32)
    }

    pub(super) fn get_attributes(
        &self,
        node: u64,
        input: &mut In<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        let (flags, _, handle) = (input.u32()?, input.u32()?, input.u64()?);
        let stat = if flags & 1 != 0 {
            Self::stat(&self.handle(handle)?.file)?
        } else {
            match self.locate(node) {
                Ok(file) => Self::stat(&file)?,
                // Removed, but open still.
                Err(error) => {
                    let open = self.handles.values().find(|handle| handle.node == node);
                    Self::stat(&open.ok_or(error)?.file)?
                }
            }
        };
        out.attributes_out(&stat);
        Ok(())
    }

    pub(super) fn set_attributes(
        &mut self,
        node: u64,
        input: &mut In<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        self.must_write()?;
        let (valid, _, handle) = (input.u32()?, input.u32()?, input.u64()?);
        let (size, _owner) = (input.u64()?, input.u64()?);
        let times = [input.u64()?, input.u64()?, input.u64()?];
        let nanos = [input.u32()?, input.u32()?, input.u32()?];
        let (mode, _, uid, gid) = (input.u32()?, input.u32()?, input.u32()?, input.u32()?);
        let open = if valid & set::HANDLE != 0 {
            let handle = self.handle(handle)?;
            Some(handle.file.try_clone().map_err(|_| Errno::MFILE)?)
        } else {
            None
        };
        let file = match &open {
            Some(open) => open.try_clone().map_err(|_| Errno::MFILE)?,
            None => self.locate(node)?,
        };
        if valid & set::MODE != 0 {
            let mode = Mode::from_raw_mode(mode & MODE);
            match &open {
                Some(open) => rustix::fs::fchmod(open, mode)?,
                None => rustix::fs::fchmod(self.open_node(node, OFlags::RDONLY)?, mode)?,
            }
        }
        if valid & (set::UID | set::GID) != 0 {
            let owner = (valid & set::UID != 0).then(|| Uid::from_raw(uid));
            let group = (valid & set::GID != 0).then(|| Gid::from_raw(gid));
            rustix::fs::chownat(&file, "", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if valid & set::SIZE != 0 {
            match &open {
                Some(open) => rustix::fs::ftruncate(open, size)?,
                None => rustix::fs::ftruncate(self.open_node(node, OFlags::WRONLY)?, size)?,
            }
        }
        if valid & (set::ATIME | set::MTIME) != 0 {
            let time = |which: usize, given: u32, now: u32| Timespec {
                tv_sec: times[which] as i64,
                tv_nsec: if valid & now != 0 {
                    UTIME_NOW
                } else if valid & given != 0 {
                    i64::from(nanos[which].min(999_999_999))
                } else {
                    UTIME_OMIT
                },
            };
            let stamps = Timestamps {
                last_access: time(0, set::ATIME, set::ATIME_NOW),
                last_modification: time(1, set::MTIME, set::MTIME_NOW),
            };
            rustix::fs::utimensat(&file, "", &stamps, AtFlags::EMPTY_PATH)?;
        }
        out.attributes_out(&Self::stat(&file)?);
        Ok(())
    }

    pub(super) fn open(&mut self, node: u64, input: &mut In<'_>, out: &mut Out<'_>) -> Result<(), Errno> {
        let flags = input.u32()?;
        let how = Self::how(flags);
        let writes = flags & (libc::O_ACCMODE | libc::O_TRUNC) as u32 != 0;
        if writes {
            self.must_write()?;
        }
        let file = self.open_node(node, how)?;
        let handle = self.keep(Handle {
            file,
            node,
            flags: how.bits(),
            directory: false,
        })?;
        out.u64s(&[handle, 0]);
        Ok(())
    }

    pub(super) fn read(&self, input: &mut In<'_>, out: &mut Out<'_>, room: usize) -> Result<(), Errno> {
        let (handle, offset, size) = (input.u64()?, input.u64()?, input.u32()?);
        let file = &self.handle(handle)?.file;
        let begin = out.0.len();
        out.0.resize(begin + (size as usize).min(room).min(MOST_DATA), 0);
        let mut end = begin;
        while end < out.0.len() {
            let at = offset.checked_add((end - begin) as u64).ok_or(Errno::INVAL)?;
            match rustix::io::pread(file, &mut out.0[end..], at) {
                Ok(0) => break,
                Ok(len) => end += len,
                Err(Errno::INTR) => {}
                Err(_) if end > begin => break,
                Err(error) => return Err(error),
            }
        }
        out.0.truncate(end);
        Ok(())
    }

    pub(super) fn write(&self, input: &mut In<'_>, out: &mut Out<'_>) -> Result<(), Errno> {
        self.must_write()?;
        let (handle, offset, size) = (input.u64()?, input.u64()?, input.u32()?);
        input.bytes(20)?;
        let data = input.bytes(size as usize)?;
        let file = &self.handle(handle)?.file;
        let mut done = 0;
        while done < data.len() {
            let at = offset.checked_add(done as u64).ok_or(Errno::FBIG)?;
            match rustix::io::pwrite(file, &data[done..], at) {
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        out.u32s(&[done as u32, 0]);
        Ok(())
    }

    pub(super) fn sync(&self, input: &mut In<'_>) -> Result<(), Errno> {
        let (handle, flags) = (input.u64()?, input.u32()?);
        let file = &self.handle(handle)?.file;
        if flags & 1 != 0 {
            rustix::fs::fdatasync(file)
        } else {
            rustix::fs::fsync(file)
        }
    }

    pub(super) fn allocate(&self, input: &mut In<'_>) -> Result<(), Errno> {
        self.must_write()?;
        let (handle, offset, len, mode) = (input.u64()?, input.u64()?, input.u64()?, input.u32()?);
        let flags = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        rustix::fs::fallocate(&self.handle(handle)?.file, flags, offset, len)
    }

    pub(super) fn seek(&self, input: &mut In<'_>, out: &mut Out<'_>) -> Result<(), Errno> {
        let (handle, offset, whence) = (input.u64()?, input.u64()?, input.u32()?);
        let to = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let found = rustix::fs::seek(&self.handle(handle)?.file, to)?;
        out.u64s(&[found]);
        Ok(())
    }

    /// The name of an extended attribute: only those of users are passed through.
    fn attribute<'a>(input: &mut In<'a>) -> Result<&'a [u8], Errno> {
        let name = input.text()?;
        if name.starts_with(b"user.") {
            Ok(name)
        } else {
            Err(Errno::OPNOTSUPP)
        }
    }

    pub(super) fn set_extended(&self, node: u64, input: &mut In<'_>) -> Result<(), Errno> {
        self.must_write()?;
        let (size, flags) = (input.u32()?, input.u32()?);
        let name = Self::attribute(input)?;
        let value = input.bytes(size as usize)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        rustix::fs::fsetxattr(self.open_node(node, OFlags::RDONLY)?, name, value, flags)
    }

    pub(super) fn remove_extended(&self, node: u64, input: &mut In<'_>) -> Result<(), Errno> {
        self.must_write()?;
        let name = Self::attribute(input)?;
        rustix::fs::fremovexattr(self.open_node(node, OFlags::RDONLY)?, name)
    }

    pub(super) fn get_extended(
        &self,
        node: u64,
        input: &mut In<'_>,
        out: &mut Out<'_>,
        room: usize,
    ) -> Result<(), Errno> {
        let (size, _) = (input.u32()?, input.u32()?);
        let name = Self::attribute(input)?;
        let file = self.open_node(node, OFlags::RDONLY)?;
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::fgetxattr(file, name, &mut value)?;
        Self::extended(size, &value[..len], out, room)
    }

    pub(super) fn list_extended(
        &self,
        node: u64,
        input: &mut In<'_>,
        out: &mut Out<'_>,
        room: usize,
    ) -> Result<(), Errno> {
        let size = input.u32()?;
        let file = self.open_node(node, OFlags::RDONLY)?;
        let mut names = vec![0; 64 << 10];
        let len = rustix::fs::flistxattr(file, &mut names)?;
        let mut shown = Vec::new();
        for name in names[..len].split_inclusive(|&byte| byte == 0) {
            if name.starts_with(b"user.") {
                shown.extend(name);
            }
        }
        Self::extended(size, &shown, out, room)
    }

    /// A value, or its size when none was asked for.
    fn extended(size: u32, value: &[u8], out: &mut Out<'_>, room: usize) -> Result<(), Errno> {
        if size == 0 {
            out.u32s(&[value.len() as u32, 0]);
        } else if value.len() > room.min(size as usize) {
            return Err(Errno::RANGE);
        } else {
            out.0.extend(value);
        }
        Ok(())
    }
}
