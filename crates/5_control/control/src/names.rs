//! Pleasant random names for guests that were given none: an adjective and a noun of the house.

use std::str::FromStr;

use model::{Id, Name};

const ADJECTIVES: &[&str] = &[
    "able", "amber", "ample", "azure", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "cheery", "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early", "easy", "fair",
    "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "hardy",
    "hearty", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow",
    "merry", "mild", "mossy", "neat", "nimble", "noble", "patient", "placid", "plain", "polite", "proud",
    "quick", "quiet", "rapid", "ready", "rosy", "round", "ruby", "serene", "sharp", "silver", "smart",
    "snug", "sober", "solid", "spry", "steady", "still", "sturdy", "sunny", "sure", "swift", "tidy",
    "tranquil", "true", "upbeat", "vivid", "warm", "wise", "witty", "young",
];

const NOUNS: &[&str] = &[
    "acorn",
    "almond",
    "anchor",
    "aspen",
    "badger",
    "barn",
    "bay",
    "beacon",
    "bell",
    "birch",
    "brook",
    "candle",
    "canyon",
    "cedar",
    "cellar",
    "cherry",
    "clover",
    "comet",
    "coral",
    "courtyard",
    "cove",
    "crane",
    "dove",
    "elm",
    "falcon",
    "fern",
    "finch",
    "fjord",
    "fountain",
    "garden",
    "grove",
    "harbour",
    "hazel",
    "hearth",
    "heron",
    "hill",
    "inn",
    "island",
    "ivy",
    "jasmine",
    "kestrel",
    "lagoon",
    "lake",
    "lantern",
    "larch",
    "lark",
    "laurel",
    "lemon",
    "lodge",
    "maple",
    "meadow",
    "mill",
    "mint",
    "moon",
    "oak",
    "olive",
    "orchard",
    "otter",
    "owl",
    "patio",
    "pear",
    "pebble",
    "pine",
    "plum",
    "pond",
    "porch",
    "quail",
    "reef",
    "ridge",
    "river",
    "robin",
    "rose",
    "sage",
    "shore",
    "sparrow",
    "spring",
    "star",
    "stone",
    "summit",
    "swan",
    "tavern",
    "thistle",
    "thyme",
    "tower",
    "tulip",
    "valley",
    "walnut",
    "willow",
    "wren",
    "yew",
];

/// A name that `taken` does not know, made from the digits of a fresh identity.
#[must_use]
pub fn pleasant(id: &Id, taken: impl Fn(&Name) -> bool) -> Name {
    let mut seed = u64::from_str_radix(id.0.get(..16).unwrap_or("0"), 16).unwrap_or(0);
    let mut draw = |list: &'static [&'static str]| {
        let length = list.len() as u64;
        let index = usize::try_from(seed % length).unwrap_or(0);
        seed = (seed / length) ^ seed.rotate_left(17);
        list[index]
    };
    for round in 0u32.. {
        let (adjective, noun) = (draw(ADJECTIVES), draw(NOUNS));
        let text = match round {
            0..16 => format!("{adjective}-{noun}"),
            _ => format!("{adjective}-{noun}-{}", round - 14),
        };
        if let Ok(name) = Name::from_str(&text)
            && !taken(&name)
        {
            return name;
        }
    }
    unreachable!("numbers do not run out before names do")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_makes_a_valid_name() {
        for word in ADJECTIVES.iter().chain(NOUNS) {
            assert!(Name::from_str(word).is_ok(), "{word}");
        }
    }

    #[test]
    fn a_taken_name_is_never_given() {
        let id = Id("0123456789abcdef0123456789abcdef".to_owned());
        let first = pleasant(&id, |_| false);
        let second = pleasant(&id, |name| *name == first);
        assert_ne!(first, second);
        let numbered = pleasant(&id, |name| name.as_str().bytes().all(|b| !b.is_ascii_digit()));
        assert!(numbered.as_str().ends_with(|c: char| c.is_ascii_digit()));
    }
}
