//! The server that passes everything through to a directory of the host.
//!
//! Every path is resolved by `openat2` beneath the directory, without following any symbolic link: what the guest names can only be
//! what lies in the directory. Set-user-id bits, device files and attributes other than `user.*` are not made.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use fault::Result as Outcome;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::nodes::Nodes;
use super::wire::{Header, In, OUT_HEADER, Out, op};
use super::{FuseServer, MOST_DATA};
use crate::Saved;

/// Most files and directories open at once.
const MOST_OPEN: usize = 4096;

/// What the guest's kernel may do (linux/fuse.h): parallel reads, opening with truncation, large writes, listings with attributes,
/// parallel look-ups, so many pages in a message.
const WANTED: u32 = 1 | 1 << 3 | 1 << 5 | 1 << 13 | 1 << 14 | 1 << 18 | 1 << 22;

/// Something that is open.
pub(super) struct Handle {
    pub file: OwnedFd,
    pub node: u64,
    /// How it was opened.
    pub flags: u32,
    pub directory: bool,
}

/// The server.
pub struct Passthrough {
    pub(super) root: OwnedFd,
    pub(super) read_only: bool,
    pub(super) nodes: Nodes,
    pub(super) handles: BTreeMap<u64, Handle>,
    last_handle: u64,
}

#[derive(Serialize, Deserialize)]
struct State {
    nodes: Nodes,
    /// Handle, node, flags, whether a directory.
    handles: Vec<(u64, u64, u32, bool)>,
    last_handle: u64,
}

impl Passthrough {
    /// Serves the directory behind this descriptor.
    #[must_use]
    pub fn new(root: OwnedFd, read_only: bool) -> Self {
        Passthrough {
            root,
            read_only,
            nodes: Nodes::default(),
            handles: BTreeMap::new(),
            last_handle: 0,
        }
    }

    /// Opens a path beneath the shared directory, following no link.
    pub(super) fn open_path(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, mode, resolve) {
                // Somebody on the host was moving directories meanwhile.
                Err(Errno::AGAIN | Errno::INTR) if tries < 16 => tries += 1,
                opened => return opened,
            }
        }
    }

    /// A node, without opening it for anything.
    pub(super) fn locate(&self, node: u64) -> Result<OwnedFd, Errno> {
        self.open_path(&self.nodes.path(node)?, OFlags::PATH, Mode::empty())
    }

    /// A directory in which names are made or removed.
    pub(super) fn directory(&self, node: u64) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.open_path(&self.nodes.path(node)?, flags, Mode::empty())
    }

    /// An entry of a directory, without opening it for anything.
    pub(super) fn locate_entry(&self, parent: u64, name: &[u8]) -> Result<OwnedFd, Errno> {
        let mut path = self.nodes.path(parent)?;
        path.push(b'/');
        path.extend(name);
        self.open_path(&path, OFlags::PATH, Mode::empty())
    }

    pub(super) fn stat(file: &OwnedFd) -> Result<Stat, Errno> {
        rustix::fs::fstat(file)
    }

    /// Opens a file or directory for reading or writing; nothing else is opened.
    pub(super) fn open_node(&self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = self.nodes.path(node)?;
        let there = self.open_path(&path, OFlags::PATH, Mode::empty())?;
        let kind = Self::stat(&there)?.st_mode & libc::S_IFMT;
        if kind != libc::S_IFREG && kind != libc::S_IFDIR {
            return Err(Errno::OPNOTSUPP);
        }
        // Should the host put something else there now, opening it does not wait.
        self.open_path(&path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())
    }

    pub(super) fn handle(&self, handle: u64) -> Result<&Handle, Errno> {
        self.handles.get(&handle).ok_or(Errno::BADF)
    }

    pub(super) fn keep(&mut self, handle: Handle) -> Result<u64, Errno> {
        if self.handles.len() >= MOST_OPEN {
            return Err(Errno::MFILE);
        }
        self.last_handle += 1;
        self.handles.insert(self.last_handle, handle);
        Ok(self.last_handle)
    }

    pub(super) fn must_write(&self) -> Result<(), Errno> {
        if self.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Answers `FUSE_INIT`.
    fn init(&mut self, input: &mut In<'_>, out: &mut Out<'_>) -> Result<(), Errno> {
        let (major, _minor, ahead, flags) = (input.u32()?, input.u32()?, input.u32()?, input.u32()?);
        if major < 7 {
            return Err(Errno::PROTO);
        }
        self.reset();
        let pages = (MOST_DATA / 4096) as u32;
        out.u32s(&[7, 31, ahead.min(MOST_DATA as u32), flags & WANTED]);
        // Requests in the background and where that counts as congestion, largest write, nanoseconds, pages of a message.
        out.u32s(&[64 | 48 << 16, MOST_DATA as u32, 1, pages]);
        out.u32s(&[0; 8]);
        Ok(())
    }

    fn status(&self, out: &mut Out<'_>) -> Result<(), Errno> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        out.u64s(&[
            stat.f_blocks,
            stat.f_bfree,
            stat.f_bavail,
            stat.f_files,
            stat.f_ffree,
        ]);
        out.u32s(&[stat.f_bsize as u32, stat.f_namemax as u32, stat.f_frsize as u32]);
        out.u32s(&[0; 7]);
        Ok(())
    }

    fn forget(&mut self, header: &Header, input: &mut In<'_>) -> Result<(), Errno> {
        if header.op == op::FORGET {
            self.nodes.forget(header.node, input.u64()?);
            return Ok(());
        }
        input.u64()?;
        // As many as there are in the message, whatever it says.
        while let (Ok(node), Ok(times)) = (input.u64(), input.u64()) {
            self.nodes.forget(node, times);
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        header: &Header,
        input: &mut In<'_>,
        out: &mut Out<'_>,
        room: usize,
    ) -> Result<(), Errno> {
        let node = header.node;
        match header.op {
            op::INIT => self.init(input, out),
            op::STATFS => self.status(out),
            op::LOOKUP => self.look_up(node, input.name()?, out),
            op::GETATTR => self.get_attributes(node, input, out),
            op::SETATTR => self.set_attributes(node, input, out),
            op::READLINK => self.read_link(node, room, out),
            op::SYMLINK => self.make_link(header, input, out),
            op::MKNOD => self.make_node(header, input, out),
            op::MKDIR => self.make_directory(header, input, out),
            op::UNLINK => self.unlink(node, input.name()?, AtFlags::empty()),
            op::RMDIR => self.unlink(node, input.name()?, AtFlags::REMOVEDIR),
            op::RENAME | op::RENAME2 => self.rename(header, input),
            op::LINK => self.link(node, input, out),
            op::OPEN => self.open(node, input, out),
            op::CREATE => self.create(header, input, out),
            op::READ => self.read(input, out, room),
            op::WRITE => self.write(input, out),
            op::RELEASE | op::RELEASEDIR => {
                self.handles.remove(&input.u64()?);
                Ok(())
            }
            op::FLUSH | op::DESTROY => Ok(()),
            op::FSYNC | op::FSYNCDIR => self.sync(input),
            op::SETXATTR => self.set_extended(node, input),
            op::GETXATTR => self.get_extended(node, input, out, room),
            op::LISTXATTR => self.list_extended(node, input, out, room),
            op::REMOVEXATTR => self.remove_extended(node, input),
            op::OPENDIR => self.open_directory(node, out),
            op::READDIR => self.read_directory(node, input, out, room, false),
            op::READDIRPLUS => self.read_directory(node, input, out, room, true),
            op::FALLOCATE => self.allocate(input),
            op::LSEEK => self.seek(input, out),
            _ => Err(Errno::NOSYS),
        }
    }
}

impl FuseServer for Passthrough {
    fn answer(&mut self, request: &[u8], answer: &mut Vec<u8>, room: usize) {
        let mut input = In(request);
        let Ok(header) = input.header() else { return };
        if matches!(header.op, op::FORGET | op::BATCH_FORGET | op::INTERRUPT) {
            if header.op != op::INTERRUPT {
                let _ = self.forget(&header, &mut input);
            }
            return;
        }
        if room < OUT_HEADER {
            return;
        }
        answer.resize(OUT_HEADER, 0);
        let mut done = self.dispatch(&header, &mut input, &mut Out(answer), room - OUT_HEADER);
        if answer.len() > room {
            done = Err(Errno::IO);
        }
        if done.is_err() {
            answer.truncate(OUT_HEADER);
        }
        let error = done.err().map_or(0, |error| -error.raw_os_error());
        let len = answer.len() as u32;
        answer[..4].copy_from_slice(&len.to_le_bytes());
        answer[4..8].copy_from_slice(&error.to_le_bytes());
        answer[8..16].copy_from_slice(&header.unique.to_le_bytes());
    }

    fn reset(&mut self) {
        self.nodes = Nodes::default();
        self.handles.clear();
    }

    fn save(&mut self) -> Outcome<Saved> {
        let state = State {
            nodes: self.nodes.clone(),
            handles: self
                .handles
                .iter()
                .map(|(id, handle)| (*id, handle.node, handle.flags, handle.directory))
                .collect(),
            last_handle: self.last_handle,
        };
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Outcome<()> {
        let state: State = saved.fields(1)?;
        self.reset();
        self.nodes = state.nodes;
        for (id, node, flags, directory) in state.handles.into_iter().take(MOST_OPEN) {
            let how = if directory {
                OFlags::DIRECTORY
            } else {
                OFlags::from_bits_truncate(flags & !(libc::O_TRUNC as u32))
            };
            // What is gone meanwhile gives "bad file descriptor" when it is used.
            if let Ok(file) = self.open_node(node, how) {
                let handle = Handle {
                    file,
                    node,
                    flags,
                    directory,
                };
                self.handles.insert(id, handle);
            }
        }
        self.last_handle = state.last_handle;
        Ok(())
    }
}
