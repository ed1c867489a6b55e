//! Who listens on a port of the host, for the words of an error.

use std::fs;

use model::Transport;

/// Name and number of a process that has the port: `nginx (812)`. None when nobody is found.
pub(crate) fn of_port(port: u16, transport: Transport) -> Option<String> {
    let tables = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|text| sockets_on(&text, port, transport == Transport::Tcp))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let has = fds.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        });
        if has {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} ({pid})", name.trim()));
        }
    }
    None
}

/// Inode numbers of the sockets bound to the port, out of a table of proc(5) `/proc/net/tcp`.
fn sockets_on(table: &str, port: u16, only_listening: bool) -> Vec<String> {
    const LISTENING: &str = "0A";
    let local = format!(":{port:04X}");
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, at, _, state, _, _, _, _, _, inode, ..] = fields[..]
            && at.ends_with(&local)
            && (!only_listening || state == LISTENING)
            && inode != "0"
        {
            inodes.push(inode.to_owned());
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_listens_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = of_port(port, Transport::Tcp).unwrap();
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        assert_eq!(of_port(port, Transport::Udp), None);
    }
}
