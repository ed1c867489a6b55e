//! Versions of packages and their order; deb-version(7).

use std::cmp::Ordering;

/// Compares two versions: epoch, upstream version, revision.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_rest) = epoch(a);
    let (b_epoch, b_rest) = epoch(b);
    let (a_upstream, a_revision) = a_rest.rsplit_once('-').unwrap_or((a_rest, ""));
    let (b_upstream, b_revision) = b_rest.rsplit_once('-').unwrap_or((b_rest, ""));
    numbers(a_epoch, b_epoch)
        .then_with(|| parts(a_upstream.as_bytes(), b_upstream.as_bytes()))
        .then_with(|| parts(a_revision.as_bytes(), b_revision.as_bytes()))
}

fn epoch(version: &str) -> (&[u8], &str) {
    match version.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => (epoch.as_bytes(), rest),
        _ => (b"", version),
    }
}

/// Compares two numbers of any length, given as digits.
fn numbers(a: &[u8], b: &[u8]) -> Ordering {
    let trim = |digits: &[u8]| digits.iter().take_while(|d| **d == b'0').count();
    let (a, b) = (&a[trim(a)..], &b[trim(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The order of one character: `~` before the end, the end before letters, letters before the rest.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

fn parts(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    while !a.is_empty() || !b.is_empty() {
        while (!a.is_empty() && !is_digit(a.first())) || (!b.is_empty() && !is_digit(b.first())) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let digits = |part: &[u8]| part.iter().take_while(|d| d.is_ascii_digit()).count();
        let (a_digits, a_rest) = a.split_at(digits(a));
        let (b_digits, b_rest) = b.split_at(digits(b));
        let order = numbers(a_digits, b_digits);
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_policy_hold() {
        let ascending = [
            "1.0~~", "1.0~~a", "1.0~", "1.0", "1.0-0", "1.0-1", "1.0a", "1.0+b1", "1.2", "1.10", "1:0.1",
        ];
        for pair in ascending.windows(2) {
            let expected = if pair == ["1.0", "1.0-0"] {
                Ordering::Equal
            } else {
                Ordering::Less
            };
            assert_eq!(compare(pair[0], pair[1]), expected, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), expected.reverse(), "{pair:?}");
        }
        assert_eq!(compare("0:1.01", "1.1"), Ordering::Equal);
        assert_eq!(
            compare("99999999999999999999999", "99999999999999999999998"),
            Ordering::Greater
        );
    }

    /// Only where dpkg is installed, as on every host that we support.
    #[test]
    fn the_order_is_that_of_dpkg() {
        if std::process::Command::new("dpkg")
            .arg("--version")
            .output()
            .is_err()
        {
            return;
        }
        let part = "[0-9]{1,2}([.+~][0-9a-b]{1,2}){0,2}";
        let version = format!("([0-2]:)?{part}(-{part})?");
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
        runner
            .run(&(version.as_str(), version.as_str()), |(a, b)| {
                let holds = |op: &str| {
                    let status = std::process::Command::new("dpkg")
                        .args(["--compare-versions", &a, op, &b])
                        .status();
                    status.is_ok_and(|s| s.success())
                };
                let theirs = match (holds("lt"), holds("gt")) {
                    (true, _) => Ordering::Less,
                    (_, true) => Ordering::Greater,
                    _ => Ordering::Equal,
                };
                prop_assert_eq!(compare(&a, &b), theirs, "{} {}", a, b);
                Ok(())
            })
            .unwrap();
    }

    proptest! {
        #[test]
        fn any_text_has_a_place_in_the_order(a in "\\PC{0,20}", b in "\\PC{0,20}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
