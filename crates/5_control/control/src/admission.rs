//! Admission: what is accepted and what is refused, decided from what is known, without touching the host.

use std::collections::BTreeSet;

use std::path::Path;

use fault::{Fault, Result};
use model::{GuestKind, GuestSpec, ImageRef, Init, Limits, MountSpec, Name, Phase, Publish, Setup};

use crate::codes::{
    LIMIT_INVALID, NAME_TAKEN, NETWORK_UNKNOWN, NOT_RUNNING, PORT_TAKEN, PROTECTED, RUNNING, SPEC_INVALID,
    VALUE_INVALID, WRONG_PHASE,
};
use crate::hardware;

/// Least memory that a guest can be limited to, in bytes: below it no process starts.
const LEAST_MEMORY: u64 = 4 << 20;

/// What is known when a request is judged.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Names of the guests.
    pub names: BTreeSet<Name>,
    /// What the other guests publish, with their names.
    pub published: Vec<(Name, Publish)>,
    /// Names of the networks.
    pub networks: BTreeSet<Name>,
    /// Bytes of memory of this host, where that is known.
    pub host_memory: Option<u64>,
}

/// What may be asked of a guest that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Bring it up.
    Start,
    /// Bring it down.
    Stop,
    /// Down and up again.
    Restart,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Take it away.
    Remove,
    /// A process or a console inside.
    Enter,
}

impl Verb {
    /// As commands and operations spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Remove => "rm",
            Verb::Enter => "exec",
        }
    }
}

/// What follows from an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// Do it.
    Do,
    /// It is so already; nothing to do and no error.
    Already,
}

/// Decides about a verb on a guest in a phase. What is on its way is judged again when its turn comes.
///
/// # Errors
/// [`NOT_RUNNING`], [`RUNNING`], [`PROTECTED`], [`WRONG_PHASE`].
pub fn verb(verb: Verb, name: &Name, phase: Phase, protect: bool, force: bool) -> Result<Go> {
    let alive = matches!(
        phase,
        Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping
    );
    let refuse = |code| Err(Fault::new(code).arg("name", name).arg("verb", verb.word()));
    if protect && matches!(verb, Verb::Stop | Verb::Restart | Verb::Remove) {
        return refuse(PROTECTED);
    }
    match verb {
        Verb::Start if phase == Phase::Running => Ok(Go::Already),
        Verb::Start if phase == Phase::Paused => Err(wrong(verb, name, phase)),
        Verb::Start | Verb::Restart => Ok(Go::Do),
        Verb::Stop => Ok(if alive { Go::Do } else { Go::Already }),
        Verb::Remove if alive && !force => refuse(RUNNING),
        Verb::Remove => Ok(Go::Do),
        Verb::Pause if phase == Phase::Paused => Ok(Go::Already),
        Verb::Resume if phase == Phase::Running => Ok(Go::Already),
        Verb::Pause | Verb::Resume | Verb::Enter if !alive => refuse(NOT_RUNNING),
        Verb::Enter if phase == Phase::Paused => Err(wrong(verb, name, phase)),
        Verb::Pause | Verb::Resume | Verb::Enter => Ok(Go::Do),
    }
}

fn wrong(verb: Verb, name: &Name, phase: Phase) -> Fault {
    Fault::new(WRONG_PHASE)
        .arg("name", name)
        .arg("verb", verb.word())
        .arg("phase", format!("{phase:?}").to_lowercase())
}

/// Decides about the name of a new or renamed guest.
///
/// # Errors
/// [`NAME_TAKEN`].
pub fn name(known: &Known, name: &Name) -> Result<()> {
    if known.names.contains(name) {
        return Err(Fault::new(NAME_TAKEN).arg("name", name));
    }
    Ok(())
}

/// Decides about a whole specification.
///
/// # Errors
/// The code of what is wrong; its arguments name the field.
pub fn spec(known: &Known, spec: &GuestSpec) -> Result<()> {
    match spec.kind {
        GuestKind::Container => hardware::container(spec)?,
        GuestKind::Machine => hardware::machine(known, spec)?,
    }
    if let ImageRef::Path(path) = &spec.image
        && !path.starts_with('/')
    {
        // The daemon's working directory is not the user's.
        return Err(value("image", path));
    }
    if let Init::Command { argv } = &spec.init
        && (argv.first().is_none_or(String::is_empty) || argv.iter().any(|word| word.contains('\0')))
    {
        return Err(value("init.argv", argv.join(" ")));
    }
    for (key, content) in &spec.env {
        if key.is_empty() || key.contains(['=', '\0']) || content.contains('\0') {
            return Err(value("env", key));
        }
    }
    spec.labels
        .iter()
        .try_for_each(|(key, content)| label(key, content))?;
    if let Some(workdir) = &spec.workdir {
        inside("workdir", workdir)?;
    }
    if let Some(hostname) = &spec.hostname {
        self::hostname(hostname)?;
    }
    if let Some(signal) = &spec.stop_signal {
        stop_signal(signal)?;
    }
    limits(&spec.limits)?;
    nics(known, spec)?;
    publish(known, &spec.publish)?;
    spec.mounts.iter().try_for_each(mount)?;
    setup(&spec.setup)?;
    if spec.no_network && !spec.publish.is_empty() {
        return Err(Fault::new(SPEC_INVALID).because_of("a guest without network cannot publish ports"));
    }
    Ok(())
}

/// Decides about limits.
///
/// # Errors
/// [`LIMIT_INVALID`].
pub fn limits(limits: &Limits) -> Result<()> {
    let refuse =
        |limit: &str, value: String| Err(Fault::new(LIMIT_INVALID).arg("limit", limit).arg("value", value));
    match limits {
        Limits {
            memory: Some(memory), ..
        } if memory.0 < LEAST_MEMORY => refuse("memory", memory.to_string()),
        Limits {
            swap: Some(_),
            memory: None,
            ..
        } => refuse("swap", "without memory".to_owned()),
        Limits { cpus: Some(cpus), .. } if !(cpus.is_finite() && (0.01..=4096.0).contains(cpus)) => {
            refuse("cpus", cpus.to_string())
        }
        Limits {
            cpu_weight: Some(weight),
            ..
        } if !(1..=10_000).contains(weight) => refuse("cpu_weight", weight.to_string()),
        Limits {
            cpu_pin: Some(pin), ..
        } if !is_cpu_list(pin) => refuse("cpu_pin", pin.clone()),
        Limits { pids: Some(pids), .. } if *pids == 0 || *pids > 4_194_304 => {
            refuse("pids", pids.to_string())
        }
        _ => Ok(()),
    }
}

/// A list of processors as the kernel reads it, `0-3,8`.
fn is_cpu_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < 8192);
    text.split(',').all(|part| match part.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => number(part).is_some(),
    })
}

fn nics(known: &Known, spec: &GuestSpec) -> Result<()> {
    if spec.no_network && !spec.nics.is_empty() {
        return Err(Fault::new(SPEC_INVALID).because_of("no_network and nics exclude each other"));
    }
    if spec.nics.len() > 8 {
        return Err(value("nics", spec.nics.len()));
    }
    for nic in &spec.nics {
        if !known.networks.contains(&nic.network) {
            return Err(Fault::new(NETWORK_UNKNOWN).arg("name", &nic.network));
        }
        if let Some(mac) = &nic.mac
            && !is_unicast_mac(mac)
        {
            return Err(value("mac", mac));
        }
    }
    Ok(())
}

fn is_unicast_mac(text: &str) -> bool {
    let bytes: Vec<Option<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2))
        .collect();
    // The lowest bit of the first byte marks a group address (IEEE 802).
    bytes.len() == 6
        && bytes.iter().all(Option::is_some)
        && bytes[0].is_some_and(|first| first & 1 == 0)
        && bytes.iter().any(|byte| *byte != Some(0))
}

/// Whether two forwards want the same port of the host.
#[must_use]
pub fn collide(one: &Publish, other: &Publish) -> bool {
    let addresses = match (one.ip, other.ip) {
        (Some(one), Some(other)) => one == other || one.is_unspecified() || other.is_unspecified(),
        _ => true,
    };
    addresses && one.host_port == other.host_port && one.transport == other.transport
}

/// Decides about what a guest publishes.
///
/// # Errors
/// [`PORT_TAKEN`], [`VALUE_INVALID`].
pub fn publish(known: &Known, wanted: &[Publish]) -> Result<()> {
    for (index, one) in wanted.iter().enumerate() {
        if one.host_port == 0 || one.guest_port == 0 {
            return Err(value("publish", format!("{}:{}", one.host_port, one.guest_port)));
        }
        let holder = known.published.iter().find(|(_, other)| collide(one, other));
        let twice = wanted[..index].iter().any(|other| collide(one, other));
        if let Some((holder, _)) = holder {
            return Err(Fault::new(PORT_TAKEN)
                .arg("port", one.host_port)
                .arg("next", one.host_port.checked_add(1).unwrap_or(8080))
                .arg("guest_port", one.guest_port)
                .arg("holder", holder));
        }
        if twice {
            return Err(Fault::new(SPEC_INVALID).because_of(format!("port {} twice", one.host_port)));
        }
    }
    Ok(())
}

/// Labels are written into selectors and tables: keys are words, values one line.
fn label(key: &str, content: &str) -> Result<()> {
    let of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    if key.is_empty() || key.len() > 63 || !key.bytes().all(of_word) {
        return Err(value("labels", key));
    }
    if content.len() > 255 || content.chars().any(char::is_control) {
        return Err(value("labels", content));
    }
    Ok(())
}

fn mount(mount: &MountSpec) -> Result<()> {
    if !mount.source.starts_with('/') || mount.source.contains('\0') {
        return Err(value("mounts.source", &mount.source));
    }
    inside("mounts.target", &mount.target)?;
    let clean: std::path::PathBuf = Path::new(&mount.target).components().collect();
    let system = ["/proc", "/sys", "/dev"].iter().any(|top| clean.starts_with(top));
    let own = ["/", "/run", "/run/host"]
        .iter()
        .any(|top| clean == Path::new(top));
    if system || own || clean.starts_with("/run/host") {
        // There the guest's own system and this host speak with each other.
        return Err(value("mounts.target", &mount.target));
    }
    Ok(())
}

/// An absolute path inside a guest, without `..`.
fn inside(field: &str, path: &str) -> Result<()> {
    let parent = path.split('/').any(|part| part == "..");
    if !path.starts_with('/') || parent || path.contains('\0') || path.len() > 4095 {
        return Err(value(field, path));
    }
    Ok(())
}

/// Host names: labels of letters, digits and hyphens joined by dots, at most 64 bytes (Linux' HOST_NAME_MAX).
fn hostname(text: &str) -> Result<()> {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 64 || !text.split('.').all(label) {
        return Err(value("hostname", text));
    }
    Ok(())
}

fn stop_signal(text: &str) -> Result<()> {
    const NAMES: &[&str] = &[
        "HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "ALRM", "TERM", "CONT", "PWR", "WINCH",
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let real_time = name
        .strip_prefix("RTMIN+")
        .and_then(|rest| rest.parse::<u8>().ok());
    let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    if NAMES.contains(&name) || real_time.is_some_and(|n| n <= 30) || number {
        return Ok(());
    }
    Err(value("stop_signal", text))
}

/// Decides about the set-up before the first boot.
///
/// # Errors
/// [`VALUE_INVALID`].
pub fn setup(setup: &Setup) -> Result<()> {
    let check = |field: &str, text: &Option<String>, good: fn(&str) -> bool| match text {
        Some(text) if !good(text) => Err(value(field, text)),
        _ => Ok(()),
    };
    check("setup.user", &setup.user, is_user)?;
    check("setup.locale", &setup.locale, is_locale)?;
    check("setup.timezone", &setup.timezone, is_timezone)?;
    check("setup.proxy", &setup.proxy, is_proxy)?;
    if let Some(hash) = &setup.password_hash
        && !is_password_hash(hash)
    {
        // A hash is no word to repeat in messages.
        return Err(value("setup.password_hash", "…"));
    }
    for key in &setup.ssh_keys {
        if key.trim().is_empty()
            || key.contains(['\n', '\r', '\0'])
            || !key.contains(' ')
            || key.len() > 16_384
        {
            return Err(value("setup.ssh_keys", key.chars().take(40).collect::<String>()));
        }
    }
    match setup.include.iter().find(|package| !is_package(package)) {
        Some(package) => Err(value("setup.include", package)),
        None => Ok(()),
    }
}

/// A user name as useradd(8) of Debian takes it.
#[must_use]
pub fn is_user(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let first = text.bytes().next();
    (1..=32).contains(&text.len())
        && first.is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && text.bytes().all(rest)
}

/// A hash as crypt(5) writes it: no field separator of shadow(5) in it.
#[must_use]
pub fn is_password_hash(text: &str) -> bool {
    (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

fn is_locale(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphabetic()
}

fn is_timezone(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-/".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphabetic()
}

fn is_proxy(text: &str) -> bool {
    let url = text.starts_with("http://") || text.starts_with("https://");
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"'\\;`$".contains(&byte));
    matches!(text, "host" | "none") || (url && plain && text.len() <= 512)
}

/// A package's name (Debian policy §5.6.1).
fn is_package(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    text.len() >= 2 && text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphanumeric()
}

fn value(field: &str, text: impl std::fmt::Display) -> Fault {
    Fault::new(VALUE_INVALID).arg("field", field).arg("value", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{IMAGE_NEEDED, NOT_FOR_CONTAINERS};
    use serde_json::json;

    fn known() -> Known {
        let port = |port| Publish {
            ip: None,
            host_port: port,
            guest_port: 80,
            transport: model::Transport::Tcp,
        };
        Known {
            names: ["web".parse().unwrap()].into(),
            published: vec![("web".parse().unwrap(), port(8000))],
            networks: ["default".parse().unwrap()].into(),
            host_memory: Some(8 << 30),
        }
    }

    fn spec_of(fields: serde_json::Value) -> GuestSpec {
        let mut document = json!({ "image": "debian/12" });
        crate::merge::merge(&mut document, &fields);
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_plain_spec_is_admitted_and_a_senseless_one_is_refused_by_its_code() {
        assert_eq!(spec(&known(), &spec_of(json!({}))), Ok(()));
        for (fields, code) in [
            (json!({ "machine": {} }), NOT_FOR_CONTAINERS),
            (json!({ "image": "none" }), IMAGE_NEEDED),
            (json!({ "image": "./tree" }), VALUE_INVALID),
            (
                json!({ "publish": [{ "host_port": 8000, "guest_port": 1 }] }),
                PORT_TAKEN,
            ),
            (
                json!({ "publish": [{ "ip": "127.0.0.1", "host_port": 8000, "guest_port": 1 }] }),
                PORT_TAKEN,
            ),
            (
                json!({ "publish": [{ "host_port": 0, "guest_port": 1 }] }),
                VALUE_INVALID,
            ),
            (json!({ "limits": { "memory": 100 } }), LIMIT_INVALID),
            (json!({ "limits": { "cpus": 0.0 } }), LIMIT_INVALID),
            (json!({ "limits": { "cpu_pin": "3-1" } }), LIMIT_INVALID),
            (json!({ "limits": { "cpu_weight": 0 } }), LIMIT_INVALID),
            (json!({ "limits": { "pids": 0 } }), LIMIT_INVALID),
            (json!({ "nics": [{ "network": "lan" }] }), NETWORK_UNKNOWN),
            (
                json!({ "nics": [{ "network": "default", "mac": "01:00:00:00:00:01" }] }),
                VALUE_INVALID,
            ),
            (
                json!({ "mounts": [{ "source": "srv", "target": "/srv" }] }),
                VALUE_INVALID,
            ),
            (
                json!({ "mounts": [{ "source": "/srv", "target": "/a/../../x" }] }),
                VALUE_INVALID,
            ),
            (
                json!({ "mounts": [{ "source": "/srv", "target": "/" }] }),
                VALUE_INVALID,
            ),
            (json!({ "labels": { "a b": "c" } }), VALUE_INVALID),
            (json!({ "labels": { "tier": "two\nlines" } }), VALUE_INVALID),
            (json!({ "hostname": "a_b" }), VALUE_INVALID),
            (json!({ "stop_signal": "SIGNONE" }), VALUE_INVALID),
            (
                json!({ "init": { "type": "command", "argv": [] } }),
                VALUE_INVALID,
            ),
            (json!({ "setup": { "user": "Ana Luz" } }), VALUE_INVALID),
            (json!({ "setup": { "password_hash": "x:y" } }), VALUE_INVALID),
            (json!({ "setup": { "proxy": "http://a\";" } }), VALUE_INVALID),
            (json!({ "setup": { "include": ["--x"] } }), VALUE_INVALID),
            (
                json!({ "no_network": true, "publish": [{ "host_port": 1, "guest_port": 1 }] }),
                SPEC_INVALID,
            ),
        ] {
            let refused = spec(&known(), &spec_of(fields.clone()));
            assert!(
                refused.as_ref().is_err_and(|fault| fault.is(code)),
                "{fields}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_port_of_another_address_or_transport_is_free() {
        let one = Publish {
            ip: Some([127, 0, 0, 1].into()),
            host_port: 53,
            guest_port: 53,
            transport: model::Transport::Udp,
        };
        let other = Publish {
            ip: Some([127, 0, 0, 2].into()),
            ..one.clone()
        };
        assert!(collide(&one, &one));
        assert!(!collide(&one, &other));
        assert!(!collide(
            &one,
            &Publish {
                transport: model::Transport::Tcp,
                ..one.clone()
            }
        ));
        assert!(collide(
            &one,
            &Publish {
                ip: None,
                ..one.clone()
            }
        ));
    }

    #[test]
    fn verbs_fit_phases() {
        let name = "web".parse().unwrap();
        let ask = |v, phase| verb(v, &name, phase, false, false);
        assert_eq!(ask(Verb::Start, Phase::Running), Ok(Go::Already));
        assert_eq!(ask(Verb::Start, Phase::Stopped), Ok(Go::Do));
        assert_eq!(ask(Verb::Stop, Phase::Stopped), Ok(Go::Already));
        assert_eq!(ask(Verb::Stop, Phase::Stopping), Ok(Go::Do));
        assert_eq!(ask(Verb::Pause, Phase::Paused), Ok(Go::Already));
        assert!(ask(Verb::Pause, Phase::Stopped).unwrap_err().is(NOT_RUNNING));
        assert!(ask(Verb::Enter, Phase::Failed).unwrap_err().is(NOT_RUNNING));
        assert!(ask(Verb::Remove, Phase::Running).unwrap_err().is(RUNNING));
        assert_eq!(verb(Verb::Remove, &name, Phase::Running, false, true), Ok(Go::Do));
        assert!(
            verb(Verb::Remove, &name, Phase::Stopped, true, true)
                .unwrap_err()
                .is(PROTECTED)
        );
        assert!(
            verb(Verb::Stop, &name, Phase::Running, true, false)
                .unwrap_err()
                .is(PROTECTED)
        );
    }
}
