//! What the guest tells of itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::exec::{PATH, read};
use super::sys;
use crate::protocol::{Boot, Facts};

/// Collects it.
#[must_use]
pub fn facts() -> Facts {
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

/// Whether the system is up, as far as it tells: with another init than systemd at once.
#[must_use]
pub fn is_up() -> bool {
    !matches!(boot(), Some(Boot::Starting | Boot::Unknown))
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
}
