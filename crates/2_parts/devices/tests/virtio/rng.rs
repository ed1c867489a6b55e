//! Randomness through its queue.

use std::sync::Arc;

use devices::Device;
use devices::virtio::rng::Rng;
use vcpu::time::{Random, SeededRandom};

use crate::driver::{Guest, PACKED, Time};

#[test]
fn the_machines_randomness_comes_in_the_order_of_requests_also_after_a_restore() {
    let time = Time::counting();
    let device = |seed| Rng::new("rng", Arc::new(SeededRandom::new(seed)), &time.crew()).unwrap();
    let mut guest = Guest::new(device(5), time.clone(), 16 << 20);
    let mut rings = guest.start(PACKED, 1, 8);
    let (first, len) = guest.request(&mut rings[0], &[], &[10, 14]);
    assert_eq!(len, 24);
    let expected = SeededRandom::new(5);
    let mut bytes = [0; 24];
    expected.fill(&mut bytes);
    assert_eq!(first, bytes);
    // Rung, not yet done, and saved.
    let buffers = rings[0].place(&[], &[16]);
    rings[0].add(&buffers);
    guest.ring(&mut rings[0]);
    let saved = guest.save();
    let other = Guest::on(
        device(expected.save().unwrap()),
        time.clone(),
        guest.memory.clone(),
    );
    other.lock().pause();
    other.lock().restore(&saved).unwrap();
    other.resume();
    other.until("the request", || rings[0].take());
    expected.fill(&mut bytes[..16]);
    assert_eq!(rings[0].contents(&buffers), bytes[..16]);
}

#[test]
fn a_request_without_end_gets_a_bounded_answer() {
    let time = Time::Threads;
    let random = Arc::new(SeededRandom::new(1));
    let mut guest = Guest::new(Rng::new("rng", random, &time.crew()).unwrap(), time, 64 << 20);
    let mut rings = guest.start(0, 1, 8);
    let (_, len) = guest.request(&mut rings[0], &[], &[16 << 20, 16 << 20]);
    assert!(len > 0 && len <= 1 << 16);
}
