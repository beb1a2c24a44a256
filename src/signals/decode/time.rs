//! Times as they occur in logs. Used by the decoders through `field`; must not read a clock.

use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;

use crate::limits;
use crate::model::EventTime;

/// A date and time, with or without a fraction and a time zone. Without a time zone it is UTC: ulogd2 omits
/// it, and assuming the node's time zone would give different results on different nodes.
pub(super) fn parse(text: &str) -> Option<EventTime> {
    parse_fixed(text.as_bytes()).or_else(|| parse_any(text))
}

fn parse_any(text: &str) -> Option<EventTime> {
    const PARSER: DateTimeParser = DateTimeParser::new();
    if let Ok(timestamp) = PARSER.parse_timestamp(text) {
        return Some(timestamp.into());
    }
    let civil = PARSER.parse_datetime(text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

/// The form of nearly all times in logs, by position: `YYYY-MM-DDThh:mm:ss`, a fraction of
/// up to nine digits or none, `Z` or nothing. `None` for every other form, even a valid one, for
/// times before 1970 or after 2200 and for leap seconds: [`parse_any`] handles those.
fn parse_fixed(text: &[u8]) -> Option<EventTime> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let &[
        _,
        _,
        _,
        _,
        b'-',
        _,
        _,
        b'-',
        _,
        _,
        b'T',
        _,
        _,
        b':',
        _,
        _,
        b':',
        _,
        _,
    ] = date
    else {
        return None;
    };
    let year = number(date.get(..4)?)?;
    let month = number(date.get(5..7)?)?;
    let day = number(date.get(8..10)?)?;
    let hour = number(date.get(11..13)?)?;
    let minute = number(date.get(14..16)?)?;
    let second = number(date.get(17..)?)?;
    // The 29th, 30th and 31st exist only in some months.
    let exists = (1970..=2200).contains(&year)
        && (1..=12).contains(&month)
        && ((1..=28).contains(&day) || day_exists(year, month, day))
        && hour < 24
        && minute < 60
        && second < 60;
    if !exists {
        return None;
    }
    let micros = match rest.strip_suffix(b"Z").unwrap_or(rest) {
        [] => 0,
        [b'.', fraction @ ..] => fraction_micros(fraction)?,
        _ => return None,
    };
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(EventTime::from_seconds(seconds, micros))
}

/// The number that decimal digits represent; `None` if one is not a digit.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number * 10 + i64::from(digit))
    })
}

/// Microseconds of one to nine digits after the decimal point; smaller parts are truncated.
fn fraction_micros(digits: &[u8]) -> Option<i64> {
    const UNITS_NS: [i64; 10] = [
        0,
        100_000_000,
        10_000_000,
        1_000_000,
        100_000,
        10_000,
        1_000,
        100,
        10,
        1,
    ];
    let unit_ns = UNITS_NS.get(digits.len()).filter(|unit_ns| **unit_ns > 0)?;
    Some(number(digits)? * unit_ns / 1_000)
}

const fn day_exists(year: i64, month: i64, day: i64) -> bool {
    let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if is_leap_year => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    day >= 1 && day <= length
}

/// Days since 1970-01-01. Years start in March here, so that the leap day is the last of a year and
/// the lengths of the months before it follow one linear rule: 153 days in five months.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, months_since_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    // From 0000-03-01 to 1970-01-01.
    year * 365 + leap_days + day_of_year - 719_468
}

/// `time`, unless it is implausible for a log: before 1970 or after [`limits::EVENT_SECONDS_MAX`].
pub(super) fn plausible(time: EventTime) -> Option<EventTime> {
    let earliest = EventTime::from_micros(0);
    let latest = EventTime::from_seconds(limits::EVENT_SECONDS_MAX, 0);
    (earliest <= time && time <= latest).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let parsed = parse(text).and_then(plausible).map(|time| time.to_string());
        assert_eq!(parsed.as_deref(), expected, "{text}");
    }

    #[test]
    fn every_way_of_writing_a_time_is_understood() {
        check(
            "2026-02-24T08:43:39.070396373Z",
            Some("2026-02-24T08:43:39.070396Z"),
        );
        check(
            "2018-03-24T17:15:20.615923Z",
            Some("2018-03-24T17:15:20.615923Z"),
        );
        check(
            "2023-05-21T10:54:05.058650",
            Some("2023-05-21T10:54:05.05865Z"),
        );
        check("2026-11-24T10:14:57", Some("2026-11-24T10:14:57Z"));
        check("2026-11-24T10:14:57+0200", Some("2026-11-24T08:14:57Z"));
        check("2026-11-24T10:14:57.5-0300", Some("2026-11-24T13:14:57.5Z"));
        check("2026-11-24T10:14:57+02:00", Some("2026-11-24T08:14:57Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        check("", None);
        check("yesterday", None);
        check("2026-13-41T10:14:57Z", None);
        check("1969-12-31T23:59:59Z", None);
        check("9999-01-01T00:00:00Z", None);
    }

    /// Checks that the fast path gives the result of the complete parser, or leaves the text to that.
    #[track_caller]
    fn check_fixed(text: &str) -> bool {
        let fixed = parse_fixed(text.as_bytes());
        if fixed.is_some() {
            assert_eq!(fixed, parse_any(text), "{text}");
        }
        fixed.is_some()
    }

    #[test]
    fn every_day_has_the_number_that_the_calendar_gives_it() {
        for year in [1970, 1972, 1999, 2000, 2024, 2026, 2100, 2200] {
            for month in 0..=13 {
                for day in 0..=32 {
                    let text = format!("{year}-{month:02}-{day:02}T23:59:59.9Z");
                    let is_day = parse_any(&text).is_some();
                    assert_eq!(check_fixed(&text), is_day, "{text}");
                }
            }
        }
    }

    #[test]
    fn the_fast_way_takes_no_time_that_the_thorough_one_refuses() {
        for text in [
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:60:00Z",
            "2026-11-24T10:14:60Z",
            "2026-11-24T10:14:57.Z",
            "2026-11-24T10:14:57.1234567890Z",
            "2026-11-24T10:14:57ZZ",
            "2026-11-24T10:14:57.5ZZ",
            "2026-11-24t10:14:57z",
            "2026-11-24 10:14:57",
            "2026-11-24T10:14:57+02:00",
            "2026-11-24T10:1x:57Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(!check_fixed(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn fractions_are_cut_to_microseconds_like_the_thorough_way_does(
            digits in "[0-9]{0,11}", zone in "Z?", second in 0..62,
        ) {
            let point = if digits.is_empty() { "" } else { "." };
            check_fixed(&format!("2026-02-24T08:43:{second:02}{point}{digits}{zone}"));
        }
    }
}
