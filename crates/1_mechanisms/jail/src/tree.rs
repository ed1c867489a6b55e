//! The recipe of `posada jail DIR`: a program in a root tree, as simple as chroot and with nothing left behind.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use fault::{Fault, Result};

use crate::codes;
use crate::guest;
use crate::recipe::{Capabilities, Mount, MountKind, Namespaces, Ns, Process, Recipe, Root, Seccomp};

/// What the user of `posada jail` asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The root tree, absolute.
    pub dir: PathBuf,
    /// Program and arguments; the user's login shell when empty.
    pub argv: Vec<String>,
    /// Variables from the caller's environment, as [`fitting_env`] chooses them.
    pub host_env: BTreeMap<String, String>,
    /// Variables set inside.
    pub env: BTreeMap<String, String>,
    /// Namespaces shared with the host: `net` (which is shared in any case unless it is in `own`), `pid`, `uts`,
    /// `ipc`, `cgroup`.
    pub share: Vec<String>,
    /// Namespaces of its own beyond pid, uts and ipc: `net`, `cgroup`.
    pub own: Vec<String>,
    /// Mounts as `src:dst[:ro]`, the source absolute.
    pub mounts: Vec<String>,
    /// Content of the host's resolv.conf, shown inside while the jail lives.
    pub resolv_conf: Option<String>,
    /// Host name inside; the host's when absent.
    pub hostname: Option<String>,
    /// User inside.
    pub user: Option<String>,
    /// Working directory inside.
    pub cwd: Option<PathBuf>,
}

/// The recipe of a wish. Pure. The standard streams stay those of the caller, terminal and all.
///
/// # Errors
/// When a namespace in `share` or `own` is unknown or a mount is malformed.
pub fn recipe_for_tree(wish: &Wish) -> Result<Recipe> {
    let mut namespaces = Namespaces {
        net: Ns::Share,
        cgroup: Ns::Share,
        ..Namespaces::default()
    };
    for (names, what) in [(&wish.own, Ns::New), (&wish.share, Ns::Share)] {
        for name in names {
            match name.as_str() {
                "net" => namespaces.net = what,
                "pid" => namespaces.pid = what,
                "uts" => namespaces.uts = what,
                "ipc" => namespaces.ipc = what,
                "cgroup" => namespaces.cgroup = what,
                _ => return Err(Fault::new(codes::SHARE_UNKNOWN).arg("name", name)),
            }
        }
    }
    let mut env = wish.host_env.clone();
    env.extend(wish.env.clone());
    Ok(Recipe {
        ids: None,
        namespaces,
        root: Root::Tree {
            path: wish.dir.clone(),
            idmap: false,
            read_only: false,
        },
        mounts: mounts(wish)?,
        // Its root is the host's: what rules the host's kernel is only read.
        masked: guest::masked(),
        read_only_paths: guest::read_only_paths(),
        files: Vec::new(),
        hostname: wish.hostname.clone(),
        nics: Vec::new(),
        sysctls: BTreeMap::new(),
        rlimits: BTreeMap::new(),
        capabilities: capabilities(namespaces.net),
        seccomp: Seccomp::Guest,
        lsm: None,
        cgroup: None,
        oom_score_adj: None,
        process: Process {
            argv: wish.argv.clone(),
            env,
            cwd: wish.cwd.clone(),
            user: wish.user.clone(),
            ..Process::default()
        },
    })
}

/// Without a user namespace the jail's root is the host's: what rules the host as a whole is taken from it.
fn capabilities(net: Ns) -> Capabilities {
    let host = [
        "CAP_AUDIT_CONTROL",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_TTY_CONFIG",
    ];
    let names = guest::CAPABILITIES
        .iter()
        .filter(|name| !host.contains(name) && (net == Ns::New || **name != "CAP_NET_ADMIN"))
        .map(|name| (*name).to_owned())
        .collect();
    Capabilities::Only { names }
}

fn mounts(wish: &Wish) -> Result<Vec<Mount>> {
    let mount = |target: &str, what, read_only| Mount {
        target: target.into(),
        what,
        read_only,
    };
    let mut mounts = vec![
        mount("/proc", MountKind::Proc, false),
        mount("/sys", MountKind::Sys, true),
        mount("/dev", MountKind::Dev, false),
        mount(
            "/run",
            MountKind::Tmpfs {
                options: "mode=755,size=20%".into(),
            },
            false,
        ),
    ];
    if let Some(content) = &wish.resolv_conf {
        mounts.push(mount(
            &resolv_conf(&wish.dir),
            MountKind::Content {
                content: content.clone(),
            },
            true,
        ));
    }
    for text in &wish.mounts {
        mounts.push(parse_mount(text)?);
    }
    Ok(mounts)
}

/// Where name servers are read inside: a link that leads into /run (systemd-resolved's, resolvconf's) means a file that
/// only the running system has.
fn resolv_conf(dir: &Path) -> String {
    let plain = "/etc/resolv.conf";
    let Ok(target) = std::fs::read_link(dir.join("etc/resolv.conf")) else {
        return plain.to_owned();
    };
    let target = target.to_string_lossy().into_owned();
    let rooted = target.strip_prefix("../").map(|rest| format!("/{rest}"));
    let meant = rooted.unwrap_or(target);
    let inside = meant.starts_with("/run/") && !meant.split('/').any(|part| part == "..");
    if inside { meant } else { plain.to_owned() }
}

/// Reads `src:dst[:ro]`. Pure; whether the source exists shows when it is mounted.
///
/// # Errors
/// When it is anything else, or a path is not absolute or has `..` in it.
pub fn parse_mount(text: &str) -> Result<Mount> {
    let fault = || Fault::new(codes::MOUNT_MALFORMED).arg("text", text);
    let mut parts = text.split(':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(fault)?);
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) => return Err(fault()),
    };
    let sound = |path: &str| {
        Path::new(path).is_absolute()
            && !Path::new(path)
                .components()
                .any(|part| part == Component::ParentDir)
    };
    if parts.next().is_some() || !sound(source) || !sound(target) {
        return Err(fault());
    }
    let what = MountKind::Bind {
        source: source.into(),
        idmap: false,
        recursive: true,
    };
    Ok(Mount {
        target: target.into(),
        what,
        read_only,
    })
}

/// Those variables of the caller's environment that mean something inside: terminal and time zone as they are, and the
/// language as far as the tree has it – else C.UTF-8, so that no program inside complains. Looks into the tree.
#[must_use]
pub fn fitting_env(dir: &Path, host_env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in host_env {
        let plain = ["TERM", "COLORTERM", "TZ", "NO_COLOR", "LANGUAGE"].contains(&name.as_str());
        let language = name == "LANG" || name.starts_with("LC_");
        if plain || (language && has_locale(dir, value)) {
            env.insert(name.clone(), value.clone());
        }
    }
    let fallback = if has_locale(dir, "C.UTF-8") {
        "C.UTF-8"
    } else {
        "C"
    };
    env.entry("LANG".to_owned())
        .or_insert_with(|| fallback.to_owned());
    env
}

/// Whether the C library inside knows a locale: its directory, or its name in the archive of locales.
fn has_locale(dir: &Path, name: &str) -> bool {
    if name == "C" || name == "POSIX" {
        return true;
    }
    let (language, codeset) = name.split_once('.').unwrap_or((name, ""));
    let codeset: String = codeset
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    let normal = if codeset.is_empty() {
        language.to_owned()
    } else {
        format!("{language}.{codeset}")
    };
    if normal.is_empty() || normal.contains('/') {
        return false;
    }
    let Ok(root) = std::fs::File::open(dir) else {
        return false;
    };
    let places = Path::new("/usr/lib/locale");
    if [name, &normal]
        .iter()
        .any(|name| matches!(crate::place::find(&root, &places.join(name)), Ok(Some(_))))
    {
        return true;
    }
    let archive = crate::place::lookup(
        &root,
        &places.join("locale-archive"),
        rustix::fs::OFlags::NONBLOCK,
    );
    let Ok(archive) = archive.map(std::fs::File::from) else {
        return false;
    };
    let mut bytes = Vec::new();
    // Names stand in the archive's head.
    let head = std::io::Read::take(archive, 1 << 20);
    let read = std::io::Read::read_to_end(&mut { head }, &mut bytes);
    let wanted: Vec<u8> = [b"\0", normal.as_bytes(), b"\0"].concat();
    read.is_ok() && bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_the_hosts_and_the_rest_its_own_unless_asked_otherwise() {
        let plain = recipe_for_tree(&Wish {
            dir: "/t".into(),
            ..Wish::default()
        })
        .expect("a recipe");
        assert_eq!((plain.namespaces.net, plain.namespaces.pid), (Ns::Share, Ns::New));
        let wish = Wish {
            share: vec!["net".into(), "pid".into()],
            own: vec!["cgroup".into()],
            ..Wish::default()
        };
        let shared = recipe_for_tree(&wish).expect("a recipe");
        assert_eq!(
            (shared.namespaces.pid, shared.namespaces.cgroup),
            (Ns::Share, Ns::New)
        );
        assert!(
            recipe_for_tree(&Wish {
                share: vec!["time".into()],
                ..Wish::default()
            })
            .is_err()
        );
    }

    #[test]
    fn a_mount_is_source_target_and_perhaps_ro() {
        let mount = parse_mount("/srv/data:/data:ro").expect("a mount");
        assert!(mount.read_only && mount.target == Path::new("/data"));
        for broken in [
            "",
            "/a",
            "a:/b",
            "/a:b",
            "/a:/b:xx",
            "/a:/b:ro:ro",
            "/a:/../b",
            ":",
        ] {
            assert!(parse_mount(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_language_that_the_tree_lacks_becomes_c_utf8() {
        let tree = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(tree.path().join("usr/lib/locale/C.utf8")).expect("made");
        let host = BTreeMap::from(
            [
                ("LANG", "es_ES.UTF-8"),
                ("TERM", "xterm"),
                ("SECRET", "x"),
                ("LC_TIME", "C.UTF-8"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let env = fitting_env(tree.path(), &host);
        assert_eq!(env.get("LANG").map(String::as_str), Some("C.UTF-8"));
        assert_eq!(env.get("LC_TIME").map(String::as_str), Some("C.UTF-8"));
        assert_eq!(
            (env.contains_key("TERM"), env.contains_key("SECRET")),
            (true, false)
        );
    }
}
