//! A guest's own copy of an image that is a disk.

use std::fs::File;
use std::path::Path;

use disk::Format;
use fault::{Fault, Result};
use model::Watcher;

use super::partial::Partial;
use crate::codes;
use crate::disk_file;
use crate::store::StoredDisk;
use crate::tree::At;

/// Copies the disk of an image, sparsely and in its own format; a raw one is made larger when `size` says so, and none
/// smaller. What is at `out` is replaced in the end; after a fault there is no copy.
///
/// # Errors
/// [`codes::CANNOT_GROW`], [`codes::DISK_FULL`], [`codes::IO`], [`model::CANCELLED`].
pub fn copy_disk(image: &StoredDisk, out: &Path, size: Option<u64>, watcher: &dyn Watcher) -> Result<()> {
    let larger = size.filter(|size| *size > image.size);
    if larger.is_some() && image.format != Format::Raw {
        return Err(Fault::new(codes::CANNOT_GROW).arg("size", image.size >> 20));
    }
    let from = File::open(&image.path).at(&image.path)?;
    let partial = Partial::new(out)?;
    disk_file::copy(&from, &partial.file, out, watcher)?;
    if let Some(size) = larger {
        partial
            .file
            .set_len(size.next_multiple_of(disk::SECTOR))
            .at(out)?;
    }
    partial.keep(out)
}
