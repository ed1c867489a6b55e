//! The root tree of a jail, assembled in the private mount namespace of a process with the caller's rights.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fault::{Fault, OrFault, Result};
use hostos::mounting::{Change, attr, set};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat, statat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::codes;
use crate::fittings;
use crate::recipe::{IdRange, Root};

/// Longest value of one mount option that older kernels take, in bytes.
const OPTION_LIMIT: usize = 255;

/// Where in the host's tree the root is attached while it is put together: on its own directory. (Not on `/`: the old
/// root could not be left then.)
pub(crate) fn bench(root: &Root) -> &Path {
    let path = match root {
        Root::Tree { path, .. } => path,
        Root::Overlay { upper, .. } => upper,
    };
    if path != Path::new("/") {
        return path;
    }
    let spare = ["/mnt", "/srv", "/opt", "/media", "/tmp"].map(Path::new);
    spare.into_iter().find(|path| path.is_dir()).unwrap_or(path)
}

/// A root that is attached, and what is attached below it for making its fittings.
pub(crate) struct Assembled {
    /// Directory of the root.
    pub root: OwnedFd,
    /// Of [`crate::fittings::scratch`], when it was asked for.
    pub scratch: Option<OwnedFd>,
}

/// Mounts the root on its [`bench`] in this mount namespace, over a scratch directory if one is needed. The process's
/// own root stays what it was.
pub(crate) fn assemble(
    root: &Root,
    ids: Option<IdRange>,
    user: Option<BorrowedFd<'_>>,
    needs_scratch: bool,
) -> Result<Assembled> {
    let (path, mount) = match root {
        Root::Tree { path, idmap, .. } => {
            let fault = || Fault::new(codes::ROOT_FAILED).arg("path", path.display());
            (
                path,
                clone_tree(path, !*idmap, user.filter(|_| *idmap), 0).or_fault(fault)?,
            )
        }
        Root::Overlay { layers, upper, work } => {
            let fault = || Fault::new(codes::ROOT_FAILED).arg("path", upper.display());
            let mount = match overlay(layers, upper, work, user, None) {
                // Before Linux 6.15 layers must be attached somewhere.
                Err(Errno::INVAL) => overlay(layers, upper, work, user, Some(upper)),
                other => other,
            }
            .or_fault(fault)?;
            // When the work directory cannot be used the kernel silently falls back to a read-only overlay.
            if fstatvfs(&mount)
                .or_fault(fault)?
                .f_flag
                .contains(StatVfsMountFlags::RDONLY)
            {
                return Err(Fault::new(codes::ROOT_READ_ONLY).arg("path", upper.display()));
            }
            (upper, mount)
        }
    };
    let fault = || Fault::new(codes::ROOT_FAILED).arg("path", path.display());
    if let Some(ids) = ids {
        let owner = statat(&mount, c"", AtFlags::EMPTY_PATH).or_fault(fault)?.st_uid;
        if !(ids.base..ids.base.saturating_add(ids.count)).contains(&owner) {
            return Err(Fault::new(codes::ROOT_FOREIGN)
                .arg("path", path.display())
                .arg("owner", owner));
        }
    }
    let scratch = needs_scratch
        .then(|| fittings::scratch(bench(root)))
        .transpose()?;
    attach_at(&mount, bench(root)).or_fault(fault)?;
    Ok(Assembled { root: mount, scratch })
}

/// Puts a detached mount on top of whatever is mounted at a path of the host.
pub(crate) fn attach_at(mount: impl AsFd, path: &Path) -> rustix::io::Result<()> {
    move_mount(mount, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A detached copy of the mount (or part of it) at `path` on the host, private, perhaps id-mapped.
pub(crate) fn clone_tree(
    path: &Path,
    recursive: bool,
    idmap: Option<BorrowedFd<'_>>,
    attributes: u64,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags)?;
    let change = Change {
        set: attributes,
        idmap,
        private: true,
        recursive,
        clear: 0,
    };
    set(&tree, c"", change).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(tree)
}

fn overlay(
    layers: &[std::path::PathBuf],
    upper: &Path,
    work: &Path,
    user: Option<BorrowedFd<'_>>,
    bench: Option<&Path>,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let work = openat(CWD, work, flags, Mode::empty())?;
    let upper = openat(CWD, upper, flags, Mode::empty())?;
    let mut lowers = Vec::with_capacity(layers.len());
    for layer in layers {
        let lower = clone_tree(layer, false, user, attr::READ_ONLY)?;
        if let Some(bench) = bench {
            attach_at(&lower, bench)?;
        }
        lowers.push(lower);
    }
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let names: Vec<String> = lowers.iter().map(name).collect();
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"posada")?;
    let together = names.join(":");
    if together.len() <= OPTION_LIMIT {
        fsconfig_set_string(&context, c"lowerdir", together)?;
    } else {
        for name in &names {
            fsconfig_set_string(&context, c"lowerdir+", name.as_str())?;
        }
    }
    fsconfig_set_string(&context, c"upperdir", name(&upper))?;
    fsconfig_set_string(&context, c"workdir", name(&work))?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}
