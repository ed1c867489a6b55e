//! qcow2 images that QEMU's tools make, and what they say of ours.
#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod support;

use std::path::{Path, PathBuf};

use disk::{CreateOptions, Image, Qcow2};
use proptest::prelude::*;
use support::{Step, all, apply, edit, new, pattern, steps, tool};

const SIZE: u64 = 700 << 10;

/// A disk with holes, text that compresses and noise that does not.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    bytes[..100_000].copy_from_slice(&b"posada ".repeat(14_286)[..100_000]);
    let mut state = 1u32;
    for byte in &mut bytes[200_000..400_123] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    bytes[SIZE as usize - 5000..].copy_from_slice(&pattern(5000, 7));
    bytes
}

/// An image made by qemu-img from [`content`]; `None` when it is not installed.
fn converted(folder: &Path, options: &[&str]) -> Option<PathBuf> {
    let raw = folder.join("content");
    std::fs::write(&raw, content()).unwrap();
    let path = folder.join("d.qcow2");
    let mut words = vec!["qemu-img", "convert", "-f", "raw", "-O", "qcow2"];
    words.extend(options);
    words.extend([raw.to_str().unwrap(), path.to_str().unwrap()]);
    tool(&words, &[0]).map(|_| path)
}

fn check(path: &Path, allowed: &[i32]) {
    tool(
        &["qemu-img", "check", "-f", "qcow2", path.to_str().unwrap()],
        allowed,
    );
}

const VARIANTS: [&[&str]; 12] = [
    &[],
    &["-o", "compat=0.10"],
    &["-c"],
    &["-c", "-o", "compression_type=zstd"],
    &["-c", "-o", "cluster_size=512"],
    &["-c", "-o", "cluster_size=2M,compression_type=zstd"],
    &["-o", "cluster_size=512,refcount_bits=1"],
    &["-o", "cluster_size=1k,refcount_bits=2"],
    &["-o", "refcount_bits=64"],
    &["-o", "cluster_size=4k,refcount_bits=8,lazy_refcounts=on"],
    &["-o", "preallocation=metadata"],
    &["-o", "preallocation=full,cluster_size=2M"],
];

#[test]
fn images_of_qemu_read_as_they_were_written() {
    for options in VARIANTS {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = converted(folder.path(), options) else {
            return;
        };
        for read_only in [true, false] {
            let image = Qcow2::open(edit(&path), read_only).unwrap();
            assert!(all(&image) == content(), "{options:?}");
        }
        check(&path, &[0]);
    }
}

#[test]
fn images_of_qemu_are_written_and_still_pass_its_check() {
    for options in VARIANTS {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = converted(folder.path(), options) else {
            return;
        };
        let mut model = content();
        let image = Qcow2::open(edit(&path), false).unwrap();
        let work = [
            Step::Write {
                at: 70_000,
                len: 200_000,
                seed: 2,
            },
            Step::Write {
                at: 5,
                len: 1,
                seed: 8,
            },
            Step::Zero {
                at: 210_001,
                len: 150_000,
                unmap: true,
            },
            Step::Zero {
                at: 0,
                len: 70_000,
                unmap: false,
            },
            Step::Flush,
            Step::Write {
                at: 300,
                len: 3000,
                seed: 4,
            },
            Step::Discard {
                at: 380_000,
                len: 300_000,
            },
            Step::Write {
                at: 390_001,
                len: 140_000,
                seed: 6,
            },
        ];
        for step in &work {
            apply(&image, &mut model, step);
        }
        assert!(all(&image) == model, "{options:?}");
        drop(image);
        check(&path, &[0]);
        let raw = folder.path().join("back");
        let (from, to) = (path.to_str().unwrap(), raw.to_str().unwrap());
        tool(
            &["qemu-img", "convert", "-f", "qcow2", "-O", "raw", from, to],
            &[0],
        );
        assert!(std::fs::read(&raw).unwrap() == model, "{options:?}");
    }
}

#[test]
fn a_snapshot_keeps_its_bytes_while_the_disk_is_written() {
    for options in [&["-o", "cluster_size=4k"][..], &["-c"], &["-o", "compat=0.10"]] {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = converted(folder.path(), options) else {
            return;
        };
        let text = path.to_str().unwrap();
        tool(&["qemu-img", "snapshot", "-c", "before", text], &[0]);
        let image = Qcow2::open(edit(&path), false).unwrap();
        let mut model = content();
        for step in [
            Step::Write {
                at: 1000,
                len: 250_000,
                seed: 2,
            },
            Step::Discard {
                at: 300_000,
                len: 200_000,
            },
            Step::Zero {
                at: 20_000,
                len: 50_000,
                unmap: false,
            },
        ] {
            apply(&image, &mut model, &step);
        }
        assert!(all(&image) == model);
        drop(image);
        check(&path, &[0]);
        tool(&["qemu-img", "snapshot", "-a", "before", text], &[0]);
        assert!(
            all(&Qcow2::open(edit(&path), true).unwrap()) == content(),
            "{options:?}"
        );
    }
}

#[test]
fn what_is_not_read_here_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let Some(base) = converted(folder.path(), &[]) else {
        return;
    };
    let base = base.to_str().unwrap();
    let make = |name: &str, options: &[&str]| {
        let path = folder.path().join(name);
        let mut words = vec!["qemu-img", "create", "-f", "qcow2"];
        words.extend(options);
        words.extend([path.to_str().unwrap(), "1M"]);
        tool(&words, &[0]);
        path
    };
    let refused = |path: &Path, read_only| Qcow2::open(edit(path), read_only).map(drop).unwrap_err();
    let backed = make("backed", &["-b", base, "-F", "qcow2"]);
    assert!(refused(&backed, true).is(disk::BACKING));
    let data = format!("data_file={}", folder.path().join("data").display());
    assert!(refused(&make("external", &["-o", &data]), true).is(disk::EXTERNAL_DATA));
    assert!(
        refused(
            &make("extended", &["-o", "extended_l2=on,cluster_size=64k"]),
            true
        )
        .is(disk::FEATURE)
    );
    let secret = [
        "--object",
        "secret,id=s,data=word",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s",
    ];
    assert!(refused(&make("secret", &secret), true).is(disk::ENCRYPTED));

    let plain = make("plain", &[]);
    for (bit, code) in [(1u64, disk::DIRTY), (2, disk::CORRUPT)] {
        let mut bytes = std::fs::read(&plain).unwrap();
        bytes[72..80].copy_from_slice(&bit.to_be_bytes());
        let marked = folder.path().join("marked");
        std::fs::write(&marked, &bytes).unwrap();
        assert!(refused(&marked, false).is(code));
        assert!(
            all(&Qcow2::open(edit(&marked), true).unwrap())
                .iter()
                .all(|byte| *byte == 0)
        );
    }
}

#[test]
fn an_image_that_does_not_count_its_header_is_read_but_gets_no_new_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    drop(Qcow2::create(new(&path), SIZE, CreateOptions::default()).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    // The first entry of the refcount table, in the second cluster.
    bytes[65536..65544].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let image = Qcow2::open(edit(&path), false).unwrap();
    assert!(all(&image).iter().all(|byte| *byte == 0));
    let error = image.write_at(&[1], 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn the_refcount_table_grows_with_the_image() {
    // One table cluster of 512 bytes counts 8 MiB.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let image = Qcow2::create(new(&path), 40 << 20, CreateOptions { cluster_size: 512 }).unwrap();
    let bytes = pattern(1 << 20, 3);
    for piece in 0..20 {
        image.write_at(&bytes, piece * (2 << 20)).unwrap();
    }
    drop(image);
    check(&path, &[0]);
    let image = Qcow2::open(edit(&path), true).unwrap();
    for piece in 0..20 {
        let mut back = vec![0; 1 << 20];
        image.read_at(&mut back, piece * (2 << 20)).unwrap();
        assert!(back == bytes);
        image.read_at(&mut back, piece * (2 << 20) + (1 << 20)).unwrap();
        assert!(back.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_discarded_is_given_back_to_the_host() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let image = Qcow2::create(new(&path), 64 << 20, CreateOptions::default()).unwrap();
    image.write_at(&pattern(16 << 20, 3), 0).unwrap();
    image.flush().unwrap();
    let full = path.metadata().unwrap().blocks();
    image.discard(0, 16 << 20).unwrap();
    image.flush().unwrap();
    assert!(path.metadata().unwrap().blocks() * 4 < full);
    // The space is used again before the file grows.
    let len = path.metadata().unwrap().len();
    image.write_at(&pattern(8 << 20, 4), 32 << 20).unwrap();
    image.flush().unwrap();
    assert_eq!(path.metadata().unwrap().len(), len);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// The file as it is at any moment, without the tables in memory, is what a killed process leaves.
    #[test]
    fn a_kill_at_any_moment_loses_nothing_that_was_flushed(steps in steps(SIZE, 60_000), bits in 9..=13u32) {
        let folder = tempfile::tempdir().unwrap();
        let (path, left) = (folder.path().join("d"), folder.path().join("left"));
        let image = Qcow2::create(new(&path), SIZE, CreateOptions { cluster_size: 1 << bits }).unwrap();
        let mut model = vec![0; SIZE as usize];
        // For each byte whether it has stayed the same since the last flush.
        let mut steady = vec![true; SIZE as usize];
        let mut flushed = model.clone();
        for step in &steps {
            apply(&image, &mut model, step);
            match *step {
                Step::Flush => {
                    flushed.clone_from(&model);
                    steady.fill(true);
                }
                Step::Write { at, len, .. } => steady[at as usize..at as usize + len].fill(false),
                Step::Zero { at, len, .. } | Step::Discard { at, len } => {
                    steady[at as usize..(at + len) as usize].fill(false);
                }
                _ => {}
            }
        }
        std::fs::copy(&path, &left).unwrap();
        // 3: clusters leaked, nothing worse.
        check(&left, &[0, 3]);
        let found = all(&Qcow2::open(edit(&left), false).unwrap());
        for (at, steady) in steady.iter().enumerate() {
            prop_assert!(!steady || found[at] == flushed[at], "byte {} changed", at);
        }
    }

    #[test]
    fn a_mutated_image_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        variant in 0..VARIANTS.len(), cut in any::<Option<prop::sample::Index>>(), steps in steps(SIZE, 60_000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = converted(folder.path(), VARIANTS[variant]) else { return Ok(()); };
        let mut bytes = std::fs::read(&path).unwrap();
        // Mostly where the tables are: in a tenth of the file.
        let tables = bytes.len() / 10;
        for (index, value) in changes {
            let at = index.index(tables);
            bytes[if value % 4 == 0 { at % 112 } else { at }] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(image) = Qcow2::open(edit(&path), false) && image.size() < 16 << 20 {
            let size = image.size();
            for step in steps {
                let (at, len) = match step {
                    Step::Write { at, len, .. } | Step::Read { at, len } => (at, len as u64),
                    Step::Zero { at, len, .. } | Step::Discard { at, len } => (at, len),
                    _ => (0, 1),
                };
                if at + len > size {
                    continue;
                }
                let mut buf = vec![1; len as usize];
                let _ = match step {
                    Step::Write { .. } => image.write_at(&buf, at),
                    Step::Read { .. } => image.read_at(&mut buf, at),
                    Step::Zero { unmap, .. } => image.write_zeroes(at, len, unmap),
                    Step::Discard { .. } => image.discard(at, len),
                    _ => image.flush(),
                };
            }
        }
    }
}
