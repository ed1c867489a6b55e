//! Releases of Debian become disks that a machine starts from: part of the full tests, since they need the archive.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

mod kit;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use disk::Format;
use images::machine::{Making, make_disk, packages, root_uuid};
use images::{BootstrapRequest, Images, Patience, Settings, Variant};
use jail::recipe::IdRange;
use model::{ImageRef, KernelFlavour, Unwatched};

const IDS: IdRange = IdRange {
    base: 1_350_000_000,
    count: 65_536,
};

/// Makes the tree of a release; of one that is old without the security suite, of which caches in front of the archive
/// do not hold every package.
fn tree(dir: &Path, release: &str) -> PathBuf {
    let reference: ImageRef = format!("debian/{release}").parse().unwrap();
    let include = packages(&reference, KernelFlavour::Cloud, None).unwrap();
    let (worker_exe, shim_exe) = (kit::bin().join("posada-worker"), kit::bin().join("posada-shim"));
    if release != "bullseye" {
        let images = Images::open(Settings {
            state_dir: dir.join("state"),
            cache_dir: dir.join("cache"),
            worker_exe,
            shim_exe,
            ids: IDS,
        })
        .unwrap();
        let mut image = images.ensure(&reference, &include, &Unwatched).unwrap();
        return image.layers.remove(0);
    }
    let mut names: Vec<String> = ["systemd-sysv", "dbus"].map(str::to_owned).to_vec();
    names.extend(include);
    let request = BootstrapRequest {
        image: reference,
        target: dir.join("tree"),
        arch: None,
        variant: Variant::Minbase,
        include: names,
        exclude: Vec::new(),
        components: Vec::new(),
        mirror: Some("http://deb.debian.org/debian".to_owned()),
        keyring: None,
        cache_dir: dir.join("cache"),
        worker_exe,
        shim_exe,
        ids: IDS,
        patience: Patience::default(),
        now: None,
    };
    images::bootstrap(&request, &Unwatched).unwrap();
    request.target
}

/// Makes the tree and the disk of a release in a directory; returns how many seconds each took.
fn make(dir: &Path, release: &str) -> (f64, f64) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let begin = Instant::now();
    let tree = tree(dir, release);
    let made = begin.elapsed().as_secs_f64();
    for name in ["upper", "work"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    chown(dir.join("upper"), Some(IDS.base), Some(IDS.base)).unwrap();
    let making = Making {
        shim_exe: &kit::bin().join("posada-shim"),
        ids: Some(IDS),
        guest: release,
        layers: &[tree],
        upper: &dir.join("upper"),
        work: &dir.join("work"),
        files: &[],
        out: &dir.join("disk.raw"),
        size: 4 << 30,
        label: release,
    };
    let begin = Instant::now();
    make_disk(&making, &Unwatched).unwrap();
    (made, begin.elapsed().as_secs_f64())
}

#[test]
fn full_releases_become_disks_with_their_kernels_and_virtio_in_their_initrds() {
    for release in ["bookworm", "trixie", "bullseye"] {
        let dir = tempfile::tempdir().unwrap();
        let (image, making) = make(dir.path(), release);
        let out = dir.path().join("disk.raw");
        let blocks = fs::metadata(&out).unwrap().blocks() * 512;
        println!(
            "{release}: image {image:.1} s, disk {making:.1} s, {} MiB",
            blocks >> 20
        );
        let offset = disk::partition::ALIGNMENT * 2;
        let file = format!("{}?offset={offset}", out.display());
        let check = Command::new("e2fsck").args(["-f", "-n", &file]).output().unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
        let open = || disk::open(fs::File::open(&out).unwrap(), Format::Raw, true).unwrap();
        let found = boot::finder::find(&*open()).unwrap();
        found.start.require_virtio().unwrap();
        let line = &found.start.command_line;
        assert!(
            line.contains(&format!("root=UUID={}", root_uuid(release))),
            "{line}"
        );
        assert!(blocks < 1 << 30, "{blocks}");
        // The network is brought up by a unit that is enabled, and the serial port has a login.
        let debugfs = |request: &str| {
            let output = Command::new("debugfs")
                .args(["-R", request, &file])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        for unit in [
            "multi-user.target.wants/systemd-networkd.service",
            "getty.target.wants/serial-getty@ttyS0.service",
            "getty.target.wants/getty@tty1.service",
        ] {
            let text = debugfs(&format!("stat /etc/systemd/system/{unit}"));
            assert!(text.contains("symlink"), "{release}: {unit}: {text}");
        }
        let units = debugfs("ls -p /etc/systemd/system/multi-user.target.wants");
        assert!(!units.contains("e2scrub"), "{release}: {units}");
    }
}
