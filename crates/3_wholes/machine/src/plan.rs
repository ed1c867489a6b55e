//! What a machine is made of: plain data, with descriptors by their number in the list that came along.

use serde::{Deserialize, Serialize};

/// Version of the plan that this code writes and reads; both ends come from one installation.
pub const PLAN_VERSION: u32 = 1;

/// Number of a descriptor in the list that came with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fd(pub usize);

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachinePlan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Name of the guest.
    pub name: String,
    /// Its identity, for SMBIOS.
    pub uuid: [u8; 16],
    /// Number of processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// What executes it.
    pub processor: Processor,
    /// What its time is.
    pub time: Time,
    /// What it starts with.
    pub boot: Boot,
    /// Disks and CD-ROMs, in order.
    pub disks: Vec<Disk>,
    /// Network cards, in order.
    pub nics: Vec<Nic>,
    /// Directories of the host, in order.
    pub shares: Vec<Share>,
    /// Whether it has a screen and a keyboard, and the keymap of who types: `en-us`, `es`.
    pub display: Option<String>,
    /// Stream of the first serial port: a socket or terminal.
    pub serial: Fd,
    /// Where firmware's messages (port 0x402) are appended.
    pub firmware_log: Option<Fd>,
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Processor {
    /// KVM, by its device.
    Kvm {
        /// `/dev/kvm`.
        device: Fd,
    },
    /// The software CPU.
    Software,
    /// The software CPU, one instruction after the other without caches: slow, for comparisons.
    Reference,
}

/// What the machine's time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Time {
    /// The host's.
    Host,
    /// One nanosecond an instruction; the same start gives the same run.
    Counting {
        /// Nanoseconds from 1970 to its beginning.
        epoch: u64,
        /// Seed of its randomness.
        seed: u64,
    },
}

/// What a machine starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Boot {
    /// A kernel, entered at once.
    Kernel {
        /// bzImage or ELF.
        kernel: Fd,
        /// Archives of the initrd, in order.
        initrd: Vec<Fd>,
        /// Command line.
        command_line: String,
    },
    /// Firmware, which looks for a boot loader.
    Firmware {
        /// SeaBIOS's image.
        image: Fd,
        /// SeaBIOS's VGA option ROM.
        vga: Option<Fd>,
        /// Names of disks in the order in which they are tried.
        order: Vec<String>,
    },
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// The PIIX3's IDE channels.
    Ide,
    /// An AHCI controller.
    Ahci,
}

/// A disk or a CD-ROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Name, unique in the machine: `root`, `cdrom`.
    pub name: String,
    /// Its file; none for an empty CD-ROM drive.
    pub file: Option<Fd>,
    /// `raw` or `qcow2`.
    pub format: String,
    /// Bus.
    pub bus: DiskBus,
    /// A CD-ROM drive.
    pub cdrom: bool,
    /// The guest may not write.
    pub read_only: bool,
    /// Where what the guest writes goes instead of the file, for this run only: an empty file.
    pub scratch: Option<Fd>,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// MAC address.
    pub mac: [u8; 6],
    /// A tap or packet socket whose frames begin with a virtio-net header.
    pub link: Fd,
    /// Bytes of that header, 10 or 12.
    pub header: u8,
    /// Largest packet.
    pub mtu: u16,
}

/// A directory of the host, shown by virtio-fs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its tag, by which the guest mounts it.
    pub tag: String,
    /// The directory.
    pub directory: Fd,
    /// The guest may not write.
    pub read_only: bool,
}
