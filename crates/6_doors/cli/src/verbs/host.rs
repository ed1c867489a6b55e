//! bootstrap, jail: trees on this host, without the daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgMatches, Command, ValueHint};
use clap_complete::ArgValueCandidates;
use fault::{Fault, OrFault, Result};
use images::{BootstrapRequest, Summary, Variant};
use jail::recipe::IdRange;
use jail::tree::Wish;
use model::{Progress, Watcher};

use crate::context::Context;
use crate::grammar::{choice, option, positional, rest, several};
use crate::progress::Shown;
use crate::verbs::launch::{image, list};
use crate::{codes, failure, live, output, parse};

/// Where downloads are kept in system mode.
const CACHE_DIR: &str = "/var/cache/posada";

/// Host ids in which trees are made: the range that the daemon uses for images too.
const IDS: IdRange = IdRange {
    base: 0x7000_0000,
    count: 65_536,
};

fn root_only() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Fault::new(codes::NEEDS_ROOT))
    }
}

/// An executable that lies beside this program.
fn beside(name: &str) -> Result<PathBuf> {
    let failed = || {
        Fault::new(codes::PROGRAM)
            .arg("program", name)
            .arg("package", "posada")
    };
    let path = std::env::current_exe().or_fault(failed)?.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(failed().because_of(path.display().to_string()))
    }
}

/// Grammar of `bootstrap`.
pub fn bootstrap_grammar(command: Command) -> Command {
    command
        .arg(
            positional("image", "IMAGE")
                .required(true)
                .add(ArgValueCandidates::new(live::images)),
        )
        .arg(
            positional("target", "DIR|FILE")
                .required(true)
                .value_hint(ValueHint::AnyPath),
        )
        .arg(option("arch", "ARCH"))
        .arg(choice("variant", "VARIANT", &["minbase", "standard", "buildd"]))
        .arg(several("include", "A,B"))
        .arg(several("exclude", "A,B"))
        .arg(option("mirror", "URL").value_hint(ValueHint::Url))
        .arg(several("components", "A,B"))
        .arg(option("keyring", "FILE").value_hint(ValueHint::FilePath))
        .arg(option("cache-dir", "DIR").value_hint(ValueHint::DirPath))
}

/// `bootstrap`.
pub fn bootstrap(context: &Context, matches: &ArgMatches) -> Result<u8> {
    root_only()?;
    let here = std::env::current_dir().or_fault(|| Fault::new(codes::FILE).arg("path", "."))?;
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let target = text("target").unwrap_or_default();
    let request = BootstrapRequest {
        image: image(&text("image").unwrap_or_default(), &here)?,
        target: here.join(&target),
        arch: text("arch"),
        variant: match text("variant").as_deref() {
            Some("standard") => Variant::Standard,
            Some("buildd") => Variant::Buildd,
            _ => Variant::Minbase,
        },
        include: list(matches, "include"),
        exclude: list(matches, "exclude"),
        components: list(matches, "components"),
        mirror: text("mirror"),
        keyring: text("keyring").map(|path| here.join(path)),
        cache_dir: text("cache-dir").map_or_else(|| PathBuf::from(CACHE_DIR), |path| here.join(path)),
        worker_exe: beside("posada-worker")?,
        shim_exe: beside("posada-shim")?,
        ids: IDS,
        patience: images::Patience::default(),
        now: None,
    };
    let summary = watched(context, |watcher| images::bootstrap(&request, watcher))?;
    if let Some(text) = output::record(context, &output::json(&summary)) {
        context.print(&text)?;
    }
    let args = [
        ("target", target.into()),
        ("packages", summary.packages.len().into()),
        ("size", model::Size(summary.size).to_string().into()),
        ("fetched", model::Size(summary.fetched).to_string().into()),
    ];
    context.note("cli-bootstrapped", &args);
    for note in &summary.notes {
        let (id, name) = note.split_once(' ').unwrap_or((note, ""));
        context.note(id, &[("name", name.into())]);
    }
    Ok(failure::status::OK)
}

/// What the work tells, kept for the thread that shows it.
#[derive(Default)]
struct Board {
    latest: Mutex<Option<Progress>>,
    cancelled: Arc<AtomicBool>,
}

impl Watcher for Board {
    fn progress(&self, progress: Progress) {
        if let Ok(mut latest) = self.latest.lock() {
            *latest = Some(progress);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Does long work in this process and shows how far it is; Ctrl-C asks it to end, which undoes it.
fn watched(context: &Context, work: impl FnOnce(&dyn Watcher) -> Result<Summary> + Send) -> Result<Summary> {
    let board = Board::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without the handler Ctrl-C ends the program at once, and the next run cleans up.
        let _ = signal_hook::flag::register(signal, Arc::clone(&board.cancelled));
    }
    let mut shown = Shown::new(context);
    let outcome = std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&board));
        while !working.is_finished() {
            let latest = board.latest.lock().ok().and_then(|mut latest| latest.take());
            match latest {
                Some(progress) => shown.show(&progress),
                None => shown.tick(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        working.join()
    });
    shown.close();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Grammar of `jail`.
pub fn jail_grammar(command: Command) -> Command {
    command
        .arg(
            positional("dir", "DIR")
                .required(true)
                .value_hint(ValueHint::DirPath),
        )
        .arg(rest())
        .arg(several("share", "A,B"))
        .arg(several("own", "A,B"))
        .arg(several("mount", "HOST:GUEST[:ro]").value_hint(ValueHint::DirPath))
        .arg(several("env", "KEY=VALUE").short('e'))
        .arg(option("user", "USER").short('u'))
        .arg(option("hostname", "NAME"))
        .arg(option("workdir", "PATH").short('w'))
}

/// `jail`: a program in a root tree, in namespaces of its own; its exit status is ours.
pub fn jail(context: &Context, matches: &ArgMatches) -> Result<u8> {
    root_only()?;
    let dir = matches.get_one::<String>("dir").map_or("", String::as_str);
    let not_a_tree = || Fault::new(codes::NOT_A_TREE).arg("path", dir);
    let path = std::fs::canonicalize(dir).or_fault(not_a_tree)?;
    // Anything else would only be littered with places for mounts.
    let is_tree = ["usr", "bin"].iter().any(|name| path.join(name).is_dir());
    if !is_tree {
        return Err(not_a_tree());
    }
    let here = std::env::current_dir().or_fault(|| Fault::new(codes::FILE).arg("path", "."))?;
    let wish = Wish {
        argv: matches
            .get_many::<String>("command")
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        host_env: jail::tree::fitting_env(&path, &unicode_env()),
        dir: path,
        env: environment(matches)?,
        share: list(matches, "share"),
        own: list(matches, "own"),
        mounts: mounts(matches, &here)?,
        resolv_conf: std::fs::read_to_string("/etc/resolv.conf").ok(),
        hostname: matches.get_one::<String>("hostname").cloned(),
        user: matches.get_one::<String>("user").cloned(),
        cwd: matches.get_one::<String>("workdir").map(PathBuf::from),
    };
    let recipe = jail::tree::recipe_for_tree(&wish)?;
    let shim = beside("posada-shim")?;
    let mut launch = jail::launch::Launch::new(&shim, &recipe)?;
    // Ctrl-C is for the program inside; we wait for it to end.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGQUIT] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    match launch.status() {
        Ok(status) => Ok(exit_of(status)),
        Err(fault) => {
            failure::tell(context, &fault, None);
            Ok(failure::not_run(&fault))
        }
    }
}

fn environment(matches: &ArgMatches) -> Result<BTreeMap<String, String>> {
    matches
        .get_many::<String>("env")
        .into_iter()
        .flatten()
        .map(|text| parse::pair(text))
        .collect()
}

/// Our own environment, as far as it is text.
fn unicode_env() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Mounts with absolute host paths.
fn mounts(matches: &ArgMatches, here: &Path) -> Result<Vec<String>> {
    let all = matches.get_many::<String>("mount").into_iter().flatten();
    all.map(|text| {
        let spec = parse::mount(text, here)?;
        let mode = if spec.read_only { ":ro" } else { "" };
        Ok(format!("{}:{}{mode}", spec.source, spec.target))
    })
    .collect()
}

fn exit_of(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}
