//! The options of `launch` that make a guest a machine, and what they mean.

use std::path::Path;

use clap::{ArgMatches, Command, ValueHint};
use fault::{Fault, Result};
use model::{DiskSpec, ImageRef, KernelFlavour, MachineEngine, MachineSpec, Name, Size};

use crate::grammar::{choice, file, option, several, switch};
use crate::verbs::launch::image;
use crate::{codes, parse};

/// What executes a guest, as `--engine` takes it.
pub const ENGINES: &[&str] = &["auto", "container", "kvm", "software"];
/// The same of a machine that exists.
pub const PROCESSORS: &[&str] = &["auto", "kvm", "software"];
/// Keymaps of who types at a machine's screen.
pub const KEYMAPS: &[&str] = &["en-us", "es"];

/// Options that only machines have.
const OF_MACHINES: &[&str] = &[
    "disk",
    "iso",
    "kernel",
    "initrd",
    "append",
    "kernel-flavour",
    "firmware",
    "headless",
    "keymap",
    "ephemeral",
];

/// The usage of `launch`, for the fault of a missing image.
const USAGE: &str = "posada launch [OPTIONS] IMAGE [NAME]";

/// Grammar of the options of machines.
pub fn grammar(command: Command) -> Command {
    command
        .arg(switch("vm"))
        .arg(several("disk", "SIZE|FILE").value_hint(ValueHint::FilePath))
        .arg(file("iso"))
        .arg(file("kernel"))
        .arg(file("initrd"))
        .arg(option("append", "TEXT").allow_hyphen_values(true))
        .arg(choice("kernel-flavour", "FLAVOUR", &["cloud", "generic"]))
        .arg(switch("firmware"))
        .arg(switch("headless"))
        .arg(choice("keymap", "KEYMAP", KEYMAPS).conflicts_with("headless"))
        .arg(switch("ephemeral"))
}

/// Whether a machine may start from something else than an image.
fn starts_alone(hardware: &MachineSpec) -> bool {
    hardware.iso.is_some() || hardware.kernel.is_some() || !hardware.disks.is_empty()
}

fn text<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a str> {
    matches.get_one::<String>(id).map(String::as_str)
}

/// The hardware that the options tell; none without `--vm`.
///
/// # Errors
/// [`codes::NEEDS_VM`] when there are some without `--vm`, [`codes::CONFLICT`] when two exclude each other,
/// [`codes::NUMBER_INVALID`] when the processors are no whole number.
pub fn read(matches: &ArgMatches, here: &Path) -> Result<Option<MachineSpec>> {
    let engine = text(matches, "engine");
    if !matches.get_flag("vm") {
        let given = |id: &&&str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        let needs = |option: String| Err(Fault::new(codes::NEEDS_VM).arg("option", option));
        if let Some(id) = OF_MACHINES.iter().find(given) {
            return needs(format!("--{id}"));
        }
        return match engine {
            Some(engine @ ("kvm" | "software")) => needs(format!("--engine {engine}")),
            _ => Ok(None),
        };
    }
    if engine == Some("container") {
        return Err(conflict("--vm", "--engine container"));
    }
    let mut hardware = MachineSpec {
        engine: match engine {
            Some("kvm") => MachineEngine::Kvm,
            Some("software") => MachineEngine::Software,
            _ => MachineEngine::Auto,
        },
        cpus: text(matches, "cpus")
            .map(|text| parse::number("--cpus", text))
            .transpose()?,
        append: text(matches, "append").map(str::to_owned),
        kernel_flavour: match text(matches, "kernel-flavour") {
            Some("generic") => KernelFlavour::Generic,
            _ => KernelFlavour::Cloud,
        },
        firmware: matches.get_flag("firmware"),
        headless: matches.get_flag("headless"),
        keymap: text(matches, "keymap").map(str::to_owned),
        discard_writes: matches.get_flag("ephemeral"),
        ..MachineSpec::default()
    };
    for (id, slot) in [
        ("iso", &mut hardware.iso),
        ("kernel", &mut hardware.kernel),
        ("initrd", &mut hardware.initrd),
    ] {
        *slot = text(matches, id).map(|text| path(text, here)).transpose()?;
    }
    for text in matches.get_many::<String>("disk").into_iter().flatten() {
        match disk(text, here)? {
            Disk::Size(_) if hardware.disk_size.is_some() => {
                return Err(conflict("--disk SIZE", "--disk SIZE"));
            }
            Disk::Size(size) => hardware.disk_size = Some(size),
            Disk::File(disk) => hardware.disks.push(disk),
        }
    }
    Ok(Some(hardware))
}

fn conflict(option: &str, other: &str) -> Fault {
    Fault::new(codes::CONFLICT)
        .arg("option", option)
        .arg("other", other)
}

/// A path of this host, made absolute.
fn path(text: &str, here: &Path) -> Result<String> {
    let absolute = Some(text).filter(|text| !text.is_empty());
    absolute
        .and_then(|text| parse::absolute(text, here))
        .ok_or_else(|| Fault::new(codes::FILE).arg("path", text))
}

enum Disk {
    Size(Size),
    File(DiskSpec),
}

/// `4G` is a size, everything else a file, `:ro` behind it for reading only; a file called `4G` is written `./4G`.
fn disk(text: &str, here: &Path) -> Result<Disk> {
    if let Ok(size) = text.parse::<Size>() {
        return Ok(Disk::Size(size));
    }
    let (file, read_only) = match text.strip_suffix(":ro") {
        Some(file) => (file, true),
        None => (text, false),
    };
    Ok(Disk::File(DiskSpec {
        source: path(file, here)?,
        format: None,
        read_only,
    }))
}

/// The image and the name: a machine that starts from something else needs no image, and one word that can be no
/// image is its name then.
///
/// # Errors
/// [`codes::ARGUMENT_MISSING`] without an image, and those of images and names.
pub fn named(
    matches: &ArgMatches,
    here: &Path,
    hardware: Option<&MachineSpec>,
) -> Result<(ImageRef, Option<Name>)> {
    let alone = hardware.is_some_and(starts_alone);
    let name = text(matches, "name").map(str::parse).transpose()?;
    match text(matches, "image") {
        None if alone => Ok((ImageRef::Nothing, None)),
        None => Err(Fault::new(codes::ARGUMENT_MISSING)
            .arg("argument", "IMAGE")
            .arg("usage", USAGE)),
        Some(word) if alone && name.is_none() && word.parse::<ImageRef>().is_err() => {
            Ok((ImageRef::Nothing, Some(word.parse()?)))
        }
        Some(word) => Ok((image(word, here)?, name)),
    }
}
