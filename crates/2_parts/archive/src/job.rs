//! The work of `posada-worker`: requests and answers, one JSON line each.
//!
//! Paths are those that the worker sees. Answers to [`Request::Unpack`] come when the package is done, in any order.

use std::path::PathBuf;

use fault::{Code, Fault};
use serde::{Deserialize, Serialize};

use crate::deb::Unpacked;
use crate::release::{Clock, FileHash};
use crate::resolve::Wanted;

/// A request or an answer is not what it must be: the two sides are of different versions.
pub const PROTOCOL: Code = Code("ARC014");

/// What a worker is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do")]
pub enum Request {
    /// Check and read the Release file of a suite.
    Verify {
        /// `InRelease`, or `Release` when a detached signature is given.
        release: PathBuf,
        /// `Release.gpg`.
        detached: Option<PathBuf>,
        /// Keyrings; a key of any of them will do.
        keyrings: Vec<PathBuf>,
        /// The suite asked for.
        suite: String,
        /// Components wanted.
        components: Vec<String>,
        /// Architecture wanted.
        arch: String,
        /// Time and which checks of it are made.
        clock: Clock,
    },
    /// Undo the compression of an index.
    Decode {
        /// The compressed file.
        from: PathBuf,
        /// The new file.
        to: PathBuf,
    },
    /// Choose packages.
    Resolve {
        /// Plain indexes with the number of their origin.
        indexes: Vec<(PathBuf, usize)>,
        /// Architecture wanted.
        arch: String,
        /// What is wanted.
        wanted: Wanted,
    },
    /// Unpack a package into the tree.
    Unpack {
        /// The package file.
        deb: PathBuf,
        /// Its name in faults, and in the answer.
        label: String,
    },
    /// Unpack a tar archive, compressed or not, into the tree.
    Import {
        /// The archive.
        archive: PathBuf,
    },
    /// Write the tree into a tar archive.
    Pack {
        /// The new file; its ending says how it is compressed.
        to: PathBuf,
    },
}

/// What a worker answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Answer {
    /// To [`Request::Verify`].
    Verified {
        /// Code name of the release.
        codename: String,
        /// Whether indexes can be fetched by hash.
        by_hash: bool,
        /// The index of each component.
        indexes: Vec<Index>,
    },
    /// To [`Request::Resolve`].
    Resolved {
        /// The packages, dependencies first.
        packages: Vec<Chosen>,
        /// Names that were to be left out and that no index has.
        strangers: Vec<String>,
    },
    /// To [`Request::Unpack`].
    Unpacked {
        /// What is to know of the package.
        package: Box<Unpacked>,
        /// Its label in the request.
        label: String,
        /// Device nodes that could not be made.
        devices_skipped: u64,
    },
    /// To the other requests.
    Done {
        /// Entries handled.
        entries: u64,
        /// Bytes handled.
        bytes: u64,
        /// Device nodes that could not be made.
        devices_skipped: u64,
    },
    /// To any of them.
    Failed {
        /// Why.
        fault: Fault,
    },
}

/// An index that a Release file vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Path below the suite, as `main/binary-amd64/Packages.xz`.
    pub name: String,
    /// Length and hash of this form.
    pub hash: FileHash,
    /// Length and hash of the plain form, when the Release file has them.
    pub plain: Option<FileHash>,
}

/// A chosen package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of packages::Package")]
pub struct Chosen {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub filename: String,
    pub hash: FileHash,
    pub installed_kib: u64,
    pub origin: usize,
    /// Chosen only because others need it, and not part of the essential system.
    pub auto: bool,
}
