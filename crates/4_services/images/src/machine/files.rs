//! Files that a machine needs and a container does not.

use std::path::PathBuf;

use jail::recipe::FileEntry;

use super::uuids::root_uuid;

/// Written before the packages of an image are configured, when a kernel is among them: how its scripts make the
/// initrd and what they link. The initrd checks the root file system before it is mounted, and waits for no swap
/// partition to resume from.
const OF_IMAGE: &[(&str, &str)] = &[
    (
        "etc/kernel-img.conf",
        "# Kernel image management overrides\ndo_symlinks = yes\ndo_bootloader = no\ndo_initrd = yes\nlink_in_boot = no\n",
    ),
    (
        "etc/initramfs-tools/conf.d/posada",
        "MODULES=most\nFSTYPE=ext4\nRESUME=none\n",
    ),
];

/// One card by DHCP and router advertisements, by whatever name the kernel calls it.
const NETWORK: &str = "[Match]\nName=eth0 en*\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n";

/// Units that a machine starts and a container does not; what an old or other system lacks is passed over.
const UNITS: &[&str] = &[
    "systemd-networkd.service",
    "serial-getty@ttyS0.service",
    "getty@tty1.service",
];

/// Units that look for volumes of LVM, which our disks do not have: a shell script of seconds at every start.
const NEEDLESS: &[&str] = &["e2scrub_reap.service", "e2scrub_all.timer"];

/// Paths and contents for an image with these packages.
pub(crate) fn of_image(include: &[String]) -> &'static [(&'static str, &'static str)] {
    match include.iter().any(|name| name.starts_with("linux-image-")) {
        true => OF_IMAGE,
        false => &[],
    }
}

/// The files of a guest's own tree. The name servers stay those of /etc/resolv.conf, as in a container: no resolver
/// stands between a program and the network's own, which knows the names of the guests.
pub(super) fn of_guest(guest: &str) -> Vec<FileEntry> {
    let entry = |path: &str, content: String| FileEntry {
        path: PathBuf::from(path),
        content,
        mode: 0o644,
        keep_existing: false,
    };
    vec![
        entry(
            "/etc/fstab",
            format!(
                "# <file system> <mount point> <type> <options> <dump> <pass>\nUUID={} / ext4 errors=remount-ro,x-systemd.growfs 0 1\n",
                root_uuid(guest)
            ),
        ),
        entry("/etc/systemd/network/80-posada.network", NETWORK.to_owned()),
    ]
}

/// Lines of shell that enable and disable units in the tree that is the root.
pub(super) fn enabling() -> String {
    let mut script = String::from("if command -v systemctl >/dev/null; then\n");
    for (verb, units) in [("enable", UNITS), ("disable", NEEDLESS)] {
        for unit in units {
            script.push_str(&format!("systemctl --quiet {verb} {unit} || :\n"));
        }
    }
    script.push_str("fi\n");
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_image_with_a_kernel_gets_files_of_kernels() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(of_image(&names(&["vim", "nginx"])).is_empty());
        assert!(!of_image(&names(&["vim", "linux-image-amd64"])).is_empty());
    }

    #[test]
    fn the_root_is_named_by_its_uuid() {
        let files = of_guest("web");
        let fstab = files
            .iter()
            .find(|file| file.path.ends_with("etc/fstab"))
            .unwrap();
        assert!(
            fstab
                .content
                .contains(&format!("\nUUID={} / ext4 ", root_uuid("web")))
        );
    }
}
