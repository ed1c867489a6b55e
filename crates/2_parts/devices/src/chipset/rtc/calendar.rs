//! Days, months and years of the proleptic Gregorian calendar (after Howard Hinnant's "chrono-compatible low-level date algorithms").

/// A moment as a clock shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Year, 0 to 9999.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Hour, 0 to 23.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second.
    pub second: i64,
    /// Day of the week, 1 for Sunday.
    pub weekday: i64,
}

/// Seconds since 1970; fields beyond their ranges count on.
#[must_use]
pub fn seconds(moment: &Moment) -> i64 {
    let months = moment.year * 12 + moment.month - 1;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468 + moment.day - 1;
    ((days * 24 + moment.hour) * 60 + moment.minute) * 60 + moment.second
}

/// The moment so many seconds after 1970.
#[must_use]
pub fn moment(seconds: i64) -> Moment {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    Moment {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days + 4).rem_euclid(7) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates_are_known() {
        let leap = moment(1_709_164_800 + 3661);
        assert_eq!((leap.year, leap.month, leap.day, leap.weekday), (2024, 2, 29, 5));
        assert_eq!((leap.hour, leap.minute, leap.second), (1, 1, 1));
        assert_eq!(moment(0).weekday, 5);
    }

    proptest! {
        #[test]
        fn seconds_and_moments_are_two_ways_to_say_the_same(at in -62_000_000_000i64..250_000_000_000) {
            prop_assert_eq!(seconds(&moment(at)), at);
        }
    }
}
