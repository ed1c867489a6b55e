//! The machine's process: becomes the machine of its first order, carries out orders, ends as the machine ends.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use engine::wire::{Filled, Wire};
use fault::{Code, Fault, OrFault, Result};
use rustix::event::{PollFd, PollFlags};

use crate::control::{End, Order, Said};
use crate::machine::Machine;

/// The connection to the shim broke.
pub const NO_SHIM: Code = Code("MAC002");

/// Serves the connection on standard input; the exit code, see [`End`].
#[must_use]
pub fn run() -> i32 {
    match serve() {
        Ok(end) => end.code(),
        Err(fault) => {
            eprintln!("{fault}");
            End::Broken.code()
        }
    }
}

fn serve() -> Result<End> {
    let lost = || Fault::new(NO_SHIM);
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).or_fault(lost)?;
    let mut wire = Wire::new(UnixStream::from(socket));
    let machine = loop {
        match wire.take::<Order>()? {
            Some((Order::Begin { plan }, fds)) => match Machine::new(&plan, fds) {
                Ok(machine) => break machine,
                Err(fault) => {
                    say(&mut wire, &Said::Fault { fault: fault.clone() }, Vec::new())?;
                    return Err(fault);
                }
            },
            Some(_) => return Err(lost()),
            None => {
                if matches!(wire.fill().or_fault(lost)?, Filled::End) {
                    return Err(lost());
                }
            }
        }
    };
    wire.socket().set_nonblocking(true).or_fault(lost)?;
    machine.resume();
    say(&mut wire, &Said::Done, Vec::new())?;
    loop {
        let mut ready = [
            PollFd::new(wire.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(machine.life().as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(lost().because(error)),
        }
        let (end, events) = machine.life().take();
        for event in events {
            say(&mut wire, &Said::Event { event }, Vec::new())?;
        }
        if let Some(end) = end {
            machine.finish();
            if let Some(fault) = machine.life().broken() {
                eprintln!("{fault}");
            }
            return Ok(end);
        }
        loop {
            match wire.fill().or_fault(lost)? {
                Filled::Data => {}
                Filled::Nothing => break,
                // The shim is gone: nobody would learn of the guest any more.
                Filled::End => return Err(lost()),
            }
        }
        while let Some((order, fds)) = wire.take::<Order>()? {
            let (said, fds) = match machine.obey(order, fds) {
                Ok(answer) => answer,
                Err(fault) => (Said::Fault { fault }, Vec::new()),
            };
            say(&mut wire, &said, fds)?;
        }
    }
}

/// Says something; a shim that does not listen holds the machine's owner up, not the machine.
fn say(wire: &mut Wire, said: &Said, fds: Vec<OwnedFd>) -> Result<()> {
    let lost = || Fault::new(NO_SHIM);
    wire.push(said, fds)?;
    while !wire.flush().or_fault(lost)? {
        let mut ready = [PollFd::new(wire.socket(), PollFlags::OUT)];
        let _ = rustix::event::poll(&mut ready, None);
    }
    Ok(())
}
