//! `posada bootstrap`: a signed Debian from the archive into a directory or a tar file.

use std::path::PathBuf;

use fault::{Fault, Result};
use jail::recipe::IdRange;
use model::{ImageRef, Watcher};
use serde::{Deserialize, Serialize};

use crate::codes;

/// How much of a release a tree gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Essential packages and apt, with what they depend on.
    #[default]
    Minbase,
    /// With the packages of priority important.
    Standard,
    /// With build-essential.
    Buildd,
}

/// What `posada bootstrap` is asked for.
#[derive(Clone, Debug)]
pub struct BootstrapRequest {
    /// The release, as `debian/12`.
    pub image: ImageRef,
    /// A directory that does not exist or is empty, or a file `*.tar`, `*.tar.gz`, `*.tar.zst`.
    pub target: PathBuf,
    /// Debian's name of the architecture; the host's own when absent.
    pub arch: Option<String>,
    /// How much of the release.
    pub variant: Variant,
    /// Packages beyond those of the variant.
    pub include: Vec<String>,
    /// Packages left out.
    pub exclude: Vec<String>,
    /// Components of the archive; `main` when empty.
    pub components: Vec<String>,
    /// Base address of the archive; the host's apt entry, else the documented default, when absent.
    pub mirror: Option<String>,
    /// Keyring that must have signed the archive; as for `mirror` when absent.
    pub keyring: Option<PathBuf>,
    /// Where downloads are kept.
    pub cache_dir: PathBuf,
    /// The executable `posada-worker`.
    pub worker_exe: PathBuf,
    /// The executable `posada-shim`.
    pub shim_exe: PathBuf,
    /// Host ids for the namespaces in which archives are unpacked and packages configured.
    pub ids: IdRange,
}

/// What a bootstrap has made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name and version of each package, in order of name.
    pub packages: Vec<(String, String)>,
    /// Bytes fetched; 0 when all came from the cache.
    pub fetched: u64,
    /// Bytes of the files of the tree.
    pub size: u64,
    /// What a user should know although it is no error, as message ids of `images.ftl`.
    pub notes: Vec<String>,
}

/// Makes a tree. On a fault nothing is left but the cache of downloads.
///
/// # Errors
/// Codes `ARC…` for what is wrong with the archive, `IMG…` for the target, [`model::CANCELLED`].
pub fn bootstrap(request: &BootstrapRequest, watcher: &dyn Watcher) -> Result<Summary> {
    let _ = watcher;
    Err(Fault::new(codes::RELEASE_UNKNOWN).arg("image", &request.image))
}
