//! Words to systemd: readiness and the end (sd_notify(3)).

use std::os::unix::net::UnixDatagram;

/// Sends a state such as `READY=1` to the address in `NOTIFY_SOCKET`; nothing happens where there is none.
pub(crate) fn notify(address: Option<&std::ffi::OsStr>, state: &str) {
    let Some(address) = address.filter(|address| !address.is_empty()) else {
        return;
    };
    // Who started us and does not listen wants no word.
    if let Ok(socket) = UnixDatagram::unbound() {
        let name = address.as_encoded_bytes();
        let sent = match name.strip_prefix(b"@") {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                std::os::unix::net::SocketAddr::from_abstract_name(name)
                    .and_then(|address| socket.send_to_addr(state.as_bytes(), &address))
            }
            None => socket.send_to(state.as_bytes(), std::path::Path::new(address)),
        };
        let _ = sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reaches_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        notify(Some(path.as_os_str()), "READY=1");
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        notify(None, "READY=1");
    }
}
