//! Images: made from signed archives, files and directories, kept by their digest; and `posada bootstrap`.

mod bootstrap;
mod store;

pub use bootstrap::{BootstrapRequest, Summary, Variant, bootstrap};
pub use store::{Images, Settings, StoredImage};

/// Codes of the faults that this room raises; sentences and hints stand in `words/{en,es}/images.ftl`.
pub mod codes {
    use fault::Code;

    /// The image is not known here and cannot be made.
    pub const UNKNOWN: Code = Code("IMG002");
    /// The release is not one that the archive offers.
    pub const RELEASE_UNKNOWN: Code = Code("IMG003");
    /// The target of a bootstrap is there already.
    pub const TARGET_EXISTS: Code = Code("IMG004");
    /// A file or directory of an image cannot be read or written.
    pub const IO: Code = Code("IMG005");
}
