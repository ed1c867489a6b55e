//! The parts that several benchmarks need: the program under test, peers, a small tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Path of the program under test: `$POSADA_BIN/posada`, else beside this benchmark.
pub fn posada() -> PathBuf {
    let folder = std::env::var_os("POSADA_BIN").map(PathBuf::from).or_else(|| {
        std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_path_buf))
    });
    folder.unwrap_or_default().join("posada")
}

/// Runs a command quietly to its end.
///
/// # Errors
/// The command line, its status and the last of what it said.
pub fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<String, String> {
    let out = Command::new(&program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.as_ref().display()))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let tail: Vec<&str> = said.lines().rev().take(4).collect();
    Err(format!(
        "{} {}: {}: {}",
        program.as_ref().display(),
        args.join(" "),
        out.status,
        tail.into_iter().rev().collect::<Vec<_>>().join(" / ")
    ))
}

/// Runs `posada` with these words.
///
/// # Errors
/// As [`run`].
pub fn posada_does(args: &[&str]) -> Result<String, String> {
    run(posada(), args)
}

/// Whether a peer shall be measured: it is installed, and it is not another one that was asked for.
pub fn peer_wanted(options: &crate::Options, peer: &str, program: &str) -> bool {
    if options.peer.as_deref().is_some_and(|only| only != peer) {
        return false;
    }
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        eprintln!("{peer}: {program} is not installed, skipped");
    }
    found
}

/// Waits until a condition holds.
///
/// # Errors
/// After the time given, with what was waited for.
pub fn until(what: &str, most: Duration, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > most {
            return Err(format!("waited {} s in vain for {what}", most.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Root tree of the image that `debian/12` means here; made when missing.
///
/// # Errors
/// When the image cannot be made.
pub fn debian_tree() -> Result<PathBuf, String> {
    posada_does(&["launch", "debian/12", "perf-image", "--no-start"])?;
    posada_does(&["rm", "--purge", "--yes", "perf-image"])?;
    let images = Path::new("/var/lib/posada/images");
    let entries = std::fs::read_dir(images).map_err(|error| error.to_string())?;
    entries
        .flatten()
        .map(|entry| entry.path().join("root"))
        .find(|root| root.join("sbin/init").symlink_metadata().is_ok())
        .ok_or_else(|| "no image with an init was found".to_owned())
}

/// Proportional set size of a process, in KiB (proc(5), smaps_rollup).
pub fn pss_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
}
