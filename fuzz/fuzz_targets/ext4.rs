//! File systems: any image is one or is refused, and all of its files are read or refused.
#![no_main]

#[path = "../disks.rs"]
mod disks;

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use disk::Raw;
use disk::ext4::{Ext4, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = disks::patched(BASE.get_or_init(disks::file_system), input);
    let file = disks::memory_file();
    file.write_all_at(&bytes, 0).expect("written");
    let Ok(fs) = Raw::open(file, true).map_err(drop).and_then(|image| Ext4::open(image).map_err(drop)) else {
        return;
    };
    let mut left = vec![Vec::new()];
    for _ in 0..10 {
        let Some(folder) = left.pop() else { return };
        for entry in fs.read_dir(&folder).unwrap_or_default().into_iter().take(50) {
            let path = [&folder[..], b"/", &entry.name].concat();
            let _ = fs.read(&path, 1 << 20);
            let _ = fs.read_link(&path);
            let _ = fs.canonicalize(&path);
            if fs.symlink_metadata(&path).is_ok_and(|found| found.kind == Kind::Directory) {
                left.push(path);
            }
        }
    }
});
