//! Kinds of init, how each is asked to power off, and how the end of process 1 reads.

use std::path::Path;

use fault::{Fault, Result};
use model::ExitStatus;

use crate::NO_SIGNAL;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
/// systemd powers off on SIGRTMIN+3 (systemd(1)); glibc keeps two real-time signals for itself.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// How process 1 is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// By this signal.
    Signal(i32),
    /// By `poweroff`, run inside: what the init listens to is known to its own tools only.
    Poweroff,
}

/// How to ask a system container's init, by the path of its executable (inside).
#[must_use]
pub fn farewell(executable: &Path) -> Farewell {
    match executable.file_name().and_then(std::ffi::OsStr::to_str) {
        Some("systemd") => Farewell::Signal(SIGRTMIN + 3),
        Some("busybox") => Farewell::Signal(SIGUSR2),
        Some("dumb-init" | "tini" | "catatonit" | "docker-init") => Farewell::Signal(SIGTERM),
        _ => Farewell::Poweroff,
    }
}

/// The signal of a text such as `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
///
/// # Errors
/// `SHM014`.
pub fn parse_signal(text: &str) -> Result<i32> {
    let fault = || Fault::new(NO_SIGNAL).arg("signal", text);
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset = match rest.strip_prefix('+') {
            Some(digits) => digits.parse::<i32>().map_err(|_| fault())?,
            None if rest.is_empty() => 0,
            None => return Err(fault()),
        };
        SIGRTMIN.checked_add(offset)
    } else if let Ok(number) = name.parse::<i32>() {
        Some(number)
    } else {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| *number)
    };
    number
        .filter(|number| (1..=SIGRTMAX).contains(number))
        .ok_or_else(fault)
}

/// How process 1 of a pid namespace ended: reboot(2) inside ends it with SIGHUP for a restart and with SIGINT for
/// halt and power-off (pid_namespaces(7)).
#[must_use]
pub fn exit_of_init(exit: ExitStatus) -> ExitStatus {
    match exit {
        ExitStatus::Signal(SIGHUP) => ExitStatus::Reboot,
        ExitStatus::Signal(SIGINT) => ExitStatus::Poweroff,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_people_write_them() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("pwr", 30),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in [
            "",
            "SIG",
            "0",
            "65",
            "-1",
            "RTMIN+99",
            "RTMIN+",
            "TERMS",
            "RTMIN+99999999999",
        ] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_init_is_asked_in_its_own_way() {
        let systemd = Path::new("/usr/lib/systemd/systemd");
        assert_eq!(farewell(systemd), Farewell::Signal(37));
        assert_eq!(farewell(Path::new("/bin/busybox")), Farewell::Signal(12));
        assert_eq!(farewell(Path::new("/sbin/init")), Farewell::Poweroff);
    }

    #[test]
    fn reboot_and_poweroff_are_read_from_the_signal_of_the_kernel() {
        assert_eq!(exit_of_init(ExitStatus::Signal(1)), ExitStatus::Reboot);
        assert_eq!(exit_of_init(ExitStatus::Signal(2)), ExitStatus::Poweroff);
        assert_eq!(exit_of_init(ExitStatus::Signal(9)), ExitStatus::Signal(9));
        assert_eq!(exit_of_init(ExitStatus::Code(0)), ExitStatus::Code(0));
    }
}
