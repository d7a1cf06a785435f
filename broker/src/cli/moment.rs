//! Points in time as people write them: milliseconds since 1970, or RFC 3339.

/// Reads `1700000000000` or `2026-01-02T03:04:05.678+01:00` as milliseconds since 1970.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    rfc3339(text).ok_or_else(|| {
        "expected milliseconds since 1970, or a time as 2026-01-02T03:04:05Z".to_owned()
    })
}

fn rfc3339(text: &str) -> Option<i64> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<i64>().ok()).flatten()
    };
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) || date.next().is_some() {
        return None;
    }
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(zone_at)?;
    let zone = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))?
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':');
    let (hours, minutes, seconds) = (
        number(clock.next()?)?,
        number(clock.next()?)?,
        number(clock.next()?)?,
    );
    // A leap second counts as the one after.
    if clock.next().is_some() || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    number(fraction)?;
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = days_since_1970(number(year)?, number(month)?, number(day)?)?;
    Some((((days * 24 + hours) * 60 + minutes - zone) * 60 + seconds) * 1000 + ms)
}

fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let leap_day = i64::from(is_leap(year));
    let length = lengths.get(index)? + if month == 2 { leap_day } else { 0 };
    if !(1..=length).contains(&day) {
        return None;
    }
    let before: i64 = lengths.iter().take(index).sum();
    let before = before + if month > 2 { leap_day } else { 0 };
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    Some(years + before + day - 1)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("1700000000000", 1_700_000_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14 23:13:20.5+01:00", 1_700_000_000_500),
            ("2024-02-29T00:00:00.1239Z", 1_709_164_800_123),
            ("2024-03-01T00:00:00-00:30", 1_709_253_000_000),
            ("1969-12-31T23:59:59Z", -1000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-01-01",
            "2023-01-01T00:00:00",
            "2023-01-01T25:00:00Z",
            "2023-01-01T00:00:00.Z",
            "-023-01-01T00:00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
