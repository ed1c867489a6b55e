//! Disks as distributions make them, small: what the finder finds on them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::partition::{Guid, NewGpt, NewMbr, write_gpt, write_mbr};
use disk::{Image, Raw, Slice};
use proptest::prelude::*;
use unpack::codec::{Codec, Encoder};

use super::*;
use crate::initrd::cpio;

const MIB: u64 = 1 << 20;
const ROOT: &str = "11111111-2222-3333-4444-555555555555";
const BOOT: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";

/// What a bzImage of this release begins with, and something to tell it from others.
fn kernel(release: &str) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    bytes[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    bytes.extend(b" (somebody@somewhere)".iter().chain(release.as_bytes()));
    bytes
}

fn modules(names: &[&str]) -> Vec<u8> {
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("usr/lib/modules/6.1/{name}.ko.xz"))
        .collect();
    let mut entries: Vec<(&str, u32, &[u8])> = vec![("init", 0o755, b"#!/bin/sh\n")];
    entries.extend(paths.iter().map(|path| (path.as_str(), 0o644, &b"module"[..])));
    cpio(&entries).unwrap()
}

/// An initrd as Debian makes it: microcode first, the rest compressed.
fn initrd(codec: Codec, names: &[&str]) -> Vec<u8> {
    let mut bytes = cpio(&[("kernel/x86/microcode/GenuineIntel.bin", 0o644, &[7; 1001])]).unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let mut encoder = Encoder::new(codec, Vec::new()).unwrap();
    encoder.write_all(&modules(names)).unwrap();
    bytes.extend(encoder.finish().unwrap());
    bytes
}

fn both() -> Vec<u8> {
    initrd(Codec::Zst, &["virtio_blk", "ext4", "virtio-pci"])
}

/// A tree of files below a folder.
fn tree(folder: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let root = folder.join("tree");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match bytes.strip_prefix(b"-> ") {
            Some(target) => std::os::unix::fs::symlink(std::str::from_utf8(target).unwrap(), &path).unwrap(),
            None => fs::write(&path, bytes).unwrap(),
        }
    }
    root
}

/// The bytes of a file system with these files; `None` when mke2fs is not installed.
fn file_system(uuid: &str, files: &[(&str, &[u8])]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path(), files);
    let path = folder.path().join("fs");
    let made = Command::new("mke2fs")
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
        )
        .args([
            "-q",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^metadata_csum",
            "-N",
            "64",
            "-J",
            "size=1",
            "-U",
            uuid,
            "-d",
        ])
        .args([root.as_path(), path.as_path(), Path::new("6M")])
        .status();
    match made {
        Ok(status) => assert!(status.success()),
        Err(_) => {
            eprintln!("skipped: mke2fs is not installed");
            return None;
        }
    }
    Some(fs::read(path).unwrap())
}

/// A disk of its own: partitions one after the other.
fn disk(parts: &[(Guid, &[u8])]) -> Raw {
    let image = Raw::create(tempfile::tempfile().unwrap(), (parts.len() as u64 * 8 + 4) * MIB).unwrap();
    let wanted: Vec<NewGpt> = parts
        .iter()
        .enumerate()
        .map(|(index, (kind, bytes))| NewGpt {
            kind: *kind,
            id: Guid([index as u8 + 1; 16]),
            name: String::new(),
            size: Some((bytes.len() as u64).max(1)),
            bootable: false,
        })
        .collect();
    let table = write_gpt(&image, Guid([9; 16]), &wanted).unwrap();
    for (place, (_, bytes)) in table.partitions.iter().zip(parts) {
        Slice::new(&image, place.start, place.size)
            .unwrap()
            .write_at(bytes, 0)
            .unwrap();
    }
    image
}

fn bare(bytes: &[u8]) -> Raw {
    let image = Raw::create(tempfile::tempfile().unwrap(), bytes.len() as u64).unwrap();
    image.write_at(bytes, 0).unwrap();
    image
}

/// The parts of a `grub.cfg` that Debian's grub-mkconfig writes.
fn grub_config(prefix: &str, uuid: &str) -> String {
    let entry = |title: &str, id: &str, version: &str, options: &str| {
        format!(
            "menuentry '{title}' --class debian --class gnu-linux $menuentry_id_option '{id}' {{\n\
             \tload_video\n\tinsmod gzio\n\
             \tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi\n\
             \tinsmod part_gpt\n\tset root='hd0,gpt9'\n\
             \tif [ x$feature_platform_search_hint = xy ]; then\n\
             \t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1 {uuid}\n\
             \telse\n\t  search --no-floppy --fs-uuid --set=root {uuid}\n\tfi\n\
             \techo\t'Loading Linux {version} ...'\n\
             \tlinux\t{prefix}/vmlinuz-{version} root=UUID={ROOT} ro {options} quiet \"a b\" ${{extra}}\n\
             \tinitrd\t{prefix}/initrd.img-{version}\n}}\n"
        )
    };
    format!(
        "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n\
         if [ \"${{next_entry}}\" ] ; then\n   set default=\"${{next_entry}}\"\n   set next_entry=\n\
         \x20  save_env next_entry\nelse\n   set default=\"${{saved_entry}}\"\nfi\n\
         if [ x\"${{feature_menuentry_id}}\" = xy ]; then\n  menuentry_id_option=\"--id\"\n\
         else\n  menuentry_id_option=\"\"\nfi\nexport menuentry_id_option\nextra=console=ttyS0\n\
         function savedefault {{\n  if [ -z \"${{boot_once}}\" ]; then\n    saved_entry=\"${{chosen}}\"\n  fi\n}}\n\
         if [ -e /nothing -o ! -n \"$prefix\" ]; then\n  set default=7\nfi\n\
         for mode in a b; do\n  set default=8\ndone\n\
         {}submenu 'Advanced options for Debian' $menuentry_id_option 'gnulinux-advanced-x' {{\n{}{}}}\n\
         menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {{\n\tfwsetup\n}}\n",
        entry("Debian GNU/Linux", "gnulinux-simple-x", "6.1.0-10-amd64", "one"),
        entry("Debian, 6.1.0-10", "gnulinux-6.1.0-10-x", "6.1.0-10-amd64", "two"),
        entry("Debian, 6.1.0-9", "gnulinux-6.1.0-9-x", "6.1.0-9-amd64", "three"),
    )
}

#[test]
fn the_default_entry_of_grub_is_found_by_number_title_and_identifier() {
    let cases: [(Option<&str>, &str, &str); 8] = [
        (None, "6.1.0-10-amd64", "one"),
        (Some("0"), "6.1.0-10-amd64", "one"),
        (Some("1>1"), "6.1.0-9-amd64", "three"),
        (
            Some("gnulinux-advanced-x>gnulinux-6.1.0-10-x"),
            "6.1.0-10-amd64",
            "two",
        ),
        (
            Some("Advanced options for Debian>Debian, 6.1.0-9"),
            "6.1.0-9-amd64",
            "three",
        ),
        (Some("gnulinux-6.1.0-9-x"), "6.1.0-9-amd64", "three"),
        (Some("1"), "6.1.0-10-amd64", "two"),
        (Some("gone"), "6.1.0-10-amd64", "one"),
    ];
    for (saved, version, option) in cases {
        let environment = format!(
            "# GRUB Environment Block\nnext_entry=2\nsaved_entry={}\n####",
            saved.unwrap_or_default()
        );
        let config = grub_config("/boot", ROOT);
        let (new, old, ramdisk) = (kernel("6.1.0-10-amd64"), kernel("6.1.0-9-amd64"), both());
        let files: [(&str, &[u8]); 7] = [
            ("etc/os-release", b"ID=debian\n"),
            ("boot/grub/grub.cfg", config.as_bytes()),
            ("boot/grub/grubenv", environment.as_bytes()),
            ("boot/vmlinuz-6.1.0-10-amd64", &new),
            ("boot/vmlinuz-6.1.0-9-amd64", &old),
            ("boot/initrd.img-6.1.0-10-amd64", &ramdisk),
            ("boot/initrd.img-6.1.0-9-amd64", &ramdisk),
        ];
        let Some(root) = file_system(ROOT, &files) else {
            return;
        };
        let found = find(&disk(&[(Guid::BIOS_BOOT, &[]), (Guid::LINUX_ROOT_X86_64, &root)])).unwrap();
        let start = &found.start;
        assert_eq!(start.version.as_deref(), Some(version), "{saved:?}");
        assert!(found.kernel == kernel(version) && found.initrd.as_ref() == Some(&ramdisk));
        let line = format!("root=UUID={ROOT} ro {option} quiet \"a b\" console=ttyS0");
        assert_eq!(start.command_line, line, "{saved:?}");
        assert_eq!((start.source, start.root_partition), (Source::Grub, 2));
        assert_eq!(start.facts, []);
        start.require_virtio().unwrap();
    }
}

#[test]
fn a_boot_partition_of_its_own_is_read_where_it_is() {
    let config = grub_config("", BOOT);
    let (new, ramdisk) = (kernel("6.1.0-10-amd64"), both());
    let table =
        format!("UUID={ROOT} / ext4 defaults 0 1\n# x /boot\nUUID={BOOT}\t/boot\text4 defaults 0 2\n");
    // A leftover on the root file system must not win.
    let root = file_system(
        ROOT,
        &[("etc/fstab", table.as_bytes()), ("boot/vmlinuz-9", b"old")],
    );
    let boot = file_system(
        BOOT,
        &[
            ("grub/grub.cfg", config.as_bytes()),
            ("vmlinuz-6.1.0-10-amd64", &new),
            ("initrd.img-6.1.0-10-amd64", &ramdisk),
        ],
    );
    let (Some(root), Some(boot)) = (root, boot) else {
        return;
    };
    for order in [[&boot, &root], [&root, &boot]] {
        let image = disk(&[(Guid::LINUX, order[0]), (Guid::LINUX, order[1])]);
        let found = find(&image).unwrap();
        assert_eq!(found.start.kernel_path, "/vmlinuz-6.1.0-10-amd64");
        assert_eq!(found.start.root_uuid, ROOT);
        assert!(found.kernel == new);
    }
    // The links of the root file system lead to the other one too.
    let root = file_system(
        ROOT,
        &[
            ("etc/fstab", table.as_bytes()),
            ("vmlinuz", b"-> boot/vmlinuz-6"),
            ("initrd.img", b"-> boot/initrd.img-6"),
        ],
    );
    let boot = file_system(BOOT, &[("vmlinuz-6", &new), ("initrd.img-6", &ramdisk)]);
    let found = find(&disk(&[
        (Guid::LINUX, &boot.unwrap()),
        (Guid::LINUX, &root.unwrap()),
    ]))
    .unwrap();
    assert_eq!(found.start.source, Source::Links);
    assert_eq!(found.start.command_line, format!("root=UUID={ROOT} ro"));
    assert!(found.start.facts.contains(&Fact::RootDerived));
    assert!(found.kernel == new && found.initrd == Some(ramdisk));
}

#[test]
fn entries_of_the_boot_loader_specification_are_sorted_by_version() {
    let entry = |version: &str| {
        format!(
            "title Debian {version}\nversion {version}\nsort-key debian\nlinux /boot/linux-{version}\n\
             initrd /boot/initrd-{version}\noptions root=UUID={ROOT}\noptions rw $kernelopts\n"
        )
    };
    let (nine, ten) = (entry("6.1.0-9"), entry("6.1.0-10"));
    let (old, new, ramdisk) = (kernel("6.1.0-9"), kernel("6.1.0-10"), both());
    let mut files: Vec<(&str, &[u8])> = vec![
        ("etc/os-release", b""),
        ("boot/loader/entries/a.conf", nine.as_bytes()),
        ("boot/loader/entries/b.conf", ten.as_bytes()),
        ("boot/loader/entries/c.conf", b"title No kernel\n"),
        ("boot/linux-6.1.0-9", &old),
        ("boot/linux-6.1.0-10", &new),
        ("boot/initrd-6.1.0-9", &ramdisk),
        ("boot/initrd-6.1.0-10", &ramdisk),
        ("boot/grub2/grubenv", b"kernelopts=quiet splash\n"),
        // A menu that only says where the entries are.
        ("boot/grub2/grub.cfg", b"insmod blscfg\nblscfg\n"),
    ];
    let Some(root) = file_system(ROOT, &files) else {
        return;
    };
    let found = find(&bare(&root)).unwrap();
    assert_eq!(found.start.title.as_deref(), Some("Debian 6.1.0-10"));
    assert_eq!(found.start.source, Source::LoaderEntry);
    assert_eq!(
        found.start.command_line,
        format!("root=UUID={ROOT} rw quiet splash")
    );
    assert_eq!(found.start.root_partition, 0);
    files.push(("boot/loader/loader.conf", b"timeout 3\ndefault a*\n"));
    let found = find(&bare(&file_system(ROOT, &files).unwrap())).unwrap();
    assert!(found.kernel == old);
}

#[test]
fn without_a_configuration_the_newest_kernel_with_an_initrd_starts() {
    let (a, b, c, ramdisk) = (kernel("6.1.0-9"), kernel("6.1.0-10"), kernel("6.9"), both());
    let Some(root) = file_system(
        ROOT,
        &[
            ("sbin/init", b""),
            ("boot/vmlinuz-6.1.0-9", &a),
            ("boot/initrd.img-6.1.0-9", &ramdisk),
            ("boot/vmlinuz-6.1.0-10", &b),
            ("boot/initrd.img-6.1.0-10", &ramdisk),
            ("boot/vmlinuz-6.9", &c),
            ("boot/vmlinuz-7.0.old", &c),
        ],
    ) else {
        return;
    };
    let image = Raw::create(tempfile::tempfile().unwrap(), 16 * MIB).unwrap();
    let part = NewMbr {
        kind: 0x83,
        size: Some(root.len() as u64),
        bootable: true,
    };
    write_mbr(&image, 1, &[part]).unwrap();
    image.write_at(&root, MIB).unwrap();
    let found = find(&image).unwrap();
    assert_eq!(found.start.source, Source::Newest);
    assert!(found.kernel == b);
    assert_eq!(found.start.command_line, format!("root=UUID={ROOT} ro"));
}

#[test]
fn a_menu_that_leads_nowhere_is_passed_over_and_told() {
    let (new, ramdisk) = (kernel("6.1"), both());
    let config = grub_config("/boot", ROOT);
    let Some(root) = file_system(
        ROOT,
        &[
            ("etc/fstab", b""),
            ("boot/grub/grub.cfg", config.as_bytes()),
            (
                "boot/extlinux/extlinux.conf",
                b"default x\nlabel x\nlinux ../vmlinuz-6.1\ninitrd /boot/initrd.img-6.1\n",
            ),
            ("boot/vmlinuz-6.1", &new),
            ("boot/initrd.img-6.1", &ramdisk),
        ],
    ) else {
        return;
    };
    let found = find(&bare(&root)).unwrap();
    assert_eq!(found.start.source, Source::Extlinux);
    let skipped = |fact: &Fact| {
        matches!(
            fact,
            Fact::Skipped {
                source: Source::Grub,
                ..
            }
        )
    };
    assert!(found.start.facts.iter().any(skipped), "{:?}", found.start.facts);
}

#[test]
fn drivers_are_found_in_initrds_of_every_compression_and_in_kernels() {
    let new = kernel("6.1");
    let check = |ramdisk: Option<&[u8]>, more: &[(&str, &[u8])]| {
        let mut files: Vec<(&str, &[u8])> = vec![("etc/fstab", b""), ("boot/vmlinuz-6.1", &new)];
        files.extend(ramdisk.map(|bytes| ("boot/initrd.img-6.1", bytes)));
        files.extend(more);
        Some(find(&bare(&file_system(ROOT, &files)?)).unwrap().start)
    };
    let names = ["virtio_pci", "virtio_blk"];
    for codec in [Codec::Plain, Codec::Gz, Codec::Zst] {
        let Some(start) = check(Some(&initrd(codec, &names)), &[]) else {
            return;
        };
        assert_eq!(
            start.virtio,
            Virtio {
                pci: Driver::Module,
                block: Driver::Module
            },
            "{codec:?}"
        );
        let start = check(
            Some(&initrd(codec, &["virtio_pci", "virtio_blk2", "xvirtio_blk"])),
            &[],
        )
        .unwrap();
        assert_eq!(start.virtio.missing(), Some("virtio_blk"));
        let fault = start.require_virtio().unwrap_err();
        assert!(fault.is(NO_VIRTIO));
        assert!(fault.args().any(|arg| arg == ("version", "6.1")));
    }
    // No initrd, and no driver in the kernel.
    let start = check(None, &[]).unwrap();
    assert!(start.facts.contains(&Fact::NoInitrd));
    assert!(start.require_virtio().is_err());
    let config: &[u8] = b"CONFIG_VIRTIO_PCI=y\n# CONFIG_X is not set\nCONFIG_VIRTIO_BLK=y\n";
    let start = check(None, &[("boot/config-6.1", config)]).unwrap();
    assert_eq!(
        start.virtio,
        Virtio {
            pci: Driver::BuiltIn,
            block: Driver::BuiltIn
        }
    );
    let list: &[u8] = b"kernel/drivers/virtio/virtio_pci.ko\n";
    let start = check(
        Some(&initrd(Codec::Gz, &names)),
        &[("lib/modules/6.1/modules.builtin", list)],
    )
    .unwrap();
    assert_eq!(
        start.virtio,
        Virtio {
            pci: Driver::BuiltIn,
            block: Driver::Module
        }
    );
    // What cannot be looked through is not refused.
    let start = check(Some(b"BZh91AY"), &[]).unwrap();
    assert_eq!(start.virtio.pci, Driver::Unknown("bzip2".to_owned()));
    start.require_virtio().unwrap();
    for (tool, options) in [("xz", &["--check=crc32", "-c"][..]), ("lz4", &["-l", "-c"])] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain");
        fs::write(&path, modules(&names)).unwrap();
        let Ok(out) = Command::new(tool).args(options).arg(&path).output() else {
            eprintln!("skipped: {tool} is not installed");
            continue;
        };
        let start = check(Some(&out.stdout), &[]).unwrap();
        assert_eq!(start.virtio.block, Driver::Module, "{tool}");
    }
}

#[test]
fn a_disk_without_a_system_says_what_is_there() {
    let empty = Raw::create(tempfile::tempfile().unwrap(), 4 * MIB).unwrap();
    assert!(find(&empty).unwrap_err().is(NO_SYSTEM));
    let mut xfs = vec![0; 1 << 20];
    xfs[..4].copy_from_slice(b"XFSB");
    let fault = find(&disk(&[(Guid::EFI_SYSTEM, &[]), (Guid::LINUX, &xfs)])).unwrap_err();
    assert!(fault.is(NO_SYSTEM));
    assert!(fault.args().any(|arg| arg == ("found", "2: xfs")), "{fault}");
    let Some(root) = file_system(ROOT, &[("etc/fstab", b"")]) else {
        return;
    };
    assert!(find(&bare(&root)).unwrap_err().is(NO_KERNEL));
}

#[test]
fn a_mutated_disk_never_panics() {
    let config = grub_config("/boot", ROOT);
    let (new, ramdisk) = (kernel("6.1.0-10-amd64"), initrd(Codec::Gz, &["virtio_blk"]));
    let Some(root) = file_system(
        ROOT,
        &[
            ("etc/fstab", b"UUID=1 /boot x\n"),
            ("boot/grub/grub.cfg", config.as_bytes()),
            ("boot/vmlinuz-6.1.0-10-amd64", &new),
            ("boot/initrd.img-6.1.0-10-amd64", &ramdisk),
            ("boot/loader/entries/b.conf", b"linux /vmlinuz\n"),
            ("vmlinuz", b"-> boot/vmlinuz-6.1.0-10-amd64"),
        ],
    ) else {
        return;
    };
    let used: Vec<usize> = (0..root.len() / 64)
        .filter(|piece| root[piece * 64..][..64].iter().any(|byte| *byte != 0))
        .collect();
    let change = (any::<prop::sample::Index>(), 0..64usize, any::<u8>());
    proptest!(ProptestConfig::with_cases(200), |(changes in proptest::collection::vec(change, 1..12))| {
        let mut bytes = root.clone();
        for (index, offset, value) in changes {
            bytes[used[index.index(used.len())] * 64 + offset] = value;
        }
        let _ = find(&bare(&bytes));
    });
}
