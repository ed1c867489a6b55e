//! cp: files between this host and a guest, both ways, as `cp -r` would name them.
//!
//! Bytes travel as a tar stream. What a guest sends is not trusted: names are confined to the target directory by
//! the `unpack` room, and no owner, device or set-user-id bit of it is taken over.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, ValueHint};
use client::Client;
use fault::{Fault, OrFault, Result};
use unpack::tar::{Entry, Kind, Reader, Writer};
use unpack::{Extractor, Options, PackOptions, Root, Steady};

use crate::context::{Context, output_fault};
use crate::grammar::positional;
use crate::{codes, failure};

/// Grammar of `cp`.
pub fn grammar(command: Command) -> Command {
    command
        .arg(
            positional("source", "SOURCE")
                .required(true)
                .num_args(1..)
                .value_hint(ValueHint::AnyPath),
        )
        .arg(
            positional("target", "TARGET")
                .required(true)
                .value_hint(ValueHint::AnyPath),
        )
}

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    /// A path of this host.
    Host(String),
    /// A path of a guest, absolute.
    Guest(String, String),
    /// A tar stream on standard input or output.
    Stream,
}

impl Side {
    /// `NAME:PATH` is a guest's; everything else, and what begins with `/` or `.`, is a path of this host.
    fn of(text: &str) -> Side {
        if text == "-" {
            return Side::Stream;
        }
        match text.split_once(':') {
            Some((name, path)) if name.parse::<model::Name>().is_ok() => {
                let path = if path.is_empty() { "/root" } else { path };
                let rooted = if path.starts_with('/') {
                    path.to_owned()
                } else {
                    format!("/root/{path}")
                };
                Side::Guest(name.to_owned(), rooted)
            }
            _ => Side::Host(text.to_owned()),
        }
    }
}

/// `cp`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let sources: Vec<&String> = matches
        .get_many::<String>("source")
        .into_iter()
        .flatten()
        .collect();
    let target = Side::of(matches.get_one::<String>("target").map_or("", String::as_str));
    for source in &sources {
        let several = sources.len() > 1;
        match (Side::of(source), &target) {
            (Side::Host(path), Side::Guest(name, to)) => {
                to_guest(context.client()?, &path, name, to, several)?
            }
            (Side::Stream, Side::Guest(name, to)) => {
                context.client()?.write_files(name, to, &mut io::stdin().lock())?;
            }
            (Side::Guest(name, path), Side::Host(to)) => {
                from_guest(context.client()?, &name, &path, Path::new(to), several)?;
            }
            (Side::Guest(name, path), Side::Stream) => {
                let mut tar = context.client()?.read_files(&name, &path)?;
                let mut out = io::stdout().lock();
                io::copy(&mut tar, &mut out)
                    .and_then(|_| out.flush())
                    .map_err(output_fault)?;
            }
            _ => return Err(Fault::new(codes::COPY_SIDES)),
        }
    }
    Ok(failure::status::OK)
}

fn unreadable(path: &Path) -> Fault {
    Fault::new(codes::FILE).arg("path", path.display())
}

/// What lies at a path inside: read from the head of its tar stream; none when nothing is there.
fn kind_inside(client: &Client, name: &str, path: &str) -> Result<Option<Kind>> {
    match client.read_files(name, path) {
        Ok(tar) => Ok(Reader::new(tar)
            .next_entry()
            .ok()
            .flatten()
            .map(|entry| entry.kind)),
        // The guest's own fault: nothing is there. Everything else is told when the copy itself begins.
        Err(_) => Ok(None),
    }
}

/// The last name of a path; none for `/`, `.` and `..`.
fn last_name(path: &str) -> Option<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    (!matches!(name, "" | "." | "..")).then_some(name)
}

fn split(path: &str) -> (&str, &str) {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", trimmed),
    }
}

/// Where a source lands: the directory that exists, and its name in there; an empty name means the contents go
/// straight into the directory.
#[derive(Debug, PartialEq, Eq)]
struct Landing {
    directory: String,
    name: String,
}

/// As cp(1): into a directory that exists under the source's own name, else as the target itself. `contents` (a
/// source that ends with `/.`) leaves the source's own name out.
fn landing(
    target: &str,
    is_directory: bool,
    source_name: Option<&str>,
    contents: bool,
    several: bool,
) -> Landing {
    let into = is_directory || several || target.ends_with('/');
    match source_name {
        Some(name) if into && !contents => Landing {
            directory: target.to_owned(),
            name: name.to_owned(),
        },
        _ if into => Landing {
            directory: target.to_owned(),
            name: String::new(),
        },
        _ => {
            let (parent, name) = split(target);
            Landing {
                directory: parent.to_owned(),
                name: name.to_owned(),
            }
        }
    }
}

fn to_guest(client: &Client, source: &str, name: &str, target: &str, several: bool) -> Result<()> {
    let path = PathBuf::from(source);
    let metadata = fs::metadata(&path).or_fault(|| unreadable(&path))?;
    let inside = kind_inside(client, name, target)?;
    let contents = source.ends_with("/.") || source == ".";
    let real = fs::canonicalize(&path).or_fault(|| unreadable(&path))?;
    let own = last_name(source)
        .map(str::to_owned)
        .or_else(|| Some(real.file_name()?.to_str()?.to_owned()));
    let lands = landing(
        target,
        matches!(inside, Some(Kind::Dir)),
        own.as_deref(),
        contents,
        several,
    );
    let (reader, writer) = io::pipe().or_fault(|| unreadable(&path))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(&real, &metadata, &lands.name, writer));
        let mut reader = reader;
        let sent = client.write_files(name, &lands.directory, &mut reader);
        drop(reader);
        let packed = packing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // When the guest refuses, packing breaks off too: the guest's fault tells why.
        sent.and(packed)
    })
}

/// The tree or file at a path as a tar stream under another name, owned by root as everything that is copied in.
fn pack(path: &Path, metadata: &fs::Metadata, name: &str, sink: impl Write) -> Result<()> {
    let mut writer = Writer::new(sink);
    if metadata.is_dir() {
        let prefix = if name.is_empty() {
            Vec::new()
        } else {
            format!("{name}/").into_bytes()
        };
        let options = PackOptions {
            prefix,
            owner: Some((0, 0)),
            ..PackOptions::default()
        };
        unpack::pack(&Root::open(path)?, &options, &mut writer)?;
    } else {
        use std::os::unix::fs::MetadataExt;
        let file = fs::File::open(path).or_fault(|| unreadable(path))?;
        let mut content = Steady::of(file, metadata.len()).or_fault(|| unreadable(path))?;
        let mut entry = Entry::new(name.as_bytes().to_vec(), Kind::File, metadata.mode() & 0o7777);
        entry.size = content.size();
        entry.mtime = (
            metadata.mtime(),
            u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        );
        writer.entry(&entry, &mut content)?;
    }
    writer.finish().map(drop)
}

fn from_guest(client: &Client, name: &str, source: &str, target: &Path, several: bool) -> Result<()> {
    // As cp(1): through a link of this host to what it means, and into a device or pipe rather than in its place.
    let real = fs::canonicalize(target).ok();
    let target = match &real {
        Some(real) if !target.is_dir() => real,
        _ => target,
    };
    if fs::metadata(target).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return write_into(client.read_files(name, source)?, target);
    }
    let text = target
        .to_str()
        .ok_or_else(|| Fault::new(codes::COPY_TARGET).arg("path", target.display()))?;
    let contents = source.ends_with("/.");
    let lands = landing(
        text,
        target.is_dir(),
        last_name(source.trim_end_matches("/.")),
        contents,
        several,
    );
    let relative = !text.starts_with('/') && lands.directory == "/";
    let directory = if relative {
        PathBuf::from(".")
    } else {
        PathBuf::from(&lands.directory)
    };
    if !directory.is_dir() {
        return Err(Fault::new(codes::COPY_TARGET).arg("path", directory.display()));
    }
    let tar = client.read_files(name, source)?;
    unpack_as(tar, &directory, &lands.name)
}

/// Writes the content of the one file that a guest sends into a device or pipe.
fn write_into(tar: impl Read, target: &Path) -> Result<()> {
    let mut reader = Reader::new(tar);
    let file = reader.next_entry()?.filter(|entry| entry.kind == Kind::File);
    if file.is_none() {
        return Err(Fault::new(unpack::OTHER_KIND).arg("path", target.display()));
    }
    let fault = || Fault::new(codes::FILE).arg("path", target.display());
    let mut sink = fs::File::options().write(true).open(target).or_fault(fault)?;
    io::copy(&mut reader, &mut sink).or_fault(fault).map(drop)
}

/// Unpacks what a guest sends below a directory; its first entry gets the name (none: its contents go straight in).
fn unpack_as(tar: impl Read, directory: &Path, name: &str) -> Result<()> {
    let root = Root::open(directory)?;
    let mut reader = Reader::new(tar);
    let mut extractor = Extractor::new(
        &root,
        Options {
            owners: false,
            devices: false,
            xattrs: false,
            keep_directories: true,
            keep_kinds: true,
        },
    );
    let mut top: Option<Vec<u8>> = None;
    while let Some(mut entry) = reader.next_entry()? {
        if matches!(entry.kind, Kind::Char(..) | Kind::Block(..) | Kind::Fifo) {
            continue;
        }
        let top = top.get_or_insert_with(|| trimmed(&entry.path));
        entry.path = renamed(&entry.path, top, name);
        if let Kind::HardLink(to) = &entry.kind {
            entry.kind = Kind::HardLink(renamed(to, top, name));
        }
        entry.mode &= 0o777;
        if entry.path.is_empty() {
            continue;
        }
        extractor.apply(&entry, &mut reader)?;
    }
    extractor.finish().map(drop)
}

fn trimmed(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    path[..end].to_vec()
}

/// A path of the archive with its top replaced by a name.
fn renamed(path: &[u8], top: &[u8], name: &str) -> Vec<u8> {
    let path = trimmed(path);
    let below = match path.strip_prefix(top) {
        Some(rest) if top.is_empty() || top == b"." || rest.is_empty() || rest.starts_with(b"/") => rest,
        _ => &path,
    };
    let below = below.strip_prefix(b"/").unwrap_or(below);
    match (name.is_empty(), below.is_empty()) {
        (true, _) => below.to_vec(),
        (false, true) => name.as_bytes().to_vec(),
        (false, false) => [name.as_bytes(), b"/", below].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_before_a_colon_is_a_guest() {
        assert_eq!(Side::of("web:/etc/x"), Side::Guest("web".into(), "/etc/x".into()));
        assert_eq!(Side::of("web:x"), Side::Guest("web".into(), "/root/x".into()));
        assert_eq!(Side::of("./web:x"), Side::Host("./web:x".into()));
        assert_eq!(Side::of("/a:b"), Side::Host("/a:b".into()));
        assert_eq!(Side::of("-"), Side::Stream);
    }

    #[test]
    fn things_land_where_cp_would_put_them() {
        let at = |directory: &str, name: &str| Landing {
            directory: directory.into(),
            name: name.into(),
        };
        assert_eq!(landing("/tmp", true, Some("a"), false, false), at("/tmp", "a"));
        assert_eq!(landing("/tmp/b", false, Some("a"), false, false), at("/tmp", "b"));
        assert_eq!(landing("/b", false, Some("a"), false, false), at("/", "b"));
        assert_eq!(
            landing("/tmp/new/", false, Some("a"), false, false),
            at("/tmp/new/", "a")
        );
        assert_eq!(landing("/tmp", true, Some("a"), true, false), at("/tmp", ""));
    }

    fn tar_of(entries: &[(&str, Kind, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, kind, data) in entries {
            let mut entry = Entry::new(path.as_bytes().to_vec(), kind.clone(), 0o4755);
            entry.size = data.len() as u64;
            writer.entry(&entry, &mut &data[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_tree_is_unpacked_under_its_new_name_without_dangerous_bits() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let tar = tar_of(&[
            ("etc/", Kind::Dir, b""),
            ("etc/a", Kind::File, b"hi"),
            ("etc/b", Kind::HardLink(b"etc/a".to_vec()), b""),
        ]);
        unpack_as(&tar[..], folder.path(), "copy").unwrap();
        assert_eq!(fs::read(folder.path().join("copy/b")).unwrap(), b"hi");
        let mode = fs::metadata(folder.path().join("copy/a"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7000, 0);
    }

    #[test]
    fn a_hostile_guest_writes_nothing_outside_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("in");
        fs::create_dir(&inner).unwrap();
        for entries in [
            vec![("../evil", Kind::File, &b"x"[..])],
            vec![("a/", Kind::Dir, b""), ("a/../../evil", Kind::File, b"x")],
            vec![
                ("a/", Kind::Dir, b""),
                ("a/l", Kind::Symlink(b"../..".to_vec()), b""),
                ("a/l/evil", Kind::File, b"x"),
            ],
            vec![
                ("a/", Kind::Dir, b""),
                ("a/l", Kind::HardLink(b"../../etc/passwd".to_vec()), b""),
            ],
        ] {
            let _ = unpack_as(&tar_of(&entries)[..], &inner, "copy");
            assert!(!folder.path().join("evil").exists());
        }
    }
}
