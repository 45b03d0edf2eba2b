//! Points in time, as Python's `datetime.isoformat` writes them; to the millisecond.

use std::fmt;

const DAY: i64 = 86_400_000;
/// The first day of 1970, counted from that of the year 0.
const EPOCH_DAY: i64 = 719_528;
/// The last year that Python knows.
const LAST_YEAR: i64 = 9999;

/// A point in time, in milliseconds since the beginning of 1970 in UTC.
///
/// ```
/// use manyhands_cluster::message::Moment;
///
/// let moment = Moment::parse("2026-11-30T21:33:14.250000+02:00").expect("as Python writes it");
/// assert_eq!(moment.to_string(), "2026-11-30T19:33:14.250000+00:00");
/// assert_eq!(Moment::parse("2026-11-30T19:33:14.25Z"), Some(moment));
/// assert_eq!(Moment::parse("tomorrow"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// Returns the moment that a text names, or `None`; without an offset it is one in UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let day = day_of(date)?;
        if rest.is_empty() {
            return Some(Self(day * DAY));
        }
        let time = rest.strip_prefix(['T', ' '])?;
        let end = time.find(['Z', '+', '-']).unwrap_or(time.len());
        let (clock, zone) = time.split_at(end);
        Some(Self(day * DAY + clock_of(clock)? - offset_of(zone)?))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.div_euclid(DAY));
        let within = self.0.rem_euclid(DAY);
        let (hour, minute, second) = (within / 3_600_000, within / 60_000 % 60, within / 1000 % 60);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match within % 1000 {
            0 => {}
            milliseconds => write!(formatter, ".{milliseconds:03}000")?,
        }
        formatter.write_str("+00:00")
    }
}

/// Returns the number that `digits` digits are, and no others.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Returns the day since 1970 that `YYYY-MM-DD` is.
fn day_of(date: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-');
    let year = number(parts.next()?, 4)?;
    let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let counted = day_number(year, month, day);
    // A day that there is not comes back as another one.
    (year >= 1 && (1..=12).contains(&month) && date_of(counted) == (year, month, day)).then_some(counted)
}

/// Returns the milliseconds of a day that `HH:MM[:SS[.f…]]` is.
fn clock_of(clock: &str) -> Option<i64> {
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, rest)| (clock, Some(rest)));
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| number(second, 2))?;
    let milliseconds = match fraction {
        None => 0,
        Some(digits) if digits.is_empty() || digits.len() > 9 => return None,
        Some(digits) => number(digits, digits.len())? * 1000 / 10_i64.pow(u32::try_from(digits.len()).ok()?),
    };
    let is_time = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    is_time.then_some(((hour * 60 + minute) * 60 + second) * 1000 + milliseconds)
}

/// Returns the milliseconds by which a zone is ahead of UTC: `Z`, `±HH`, `±HHMM`, `±HH:MM` or `±HH:MM:SS`.
fn offset_of(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone[1..].replace(':', "");
    let part = |at: usize| if at < digits.len() { number(digits.get(at..at + 2)?, 2) } else { Some(0) };
    let (hour, minute, second) = (number(digits.get(..2)?, 2)?, part(2)?, part(4)?);
    let is_offset = digits.len() <= 6 && hour < 24 && minute < 60 && second < 60;
    is_offset.then_some(sign * ((hour * 60 + minute) * 60 + second) * 1000)
}

/// Returns the days from 1970 to a date of the Gregorian calendar.
///
/// Years begin with March here, so that the day of a leap year is the last one of all.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    // March 1st of the year 0 is 60 days after its January 1st.
    year * 365 + leap_days + day_of_year + 60 - EPOCH_DAY
}

/// Returns the year, month and day of a day since 1970, within the years that Python knows.
fn date_of(day: i64) -> (i64, i64, i64) {
    let day = day.clamp(day_number(1, 1, 1), day_number(LAST_YEAR, 12, 31));
    let mut year = (day + EPOCH_DAY) * 400 / 146_097;
    while day_number(year + 1, 1, 1) <= day {
        year += 1;
    }
    while day_number(year, 1, 1) > day {
        year -= 1;
    }
    let mut month = 12;
    while day_number(year, month, 1) > day {
        month -= 1;
    }
    (year, month, day - day_number(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (text, milliseconds) in [
            ("1970-01-01T00:00:00+00:00", 0),
            ("1969-12-31T23:59:59.999000+00:00", -1),
            ("2000-02-29T12:00:00+00:00", 951_825_600_000),
            ("2026-11-30T21:33:14.250000+00:00", 1_796_074_394_250),
            ("0001-01-01T00:00:00+00:00", -62_135_596_800_000),
            ("9999-12-31T23:59:59.999000+00:00", 253_402_300_799_999),
        ] {
            assert_eq!(Moment::parse(text), Some(Moment(milliseconds)), "{text}");
            assert_eq!(Moment(milliseconds).to_string(), text);
        }
        assert!(Moment(i64::MIN).to_string().starts_with("0001-01-01T"));
    }

    #[test]
    fn other_ways_to_write_one() {
        for text in [
            "2026-11-30",
            "2026-11-30 00:00",
            "2026-11-30T02:30+0230",
            "2026-11-29T19-05",
            "2026-11-30T00:00:00.0Z",
        ] {
            let expected = if text.contains("19-05") { None } else { Some(Moment(1_795_996_800_000)) };
            assert_eq!(Moment::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-31T00:00",
            "2026-11-30T24:00",
            "2026-11-30T00:60",
            "0000-01-01",
            "2026-11-30T00:00:00.",
            "2026-11-30T00:00+",
            "2026-11-30T00:00+1",
            "2026-11-30T00:00+24:00",
            "2026-1é-30",
            "2026-11-30T00:00:00:00",
            "+026-11-30",
            "2026-11-30T00:00+00:00:00:00",
            "2026-11-30x",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn moments_come_back(milliseconds in -62_135_596_800_000..253_402_300_800_000_i64) {
            let moment = Moment(milliseconds);
            assert_eq!(Moment::parse(&moment.to_string()), Some(moment));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "[0-9TZ:.+é-]{0,34}") {
            let _ = Moment::parse(&text);
        }
    }
}
