//! `cargo xtask test [--full]`: the stages of `make test` and `make test-full`, with the minutes each took.

pub mod fresh;
mod skips;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::{bench, build, cargo, docs, house, root, testhost, tidy};

/// What every stage knows.
struct Run {
    /// Findings of clippy end the run.
    strict: bool,
    /// Everything, not only what fits into 25 minutes.
    full: bool,
    target: PathBuf,
}

/// What a stage does.
type Work = Box<dyn Fn(&Run) -> Result<()>>;

struct Stage {
    name: String,
    work: Work,
}

fn stage(name: impl Into<String>, work: impl Fn(&Run) -> Result<()> + 'static) -> Stage {
    Stage {
        name: name.into(),
        work: Box::new(work),
    }
}

/// Runs the stages in order; stops at the first that fails, because later ones lean on it.
pub fn run(args: &[String]) -> Result<()> {
    let full = args.iter().any(|arg| arg == "--full");
    let metadata = MetadataCommand::new()
        .no_deps()
        .current_dir(root())
        .exec()
        .context("cargo metadata")?;
    let run = Run {
        strict: std::env::var_os("CI").is_some_and(|value| value == "true"),
        full,
        target: metadata.target_directory.clone().into_std_path_buf(),
    };
    std::fs::create_dir_all(testhost::cache_dir())?;
    skips::begin(&run.target)?;
    // Made anew in each run, because the run tests how they are made.
    testhost::run(
        &[
            "rm".to_owned(),
            "-rf".to_owned(),
            images_of_run().display().to_string(),
        ],
        &[],
    )?;
    let mut rows = Vec::new();
    if let Some(before) = seconds_since_start(args) {
        rows.push(("setup".to_owned(), before));
    }
    let stages = stages(&run);
    let done = full.then(|| Marks::of_this_tree(&run)).transpose()?;
    let mut failed = None;
    for (number, stage) in stages.iter().enumerate() {
        if done.as_ref().is_some_and(|marks| marks.has(&stage.name)) {
            println!("== {} passed before on this very tree", stage.name);
            continue;
        }
        println!("== stage {} of {}: {}", number + 1, stages.len(), stage.name);
        let started = Instant::now();
        let result = (stage.work)(&run);
        rows.push((stage.name.clone(), started.elapsed()));
        if let Err(error) = result {
            failed = Some(error.context(format!("stage {} failed", stage.name)));
            break;
        }
        if let Some(marks) = &done {
            marks.set(&stage.name)?;
        }
    }
    report(&rows);
    if let Some(marks) = &done {
        let left: Vec<&str> = stages
            .iter()
            .map(|stage| stage.name.as_str())
            .filter(|name| !marks.has(name))
            .collect();
        println!(
            "left to do: {}",
            if left.is_empty() {
                "nothing".to_owned()
            } else {
                left.join(", ")
            }
        );
    }
    match failed {
        Some(error) => Err(error),
        None => skips::judge(&run.target, full),
    }
}

fn report(rows: &[(String, Duration)]) {
    println!("\nstage                minutes");
    for (name, time) in rows {
        println!("{name:<20} {:>7.1}", time.as_secs_f64() / 60.0);
    }
    let all: Duration = rows.iter().map(|(_, time)| *time).sum();
    println!("{:<20} {:>7.1}", "all", all.as_secs_f64() / 60.0);
}

/// Time since the moment that the Makefile names: setup and the build of xtask itself.
fn seconds_since_start(args: &[String]) -> Option<Duration> {
    let since = args
        .iter()
        .find_map(|arg| arg.strip_prefix("--since="))?
        .parse()
        .ok()?;
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?
        .checked_sub(Duration::from_secs(since))
}

fn stages(run: &Run) -> Vec<Stage> {
    let mut stages = vec![
        stage("format", |_| finish(cargo().args(["fmt", "--all", "--check"]))),
        stage("house", |_| house::check()),
        stage("tidy", |_| tidy::check()),
        stage("clippy", clippy),
        stage("build", |_| build::assemble(build::Kind::Dev).map(drop)),
        stage("reference", |_| docs::run(&["--check".to_owned()])),
        stage("mirror", |_| mirror()),
        stage("tests", |run| {
            tests(run, &["--workspace", "--lib", "--bins", "--tests"])
        }),
    ];
    if run.full {
        stages.push(stage("doc tests", |run| tests(run, &["--workspace", "--doc"])));
        stages.push(stage("kill -9 rounds", |_| {
            bench::run("soak", &["kill9".to_owned()])
        }));
        stages.push(stage("fresh", |_| fresh::run(&[])));
    }
    stages
}

fn clippy(run: &Run) -> Result<()> {
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
    ]);
    if run.strict {
        clippy.args(["--", "--deny", "warnings"]);
    }
    finish(&mut clippy)
}

/// Says early and in its own words when the mirror is away, so that no test blames the program for it.
fn mirror() -> Result<()> {
    let url = "http://deb.debian.org/debian/dists/bookworm/InRelease";
    let script = format!(
        "exec 3<>/dev/tcp/deb.debian.org/80 && printf 'HEAD {url} HTTP/1.0\\r\\nHost: deb.debian.org\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q HTTP"
    );
    let asked = ["timeout", "30", "bash", "-c", &script].map(String::from);
    if testhost::run(&asked, &[]).is_err() {
        bail!(
            "the mirror deb.debian.org cannot be reached from a test host: no fault of the program; try again later"
        );
    }
    Ok(())
}

/// Images that the test programs of a run share.
fn images_of_run() -> PathBuf {
    testhost::cache_dir().join("images")
}

/// `cargo test` whose test programs run each in a test host of its own, as root.
fn tests(run: &Run, args: &[&str]) -> Result<()> {
    let runner = format!(
        "CARGO_TARGET_{}_RUNNER",
        build::host_triple()?.to_uppercase().replace('-', "_")
    );
    let own = crate::own_program()?;
    let mut test = cargo();
    test.arg("test").args(args).args(["--locked", "--no-fail-fast"]);
    test.env(runner, format!("{} testhost --", own.display()));
    test.env("POSADA_CACHE", testhost::cache_dir());
    test.env(testhost::IMAGES, images_of_run());
    test.env("POSADA_BIN", run.target.join("debug"));
    test.env(skips::VARIABLE, skips::file(&run.target));
    if run.full {
        test.env("POSADA_TEST_FULL", "1");
    } else {
        // Tests of this name take minutes each.
        test.args(["--", "--skip", "full_"]);
    }
    finish(&mut test)
}

fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!(
            "{} ended with {status}",
            command
                .get_args()
                .map(|arg| arg.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    Ok(())
}

/// Which stages of the long run have passed on exactly this state of the files.
struct Marks(PathBuf);

impl Marks {
    fn of_this_tree(run: &Run) -> Result<Self> {
        let ask = |args: &[&str]| -> Result<String> {
            let told = Command::new("git")
                .args(args)
                .current_dir(root())
                .output()
                .context("git")?;
            Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
        };
        let dirty = ask(&["status", "--porcelain"])?;
        let tree = if dirty.is_empty() {
            ask(&["rev-parse", "HEAD^{tree}"])?
        } else {
            "dirty".to_owned()
        };
        let folder = run.target.join("test-full").join(&tree);
        if tree == "dirty" {
            println!("uncommitted changes: nothing of this run will be remembered");
            let _ = std::fs::remove_dir_all(&folder);
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Marks(folder))
    }

    fn has(&self, stage: &str) -> bool {
        self.0.join(stage).exists()
    }

    fn set(&self, stage: &str) -> Result<()> {
        std::fs::write(self.0.join(stage), "").context("remembering a stage")
    }
}
