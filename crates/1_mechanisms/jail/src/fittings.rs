//! Mounts inside the root: what each kind is made of, and putting it in its place.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fault::{Fault, OrFault, Result};
use hostos::mounting::{Change, attr, set};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mkdirat, mknodat, openat, statat,
    symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::codes;
use crate::place::{self, Kind};
use crate::recipe::{IdRange, Mount, MountKind};
use crate::roots::{attach_at, clone_tree};

/// The group that owns terminals, on every distribution.
pub(crate) const TTY_GROUP: u32 = 5;

const QUIET: u64 = attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC;

/// What the makers of mounts know of the jail.
pub(crate) struct Site<'a> {
    /// Directory of the root, attached.
    pub root: BorrowedFd<'a>,
    /// Ids of the jail as seen by the maker; absent when the maker already has the jail's ids, or there are none.
    pub ids: Option<IdRange>,
    /// User namespace for id-mapped mounts.
    pub user: Option<BorrowedFd<'a>>,
    /// A detached mount of the terminal that becomes /dev/console.
    pub console: Option<BorrowedFd<'a>>,
    /// Of [`scratch`].
    pub scratch: Option<BorrowedFd<'a>>,
}

impl Site<'_> {
    fn base(&self) -> u32 {
        self.ids.map_or(0, |ids| ids.base)
    }

    /// Runs `work` so that what it makes belongs to the jail's root.
    pub(crate) fn as_owner<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.ids {
            Some(ids) => hostos::ids::acting_as(ids.base, ids.base, work),
            None => work(),
        }
    }
}

/// Makes one mount of the recipe.
pub(crate) fn fit(site: &Site<'_>, mount: &Mount) -> Result<()> {
    let fault = || Fault::new(codes::MOUNT_FAILED).arg("target", mount.target.display());
    let (tree, kind) = match &mount.what {
        MountKind::Proc => (filesystem("proc", &[], QUIET).or_fault(fault)?, Kind::Directory),
        MountKind::Sys => (filesystem("sysfs", &[], QUIET).or_fault(fault)?, Kind::Directory),
        MountKind::Cgroup2 => (
            filesystem("cgroup2", &[], QUIET).or_fault(fault)?,
            Kind::Directory,
        ),
        MountKind::Mqueue => (filesystem("mqueue", &[], QUIET).or_fault(fault)?, Kind::Directory),
        MountKind::Devpts => (devpts(site).or_fault(fault)?, Kind::Directory),
        MountKind::Tmpfs { options } => (tmpfs(site, options).or_fault(fault)?, Kind::Directory),
        MountKind::Dev => return dev(site, mount).or_fault(fault),
        MountKind::Bind {
            source,
            idmap,
            recursive,
        } => {
            let fault = || fault().arg("source", source.display());
            let idmap = site.user.filter(|_| *idmap);
            let tree = clone_tree(source, *recursive, idmap, 0).or_fault(fault)?;
            let status = statat(&tree, c"", AtFlags::EMPTY_PATH).or_fault(fault)?;
            let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
            (tree, if directory { Kind::Directory } else { Kind::File })
        }
        MountKind::BareRoot => (bare(site.root).or_fault(fault)?, Kind::Directory),
        MountKind::Content { content } => (memory_file(site, content).or_fault(fault)?, Kind::File),
    };
    put(site, &tree, &mount.target, kind)?;
    if mount.read_only {
        let change = Change {
            set: attr::READ_ONLY,
            recursive: true,
            ..Change::default()
        };
        set(&tree, c"", change).or_fault(fault)?;
    }
    Ok(())
}

/// A detached copy of the root's own mount alone.
fn bare(root: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(root, c"", flags)
}

/// Attaches a detached mount at a path inside, which is made when missing.
fn put(site: &Site<'_>, tree: impl AsFd, target: &Path, kind: Kind) -> Result<()> {
    let place = match place::find(site.root, target)? {
        Some(place) => place,
        None => site.as_owner(|| place::find_or_make(site.root, target, kind))?,
    };
    attach(tree, &place).or_fault(|| Fault::new(codes::MOUNT_FAILED).arg("target", target.display()))
}

/// Attaches a detached mount at an open place.
pub(crate) fn attach(tree: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// A new, detached instance of a file system.
pub(crate) fn filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: u64,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", kind)?;
    for (name, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *name)?;
        } else {
            fsconfig_set_string(&context, *name, *value)?;
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn devpts(site: &Site<'_>) -> rustix::io::Result<OwnedFd> {
    let group = (site.base() + TTY_GROUP).to_string();
    let options = [
        ("newinstance", ""),
        ("ptmxmode", "0666"),
        ("mode", "0620"),
        ("gid", group.as_str()),
    ];
    filesystem("devpts", &options, attr::NO_SUID | attr::NO_EXEC)
}

/// A tmpfs with options as mount(8) takes them; it belongs to the jail's root.
fn tmpfs(site: &Site<'_>, options: &str) -> rustix::io::Result<OwnedFd> {
    let mut attributes = attr::NO_SUID | attr::NO_DEV;
    let (mut uid, mut gid) = (0, 0);
    let mut rest: Vec<(&str, &str)> = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let id = || value.parse::<u32>().map_err(|_| Errno::INVAL);
        match name {
            "uid" => uid = id()?,
            "gid" => gid = id()?,
            "ro" => attributes |= attr::READ_ONLY,
            "noexec" => attributes |= attr::NO_EXEC,
            "suid" => attributes &= !attr::NO_SUID,
            "rw" | "nosuid" | "nodev" | "exec" | "relatime" => {}
            _ => rest.push((name, value)),
        }
    }
    let (uid, gid) = ((site.base() + uid).to_string(), (site.base() + gid).to_string());
    rest.extend([("uid", uid.as_str()), ("gid", gid.as_str())]);
    filesystem("tmpfs", &rest, attributes)
}

/// Whether making these mounts needs a [`scratch`].
pub(crate) fn needs_scratch(mounts: &[&Mount]) -> bool {
    mounts
        .iter()
        .any(|mount| matches!(mount.what, MountKind::Content { .. }))
}

/// A tmpfs on the bench, from which single files are bound; to be made before the root is attached there.
pub(crate) fn scratch(bench: &Path) -> Result<OwnedFd> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let tree = filesystem("tmpfs", &[("mode", "755"), ("size", "4m")], QUIET)?;
        attach_at(&tree, bench)?;
        Ok(tree)
    };
    make().or_fault(|| Fault::new(codes::MOUNT_FAILED).arg("target", bench.display()))
}

/// A file that exists in memory only, as a detached mount.
fn memory_file(site: &Site<'_>, content: &str) -> rustix::io::Result<OwnedFd> {
    let scratch = site.scratch.ok_or(Errno::INVAL)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    // The name of a bound file cannot be given away again: the next one takes the next number.
    let free = |number: u32| format!("content-{number}");
    let mut number = 0;
    let file = loop {
        match openat(scratch, free(number), flags, Mode::from(0o644)) {
            Err(Errno::EXIST) => number += 1,
            other => break other?,
        }
    };
    rustix::fs::fchmod(&file, Mode::from(0o644))?;
    rustix::fs::fchown(
        &file,
        Some(Uid::from_raw(site.base())),
        Some(Gid::from_raw(site.base())),
    )?;
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(scratch, free(number), flags)
}

/// Device nodes of every jail: name, major and minor number.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links of every jail.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The minimal /dev. Nodes are made where the kernel lets us, else bound from the host's.
fn dev(site: &Site<'_>, mount: &Mount) -> Result<(), Fault> {
    let fault = || Fault::new(codes::MOUNT_FAILED).arg("target", mount.target.display());
    let base = site.base().to_string();
    let options = [
        ("mode", "755"),
        ("size", "4m"),
        ("nr_inodes", "64k"),
        ("uid", &base),
        ("gid", &base),
    ];
    let tree = filesystem("tmpfs", &options, attr::NO_SUID | attr::NO_EXEC).or_fault(fault)?;
    let mut bound = Vec::new();
    for (name, major, minor) in NODES {
        match node(site, &tree, name, makedev(major, minor)) {
            Err(Errno::PERM) => bound.push(name),
            other => other.or_fault(fault)?,
        }
    }
    site.as_owner(|| -> rustix::io::Result<()> {
        for (name, target) in LINKS {
            symlinkat(target, &tree, name)?;
        }
        for name in ["pts", "shm", "mqueue"] {
            mkdirat(&tree, name, Mode::from(0o755))?;
        }
        for name in bound.iter().copied().chain(site.console.map(|_| "console")) {
            empty_file(&tree, name)?;
        }
        Ok(())
    })
    .or_fault(fault)?;
    put(site, &tree, &mount.target, Kind::Directory)?;
    let parts = || -> rustix::io::Result<()> {
        let inside = |name: &str| {
            openat(
                &tree,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        attach(devpts(site)?, inside("pts")?)?;
        attach(tmpfs(site, "mode=1777")?, inside("shm")?)?;
        attach(filesystem("mqueue", &[], QUIET)?, inside("mqueue")?)?;
        for name in bound {
            attach(
                clone_tree(&Path::new("/dev").join(name), false, None, 0)?,
                inside(name)?,
            )?;
        }
        if let Some(console) = site.console {
            attach(console, inside("console")?)?;
        }
        Ok(())
    };
    parts().or_fault(fault)
}

fn empty_file(dir: impl AsFd, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::from(0o644)).map(drop)
}

fn node(site: &Site<'_>, dir: impl AsFd, name: &str, device: u64) -> rustix::io::Result<()> {
    mknodat(&dir, name, FileType::CharacterDevice, Mode::from(0o666), device)?;
    rustix::fs::chmodat(&dir, name, Mode::from(0o666), AtFlags::empty())?;
    let (owner, group) = (
        site.base(),
        site.base() + if name == "tty" { TTY_GROUP } else { 0 },
    );
    chownat(
        &dir,
        name,
        Some(Uid::from_raw(owner)),
        Some(Gid::from_raw(group)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// A detached mount of the terminal that a descriptor refers to; nothing when it is no terminal of this mount
/// namespace.
pub(crate) fn console(stdin: impl AsFd) -> Option<OwnedFd> {
    if !rustix::termios::isatty(&stdin) {
        return None;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let path = format!("/proc/self/fd/{}", stdin.as_fd().as_raw_fd());
    open_tree(CWD, path, flags).ok()
}

/// Covers paths inside by an empty file or directory, read-only. What does not exist is skipped.
pub(crate) fn mask(
    root: BorrowedFd<'_>,
    scratch: BorrowedFd<'_>,
    paths: &[std::path::PathBuf],
) -> Result<()> {
    let mut made = false;
    for path in paths {
        let Some(place) = place::find(root, path)? else {
            continue;
        };
        let fault = || Fault::new(codes::MOUNT_FAILED).arg("target", path.display());
        let status = statat(&place, c"", AtFlags::EMPTY_PATH).or_fault(fault)?;
        let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        if !std::mem::replace(&mut made, true) {
            nothing(scratch).or_fault(fault)?;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let cover = open_tree(scratch, if directory { c"d" } else { c"f" }, flags).or_fault(fault)?;
        set(
            &cover,
            c"",
            Change {
                set: attr::READ_ONLY,
                ..Change::default()
            },
        )
        .or_fault(fault)?;
        attach(cover, &place).or_fault(fault)?;
    }
    Ok(())
}

/// Makes an empty file `f` and an empty directory `d`.
fn nothing(scratch: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(scratch, c"f", flags, Mode::from(0o000))?);
    mkdirat(scratch, c"d", Mode::from(0o000))
}

/// Makes paths inside read-only, with all mounts below them. What does not exist is skipped.
pub(crate) fn freeze(root: BorrowedFd<'_>, paths: &[std::path::PathBuf]) -> Result<()> {
    for path in paths {
        let Some(place) = place::find(root, path)? else {
            continue;
        };
        let fault = || Fault::new(codes::MOUNT_FAILED).arg("target", path.display());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&place, c"", flags).or_fault(fault)?;
        let change = Change {
            set: attr::READ_ONLY,
            recursive: true,
            ..Change::default()
        };
        set(&tree, c"", change).or_fault(fault)?;
        attach(tree, &place).or_fault(fault)?;
    }
    Ok(())
}
