//! The tables that are plain structures: FACS, FADT, MADT, MCFG, WAET.

use super::{HEADER, Pointer, table};
use crate::Machine;
use crate::kernel::put;
use crate::layout::{
    CMOS_CENTURY, ECAM, ECAM_BUSES, GPE0, GPE0_LENGTH, IOAPIC, LOCAL_APIC, PM_TIMER, PM1A_CONTROL,
    PM1A_EVENT, RESET_PORT, RESET_VALUE, SCI,
};

/// Bytes of the FADT of ACPI 6.
const FADT_LENGTH: usize = 276;
const FADT_REVISION: u8 = 6;
const FIRMWARE_CONTROL: usize = 36;
const DSDT: usize = 40;
const X_DSDT: usize = 140;

/// The FADT's fields that are addresses of tables.
pub(super) const FADT_POINTERS: [Pointer; 3] = [
    Pointer {
        offset: FIRMWARE_CONTROL,
        size: 4,
    },
    Pointer {
        offset: DSDT,
        size: 4,
    },
    Pointer {
        offset: X_DSDT,
        size: 8,
    },
];

/// Fixed feature flags (ACPI 6.5, table 5.10).
const WBINVD: u32 = 1 << 0;
const PROC_C1: u32 = 1 << 2;
const NO_SLEEP_BUTTON: u32 = 1 << 5;
const NO_RTC_WAKE: u32 = 1 << 6;
const RESET_REGISTER: u32 = 1 << 10;

/// IA-PC boot architecture flags (table 5.11).
const LEGACY_DEVICES: u16 = 1 << 0;
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;

/// Firmware ACPI control structure (section 5.2.10): 64 bytes, no wake-up.
pub(super) fn facs() -> Vec<u8> {
    let mut facs = vec![0_u8; 64];
    put(&mut facs, 0, b"FACS");
    put(&mut facs, 4, &64_u32.to_le_bytes());
    facs[32] = 2;
    facs
}

/// A generic address structure of an I/O port (section 5.2.3.2).
fn port(port: u16, bits: u8) -> [u8; 12] {
    const SYSTEM_IO: u8 = 1;
    let access = match bits {
        8 => 1,
        16 => 2,
        _ => 3,
    };
    let mut bytes = [SYSTEM_IO, bits, 0, access, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..6].copy_from_slice(&port.to_le_bytes());
    bytes
}

/// Fixed ACPI description table (section 5.2.9). There is no SMI: the machine is in ACPI mode from reset on. The
/// power button is a fixed feature.
pub(super) fn fadt(machine: &Machine, facs: usize, dsdt: usize) -> Vec<u8> {
    let mut fadt = table(b"FACP", FADT_REVISION, &[0; FADT_LENGTH - HEADER]);
    put(&mut fadt, FIRMWARE_CONTROL, &(facs as u32).to_le_bytes());
    put(&mut fadt, DSDT, &(dsdt as u32).to_le_bytes());
    put(&mut fadt, X_DSDT, &(dsdt as u64).to_le_bytes());
    put(&mut fadt, 46, &u16::from(SCI).to_le_bytes());
    for (at, port) in [(56, PM1A_EVENT), (64, PM1A_CONTROL), (76, PM_TIMER), (80, GPE0)] {
        put(&mut fadt, at, &u32::from(port).to_le_bytes());
    }
    // Lengths of: PM1 event, PM1 control, PM2 control, PM timer, GPE0.
    put(&mut fadt, 88, &[4, 2, 0, 4, GPE0_LENGTH]);
    // Latencies that say: neither C2 nor C3.
    put(&mut fadt, 96, &0xFFF_u16.to_le_bytes());
    put(&mut fadt, 98, &0xFFF_u16.to_le_bytes());
    fadt[108] = CMOS_CENTURY;
    let architecture = LEGACY_DEVICES | KEYBOARD_CONTROLLER | if machine.display { 0 } else { NO_VGA };
    put(&mut fadt, 109, &architecture.to_le_bytes());
    let flags = WBINVD | PROC_C1 | NO_SLEEP_BUTTON | NO_RTC_WAKE | RESET_REGISTER;
    put(&mut fadt, 112, &flags.to_le_bytes());
    put(&mut fadt, 116, &port(RESET_PORT, 8));
    fadt[128] = RESET_VALUE;
    fadt[131] = 5; // minor version: 6.5
    put(&mut fadt, 148, &port(PM1A_EVENT, 32));
    put(&mut fadt, 172, &port(PM1A_CONTROL, 16));
    put(&mut fadt, 208, &port(PM_TIMER, 32));
    put(&mut fadt, 220, &port(GPE0, GPE0_LENGTH * 8));
    fadt
}

/// Multiple APIC description table (section 5.2.12).
pub(super) fn madt(machine: &Machine) -> Vec<u8> {
    const PCAT_COMPATIBLE: u32 = 1;
    const ENABLED: u32 = 1;
    /// Ids from here on need an x2APIC entry.
    const X2APIC_FROM: u32 = 255;
    let mut contents = Vec::new();
    contents.extend_from_slice(&LOCAL_APIC.to_le_bytes());
    contents.extend_from_slice(&PCAT_COMPATIBLE.to_le_bytes());
    for id in 0..machine.cpus {
        match u8::try_from(id) {
            Ok(short) if id < X2APIC_FROM => {
                contents.extend_from_slice(&[0, 8, short, short]);
                contents.extend_from_slice(&ENABLED.to_le_bytes());
            }
            _ => {
                contents.extend_from_slice(&[9, 16, 0, 0]);
                for field in [id, ENABLED, id] {
                    contents.extend_from_slice(&field.to_le_bytes());
                }
            }
        }
    }
    contents.extend_from_slice(&[1, 12, 0, 0]);
    contents.extend_from_slice(&IOAPIC.to_le_bytes());
    contents.extend_from_slice(&0_u32.to_le_bytes());
    // Interrupt source overrides: the PIT's IRQ 0 is GSI 2; the SCI is level triggered, active high.
    for (irq, gsi, flags) in [(0, 2, 0_u16), (SCI, SCI, 0x000D)] {
        contents.extend_from_slice(&[2, 10, 0, irq]);
        contents.extend_from_slice(&u32::from(gsi).to_le_bytes());
        contents.extend_from_slice(&flags.to_le_bytes());
    }
    // NMI on LINT1 of every processor.
    contents.extend_from_slice(&[4, 6, 0xFF, 0, 0, 1]);
    if machine.cpus > X2APIC_FROM {
        contents.extend_from_slice(&[10, 12, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0]);
    }
    table(b"APIC", 5, &contents)
}

/// PCI Express memory-mapped configuration space (PCI Firmware Specification 3.3, section 4.1.2).
pub(super) fn mcfg() -> Vec<u8> {
    let mut contents = vec![0_u8; 8];
    contents.extend_from_slice(&ECAM.to_le_bytes());
    contents.extend_from_slice(&[0, 0, 0, (ECAM_BUSES - 1) as u8, 0, 0, 0, 0]);
    table(b"MCFG", 1, &contents)
}

/// Windows ACPI Emulated Devices Table: the PM timer needs to be read once only.
pub(super) fn waet() -> Vec<u8> {
    const PM_TIMER_GOOD: u32 = 1 << 1;
    table(b"WAET", 1, &PM_TIMER_GOOD.to_le_bytes())
}
