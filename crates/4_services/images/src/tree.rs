//! A tree before its first package and after its last one; its size and its digest.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use archive::deb::Unpacked;
use fault::{Fault, Result};
use rustix::fs::{FileType, FlockOperation, Mode};
use sha2::{Digest, Sha256};
use unpack::codec::{Codec, Encoder};

use crate::codes;
use crate::fetch::hex;

/// Directories that a merged /usr replaces by links.
const MERGED: &[&str] = &["bin", "lib", "sbin"];
/// Kept while packages are configured: nothing starts (policy-rc.d, invoke-rc.d(8)).
pub(crate) const POLICY: &str = "usr/sbin/policy-rc.d";

/// The fault of a file that cannot be read or written; a full disk is told as such.
pub(crate) fn io_fault(path: &Path, error: &io::Error) -> Fault {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => codes::DISK_FULL,
        _ => codes::IO,
    };
    Fault::new(code).arg("path", path.display()).because(error)
}

/// The same, for results.
pub(crate) trait At<T> {
    /// Names the path in the fault.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|error| io_fault(path, &error))
    }
}

/// A directory of this process alone; removed in the end, by the next process after a crash.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Locked as long as the directory is in use.
    _lock: File,
}

impl Scratch {
    /// Makes a directory below `parent/tmp` and removes those that dead processes have left there.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let tmp = parent.join("tmp");
        fs::create_dir_all(&tmp).at(&tmp)?;
        for entry in fs::read_dir(&tmp).at(&tmp)?.flatten() {
            sweep(&entry.path());
        }
        let mut number = 0;
        loop {
            let path = tmp.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let lock = File::open(&path).at(&path)?;
                    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
                        .map_err(io::Error::from)
                        .at(&path)?;
                    return Ok(Scratch { path, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(io_fault(&path, &error)),
            }
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes a directory that no process has locked. Helpers of a killed run may still write into it for a moment, so
/// this is tried for a while.
pub(crate) fn sweep(path: &Path) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE
        && let Ok(file) = File::open(path)
        && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        && fs::remove_dir_all(path).is_err()
    {
        drop(file);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).at(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at(path)
}

fn make_dirs(root: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(&path).at(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at(&path)?;
    }
    Ok(())
}

/// Makes what must be there before the first package: a merged /usr and dpkg's empty database.
pub(crate) fn prepare(root: &Path, arch: &str) -> Result<()> {
    make_dirs(root, &["", "usr"])?;
    // lib32 and libx32 came with amd64 up to bookworm; what no package uses is not made.
    let more: &[&str] = if arch == "amd64" { &["lib64"] } else { &[] };
    for name in MERGED.iter().chain(more) {
        make_dirs(root, &[&format!("usr/{name}")])?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).at(&link)?;
    }
    make_dirs(
        root,
        &[
            "etc",
            "var",
            "var/lib",
            "var/lib/dpkg",
            "var/lib/dpkg/info",
            "var/lib/dpkg/alternatives",
            "var/lib/dpkg/parts",
            "var/lib/dpkg/triggers",
            "var/lib/dpkg/updates",
        ],
    )?;
    let dpkg = root.join("var/lib/dpkg");
    for (name, text) in [("diversions", ""), ("info/format", "1\n")] {
        write(&dpkg.join(name), text, 0o644)?;
    }
    write(&dpkg.join("arch"), &format!("{arch}\n"), 0o644)
}

/// Enters unpacked packages into dpkg's database and guards the tree against daemons that want to start. `older`
/// is the status of packages that were configured before.
pub(crate) fn write_status(root: &Path, unpacked: &[Unpacked]) -> Result<()> {
    let path = root.join("var/lib/dpkg/status");
    let mut paragraphs: Vec<(&str, &str)> = unpacked
        .iter()
        .map(|u| (u.name.as_str(), u.status.as_str()))
        .collect();
    paragraphs.sort_unstable();
    let texts: Vec<&str> = paragraphs.into_iter().map(|(_, text)| text).collect();
    write(&path, &texts.join("\n"), 0o644)?;
    let policy = root.join(POLICY);
    write(&policy, "#!/bin/sh\nexit 101\n", 0o755)
}

/// Writes files of ours, so that the packages' scripts find them.
pub(crate) fn add_files(root: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (path, text) in files {
        // The tree belongs to its packages, but none has run a script yet: a directory is a directory.
        let parent = Path::new(path)
            .parent()
            .and_then(Path::to_str)
            .unwrap_or_default();
        make_dirs(root, &[parent])?;
        write(&root.join(path), text, 0o644)?;
    }
    Ok(())
}

/// Tells apt which packages only came as dependencies, so that `apt autoremove` knows.
pub(crate) fn mark_automatic<'a>(
    root: &Path,
    arch: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let text: String = names
        .map(|name| format!("Package: {name}\nArchitecture: {arch}\nAuto-Installed: 1\n\n"))
        .collect();
    if text.is_empty() {
        return Ok(());
    }
    make_dirs(root, &["var/lib/apt"])?;
    write(&root.join("var/lib/apt/extended_states"), &text, 0o644)
}

/// Removes what configuring has left (logs, caches, keys of this one machine) and writes the list of archives.
pub(crate) fn finish(root: &Path, sources: &str) -> Result<()> {
    for name in [
        POLICY,
        "var/lib/dbus/machine-id",
        "var/cache/ldconfig/aux-cache",
        "var/log/alternatives.log",
        "var/log/bootstrap.log",
        "var/log/dpkg.log",
        "etc/hostname",
        "etc/resolv.conf",
    ] {
        remove_file(&root.join(name))?;
    }
    for name in ["run", "tmp", "var/tmp", "var/log/apt"] {
        empty(&root.join(name))?;
    }
    make_dirs(root, &["run/lock"])?;
    let lock = root.join("run/lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o1777)).at(&lock)?;
    let fstab = root.join("etc/fstab");
    if !fstab.exists() {
        write(&fstab, "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n", 0o644)?;
    }
    // Present and empty: filled at the first boot.
    if root.join("usr/lib/systemd/systemd").exists() || root.join("etc/machine-id").exists() {
        let path = root.join("etc/machine-id");
        remove_file(&path)?;
        write(&path, "", 0o444)?;
    }
    let apt = root.join("etc/apt");
    if apt.exists() {
        remove_file(&apt.join("sources.list"))?;
        make_dirs(root, &["etc/apt/sources.list.d"])?;
        write(&apt.join("sources.list.d/debian.sources"), sources, 0o644)?;
    }
    devices(root)
}

/// Puts one of apt's package lists into a finished tree, compressed as told; apt reads it as it is.
pub(crate) fn add_package_list(root: &Path, name: &str, from: &Path, codec: Codec) -> Result<()> {
    make_dirs(root, &["var/lib/apt/lists/partial"])?;
    let to = root.join("var/lib/apt/lists").join(name);
    let mut plain = fs::File::open(from).at(from)?;
    let mut packed = Encoder::new(codec, fs::File::create(&to).at(&to)?)?;
    io::copy(&mut plain, &mut packed).at(&to)?;
    packed.finish().map(drop)
}

/// The usual nodes, where the kernel lets us make them; every jail mounts its own /dev over them.
fn devices(root: &Path) -> Result<()> {
    make_dirs(root, &["dev", "dev/pts", "dev/shm"])?;
    let dev = root.join("dev");
    let nodes = [
        ("console", 0o666, 5, 1),
        ("full", 0o666, 1, 7),
        ("null", 0o666, 1, 3),
        ("ptmx", 0o666, 5, 2),
        ("random", 0o666, 1, 8),
        ("tty", 0o666, 5, 0),
        ("urandom", 0o666, 1, 9),
        ("zero", 0o666, 1, 5),
    ];
    for (name, mode, major, minor) in nodes {
        let path = dev.join(name);
        let device = rustix::fs::makedev(major, minor);
        let kind = FileType::CharacterDevice;
        let bits = Mode::from_raw_mode(mode);
        if rustix::fs::mknodat(rustix::fs::CWD, &path, kind, bits, device).is_ok() {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at(&path)?;
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stderr", "/proc/self/fd/2"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
    ] {
        let link = dev.join(name);
        match symlink(target, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_fault(&link, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_fault(path, &error)),
        _ => Ok(()),
    }
}

/// Removes all that is in a directory.
fn empty(path: &Path) -> Result<()> {
    // The tree belongs to its packages: a link here would lead into the host.
    if !fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
        return Ok(());
    }
    for entry in fs::read_dir(path).at(path)? {
        let entry = entry.at(path)?;
        let is_dir = entry.file_type().at(&entry.path())?.is_dir();
        match is_dir {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        }
        .at(&entry.path())?;
    }
    Ok(())
}

/// Calls `visit` for every file below a directory, in order of path; links are not followed.
fn walk(root: &Path, below: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    let here = root.join(below);
    let mut names: Vec<_> = fs::read_dir(&here)
        .at(&here)?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<io::Result<_>>()
        .at(&here)?;
    names.sort_unstable();
    for name in names {
        let path = below.join(name);
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).at(&full)?;
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            walk(root, &path, visit)?;
        }
    }
    Ok(())
}

/// Bytes that the files of a tree take on disk, each counted once.
pub(crate) fn size(root: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    walk(root, Path::new(""), &mut |_, metadata| {
        if metadata.nlink() < 2 || metadata.is_dir() || seen.insert((metadata.dev(), metadata.ino())) {
            total += metadata.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(total)
}

/// The digest of a tree: SHA-256 over a canonical listing of paths, kinds, modes, owners, attributes and contents.
/// Times are not part of it.
pub(crate) fn digest(root: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let top = fs::symlink_metadata(root).at(root)?;
    hasher.update(format!("{:o} {} {}\n", top.mode(), top.uid(), top.gid()));
    walk(root, Path::new(""), &mut |path, metadata| {
        let full = root.join(path);
        hasher.update(path.as_os_str().as_bytes());
        hasher.update(format!(
            "\0{:o} {} {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid()
        ));
        let kind = metadata.file_type();
        if kind.is_symlink() {
            hasher.update(b" -> ");
            hasher.update(fs::read_link(&full).at(&full)?.as_os_str().as_bytes());
        } else if kind.is_block_device() || kind.is_char_device() {
            hasher.update(format!(" dev {}", metadata.rdev()));
        } else if kind.is_file() {
            hasher.update(b" ");
            hasher.update(content(&full)?);
        }
        for (name, value) in attributes(&full) {
            hasher.update(b"\0");
            hasher.update(name);
            hasher.update(b"=");
            hasher.update(hex(&value));
        }
        hasher.update(b"\n");
        Ok(())
    })?;
    Ok(hex(&hasher.finalize()))
}

fn content(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer).at(path)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Extended attributes of a file itself, in order of name.
fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 64 << 10];
        if let Ok(text) = std::str::from_utf8(name)
            && let Ok(length) = rustix::fs::lgetxattr(path, text, &mut value[..])
        {
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found.sort_unstable();
    found
}
