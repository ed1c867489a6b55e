//! What this host can and cannot do: findings of this room, of the engine and of the networks.

use std::path::Path;

use engine::Engine;
use model::api::{Finding, Verdict};

use crate::control::Control;
use crate::house::Settings;
use crate::records::now_ms;

/// Free space below which the state directory is called short of room, in bytes.
const LITTLE_SPACE: u64 = 2 << 30;
/// A clock that shows an earlier time is wrong: this program did not exist then (2026-01-01).
const EARLIEST_MS: u64 = 1_767_225_600_000;

impl Control {
    /// Every finding; looks at the host and changes nothing.
    #[must_use]
    pub fn doctor(&self) -> Vec<Finding> {
        let settings = &self.house().settings;
        let mut findings = vec![clock(now_ms()), space(&settings.state_dir), executables(settings)];
        findings.push(proxy(settings));
        findings.push(group(settings));
        findings.extend(engine_container::ContainerEngine.probe());
        findings.extend(engine_machine::MachineEngine.probe());
        findings.extend(self.house().networks.doctor());
        let mut seen = std::collections::HashSet::new();
        findings.retain(|finding| seen.insert(finding.check.clone()));
        findings
    }
}

fn finding(check: &str, verdict: Verdict, seen: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding {
        check: check.to_owned(),
        verdict,
        seen: seen.into(),
        remedy: remedy.map(str::to_owned),
    }
}

fn clock(now_ms: u64) -> Finding {
    let seen = model::rfc3339(now_ms);
    if now_ms < EARLIEST_MS {
        return finding(
            "doctor-clock",
            Verdict::Bad,
            seen,
            Some("timedatectl set-ntp true"),
        );
    }
    finding("doctor-clock", Verdict::Good, seen, None)
}

fn space(dir: &Path) -> Finding {
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return finding("doctor-space", Verdict::Bad, dir.display().to_string(), None);
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let seen = format!("{} {}", dir.display(), model::Size(free));
    if free < LITTLE_SPACE {
        return finding(
            "doctor-space",
            Verdict::Limited,
            seen,
            Some("posada image prune; posada trash empty"),
        );
    }
    finding("doctor-space", Verdict::Good, seen, None)
}

fn executables(settings: &Settings) -> Finding {
    let wanted = [
        &settings.posada_exe,
        &settings.shim_exe,
        &settings.machine_exe,
        &settings.worker_exe,
    ];
    let missing: Vec<String> = wanted
        .iter()
        .filter(|path| !path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    if missing.is_empty() {
        let dir = settings.posada_exe.parent().unwrap_or(Path::new("/"));
        return finding(
            "doctor-executables",
            Verdict::Good,
            dir.display().to_string(),
            None,
        );
    }
    finding(
        "doctor-executables",
        Verdict::Bad,
        missing.join(" "),
        Some("make install"),
    )
}

fn proxy(settings: &Settings) -> Finding {
    let seen = settings.proxy.clone().unwrap_or_else(|| "-".to_owned());
    finding("doctor-proxy", Verdict::Good, seen, None)
}

fn group(settings: &Settings) -> Finding {
    match settings.group {
        Some(group) => finding("doctor-group", Verdict::Good, format!("posada ({group})"), None),
        None => finding(
            "doctor-group",
            Verdict::Limited,
            "-",
            Some("groupadd --system posada"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_named() {
        assert_eq!(clock(0).verdict, Verdict::Bad);
        assert_eq!(clock(EARLIEST_MS + 1).verdict, Verdict::Good);
    }
}
