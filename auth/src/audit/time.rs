//! Moments as the audit log writes them.

use std::fmt;

/// A moment: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixMicros(i64);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

impl UnixMicros {
    /// Takes the number of microseconds.
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// The number of microseconds.
    pub const fn value(self) -> i64 {
        self.0
    }

    /// Reads the text form that `Display` writes; anything else gives `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let number = |part: Option<&str>, digits: usize| -> Option<i64> {
            let part = part?;
            let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            if plain { part.parse().ok() } else { None }
        };
        let mut date = date.splitn(3, '-');
        let year = number(date.next(), 4)?;
        let month = number(date.next(), 2).filter(|m| (1..=12).contains(m))?;
        let day = number(date.next(), 2).filter(|d| (1..=31).contains(d))?;
        let (clock, micros) = time.split_once('.')?;
        let mut clock = clock.splitn(3, ':');
        let hour = number(clock.next(), 2).filter(|h| *h < 24)?;
        let minute = number(clock.next(), 2).filter(|m| *m < 60)?;
        let second = number(clock.next(), 2).filter(|s| *s < 60)?;
        let micros = number(Some(micros), 6)?;
        let of_day = ((hour * 60 + minute) * 60 + second) * SECOND + micros;
        Some(Self(days_from_civil(year, month, day) * DAY + of_day))
    }
}

impl fmt::Display for UnixMicros {
    /// RFC 3339, UTC, six digits of a second: `2026-08-21T10:15:30.123456Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY));
        let of_day = self.0.rem_euclid(DAY);
        let seconds = of_day / SECOND;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            of_day % SECOND
        )
    }
}

// Both directions count years from March, so that the leap day is the last of its year; eras
// are the 400 years after which the calendar repeats.

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_known_moments() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_787_307_330_123_456, "2026-08-21T10:15:30.123456Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ];
        for (micros, text) in cases {
            assert_eq!(UnixMicros::new(micros).to_string(), text);
            assert_eq!(UnixMicros::parse(text), Some(UnixMicros::new(micros)));
        }
    }

    #[test]
    fn reads_back_every_day_of_a_calendar_cycle() {
        for day in -800..146_200 {
            let moment = UnixMicros::new(day * DAY + 1);
            assert_eq!(UnixMicros::parse(&moment.to_string()), Some(moment));
        }
    }

    #[test]
    fn other_texts_are_no_moments() {
        for text in ["", "2026-08-21", "2026-13-01T00:00:00.000000Z", "x"] {
            assert_eq!(UnixMicros::parse(text), None);
        }
    }
}
