//! Partition tables: any disk has one, has none or is refused, and its partitions lie inside of it.
#![no_main]

#[path = "../disks.rs"]
#[allow(dead_code)]
mod disks;

use std::os::unix::fs::FileExt;

use disk::partition::{Guid, NewGpt, read, write_gpt};
use disk::{Image, Raw};
use libfuzzer_sys::fuzz_target;

const SIZE: u64 = 4 << 20;

fuzz_target!(|input: &[u8]| {
    let file = disks::memory_file();
    let again = file.try_clone().expect("a descriptor");
    let image = Raw::create(file, SIZE).expect("a disk");
    if input.first().is_some_and(|first| first % 2 == 0) {
        let part = NewGpt { kind: Guid::LINUX, id: Guid([1; 16]), name: "a".to_owned(), size: None, bootable: true };
        write_gpt(&image, Guid([2; 16]), &[part]).expect("a table");
    }
    for change in input.chunks_exact(3) {
        let at = u64::from(u16::from_le_bytes([change[0], change[1]])) % 2048;
        again.write_all_at(&change[2..], at).expect("written");
    }
    // Sums that fit, so that more than the sums is tried.
    let mut header = [0; 92];
    again.read_exact_at(&mut header, 512).expect("read");
    if input.len() % 2 == 0 {
        header[16..20].fill(0);
        again.write_all_at(&crc32(&header).to_le_bytes(), 528).expect("written");
    }
    if let Ok(Some(table)) = read(&image) {
        for part in &table.partitions {
            assert!(part.start.checked_add(part.size).is_some_and(|end| part.size > 0 && end <= image.size()));
            let _ = table.part_uuid(part);
        }
    }
});

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
