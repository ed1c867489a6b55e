//! Devices that firmware can boot, as it names them in its file `bootorder`.
//!
//! The names are Open Firmware paths (SeaBIOS's docs/Runtime_config.md and src/boot.c).

/// What kind of device it is, for the order in CMOS that older firmware reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootKind {
    /// A hard disk.
    Disk,
    /// A CD-ROM.
    Cd,
    /// A network card with a boot ROM.
    Network,
}

/// One device to boot, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDevice {
    /// A drive of the PIIX3's IDE controller: disk or CD-ROM.
    Ide {
        /// Primary (0) or secondary (1).
        channel: u8,
        /// Master (0) or slave (1).
        unit: u8,
        /// Disk or CD-ROM.
        kind: BootKind,
    },
    /// A drive of an AHCI controller.
    Ahci {
        /// The controller's PCI slot.
        slot: u8,
        /// The drive's port.
        port: u8,
        /// Disk or CD-ROM.
        kind: BootKind,
    },
    /// A virtio block device.
    VirtioBlock {
        /// Its PCI slot.
        slot: u8,
    },
    /// A network card.
    Network {
        /// Its PCI slot.
        slot: u8,
    },
}

impl BootDevice {
    /// The path by which firmware knows it.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            BootDevice::Ide { channel, unit, .. } => {
                format!("/pci@i0cf8/ide@1,1/drive@{channel}/disk@{unit}")
            }
            BootDevice::Ahci { slot, port, .. } => {
                format!("/pci@i0cf8/pci8086,2922@{slot:x}/drive@{port}/disk@0")
            }
            BootDevice::VirtioBlock { slot } => format!("/pci@i0cf8/scsi@{slot:x}/disk@0,0"),
            BootDevice::Network { slot } => format!("/pci@i0cf8/ethernet@{slot:x}/ethernet-phy@0"),
        }
    }

    /// What kind of device it is.
    #[must_use]
    pub fn kind(&self) -> BootKind {
        match self {
            BootDevice::Ide { kind, .. } | BootDevice::Ahci { kind, .. } => *kind,
            BootDevice::VirtioBlock { .. } => BootKind::Disk,
            BootDevice::Network { .. } => BootKind::Network,
        }
    }
}

/// The file `bootorder`: a path a line, with a NUL behind the last.
pub(super) fn file(order: &[BootDevice]) -> Vec<u8> {
    let paths: Vec<_> = order.iter().map(BootDevice::path).collect();
    let mut bytes = paths.join("\n").into_bytes();
    bytes.push(0);
    bytes
}
