//! Files of Debian packages, fetched once into the build's scratch directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// One test fetches at a time.
static FETCHING: Mutex<()> = Mutex::new(());

/// The unpacked tree of a package; `None`, with a word on stderr, where it cannot be had.
pub fn tree(package: &str) -> Option<PathBuf> {
    let _guard = FETCHING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("packages")
        .join(package);
    let tree = folder.join("tree");
    if !tree.is_dir() && fetch(package, &folder).is_none() {
        eprintln!("skipped: the package {package} cannot be fetched here");
        return None;
    }
    Some(tree)
}

fn fetch(package: &str, folder: &Path) -> Option<()> {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .output()
            .ok()?;
        output.status.success().then_some(())
    };
    std::fs::create_dir_all(folder).ok()?;
    run("apt-get", &["download", "-q", package])?;
    let deb = files(folder, "")
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "deb"))?;
    run("dpkg-deb", &["-x", deb.to_str()?, "unpacked"])?;
    std::fs::rename(folder.join("unpacked"), folder.join("tree")).ok()?;
    std::fs::remove_file(deb).ok()
}

/// Debian's cloud kernel, or `None`.
#[allow(dead_code, reason = "not every test needs it")]
pub fn cloud_kernel() -> Option<Vec<u8>> {
    let output = Command::new("apt-cache")
        .args(["depends", "linux-image-cloud-amd64"])
        .output();
    let listed = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let package = listed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    let Some(package) = package else {
        eprintln!("skipped: no package archive tells of linux-image-cloud-amd64");
        return None;
    };
    let boot = tree(package)?.join("boot");
    let kernel = files(&boot, "vmlinuz-").pop()?;
    std::fs::read(kernel).ok()
}

/// Files of a folder whose names begin so.
pub fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

/// The ELF kernel inside of a bzImage; `None` where no program here unpacks it.
#[allow(dead_code, reason = "not every test needs it")]
pub fn vmlinux(kernel: &[u8]) -> Option<Vec<u8>> {
    let number =
        |at: usize| u32::from_le_bytes([kernel[at], kernel[at + 1], kernel[at + 2], kernel[at + 3]]) as usize;
    let start = (usize::from(kernel[0x1F1]) + 1) * 512 + number(0x248);
    let payload = &kernel[start..start + number(0x24C)];
    let program = match payload {
        [0x1F, 0x8B, ..] => "gzip",
        [0x02, 0x21, 0x4C, 0x18, ..] => "lz4",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd",
        _ => "xz",
    };
    let folder = tempfile::tempdir().ok()?;
    let file = folder.path().join("payload");
    std::fs::write(&file, payload).ok()?;
    // They complain of the size that stands behind the data, when all is written.
    let output = Command::new(program)
        .args(["-dc"])
        .stdin(std::fs::File::open(&file).ok()?)
        .output();
    let elf = output.map(|output| output.stdout).unwrap_or_default();
    if !elf.starts_with(b"\x7FELF") {
        eprintln!("skipped: {program} does not unpack this kernel");
        return None;
    }
    Some(elf)
}
