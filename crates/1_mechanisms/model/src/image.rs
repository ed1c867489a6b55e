//! Image: immutable, named by digest, with human references.

use std::fmt;
use std::str::FromStr;

use fault::{Code, Fault};
use serde::{Deserialize, Serialize};

use crate::{Record, Size};

/// The text names no image.
pub const IMAGE_REF_INVALID: Code = Code("IMG001");

/// A stored image.
pub type Image = Record<ImageSpec, ImageStatus>;

/// What a user calls an image: `debian/12`, `file:/path/rootfs.tar.zst`, `dir:/path`, `sha256:…`, or `none`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    /// A release of a distribution, made from its signed archive: `debian/12` or `debian/bookworm`.
    Release {
        /// The distribution.
        distribution: String,
        /// Number or code name of the release.
        release: String,
    },
    /// A tar archive of a root tree, or a directory, on the host.
    Path(String),
    /// By digest, `sha256:` and hexadecimal digits (a unique beginning is enough).
    Digest(String),
    /// `none`: a machine that starts from disks, a CD-ROM or a kernel of its own.
    Nothing,
}

impl ImageRef {
    /// Whether there is no image.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == ImageRef::Nothing
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for ImageRef {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for ImageRef {}

impl FromStr for ImageRef {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let word = |w: &str| {
            !w.is_empty()
                && w.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
                && w.as_bytes()[0].is_ascii_alphanumeric()
        };
        if text == "none" {
            return Ok(ImageRef::Nothing);
        }
        if let Some(path) = text.strip_prefix("file:").or_else(|| text.strip_prefix("dir:")) {
            if !path.is_empty() {
                return Ok(ImageRef::Path(path.to_owned()));
            }
        } else if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") {
            return Ok(ImageRef::Path(text.to_owned()));
        } else if let Some(hex) = text.strip_prefix("sha256:") {
            if hex.len() >= 6 && hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok(ImageRef::Digest(hex.to_ascii_lowercase()));
            }
        } else if let Some((distribution, release)) = text.split_once('/')
            && word(distribution)
            && word(release)
        {
            return Ok(ImageRef::Release {
                distribution: distribution.to_owned(),
                release: release.to_owned(),
            });
        }
        Err(Fault::new(IMAGE_REF_INVALID).arg("image", text))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageRef::Release {
                distribution,
                release,
            } => write!(f, "{distribution}/{release}"),
            ImageRef::Path(path) => write!(f, "file:{path}"),
            ImageRef::Digest(hex) => write!(f, "sha256:{hex}"),
            ImageRef::Nothing => f.write_str("none"),
        }
    }
}

impl TryFrom<String> for ImageRef {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> String {
        image.to_string()
    }
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageSpec {
    /// References that mean this image now.
    pub references: Vec<ImageRef>,
    /// `sha256:` and the hexadecimal digest of the content.
    pub digest: String,
    /// Debian's name of the architecture, `amd64`.
    pub architecture: String,
    /// Packages asked for beyond the standard list of its release.
    #[serde(default)]
    pub include: Vec<String>,
}

/// What is observed of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ImageStatus {
    /// Bytes it takes on disk.
    pub size: Option<Size>,
    /// Names of the guests that stand on it.
    pub used_by: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_written() {
        for text in [
            "debian/12",
            "debian/bookworm",
            "file:/srv/rootfs.tar.zst",
            "sha256:abcdef",
            "none",
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
        assert_eq!(
            "./tree".parse::<ImageRef>().unwrap(),
            ImageRef::Path("./tree".to_owned())
        );
        for bad in [
            "",
            "debian",
            "debian/",
            "/12 x/..",
            "Debian/12/3",
            "sha256:xyz",
            "file:",
        ] {
            let read = bad.parse::<ImageRef>();
            assert!(read.is_err() || bad.starts_with('/'), "{bad}");
        }
    }
}
