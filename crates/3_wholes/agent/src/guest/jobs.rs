//! Work that may block, done by a child of the agent: files, facts, the password, the clean end, the disks.
//!
//! A job's word – an [`Ending`] as JSON – comes on a pipe of its own, so that an archive on standard output is never
//! mixed with it.

use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fault::{Fault, OrFault, Result};
use rustix::event::{PollFd, PollFlags};
use unpack::tar::{Entry, Kind, Writer};
use unpack::{Options, PACK, PackOptions, Root, Steady, WRITE};

use super::exec::{PATH, Streams, read, take_streams};
use super::sys;
use crate::codes::{PROGRAM_FAILED, SET_UP_FAILED, VALUE_REFUSED};
use crate::protocol::{Boot, Ending, Facts, Request, Shutdown};

/// Most bytes of a failing program's words that a fault quotes.
const QUOTE: usize = 2000;

/// The longest that a job may take; none for those that move files, whose end the host decides.
#[must_use]
pub fn patience(request: &Request) -> Option<Duration> {
    let seconds = match request {
        Request::Facts => 15,
        Request::SetPassword { .. } | Request::Shutdown { .. } => 60,
        Request::Sync => 600,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// Does the work in a process of its own; its id. `word` is the pipe for its ending. Forks.
///
/// # Errors
/// Those of fork(2).
pub fn start(request: &Request, streams: &Streams, word: &OwnedFd) -> std::io::Result<i32> {
    hostos::process::fork_into(|| {
        let Ok(word) = settle(streams, word) else {
            return 1;
        };
        let ending = work(request, &word).unwrap_or_else(Ending::Fault);
        let text = serde_json::to_vec(&ending).unwrap_or_default();
        i32::from(write_all(&word, &text).is_err())
    })
}

/// Keeps the standard streams and, as number 3, the pipe; everything else of the agent is closed, so that other
/// sessions end when they end.
fn settle(streams: &Streams, word: &OwnedFd) -> std::io::Result<OwnedFd> {
    take_streams(streams)?;
    let far = rustix::io::fcntl_dupfd_cloexec(word, 10)?;
    hostos::descriptors::place(far, 3)?;
    if hostos::descriptors::close_from(4).is_err() {
        close_one_by_one();
    }
    hostos::process::unblock_signals();
    hostos::descriptors::inherited(3)
}

/// Before Linux 5.9, which has close_range(2).
fn close_one_by_one() {
    let numbers = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map(|list| list.filter_map(numbers).collect())
        .unwrap_or_default();
    for number in open.into_iter().filter(|number| *number > 3) {
        drop(hostos::descriptors::inherited(number));
    }
}

fn work(request: &Request, word: &OwnedFd) -> Result<Ending> {
    match request {
        Request::ReadFiles { path } => read_files(Path::new(path)).map(|()| Ending::Done),
        Request::WriteFiles { path } => write_files(Path::new(path)).map(|()| Ending::Done),
        Request::SetPassword { user, hash } => set_password(user, hash).map(|()| Ending::Done),
        Request::Shutdown { how } => shut_down(*how).map(|()| Ending::Done),
        Request::Facts => Ok(Ending::Facts(facts())),
        Request::Sync => {
            rustix::fs::sync();
            Ok(Ending::Done)
        }
        Request::Freeze { milliseconds } => freeze(Duration::from_millis(*milliseconds), word),
        Request::Exec(_) | Request::Ping | Request::SetTime { .. } => {
            Err(Fault::new(SET_UP_FAILED).arg("what", "a job"))
        }
    }
}

fn write_all(mut to: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&mut to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Standard output without Rust's own line buffer.
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the archive of what lies at a path.
fn read_files(path: &Path) -> Result<()> {
    let fault = || Fault::new(PACK).arg("path", path.display());
    let metadata = std::fs::metadata(path).or_fault(fault)?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
    let mut writer = Writer::new(BufWriter::with_capacity(64 * 1024, Sink));
    if metadata.is_dir() {
        let prefix = if name.is_empty() {
            Vec::new()
        } else {
            [name, b"/".to_vec()].concat()
        };
        let options = PackOptions {
            prefix,
            ..PackOptions::default()
        };
        unpack::pack(&Root::open(path)?, &options, &mut writer)?;
    } else if metadata.is_file() {
        let file = std::fs::File::open(path).or_fault(fault)?;
        let mut entry = Entry::new(name, Kind::File, metadata.mode() & 0o7777);
        (entry.uid, entry.gid) = (metadata.uid(), metadata.gid());
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        entry.mtime = (metadata.mtime(), nanoseconds);
        let mut content = Steady::of(file, metadata.len()).or_fault(fault)?;
        entry.size = content.size();
        writer.entry(&entry, &mut content)?;
    } else {
        return Err(fault().because_of("neither file nor directory"));
    }
    let mut sink = writer.finish()?;
    sink.flush().or_fault(fault)
}

/// Unpacks the archive that comes as input into a directory that exists.
fn write_files(path: &Path) -> Result<()> {
    let fault = || Fault::new(WRITE).arg("path", path.display());
    if !path.is_dir() {
        return Err(fault().because_of("no such directory"));
    }
    let options = Options {
        keep_directories: true,
        keep_kinds: true,
        ..Options::default()
    };
    let mut input = std::io::stdin().lock();
    let unpacked = unpack::extract(&mut input, &Root::open(path)?, options);
    // What follows the archive's end is taken, so that the host never waits for credit.
    let _ = std::io::copy(&mut input, &mut std::io::sink());
    unpacked.map(drop)
}

fn set_password(user: &str, hash: &str) -> Result<()> {
    let odd = |text: &str| text.is_empty() || text.contains([':', '\n', '\0']);
    if odd(user) || odd(hash) {
        return Err(Fault::new(VALUE_REFUSED).arg("what", "password"));
    }
    run("chpasswd", &["-e"], &format!("{user}:{hash}\n"))
}

fn shut_down(how: Shutdown) -> Result<()> {
    let word = match how {
        Shutdown::Poweroff => "poweroff",
        Shutdown::Reboot => "reboot",
    };
    if Path::new("/run/systemd/system").is_dir() {
        return run("systemctl", &["--no-block", word], "");
    }
    run(word, &[], "")
}

/// Runs a program of the guest to its end; its last words when it fails.
fn run(program: &str, args: &[&str], input: &str) -> Result<()> {
    let fault = || Fault::new(PROGRAM_FAILED).arg("program", program);
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .or_fault(fault)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = child.wait_with_output().or_fault(fault)?;
    if ended.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    let from = text.len().saturating_sub(QUOTE);
    let tail: String = text
        .char_indices()
        .filter(|(at, _)| *at >= from)
        .map(|(_, c)| c)
        .collect();
    Err(fault().because_of(ended.status.to_string()).because_of(tail))
}

fn facts() -> Facts {
    let system = rustix::system::uname();
    let seconds = read("/proc/uptime");
    let seconds: f64 = seconds
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0);
    Facts {
        hostname: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        os: os_release(&["/etc/os-release", "/usr/lib/os-release"].map(read).concat()),
        addresses: sys::addresses().unwrap_or_default(),
        uptime_ms: Duration::try_from_secs_f64(seconds).map_or(0, |time| time.as_millis() as u64),
        boot: boot(),
    }
}

/// The words of os-release(5) that identify a system.
fn os_release(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=')
            && ["ID", "VERSION_ID", "PRETTY_NAME"].contains(&key)
            && value.len() < 256
        {
            let value = value.trim().trim_matches(['"', '\'']);
            found.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    found
}

/// What systemd says of the boot, without waiting for its end.
fn boot() -> Option<Boot> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let told = Command::new("systemctl")
        .arg("is-system-running")
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let word = told.map(|told| told.stdout).unwrap_or_default();
    Some(boot_of(String::from_utf8_lossy(&word).trim()))
}

fn boot_of(word: &str) -> Boot {
    match word {
        "initializing" | "starting" => Boot::Starting,
        "running" => Boot::Running,
        "degraded" => Boot::Degraded,
        "maintenance" => Boot::Maintenance,
        "stopping" => Boot::Stopping,
        _ => Boot::Unknown,
    }
}

/// Freezes every file system that lives on a block device and is writable, the last mounted first; says so with an
/// empty line on the pipe, and thaws when the input ends or the time is over.
fn freeze(longest: Duration, word: &OwnedFd) -> Result<Ending> {
    let mut frozen: Vec<OwnedFd> = Vec::new();
    let mut failed = None;
    for path in on_disks(&read("/proc/self/mountinfo")).iter().rev() {
        let directory = match rustix::fs::open(
            path.as_str(),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) {
            Ok(directory) => directory,
            // A single file is mounted there, of a file system that is mounted elsewhere too.
            Err(_) => continue,
        };
        match sys::set_frozen(&directory, true) {
            Ok(()) => frozen.push(directory),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EBUSY | libc::ENOTTY)
                ) => {}
            Err(error) => {
                let fault = Fault::new(SET_UP_FAILED).arg("what", format!("the freeze of {path}"));
                failed = Some(fault.because(error));
                break;
            }
        }
    }
    if failed.is_none() && write_all(word, b"\n").is_ok() {
        wait_for_input_end(longest);
    }
    for directory in frozen.iter().rev() {
        let _ = sys::set_frozen(directory, false);
    }
    failed.map_or(Ok(Ending::Done), Err)
}

fn wait_for_input_end(longest: Duration) {
    let end = std::time::Instant::now() + longest.min(Duration::from_secs(3600));
    let mut bytes = [0; 512];
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let left = rustix::event::Timespec::try_from(left).unwrap_or_default();
        let stdin = rustix::stdio::stdin();
        let ready = rustix::event::poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&left));
        match ready {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1..) if matches!(std::io::stdin().read(&mut bytes), Ok(1..)) => {}
            _ => return,
        }
    }
}

/// Mount points of writable file systems on block devices, one for each device, in the order of mounting
/// (proc_pid_mountinfo(5)).
fn on_disks(mountinfo: &str) -> Vec<String> {
    let mut devices = Vec::new();
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(device), Some(point), Some(options)) = (left.get(2), left.get(4), right.get(2)) else {
            continue;
        };
        let block = right.get(1).is_some_and(|source| source.starts_with("/dev/"));
        let writable = options.split(',').any(|option| option == "rw");
        if block && writable && !devices.contains(device) {
            devices.push(device);
            found.push(unescape(point));
        }
    }
    found
}

/// Undoes the octal escapes of mountinfo: `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(escape, plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_is_read_without_its_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nHOME_URL=\"x\"\nVERSION_ID='12'\nID=other\n";
        let os = os_release(text);
        assert_eq!(os["PRETTY_NAME"], "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(
            (os["ID"].as_str(), os["VERSION_ID"].as_str(), os.len()),
            ("debian", "12", 3)
        );
    }

    #[test]
    fn every_disk_is_frozen_once_and_nothing_else() {
        let mountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            23 22 0:5 / /dev rw shared:2 - devtmpfs udev rw\n\
            24 22 8:2 / /my\\040data rw shared:3 - xfs /dev/sda2 rw\n\
            25 22 8:1 /srv /mnt rw shared:4 - ext4 /dev/sda1 rw\n\
            26 22 8:3 / /cd ro shared:5 - iso9660 /dev/sr0 ro\nbroken\n";
        assert_eq!(on_disks(mountinfo), ["/", "/my data"]);
    }

    #[test]
    fn a_password_cannot_bring_a_second_line() {
        for (user, hash) in [
            ("root", "x\nana:y"),
            ("a:b", "x"),
            ("", "x"),
            ("root", ""),
            ("root\n", "x"),
        ] {
            assert!(set_password(user, hash).unwrap_err().is(VALUE_REFUSED));
        }
    }

    #[test]
    fn a_boot_is_over_when_systemd_says_so_or_cannot() {
        let over = |word: &str| {
            Facts {
                boot: Some(boot_of(word)),
                ..Facts::default()
            }
            .booted()
        };
        assert!(over("running") && over("degraded") && over("maintenance"));
        assert!(!over("initializing") && !over("starting") && !over("") && !over("offline"));
        assert!(Facts::default().booted());
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let fault = run("sh", &["-c", "echo no such luck >&2; exit 3"], "").unwrap_err();
        assert!(fault.is(PROGRAM_FAILED));
        assert!(
            fault.causes().iter().any(|cause| cause == "no such luck"),
            "{fault}"
        );
    }
}
