//! Versions of kernels: Debian's order of them, and the one in a kernel's header.

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does for what stands behind an epoch: digits by value, letters
/// before other signs, and a tilde before everything, also before the end.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (texts, numbers) = (split(&mut a, false), split(&mut b, false));
        let weights = |text: &[u8]| -> Vec<i32> { text.iter().map(|sign| weight(*sign)).collect() };
        let (mut left, mut right) = (weights(texts), weights(numbers));
        // The end weighs nothing: more than a tilde, less than anything else.
        let len = left.len().max(right.len());
        left.resize(len, 0);
        right.resize(len, 0);
        let order = left.cmp(&right);
        if order != Ordering::Equal {
            return order;
        }
        let (left, right) = (split(&mut a, true), split(&mut b, true));
        let (left, right) = (value(left), value(right));
        let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
        if order != Ordering::Equal || a.is_empty() && b.is_empty() {
            return order;
        }
    }
}

/// Takes the longest piece off the front that has only digits, or none.
fn split<'a>(text: &mut &'a [u8], digits: bool) -> &'a [u8] {
    let end = text
        .iter()
        .position(|sign| sign.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    let (piece, rest) = text.split_at(end);
    *text = rest;
    piece
}

/// A number without zeros in front, which makes its text comparable.
fn value(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|digit| *digit != b'0');
    &digits[start.unwrap_or(digits.len())..]
}

fn weight(sign: u8) -> i32 {
    match sign {
        b'~' => -1,
        sign if sign.is_ascii_alphabetic() => i32::from(sign),
        sign => i32::from(sign) + 256,
    }
}

/// The release that a bzImage tells in its header (`kernel_version`, Documentation/arch/x86/boot.rst).
pub(super) fn of_kernel(kernel: &[u8]) -> Option<String> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer = kernel.get(0x20e..0x210)?;
    let at = usize::from(u16::from_le_bytes([pointer[0], pointer[1]])) + 0x200;
    let text = kernel.get(at..)?.iter().take(256).take_while(|byte| **byte != 0);
    let text: Vec<u8> = text.copied().collect();
    let release = String::from_utf8(text).ok()?;
    let release = release.split_whitespace().next()?;
    release
        .starts_with(|first: char| first.is_ascii_digit())
        .then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_stand_in_debians_order() {
        let order = [
            "5.10.0-8-amd64",
            "5.10.0-23-amd64",
            "6.1.0~rc7-amd64",
            "6.1.0-9-amd64",
            "6.1.0-10-amd64",
            "6.1.0-10-cloud-amd64",
            "6.1.0-010-rt-amd64",
            "6.1.0-13-amd64",
            "6.12.1",
            "6.12.1a",
            "6.12.1+deb13",
        ];
        for (a, first) in order.iter().enumerate() {
            for (b, second) in order.iter().enumerate() {
                assert_eq!(compare(first, second), a.cmp(&b), "{first} {second}");
            }
        }
        assert_eq!(compare("6.01", "6.1"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[0-9a-z.~+-]{0,8}", b in "[0-9a-z.~+-]{0,8}", c in "[0-9a-z.~+-]{0,8}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn the_order_is_dpkgs(a in "[0-9][0-9a-z.~+]{0,6}", b in "[0-9][0-9a-z.~+]{0,6}") {
            let ask = |relation| {
                std::process::Command::new("dpkg").args(["--compare-versions", &a, relation, &b]).status()
            };
            if let Ok(status) = ask("lt") {
                prop_assert_eq!(status.success(), compare(&a, &b).is_lt(), "{} {}", a, b);
            }
        }

        #[test]
        fn no_kernel_makes_its_version_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let mut kernel = bytes;
            if kernel.len() > 0x210 {
                kernel[0x202..0x206].copy_from_slice(b"HdrS");
            }
            let _ = of_kernel(&kernel);
        }
    }
}
