//! The file systems ext2, ext3 and ext4, read-only, from an image that nobody else writes.
//!
//! A journal that has to be replayed is replayed in memory: the image stays as it is. Whatever the image holds, reading
//! ends: trees have a bounded depth, links are followed a bounded number of times inside of this file system, and files
//! and directories are read up to a size.
//!
//! Files inside of their inodes (`inline_data`), encrypted and compressed ones are refused one by one; the rest of such
//! a file system is read.

mod blocks;
mod journal;
mod sums;
mod superblock;
mod volume;

use std::io;

use volume::{Inode, Volume};

use crate::Image;
use crate::partition::Guid;

/// Most bytes of a directory that is read: half a million files.
const MOST_DIRECTORY: u64 = 16 << 20;
/// Most links that are followed on the way to a file, as in Linux.
const MOST_LINKS: u32 = 40;
/// Most bytes of a path, also of one that a link has put in.
const MOST_PATH: usize = 4096;
const ROOT: u32 = 2;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image does not hold such a file system.
    #[error("no ext2, ext3 or ext4 file system")]
    Not,
    /// The host cannot read the image.
    #[error("the image cannot be read")]
    Io(#[from] io::Error),
    /// The file system contradicts itself.
    #[error("the file system is damaged: {0}")]
    Damaged(&'static str),
    /// The file system uses something that is not known here.
    #[error("not read here: {0}")]
    Unsupported(String),
    /// There is no such file.
    #[error("no such file or directory")]
    NotFound,
    /// What is there is of another kind.
    #[error("not what was asked for, but {0:?}")]
    OtherKind(Kind),
    /// The file is longer than the reader wants it to be.
    #[error("too large: {0} bytes")]
    TooLarge(u64),
    /// The path, or one that a link leads to, is too long or goes through too many links.
    #[error("path too long, or too many links")]
    TooFar,
}

/// What reading gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
}

impl Kind {
    fn of_mode(mode: u16) -> Option<Self> {
        Some(match mode >> 12 {
            1 => Kind::Pipe,
            2 => Kind::CharacterDevice,
            4 => Kind::Directory,
            6 => Kind::BlockDevice,
            8 => Kind::File,
            10 => Kind::Link,
            12 => Kind::Socket,
            _ => return None,
        })
    }

    fn of_entry(number: u8) -> Option<Self> {
        Some(match number {
            1 => Kind::File,
            2 => Kind::Directory,
            3 => Kind::CharacterDevice,
            4 => Kind::BlockDevice,
            5 => Kind::Pipe,
            6 => Kind::Socket,
            7 => Kind::Link,
            _ => return None,
        })
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Number of its inode.
    pub inode: u32,
    /// Its kind.
    pub kind: Kind,
    /// Permissions with set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of its content, in seconds since 1970, as 32 bits can hold it.
    pub modified: i64,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, which need not be UTF-8.
    pub name: Vec<u8>,
    /// Number of its inode.
    pub inode: u32,
    /// Its kind, where the file system notes it in directories.
    pub kind: Option<Kind>,
}

/// An open file system.
pub struct Ext4<I> {
    volume: Volume<I>,
}

impl<I: Image> Ext4<I> {
    /// Opens the file system that begins at the image's first byte and replays its journal in memory.
    ///
    /// # Errors
    /// [`Error::Not`] when there is none, and those of reading.
    pub fn open(image: I) -> Result<Self> {
        Volume::open(image).map(|volume| Ext4 { volume })
    }

    /// The volume's label.
    pub fn label(&self) -> &str {
        &self.volume.superblock.label
    }

    /// The volume's UUID, as `root=UUID=…` names it.
    pub fn uuid(&self) -> Guid {
        self.volume.superblock.uuid
    }

    /// How many blocks were taken from the journal.
    pub fn replayed(&self) -> usize {
        self.volume.logged.len()
    }

    /// What is known of the file that a path leads to; links are followed.
    ///
    /// # Errors
    /// Those of reading; [`Error::NotFound`].
    pub fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        Ok(self.walk(path.as_ref(), true)?.0.metadata)
    }

    /// What is known of a file or of the link itself.
    ///
    /// # Errors
    /// Those of reading; [`Error::NotFound`].
    pub fn symlink_metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        Ok(self.walk(path.as_ref(), false)?.0.metadata)
    }

    /// The path without links and dots, from the root of this file system.
    ///
    /// # Errors
    /// Those of reading; [`Error::NotFound`].
    pub fn canonicalize(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        for name in self.walk(path.as_ref(), true)?.1 {
            whole.push(b'/');
            whole.extend(name);
        }
        if whole.is_empty() {
            whole.push(b'/');
        }
        Ok(whole)
    }

    /// The bytes of a regular file of at most `most` bytes.
    ///
    /// # Errors
    /// Those of reading; [`Error::NotFound`], [`Error::OtherKind`], [`Error::TooLarge`].
    pub fn read(&self, path: impl AsRef<[u8]>, most: u64) -> Result<Vec<u8>> {
        let inode = self.walk(path.as_ref(), true)?.0;
        if inode.metadata.kind != Kind::File {
            return Err(Error::OtherKind(inode.metadata.kind));
        }
        self.content(&inode, most)
    }

    /// Where a link points to, as it is written.
    ///
    /// # Errors
    /// Those of reading; [`Error::NotFound`], [`Error::OtherKind`].
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.target(&self.walk(path.as_ref(), false)?.0)
    }

    /// The entries of a directory without `.` and `..`, in the order of the disk.
    ///
    /// # Errors
    /// Those of reading; [`Error::NotFound`], [`Error::OtherKind`].
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<Vec<Entry>> {
        let inode = self.walk(path.as_ref(), true)?.0;
        let mut found = Vec::new();
        self.entries(&inode, |entry| {
            if entry.name != b"." && entry.name != b".." {
                found.push(Entry {
                    name: entry.name.to_vec(),
                    inode: entry.inode,
                    kind: entry.kind,
                });
            }
            true
        })?;
        Ok(found)
    }

    /// Follows a path from the root to its inode and the names on the way. Absolute links begin at the root of this
    /// file system, and nothing leads above it.
    fn walk(&self, path: &[u8], follow: bool) -> Result<(Inode, Vec<Vec<u8>>)> {
        let mut links = 0;
        let mut rest = path.to_vec();
        let mut way: Vec<(Inode, Vec<u8>)> = Vec::new();
        let root = self.volume.inode(ROOT)?;
        loop {
            if rest.len() > MOST_PATH {
                return Err(Error::TooFar);
            }
            let here = way.last().map_or(&root, |(inode, _)| inode);
            let Some(start) = rest.iter().position(|byte| *byte != b'/') else {
                let inode = here.clone();
                return Ok((inode, way.into_iter().map(|(_, name)| name).collect()));
            };
            let end = rest[start..]
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(rest.len(), |len| start + len);
            let (name, later) = (rest[start..end].to_vec(), rest[end..].to_vec());
            match name.as_slice() {
                b"." => {}
                b".." => drop(way.pop()),
                _ => {
                    let inode = self.lookup(here, &name)?;
                    let last = later.iter().all(|byte| *byte == b'/');
                    if inode.metadata.kind == Kind::Link && (follow || !last) {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Error::TooFar);
                        }
                        let mut target = self.target(&inode)?;
                        if target.first() == Some(&b'/') {
                            way.clear();
                        }
                        target.extend(later);
                        rest = target;
                        continue;
                    }
                    way.push((inode, name));
                }
            }
            rest = later;
        }
    }

    fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Inode> {
        let mut found = None;
        self.entries(directory, |entry| {
            if entry.name == name {
                found = Some(entry.inode);
            }
            found.is_none()
        })?;
        self.volume.inode(found.ok_or(Error::NotFound)?)
    }

    fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        if link.metadata.kind != Kind::Link {
            return Err(Error::OtherKind(link.metadata.kind));
        }
        let size = link.metadata.size;
        if size == 0 || size > MOST_PATH as u64 {
            return Err(Error::Damaged("length of a link"));
        }
        if size < link.root.len() as u64 && !link.has_extents() {
            return Ok(link.root[..size as usize].to_vec());
        }
        self.content(link, MOST_PATH as u64)
    }

    /// The bytes of an inode.
    fn content(&self, inode: &Inode, most: u64) -> Result<Vec<u8>> {
        inode.check_plain()?;
        let (size, block) = (inode.metadata.size, self.volume.block_size());
        let len = usize::try_from(size.min(most)).map_err(|_| Error::TooLarge(size))?;
        if size > most {
            return Err(Error::TooLarge(size));
        }
        let mut bytes = vec![0; len];
        let mut at = 0;
        while at < size {
            let run = blocks::find(&self.volume, inode, at / block)?;
            let end = run.len.saturating_mul(block).saturating_add(at).min(size);
            if let Some(first) = run.first {
                self.volume
                    .read_blocks(first, &mut bytes[at as usize..end as usize])?;
            }
            at = end;
        }
        Ok(bytes)
    }

    /// Hands each used entry of a directory on, until one answers false. A hashed directory reads the same way: the
    /// blocks of its tree look like entries that are not used.
    fn entries(&self, directory: &Inode, mut each: impl FnMut(Found<'_>) -> bool) -> Result<()> {
        if directory.metadata.kind != Kind::Directory {
            return Err(Error::OtherKind(directory.metadata.kind));
        }
        let bytes = self.content(directory, MOST_DIRECTORY)?;
        let typed = self.volume.superblock.has_file_types();
        let damaged = || Error::Damaged("directory");
        for block in bytes.chunks(self.volume.superblock.block_size as usize) {
            let mut rest = block;
            while rest.len() >= 8 {
                let inode = le32(rest, 0);
                let len = match le16(rest, 4) {
                    // Blocks of 64 KiB: the length does not fit into its field.
                    0 | 0xffff if block.len() == 1 << 16 => rest.len(),
                    len => usize::from(len),
                };
                let name_len = usize::from(rest[6]);
                if len < 8 || len % 4 != 0 || len > rest.len() || name_len + 8 > len {
                    return Err(damaged());
                }
                let name = &rest[8..8 + name_len];
                if inode != 0 && !name.is_empty() {
                    if name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                        return Err(damaged());
                    }
                    let kind = if typed { Kind::of_entry(rest[7]) } else { None };
                    if !each(Found { name, inode, kind }) {
                        return Ok(());
                    }
                }
                rest = &rest[len..];
            }
        }
        Ok(())
    }
}

/// An entry where it stands.
struct Found<'a> {
    name: &'a [u8],
    inode: u32,
    kind: Option<Kind>,
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}
