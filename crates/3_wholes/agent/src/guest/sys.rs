//! Calls of the kernel and the C library that neither rustix nor `hostos` has: vsock, addresses, freezing, signals.
#![allow(
    unsafe_code,
    reason = "sockaddr_vm, getifaddrs(3), FIFREEZE and numbers of signals have no safe wrapper"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Context id of the host (vsock(7)).
pub const CID_HOST: u32 = libc::VMADDR_CID_HOST;
/// No context id has been given to this machine.
pub const CID_NONE: u32 = libc::VMADDR_CID_ANY;

const VSOCK_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
/// _IO(7, 0xb9), linux/vm_sockets.h.
const GET_LOCAL_CID: libc::Ioctl = 0x7b9;
/// _IOWR('X', 119, int), linux/fs.h.
const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
/// _IOWR('X', 120, int), linux/fs.h.
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

/// A vsock socket that listens on a port for whoever connects; non-blocking.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2): EAFNOSUPPORT where the kernel has no vsock, EADDRINUSE.
pub fn listen_vsock(port: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket touches no memory.
    let number = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: all bytes zero is a sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_ANY;
    address.svm_port = port;
    // SAFETY: the address is a sockaddr_vm of the length told, alive during the call.
    let done = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), VSOCK_LENGTH)
            | libc::listen(socket.as_raw_fd(), 16)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Begins to connect to a vsock port; the connection may come or not.
///
/// # Errors
/// Those of socket(2) and connect(2), but for EINPROGRESS.
pub fn connect_vsock(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket touches no memory.
    let number = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: all bytes zero is a sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    // SAFETY: the address is a sockaddr_vm of the length told, alive during the call.
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), VSOCK_LENGTH) };
    match io::Error::last_os_error() {
        error if done < 0 && error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Takes a connection of a vsock listener: the socket (non-blocking) and the context id that it comes from.
///
/// # Errors
/// Those of accept(2).
pub fn accept_vsock(listener: impl AsFd) -> io::Result<(OwnedFd, u32)> {
    // SAFETY: all bytes zero is a sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    let mut length = VSOCK_LENGTH;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let from = listener.as_fd().as_raw_fd();
    // SAFETY: address and length are ours and of the size told.
    let number = unsafe { libc::accept4(from, (&raw mut address).cast(), &raw mut length, flags) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok((unsafe { OwnedFd::from_raw_fd(number) }, address.svm_cid))
}

/// The context id that the hypervisor has given to this machine; [`CID_NONE`] while no transport is there.
#[must_use]
pub fn local_cid(device: impl AsFd) -> u32 {
    let mut cid = CID_NONE;
    // SAFETY: the call writes one u32.
    let done = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), GET_LOCAL_CID, &raw mut cid) };
    if done < 0 { CID_NONE } else { cid }
}

/// Freezes or thaws the file system of an open directory.
///
/// # Errors
/// EOPNOTSUPP where a file system cannot, EBUSY when it is frozen already, EINVAL when it is not frozen.
pub fn set_frozen(directory: impl AsFd, frozen: bool) -> io::Result<()> {
    let request = if frozen { FIFREEZE } else { FITHAW };
    // SAFETY: these calls ignore their argument.
    let done = unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), request, 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends a signal by number to a process, or with a negative id to a process group (kill(2)). The process must be a
/// child that has not been waited for, so that the number is still its own.
///
/// # Errors
/// ESRCH when nobody is there, EINVAL when the number is no signal.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // Zero would be our own group, one and minus one everybody's.
    if (-1..=1).contains(&pid) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(pid, signal) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Addresses with prefix length by interface, without the loopback's (getifaddrs(3)).
///
/// # Errors
/// Those of getifaddrs(3).
pub fn addresses() -> io::Result<BTreeMap<String, Vec<String>>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: on success `first` is a list that stays until freeifaddrs.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: an element of the list, not freed yet.
        let item = unsafe { &*next };
        next = item.ifa_next;
        if item.ifa_flags & libc::IFF_LOOPBACK as libc::c_uint != 0 {
            continue;
        }
        if let Some(address) = address(item) {
            // SAFETY: every element has a name that ends in zero.
            let name = unsafe { std::ffi::CStr::from_ptr(item.ifa_name) };
            let name = name.to_string_lossy().into_owned();
            found.entry(name).or_default().push(address);
        }
    }
    // SAFETY: the list came from getifaddrs and is not used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

fn address(item: &libc::ifaddrs) -> Option<String> {
    if item.ifa_addr.is_null() || item.ifa_netmask.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    match i32::from(unsafe { (*item.ifa_addr).sa_family }) {
        libc::AF_INET => {
            let octets = |at: *mut libc::sockaddr| {
                // SAFETY: an address of this family is a sockaddr_in; reading makes no demand on its alignment.
                unsafe { at.cast::<libc::sockaddr_in>().read_unaligned() }
                    .sin_addr
                    .s_addr
            };
            let prefix = octets(item.ifa_netmask).count_ones();
            let address = Ipv4Addr::from(u32::from_be(octets(item.ifa_addr)));
            Some(format!("{address}/{prefix}"))
        }
        libc::AF_INET6 => {
            let octets = |at: *mut libc::sockaddr| {
                // SAFETY: an address of this family is a sockaddr_in6; reading makes no demand on its alignment.
                unsafe { at.cast::<libc::sockaddr_in6>().read_unaligned() }
                    .sin6_addr
                    .s6_addr
            };
            let prefix = u128::from_be_bytes(octets(item.ifa_netmask)).count_ones();
            let address = Ipv6Addr::from(octets(item.ifa_addr));
            Some(format!("{address}/{prefix}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_signals_everybody_by_mistake() {
        for pid in [-1, 0, 1] {
            assert_eq!(kill(pid, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }

    /// `ip` may be missing; the kernel's own list of interfaces is the measure.
    #[test]
    fn addresses_belong_to_interfaces_and_are_whole() {
        for (name, list) in addresses().unwrap() {
            assert!(
                std::path::Path::new("/sys/class/net").join(&name).exists(),
                "{name}"
            );
            for text in list {
                let (address, prefix) = text.split_once('/').unwrap();
                assert!(address.parse::<std::net::IpAddr>().is_ok(), "{text}");
                assert!(prefix.parse::<u8>().unwrap() <= 128, "{text}");
                assert!(!address.starts_with("127."), "{text}");
            }
        }
    }

    #[test]
    fn a_vsock_listener_listens_where_the_kernel_has_vsock() {
        match listen_vsock(libc::VMADDR_PORT_ANY) {
            Ok(listener) => {
                let error = accept_vsock(&listener).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            }
            Err(error) => eprintln!("no vsock here: {error}"),
        }
    }
}
