//! qcow2 images: any image opens or is refused, and is read, written and discarded without a panic.
#![no_main]

#[path = "../disks.rs"]
#[allow(dead_code)]
mod disks;

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use disk::{CreateOptions, Image, Qcow2};
use libfuzzer_sys::fuzz_target;

/// 256 KiB of disk in clusters of 512 bytes, a part of it written.
fn base() -> &'static [u8] {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    BASE.get_or_init(|| {
        let file = disks::memory_file();
        let again = file.try_clone().expect("a descriptor");
        let image = Qcow2::create(file, 256 << 10, CreateOptions { cluster_size: 512 }).expect("a new image");
        image.write_at(&[1; 5000], 300).expect("written");
        image.write_at(&[2; 3000], 100_000).expect("written");
        drop(image);
        let mut bytes = vec![0; again.metadata().expect("metadata").len() as usize];
        again.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    })
}

fuzz_target!(|input: &[u8]| {
    let whole = input.first().is_some_and(|first| *first == 0);
    let bytes = if whole { input[1..].to_vec() } else { disks::patched(base(), input) };
    let file = disks::memory_file();
    file.write_all_at(&bytes, 0).expect("written");
    let Ok(image) = Qcow2::open(file, false) else { return };
    // What a host file system would refuse to make, memory may try.
    if image.size() > 1 << 20 {
        return;
    }
    let mut buf = vec![0; 3000];
    for at in (0..image.size().saturating_sub(3000)).step_by(7777) {
        let _ = image.read_at(&mut buf, at);
        let _ = image.write_at(&buf, at + 100 - at % 100);
        let _ = image.write_zeroes(at, 1000, at % 2 == 0);
        let _ = image.discard(at, 2048);
    }
    let _ = image.flush();
});
