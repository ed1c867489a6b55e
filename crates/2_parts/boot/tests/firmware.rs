//! SeaBIOS's image in memory, and what it and SMBIOS say of a machine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::process::Command;

use boot::firmware::{BootDevice, BootKind, Firmware, Key, start};
use boot::layout::{GIB, MIB, SMBIOS_TABLES};
use boot::{Entry, Machine, smbios};
use proptest::prelude::*;

/// An image of so many bytes with a jump at the reset vector.
fn image(length: usize) -> Vec<u8> {
    let mut image = vec![0xFF; length];
    if length >= 16 {
        image[length - 16] = 0xEA;
    }
    image
}

fn files(machine: &Machine, firmware: &Firmware<'_>) -> BTreeMap<String, Vec<u8>> {
    let rom = image(0x4_0000);
    let start = start(machine, firmware, &rom).unwrap();
    let named = start.fw_cfg.into_iter().filter_map(|item| match item.key {
        Key::File(name) => Some((name, item.bytes)),
        Key::Selector(_) => None,
    });
    named.collect()
}

#[test]
fn the_image_ends_at_four_gib_and_its_tail_at_one_mib() {
    let rom = image(0x4_0000);
    let machine = Machine::new(512 * MIB, 1);
    let start = start(&machine, &Firmware::default(), &rom).unwrap();
    assert_eq!((start.rom.address, start.rom.end()), (0xFFFC_0000, 4 * GIB));
    assert_eq!((start.shadow.address, start.shadow.end()), (0xE_0000, MIB));
    assert_eq!(start.shadow.bytes(), &rom[0x2_0000..]);
    assert_eq!(start.entry, Entry::Reset);
}

#[test]
fn what_is_no_firmware_is_refused() {
    let machine = Machine::new(512 * MIB, 1);
    for bad in [
        vec![],
        image(15),
        image(0x1_0001),
        vec![0; 0x2_0000],
        vec![0xFF; 0x2_0000],
        image(0x100_0000),
    ] {
        let fault = start(&machine, &Firmware::default(), &bad)
            .map(|_| ())
            .unwrap_err();
        assert!(fault.is(boot::NOT_FIRMWARE), "{fault}");
    }
}

#[test]
fn a_machine_without_a_screen_has_its_firmware_speak_on_the_serial_port() {
    let mut machine = Machine::new(512 * MIB, 1);
    let firmware = Firmware {
        vga_rom: Some(b"\x55\xAA"),
        ..Firmware::default()
    };
    let without = files(&machine, &firmware);
    assert_eq!(without["etc/sercon-port"], 0x3F8_u64.to_le_bytes());
    assert!(!without.contains_key("pci1234,1111.rom"));
    machine.display = true;
    let with = files(&machine, &firmware);
    assert!(!with.contains_key("etc/sercon-port"));
    assert_eq!(with["pci1234,1111.rom"], b"\x55\xAA");
}

#[test]
fn the_order_of_devices_is_told_by_their_paths() {
    let cd = BootDevice::Ide {
        channel: 1,
        unit: 0,
        kind: BootKind::Cd,
    };
    let firmware = Firmware {
        order: vec![cd, BootDevice::VirtioBlock { slot: 17 }],
        ..Firmware::default()
    };
    let files = files(&Machine::new(512 * MIB, 1), &firmware);
    assert_eq!(
        files["bootorder"],
        b"/pci@i0cf8/ide@1,1/drive@1/disk@0\n/pci@i0cf8/scsi@11/disk@0,0\0"
    );
}

#[test]
fn names_and_numbers_are_unique_and_short_enough_for_the_directory() {
    let rom = image(0x4_0000);
    let firmware = Firmware {
        menu_wait: Some(100),
        ..Firmware::default()
    };
    let items = start(&Machine::new(8 * GIB, 4), &firmware, &rom).unwrap().fw_cfg;
    for (index, item) in items.iter().enumerate() {
        assert!(
            items[..index].iter().all(|other| other.key != item.key),
            "{:?}",
            item.key
        );
        if let Key::File(name) = &item.key {
            assert!(name.len() < 56, "{name}");
        }
    }
    let numbered = |selector| {
        items
            .iter()
            .find(|item| item.key == Key::Selector(selector))
            .unwrap()
    };
    assert_eq!(numbered(5).bytes, [4, 0]);
}

/// The structures of a table by type: formatted area and strings.
fn structures(mut table: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
    let mut all = Vec::new();
    while let [kind, length, ..] = *table {
        let formatted = table[..usize::from(length)].to_vec();
        table = &table[usize::from(length)..];
        let end = table.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let strings = table[..end].split(|byte| *byte == 0);
        let strings = strings.filter(|string| !string.is_empty());
        all.push((
            kind,
            formatted,
            strings
                .map(|string| String::from_utf8(string.to_vec()).unwrap())
                .collect(),
        ));
        table = &table[end + 2..];
    }
    all
}

proptest! {
    #[test]
    fn smbios_is_whole_for_every_machine(mib in 2_u64..10_000_000, cpus in 1_u32..=1024, serial in "\\PC{0,80}", uuid in any::<[u8; 16]>()) {
        let machine = Machine { serial_number: serial, uuid, physical_bits: 46, ..Machine::new(mib * MIB, cpus) };
        let placed = smbios::placed(&machine);
        prop_assert!(placed.end() <= MIB);
        let bytes = placed.bytes();
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        prop_assert_eq!((sum(&bytes[..31]), sum(&bytes[16..31])), (0, 0));
        let address = u64::from(u32::from_le_bytes(bytes[24..28].try_into().unwrap()));
        let length = usize::from(u16::from_le_bytes(bytes[22..24].try_into().unwrap()));
        let table = &bytes[(address - SMBIOS_TABLES) as usize..];
        prop_assert_eq!(table.len(), length);
        let all = structures(table);
        prop_assert_eq!(all.len(), usize::from(u16::from_le_bytes(bytes[28..30].try_into().unwrap())));
        prop_assert_eq!(all.last().map(|last| last.0), Some(127));
        let system = all.iter().find(|structure| structure.0 == 1).unwrap();
        prop_assert_eq!(&system.2[..2], ["Posada", "Posada machine"]);
        prop_assert_eq!(system.2.len(), 4);
        prop_assert_eq!(&system.1[16..24], &uuid[8..]);
        let lengths: Vec<_> = all.iter().map(|structure| (structure.0, structure.1.len())).collect();
        for (kind, length) in [(0, 24), (1, 27), (3, 21), (4, 42), (16, 23), (17, 40), (19, 31), (32, 11), (127, 4)] {
            prop_assert!(lengths.contains(&(kind, length)), "{:?}", lengths);
        }
    }
}

#[test]
fn dmidecode_reads_our_smbios() {
    let machine = Machine {
        uuid: *b"\x12\x34\x56\x78\x9A\xBC\xDE\xF0\x11\x22\x33\x44\x55\x66\x77\x88",
        ..Machine::new(40 * GIB, 3)
    };
    // dmidecode reads a dump in which the table lies behind the entry point, at 20h.
    let mut dump = smbios::placed(&machine).bytes().to_vec();
    dump[24..28].copy_from_slice(&32_u32.to_le_bytes());
    for (at, start) in [(21, 16), (4, 0)] {
        dump[at] = 0;
        let sum = dump[start..31]
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        dump[at] = 0_u8.wrapping_sub(sum);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    std::fs::write(&file, dump).unwrap();
    let Ok(output) = Command::new("dmidecode").arg("--from-dump").arg(&file).output() else {
        eprintln!("skipped: dmidecode is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    for word in [
        "Manufacturer: Posada",
        "UUID: 12345678-9abc-def0-1122-334455667788",
        "Core Count: 3",
        "Size: 40 GB",
        "Maximum Capacity: 40 GB",
    ] {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
    for word in ["TRUNCATED", "WRONG", "OUT OF SPEC", "Invalid", "broken"] {
        assert!(!said.contains(word), "{word:?} stands in:\n{said}");
    }
}
