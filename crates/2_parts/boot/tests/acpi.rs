//! ACPI tables as a system and as firmware meet them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use boot::layout::{ACPI_TABLES, GIB, MIB, SMBIOS_TABLES};
use boot::{Chunk, Machine, acpi};
use proptest::prelude::*;

/// Tables by signature, found from the RSDP through the given list ("XSDT" or "RSDT").
fn walk(memory: &Chunk<'_>, rsdp: u64, wide: bool) -> BTreeMap<String, Vec<u8>> {
    let at = |address: u64| &memory.bytes()[(address - memory.address) as usize..];
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let table = |address: u64| {
        let length = number(&at(address)[4..8]) as usize;
        let bytes = at(address)[..length].to_vec();
        (String::from_utf8(bytes[..4].to_vec()).unwrap(), bytes)
    };
    let root = if wide {
        number(&at(rsdp)[24..32])
    } else {
        number(&at(rsdp)[16..20])
    };
    let (name, list) = table(root);
    let mut found: BTreeMap<_, _> = list[36..]
        .chunks(if wide { 8 } else { 4 })
        .map(|address| table(number(address)))
        .collect();
    let fadt = &found["FACP"];
    assert_eq!(
        number(&fadt[40..44]),
        number(&fadt[140..148]),
        "both addresses of the DSDT"
    );
    let more = [table(number(&fadt[140..148])), table(number(&fadt[36..40]))];
    assert_eq!(number(&fadt[36..40]) % 64, 0, "the FACS is aligned");
    found.extend(more);
    found.insert(name, list);
    found
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn machines() -> impl Strategy<Value = Machine> {
    (2_u64..100_000, 1_u32..=1024, any::<bool>(), 0_u8..3, 36_u8..53).prop_map(
        |(mib, cpus, display, serial_ports, physical_bits)| Machine {
            display,
            serial_ports,
            physical_bits,
            ..Machine::new(mib.min((1 << physical_bits) / MIB / 2) * MIB, cpus)
        },
    )
}

/// Does what the firmware does with the script: files at addresses of its choice, linked and summed.
fn run_script(files: &[(&str, Vec<u8>)], bases: &BTreeMap<String, u64>) -> BTreeMap<String, Vec<u8>> {
    let script = &files
        .iter()
        .find(|(name, _)| *name == "etc/table-loader")
        .unwrap()
        .1;
    let mut loaded: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert_eq!(script.len() % 128, 0);
    for command in script.chunks(128) {
        let file = name(&command[4..60]);
        match number(command) {
            1 => {
                let contents = files.iter().find(|(name, _)| *name == file).unwrap().1.clone();
                assert!(number(&command[60..]).is_power_of_two());
                assert!(loaded.insert(file, contents).is_none(), "allocated once");
            }
            2 => {
                let base = bases[&name(&command[60..116])];
                let (offset, size) = (number(&command[116..]), usize::from(command[120]));
                let field = &mut loaded.get_mut(&file).unwrap()[offset..offset + size];
                let mut wide = [0; 8];
                wide[..size].copy_from_slice(field);
                let address = u64::from_le_bytes(wide) + base;
                field.copy_from_slice(&address.to_le_bytes()[..size]);
            }
            3 => {
                let bytes = loaded.get_mut(&file).unwrap();
                let (offset, start, length) = (
                    number(&command[60..]),
                    number(&command[64..]),
                    number(&command[68..]),
                );
                bytes[offset] = bytes[offset].wrapping_sub(sum(&bytes[start..start + length]));
            }
            other => panic!("command {other}"),
        }
    }
    loaded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_table_sums_to_zero_and_is_found_from_both_lists(machine in machines()) {
        machine.check().unwrap();
        let (memory, rsdp) = acpi::placed(&machine).unwrap();
        prop_assert!(memory.address >= ACPI_TABLES && memory.end() <= SMBIOS_TABLES);
        let root = &memory.bytes()[(rsdp - memory.address) as usize..];
        prop_assert_eq!(sum(&root[..20]), 0);
        prop_assert_eq!(sum(&root[..36]), 0);
        let mut tables = walk(&memory, rsdp, true);
        for (name, table) in &tables {
            prop_assert!(name == "FACS" || sum(table) == 0, "{}", name);
        }
        tables.remove("XSDT");
        let mut narrow = walk(&memory, rsdp, false);
        prop_assert_eq!(sum(&narrow.remove("RSDT").unwrap()), 0);
        prop_assert_eq!(narrow, tables);
    }

    #[test]
    fn firmware_links_the_same_tables(machine in machines()) {
        let (memory, rsdp) = acpi::placed(&machine).unwrap();
        let bases = BTreeMap::from([("etc/acpi/tables".to_owned(), rsdp + 64)]);
        let loaded = run_script(&acpi::files(&machine), &bases);
        let offset = (rsdp - memory.address) as usize;
        prop_assert_eq!(&loaded["etc/acpi/rsdp"][..], &memory.bytes()[offset..offset + 36]);
        prop_assert_eq!(&loaded["etc/acpi/tables"][..], &memory.bytes()[offset + 64..]);
    }
}

/// Runs iasl in a folder; its exit and all that it says.
fn iasl(folder: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new("iasl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[test]
fn acpica_reads_every_table_and_compiles_the_dsdt_again_without_a_warning() {
    let mut screen = Machine::new(6 * GIB, 300);
    screen.display = true;
    screen.serial_ports = 2;
    for machine in [Machine::new(512 * MIB, 2), screen] {
        let folder = tempfile::tempdir().unwrap();
        let (memory, rsdp) = acpi::placed(&machine).unwrap();
        for (name, table) in walk(&memory, rsdp, true) {
            let file = format!("{name}.aml");
            std::fs::write(folder.path().join(&file), table).unwrap();
            let Some((fine, said)) = iasl(folder.path(), &["-d", &file]) else {
                eprintln!("skipped: iasl is not installed (apt-get install acpica-tools)");
                return;
            };
            let complaint = ["Error", "Warning", "Invalid", "Incorrect"]
                .iter()
                .any(|word| said.contains(word));
            assert!(fine && !complaint, "{name}: {said}");
        }
        let (fine, said) = iasl(folder.path(), &["-on", "-p", "again", "DSDT.dsl"]).unwrap();
        assert!(fine && said.contains("0 Errors, 0 Warnings, 0 Remarks"), "{said}");
        let first = std::fs::read(folder.path().join("DSDT.aml")).unwrap();
        let again = std::fs::read(folder.path().join("again.aml")).unwrap();
        assert!(first[36..] == again[36..], "iasl writes the same code");
    }
}

/// The integers that ACPICA's interpreter gets for a row of commands on a machine's DSDT.
fn evaluate(machine: &Machine, commands: &str) -> Option<Vec<u64>> {
    let folder = tempfile::tempdir().unwrap();
    let (memory, rsdp) = acpi::placed(machine).unwrap();
    std::fs::write(folder.path().join("DSDT.aml"), &walk(&memory, rsdp, true)["DSDT"]).unwrap();
    let output = Command::new("acpiexec")
        .args(["-b", commands, "DSDT.aml"])
        .current_dir(folder.path())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: acpiexec is not installed (apt-get install acpica-tools)");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    for word in ["AE_", "Error", "Warning"] {
        assert!(!said.contains(word), "{said}");
    }
    let numbers = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("[Integer] = "));
    Some(
        numbers
            .map(|number| u64::from_str_radix(number, 16).unwrap())
            .collect(),
    )
}

#[test]
fn a_link_device_is_switched_off_by_its_method() {
    let commands = "evaluate \\_SB.LNKB._STA; evaluate \\_SB.LNKB._DIS; evaluate \\_SB.LNKB._STA; evaluate \\_SB.LNKC._STA";
    let Some(numbers) = evaluate(&Machine::new(GIB, 1), commands) else {
        return;
    };
    assert_eq!(numbers, [0x0B, 0x09, 0x0B]);
}

#[test]
fn in_apic_mode_every_pin_of_every_slot_has_its_gsi() {
    let Some(numbers) = evaluate(
        &Machine::new(GIB, 1),
        "evaluate \\_PIC 1; evaluate \\_SB.PCI0._PRT",
    ) else {
        return;
    };
    let expected = (0..32_u8).flat_map(|slot| {
        (0..4_u8).flat_map(move |pin| {
            let gsi = boot::layout::pci_gsi(slot, pin);
            [u64::from(slot) << 16 | 0xFFFF, pin.into(), 0, gsi.into()]
        })
    });
    assert_eq!(numbers, expected.collect::<Vec<_>>());
}
