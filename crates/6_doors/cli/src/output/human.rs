//! Sizes and times as people like to read them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A size for a table: `512M`, or `-` when there is none.
#[must_use]
pub fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| model::Size(bytes).to_string())
}

/// A part of a whole in per cent with one digit, as `12.5`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        "-".to_owned()
    } else {
        format!("{:.1}", part as f64 * 100.0 / whole as f64)
    }
}

/// Seconds since 1970, now.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// How long ago an RFC 3339 time was: `12s`, `3m`, `5h`, `2d`; `-` for what is no time.
#[must_use]
pub fn age(time: &str, now: i64) -> String {
    let Some(then) = parse_time(time) else {
        return "-".to_owned();
    };
    let seconds = (now - then).max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Seconds since 1970 of an RFC 3339 time; fractions are cut off.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let bytes = text.as_bytes();
    let shaped =
        bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[13] == b':' && bytes[16] == b':';
    if !shaped || !text.is_ascii() {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if zone.len() == 6 => {
            let minutes = zone[1..3].parse::<i64>().ok()? * 60 + zone[4..6].parse::<i64>().ok()?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    // Days from the civil date (proleptic Gregorian), counted in years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86400 + hour * 3600 + minute * 60 + second - offset * 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_of_rfc_3339_are_read() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_time("2000-03-01T00:00:00Z"), Some(951_868_800));
        assert_eq!(
            parse_time("2026-11-21T14:00:00.25+01:00"),
            parse_time("2026-11-21T13:00:00Z")
        );
        assert_eq!(parse_time("yesterday, I believe"), None);
    }

    #[test]
    fn ages_have_one_unit() {
        let now = parse_time("2026-11-21T14:00:00Z").unwrap();
        for (time, text) in [
            ("2026-11-21T13:59:50Z", "10s"),
            ("2026-11-21T13:50:00Z", "10m"),
            ("2026-11-21T04:00:00Z", "10h"),
            ("2026-11-11T14:00:00Z", "10d"),
            ("2026-11-21T14:00:09Z", "0s"),
            ("", "-"),
        ] {
            assert_eq!(age(time, now), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_of_times_panic(text in ".{0,40}") {
            let _ = parse_time(&text);
        }
    }
}
