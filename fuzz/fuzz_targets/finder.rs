//! Disks of guests: a kernel is found on any disk or none is.
#![no_main]

#[path = "../disks.rs"]
mod disks;

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use disk::Raw;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut bytes = disks::patched(BASE.get_or_init(disks::file_system), input);
    // The menu is where the file system has it: input as text goes right there.
    let mark = b"if [ x$a = x ]";
    if input.first() == Some(&b'#')
        && let Some(at) = bytes.windows(mark.len()).position(|window| window == mark)
    {
        let len = input.len().min(1000);
        bytes[at..at + len].copy_from_slice(&input[..len]);
    }
    let file = disks::memory_file();
    file.write_all_at(&bytes, 0).expect("written");
    if let Ok(image) = Raw::open(file, true)
        && let Ok(found) = boot::finder::find(&image)
    {
        let _ = found.start.require_virtio();
    }
});
