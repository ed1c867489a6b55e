//! From an image to a machine's disk: its packages, its files, its partitions and its root file system.

mod copy;
mod files;
mod making;
mod packages;
mod partial;
mod uuids;

pub use copy::copy_disk;
pub use making::{Making, make_disk};
pub use packages::packages;
pub use uuids::root_uuid;

pub(crate) use files::of_image;
