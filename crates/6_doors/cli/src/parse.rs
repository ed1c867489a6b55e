//! The small languages of options: forwards, mounts, pairs, numbers.

use std::net::IpAddr;

use fault::{Fault, Result};
use model::{MountSpec, Publish, Transport};

use crate::codes;

/// `key=value`.
///
/// # Errors
/// [`codes::PAIR_INVALID`].
pub fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(Fault::new(codes::PAIR_INVALID).arg("text", text)),
    }
}

/// `[IP:]HOST[:GUEST][/udp]`, IPv6 addresses in brackets; without `GUEST` the same port inside.
///
/// # Errors
/// [`codes::PUBLISH_INVALID`].
pub fn publish(text: &str) -> Result<Publish> {
    let bad = || Fault::new(codes::PUBLISH_INVALID).arg("text", text);
    let (rest, transport) = match text.rsplit_once('/') {
        None => (text, Transport::Tcp),
        Some((rest, "tcp")) => (rest, Transport::Tcp),
        Some((rest, "udp")) => (rest, Transport::Udp),
        Some(_) => return Err(bad()),
    };
    let (ip, ports) = if let Some(rest) = rest.strip_prefix('[') {
        let (address, ports) = rest.split_once("]:").ok_or_else(bad)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| bad())?;
        (Some(IpAddr::V6(address)), ports)
    } else if rest.matches(':').count() == 2 {
        let (address, ports) = rest.split_once(':').ok_or_else(bad)?;
        let address = if address == "localhost" {
            "127.0.0.1"
        } else {
            address
        };
        let address: std::net::Ipv4Addr = address.parse().map_err(|_| bad())?;
        (Some(IpAddr::V4(address)), ports)
    } else {
        (None, rest)
    };
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|port| digits && *port > 0)
            .ok_or_else(bad)
    };
    let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
    Ok(Publish {
        ip,
        host_port: port(host)?,
        guest_port: port(guest)?,
        transport,
    })
}

/// A forward as it is written.
#[must_use]
pub fn publish_text(forward: &Publish) -> String {
    let address = match forward.ip {
        None => String::new(),
        Some(IpAddr::V4(address)) => format!("{address}:"),
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
    };
    let transport = if forward.transport == Transport::Udp {
        "/udp"
    } else {
        ""
    };
    format!("{address}{}:{}{transport}", forward.host_port, forward.guest_port)
}

/// `HOST:GUEST[:ro]`; a relative host path is taken from the working directory.
///
/// # Errors
/// [`codes::MOUNT_INVALID`].
pub fn mount(text: &str, here: &std::path::Path) -> Result<MountSpec> {
    let bad = || Fault::new(codes::MOUNT_INVALID).arg("text", text);
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let (source, target) = paths.split_once(':').ok_or_else(bad)?;
    if source.is_empty() || !target.starts_with('/') || target.contains(':') {
        return Err(bad());
    }
    let source = absolute(source, here).ok_or_else(bad)?;
    Ok(MountSpec {
        source,
        target: target.to_owned(),
        read_only,
    })
}

/// A path without `.` and repeated slashes, taken from `here` when relative; none when it is no text.
#[must_use]
pub fn absolute(path: &str, here: &std::path::Path) -> Option<String> {
    let joined: std::path::PathBuf = here.join(path).components().collect();
    joined.into_os_string().into_string().ok()
}

/// `KEY=VALUE`, or `KEY` with the value from the environment here; nothing when it has none there.
///
/// # Errors
/// [`codes::PAIR_INVALID`].
pub fn variable(text: &str) -> Result<Option<(String, String)>> {
    let named = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if named {
        return Ok(std::env::var(text).ok().map(|value| (text.to_owned(), value)));
    }
    pair(text).map(Some)
}

/// A whole number, for an option of this name.
///
/// # Errors
/// [`codes::NUMBER_INVALID`].
pub fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T> {
    let named = text.trim();
    // "NaN" and "inf" are numbers to Rust; to people they are typing errors.
    let spelt = named.contains(|c: char| c.is_alphabetic()) && !named.contains(['.', ':']);
    let parsed = if spelt && named.parse::<f64>().is_ok_and(|n| !n.is_finite()) {
        None
    } else {
        named.parse().ok()
    };
    parsed.ok_or_else(|| {
        Fault::new(codes::NUMBER_INVALID)
            .arg("option", option)
            .arg("text", text)
    })
}

/// An address, for an option of this name.
///
/// # Errors
/// [`codes::VALUE_INVALID`].
pub fn address<T: std::str::FromStr>(option: &str, text: &str, kind: &str) -> Result<T> {
    text.parse().map_err(|_| {
        Fault::new(codes::VALUE_INVALID)
            .arg("value", text)
            .arg("option", option)
            .arg("allowed", kind)
    })
}

/// A time span in seconds: `90`, `90s`, `15m`, `2h`.
///
/// # Errors
/// [`codes::NUMBER_INVALID`].
pub fn seconds(option: &str, text: &str) -> Result<u64> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let bad = || {
        Fault::new(codes::NUMBER_INVALID)
            .arg("option", option)
            .arg("text", text)
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(bad)
}

/// A truth value: `true`, `yes`, `on`, `1`, `sí` and their opposites.
///
/// # Errors
/// [`codes::VALUE_INVALID`].
pub fn truth(option: &str, text: &str) -> Result<bool> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "sí" | "si" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Fault::new(codes::VALUE_INVALID)
            .arg("value", text)
            .arg("option", option)
            .arg("allowed", "true, false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forwards_are_read_as_written() {
        for text in [
            "8000:80",
            "127.0.0.1:2200:22",
            "53:5353/udp",
            "[::1]:8000:80",
            "0.0.0.0:1:65535/udp",
        ] {
            assert_eq!(publish_text(&publish(text).unwrap()), text);
        }
        assert_eq!(
            publish_text(&publish("localhost:8000:80/tcp").unwrap()),
            "127.0.0.1:8000:80"
        );
        assert_eq!(publish_text(&publish("80").unwrap()), "80:80");
        for bad in [
            "",
            ":",
            "x:80",
            "0:80",
            "80:0",
            "70000:80",
            "1.2.3:1:2",
            "80:80/sctp",
            "::1:8000:80",
            "+80:80",
            "80:80:80:80",
        ] {
            assert!(publish(bad).unwrap_err().is(codes::PUBLISH_INVALID), "{bad}");
        }
    }

    #[test]
    fn mounts_are_read_from_here() {
        let here = std::path::Path::new("/home/ana");
        let spec = mount("./www:/srv/www:ro", here).unwrap();
        assert_eq!(
            (spec.source.as_str(), spec.target.as_str(), spec.read_only),
            ("/home/ana/www", "/srv/www", true)
        );
        assert_eq!(mount("/a:/b", here).unwrap().source, "/a");
        for bad in ["", "/a", "/a:b", ":/b", "/a:/b:rx"] {
            assert!(mount(bad, here).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(seconds("timeout", "90").unwrap(), 90);
        assert_eq!(seconds("timeout", "2m").unwrap(), 120);
        assert!(seconds("timeout", "soon").is_err());
        assert!(seconds("timeout", "").is_err());
    }

    proptest! {
        #[test]
        fn every_forward_reads_back(ip in proptest::option::of(any::<[u8; 4]>()), host in 1u16.., guest in 1u16.., udp: bool) {
            let forward = Publish {
                ip: ip.map(IpAddr::from),
                host_port: host,
                guest_port: guest,
                transport: if udp { Transport::Udp } else { Transport::Tcp },
            };
            prop_assert_eq!(publish(&publish_text(&forward)).unwrap(), forward);
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
            let _ = publish(&text);
            let _ = mount(&text, std::path::Path::new("/"));
            let _ = seconds("x", &text);
            let _ = pair(&text);
        }
    }
}
