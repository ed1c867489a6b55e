//! Copying between host and guest.

use std::os::fd::OwnedFd;

use engine::protocol::{FACET_ABSENT, FileJob};
use fault::{Fault, Result};

use super::loops::Server;

impl Server {
    /// Starts a process that copies; its stream.
    pub fn copy(&mut self, _job: &FileJob) -> Result<OwnedFd> {
        Err(Fault::new(FACET_ABSENT).arg("facet", "copy"))
    }

    /// It has ended.
    pub fn copy_ended(&mut self, number: u32) {
        let Some(pidfd) = self.copies.get(&number) else {
            return;
        };
        if crate::container::exit_of(std::os::fd::AsFd::as_fd(pidfd)).is_none() {
            return;
        }
        self.reactor.remove(pidfd);
        self.copies.remove(&number);
        self.start_when_idle();
    }
}
