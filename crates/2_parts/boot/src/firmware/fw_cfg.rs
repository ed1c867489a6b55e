//! Items of fw_cfg: what firmware and systems read of the machine by key or by name.
//!
//! QEMU's docs/specs/fw_cfg.rst and include/standard-headers/linux/qemu_fw_cfg.h; which of them SeaBIOS reads stands
//! in its src/fw/paravirt.c.

use super::{Firmware, boot_order};
use crate::layout::SERIAL_PORTS;
use crate::{Machine, acpi, e820, smbios};

const UUID: u16 = 0x02;
const RAM_SIZE: u16 = 0x03;
const NO_GRAPHIC: u16 = 0x04;
const CPUS: u16 = 0x05;
const BOOT_MENU: u16 = 0x0E;
const MOST_CPUS: u16 = 0x0F;
/// IRQ 0 arrives at GSI 2.
const IRQ0_OVERRIDE: u16 = 0x8002;

/// The name of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A number of the old kind.
    Selector(u16),
    /// A file, which the device gives a number from 20h on and lists in its directory.
    File(String),
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub key: Key,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// All items for a machine, without signature, id and directory, which are the device's own.
#[must_use]
pub fn items(machine: &Machine, firmware: &Firmware<'_>) -> Vec<Item> {
    let mut all = Vec::new();
    let cpus = u16::try_from(machine.cpus).unwrap_or(u16::MAX).to_le_bytes();
    let flag = |flag: bool| u16::from(flag).to_le_bytes().to_vec();
    let numbered = [
        (UUID, machine.uuid.to_vec()),
        (RAM_SIZE, machine.memory.to_le_bytes().to_vec()),
        (NO_GRAPHIC, flag(!machine.display)),
        (CPUS, cpus.to_vec()),
        (MOST_CPUS, cpus.to_vec()),
        (BOOT_MENU, flag(firmware.menu_wait.is_some())),
        (IRQ0_OVERRIDE, 1_u32.to_le_bytes().to_vec()),
    ];
    for (selector, bytes) in numbered {
        all.push(Item {
            key: Key::Selector(selector),
            bytes,
        });
    }
    let mut file = |name: &str, bytes: Vec<u8>| {
        all.push(Item {
            key: Key::File(name.to_owned()),
            bytes,
        });
    };

    let ranges = e820::for_firmware(machine);
    file(
        "etc/e820",
        ranges.iter().flat_map(e820::Range::to_bytes).collect(),
    );
    for (name, bytes) in acpi::files(machine).into_iter().chain(smbios::files(machine)) {
        file(name, bytes);
    }
    if !firmware.order.is_empty() {
        file("bootorder", boot_order::file(&firmware.order));
    }
    if let Some(wait) = firmware.menu_wait {
        file("etc/boot-menu-wait", wait.to_le_bytes().to_vec());
    }
    let retry = firmware.retry_after.unwrap_or(u32::MAX); // -1: never
    file("etc/boot-fail-wait", retry.to_le_bytes().to_vec());
    if !machine.display && machine.serial_ports > 0 {
        file(
            "etc/sercon-port",
            u64::from(SERIAL_PORTS[0]).to_le_bytes().to_vec(),
        );
    }
    if let Some(rom) = firmware.vga_rom.filter(|_| machine.display) {
        file("pci1234,1111.rom", rom.to_vec());
    }
    // The directory is sorted, so that numbers do not depend on our order.
    all.sort_by(|a, b| match (&a.key, &b.key) {
        (Key::Selector(a), Key::Selector(b)) => a.cmp(b),
        (Key::File(a), Key::File(b)) => a.cmp(b),
        (Key::Selector(_), Key::File(_)) => std::cmp::Ordering::Less,
        (Key::File(_), Key::Selector(_)) => std::cmp::Ordering::Greater,
    });
    all
}
