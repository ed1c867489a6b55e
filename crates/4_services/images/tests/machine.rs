//! A tree becomes a disk that other programs find whole; a disk file is an image.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

mod kit;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::Format;
use disk::partition::{self, Kind};
use images::machine::{Making, copy_disk, make_disk, root_uuid};
use images::{Images, Settings, codes};
use jail::recipe::{FileEntry, IdRange};
use model::{ImageRef, Unwatched};

const IDS: IdRange = IdRange {
    base: 1_250_000_000,
    count: 65_536,
};

const GUEST: &str = "0123456789abcdef0123456789abcdef";

/// A directory with a layer that has a shell and mke2fs, and the upper and work directories of a guest.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ground = Ground { dir };
        let layer = ground.path("layer");
        for name in [
            "usr/bin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "proc",
            "sys",
            "dev",
            "run",
            "root",
        ] {
            fs::create_dir_all(layer.join(name)).unwrap();
        }
        fs::set_permissions(layer.join("root"), fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), layer.join(name)).unwrap();
        }
        ground.program("/bin/dash", "sh");
        for name in ["upper", "work"] {
            fs::create_dir(ground.path(name)).unwrap();
        }
        chown(ground.path("upper"), Some(IDS.base), Some(IDS.base)).unwrap();
        ground
    }

    fn with_mke2fs() -> Self {
        let ground = Ground::new();
        ground.program("/sbin/mke2fs", "mke2fs");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Copies a program of this host into the layer, with its libraries.
    fn program(&self, from: &str, name: &str) {
        let from = fs::canonicalize(from).unwrap();
        let layer = self.path("layer");
        fs::copy(&from, layer.join("usr/bin").join(name)).unwrap();
        let ldd = Command::new("ldd").arg(&from).output().unwrap();
        for word in String::from_utf8_lossy(&ldd.stdout)
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let to = layer.join(word.trim_start_matches('/'));
            if !to.exists() {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(word, &to).unwrap();
            }
        }
    }

    fn make(&self, size: u64, files: &[FileEntry]) -> fault::Result<()> {
        self.make_at(&self.path("disk.raw"), size, files, &Unwatched)
    }

    fn make_at(
        &self,
        out: &Path,
        size: u64,
        files: &[FileEntry],
        watcher: &dyn model::Watcher,
    ) -> fault::Result<()> {
        let making = Making {
            shim_exe: &kit::bin().join("posada-shim"),
            ids: Some(IDS),
            guest: GUEST,
            layers: &[self.path("layer")],
            upper: &self.path("upper"),
            work: &self.path("work"),
            files,
            out,
            size,
            label: "web",
        };
        make_disk(&making, watcher)
    }

    /// The root partition.
    fn root(&self) -> partition::Partition {
        let file = fs::File::open(self.path("disk.raw")).unwrap();
        let image = disk::open(file, Format::Raw, true).unwrap();
        let table = partition::read(&*image).unwrap().unwrap();
        table.partitions[1].clone()
    }

    /// What debugfs(8) says of the root file system.
    fn debugfs(&self, request: &str) -> String {
        let device = format!("{}?offset={}", self.path("disk.raw").display(), self.root().start);
        let output = Command::new("debugfs")
            .args(["-R", request, &device])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn images(&self) -> Images {
        Images::open(Settings {
            state_dir: self.path("state"),
            cache_dir: self.path("cache"),
            worker_exe: kit::bin().join("posada-worker"),
            shim_exe: kit::bin().join("posada-shim"),
            ids: IDS,
        })
        .unwrap()
    }
}

fn entry(path: &str, content: &str) -> FileEntry {
    FileEntry {
        path: path.into(),
        content: content.into(),
        mode: 0o644,
        keep_existing: false,
    }
}

/// The first line of `debugfs stat` that holds a word.
fn line<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or(text)
}

#[test]
fn a_disk_holds_the_merged_tree_with_the_guests_owners_links_and_attributes() {
    let ground = Ground::with_mke2fs();
    let layer = ground.path("layer");
    for name in ["lower", "replaced", "deleted"] {
        fs::write(layer.join(name), "old").unwrap();
    }
    chown(layer.join("lower"), Some(1000), Some(50)).unwrap();
    fs::set_permissions(layer.join("lower"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(layer.join("lower"), layer.join("usr/twin")).unwrap();
    // CAP_NET_RAW permitted and effective: struct vfs_cap_data, version 2.
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let none = rustix::fs::XattrFlags::empty();
    fs::write(layer.join("ping"), "").unwrap();
    rustix::fs::setxattr(layer.join("ping"), "security.capability", &capability, none).unwrap();
    // As the kernel keeps what the guest itself has set: version 3, with the id of its root.
    let mut shifted = capability.to_vec();
    shifted[3] = 3;
    shifted.extend(IDS.base.to_le_bytes());
    let upper = ground.path("upper");
    fs::write(upper.join("arping"), "").unwrap();
    fs::write(upper.join("replaced"), "new").unwrap();
    for name in ["arping", "replaced"] {
        chown(upper.join(name), Some(IDS.base + 33), Some(IDS.base + 33)).unwrap();
    }
    // A change of owner takes capabilities away, so they come after it.
    rustix::fs::setxattr(upper.join("arping"), "security.capability", &shifted, none).unwrap();
    let whiteout = rustix::fs::makedev(0, 0);
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("deleted"), kind, mode, whiteout).unwrap();

    ground
        .make(
            64 << 20,
            &[entry("/etc/hostname", "web\n"), entry("/etc/fstab", "mine\n")],
        )
        .unwrap();
    let owner = |name: &str| line(&ground.debugfs(&format!("stat {name}")), "User:").to_owned();
    let text = owner("/lower");
    assert!(text.contains("User:  1000   Group:    50"), "{text}");
    let text = ground.debugfs("stat /lower");
    assert!(line(&text, "Mode:").contains("04711"), "{text}");
    assert!(line(&text, "Links:").contains("Links: 2"), "{text}");
    assert!(
        owner("/replaced").contains("User:    33   Group:    33"),
        "{}",
        owner("/replaced")
    );
    assert_eq!(ground.debugfs("cat /replaced"), "new");
    assert_eq!(ground.debugfs("cat /deleted"), "");
    assert_eq!(ground.debugfs("cat /etc/hostname"), "web\n");
    assert_eq!(
        ground.debugfs("cat /etc/fstab"),
        "mine\n",
        "the caller's files come last"
    );
    assert!(
        ground
            .debugfs("cat /etc/systemd/network/80-posada.network")
            .contains("DHCP=yes")
    );
    for name in ["/ping", "/arping"] {
        let text = ground.debugfs(&format!("ea_get -x {name} security.capability"));
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        assert!(digits.contains("0100000200200000"), "{name}: {text}");
    }
    // Nothing of the jail's mounts is there, and modes of directories are the tree's.
    for name in ["/proc", "/dev", "/run", "/sys"] {
        assert_eq!(
            ground.debugfs(&format!("ls -p {name}")).trim().lines().count(),
            2,
            "{name}"
        );
    }
    let text = ground.debugfs("stat /root");
    assert!(line(&text, "Mode:").contains("0700"), "{text}");
    let text = ground.debugfs("stat /");
    assert!(
        line(&text, "Mode:").contains("0755") && line(&text, "User:").contains("User:     0"),
        "{text}"
    );
}

#[test]
fn a_disk_passes_the_checks_of_other_programs_and_is_sparse() {
    let ground = Ground::with_mke2fs();
    let size = 1 << 30;
    ground.make(size, &[]).unwrap();
    let out = ground.path("disk.raw");
    let about = fs::metadata(&out).unwrap();
    assert_eq!((about.len(), about.uid(), about.mode() & 0o777), (size, 0, 0o600));
    assert!(about.blocks() * 512 < 32 << 20, "{} bytes", about.blocks() * 512);
    let root = ground.root();
    assert_eq!(root.start, 2 << 20);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(root.kind, Kind::Gpt(partition::Guid::LINUX_ROOT_X86_64));
    let file = format!("{}?offset={}", out.display(), root.start);
    let check = Command::new("e2fsck").args(["-f", "-n", &file]).output().unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    let text = ground.debugfs("stats -h");
    assert!(line(&text, "UUID").contains(&root_uuid(GUEST)), "{text}");
    assert!(line(&text, "volume name").contains("web"), "{text}");
    let features = line(&text, "features");
    assert!(
        features.contains("has_journal") && features.contains("extent"),
        "{features}"
    );
    if let Ok(check) = Command::new("sfdisk").arg("--verify").arg(&out).output() {
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stderr)
        );
    }
}

#[test]
fn the_same_guest_gets_the_same_identifiers() {
    let ground = Ground::with_mke2fs();
    ground.make(32 << 20, &[]).unwrap();
    let first = ground.root();
    ground.make(64 << 20, &[]).unwrap();
    let second = ground.root();
    assert_eq!(first.id, second.id);
    assert!(second.size > first.size, "the second replaced the first");
}

#[test]
fn a_tree_that_does_not_fit_and_one_without_mke2fs_are_named_and_leave_nothing() {
    let ground = Ground::with_mke2fs();
    let noise: Vec<u8> = (0..40u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(ground.path("layer/noise"), noise).unwrap();
    let fault = ground.make(32 << 20, &[]).unwrap_err();
    assert!(fault.is(codes::DISK_TOO_SMALL), "{fault:?}");
    fs::remove_file(ground.path("layer/usr/bin/mke2fs")).unwrap();
    let fault = ground.make(32 << 20, &[]).unwrap_err();
    assert!(fault.is(codes::NO_MKE2FS), "{fault:?}");
    let fault = ground.make(0, &[]).unwrap_err();
    assert!(fault.is(disk::FIT), "{fault:?}");
    nothing_left(ground.dir.path());
}

fn nothing_left(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with("disk.raw"), "{name}");
    }
}

#[test]
fn a_full_host_is_named_and_leaves_nothing() {
    let ground = Ground::with_mke2fs();
    fs::write(ground.path("layer/noise"), vec![7; 8 << 20]).unwrap();
    let small = ground.path("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m,mode=755", "none"])
        .arg(&small)
        .status()
        .unwrap();
    assert!(mount.success());
    let result = ground.make_at(&small.join("disk.raw"), 64 << 20, &[], &Unwatched);
    let left = fs::read_dir(&small).unwrap().count();
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    let fault = result.unwrap_err();
    assert!(fault.is(codes::DISK_FULL), "{fault:?}");
    assert_eq!(left, 0);
}

#[test]
fn a_disk_that_is_cancelled_leaves_nothing() {
    let ground = Ground::with_mke2fs();
    let watching = kit::Watching::default();
    watching
        .cancelled
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let out = ground.path("disk.raw");
    let fault = ground.make_at(&out, 64 << 20, &[], &watching).unwrap_err();
    assert!(fault.is(model::CANCELLED), "{fault:?}");
    nothing_left(ground.dir.path());
}

#[test]
fn a_disk_file_is_an_image_for_machines_only() {
    let ground = Ground::with_mke2fs();
    ground.make(32 << 20, &[]).unwrap();
    let images = ground.images();
    let reference = ImageRef::Path(ground.path("disk.raw").display().to_string());
    let fault = images.ensure(&reference, &[], &Unwatched).unwrap_err();
    assert!(fault.is(codes::IS_DISK), "{fault:?}");
    let image = images.ensure_any(&reference, &[], &Unwatched).unwrap();
    assert!(image.layers.is_empty() && image.size < 16 << 20);
    let stored = image.disk.clone().unwrap();
    assert_eq!((stored.format, stored.size), (Format::Raw, 32 << 20));
    assert_eq!(
        fs::read(&stored.path).unwrap(),
        fs::read(ground.path("disk.raw")).unwrap()
    );
    // The same content by another name is the same image, found by its digest too.
    fs::copy(ground.path("disk.raw"), ground.path("other.img")).unwrap();
    let other = ImageRef::Path(ground.path("other.img").display().to_string());
    let again = images.ensure_any(&other, &[], &Unwatched).unwrap();
    assert_eq!(again.spec.digest, image.spec.digest);
    let by_digest = image.spec.digest.parse().unwrap();
    let found = images.find(&by_digest, &[]).unwrap().unwrap();
    assert_eq!(found.disk, image.disk);
    assert_eq!(images.list().unwrap().len(), 1);

    let copy = ground.path("copy.raw");
    copy_disk(&stored, &copy, Some(48 << 20), &Unwatched).unwrap();
    let about = fs::metadata(&copy).unwrap();
    assert_eq!((about.len(), about.mode() & 0o777), (48 << 20, 0o600));
    assert!(about.blocks() * 512 < 16 << 20);
    assert_eq!(
        fs::read(&copy).unwrap()[..32 << 20],
        fs::read(&stored.path).unwrap()
    );
    copy_disk(&stored, &copy, Some(1 << 20), &Unwatched).unwrap();
    assert_eq!(
        fs::metadata(&copy).unwrap().len(),
        32 << 20,
        "none becomes smaller"
    );
}

#[test]
fn a_qcow2_image_keeps_its_format_and_does_not_grow() {
    let ground = Ground::new();
    let file = ground.path("disk.qcow2");
    let to = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&file)
        .unwrap();
    disk::Qcow2::create(to, 1 << 30, disk::CreateOptions::default()).unwrap();
    let reference = ImageRef::Path(file.display().to_string());
    let image = ground.images().ensure_any(&reference, &[], &Unwatched).unwrap();
    let stored = image.disk.unwrap();
    assert_eq!((stored.format, stored.size), (Format::Qcow2, 1 << 30));
    let copy = ground.path("copy.qcow2");
    copy_disk(&stored, &copy, None, &Unwatched).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&file).unwrap());
    let fault = copy_disk(&stored, &ground.path("larger"), Some(2 << 30), &Unwatched).unwrap_err();
    assert!(fault.is(codes::CANNOT_GROW), "{fault:?}");
    assert!(!ground.path("larger").exists());
}
