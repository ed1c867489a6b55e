//! Requests about names: looking up, making, linking, moving, removing, listing.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Stat, Uid};
use rustix::io::Errno;

use super::passthrough::{Handle, Passthrough};
use super::wire::{Header, In, Out};

/// Mode bits that files made by guests may have; those that lend the owner's rights are not among them.
const MODE: u32 = 0o1777;

fn mode(bits: u32, mask: u32) -> Mode {
    Mode::from_raw_mode(bits & MODE & !mask)
}

/// Gives a file made for a guest's user to that user, where the host allows it.
fn give(file: &OwnedFd, header: &Header) {
    let (owner, group) = (Uid::from_raw(header.uid), Gid::from_raw(header.gid));
    let _ = rustix::fs::chownat(file, "", Some(owner), Some(group), AtFlags::EMPTY_PATH);
}

impl Passthrough {
    /// Answers with an entry, which the guest then knows.
    fn entry(&mut self, parent: u64, name: &[u8], stat: &Stat, out: &mut Out<'_>) -> Result<u64, Errno> {
        let node = self.nodes.look_up(parent, name)?;
        out.entry(node, stat);
        Ok(node)
    }

    pub(super) fn look_up(&mut self, parent: u64, name: &[u8], out: &mut Out<'_>) -> Result<(), Errno> {
        let stat = Self::stat(&self.locate_entry(parent, name)?)?;
        self.entry(parent, name, &stat, out).map(drop)
    }

    /// Hands a new entry over: to its owner, and to the guest.
    fn made(
        &mut self,
        header: &Header,
        name: &[u8],
        mode: Option<Mode>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        let file = self.locate_entry(header.node, name)?;
        give(&file, header);
        if let Some(mode) = mode {
            // This process's own mask must not show.
            let mut path = self.nodes.path(header.node)?;
            path.push(b'/');
            path.extend(name);
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            if let Ok(open) = self.open_path(&path, flags, Mode::empty()) {
                let _ = rustix::fs::fchmod(&open, mode);
            }
        }
        self.entry(header.node, name, &Self::stat(&file)?, out).map(drop)
    }

    pub(super) fn make_link(
        &mut self,
        header: &Header,
        input: &mut In<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        self.must_write()?;
        let (name, target) = (input.name()?, input.text()?);
        rustix::fs::symlinkat(target, self.directory(header.node)?, name)?;
        self.made(header, name, None, out)
    }

    pub(super) fn make_node(
        &mut self,
        header: &Header,
        input: &mut In<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        self.must_write()?;
        let (bits, _device, mask, _) = (input.u32()?, input.u32()?, input.u32()?, input.u32()?);
        let name = input.name()?;
        let kind = FileType::from_raw_mode(bits);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        let mode = mode(bits, mask);
        rustix::fs::mknodat(self.directory(header.node)?, name, kind, mode, 0)?;
        let exact = (kind == FileType::RegularFile).then_some(mode);
        self.made(header, name, exact, out)
    }

    pub(super) fn make_directory(
        &mut self,
        header: &Header,
        input: &mut In<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        self.must_write()?;
        let (bits, mask) = (input.u32()?, input.u32()?);
        let name = input.name()?;
        let mode = mode(bits, mask);
        rustix::fs::mkdirat(self.directory(header.node)?, name, mode)?;
        self.made(header, name, Some(mode), out)
    }

    pub(super) fn create(
        &mut self,
        header: &Header,
        input: &mut In<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), Errno> {
        self.must_write()?;
        let (flags, bits, mask, _) = (input.u32()?, input.u32()?, input.u32()?, input.u32()?);
        let name = input.name()?;
        let mode = mode(bits, mask);
        let mut path = self.nodes.path(header.node)?;
        path.push(b'/');
        path.extend(name);
        let how = Self::how(flags) | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (file, new) = match self.open_path(&path, how | OFlags::EXCL, mode) {
            Err(Errno::EXIST) if flags & libc::O_EXCL as u32 == 0 => {
                let there = self.locate_entry(header.node, name)?;
                if Self::stat(&there)?.st_mode & libc::S_IFMT != libc::S_IFREG {
                    return Err(Errno::EXIST);
                }
                let how = Self::how(flags) | OFlags::NONBLOCK | OFlags::NOCTTY;
                (self.open_path(&path, how, Mode::empty())?, false)
            }
            opened => (opened?, true),
        };
        if new {
            give(&file, header);
            let _ = rustix::fs::fchmod(&file, mode);
        }
        let node = self.entry(header.node, name, &Self::stat(&file)?, out)?;
        let opened = self.keep(Handle {
            file,
            node,
            flags: Self::how(flags).bits(),
            directory: false,
        });
        match opened {
            Ok(handle) => {
                out.u64s(&[handle, 0]);
                Ok(())
            }
            Err(error) => {
                self.nodes.forget(node, 1);
                Err(error)
            }
        }
    }

    pub(super) fn unlink(&mut self, parent: u64, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
        self.must_write()?;
        rustix::fs::unlinkat(self.directory(parent)?, name, flags)?;
        self.nodes.remove(parent, name);
        Ok(())
    }

    pub(super) fn rename(&mut self, header: &Header, input: &mut In<'_>) -> Result<(), Errno> {
        self.must_write()?;
        let to = input.u64()?;
        let mut flags = RenameFlags::empty();
        if header.op == super::wire::op::RENAME2 {
            let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
            flags = RenameFlags::from_bits(input.u32()?).ok_or(Errno::INVAL)?;
            if !known.contains(flags) {
                return Err(Errno::INVAL);
            }
            input.u32()?;
        }
        let (old, new) = (input.name()?, input.name()?);
        let (from_directory, to_directory) = (self.directory(header.node)?, self.directory(to)?);
        rustix::fs::renameat_with(from_directory, old, to_directory, new, flags)?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        self.nodes.rename((header.node, old), (to, new), exchange);
        Ok(())
    }

    pub(super) fn link(&mut self, parent: u64, input: &mut In<'_>, out: &mut Out<'_>) -> Result<(), Errno> {
        self.must_write()?;
        let old = self.nodes.path(input.u64()?)?;
        let name = input.name()?;
        // By the directory that the old name is in: a link on the way is not followed, nor the last name's.
        let cut = old.iter().rposition(|&byte| byte == b'/');
        let (above, last) = cut.map_or((b".".as_slice(), old.as_slice()), |cut| {
            (&old[..cut], &old[cut + 1..])
        });
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let above = self.open_path(above, flags, Mode::empty())?;
        rustix::fs::linkat(above, last, self.directory(parent)?, name, AtFlags::empty())?;
        self.look_up(parent, name, out)
    }

    pub(super) fn read_link(&self, node: u64, room: usize, out: &mut Out<'_>) -> Result<(), Errno> {
        let target = rustix::fs::readlinkat(self.locate(node)?, "", Vec::new())?;
        let bytes = target.as_bytes();
        out.0.extend(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    pub(super) fn open_directory(&mut self, node: u64, out: &mut Out<'_>) -> Result<(), Errno> {
        let file = self.open_node(node, OFlags::DIRECTORY)?;
        let handle = self.keep(Handle {
            file,
            node,
            flags: 0,
            directory: true,
        })?;
        out.u64s(&[handle, 0]);
        Ok(())
    }

    /// Entries from an offset on; with `plus` each is looked up too.
    pub(super) fn read_directory(
        &mut self,
        parent: u64,
        input: &mut In<'_>,
        out: &mut Out<'_>,
        room: usize,
        plus: bool,
    ) -> Result<(), Errno> {
        let (handle, offset, size) = (input.u64()?, input.u64()?, input.u32()?);
        let room = room.min(size as usize);
        let handle = self.handle(handle)?;
        if !handle.directory {
            return Err(Errno::NOTDIR);
        }
        let file = handle.file.try_clone().map_err(|_| Errno::MFILE)?;
        rustix::fs::seek(&file, SeekFrom::Start(offset))?;
        let begin = out.0.len();
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut entries = RawDir::new(&file, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let record = (24 + name.len()).next_multiple_of(8);
            let whole = record + if plus { 128 } else { 0 };
            if out.0.len() - begin + whole > room {
                break;
            }
            let kind = entry.file_type().as_raw_mode() >> 12;
            if plus && !self.entry_plus(parent, name, out) {
                continue;
            }
            out.u64s(&[entry.ino(), entry.next_entry_cookie()]);
            out.u32s(&[name.len() as u32, kind]);
            out.0.extend(name);
            let padded = record - 24 - name.len();
            out.0.extend(&[0; 8][..padded]);
        }
        Ok(())
    }

    /// The entry before a directory entry with attributes; false when it is gone already.
    fn entry_plus(&mut self, parent: u64, name: &[u8], out: &mut Out<'_>) -> bool {
        if name == b"." || name == b".." {
            // No look-up; the guest knows both.
            out.0.extend([0; 128]);
            return true;
        }
        let stat = self.locate_entry(parent, name).and_then(|file| Self::stat(&file));
        stat.is_ok_and(|stat| self.entry(parent, name, &stat, out).is_ok())
    }
}
