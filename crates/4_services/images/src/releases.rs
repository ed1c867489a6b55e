//! The releases of Debian by number and code name, and the packages of an image that shall boot.

use fault::{Fault, Result};
use model::ImageRef;

use crate::codes;

/// Numbers and code names.
const DEBIAN: &[(&str, &str)] = &[
    ("11", "bullseye"),
    ("12", "bookworm"),
    ("13", "trixie"),
    ("14", "forky"),
];

/// Suites without updates and security of their own.
const ROLLING: &[&str] = &["sid", "unstable", "experimental"];

/// What a launched image holds beyond `minbase`: an init, what a user of a shell needs, and a way to the network.
pub(crate) const SYSTEM: &[&str] = &[
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "iproute2",
    "iputils-ping",
    "ca-certificates",
    "less",
    "nano",
];

/// The code name of a reference such as `debian/12` or `debian/bookworm`.
///
/// # Errors
/// [`codes::RELEASE_UNKNOWN`].
pub(crate) fn codename(image: &ImageRef) -> Result<String> {
    let unknown = || Fault::new(codes::RELEASE_UNKNOWN).arg("image", image);
    let ImageRef::Release {
        distribution,
        release,
    } = image
    else {
        return Err(unknown());
    };
    if distribution != "debian" {
        return Err(unknown());
    }
    let major = release.split('.').next().unwrap_or_default();
    if let Some((_, name)) = DEBIAN.iter().find(|(number, _)| *number == major) {
        return Ok((*name).to_owned());
    }
    // Any other word may be the name of a suite; the archive knows.
    match release.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
        true => Ok(release.clone()),
        false => Err(unknown()),
    }
}

/// Whether a suite has `-updates` and `-security` beside it.
pub(crate) fn has_updates(codename: &str) -> bool {
    !ROLLING.contains(&codename)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_numbers_and_names() {
        let name = |text: &str| codename(&text.parse().unwrap()).ok();
        assert_eq!(name("debian/12").as_deref(), Some("bookworm"));
        assert_eq!(name("debian/12.5").as_deref(), Some("bookworm"));
        assert_eq!(name("debian/trixie").as_deref(), Some("trixie"));
        assert_eq!(name("debian/99"), None);
        assert_eq!(name("fedora/40"), None);
    }
}
