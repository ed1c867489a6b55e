//! Archives (tar, ar) into a root directory and back: confined paths, hard links, devices, xattrs, sparse files.
//!
//! Everything here reads bytes from outside: nothing panics on them, every length is bounded, and no name leads
//! out of the directory that the caller has opened, whatever symbolic links the archive has made before.
//!
//! - [`ar::Reader`] and [`tar::Reader`] take archives apart, [`tar::Writer`] puts one together;
//! - [`codec`] finds and undoes the compression;
//! - [`Extractor`] applies entries below a [`Root`]; [`pack`] turns a tree into a tar stream.

mod acl;
pub mod ar;
pub mod codec;
mod extract;
mod pack;
mod root;
pub mod tar;

pub use extract::{Extractor, Options, Report, extract};
pub use pack::{PackOptions, Packed, Steady, pack};
pub use root::Root;

use fault::Code;

/// The archive is damaged; argument `what` says where.
pub const DAMAGED: Code = Code("UNP001");
/// A name in the archive leads out of the root, or cannot be a path.
pub const UNSAFE_PATH: Code = Code("UNP002");
/// A file below the root cannot be written.
pub const WRITE: Code = Code("UNP003");
/// The archive cannot be read.
pub const READ: Code = Code("UNP004");
/// The archive is compressed in a way that is not known here.
pub const COMPRESSION: Code = Code("UNP005");
/// A file of the archive belongs to a user or group that does not exist in the namespace.
pub const OWNER: Code = Code("UNP006");
/// What stands at a path is of another kind than what shall take its place.
pub const OTHER_KIND: Code = Code("UNP008");
/// A file of a tree cannot be read while it is packed.
pub const PACK: Code = Code("UNP007");

pub(crate) fn damaged(what: impl std::fmt::Display) -> fault::Fault {
    fault::Fault::new(DAMAGED).arg("what", what)
}
