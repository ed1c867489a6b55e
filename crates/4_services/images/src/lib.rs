//! Images: made from signed archives, files and directories, kept by their digest; and `posada bootstrap`.

mod attend;
mod bootstrap;
mod configure;
mod confine;
mod disk_file;
mod fetch;
mod host;
pub mod machine;
mod make;
mod overlap;
mod releases;
mod store;
mod suites;
mod tree;
mod worker;

pub use bootstrap::{BootstrapRequest, Summary, Variant, bootstrap};
pub use disk_file::Shape;
pub use fetch::Patience;
pub use store::{Images, Settings, StoredDisk, StoredImage};

/// Codes of the faults that this room raises; sentences and hints stand in `words/{en,es}/images.ftl`.
pub mod codes {
    use fault::Code;

    /// The image is not known here and cannot be made.
    pub const UNKNOWN: Code = Code("IMG002");
    /// The release is not one that the archive offers.
    pub const RELEASE_UNKNOWN: Code = Code("IMG003");
    /// The target of a bootstrap is there already.
    pub const TARGET_EXISTS: Code = Code("IMG004");
    /// A file or directory of an image or of the cache cannot be read or written.
    pub const IO: Code = Code("IMG005");
    /// A server cannot be reached, or the connection broke.
    pub const NETWORK: Code = Code("IMG006");
    /// A server keeps silent.
    pub const STALLED: Code = Code("IMG007");
    /// A server refuses a file.
    pub const HTTP: Code = Code("IMG008");
    /// A proxy wants a login.
    pub const PROXY_LOGIN: Code = Code("IMG009");
    /// The worker cannot be started.
    pub const WORKER: Code = Code("IMG010");
    /// The worker ended before its work was done.
    pub const WORKER_ENDED: Code = Code("IMG011");
    /// The packages cannot be configured.
    pub const CONFIGURE: Code = Code("IMG012");
    /// Packages of this architecture cannot run here.
    pub const ARCHITECTURE: Code = Code("IMG013");
    /// The disk is full.
    pub const DISK_FULL: Code = Code("IMG014");
    /// The work needs root.
    pub const NOT_ROOT: Code = Code("IMG015");
    /// Two packages have the same file, and neither may replace it.
    pub const OVERLAP: Code = Code("IMG016");
    /// The file or directory that an image shall be made of is not there.
    pub const NO_SUCH_FILE: Code = Code("IMG017");
    /// The file or directory holds no root tree.
    pub const NO_ROOT_TREE: Code = Code("IMG018");
    /// The tree of a machine cannot be made a disk.
    pub const MAKING_DISK: Code = Code("IMG019");
    /// The tree of a machine does not fit on its disk.
    pub const DISK_TOO_SMALL: Code = Code("IMG020");
    /// The tree of a machine has no mke2fs.
    pub const NO_MKE2FS: Code = Code("IMG021");
    /// The image is a disk, which is no root tree.
    pub const IS_DISK: Code = Code("IMG022");
    /// The image is a CD-ROM.
    pub const IS_CDROM: Code = Code("IMG023");
    /// An image in a format of its own does not grow.
    pub const CANNOT_GROW: Code = Code("IMG024");
}
