//! The protocol with the agent inside machines: any bytes are frames or refused, on both sides, and what is read is
//! written back the same.
#![no_main]

use agent::protocol::{FromGuest, FromHost};
use agent::wire::{Broken, Decoder, Item, encode, greeting};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let port = first & 1 == 1;
    let mut decoder = Decoder::new(port);
    if first & 2 == 2 {
        decoder.push(&greeting([0; 16]));
    }
    // In pieces, as a stream comes.
    for piece in bytes.chunks(usize::from(first >> 2) + 1) {
        decoder.push(piece);
        loop {
            match decoder.take() {
                Ok(None) => break,
                Ok(Some(Item::Greeting(_))) => {}
                Ok(Some(Item::Frame(frame))) => {
                    let _ = frame.parse::<FromGuest>();
                    if let Ok((number, Some(message))) = frame.parse::<FromHost>() {
                        let mut again = greeting([0; 16]).to_vec();
                        // What was left out is written, and may be too much.
                        if encode(&mut again, number, &message, &frame.data).is_err() {
                            continue;
                        }
                        let mut decoder = Decoder::new(false);
                        decoder.push(&again);
                        assert!(matches!(decoder.take(), Ok(Some(Item::Greeting(_)))));
                        let Ok(Some(Item::Frame(copy))) = decoder.take() else {
                            panic!("our own frame is refused")
                        };
                        assert_eq!(copy.parse::<FromHost>(), Ok((number, Some(message))));
                    }
                }
                Err(Broken) if port => decoder.resync(),
                Err(Broken) => return,
            }
        }
    }
});
