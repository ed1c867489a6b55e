//! A machine as it stands, and the commands that would make it by hand with the tools of others.

use engine::{DiskPlan, MachineBoot, MachinePlan};
use model::Size;

use crate::explain::{addresses, forward};
use crate::records::StoredGuest;

/// What the machine is made of, one fact a line.
pub(crate) fn facts(stored: &StoredGuest, machine: &MachinePlan) -> Vec<String> {
    let word = |engine: &model::MachineEngine| format!("{engine:?}").to_lowercase();
    let engine = match &stored.guest.status.processor {
        Some(processor) => match &processor.reason {
            Some(reason) => format!("{} ({reason})", word(&processor.engine)),
            None => word(&processor.engine),
        },
        None => word(&machine.engine),
    };
    let mut facts = vec![
        format!("engine {engine}"),
        format!("cpus {}", machine.cpus),
        format!("memory {}", Size(machine.memory)),
    ];
    facts.push(match &machine.boot {
        MachineBoot::Disk { append } => format!("boot kernel-of-disk {append}").trim_end().to_owned(),
        MachineBoot::Kernel {
            kernel,
            initrd,
            append,
        } => {
            let initrd = initrd.as_ref().map(|path| format!(" initrd {}", path.display()));
            format!(
                "boot kernel {}{} {append}",
                kernel.display(),
                initrd.unwrap_or_default()
            )
        }
        MachineBoot::Firmware => "boot firmware".to_owned(),
    });
    facts.extend(machine.disks.iter().map(disk));
    match &machine.keymap {
        Some(keymap) => facts.push(format!("screen {keymap}")),
        None => facts.push("screen none".to_owned()),
    }
    facts
}

fn disk(disk: &DiskPlan) -> String {
    let path = disk
        .path
        .as_ref()
        .map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    let mode = if disk.read_only { " ro" } else { "" };
    let kind = if disk.cdrom { "cdrom" } else { "disk" };
    format!("{kind} {} {path} {}{mode}", disk.name, disk.format)
}

/// QEMU's command line for the same hardware (qemu-system-x86_64(1)), with a tap on the network's bridge.
pub(crate) fn commands(stored: &StoredGuest, machine: &MachinePlan, bridge: &str) -> Vec<String> {
    let mut words = vec!["qemu-system-x86_64".to_owned()];
    let mut add = |text: String| words.push(text);
    add(match machine.engine {
        model::MachineEngine::Software => "-accel tcg".to_owned(),
        model::MachineEngine::Kvm => "-accel kvm".to_owned(),
        model::MachineEngine::Auto => "-accel kvm -accel tcg".to_owned(),
    });
    add(format!("-smp {} -m {}", machine.cpus, Size(machine.memory)));
    for disk in &machine.disks {
        let Some(path) = &disk.path else {
            continue;
        };
        let bus = if disk.cdrom {
            "media=cdrom,if=ide"
        } else {
            "if=virtio"
        };
        let mode = if disk.read_only { ",readonly=on" } else { "" };
        add(format!(
            "-drive file={},format={},{bus}{mode}",
            path.display(),
            disk.format
        ));
    }
    match &machine.boot {
        MachineBoot::Kernel {
            kernel,
            initrd,
            append,
        } => {
            add(format!("-kernel {}", kernel.display()));
            if let Some(initrd) = initrd {
                add(format!("-initrd {}", initrd.display()));
            }
            add(format!("-append '{append}'"));
        }
        MachineBoot::Disk { append } => {
            // Without a boot loader on the disk, its kernel is copied out of it first.
            add(format!(
                "-kernel vmlinuz -initrd initrd.img -append 'root=/dev/vda2 console=ttyS0 {append}'"
            ));
        }
        MachineBoot::Firmware if machine.disks.iter().any(|disk| disk.cdrom) => add("-boot d".to_owned()),
        MachineBoot::Firmware => {}
    }
    let mut commands = Vec::new();
    for (index, nic) in stored.guest.status.nics.iter().enumerate() {
        let tap = format!("tap{index}");
        commands.push(format!("ip tuntap add {tap} mode tap"));
        commands.push(format!("ip link set {tap} master {bridge} up"));
        add(format!(
            "-netdev tap,id=n{index},ifname={tap},script=no -device virtio-net-pci,netdev=n{index},mac={}",
            nic.mac
        ));
    }
    if machine.discard_writes {
        add("-snapshot".to_owned());
    }
    add(match &machine.keymap {
        Some(keymap) => format!("-serial mon:stdio -vnc 127.0.0.1:0 -k {keymap}"),
        None => "-nographic".to_owned(),
    });
    commands.push(words.join(" "));
    let address = addresses(stored)
        .into_iter()
        .find(|address| address.contains('.'));
    for one in &stored.guest.spec.publish {
        commands.extend(address.map(|address| forward(one, address)));
    }
    commands
}
