//! A package file (.deb): what dpkg keeps of it, and its files into a root; deb(5), deb-control(5).
//!
//! The state that is left is that of `dpkg --unpack`: files in place, control files in dpkg's database, and a
//! status paragraph `install ok unpacked`. Configuration files are in place too, with their hashes in the status,
//! as in a tree that debootstrap has extracted.

use std::collections::HashMap;
use std::io::{BufReader, Read};

use fault::{Fault, Result};
use md5::{Digest, Md5};
use unpack::tar::{Entry, Kind};
use unpack::{Extractor, Options, Report, Root, ar, codec, tar};

use crate::BAD_PACKAGE;
use crate::deb822::{field, fields};

/// Most bytes of all control files of one package.
const MOST_CONTROL: u64 = 64 << 20;
/// Where dpkg keeps the control files.
const INFO: &str = "var/lib/dpkg/info";

/// What is left to know of a package after it was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unpacked {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Its paragraph for `/var/lib/dpkg/status`, in state `unpacked`.
    pub status: String,
    /// Name of its control files in dpkg's database: the package, with `:ARCH` where several may be installed.
    pub info: String,
    /// Its preinst script, when it has one that does something on a first installation.
    pub preinst: bool,
    /// Files, devices and attributes made.
    #[serde(skip)]
    pub report: Report,
}

/// Control files of a package by name.
#[derive(Debug, Default)]
struct Control(HashMap<String, (Vec<u8>, u32)>);

impl Control {
    fn text(&self, name: &str) -> &str {
        let bytes = self.0.get(name).map_or(&[][..], |(bytes, _)| bytes);
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Unpacks a package below a root. `label` names it in faults.
///
/// # Errors
/// [`BAD_PACKAGE`] when the file is no package, and what [`unpack`] raises.
pub fn unpack(deb: impl Read + Send, root: &Root, label: &str) -> Result<Unpacked> {
    let bad = |what: &str| Fault::new(BAD_PACKAGE).arg("package", label).arg("what", what);
    let mut archive = ar::Reader::new(deb);
    let first = archive.next_member()?.ok_or_else(|| bad("it is empty"))?;
    let mut format = [0; 2];
    if first.name != b"debian-binary" || archive.read_exact(&mut format).is_err() || &format != b"2." {
        return Err(bad("it is no Debian package of format 2"));
    }
    let mut control = None;
    while let Some(member) = archive.next_member()? {
        let stream = BufReader::with_capacity(64 << 10, &mut archive);
        if member.name.starts_with(b"control.tar") {
            control = Some(read_control(codec::decode(stream)?, label)?);
        } else if member.name.starts_with(b"data.tar") {
            let control = control.ok_or_else(|| bad("its data comes before its control files"))?;
            return data(codec::decode(stream)?, root, &control, label);
        }
    }
    Err(bad("it has no data"))
}

fn read_control(stream: impl Read, label: &str) -> Result<Control> {
    let mut reader = tar::Reader::new(stream);
    let mut control = Control::default();
    let mut left = MOST_CONTROL;
    while let Some(entry) = reader.next_entry()? {
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        let name = name.trim_start_matches("./").to_owned();
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if entry.kind != Kind::File || name.is_empty() || name.starts_with('.') || !plain {
            continue;
        }
        left = left.checked_sub(entry.stored()).ok_or_else(|| {
            Fault::new(BAD_PACKAGE)
                .arg("package", label)
                .arg("what", "its control files are too large")
        })?;
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|e| Fault::new(unpack::READ).because(e))?;
        control.0.insert(name, (bytes, entry.mode));
    }
    Ok(control)
}

fn data(stream: impl Read, root: &Root, control: &Control, label: &str) -> Result<Unpacked> {
    let text = control.text("control").trim();
    let value = |name: &str| field(text, name).unwrap_or_default();
    let (name, version, architecture) = (value("Package"), value("Version"), value("Architecture"));
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !word(name) || !word(version) || !word(architecture) || text.contains("\n\n") {
        return Err(Fault::new(BAD_PACKAGE)
            .arg("package", label)
            .arg("what", "its control file names no package"));
    }
    let options = Options {
        keep_directories: true,
        ..Options::default()
    };
    let mut extractor = Extractor::new(root, options);
    let mut reader = tar::Reader::new(stream);
    let mut list = Vec::new();
    let mut hashes: HashMap<&str, Option<String>> = control
        .text("conffiles")
        .lines()
        .map(str::trim)
        .map(|path| (path, None))
        .collect();
    while let Some(entry) = reader.next_entry()? {
        let path = listed(&entry.path);
        list.extend_from_slice(&path);
        list.push(b'\n');
        let conffile = std::str::from_utf8(&path).ok().and_then(|p| hashes.get_mut(p));
        match conffile {
            Some(hash) if entry.kind == Kind::File => {
                let mut hashed = Hashed(&mut reader, Md5::new());
                extractor.apply(&entry, &mut hashed)?;
                *hash = Some(hex(&hashed.1.finalize()));
            }
            _ => extractor.apply(&entry, &mut reader)?,
        }
    }
    let info = match value("Multi-Arch") {
        "same" => format!("{name}:{architecture}"),
        _ => name.to_owned(),
    };
    let mut put = |ending: &str, bytes: &[u8], mode: u32| {
        let mut entry = Entry::new(format!("{INFO}/{info}.{ending}"), Kind::File, mode);
        entry.size = bytes.len() as u64;
        extractor.apply(&entry, &mut &bytes[..])
    };
    put("list", &list, 0o644)?;
    for (ending, (bytes, mode)) in &control.0 {
        if ending != "control" {
            put(ending, bytes, *mode)?;
        }
    }
    let conffiles: Vec<(&str, &str)> = control
        .text("conffiles")
        .lines()
        .map(str::trim)
        .filter_map(|path| Some((path, hashes.get(path)?.as_deref()?)))
        .collect();
    Ok(Unpacked {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        status: status(text, &conffiles),
        preinst: acts_on_first_installation(control.text("preinst")),
        info,
        report: extractor.finish()?,
    })
}

/// A path of a package as dpkg lists it: `/.` for the root, no slash at the end.
fn listed(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b".").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path {
        b"" => b"/.".to_vec(),
        [b'/', ..] => path.to_vec(),
        _ => [b"/", path].concat(),
    }
}

/// The paragraph of an unpacked package for dpkg's status file.
fn status(control: &str, conffiles: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(control.len() + 200);
    for (name, value) in fields(control) {
        if name.eq_ignore_ascii_case("Status") || name.eq_ignore_ascii_case("Conffiles") {
            continue;
        }
        let gap = if value.is_empty() { "" } else { " " };
        out.push_str(&format!("{name}:{gap}{value}\n"));
        if name.eq_ignore_ascii_case("Package") {
            out.push_str("Status: install ok unpacked\n");
        }
    }
    if !conffiles.is_empty() {
        out.push_str("Conffiles:\n");
        for (path, hash) in conffiles {
            out.push_str(&format!(" {path} {hash}\n"));
        }
    }
    out
}

/// Whether a preinst does anything when there was no version before: those that debhelper writes only call
/// dpkg-maintscript-helper, which then does nothing (dpkg-maintscript-helper(1)).
fn acts_on_first_installation(script: &str) -> bool {
    script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .any(|line| line != "set -e" && line != "exit 0" && !line.starts_with("dpkg-maintscript-helper "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Hashes what is read through it.
struct Hashed<'a, R>(&'a mut R, Md5);

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        self.1.update(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_listed_as_dpkg_does() {
        for (path, expected) in [
            ("./", "/."),
            ("./usr/", "/usr"),
            ("usr/bin/x", "/usr/bin/x"),
            ("/a", "/a"),
        ] {
            assert_eq!(listed(path.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn the_status_says_unpacked_and_hashes_configuration_files() {
        let text = status(
            "Package: a\nVersion: 1\nDescription: short\n long\n .\n end",
            &[("/etc/a", "d41d8cd98f00b204e9800998ecf8427e")],
        );
        assert_eq!(
            text,
            "Package: a\nStatus: install ok unpacked\nVersion: 1\nDescription: short\n long\n .\n end\n\
             Conffiles:\n /etc/a d41d8cd98f00b204e9800998ecf8427e\n"
        );
    }

    #[test]
    fn scripts_that_only_migrate_old_versions_are_known() {
        assert!(!acts_on_first_installation(""));
        assert!(!acts_on_first_installation(
            "#!/bin/sh\nset -e\n# Automatically added\ndpkg-maintscript-helper rm_conffile /etc/x 1~ -- \"$@\"\n"
        ));
        assert!(acts_on_first_installation(
            "#!/bin/sh\nset -e\nif [ \"$1\" = install ]; then\n"
        ));
    }
}
