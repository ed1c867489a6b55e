//! The child's side of a process: from a fork of the agent to the program, as processes in containers are started.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use jail::codes::{CONFINEMENT_FAILED, CWD_FAILED, EXEC_FAILED, STREAMS_FAILED};
use jail::users::{self, User};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::Resource;

use crate::protocol::Exec;

/// Where programs are looked up.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Group `tty` in every distribution.
const TTY_GROUP: u32 = 5;
/// The kernel's own limit of open files, which programs may raise.
const USUAL_FILES: u64 = 1024;
/// Where systems keep `LANG=…`: Debian's file for PAM (locale.gen(5)), and locale.conf(5).
const LOCALE_FILES: [&str; 2] = ["/etc/default/locale", "/etc/locale.conf"];

/// The three standard streams of a child.
#[derive(Debug)]
pub struct Streams {
    /// Standard input; a terminal becomes the controlling one.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// Makes the calling process, a fresh fork, the leader of a session with these streams.
///
/// # Errors
/// Those of setsid(2) and dup2(2).
pub fn take_streams(streams: &Streams) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    rustix::stdio::dup2_stdin(&streams.stdin)?;
    rustix::stdio::dup2_stdout(&streams.stdout)?;
    rustix::stdio::dup2_stderr(&streams.stderr)
}

/// Becomes the program. Comes back only with what went wrong.
#[must_use]
pub fn become_program(exec: &Exec, streams: &Streams) -> Fault {
    let Err(fault) = prepare(exec, streams).and_then(|user| execute(exec, &user));
    fault
}

fn prepare(exec: &Exec, streams: &Streams) -> Result<User> {
    let fault = || Fault::new(STREAMS_FAILED);
    take_streams(streams).or_fault(fault)?;
    if exec.terminal.is_some() {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).or_fault(fault)?;
    }
    hostos::process::unblock_signals();
    rustix::process::umask(Mode::from(0o022));
    let user = users::resolve(exec.user.as_deref(), &read("/etc/passwd"), &read("/etc/group"))?;
    own_streams(&user, exec.terminal.is_some());
    limit_files();
    become_user(&user)?;
    let home = Path::new(&user.home);
    let wanted = exec.workdir.as_deref().map_or(home, Path::new);
    if let Err(error) = rustix::process::chdir(wanted) {
        let cannot = |path: &Path| Fault::new(CWD_FAILED).arg("path", path.display());
        if exec.workdir.is_some() {
            return Err(cannot(wanted).because(error));
        }
        rustix::process::chdir("/").or_fault(|| cannot(Path::new("/")))?;
    }
    Ok(user)
}

/// The user may open its streams again through /dev/stdout and its terminal by name.
fn own_streams(user: &User, terminal: bool) {
    let (group, mode) = if terminal {
        (TTY_GROUP, 0o620)
    } else {
        (user.gid, 0o600)
    };
    let own = |stream: rustix::fd::BorrowedFd<'_>| {
        let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(group)));
        let _ = rustix::fs::fchmod(stream, Mode::from_raw_mode(mode));
    };
    own(rustix::stdio::stdin());
    if !terminal {
        own(rustix::stdio::stdout());
        own(rustix::stdio::stderr());
    }
}

/// The agent may have more files open than programs expect.
fn limit_files() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = Some(limit.maximum.map_or(USUAL_FILES, |most| most.min(USUAL_FILES)));
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

fn become_user(user: &User) -> Result<()> {
    let fault = || Fault::new(CONFINEMENT_FAILED).arg("what", "ids");
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups).or_fault(fault)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).or_fault(fault)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).or_fault(fault)
}

/// The guest's own words about the user and the language, below what the caller asked for.
fn environment(exec: &Exec, user: &User) -> BTreeMap<String, String> {
    let mut env = exec.env.clone();
    let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
    let mut default = |key: &str, value: &str| {
        env.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    };
    default("PATH", PATH);
    default("HOME", &user.home);
    default("USER", &name);
    default("LOGNAME", &name);
    default("SHELL", &user.shell);
    if exec.terminal.is_some() {
        default("TERM", "xterm-256color");
    }
    if !exec.env.contains_key("LC_ALL")
        && let Some(language) = language_here()
    {
        default("LANG", &language);
    }
    env
}

fn execute(exec: &Exec, user: &User) -> Result<std::convert::Infallible> {
    let env = environment(exec, user);
    let c_string =
        |text: String| CString::new(text.clone()).or_fault(|| Fault::new(EXEC_FAILED).arg("program", text));
    let words = |list: Vec<String>| list.into_iter().map(c_string).collect::<Result<Vec<_>>>();
    let path = env.get("PATH").map_or(PATH, String::as_str).to_owned();
    let env = words(env.iter().map(|(key, value)| format!("{key}={value}")).collect())?;
    let (program, argv) = match exec.argv.first() {
        Some(program) => (program.clone(), exec.argv.clone()),
        None => {
            let name = user.shell.rsplit('/').next().unwrap_or("sh");
            (user.shell.clone(), vec![format!("-{name}")])
        }
    };
    let argv = words(argv)?;
    let fault = |error: std::io::Error| Fault::new(EXEC_FAILED).arg("program", &program).because(error);
    if program.contains('/') {
        return Err(fault(hostos::exec::exec(
            &c_string(program.clone())?,
            &argv,
            &env,
        )));
    }
    let mut worst = std::io::Error::from_raw_os_error(libc::ENOENT);
    for dir in path.split(':').filter(|dir| !dir.is_empty()) {
        let error = hostos::exec::exec(&c_string(format!("{dir}/{program}"))?, &argv, &env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => worst = error,
            _ => return Err(fault(error)),
        }
    }
    Err(fault(worst))
}

/// The value of LANG for whoever is inside: what the files say, else C.UTF-8 where the C library has it.
fn language_here() -> Option<String> {
    let told = LOCALE_FILES.iter().find_map(|file| language(&read(file)));
    told.or_else(|| {
        let plain = Path::new("/usr/lib/locale/C.utf8").is_dir();
        plain.then(|| "C.UTF-8".to_owned())
    })
}

/// LANG in a file of shell-like assignments; a value with anything odd is none.
fn language(text: &str) -> Option<String> {
    let assigned = |line: &'_ str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix("LANG=").map(str::to_owned)
    };
    let value = text.lines().filter_map(assigned).next_back()?;
    let value = value.trim().trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    (!value.is_empty() && value.len() < 64 && value.chars().all(plain)).then(|| value.to_owned())
}

/// A file of the guest; empty when it is none, or is no regular file.
pub fn read(path: &str) -> String {
    let open = || -> std::io::Result<String> {
        // Without O_NONBLOCK a named pipe in the place of the file would hold us for ever.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = std::fs::File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(file.as_fd())?.st_mode);
        if !kind.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(users::FILE_LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    open().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_read_from_assignments() {
        for (text, wanted) in [
            ("LANG=es_ES.UTF-8\n", Some("es_ES.UTF-8")),
            ("# LANG=x\nexport LANG=\"de_DE.UTF-8\"\n", Some("de_DE.UTF-8")),
            ("LANG=a\nLANG=ca_ES@valencia", Some("ca_ES@valencia")),
            ("LANG=$(reboot)", None),
            ("LC_ALL=x\nLANGUAGE=es\nLANG=", None),
        ] {
            assert_eq!(language(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn what_was_asked_for_wins_over_what_the_guest_says() {
        let user = users::resolve(Some("1000"), "ana:x:1000:1000::/home/ana:/bin/zsh\n", "").unwrap();
        let exec = Exec {
            env: BTreeMap::from([("HOME".into(), "/srv".into())]),
            terminal: Some((1, 1)),
            ..Exec::default()
        };
        let env = environment(&exec, &user);
        let get = |key: &str| env.get(key).map(String::as_str);
        assert_eq!(
            (get("HOME"), get("USER"), get("SHELL")),
            (Some("/srv"), Some("ana"), Some("/bin/zsh"))
        );
        assert_eq!(get("TERM"), Some("xterm-256color"));
    }
}
