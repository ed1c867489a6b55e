//! FUSE messages: reading requests and writing answers (linux/fuse.h, protocol 7.31).

use rustix::fs::Stat;
use rustix::io::Errno;

/// Numbers of the requests that are known.
pub(super) mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
}

/// Bytes of the header of an answer.
pub(super) const OUT_HEADER: usize = 16;

/// The header of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub op: u32,
    pub unique: u64,
    pub node: u64,
    pub uid: u32,
    pub gid: u32,
}

/// What is left to read of a request.
pub(super) struct In<'a>(pub &'a [u8]);

impl<'a> In<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        Ok(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }

    /// The header; the rest is the request's.
    pub(super) fn header(&mut self) -> Result<Header, Errno> {
        let _len = self.u32()?;
        let header = Header {
            op: self.u32()?,
            unique: self.u64()?,
            node: self.u64()?,
            uid: self.u32()?,
            gid: self.u32()?,
        };
        self.u64()?;
        Ok(header)
    }

    /// Bytes up to a zero.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Errno::INVAL)?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    /// The name of a directory's entry: one component, and none of the two that lead elsewhere.
    pub(super) fn name(&mut self) -> Result<&'a [u8], Errno> {
        let name = self.text()?;
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(name)
    }
}

/// An answer being written.
pub(super) struct Out<'a>(pub &'a mut Vec<u8>);

impl Out<'_> {
    pub(super) fn u32s(&mut self, values: &[u32]) {
        for value in values {
            self.0.extend(value.to_le_bytes());
        }
    }

    pub(super) fn u64s(&mut self, values: &[u64]) {
        for value in values {
            self.0.extend(value.to_le_bytes());
        }
    }

    /// `struct fuse_attr`.
    pub(super) fn attributes(&mut self, stat: &Stat) {
        self.u64s(&[
            stat.st_ino,
            stat.st_size as u64,
            stat.st_blocks as u64,
            stat.st_atime as u64,
            stat.st_mtime as u64,
            stat.st_ctime as u64,
        ]);
        self.u32s(&[
            stat.st_atime_nsec as u32,
            stat.st_mtime_nsec as u32,
            stat.st_ctime_nsec as u32,
            stat.st_mode,
            stat.st_nlink as u32,
            stat.st_uid,
            stat.st_gid,
            stat.st_rdev as u32,
            stat.st_blksize as u32,
            0,
        ]);
    }

    /// `struct fuse_entry_out`: names and attributes hold for a second, since the host may change them.
    pub(super) fn entry(&mut self, node: u64, stat: &Stat) {
        self.u64s(&[node, 0, 1, 1]);
        self.u32s(&[0, 0]);
        self.attributes(stat);
    }

    /// `struct fuse_attr_out`.
    pub(super) fn attributes_out(&mut self, stat: &Stat) {
        self.u64s(&[1]);
        self.u32s(&[0, 0]);
        self.attributes(stat);
    }
}
