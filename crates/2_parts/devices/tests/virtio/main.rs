//! Virtio devices as their drivers see them: through registers, rings and interrupts, without a processor.
#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

mod balloon;
mod block;
mod console;
mod driver;
mod fs;
mod hostile;
mod net;
mod queue;
mod rng;
mod transport;
mod vsock;
