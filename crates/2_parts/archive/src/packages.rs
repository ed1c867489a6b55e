//! An index of packages (`Packages`): tens of megabytes of text, read without copying it.

use crate::deb822::paragraphs;

/// One package of an index; all text is that of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of deb-control(5)")]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub architecture: &'a str,
    pub priority: &'a str,
    pub essential: bool,
    pub pre_depends: &'a str,
    pub depends: &'a str,
    pub provides: &'a str,
    pub conflicts: &'a str,
    pub breaks: &'a str,
    /// Path below the archive's base.
    pub filename: &'a str,
    /// Length of the file, in bytes.
    pub size: u64,
    pub sha256: &'a str,
    /// Space it takes when installed, in KiB.
    pub installed_kib: u64,
    /// Which index it came from, as the caller numbers them.
    pub origin: usize,
}

/// The packages of an index that are for this architecture or for all, and complete.
pub fn parse<'a>(text: &'a str, arch: &'a str, origin: usize) -> impl Iterator<Item = Package<'a>> {
    paragraphs(text)
        .map(move |paragraph| package(paragraph, origin))
        .filter(move |p| {
            (p.architecture == arch || p.architecture == "all")
                && !p.name.is_empty()
                && !p.version.is_empty()
                && p.sha256.len() == 64
                && safe_path(p.filename)
        })
}

/// A path below the archive's base, without a way out of it.
fn safe_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn package(paragraph: &str, origin: usize) -> Package<'_> {
    let mut package = Package {
        origin,
        ..Package::default()
    };
    // All fields wanted here are of one line, so lines that go on (descriptions) are passed over at once.
    for line in paragraph.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let slot = match name {
            "Package" => &mut package.name,
            "Version" => &mut package.version,
            "Architecture" => &mut package.architecture,
            "Priority" => &mut package.priority,
            "Pre-Depends" => &mut package.pre_depends,
            "Depends" => &mut package.depends,
            "Provides" => &mut package.provides,
            "Conflicts" => &mut package.conflicts,
            "Breaks" => &mut package.breaks,
            "Filename" => &mut package.filename,
            "SHA256" => &mut package.sha256,
            "Essential" => {
                package.essential = value.trim() == "yes";
                continue;
            }
            "Size" => {
                package.size = value.trim().parse().unwrap_or(0);
                continue;
            }
            "Installed-Size" => {
                package.installed_kib = value.trim().parse().unwrap_or(0);
                continue;
            }
            _ => continue,
        };
        *slot = value.trim();
    }
    package
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packages_of_other_architectures_and_unsafe_paths_are_left_out() {
        let hash = "0".repeat(64);
        let one = |name: &str, arch: &str, file: &str| {
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: {arch}\nEssential: yes\nFilename: {file}\nSize: 7\nSHA256: {hash}\n\n"
            )
        };
        let text = [
            one("a", "amd64", "pool/a.deb"),
            one("b", "all", "pool/b.deb"),
            one("c", "i386", "pool/c.deb"),
            one("d", "all", "../d.deb"),
            one("e", "all", "/e.deb"),
        ]
        .concat();
        let found: Vec<_> = parse(&text, "amd64", 3).collect();
        assert_eq!(found.iter().map(|p| p.name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found[0].essential && found[0].size == 7 && found[0].origin == 3);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[ -~\n]{0,400}") {
            let _ = parse(&text, "amd64", 0).count();
        }
    }
}
