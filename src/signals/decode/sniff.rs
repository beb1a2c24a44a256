//! Detects the format of a line from its keys alone. Used by `replay --format auto` and by sources without a
//! format on the first lines of a log, never by the decoders. Logs in no supported format are named by `shape`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::field::Scalar;
use super::{Format, parse, text_of, vpc, wrapper, zeek};

/// The format of a line; `None` if its keys match no format, or several.
#[must_use]
pub fn sniff(line: &[u8]) -> Option<Format> {
    let text = text_of(line).ok()?;
    if text.starts_with('{') {
        return by_keys(text).or_else(|| by_keys(wrapper::unwrap(text)?.trim_ascii()));
    }
    if let Some(inner) = wrapper::without_prefix(text) {
        return by_keys(inner);
    }
    if zeek::tsv::is_header(text) {
        return Some(Format::Zeek);
    }
    vpc::is_recognised(text).then_some(Format::Vpc)
}

fn by_keys(text: &str) -> Option<Format> {
    let Marks(marks) = parse(text).ok()?;
    let has = |wanted: u16| marks & wanted == wanted;
    // Suricata has a key `flow` as well, but only its events have a time of this name together with an
    // event type.
    let suricata = has(EVENT_TYPE | TIMESTAMP);
    let found = [
        (
            (has(ENVELOPE) && !suricata) || has(IP | VERDICT),
            Format::Hubble,
        ),
        (has(ZEEK), Format::Zeek),
        (has(NETFILTER), Format::Ulogd),
        (
            has(REPORTER | SOURCE_NAME) || has(KEY | START_TIME),
            Format::Calico,
        ),
        (suricata, Format::Suricata),
    ];
    let mut formats = found.iter().filter(|(is_marked, _)| *is_marked);
    match (formats.next(), formats.next()) {
        (Some((_, format)), None) => Some(*format),
        _ => None,
    }
}

/// The keys that are specific to few formats, one bit each.
struct Marks(u16);

const ENVELOPE: u16 = 1;
const IP: u16 = 1 << 1;
const VERDICT: u16 = 1 << 2;
const ZEEK: u16 = 1 << 3;
const NETFILTER: u16 = 1 << 4;
const EVENT_TYPE: u16 = 1 << 5;
const TIMESTAMP: u16 = 1 << 6;
const REPORTER: u16 = 1 << 7;
const SOURCE_NAME: u16 = 1 << 8;
const KEY: u16 = 1 << 9;
const START_TIME: u16 = 1 << 10;

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MarksVisitor)
    }
}

struct MarksVisitor;

impl<'de> Visitor<'de> for MarksVisitor {
    type Value = Marks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Marks, A::Error> {
        let mut marks = 0;
        while let Some(key) = map.next_key::<Scalar<'de>>()? {
            marks |= match key.text().unwrap_or_default() {
                "flow" | "lost_events" | "node_status" | "agent_event" | "debug_event" => ENVELOPE,
                "IP" => IP,
                "verdict" => VERDICT,
                "ct.event" | "oob.prefix" | "oob.hook" | "raw.pktlen" => NETFILTER,
                "event_type" => EVENT_TYPE,
                "timestamp" => TIMESTAMP,
                "reporter" => REPORTER,
                "source_name" | "source_name_aggr" => SOURCE_NAME,
                "Key" | "key" => KEY,
                "start_time" | "startTime" => START_TIME,
                key if zeek::is_originator(key) => ZEEK,
                _ => 0,
            };
            map.next_value::<IgnoredAny>()?;
        }
        Ok(Marks(marks))
    }
}
