//! The PCI host bridge: its windows, the wiring of its interrupts, and who controls what (_OSC).

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, If,
    LessThan, Local, Memory32Fixed, Method, Name, NotEqual, Or, Package, PackageBuilder, Path,
    ResourceTemplate, Return, Store, Uuid, ZERO,
};

use super::resources::{INTERRUPT_NUMBER, ports, shared_interrupts};
use super::{Raw, references};
use crate::Machine;
use crate::layout::{ECAM, ECAM_BUSES, ECAM_LENGTH, PCI_WINDOWS, pci_gsi, pci_link, pci_window_64};

const SLOTS: u8 = 32;
const PINS: u8 = 4;
const LINKS: [&str; 4] = ["LNKA", "LNKB", "LNKC", "LNKD"];
/// What a PCI line may be made by the PIIX3, as SeaBIOS does.
const LINK_IRQS: [u32; 3] = [5, 10, 11];

/// `\PICF` and `\_PIC`: the system says whether it uses the IOAPIC.
pub(super) fn interrupt_mode() -> Vec<Raw> {
    let mode = Path::new("PICF");
    let set = Raw::of(&Method::new(
        "\\_PIC".into(),
        1,
        false,
        vec![&Store::new(&mode, &Arg(0))],
    ));
    vec![Raw::of(&Name::new("PICF".into(), &ZERO)), set]
}

/// The host bridge of bus 0.
pub(super) fn host_bridge(machine: &Machine) -> Raw {
    let mut resources = vec![
        Raw::of(&AddressSpace::new_bus_number(0_u16, (ECAM_BUSES - 1) as u16)),
        ports(0xCF8, 8),
        Raw::of(&AddressSpace::new_io(0_u16, 0xCF7, None)),
        Raw::of(&AddressSpace::new_io(0xD00_u16, 0xFFFF, None)),
        Raw::of(&AddressSpace::new_memory(
            AddressSpaceCacheable::Cacheable,
            true,
            0xA_0000_u32,
            0xB_FFFF,
            None,
        )),
    ];
    for (first, last) in PCI_WINDOWS {
        let uncached = AddressSpaceCacheable::NotCacheable;
        resources.push(Raw::of(&AddressSpace::new_memory(
            uncached, true, first, last, None,
        )));
    }
    if let Some((first, last)) = pci_window_64(machine.memory, machine.physical_bits) {
        let cacheable = AddressSpaceCacheable::Cacheable;
        resources.push(Raw::of(&AddressSpace::new_memory(
            cacheable, true, first, last, None,
        )));
    }
    Raw::of(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_BBN".into(), &ZERO),
            &Name::new("_SEG".into(), &ZERO),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &ResourceTemplate::new(references(&resources))),
            &Name::new("PRTP".into(), &routing(pic_route)),
            &Name::new("PRTA".into(), &routing(apic_route)),
            &routing_method(),
            &control(),
        ],
    ))
}

/// A routing table (section 6.2.13).
fn routing(entry: fn(u8, u8) -> Raw) -> PackageBuilder {
    let mut package = PackageBuilder::new();
    for slot in 0..SLOTS {
        for pin in 0..PINS {
            package.add_element(&entry(slot, pin));
        }
    }
    package
}

/// A pin hangs on a link device.
fn pic_route(slot: u8, pin: u8) -> Raw {
    let name = LINKS[usize::from(pci_link(slot, pin))];
    route(slot, pin, &Path::new(&format!("\\_SB_.{name}")), 0)
}

/// A pin hangs on an input of the IOAPIC.
fn apic_route(slot: u8, pin: u8) -> Raw {
    route(slot, pin, &ZERO, pci_gsi(slot, pin))
}

fn route(slot: u8, pin: u8, source: &dyn acpi_tables::Aml, index: u8) -> Raw {
    let address = u32::from(slot) << 16 | 0xFFFF;
    Raw::of(&Package::new(vec![&address, &pin, source, &index]))
}

/// _PRT: the table of the mode that the system has chosen.
fn routing_method() -> Raw {
    let (mode, apic, pic) = (Path::new("PICF"), Path::new("PRTA"), Path::new("PRTP"));
    Raw::of(&Method::new(
        "_PRT".into(),
        0,
        false,
        vec![&If::new(&mode, vec![&Return::new(&apic)]), &Return::new(&pic)],
    ))
}

/// _OSC (section 6.2.11.3): the system may control everything but hot-plug, of which there is none.
fn control() -> Raw {
    /// Power management events, error reporting, capability structures.
    const GRANTED: u8 = 0x1C;
    const UNKNOWN_REVISION: u8 = 0x08;
    const MASKED: u8 = 0x10;
    const UNKNOWN_UUID: u8 = 0x04;
    let (status, wish) = (Path::new("CDW1"), Path::new("CDW3"));
    let known = Raw::of(&If::new(
        &Equal::new(&Arg(0), &Uuid::new("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
        vec![
            &CreateDWordField::new(&wish, &Arg(3), &8_u8),
            &And::new(&Local(0), &wish, &GRANTED),
            &If::new(
                &NotEqual::new(&Arg(1), &1_u8),
                vec![&Or::new(&status, &status, &UNKNOWN_REVISION)],
            ),
            &If::new(
                &NotEqual::new(&wish, &Local(0)),
                vec![&Or::new(&status, &status, &MASKED)],
            ),
            &Store::new(&wish, &Local(0)),
        ],
    ));
    let unknown = Raw::of(&Else::new(vec![&Or::new(&status, &status, &UNKNOWN_UUID)]));
    Raw::of(&Method::new(
        "_OSC".into(),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &0_u8),
            &known,
            &unknown,
            &Return::new(&Arg(3)),
        ],
    ))
}

/// The four link devices, for systems that use the 8259s (section 6.2.13.1).
pub(super) fn links() -> Vec<Raw> {
    (0..4).map(link).collect()
}

/// A link device: its register in the PIIX3 holds the interrupt, or 80h when it is off.
fn link(index: u8) -> Raw {
    const OFF: u8 = 0x80;
    const PRESENT: u8 = 0x09;
    const PRESENT_AND_ON: u8 = 0x0B;
    let register = Path::new(&format!("\\_SB_.PCI0.ISA_.PRQ{index}"));
    let possible = shared_interrupts(&LINK_IRQS);
    let status = Raw::of(&Method::new(
        "_STA".into(),
        0,
        false,
        vec![
            &If::new(&And::new(&ZERO, &register, &OFF), vec![&Return::new(&PRESENT)]),
            &Return::new(&PRESENT_AND_ON),
        ],
    ));
    let disable = Raw::of(&Method::new(
        "_DIS".into(),
        0,
        false,
        vec![&Or::new(&register, &register, &OFF)],
    ));
    let number = Path::new("PRRI");
    let buffer = Path::new("PRR0");
    let current = Raw::of(&Method::new(
        "_CRS".into(),
        0,
        true,
        vec![
            &CreateDWordField::new(&number, &buffer, &INTERRUPT_NUMBER),
            &If::new(
                &LessThan::new(&register, &OFF),
                vec![&Store::new(&number, &register)],
            ),
            &Else::new(vec![&Store::new(&number, &ZERO)]),
            &Return::new(&buffer),
        ],
    ));
    let set = Raw::of(&Method::new(
        "_SRS".into(),
        1,
        true,
        vec![
            &CreateDWordField::new(&number, &Arg(0), &INTERRUPT_NUMBER),
            &Store::new(&register, &number),
        ],
    ));
    Raw::of(&Device::new(
        LINKS[usize::from(index)].into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C0F")),
            &Name::new("_UID".into(), &(index + 1)),
            &Name::new("_PRS".into(), &ResourceTemplate::new(vec![&possible])),
            &Name::new(
                "PRR0".into(),
                &ResourceTemplate::new(vec![&shared_interrupts(&[0])]),
            ),
            &status,
            &disable,
            &current,
            &set,
        ],
    ))
}

/// Memory that nothing else may use: the ECAM window (PCI Firmware Specification 3.3, section 4.1.2).
pub(super) fn reserved_memory() -> Raw {
    let window = Raw::of(&Memory32Fixed::new(true, ECAM as u32, ECAM_LENGTH as u32));
    super::plain("MBRD", "PNP0C02", &[window])
}
