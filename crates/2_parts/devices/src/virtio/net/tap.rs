//! A tap interface of the kernel, handed over open (`IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`).
#![allow(unsafe_code, reason = "requests of the tun driver that no library wraps")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::backend::{HEADER, Interface, NetControl, NetQueue};
use super::feature;

// From linux/if_tun.h.
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
const TUNSETQUEUE: libc::Ioctl = 0x4004_54d9;
const TUN_F_CSUM: libc::c_ulong = 1;
const TUN_F_TSO4: libc::c_ulong = 2;
const TUN_F_TSO6: libc::c_ulong = 4;
const IFF_ATTACH_QUEUE: libc::c_short = 0x200;
const IFF_DETACH_QUEUE: libc::c_short = 0x400;

/// One queue of a tap.
pub struct Tap(File);

/// All queues of a tap.
struct Taps {
    queues: Vec<OwnedFd>,
    attached: Mutex<Vec<bool>>,
}

impl Tap {
    /// The interface whose queues these descriptors are; with more than one, made with `IFF_MULTI_QUEUE`.
    ///
    /// # Errors
    /// When they are no such descriptors.
    pub fn interface(queues: Vec<OwnedFd>) -> io::Result<Interface> {
        for queue in &queues {
            let flags = rustix::fs::fcntl_getfl(queue)?;
            rustix::fs::fcntl_setfl(queue, flags | OFlags::NONBLOCK)?;
            let size = HEADER as libc::c_int;
            // SAFETY: the request reads one integer.
            if unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let copies = queues
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        let taps = Taps {
            attached: Mutex::new(vec![true; copies.len()]),
            queues: copies,
        };
        taps.set_offloads(0);
        let queue = |fd: OwnedFd| Box::new(Tap(fd.into())) as Box<dyn NetQueue>;
        Ok(Interface {
            queues: queues.into_iter().map(queue).collect(),
            control: Arc::new(taps),
            has_offloads: true,
        })
    }
}

impl NetQueue for Tap {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.write(packet).map(drop)
    }

    fn receive(&mut self, packet: &mut [u8]) -> io::Result<usize> {
        self.0.read(packet)
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

impl NetControl for Taps {
    fn set_offloads(&self, offloads: u64) {
        let bit = |feature, flag| if offloads & feature != 0 { flag } else { 0 };
        // The kernel wants the checksum offload with the others, as virtio does.
        let flags = match bit(feature::GUEST_CSUM, TUN_F_CSUM) {
            0 => 0,
            csum => csum | bit(feature::GUEST_TSO4, TUN_F_TSO4) | bit(feature::GUEST_TSO6, TUN_F_TSO6),
        };
        if let Some(first) = self.queues.first() {
            // SAFETY: the request takes its argument by value. A refusal leaves packets smaller than they might be.
            unsafe { libc::ioctl(first.as_raw_fd(), TUNSETOFFLOAD, flags) };
        }
    }

    fn set_pairs(&self, pairs: u16) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if self.queues.len() < 2 {
            return;
        }
        for (n, (queue, attached)) in self.queues.iter().zip(&mut *attached).enumerate() {
            let wanted = n < usize::from(pairs);
            if *attached != wanted {
                // SAFETY: all zeros are a valid request structure.
                let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
                request.ifr_ifru.ifru_flags = if wanted {
                    IFF_ATTACH_QUEUE
                } else {
                    IFF_DETACH_QUEUE
                };
                // SAFETY: the request reads one `ifreq`.
                let done = unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETQUEUE, &raw const request) };
                if done == 0 {
                    *attached = wanted;
                }
            }
        }
    }
}
