//! Releases of Debian become disks that a machine starts from: part of the full tests, since they need the archive.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

mod kit;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use disk::Format;
use images::machine::{Making, make_disk, packages, root_uuid};
use images::{Images, Settings};
use jail::recipe::IdRange;
use model::{KernelFlavour, Unwatched};

const IDS: IdRange = IdRange {
    base: 1_350_000_000,
    count: 65_536,
};

/// Makes the image and the disk of a release in a directory; returns how many seconds each took.
fn make(dir: &Path, release: &str) -> (f64, f64) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let shim_exe = kit::bin().join("posada-shim");
    let images = Images::open(Settings {
        state_dir: dir.join("state"),
        cache_dir: dir.join("cache"),
        worker_exe: kit::bin().join("posada-worker"),
        shim_exe: shim_exe.clone(),
        ids: IDS,
    })
    .unwrap();
    let reference = format!("debian/{release}").parse().unwrap();
    let include = packages(&reference, KernelFlavour::Cloud, None).unwrap();
    let begin = std::time::Instant::now();
    let image = images.ensure(&reference, &include, &Unwatched).unwrap();
    let made = begin.elapsed().as_secs_f64();
    for name in ["upper", "work"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    chown(dir.join("upper"), Some(IDS.base), Some(IDS.base)).unwrap();
    let making = Making {
        shim_exe: &shim_exe,
        ids: Some(IDS),
        guest: release,
        layers: &image.layers,
        upper: &dir.join("upper"),
        work: &dir.join("work"),
        files: &[],
        out: &dir.join("disk.raw"),
        size: 4 << 30,
        label: release,
    };
    let begin = std::time::Instant::now();
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
    }
}
