//! Trees through archives and back, and archives that try to get out.
#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use unpack::tar::{Entry, Kind, Writer};
use unpack::{Options, PackOptions, Report, Root, extract, pack};

fn tar(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        let mut entry = entry.clone();
        entry.size = data.len() as u64;
        writer.entry(&entry, &mut &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str) -> Entry {
    Entry::new(path, Kind::File, 0o644)
}

fn link(path: &str, target: &str) -> Entry {
    Entry::new(path, Kind::Symlink(target.into()), 0o777)
}

fn hard(path: &str, target: &str) -> Entry {
    Entry::new(path, Kind::HardLink(target.into()), 0o644)
}

fn dir(path: &str) -> Entry {
    Entry::new(path, Kind::Dir, 0o755)
}

fn into(root: &Path, bytes: &[u8]) -> fault::Result<Report> {
    extract(bytes, &Root::open(root).unwrap(), Options::default())
}

/// A directory `root` beside a file `outside` that must stay as it is.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        Ground(dir)
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }

    fn check(&self) {
        assert_eq!(
            fs::read_to_string(self.0.path().join("outside")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
    }
}

#[test]
fn names_that_lead_up_are_refused() {
    for name in ["../outside", "a/../../outside", "/../outside", ".."] {
        let ground = Ground::new();
        let fault = into(&ground.root(), &tar(&[(file(name), b"evil")])).unwrap_err();
        assert!(fault.is(unpack::UNSAFE_PATH), "{name}: {fault}");
        ground.check();
    }
}

#[test]
fn absolute_names_are_taken_below_the_root() {
    let ground = Ground::new();
    into(&ground.root(), &tar(&[(file("/etc/x"), b"here")])).unwrap();
    assert_eq!(fs::read_to_string(ground.root().join("etc/x")).unwrap(), "here");
}

#[test]
fn nothing_is_written_through_links_that_an_archive_has_made() {
    let ground = Ground::new();
    let outside = ground.0.path().join("outside");
    let outside = outside.to_str().unwrap();
    let up = "../".repeat(20) + outside.trim_start_matches('/');
    for target in [outside, &up, "../outside"] {
        let bytes = tar(&[(link("x", target), b""), (file("x"), b"evil")]);
        into(&ground.root(), &bytes).unwrap();
        assert!(fs::symlink_metadata(ground.root().join("x")).unwrap().is_file());
        ground.check();
    }
    // A link to a directory above: what is put "into" it lands below the root, or is refused.
    for target in ["..", "/", "../..", ground.0.path().to_str().unwrap()] {
        let ground = Ground::new();
        let bytes = tar(&[(link("d", target), b""), (file("d/outside"), b"evil")]);
        let _ = into(&ground.root(), &bytes);
        ground.check();
    }
}

#[test]
fn a_hard_link_to_a_file_outside_is_refused_and_never_written_through() {
    let ground = Ground::new();
    let outside = ground.0.path().join("outside");
    for target in [outside.to_str().unwrap(), "../outside"] {
        assert!(into(&ground.root(), &tar(&[(hard("x", target), b"")])).is_err());
        ground.check();
    }
    // A link made by the archive is linked itself, not what it points to.
    let bytes = tar(&[
        (link("l", outside.to_str().unwrap()), b""),
        (hard("h", "l"), b""),
        (file("h"), b"evil"),
    ]);
    into(&ground.root(), &bytes).unwrap();
    ground.check();
}

#[test]
fn a_merged_usr_stays_merged() {
    let ground = Ground::new();
    fs::create_dir_all(ground.root().join("usr/bin")).unwrap();
    symlink("usr/bin", ground.root().join("bin")).unwrap();
    into(
        &ground.root(),
        &tar(&[(dir("./bin/"), b""), (file("./bin/sh"), b"#!")]),
    )
    .unwrap();
    assert!(
        fs::symlink_metadata(ground.root().join("bin"))
            .unwrap()
            .is_symlink()
    );
    assert!(ground.root().join("usr/bin/sh").is_file());
}

#[test]
fn a_file_with_several_names_is_not_changed_by_replacing_one() {
    let ground = Ground::new();
    let bytes = tar(&[(file("a"), b"old"), (hard("b", "a"), b""), (file("b"), b"new")]);
    into(&ground.root(), &bytes).unwrap();
    assert_eq!(fs::read(ground.root().join("a")).unwrap(), b"old");
    assert_eq!(fs::read(ground.root().join("b")).unwrap(), b"new");
}

#[test]
fn devices_can_be_left_out_and_are_counted() {
    let ground = Ground::new();
    let bytes = tar(&[(Entry::new("null", Kind::Char(1, 3), 0o666), b"")]);
    let options = Options {
        devices: false,
        ..Options::default()
    };
    let report = extract(&bytes[..], &Root::open(&ground.root()).unwrap(), options).unwrap();
    assert_eq!(report.devices_skipped, 1);
    assert!(!ground.root().join("null").exists());
}

#[test]
fn a_tree_survives_packing_and_unpacking() {
    let ground = Ground::new();
    let root = ground.root();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/su"), "x").unwrap();
    fs::set_permissions(root.join("usr/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("usr/bin/su"), root.join("usr/bin/su2")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("a".repeat(200)), "long").unwrap();
    let hole = fs::File::create(root.join("hole")).unwrap();
    hole.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&hole, b"middle", 4 << 20).unwrap();
    std::os::unix::fs::lchown(root.join("bin"), Some(7), Some(8)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    // cap_net_raw+ep in revision 2.
    let caps = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("a".repeat(200)), "security.capability", &caps, flags).unwrap();

    let mut writer = Writer::new(Vec::new());
    pack(&Root::open(&root).unwrap(), &PackOptions::default(), &mut writer).unwrap();
    let bytes = writer.finish().unwrap();
    assert!(bytes.len() < 1 << 20, "holes stay holes");

    let other = Ground::new();
    let report = into(&other.root(), &bytes).unwrap();
    assert_eq!(report.xattrs_skipped, 0);
    let new = other.root();
    let su = fs::metadata(new.join("usr/bin/su")).unwrap();
    assert_eq!(su.mode() & 0o7777, 0o4755);
    assert_eq!(su.ino(), fs::metadata(new.join("usr/bin/su2")).unwrap().ino());
    let bin = fs::symlink_metadata(new.join("bin")).unwrap();
    assert_eq!((bin.uid(), bin.gid()), (7, 8));
    assert!(
        fs::symlink_metadata(new.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let hole = fs::metadata(new.join("hole")).unwrap();
    assert_eq!(hole.len(), 8 << 20);
    assert!(hole.blocks() * 512 < 1 << 20);
    assert_eq!(
        fs::read(new.join("hole")).unwrap(),
        fs::read(root.join("hole")).unwrap()
    );
    assert_eq!(
        fs::metadata(new.join("usr")).unwrap().mtime_nsec(),
        fs::metadata(root.join("usr")).unwrap().mtime_nsec()
    );
    let mut value = [0; 64];
    let n = rustix::fs::getxattr(new.join("a".repeat(200)), "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..n], caps);
}

#[test]
fn what_gnu_tar_writes_is_read_and_what_is_written_gnu_tar_reads() {
    let ground = Ground::new();
    let root = ground.root();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d").join("n".repeat(150)), "text").unwrap();
    let hole = fs::File::create(root.join("hole")).unwrap();
    hole.set_len(5 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&hole, b"x", 3 << 20).unwrap();
    for format in ["gnu", "posix", "ustar"] {
        let sparse: &[&str] = if format == "ustar" { &[] } else { &["--sparse"] };
        let made = std::process::Command::new("tar")
            .args(["-C", root.to_str().unwrap(), "-cf", "-", "--format", format])
            .args(sparse)
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.success() || format == "ustar");
        if !made.status.success() {
            continue;
        }
        let other = Ground::new();
        into(&other.root(), &made.stdout).unwrap();
        let text = fs::read(other.root().join("d").join("n".repeat(150))).unwrap();
        assert_eq!(text, b"text");
        assert_eq!(
            fs::read(other.root().join("hole")).unwrap(),
            fs::read(root.join("hole")).unwrap()
        );
    }
    let mut writer = Writer::new(Vec::new());
    pack(&Root::open(&root).unwrap(), &PackOptions::default(), &mut writer).unwrap();
    let archive = ground.0.path().join("root").join("../root.tar");
    fs::write(&archive, writer.finish().unwrap()).unwrap();
    let compared = std::process::Command::new("tar")
        .args(["-C", root.to_str().unwrap(), "--compare", "-f"])
        .arg(&archive)
        .output()
        .unwrap();
    assert!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stderr)
    );
}
