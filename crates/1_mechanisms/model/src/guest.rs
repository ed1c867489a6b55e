//! Guest: a container or a machine; what is wanted of it and what is observed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{ImageRef, Name, Record, Size};

/// A stored guest.
pub type Guest = Record<GuestSpec, GuestStatus>;

/// How a guest is virtualized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// Operating-system level: namespaces of the host's kernel.
    #[default]
    Container,
    /// A machine with its own kernel.
    Machine,
}

/// What a container runs as its first process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Init {
    /// The distribution's own init: a system container.
    #[default]
    System,
    /// One command: an application container.
    Command {
        /// Program and arguments; looked up in the guest's PATH.
        argv: Vec<String>,
    },
}

/// Where the command of an application container reads from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// From nothing: its standard input is at its end.
    #[default]
    Nothing,
    /// From the clients of its console, through a pipe.
    Pipe,
    /// From the clients of its console, which is a terminal.
    Terminal,
}

impl Input {
    fn is_nothing(&self) -> bool {
        *self == Input::Nothing
    }
}

/// What is wanted of a guest. Everything has a default but the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    /// Container or machine.
    #[serde(default)]
    pub kind: GuestKind,
    /// What its root tree is made of, as the user named it.
    pub image: ImageRef,
    /// The digest that the reference meant when the guest was made; set by the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// What runs as process 1.
    #[serde(default)]
    pub init: Init,
    /// Environment of an application container's command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory of an application container's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// What its command reads from.
    #[serde(default, skip_serializing_if = "Input::is_nothing")]
    pub input: Input,
    /// Host name inside; the guest's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Limits of memory, processor and processes.
    #[serde(default)]
    pub limits: Limits,
    /// Network cards, in order; the default network's when empty and `no_network` is false.
    #[serde(default)]
    pub nics: Vec<NicSpec>,
    /// No network card at all.
    #[serde(default)]
    pub no_network: bool,
    /// Ports of the host handed on to the guest.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// Directories of the host seen in the guest.
    #[serde(default)]
    pub mounts: Vec<MountSpec>,
    /// Name servers instead of the network's own.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub nameservers: Vec<IpAddr>,
    /// What is done inside once, before the first boot.
    #[serde(default)]
    pub setup: Setup,
    /// Real root of the host inside: no user namespace, all capabilities. Warned about.
    #[serde(default)]
    pub privileged: bool,
    /// Posada, crun or Docker may run inside.
    #[serde(default)]
    pub nesting: bool,
    /// Removed when it stops (`launch --rm`).
    #[serde(default)]
    pub ephemeral: bool,
    /// `rm` and `stop` refuse.
    #[serde(default)]
    pub protect: bool,
    /// Start with the daemon's host.
    #[serde(default)]
    pub autostart: Autostart,
    /// What follows the guest's own power-off, reboot or crash.
    #[serde(default)]
    pub policies: Policies,
    /// Signal of a graceful stop, as `SIGTERM` or `SIGRTMIN+3`; by kind of init when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Free key=value labels, for selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The hardware of a machine; defaults when the kind is machine and this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineSpec>,
}

/// What executes a machine's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MachineEngine {
    /// KVM where it really works, else software.
    #[default]
    Auto,
    /// The host's processor, through /dev/kvm.
    Kvm,
    /// The software CPU.
    Software,
}

/// The hardware of a machine. Memory is `limits.memory` (512 MiB when absent).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MachineSpec {
    /// What executes it.
    pub engine: MachineEngine,
    /// Number of processors; 1 when absent. `limits.cpus` bounds how much of the host's they get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Size of the disk made from the image, or of an empty one without an image, in bytes; with an image 4 GiB when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<Size>,
    /// Disk files of the host besides, raw or qcow2; the first is the one that boots when none is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskSpec>,
    /// A CD-ROM image of the host, which boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iso: Option<String>,
    /// A kernel of the host instead of the disk's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Its initrd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// Added to the command line of the disk's kernel, or all of it with a kernel of the host (which gets only the
    /// machine's consoles when this is absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
    /// Which of the distribution's kernels the disk gets.
    pub kernel_flavour: KernelFlavour,
    /// Starts by firmware and the disk's boot loader, instead of its kernel being entered directly.
    pub firmware: bool,
    /// No screen and keyboard.
    pub headless: bool,
    /// Keymap of who types at its screen: `en-us` (usual) or `es`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keymap: Option<String>,
    /// What the guest writes to its disks is thrown away when it stops.
    pub discard_writes: bool,
}

/// A disk file of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Absolute path on the host.
    pub source: String,
    /// `raw` or `qcow2`; looked at once when the guest is made, and set by the daemon, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
}

/// Which of the distribution's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum KernelFlavour {
    /// Small, for virtual machines; no drivers of real hardware.
    #[default]
    Cloud,
    /// For everything.
    Generic,
}

/// Limits of one guest; absent means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Most swap beside the memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Size>,
    /// Processor quota in processors: 0.5 is half of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Share among contenders, 1 to 10,000; 100 is usual (cgroup v2's cpu.weight).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Processors it may run on, as `0-3,8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pin: Option<String>,
    /// Most processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// One network card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// The network it is plugged into.
    pub network: Name,
    /// Wanted IPv4 address; from the allocator when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ip: Option<std::net::Ipv4Addr>,
    /// Wanted MAC address, `02:…`; derived from the guest's id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// Transport of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host handed on to a port of the guest, written `[ip:]8000:80[/udp]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Address of the host to listen on; every address, IPv4 and IPv6, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ip: Option<IpAddr>,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the guest.
    pub guest_port: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub transport: Transport,
}

/// A directory or file of the host seen in the guest, written `HOST:GUEST[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the guest; made when missing.
    pub target: String,
    /// Read-only inside.
    #[serde(default)]
    pub read_only: bool,
}

/// What is done inside a new guest once, before its first boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// A user to make, with sudo where the image has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Public keys (lines of authorized_keys) of that user, or of root when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// Hash of the password (crypt(5)) of that user, or of root; the plain word never leaves the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Locale such as `es_ES.UTF-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Time zone such as `Europe/Madrid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Packages beyond the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Proxy given to apt and the environment inside: `host` (the host's own), `none`, or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// Start with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Autostart {
    /// Whether it starts when the daemon first starts after the host's boot.
    #[serde(default)]
    pub enabled: bool,
    /// Lower orders start first.
    #[serde(default)]
    pub order: i32,
    /// Seconds to wait before the next guest.
    #[serde(default)]
    pub delay: u32,
}

/// What the shim does when the guest ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// Stay stopped.
    Stop,
    /// Start again.
    Restart,
    /// Remove the guest.
    Destroy,
}

/// Reactions to the three ways a guest ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// After a power-off or an exit of status 0.
    pub on_poweroff: Reaction,
    /// After a reboot from inside.
    pub on_reboot: Reaction,
    /// After a crash: killed by a signal not ours, or an exit of another status.
    pub on_crash: Reaction,
}

impl Default for Policies {
    fn default() -> Self {
        Policies {
            on_poweroff: Reaction::Stop,
            on_reboot: Reaction::Restart,
            on_crash: Reaction::Stop,
        }
    }
}

/// Where a guest is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Recorded, never started.
    #[default]
    Defined,
    /// On its way up.
    Starting,
    /// Running.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its state lies in a file.
    Saved,
    /// On its way down.
    Stopping,
    /// Not running.
    Stopped,
    /// Could not start, or its shim died; `reason` tells.
    Failed,
}

/// What is observed of a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct GuestStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether the guest should be running: what start and stop set.
    pub wanted: bool,
    /// Host process id of the guest's process 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Process id of the shim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shim_pid: Option<u32>,
    /// When it last started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How it last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// Times it was started again by policy or reboot.
    pub restarts: u32,
    /// Network cards as they are.
    pub nics: Vec<NicStatus>,
    /// First host id of its range of ids; absent for privileged guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_base: Option<u32>,
    /// Limits of the spec that this host cannot enforce, with the reason.
    pub unenforced: Vec<Unenforced>,
    /// What executes the instructions of a machine that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<Processor>,
    /// Why it failed: code and arguments of the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub reason: Option<fault::Fault>,
}

/// What executes a machine's instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Processor {
    /// KVM or the software CPU.
    pub engine: MachineEngine,
    /// Why it is not KVM, when the choice was left to us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub reason: Option<fault::Fault>,
}

/// How a guest's process 1 ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// Exited with this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Powered itself off (a system container's `poweroff`).
    Poweroff,
    /// Rebooted itself.
    Reboot,
}

/// One network card as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NicStatus {
    /// The network it is plugged into.
    pub network: Name,
    /// Name of the link on the host.
    pub host_link: String,
    /// Name of the link in the guest.
    pub guest_link: String,
    /// MAC address.
    pub mac: String,
    /// Addresses with prefix length, as `10.77.0.2/24`.
    pub addresses: Vec<String>,
}

/// A limit that this host cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unenforced {
    /// The field of [`Limits`].
    pub limit: String,
    /// Why, in the field's standard terms: the controller that is missing.
    pub reason: String,
}
