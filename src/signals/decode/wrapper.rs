//! Wrappers: what syslog, a container runtime or a log shipper puts around a record. Called by
//! [`super::decode`] and [`super::sniff`] for lines that are not a record themselves.
//!
//! Only wrappers with content that is controlled by the writer of the record alone are removed. Free text with
//! a brace somewhere is not a record: an agent in a pod can cause log messages of other
//! programs, and must not be able to insert flows of other pods into them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::field::Scalar;
use super::{parse, time};

/// The object after a prefix of syslog (RFC 3164, RFC 5424), of journald or of `kubectl logs
/// --timestamps`. `None` for any other text: the brace must be at the start of the message.
pub(super) fn without_prefix(text: &str) -> Option<&str> {
    let after = message_of_syslog(text).or_else(|| after_time(text))?;
    // Marks structured data for rsyslog and syslog-ng.
    let message = after.trim_ascii_start();
    let message = message.strip_prefix("@cee:").unwrap_or(message);
    let message = message.trim_start_matches('\u{feff}').trim_ascii_start();
    message.starts_with('{').then_some(message)
}

/// The message of a line of syslog, whatever it contains. `None` for a line without the prefix.
pub(super) fn message_of_syslog(text: &str) -> Option<&str> {
    let rest = without_priority(text);
    if let Some(rest) = rest.strip_prefix("1 ") {
        return message_of_rfc5424(rest);
    }
    let rest = after_date(rest).or_else(|| after_time(rest))?;
    let (host, rest) = rest.trim_ascii_start().split_once(' ')?;
    let (tag, message) = rest.trim_ascii_start().split_once(' ')?;
    let is_tag = tag.ends_with(':') && tag.len() > 1 && !tag.contains(['{', '"']);
    (is_tag && !host.contains(['{', '"'])).then_some(message)
}

/// `TIME HOST APP PROCID MSGID SD MESSAGE`.
fn message_of_rfc5424(text: &str) -> Option<&str> {
    let mut rest = after_time(text)?;
    for _ in 0..4 {
        let (word, next) = rest.split_once(' ')?;
        if word.is_empty() || word.contains(['{', '"']) {
            return None;
        }
        rest = next;
    }
    if let Some(message) = rest.strip_prefix("- ") {
        return Some(message);
    }
    // Quotes in structured data are escaped, so it ends at the first bracket followed by a space.
    let (_, message) = rest.strip_prefix('[')?.split_once("] ")?;
    Some(message)
}

fn without_priority(text: &str) -> &str {
    let priority = text
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .filter(|(number, _)| {
            (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
        });
    priority.map_or(text, |(_, rest)| rest)
}

/// The text after a time of RFC 3339.
fn after_time(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once(' ')?;
    (first.len() >= 19 && time::parse(first).is_some()).then_some(rest)
}

/// The text after `Nov 29 08:00:00`.
fn after_date(text: &str) -> Option<&str> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (month, rest) = text.split_once(' ')?;
    let (day, rest) = rest.trim_ascii_start().split_once(' ')?;
    let (clock, rest) = rest.split_once(' ')?;
    let is_day = day.parse::<u8>().is_ok_and(|day| (1..=31).contains(&day));
    let is_clock = clock.len() >= 8
        && clock
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b':' || byte == b'.');
    (MONTHS.contains(&month) && is_day && is_clock).then_some(rest)
}

/// The object in `log`, as written by Docker (`json-file`) or fluent-bit. `None` if there is
/// any key that they do not write, or if `log` is not an object itself.
pub(super) fn unwrap(text: &str) -> Option<Cow<'_, str>> {
    let Wrapper(log) = parse(text).ok()?;
    let log = log.into_text()?;
    log.trim_ascii_start().starts_with('{').then_some(log)
}

/// The value of `log`.
struct Wrapper<'a>(Scalar<'a>);

impl<'de> Deserialize<'de> for Wrapper<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WrapperVisitor)
    }
}

struct WrapperVisitor;

impl<'de> Visitor<'de> for WrapperVisitor {
    type Value = Wrapper<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that Docker or fluent-bit wrote")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut log = Scalar::Absent;
        while let Some(key) = map.next_key::<Scalar<'de>>()? {
            match key.text().unwrap_or_default() {
                "log" => {
                    if std::mem::replace(&mut log, map.next_value()?).is_present() {
                        return Err(A::Error::custom("log twice"));
                    }
                }
                "stream" | "time" | "attrs" | "logtag" | "_p" | "date" | "timestamp"
                | "@timestamp" | "kubernetes" | "docker" | "tag" | "file" | "filename"
                | "filepath" | "partial_message" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => return Err(A::Error::custom("another key")),
            }
        }
        Ok(Wrapper(log))
    }
}

#[cfg(test)]
mod tests;
