//! The same images of memory and tables in somebody else's machine: QEMU, by its interpreter.
//!
//! A direct boot is entered by a few instructions in the place of firmware (qemu/enter.s); SeaBIOS is given our
//! tables in the place of QEMU's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod packages;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boot::firmware::{Firmware, Key, items};
use boot::kernel::{DirectBoot, Handover, direct};
use boot::layout::{BIOS_AREA, MIB};
use boot::{Entry, Machine, initrd};

const QEMU: &str = "qemu-system-x86_64";
const SAYS: &str = "the first process runs";
/// Where the memory from [`BIOS_AREA`] to 1 MiB waits for its place.
const TABLES: u64 = 0x80_0000;
/// Far more than it takes; a machine that hangs is ended then.
const PATIENCE: Duration = Duration::from_secs(900);

/// Runs a program to its end; whether it went well, `None` when it is not there.
fn run(folder: &Path, program: &str, arguments: &[String]) -> Option<bool> {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status()
        .ok()?;
    Some(status.success())
}

fn assemble(
    folder: &Path,
    source: &str,
    width: &str,
    symbols: &[(&str, u64)],
    link: &[&str],
) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/qemu")
        .join(source);
    let mut arguments = vec![width.to_owned(), "-o".into(), "object".into()];
    for (name, value) in symbols {
        arguments.extend(["--defsym".to_owned(), format!("{name}={value:#x}")]);
    }
    arguments.push(source.to_string_lossy().into_owned());
    let link: Vec<_> = link
        .iter()
        .copied()
        .chain(["-o", "program", "object"])
        .map(str::to_owned)
        .collect();
    let fine = run(folder, "as", &arguments)? && run(folder, "ld", &link)?;
    assert!(fine, "{}", source.display());
    Some(folder.join("program"))
}

/// Starts QEMU and reads its serial port until the last word appears or the machine goes off.
fn qemu(folder: &Path, arguments: &[String], last: Option<&str>) -> Option<String> {
    let console = folder.join("console");
    let child = Command::new(QEMU)
        .args([
            "-accel",
            "tcg",
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
            "-no-user-config",
        ])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: {QEMU} is not installed");
        return None;
    };
    let begun = Instant::now();
    loop {
        let off = child.try_wait().unwrap().is_some();
        let said = std::fs::read(&console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        if off {
            return Some(said);
        }
        if begun.elapsed() > PATIENCE || last.is_some_and(|last| said.contains(last)) {
            child.kill().unwrap();
            child.wait().unwrap();
            return Some(said);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An archive with the first process, after another one of odd length, as an agent's follows a system's.
fn archives(folder: &Path) -> Option<[Vec<u8>; 2]> {
    let init = assemble(folder, "init.s", "--64", &[], &["-static", "-s"])?;
    let init = std::fs::read(init).unwrap();
    let mut first = initrd::cpio(&[("note", 0o644, b"odd")]).unwrap();
    first.push(0);
    Some([first, initrd::cpio(&[("init", 0o755, &init)]).unwrap()])
}

/// Brings QEMU into the state that [`direct`] describes, and starts it.
fn boot_directly(machine: &Machine, boot: &DirectBoot<'_>, last: Option<&str>) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let start = direct(machine, boot).unwrap();
    assert_ne!(start.entry, Entry::Reset);
    let registers = start.entry.registers().unwrap();
    let symbols = [
        ("RSI", registers.rsi),
        ("RBX", registers.rbx),
        ("RIP", registers.rip),
        ("CR0", registers.cr0),
        ("CR3", registers.cr3),
        ("CR4", registers.cr4),
        ("EFER", registers.efer & 0x100),
        ("GDT", registers.gdt_base),
        ("TABLES", TABLES),
    ];
    let lines = start.configuration.iter().map(|write| {
        let function = u32::from(write.slot) << 3 | u32::from(write.function);
        let address = function << 8 | u32::from(write.register);
        format!("  config {address:#x}, {:#x}\n", write.value)
    });
    std::fs::write(folder.path().join("configuration.s"), lines.collect::<String>()).unwrap();
    let link = [
        "-m",
        "elf_i386",
        "-Ttext",
        "0xfffffe00",
        "--oformat",
        "binary",
        "-e",
        "0",
    ];
    let rom = assemble(folder.path(), "enter.s", "--32", &symbols, &link)?;
    let mut image = vec![0_u8; 0x1_0000 - 0x200];
    image.extend(std::fs::read(rom).unwrap());
    let rom = folder.path().join("rom");
    std::fs::write(&rom, image).unwrap();
    let mut arguments: Vec<String> = ["-M", "pc,hpet=off", "-bios"].map(str::to_owned).to_vec();
    arguments.push(rom.to_string_lossy().into_owned());
    arguments.extend(["-m".to_owned(), (machine.memory / MIB).to_string()]);
    arguments.extend(["-smp".to_owned(), machine.cpus.to_string()]);
    if machine.display {
        arguments.extend(["-device", "VGA,romfile=,addr=2"].map(str::to_owned));
    }
    for (index, chunk) in start.chunks.iter().enumerate() {
        let file = folder.path().join(format!("chunk{index}"));
        std::fs::write(&file, chunk.bytes()).unwrap();
        let address = match chunk.address {
            address @ BIOS_AREA..MIB => address - BIOS_AREA + TABLES,
            address => address,
        };
        arguments.push("-device".into());
        arguments.push(format!(
            "loader,file={},addr={address:#x},force-raw=on",
            file.display()
        ));
    }
    qemu(folder.path(), &arguments, last)
}

/// A Linux kernel with an initrd of two archives, in a machine of 256 MiB and two processors.
fn boot_linux(kernel: &[u8], handover: Option<Handover>, display: bool) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let archives = archives(folder.path())?;
    let boot = DirectBoot {
        kernel,
        initrd: &[&archives[0], &archives[1]],
        command_line: b"console=ttyS0 panic=-1 nokaslr",
        handover,
        seed: Some([7; 32]),
    };
    let machine = Machine {
        display,
        ..Machine::new(256 * MIB, 2)
    };
    boot_directly(&machine, &boot, None)
}

#[track_caller]
fn expect(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
    for word in [
        "ACPI BIOS Error",
        "[Firmware Bug]",
        "not reserved in",
        "no compatible bridge window",
    ] {
        assert!(!said.contains(word), "{word:?} stands in:\n{said}");
    }
}

/// What Debian's kernel says of the machine in every direct boot.
const OF_THE_MACHINE: [&str; 7] = [
    "RSDP 0x00000000000E0000",
    "POSADA MACHINE",
    "DMI: Posada Posada machine",
    "PCI: MMCONFIG for domain 0000 [bus 00-ff]",
    "ACPI: Interpreter enabled",
    SAYS,
    "reboot: Power down",
];

#[test]
fn debians_kernel_runs_from_its_64_bit_entry_and_switches_off_by_acpi() {
    let Some(kernel) = packages::cloud_kernel() else {
        return;
    };
    let Some(said) = boot_linux(&kernel, None, true) else {
        return;
    };
    expect(&said, &OF_THE_MACHINE);
    expect(
        &said,
        &[
            "Console: colour VGA+ 80x25",
            "random: crng init done",
            "Brought up 1 node, 2 CPUs",
        ],
    );
    assert!(
        !said.contains("ACPI Error") && !said.contains("Kernel panic"),
        "{said}"
    );
}

#[test]
fn debians_kernel_runs_from_its_pvh_entry() {
    let Some(kernel) = packages::cloud_kernel() else {
        return;
    };
    let Some(kernel) = packages::vmlinux(&kernel) else {
        return;
    };
    let Some(said) = boot_linux(&kernel, Some(Handover::Pvh), false) else {
        return;
    };
    expect(&said, &OF_THE_MACHINE);
}

#[test]
fn debians_unpacked_kernel_is_told_of_the_screen() {
    let Some(kernel) = packages::cloud_kernel() else {
        return;
    };
    let Some(kernel) = packages::vmlinux(&kernel) else {
        return;
    };
    let Some(said) = boot_linux(&kernel, None, true) else {
        return;
    };
    expect(&said, &OF_THE_MACHINE);
    expect(&said, &["Console: colour VGA+ 80x25"]);
}

#[test]
fn memtest_runs_from_its_32_bit_and_its_64_bit_entry() {
    let Some(tree) = packages::tree("memtest86+") else {
        return;
    };
    for (file, handover) in [("ia32", Handover::Protected32), ("x64", Handover::Long64)] {
        let kernel = std::fs::read(tree.join(format!("boot/memtest86+{file}.bin"))).unwrap();
        let boot = DirectBoot {
            kernel: &kernel,
            initrd: &[],
            command_line: b"console=ttyS0,115200",
            handover: None,
            seed: None,
        };
        let machine = Machine::new(16 * MIB, 1);
        let entry = direct(&machine, &boot).unwrap().entry;
        let long = matches!(entry, Entry::Long64 { .. });
        assert_eq!(long, handover == Handover::Long64);
        let Some(said) = boot_directly(&machine, &boot, Some("Pass")) else {
            return;
        };
        expect(&said, &["Memtest86+", "Pass"]);
    }
}

#[test]
fn seabios_speaks_on_the_serial_port_and_links_our_tables_for_the_kernel() {
    let Some(kernel) = packages::cloud_kernel() else {
        return;
    };
    let Some(seabios) = packages::tree("seabios") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(archives) = archives(folder.path()) else {
        return;
    };
    std::fs::write(folder.path().join("kernel"), kernel).unwrap();
    std::fs::write(
        folder.path().join("initrd"),
        initrd::align(&[&archives[0], &archives[1]]).concat(),
    )
    .unwrap();
    let machine = Machine::new(256 * MIB, 2);
    // The oldest machine type leaves SMBIOS to us, and without ACPI the tables too.
    let mut arguments: Vec<String> = [
        "-M",
        "pc-i440fx-1.7,acpi=off",
        "-m",
        "256",
        "-smp",
        "2",
        "-kernel",
    ]
    .map(str::to_owned)
    .to_vec();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    arguments.extend([path("kernel"), "-initrd".into(), path("initrd"), "-append".into()]);
    arguments.push("console=ttyS0 panic=-1 acpi=force".into());
    arguments.extend(["-device", "VGA,romfile=,addr=2"].map(str::to_owned));
    arguments.push("-bios".into());
    arguments.push(
        seabios
            .join("usr/share/seabios/bios-256k.bin")
            .to_string_lossy()
            .into_owned(),
    );
    // Of the rest of our files QEMU has some of its own.
    let ours = ["etc/acpi/", "etc/smbios/", "etc/table-loader", "etc/sercon-port"];
    for (index, item) in items(&machine, &Firmware::default()).into_iter().enumerate() {
        let Key::File(name) = item.key else { continue };
        if ours.iter().any(|our| name.starts_with(our)) {
            let file = path(&format!("file{index}"));
            std::fs::write(&file, item.bytes).unwrap();
            arguments.extend(["-fw_cfg".to_owned(), format!("name={name},file={file}")]);
        }
    }
    let Some(said) = qemu(folder.path(), &arguments, Some(SAYS)) else {
        return;
    };
    expect(
        &said,
        &[
            "SeaBIOS (version",
            "POSADA MACHINE",
            "DMI: Posada Posada machine",
            "ACPI: Interpreter enabled",
            SAYS,
        ],
    );
    expect(&said, &["Brought up 1 node, 2 CPUs"]);
}
