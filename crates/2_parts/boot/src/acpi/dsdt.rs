//! The DSDT: the machine's devices and methods in AML (ACPI 6.5, chapters 6, 19 and 20).

mod isa;
mod pci;
mod resources;

use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, Name, Package, ResourceTemplate, ZERO};

use crate::Machine;

/// AML that is written already.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

impl Raw {
    fn of(object: &dyn Aml) -> Self {
        let mut bytes = Vec::new();
        object.to_aml_bytes(&mut bytes);
        Raw(bytes)
    }
}

/// References to a list of objects, as the builders of AML want them.
fn references(objects: &[Raw]) -> Vec<&dyn Aml> {
    objects.iter().map(|object| object as &dyn Aml).collect()
}

/// The table's contents.
pub(super) fn build(machine: &Machine) -> Vec<u8> {
    let mut objects = vec![
        // S5, "soft off": SLP_TYP 0 for both control registers.
        Raw::of(&Name::new(
            "_S5_".into(),
            &Package::new(vec![&ZERO, &ZERO, &ZERO, &ZERO]),
        )),
    ];
    objects.extend(pci::interrupt_mode());
    let mut bus = vec![pci::host_bridge(machine)];
    bus.extend(isa::devices(machine));
    bus.extend(pci::links());
    bus.push(pci::reserved_memory());
    bus.extend((0..machine.cpus).map(processor));
    objects.push(Raw::of(&acpi_tables::aml::Scope::new(
        "\\_SB_".into(),
        references(&bus),
    )));
    objects.into_iter().flat_map(|object| object.0).collect()
}

/// A processor, which the MADT names by the same number.
fn processor(id: u32) -> Raw {
    let name = format!("C{id:03X}");
    Raw::of(&Device::new(
        name.as_str().into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0007"),
            &Name::new("_UID".into(), &id),
        ],
    ))
}

/// A device with a PNP id and fixed resources.
fn plain(name: &str, id: &str, resources: &[Raw]) -> Raw {
    Raw::of(&Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new(id)),
            &Name::new("_CRS".into(), &ResourceTemplate::new(references(resources))),
        ],
    ))
}
