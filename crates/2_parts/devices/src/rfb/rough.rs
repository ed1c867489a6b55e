//! A session under rough hands: any bytes as a client's messages; for property tests and fuzzing.

use super::keys::{Keyboard, Keymap};
use super::session::{Sent, Wanted, hear};
use super::{Input, message::Message};
use crate::vga::{Screen, Vga};

/// Takes everything.
struct Nobody;

impl Input for Nobody {
    fn key(&self, _: &[u8]) -> bool {
        true
    }
}

/// Hears the bytes, and makes the updates that they ask for. Gives the number of bytes that a client would be sent.
///
/// # Errors
/// When the host has no memory for a screen.
pub fn play(bytes: &[u8]) -> std::io::Result<usize> {
    let clock = std::sync::Arc::new(vcpu::time::CountingClock::new(0, 0));
    let screen = Vga::new(&vcpu::time::Timers::new(clock), None, true)?;
    let view = screen.view();
    let mut wanted = Wanted::new();
    let mut sent = Sent::new(view.size());
    let (mut total, mut updates) = (0, 0);
    let mut keyboard = Keyboard::new(Keymap::Es, &Nobody);
    // Whether the client is sent away for what it said is the same here.
    let _ = hear(&mut &bytes[..], &mut keyboard, |message| {
        wanted.hear(message);
        if matches!(message, Message::Update { .. }) && updates < 8 {
            updates += 1;
            let update = sent.update(&mut wanted, |frame| view.render(frame));
            total += update.map_or(0, |bytes| bytes.len());
        }
    });
    keyboard.release_all();
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Messages that are more likely than chance makes them.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let rest = |len| proptest::collection::vec(any::<u8>(), len);
        prop_oneof![
            rest(16).prop_map(|format| [vec![0; 4], format].concat()),
            (1..3_u8, any::<bool>(), 0..25_u8, 0..25_u8).prop_map(|(bytes, big, red, blue)| {
                let bits = 8 << (bytes % 3);
                vec![
                    0,
                    0,
                    0,
                    0,
                    bits,
                    8,
                    u8::from(big),
                    1,
                    0,
                    7,
                    0,
                    7,
                    0,
                    3,
                    red,
                    4,
                    blue,
                    0,
                    0,
                    0,
                ]
            }),
            Just(vec![0, 0, 0, 0, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Just(
                [
                    &[2, 0, 0, 3][..],
                    &16_i32.to_be_bytes(),
                    &(-258_i32).to_be_bytes(),
                    &(-223_i32).to_be_bytes()
                ]
                .concat()
            ),
            rest(9).prop_map(|update| [vec![3], update].concat()),
            rest(7).prop_map(|key| [vec![4], key].concat()),
            rest(10).prop_map(|key| [vec![255, 0], key].concat()),
            rest(5).prop_map(|pointer| [vec![5], pointer].concat()),
            rest(30),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_client_is_survived(messages in proptest::collection::vec(message(), 0..20)) {
            play(&messages.concat()).unwrap();
        }
    }
}
