//! Work inside another network namespace.

use std::os::fd::BorrowedFd;

use fault::{Fault, OrFault, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::NETNS_REFUSED;

/// Runs the work in the network namespace of the descriptor, on a thread of its own that ends with it; the calling
/// thread stays where it is. Sockets that the work opens keep belonging to that namespace.
///
/// # Errors
/// `NET005` when the namespace cannot be entered; else what the work returns.
pub fn inside<T: Send>(netns: BorrowedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let enter = move || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .or_fault(|| Fault::new(NETNS_REFUSED))?;
        work()
    };
    std::thread::scope(|scope| match scope.spawn(enter).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
