//! The ISA bridge of the PIIX3 with the devices behind it, and those of the host at fixed ports.

use acpi_tables::aml::{Device, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, Name};
use acpi_tables::aml::{OpRegion, OpRegionSpace, ResourceTemplate, Scope};

use super::resources::{dma, irq, ports};
use super::{Raw, plain, references};
use crate::Machine;
use crate::layout::{FW_CFG, FW_CFG_LENGTH, PIIX_SLOT, PVPANIC, SERIAL_IRQS, SERIAL_PORTS};

/// Everything that belongs into `\_SB` besides the host bridge itself.
pub(super) fn devices(machine: &Machine) -> Vec<Raw> {
    let mut behind = vec![bridge_registers()];
    behind.push(plain(
        "PIC_",
        "PNP0000",
        &[ports(0x20, 2), ports(0xA0, 2), ports(0x4D0, 2), irq(2)],
    ));
    behind.push(plain("TIMR", "PNP0100", &[ports(0x40, 4), irq(0)]));
    behind.push(plain(
        "DMAC",
        "PNP0200",
        &[ports(0x00, 16), ports(0x81, 15), ports(0xC0, 32), dma(4)],
    ));
    behind.push(plain("SPKR", "PNP0800", &[ports(0x61, 1)]));
    behind.push(plain("RTC_", "PNP0B00", &[ports(0x70, 2), irq(8)]));
    behind.push(plain(
        "KBD_",
        "PNP0303",
        &[ports(0x60, 1), ports(0x64, 1), irq(1)],
    ));
    let serial = SERIAL_PORTS
        .iter()
        .zip(SERIAL_IRQS)
        .take(machine.serial_ports.into());
    for (index, (port, line)) in serial.enumerate() {
        behind.push(serial_port(index as u8 + 1, *port, line));
    }
    let address = Name::new("_ADR".into(), &(u32::from(PIIX_SLOT) << 16));
    let device = Device::new("ISA_".into(), vec![&address]);
    let mut objects = vec![
        Raw::of(&Scope::new("PCI0".into(), vec![&device])),
        Raw::of(&Scope::new("PCI0.ISA_".into(), references(&behind))),
    ];
    if machine.pvpanic {
        objects.push(of_host("PEVT", "QEMU0001", PVPANIC, 1));
    }
    if machine.fw_cfg {
        objects.push(of_host("FWCF", "QEMU0002", FW_CFG, FW_CFG_LENGTH));
    }
    objects
}

/// PIRQRCA to PIRQRCD, the PIIX3's registers that say which interrupt a PCI line makes.
fn bridge_registers() -> Raw {
    let region = OpRegion::new("P40C".into(), OpRegionSpace::PCIConfig, &0x60_u8, &4_u8);
    let fields = [*b"PRQ0", *b"PRQ1", *b"PRQ2", *b"PRQ3"];
    let field = Field::new(
        "P40C".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        fields.map(|name| FieldEntry::Named(name, 8)).to_vec(),
    );
    Raw([Raw::of(&region).0, Raw::of(&field).0].concat())
}

fn serial_port(number: u8, first: u16, line: u8) -> Raw {
    let name = format!("COM{number}");
    let resources = [ports(first, 8), irq(line)];
    Raw::of(&Device::new(
        name.as_str().into(),
        vec![
            &Name::new("_HID".into(), &acpi_tables::aml::EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &number),
            &Name::new("_CRS".into(), &ResourceTemplate::new(references(&resources))),
        ],
    ))
}

/// A device that hypervisors have agreed upon.
fn of_host(name: &str, id: &'static str, first: u16, count: u8) -> Raw {
    /// Present, enabled, working, and not shown.
    const STATUS: u8 = 0x0B;
    Raw::of(&Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &id),
            &Name::new("_STA".into(), &STATUS),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports(first, count)])),
        ],
    ))
}
