//! The last steps before exec, the same for the first process of a jail and for those that enter it.

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use rustix::fs::{Gid, Uid};
use rustix::process::DumpableBehavior;

use crate::codes;
use crate::prepare::Bounds;
use crate::recipe::{Lsm, Process};
use crate::users::{self, User};
use crate::{Stdio, caps, locale};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Keeps processes of the jail away from this one (ptrace, /proc/PID) until it executes its program.
pub(crate) fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .or_fault(|| Fault::new(codes::CONFINEMENT_FAILED).arg("what", "dumpable"))
}

/// Makes the streams the standard ones.
pub(crate) fn take_streams(stdio: &Stdio) -> Result<()> {
    let fault = || Fault::new(codes::STREAMS_FAILED);
    // Numbers 0-2 may themselves be among the sources.
    let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let (stdin, stdout, stderr) = (copy(&stdio.stdin), copy(&stdio.stdout), copy(&stdio.stderr));
    rustix::stdio::dup2_stdin(stdin.or_fault(fault)?).or_fault(fault)?;
    rustix::stdio::dup2_stdout(stdout.or_fault(fault)?).or_fault(fault)?;
    rustix::stdio::dup2_stderr(stderr.or_fault(fault)?).or_fault(fault)
}

/// Becomes root of the user namespace that the process is in.
pub(crate) fn become_root() -> Result<()> {
    become_ids(0, 0, &[])
}

fn become_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    let fault = || Fault::new(codes::CONFINEMENT_FAILED).arg("what", "ids");
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&groups).or_fault(fault)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).or_fault(fault)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).or_fault(fault)
}

/// Opens the attribute by which the label of the next exec is set, in the host's own /proc: a guest's may be anything.
pub(crate) fn label_file(lsm: Option<&Lsm>, proc: impl AsFd) -> Result<Option<OwnedFd>> {
    let Some(lsm) = lsm else { return Ok(None) };
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let open = |path: &str| rustix::fs::openat(&proc, path, flags, rustix::fs::Mode::empty());
    let file = match lsm {
        Lsm::AppArmor { .. } => {
            open("thread-self/attr/apparmor/exec").or_else(|_| open("thread-self/attr/exec"))
        }
        Lsm::SeLinux { .. } => open("thread-self/attr/exec"),
    };
    file.map(Some).or_fault(|| label_fault(lsm))
}

fn label_fault(lsm: &Lsm) -> Fault {
    let label = match lsm {
        Lsm::AppArmor { profile } => profile,
        Lsm::SeLinux { context } => context,
    };
    Fault::new(codes::LABEL_REFUSED).arg("label", label)
}

fn set_label(lsm: &Lsm, file: OwnedFd) -> Result<()> {
    let text = match lsm {
        Lsm::AppArmor { profile } => format!("exec {profile}"),
        Lsm::SeLinux { context } => context.clone(),
    };
    std::fs::File::from(file)
        .write_all(text.as_bytes())
        .or_fault(|| label_fault(lsm))
}

/// Confines the calling process, which is root of its jail and in its root directory, and executes the program.
/// Comes back only with what went wrong.
pub(crate) fn confine_and_exec(
    process: &Process,
    bounds: &Bounds,
    label: Option<OwnedFd>,
    die_with_parent: bool,
) -> Fault {
    let Err(fault) =
        confine(process, bounds, label, die_with_parent).and_then(|user| execute(process, &user));
    fault
}

/// Confines the calling process as [`confine_and_exec`] does and runs the work instead of a program; `pipe` closes
/// before, as exec would close it. The code that the work ends with.
pub(crate) fn confine_and_work(
    process: &Process,
    bounds: &Bounds,
    pipe: OwnedFd,
    work: &dyn Fn() -> i32,
) -> i32 {
    match confine(process, bounds, None, true) {
        Ok(_) => {
            drop(pipe);
            work()
        }
        Err(fault) => {
            crate::report::tell_fault(&pipe, &fault);
            1
        }
    }
}

fn confine(
    process: &Process,
    bounds: &Bounds,
    label: Option<OwnedFd>,
    die_with_parent: bool,
) -> Result<User> {
    let what = |what: &'static str| move || Fault::new(codes::CONFINEMENT_FAILED).arg("what", what);
    let mut user = users::resolve_here(process.user.as_deref())?;
    user.groups.extend(&process.groups);
    session(process)?;
    hostos::process::unblock_signals();
    rustix::process::umask(rustix::fs::Mode::from(0o022));
    if let (Some(lsm), Some(file)) = (&bounds.lsm, label) {
        set_label(lsm, file)?;
    }
    if let Some(mask) = bounds.capabilities {
        caps::bound(mask)?;
    }
    let no_new_privs = process.no_new_privs || bounds.no_new_privs;
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which goes with the next steps; with it, it comes last.
    if let Some(filter) = bounds.filter.as_ref().filter(|_| !no_new_privs) {
        hostos::seccomp::load(filter).or_fault(what("seccomp"))?;
    }
    let home_or_root = process.cwd.is_none();
    let cwd = process.cwd.as_deref().unwrap_or(Path::new(&user.home));
    become_ids_and_limit(&user, bounds)?;
    if let Err(error) = rustix::process::chdir(cwd) {
        if !home_or_root {
            return Err(Fault::new(codes::CWD_FAILED)
                .arg("path", cwd.display())
                .because(error));
        }
        rustix::process::chdir("/").or_fault(|| Fault::new(codes::CWD_FAILED).arg("path", "/"))?;
    }
    if die_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .or_fault(what("parent"))?;
    }
    if no_new_privs {
        rustix::thread::set_no_new_privs(true).or_fault(what("no_new_privs"))?;
        if let Some(filter) = &bounds.filter {
            hostos::seccomp::load(filter).or_fault(what("seccomp"))?;
        }
    }
    Ok(user)
}

fn become_ids_and_limit(user: &User, bounds: &Bounds) -> Result<()> {
    become_ids(user.uid, user.gid, &user.groups)?;
    // Another uid than root's has lost its capabilities by that already.
    caps::limit(bounds.capabilities)
}

/// Gives the process a session of its own, unless it shares the terminal of whoever started it.
fn session(process: &Process) -> Result<()> {
    let fault = || Fault::new(codes::STREAMS_FAILED);
    let stdin = rustix::stdio::stdin();
    if process.terminal {
        rustix::process::setsid().or_fault(fault)?;
        rustix::process::ioctl_tiocsctty(stdin).or_fault(fault)?;
    } else if !rustix::termios::isatty(stdin) {
        // Fails only for the leader of a group, who then is the leader already.
        let _ = rustix::process::setsid();
    }
    Ok(())
}

/// The jail's own words about the user and the language, below what the caller asked for.
fn environment(process: &Process, user: &User) -> Result<Vec<CString>> {
    let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
    let mut env = process.env.clone();
    for (key, value) in [
        ("HOME", &user.home),
        ("USER", &name),
        ("LOGNAME", &name),
        ("SHELL", &user.shell),
    ] {
        env.entry(key.to_owned()).or_insert_with(|| value.clone());
    }
    env.entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    if !env.contains_key("LANG")
        && !env.contains_key("LC_ALL")
        && let Some(language) = locale::language_here()
    {
        env.insert("LANG".to_owned(), language);
    }
    env.iter()
        .map(|(key, value)| c_string(OsStr::new(&format!("{key}={value}"))))
        .collect()
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).or_fault(|| Fault::new(codes::EXEC_FAILED).arg("program", text.display()))
}

fn execute(process: &Process, user: &User) -> Result<std::convert::Infallible> {
    let env = environment(process, user)?;
    let login = format!("-{}", user.shell.rsplit('/').next().unwrap_or("sh"));
    let (program, argv) = match process.argv.first() {
        Some(program) => (program.as_str(), process.argv.clone()),
        None => (user.shell.as_str(), vec![login]),
    };
    let argv = argv
        .iter()
        .map(|word| c_string(OsStr::new(word)))
        .collect::<Result<Vec<_>>>()?;
    let fault = |error: std::io::Error| {
        Fault::new(codes::EXEC_FAILED)
            .arg("program", program)
            .because(error)
    };
    if program.contains('/') {
        return Err(fault(hostos::exec::exec(
            &c_string(OsStr::new(program))?,
            &argv,
            &env,
        )));
    }
    let mut worst = std::io::Error::from_raw_os_error(libc::ENOENT);
    let path = process.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    for dir in path.split(':').filter(|dir| !dir.is_empty()) {
        let error = hostos::exec::exec(&c_string(Path::new(dir).join(program).as_os_str())?, &argv, &env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => worst = error,
            _ => return Err(fault(error)),
        }
    }
    Err(fault(worst))
}

/// Moves the report pipe and the label file to the first numbers after the standard streams and closes everything
/// else. All other descriptors of the process are gone afterwards; nothing that owns one may be used or dropped.
pub(crate) fn close_all_but(
    pipe: BorrowedFd<'_>,
    label: Option<OwnedFd>,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let fault = || Fault::new(codes::CONFINEMENT_FAILED).arg("what", "descriptors");
    // Out of the way of the numbers 3 and 4 first.
    let far = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 16);
    let moved_pipe = far(pipe).or_fault(fault)?;
    let moved_label = label.map(|fd| far(fd.as_fd())).transpose().or_fault(fault)?;
    hostos::descriptors::place(moved_pipe, 3).or_fault(fault)?;
    let mut next = 4;
    if let Some(fd) = moved_label {
        hostos::descriptors::place(fd, 4).or_fault(fault)?;
        next = 5;
    }
    hostos::descriptors::close_from(next).or_fault(fault)?;
    let label = (next == 5)
        .then(|| hostos::descriptors::inherited(4))
        .transpose()
        .or_fault(fault)?;
    Ok((hostos::descriptors::inherited(3).or_fault(fault)?, label))
}
