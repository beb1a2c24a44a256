//! Times as logs write them. Used by the decoders through `field`; must not read a clock.

use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;

use crate::limits;
use crate::model::EventTime;

/// A date and time with or without a fraction and a zone. Without a zone it is UTC: ulogd2 leaves
/// it out, and a guess at the node's zone would differ from node to node.
pub(super) fn parse(text: &str) -> Option<EventTime> {
    const PARSER: DateTimeParser = DateTimeParser::new();
    if let Ok(timestamp) = PARSER.parse_timestamp(text) {
        return Some(timestamp.into());
    }
    let civil = PARSER.parse_datetime(text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

/// `time`, unless no log can mean it: before 1970 or after [`limits::EVENT_SECONDS_MAX`].
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
}
