//! Reads SPDX licence expressions far enough to judge them against a list of accepted licences.

/// Whether the expression can be satisfied with accepted licences alone. `A/B` is the old spelling of `A OR B`.
pub fn acceptable(expression: &str, accepted: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = either(&words, &mut at, accepted);
    verdict && at == words.len()
}

fn either(words: &[&str], at: &mut usize, accepted: &[String]) -> bool {
    let mut verdict = both(words, at, accepted);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= both(words, at, accepted);
    }
    verdict
}

fn both(words: &[&str], at: &mut usize, accepted: &[String]) -> bool {
    let mut verdict = single(words, at, accepted);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= single(words, at, accepted);
    }
    verdict
}

fn single(words: &[&str], at: &mut usize, accepted: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let verdict = either(words, at, accepted);
        *at += 1;
        return verdict;
    }
    let mut licence = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    accepted.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn expressions_are_judged_by_what_they_allow() {
        let accepted = [
            "MIT",
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "Unicode-3.0",
        ]
        .map(String::from);
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(acceptable(good, &accepted), "{good}");
        }
        assert!(acceptable("Apache-2.0 WITH LLVM-exception OR Zlib", &accepted));
        for bad in [
            "",
            "GPL-2.0",
            "MIT AND GPL-3.0",
            "MIT)",
            "(GPL-3.0 OR AGPL-3.0) AND MIT",
        ] {
            assert!(!acceptable(bad, &accepted), "{bad}");
        }
    }
}
