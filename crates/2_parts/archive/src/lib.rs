//! A signed Debian archive, from its indexes to a root tree: parse, verify, resolve.
//!
//! Everything works on bytes it is given; fetching them is the business of `images`. In the order of a bootstrap:
//! [`signature`] checks that a key of the keyring has signed a Release file, [`release`] reads it and what it
//! says about the indexes, [`packages`] reads an index, [`resolve`] chooses packages, [`deb`] unpacks one.
//! [`sources`] reads apt's own list of archives.

pub mod deb;
pub mod deb822;
pub mod job;
pub mod packages;
pub mod relation;
pub mod release;
pub mod resolve;
#[cfg(feature = "signature")]
pub mod signature;
pub mod sources;
pub mod time;
pub mod version;
#[cfg(feature = "signature")]
pub mod work;

use fault::Code;

/// No signature of the Release file is good.
pub const BAD_SIGNATURE: Code = Code("ARC001");
/// The Release file is signed, but by no key of the keyring.
pub const UNKNOWN_KEY: Code = Code("ARC002");
/// The Release file is no longer valid.
pub const EXPIRED: Code = Code("ARC003");
/// The Release file is from the future: the clock is wrong.
pub const FROM_THE_FUTURE: Code = Code("ARC004");
/// A file of the archive is not what the signed index says.
pub const MISMATCH: Code = Code("ARC005");
/// An index or Release file cannot be read.
pub const MALFORMED: Code = Code("ARC006");
/// The Release file does not list an index of this component and architecture.
pub const NO_INDEX: Code = Code("ARC007");
/// The archive has no such package.
pub const NO_PACKAGE: Code = Code("ARC008");
/// A dependency of a package cannot be satisfied.
pub const UNSATISFIED: Code = Code("ARC009");
/// Two packages exclude each other.
pub const CONFLICT: Code = Code("ARC010");
/// The keyring cannot be read or holds no key.
pub const KEYRING: Code = Code("ARC011");
/// A package file is damaged.
pub const BAD_PACKAGE: Code = Code("ARC012");
/// The Release file is for another release than asked for.
pub const WRONG_RELEASE: Code = Code("ARC013");
