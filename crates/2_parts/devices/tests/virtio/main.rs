//! Virtio devices as their drivers see them: through registers, rings and interrupts, without a processor.

mod block;
mod driver;
mod queue;
mod transport;
