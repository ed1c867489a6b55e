//! Partition tables: ours read back and by sfdisk, sfdisk's read by us, damaged ones never a panic.
#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use disk::partition::{Guid, Kind, NewGpt, NewMbr, Scheme, read, write_gpt, write_mbr};
use disk::{Image, Raw};
use proptest::prelude::*;
use support::{edit, new, tool};

const MIB: u64 = 1 << 20;
const DISK: Guid = Guid([7; 16]);

fn wanted() -> Vec<NewGpt> {
    let part = |kind, id, name: &str, size| NewGpt {
        kind,
        id: Guid([id; 16]),
        name: name.to_owned(),
        size,
        bootable: false,
    };
    vec![
        part(Guid::BIOS_BOOT, 1, "", Some(MIB)),
        part(Guid::EFI_SYSTEM, 2, "EFI sistema ñ", Some(10 * MIB + 5)),
        part(Guid::LINUX_ROOT_X86_64, 3, "root", None),
    ]
}

fn disk(path: &Path, size: u64) -> Raw {
    Raw::create(new(path), size).unwrap()
}

/// Hands a script to sfdisk; false when it is not installed.
fn sfdisk(path: &Path, script: &str) -> bool {
    if tool(&["sfdisk", "--version"], &[0]).is_none() {
        return false;
    }
    let mut child = Command::new("sfdisk")
        .args(["--quiet", path.to_str().unwrap()])
        .env("PATH", support::path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    true
}

#[test]
fn a_gpt_that_is_written_reads_back_and_sfdisk_finds_no_fault_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let image = disk(&path, 64 * MIB + 1536);
    let written = write_gpt(&image, DISK, &wanted()).unwrap();
    assert_eq!(read(&image).unwrap().unwrap(), written);
    assert_eq!(written.scheme, Scheme::Gpt(DISK));
    assert_eq!(written.partitions[1].start, 2 * MIB);
    assert_eq!(written.partitions[1].size, 11 * MIB);
    assert_eq!(
        written.part_uuid(&written.partitions[2]),
        Guid([3; 16]).to_string()
    );
    let text = path.to_str().unwrap();
    if let Some(said) = tool(&["sfdisk", "--verify", text], &[0]) {
        assert!(said.contains("No errors detected"), "{said}");
        let json = tool(&["sfdisk", "--json", text], &[0]).unwrap();
        let root = &written.partitions[2];
        for fact in [
            format!("\"start\": {}", root.start / 512),
            format!("\"size\": {}", root.size / 512),
            Guid::LINUX_ROOT_X86_64.to_string().to_uppercase(),
            "EFI sistema ñ".to_owned(),
        ] {
            assert!(json.contains(&fact), "{fact} in {json}");
        }
    }
}

#[test]
fn the_backup_is_taken_when_the_first_table_is_bad_and_both_bad_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(&folder.path().join("d"), 64 * MIB);
    let written = write_gpt(&image, DISK, &wanted()).unwrap();
    for place in [512 + 60, 1024 + 40] {
        let mut byte = [0];
        image.read_at(&mut byte, place).unwrap();
        image.write_at(&[!byte[0]], place).unwrap();
        let table = read(&image).unwrap().unwrap();
        assert!(table.from_backup);
        assert_eq!(table.partitions, written.partitions);
        image.write_at(&byte, place).unwrap();
    }
    image.write_zeroes(512, 512, true).unwrap();
    image.write_zeroes(64 * MIB - 512, 512, true).unwrap();
    assert!(read(&image).unwrap_err().is(disk::TABLE));
}

#[test]
fn an_mbr_that_is_written_reads_back_and_sfdisk_finds_no_fault_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let image = disk(&path, 32 * MIB);
    image.write_at(b"boot code", 0).unwrap();
    let part = |kind, size, bootable| NewMbr { kind, size, bootable };
    let wanted = [part(0x83, Some(8 * MIB), true), part(0x82, None, false)];
    let written = write_mbr(&image, 0xcafe_0001, &wanted).unwrap();
    assert_eq!(read(&image).unwrap().unwrap(), written);
    assert_eq!(written.part_uuid(&written.partitions[1]), "cafe0001-02");
    let mut code = [0; 9];
    image.read_at(&mut code, 0).unwrap();
    assert_eq!(&code, b"boot code");
    if let Some(said) = tool(&["sfdisk", "--verify", path.to_str().unwrap()], &[0]) {
        assert!(said.contains("No errors detected"), "{said}");
    }
}

#[test]
fn tables_of_sfdisk_read_as_it_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    drop(disk(&path, 64 * MIB));
    let script = "label: dos\nlabel-id: 0x11223344\nstart=2048, size=16384, type=83, bootable\n\
                  start=20480, type=5\nstart=22528, size=2048, type=82\nstart=30720, size=4096, type=83\n\
                  start=40960, type=83\n";
    if !sfdisk(&path, script) {
        return;
    }
    let table = read(&Raw::open(edit(&path), true).unwrap()).unwrap().unwrap();
    assert_eq!(table.scheme, Scheme::Mbr(0x1122_3344));
    let found: Vec<_> = table
        .partitions
        .iter()
        .map(|part| (part.number, part.start / 512, part.kind, part.bootable))
        .collect();
    let linux = Kind::Mbr(0x83);
    let expected = [
        (1, 2048, linux, true),
        (5, 22528, Kind::Mbr(0x82), false),
        (6, 30720, linux, false),
        (7, 40960, linux, false),
    ];
    assert_eq!(found, expected);
    let script =
        "label: gpt\nsize=2048, type=21686148-6449-6E6F-744E-656564454649\ntype=linux, name=\"data\"\n";
    sfdisk(&path, script);
    let table = read(&Raw::open(edit(&path), true).unwrap()).unwrap().unwrap();
    assert_eq!(table.partitions.len(), 2);
    assert_eq!(table.partitions[0].kind, Kind::Gpt(Guid::BIOS_BOOT));
    assert_eq!(table.partitions[1].name, "data");
}

#[test]
fn partitions_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(&folder.path().join("d"), 8 * MIB);
    assert!(write_gpt(&image, DISK, &wanted()).unwrap_err().is(disk::FIT));
    let mut greedy = wanted();
    greedy.rotate_right(1);
    assert!(write_gpt(&image, DISK, &greedy).unwrap_err().is(disk::FIT));
    let endless = NewMbr {
        kind: 0x83,
        size: Some(u64::MAX),
        bootable: false,
    };
    assert!(write_mbr(&image, 1, &[endless]).unwrap_err().is(disk::FIT));
    let tiny = disk(&folder.path().join("t"), 512);
    assert!(write_gpt(&tiny, DISK, &[]).unwrap_err().is(disk::FIT));
}

#[test]
fn a_disk_without_a_table_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(&folder.path().join("d"), MIB);
    assert_eq!(read(&image).unwrap(), None);
    // The boot sector of a FAT file system.
    image.write_at(&[b'A'; 64], 446).unwrap();
    image.write_at(&[0x55, 0xaa], 510).unwrap();
    assert_eq!(read(&image).unwrap(), None);
    assert_eq!(read(&disk(&folder.path().join("e"), 0)).unwrap(), None);
}

#[test]
fn a_loop_of_logical_partitions_ends() {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(&folder.path().join("d"), MIB);
    let mut sector = [0; 512];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector[446 + 4] = 5;
    sector[446 + 8] = 1;
    image.write_at(&sector, 0).unwrap();
    sector[446 + 4] = 0x83;
    sector[446 + 12] = 1;
    sector[462 + 4] = 5;
    sector[462 + 8] = 1;
    image.write_at(&sector, 512).unwrap();
    image.write_at(&sector, 1024).unwrap();
    assert!(read(&image).unwrap_err().is(disk::TABLE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_mutated_table_never_panics(
        gpt in any::<bool>(), changes in proptest::collection::vec((0..2048u64, any::<u8>()), 1..20), sum in any::<bool>(),
    ) {
        let image = Raw::create(tempfile::tempfile().unwrap(), 20 * MIB).unwrap();
        if gpt {
            write_gpt(&image, DISK, &wanted()).unwrap();
        } else {
            let part = NewMbr { kind: 5, size: Some(MIB), bootable: true };
            write_mbr(&image, 1, &[part, part]).unwrap();
        }
        for (at, value) in changes {
            // Away from the boot code, which nobody reads.
            image.write_at(&[value], at.max(440)).unwrap();
        }
        if sum {
            let mut header = [0; 92];
            image.read_at(&mut header, 512).unwrap();
            header[16..20].fill(0);
            image.write_at(&crc32fast::hash(&header).to_le_bytes(), 512 + 16).unwrap();
        }
        if let Ok(Some(table)) = read(&image) {
            for part in table.partitions {
                prop_assert!(part.size > 0 && part.start + part.size <= image.size());
            }
        }
    }
}
