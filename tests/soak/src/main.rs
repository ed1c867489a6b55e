//! Endurance: counts and hours, in pieces that can be started again.
//!
//! Run as `cargo xtask soak NAME [--rounds N] [--from N]`. A round's delays come from its number alone, so that a
//! round that failed can be run again by itself: `--from 57 --rounds 1`.

mod dead_daemon;
mod kill9;
mod many;

use std::process::ExitCode;

/// A piece: name, what it does, rounds unless told otherwise, body.
type Piece = (&'static str, &'static str, u64, fn(&Rounds));

const PIECES: &[Piece] = &[
    (
        "kill9",
        "the daemon is killed at random points of create, start, stop and rm",
        100,
        kill9::run,
    ),
    (
        "many",
        "guests in a row and at once; nothing is left",
        100,
        many::run,
    ),
    (
        "dead-daemon",
        "minutes without a daemon: names, leases and reboots go on",
        10,
        dead_daemon::run,
    ),
];

/// Which rounds to run.
pub struct Rounds {
    /// The first round's number.
    pub from: u64,
    /// How many.
    pub count: u64,
}

impl Rounds {
    /// The numbers of the rounds.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.from..self.from + self.count
    }
}

/// Numbers that depend on a round only (splitmix64 by Sebastiano Vigna, public domain).
pub struct Chance(u64);

impl Chance {
    /// The chance of a round.
    pub fn of(round: u64) -> Self {
        Chance(round.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |option: &str| {
        let at = words.iter().position(|word| word == option)?;
        words.get(at + 1)?.parse().ok()
    };
    if words.first().is_none_or(|word| word == "--list") {
        for (name, about, rounds, _) in PIECES {
            println!("{name:<12} {about} ({rounds} rounds)");
        }
        return ExitCode::SUCCESS;
    }
    let Some((name, _, usual, run)) = PIECES.iter().find(|(name, ..)| *name == words[0]) else {
        eprintln!("no piece is called {}; --list names them", words[0]);
        return ExitCode::from(2);
    };
    let rounds = Rounds {
        from: number("--from").unwrap_or(0),
        count: number("--rounds").unwrap_or(*usual),
    };
    run(&rounds);
    println!("soak {name}: {} rounds, all well", rounds.count);
    ExitCode::SUCCESS
}
