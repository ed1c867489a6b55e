//! Every kind of image against a plain array of bytes.
#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod support;

use std::os::fd::AsRawFd;
use std::sync::Arc;

use disk::{CreateOptions, Format, Image, Overlay, Qcow2, Raw, Slice, detect};
use proptest::prelude::*;
use support::{Step, all, apply, edit, new, pattern, steps, tool};

const SIZE: u64 = 300 << 10;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_raw_disk_is_an_array_of_bytes(steps in steps(SIZE, 100_000)) {
        let file = tempfile::tempfile().unwrap();
        let image = Raw::create(file, SIZE).unwrap();
        let mut model = vec![0; SIZE as usize];
        for step in &steps {
            apply(&image, &mut model, step);
        }
        prop_assert!(all(&image) == model);
        prop_assert_eq!(image.raw_file().map(|fd| fd.as_raw_fd() >= 0), Some(true));
    }

    #[test]
    fn a_qcow2_disk_is_an_array_of_bytes_and_passes_the_check_of_qemu(
        steps in steps(SIZE, 60_000), bits in prop_oneof![Just(9u32), Just(12), Just(16)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.qcow2");
        let mut image = Qcow2::create(new(&path), SIZE, CreateOptions { cluster_size: 1 << bits }).unwrap();
        let mut model = vec![0; SIZE as usize];
        for step in &steps {
            if matches!(step, Step::Reopen) {
                drop(image);
                image = Qcow2::open(edit(&path), false).unwrap();
            }
            apply(&image, &mut model, step);
        }
        prop_assert!(all(&image) == model);
        drop(image);
        let text = path.to_str().unwrap();
        tool(&["qemu-img", "check", "-f", "qcow2", text], &[0]);
        let raw = folder.path().join("d.raw");
        if tool(&["qemu-img", "convert", "-f", "qcow2", "-O", "raw", text, raw.to_str().unwrap()], &[0]).is_some() {
            prop_assert!(std::fs::read(&raw).unwrap() == model);
        }
    }

    #[test]
    fn an_overlay_takes_all_writes_and_leaves_its_base(steps in steps(SIZE + 512, 150_000)) {
        let size = SIZE + 512;
        let base = Raw::create(tempfile::tempfile().unwrap(), size).unwrap();
        let before = pattern(size as usize, 9);
        base.write_at(&before, 0).unwrap();
        let base = Arc::new(base);
        let image = Overlay::new(base.clone(), tempfile::tempfile().unwrap()).unwrap();
        let mut model = before.clone();
        for step in &steps {
            apply(&image, &mut model, step);
        }
        prop_assert!(all(&image) == model);
        prop_assert!(all(&base) == before);
    }

    #[test]
    fn a_slice_is_a_window(steps in steps(SIZE - 1024, 50_000)) {
        let base = Raw::create(tempfile::tempfile().unwrap(), SIZE).unwrap();
        base.write_at(&pattern(SIZE as usize, 1), 0).unwrap();
        let before = all(&base);
        let base = Arc::new(base);
        let image = Slice::new(base.clone(), 512, SIZE - 1024).unwrap();
        let mut model = all(&image);
        for step in &steps {
            apply(&image, &mut model, step);
        }
        prop_assert!(all(&image) == model);
        let whole = all(&base);
        prop_assert!(whole[..512] == before[..512] && whole[SIZE as usize - 512..] == before[SIZE as usize - 512..]);
    }
}

#[test]
fn an_access_outside_of_a_disk_is_refused() {
    let raw = Raw::create(tempfile::tempfile().unwrap(), 4096).unwrap();
    let overlay = Overlay::new(
        Raw::create(tempfile::tempfile().unwrap(), 4096).unwrap(),
        tempfile::tempfile().unwrap(),
    )
    .unwrap();
    let qcow2 = Qcow2::create(tempfile::tempfile().unwrap(), 4096, CreateOptions::default()).unwrap();
    let images: [&dyn Image; 3] = [&raw, &overlay, &qcow2];
    for image in images {
        let refused = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        };
        refused(image.read_at(&mut [0; 2], 4095));
        refused(image.write_at(&[0; 2], u64::MAX));
        refused(image.discard(0, 4097));
        refused(image.write_zeroes(u64::MAX, 2, true));
        image.write_at(&[], 4096).unwrap();
    }
    assert!(Slice::new(&raw, 1, 4096).is_err());
}

#[test]
fn a_read_only_disk_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    drop(Qcow2::create(new(&path), 1 << 20, CreateOptions::default()).unwrap());
    let before = std::fs::read(&path).unwrap();
    for format in [Format::Raw, Format::Qcow2] {
        let image = disk::open(edit(&path), format, true).unwrap();
        assert!(image.read_only());
        let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
        assert_eq!(
            kind(image.write_at(&[1], 0)),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
        assert_eq!(
            kind(image.discard(0, 512)),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
        image.flush().unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_format_is_told_by_its_magic_and_an_explicit_one_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    drop(Qcow2::create(new(&path), 1 << 20, CreateOptions::default()).unwrap());
    assert_eq!(detect(&edit(&path)).unwrap(), Format::Qcow2);
    let image = disk::open(edit(&path), Format::Raw, false).unwrap();
    assert!(image.size() < 1 << 20);
    let mut magic = [0; 4];
    image.read_at(&mut magic, 0).unwrap();
    assert_eq!(&magic, b"QFI\xfb");
    std::fs::write(&path, b"KDMV, a virtual disk").unwrap();
    assert!(detect(&edit(&path)).unwrap_err().is(disk::FOREIGN));
    std::fs::write(&path, b"").unwrap();
    assert_eq!(detect(&edit(&path)).unwrap(), Format::Raw);
}

#[test]
fn holes_of_a_raw_disk_take_no_space_and_zeroes_give_it_back() {
    use std::os::unix::fs::MetadataExt;
    let file = tempfile::tempfile().unwrap();
    let image = Raw::create(file.try_clone().unwrap(), 64 << 20).unwrap();
    image.write_at(&pattern(8 << 20, 3), 0).unwrap();
    image.flush().unwrap();
    let full = file.metadata().unwrap().blocks();
    image.write_zeroes(0, 8 << 20, true).unwrap();
    image.flush().unwrap();
    let left = file.metadata().unwrap().blocks();
    assert!(left < full, "{left} of {full} blocks left");
    assert!(all(&image).iter().all(|byte| *byte == 0));
}

#[test]
fn several_threads_write_one_qcow2_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.qcow2");
    let image = Qcow2::create(new(&path), 8 << 20, CreateOptions { cluster_size: 4096 }).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let image = &image;
            scope.spawn(move || {
                for round in 0..500u64 {
                    let at = (round * 4 + thread) * 3072;
                    image.write_at(&pattern(3072, thread as u8), at).unwrap();
                    if round % 50 == 0 {
                        image.flush().unwrap();
                    }
                    // Clusters that come and go, so that others take their places.
                    let passing = (7 << 20) + (round % 5 * 4 + thread) * 4096;
                    image.write_at(&pattern(4096, round as u8), passing).unwrap();
                    image.discard(passing, 4096).unwrap();
                    let mut back = [0; 3072];
                    image.read_at(&mut back, at).unwrap();
                    assert!(back == *pattern(3072, thread as u8));
                }
            });
        }
    });
    let whole = all(&image);
    for piece in 0..2000 {
        assert!(whole[piece * 3072..(piece + 1) * 3072] == pattern(3072, piece as u8 % 4));
    }
    drop(image);
    tool(
        &["qemu-img", "check", "-f", "qcow2", path.to_str().unwrap()],
        &[0],
    );
}
