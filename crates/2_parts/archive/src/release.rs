//! The Release file of a suite: what it is, how long it is valid, and the hashes of its indexes.

use std::collections::HashMap;

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use crate::deb822::{field, lines};
use crate::time::{parse_rfc2822, rfc3339};
use crate::{EXPIRED, FROM_THE_FUTURE, MALFORMED, NO_INDEX, WRONG_RELEASE};

/// How far the date of a Release file may lie in the future: clocks differ a little.
const CLOCK_TOLERANCE: i64 = 600;

/// What a Release file says; call [`Release::parse`] only on text whose signature was checked.
#[derive(Clone, Debug)]
pub struct Release {
    /// Name of the suite, `oldstable`.
    pub suite: String,
    /// Code name, `bookworm`.
    pub codename: String,
    /// Whether indexes can be fetched by their hash.
    pub by_hash: bool,
    /// When it was made, seconds since 1970.
    pub date: i64,
    /// Until when it is valid, when it says so.
    pub valid_until: Option<i64>,
    files: HashMap<String, FileHash>,
}

/// Length and hash of a file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Which checks of time are made; apt's Acquire::Check-Valid-Until and Check-Date.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// Refuse a Release file that is no longer valid.
    pub check_valid_until: bool,
    /// Refuse a Release file from the future.
    pub check_date: bool,
}

impl Release {
    /// Reads a Release file.
    ///
    /// # Errors
    /// [`MALFORMED`] when a field that must be there is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: &str| Fault::new(MALFORMED).arg("what", format!("Release: {what}"));
        let value = |name: &str| field(text, name).unwrap_or_default();
        let mut files = HashMap::new();
        for line in lines(field(text, "SHA256").ok_or_else(|| bad("SHA256"))?) {
            let mut words = line.split_ascii_whitespace();
            if let (Some(hash), Some(size), Some(name)) = (words.next(), words.next(), words.next())
                && hash.len() == 64
                && hash.bytes().all(|b| b.is_ascii_hexdigit())
                && let Ok(size) = size.parse()
            {
                let sha256 = hash.to_ascii_lowercase();
                files.insert(name.to_owned(), FileHash { size, sha256 });
            }
        }
        let valid_until = match field(text, "Valid-Until") {
            None => None,
            Some(date) => Some(parse_rfc2822(date).ok_or_else(|| bad("Valid-Until"))?),
        };
        Ok(Release {
            suite: value("Suite").to_owned(),
            codename: value("Codename").to_owned(),
            by_hash: value("Acquire-By-Hash").eq_ignore_ascii_case("yes"),
            date: parse_rfc2822(value("Date")).ok_or_else(|| bad("Date"))?,
            valid_until,
            files,
        })
    }

    /// Whether the Release file is of the suite that was asked for and valid now.
    ///
    /// # Errors
    /// [`WRONG_RELEASE`], [`EXPIRED`], [`FROM_THE_FUTURE`].
    pub fn check(&self, suite: &str, clock: Clock) -> Result<()> {
        // Old archives name the security suite `bookworm-security` or `bookworm/updates`.
        let slashed = suite.replace("-security", "/updates");
        let is = |name: &str| {
            name == suite || name == slashed || (!name.is_empty() && suite.ends_with(&format!("/{name}")))
        };
        if !is(&self.codename) && !is(&self.suite) {
            return Err(Fault::new(WRONG_RELEASE)
                .arg("wanted", suite)
                .arg("found", format!("{} ({})", self.codename, self.suite)));
        }
        if let Some(until) = self.valid_until
            && clock.check_valid_until
            && clock.now > until
        {
            return Err(Fault::new(EXPIRED)
                .arg("suite", suite)
                .arg("until", rfc3339(until))
                .arg("now", rfc3339(clock.now)));
        }
        if clock.check_date && self.date > clock.now + CLOCK_TOLERANCE {
            return Err(Fault::new(FROM_THE_FUTURE)
                .arg("suite", suite)
                .arg("date", rfc3339(self.date))
                .arg("now", rfc3339(clock.now)));
        }
        Ok(())
    }

    /// Length and hash of a file, as `main/binary-amd64/Packages`.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&FileHash> {
        self.files.get(name)
    }

    /// The smallest form of an index of packages that we can read: its name with the compression's ending.
    ///
    /// # Errors
    /// [`NO_INDEX`].
    pub fn index(&self, component: &str, arch: &str) -> Result<(String, &FileHash)> {
        let plain = format!("{component}/binary-{arch}/Packages");
        [".xz", ".zst", ".gz", ""]
            .iter()
            .map(|ending| format!("{plain}{ending}"))
            .find_map(|name| self.files.get(&name).map(|hash| (name, hash)))
            .ok_or_else(|| {
                Fault::new(NO_INDEX)
                    .arg("component", component)
                    .arg("arch", arch)
                    .arg("suite", &self.codename)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Suite: oldstable\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n\
        Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
        515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f 50060337 main/binary-amd64/Packages\n \
        9e0b5aabb2465b3d2e7a7fe27f9913846277833f7a2826e7767acccff5b588c5  8790396 main/binary-amd64/Packages.xz\n";

    fn clock(text: &str) -> Clock {
        Clock {
            now: parse_rfc2822(text).unwrap(),
            check_valid_until: true,
            check_date: true,
        }
    }

    #[test]
    fn the_best_index_is_chosen() {
        let release = Release::parse(TEXT).unwrap();
        let (name, hash) = release.index("main", "amd64").unwrap();
        assert_eq!(
            (name.as_str(), hash.size),
            ("main/binary-amd64/Packages.xz", 8_790_396)
        );
        assert!(release.index("main", "s390x").unwrap_err().is(NO_INDEX));
    }

    #[test]
    fn time_and_name_are_checked() {
        let release = Release::parse(TEXT).unwrap();
        let good = clock("Sun, 12 Jul 2026 00:00:00 UTC");
        release.check("bookworm", good).unwrap();
        release.check("oldstable", good).unwrap();
        assert!(release.check("trixie", good).unwrap_err().is(WRONG_RELEASE));
        let late = clock("Sun, 19 Jul 2026 00:00:00 UTC");
        assert!(release.check("bookworm", late).unwrap_err().is(EXPIRED));
        let early = clock("Sat, 01 Jan 2000 00:00:00 UTC");
        assert!(release.check("bookworm", early).unwrap_err().is(FROM_THE_FUTURE));
    }

    #[test]
    fn a_release_without_hashes_is_malformed() {
        assert!(
            Release::parse("Suite: x\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n")
                .unwrap_err()
                .is(MALFORMED)
        );
    }
}
