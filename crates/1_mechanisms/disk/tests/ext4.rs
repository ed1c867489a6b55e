//! File systems that mke2fs makes, read back; journals that debugfs fills, replayed.
#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use disk::ext4::{Error, Ext4, Kind};
use disk::{Image, Raw};
use proptest::prelude::*;
use support::{edit, new, pattern, tool};

const MIB: u64 = 1 << 20;

/// A tree with what file systems find hard: holes, many names, long and short links, loops.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("boot/grub")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    fs::write(root.join("boot/grub/grub.cfg"), b"set default=0\n").unwrap();
    fs::write(root.join("boot/vmlinuz"), pattern(3_000_001, 5)).unwrap();
    fs::set_permissions(root.join("boot/vmlinuz"), fs::Permissions::from_mode(0o640)).unwrap();
    let sparse = new(&root.join("sparse"));
    let raw = Raw::create(sparse, 9 * MIB).unwrap();
    for piece in [3, 4, 70, 2000, 9000] {
        raw.write_at(&pattern(1000, piece as u8), piece * 1024).unwrap();
    }
    fs::write(root.join("empty"), b"").unwrap();
    for number in 0..600 {
        fs::write(
            root.join(format!("many/a-rather-long-name-{number}")),
            number.to_string(),
        )
        .unwrap();
    }
    symlink("boot/vmlinuz", root.join("short")).unwrap();
    symlink("/boot/../boot/./grub", root.join("many/absolute")).unwrap();
    symlink("../../../../boot", root.join("many/above")).unwrap();
    symlink(format!("{}boot/vmlinuz", "./".repeat(60)), root.join("long")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("nothing", root.join("dangling")).unwrap();
}

/// Makes an image of a folder; `None` when mke2fs is not installed.
fn make(folder: &Path, options: &[&str], size: u64) -> Option<PathBuf> {
    let root = folder.join("tree");
    if !root.exists() {
        tree(&root);
    }
    let path = folder.join("fs.img");
    drop(Raw::create(new(&path), size).unwrap());
    let mut words = vec!["mke2fs", "-q", "-F", "-L", "etiqueta"];
    words.extend([
        "-U",
        "01234567-89ab-cdef-0123-456789abcdef",
        "-d",
        root.to_str().unwrap(),
    ]);
    words.extend(options);
    words.push(path.to_str().unwrap());
    tool(&words, &[0]).map(|_| path)
}

fn open(path: &Path) -> Ext4<Raw> {
    Ext4::open(Raw::open(edit(path), true).unwrap()).unwrap()
}

/// Compares a folder of the host with one of the file system; how many files there were.
fn compare(fs: &Ext4<impl Image>, host: &Path, inside: &str) -> usize {
    let mut names: Vec<_> = fs.read_dir(inside).unwrap();
    names.retain(|entry| entry.name != b"lost+found");
    let mut expected = 0;
    for entry in fs::read_dir(host).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(names.iter().any(|found| found.name == name.as_bytes()), "{name}");
        expected += 1;
        let path = format!("{inside}/{name}");
        let (ours, theirs) = (fs.symlink_metadata(&path).unwrap(), entry.metadata().unwrap());
        assert_eq!(u32::from(ours.mode), theirs.mode() & 0o7777, "{path}");
        assert_eq!((ours.uid, ours.gid), (theirs.uid(), theirs.gid()));
        assert_eq!(ours.modified, theirs.mtime());
        match ours.kind {
            Kind::Directory => expected += compare(fs, &entry.path(), &path),
            Kind::Link => {
                let target = fs::read_link(entry.path()).unwrap();
                assert_eq!(fs.read_link(&path).unwrap(), target.to_str().unwrap().as_bytes());
            }
            _ => assert!(
                fs.read(&path, 16 * MIB).unwrap() == fs::read(entry.path()).unwrap(),
                "{path}"
            ),
        }
    }
    let below = fs::read_dir(host).unwrap().count();
    assert_eq!(names.len(), below, "{inside}");
    expected
}

#[test]
fn every_kind_of_file_system_reads_as_the_tree_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let variants: [&[&str]; 12] = [
        &["-t", "ext4"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "^metadata_csum"],
        &["-t", "ext4", "-O", "^64bit,^has_journal"],
        &[
            "-t",
            "ext4",
            "-O",
            "metadata_csum,metadata_csum_seed,64bit",
            "-I",
            "512",
        ],
        &[
            "-t",
            "ext4",
            "-O",
            "meta_bg,^resize_inode",
            "-b",
            "1024",
            "-g",
            "1024",
        ],
        &["-t", "ext4", "-O", "bigalloc,large_dir,ea_inode"],
        &["-t", "ext4", "-O", "sparse_super2", "-b", "2048"],
        &["-t", "ext3"],
        &["-t", "ext2", "-b", "1024"],
        &[
            "-t",
            "ext2",
            "-I",
            "128",
            "-O",
            "^filetype,^sparse_super,^resize_inode",
        ],
        &["-t", "ext4", "-O", "^extent,^64bit", "-b", "1024"],
    ];
    for options in variants {
        let Some(path) = make(folder.path(), options, 48 * MIB) else {
            return;
        };
        let fs = open(&path);
        assert_eq!(compare(&fs, &folder.path().join("tree"), ""), 613, "{options:?}");
        assert_eq!(fs.label(), "etiqueta");
        assert_eq!(fs.uuid().to_string(), "01234567-89ab-cdef-0123-456789abcdef");
    }
}

#[test]
fn links_stay_inside_and_come_to_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = make(folder.path(), &["-t", "ext4"], 32 * MIB) else {
        return;
    };
    let fs = open(&path);
    let kernel = fs.metadata("/boot/vmlinuz").unwrap();
    for way in [
        "short",
        "/long",
        "//many/above/vmlinuz",
        "many/absolute/../vmlinuz",
        "../../boot/vmlinuz/",
    ] {
        assert_eq!(fs.metadata(way).unwrap(), kernel, "{way}");
    }
    assert_eq!(
        fs.canonicalize("many/absolute/../vmlinuz").unwrap(),
        b"/boot/vmlinuz"
    );
    assert_eq!(fs.canonicalize("many/..").unwrap(), b"/");
    assert!(matches!(fs.metadata("loop"), Err(Error::TooFar)));
    assert_eq!(fs.symlink_metadata("loop").unwrap().kind, Kind::Link);
    assert!(matches!(fs.metadata("dangling"), Err(Error::NotFound)));
    assert!(matches!(
        fs.metadata("empty/below"),
        Err(Error::OtherKind(Kind::File))
    ));
    assert!(matches!(
        fs.read("boot", MIB),
        Err(Error::OtherKind(Kind::Directory))
    ));
    assert!(matches!(
        fs.read("short", 3_000_000),
        Err(Error::TooLarge(3_000_001))
    ));
    assert!(matches!(fs.metadata("a/".repeat(3000)), Err(Error::TooFar)));
}

/// Changes a copy of a file system and writes the blocks that differ into the journal of the original, in two
/// transactions, so that the original reads as the copy only when its journal is replayed.
fn journalled(folder: &Path, base: &Path, size: usize, options: &str) -> (PathBuf, PathBuf) {
    let changed = folder.join("changed.img");
    fs::copy(base, &changed).unwrap();
    let kernel = folder.join("kernel");
    // Its first block begins with the journal's magic number and has to be escaped there.
    let mut bytes = 0xc03b_3998u32.to_be_bytes().to_vec();
    bytes.extend(pattern(20_000, 9));
    fs::write(&kernel, bytes).unwrap();
    let commands = format!(
        "write {} /boot/vmlinuz-2\nmkdir /fresh\nsymlink /fresh/link /boot/vmlinuz-2\nrm /empty\n",
        kernel.display()
    );
    debugfs(folder, &changed, &commands);
    let (old, fresh) = (fs::read(base).unwrap(), fs::read(&changed).unwrap());
    let differ: Vec<usize> = (0..old.len() / size)
        .filter(|block| old[block * size..][..size] != fresh[block * size..][..size])
        .collect();
    assert!(differ.len() > 8);
    let dirty = folder.join("dirty.img");
    fs::copy(base, &dirty).unwrap();
    let mut commands = format!("jo {options}\n");
    // The first transaction holds wrong bytes for half of the blocks, which the second one makes right.
    for (index, blocks) in [&differ[..differ.len() / 2], &differ[..]].into_iter().enumerate() {
        let data = folder.join(format!("blocks{index}"));
        let mut bytes = Vec::new();
        for block in blocks {
            if index == 0 {
                bytes.extend(pattern(size, 0x55));
            } else {
                bytes.extend(&fresh[block * size..][..size]);
            }
        }
        fs::write(&data, bytes).unwrap();
        let numbers: Vec<String> = blocks.iter().map(ToString::to_string).collect();
        commands += &format!("jw -b {} {}\n", numbers.join(","), data.display());
    }
    commands += "jc\n";
    debugfs(folder, &dirty, &commands);
    (dirty, changed)
}

fn debugfs(folder: &Path, image: &Path, commands: &str) {
    let script = folder.join("commands");
    fs::write(&script, commands).unwrap();
    let (script, image) = (script.to_str().unwrap(), image.to_str().unwrap());
    tool(&["debugfs", "-w", "-f", script, image], &[0]);
}

#[test]
fn a_journal_is_replayed_in_memory_whatever_its_checksums() {
    let variants: [(&[&str], usize, &str); 6] = [
        (&["-t", "ext4", "-b", "1024"], 1024, ""),
        (&["-t", "ext4", "-b", "4096"], 4096, "-c -v 3"),
        (&["-t", "ext4", "-b", "1024"], 1024, "-c -v 2"),
        (
            &["-t", "ext4", "-b", "4096", "-O", "^64bit,^metadata_csum"],
            4096,
            "",
        ),
        (
            &["-t", "ext4", "-b", "1024", "-O", "^64bit,^metadata_csum"],
            1024,
            "-c -v 1",
        ),
        (&["-t", "ext3", "-b", "1024"], 1024, ""),
    ];
    for (options, size, journal) in variants {
        let folder = tempfile::tempdir().unwrap();
        let Some(base) = make(folder.path(), options, 32 * MIB) else {
            return;
        };
        let (dirty, changed) = journalled(folder.path(), &base, size, journal);
        let before = fs::read(&dirty).unwrap();
        let (fs_dirty, fs_changed) = (open(&dirty), open(&changed));
        assert!(fs_dirty.replayed() > 8, "{options:?}");
        assert_eq!(fs_changed.replayed(), 0);
        for path in ["/boot/vmlinuz-2", "/fresh/link", "/boot/vmlinuz"] {
            let bytes = fs_dirty.read(path, 16 * MIB).unwrap();
            assert!(
                bytes == fs_changed.read(path, 16 * MIB).unwrap(),
                "{options:?} {path}"
            );
        }
        assert!(matches!(fs_dirty.metadata("/empty"), Err(Error::NotFound)));
        assert!(fs::read(&dirty).unwrap() == before, "the image was written");
    }
}

#[test]
fn a_transaction_without_its_commit_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let Some(base) = make(folder.path(), &["-t", "ext4", "-b", "1024"], 32 * MIB) else {
        return;
    };
    let (dirty, _) = journalled(folder.path(), &base, 1024, "-c -v 3");
    // Breaks the second commit block, the last block of the log.
    let mut bytes = fs::read(&dirty).unwrap();
    let commit = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2];
    let last = (0..bytes.len() / 1024)
        .rfind(|block| bytes[block * 1024..].starts_with(&commit))
        .unwrap();
    bytes[last * 1024 + 500] ^= 1;
    fs::write(&dirty, &bytes).unwrap();
    // Only the first transaction is there, whose bytes are no file system.
    let image = Raw::open(edit(&dirty), true).unwrap();
    assert!(
        Ext4::open(&image)
            .and_then(|fs| fs.metadata("/boot/vmlinuz-2"))
            .is_err()
    );
}

#[test]
fn a_revoked_block_keeps_what_the_file_system_has() {
    let folder = tempfile::tempdir().unwrap();
    let Some(base) = make(folder.path(), &["-t", "ext4", "-b", "1024"], 32 * MIB) else {
        return;
    };
    let bytes = fs::read(&base).unwrap();
    let start = pattern(1024, 5);
    let block = (0..bytes.len() / 1024)
        .find(|block| bytes[block * 1024..][..1024] == start[..])
        .unwrap();
    let data = folder.path().join("wrong");
    fs::write(&data, [0xaa; 1024]).unwrap();
    let write = format!("jw -b {block} {}\n", data.display());
    let revoke = format!("jw -r {block}\n");
    for (commands, right) in [
        (write.clone(), false),
        (format!("{write}{revoke}"), true),
        (format!("{write}{revoke}{write}"), false),
    ] {
        let dirty = folder.path().join("dirty.img");
        fs::copy(&base, &dirty).unwrap();
        debugfs(folder.path(), &dirty, &format!("jo\n{commands}jc\n"));
        let kernel = open(&dirty).read("/boot/vmlinuz", 16 * MIB).unwrap();
        assert_eq!(kernel == pattern(3_000_001, 5), right, "{commands}");
    }
}

#[test]
fn a_volume_larger_than_its_image_or_none_at_all_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = make(folder.path(), &["-t", "ext4"], 32 * MIB) else {
        return;
    };
    edit(&path).set_len(20 * MIB).unwrap();
    let cut = Raw::open(edit(&path), true).unwrap();
    assert!(matches!(Ext4::open(&cut), Err(Error::Damaged(_))));
    for size in [0, 1024, MIB] {
        let none = Raw::create(tempfile::tempfile().unwrap(), size).unwrap();
        assert!(matches!(Ext4::open(&none), Err(Error::Not)));
    }
}

/// Reads all there is, wherever it is broken.
fn read_all(image: &Raw) {
    let Ok(fs) = Ext4::open(image) else { return };
    let mut left = vec![String::new()];
    let mut seen = 0;
    while let Some(folder) = left.pop() {
        seen += 1;
        for entry in fs.read_dir(&folder).unwrap_or_default() {
            let path = format!("{folder}/{}", String::from_utf8_lossy(&entry.name));
            let _ = fs.read(&path, 4 * MIB);
            let _ = fs.read_link(&path);
            if seen < 8
                && fs
                    .metadata(&path)
                    .is_ok_and(|found| found.kind == Kind::Directory)
            {
                left.push(path);
            }
        }
    }
}

#[test]
fn a_mutated_file_system_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("d/file"), pattern(40_000, 3)).unwrap();
    symlink("d/file", root.join("link")).unwrap();
    let kinds: [&[&str]; 3] = [
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^metadata_csum",
            "-N",
            "32",
            "-J",
            "size=1",
        ],
        &["-t", "ext2", "-b", "1024", "-N", "32"],
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^metadata_csum,^64bit,meta_bg,^resize_inode",
            "-N",
            "32",
            "-J",
            "size=1",
        ],
    ];
    for options in kinds {
        let Some(base) = make(folder.path(), options, 4 * MIB) else {
            return;
        };
        let dirty = if options.contains(&"size=1") {
            let number = 40;
            let data = folder.path().join("blocks");
            fs::write(&data, [1; 1024]).unwrap();
            let commands = format!("jo\njw -b {number} {}\njw -r 41\njc\n", data.display());
            debugfs(folder.path(), &base, &commands);
            fs::read(&base).unwrap()
        } else {
            fs::read(&base).unwrap()
        };
        // Blocks that hold something.
        let used: Vec<usize> = (0..dirty.len() / 64)
            .filter(|piece| dirty[piece * 64..][..64].iter().any(|byte| *byte != 0))
            .filter(|piece| !(100..600).contains(piece) || options.contains(&"ext2"))
            .collect();
        let change = (any::<prop::sample::Index>(), 0..64usize, any::<u8>());
        proptest!(ProptestConfig::with_cases(80), |(
            changes in proptest::collection::vec(change, 1..10), head in any::<bool>(),
        )| {
            let mut bytes = dirty.clone();
            for (index, offset, value) in changes {
                let piece = if head { 16 + index.index(16) } else { used[index.index(used.len())] };
                bytes[piece * 64 + offset] = value;
            }
            let file = tempfile::tempfile().unwrap();
            let image = Raw::create(file, bytes.len() as u64).unwrap();
            image.write_at(&bytes, 0).unwrap();
            read_all(&image);
        });
    }
}
