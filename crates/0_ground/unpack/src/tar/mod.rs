//! The tar archive: ustar, GNU and PAX (POSIX.1-2017 pax, GNU tar manual "Tar Internals").

mod header;
mod pax;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data follows.
    File,
    /// Another name of a file that came before: its path.
    HardLink(Vec<u8>),
    /// A symbolic link: its target.
    Symlink(Vec<u8>),
    /// A directory.
    Dir,
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    Char(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Time of the last change: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Length of the file, holes included.
    pub size: u64,
    /// Extended attributes, in order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file belongs: offset and length, ascending; none for an ordinary file.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry of this name and kind, owned by root, without data.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Entry {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// Bytes of data that follow the header: the length, or of a sparse file what is not a hole.
    #[must_use]
    pub fn stored(&self) -> u64 {
        match &self.sparse {
            None => self.size,
            Some(map) => map.iter().map(|(_, len)| len).sum(),
        }
    }
}
