//! Which format a line is in, from its keys alone. `replay --format auto` calls it on the first
//! lines of a file; the decoders never do.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::field::Scalar;
use super::{Format, parse, text_of};

/// The format of a line; `None` where its keys belong to none or to more than one.
#[must_use]
pub fn sniff(line: &[u8]) -> Option<Format> {
    let text = text_of(line).ok()?;
    if !text.starts_with('{') {
        return None;
    }
    let marks: Marks = parse(text).ok()?;
    let hubble = marks.envelope || (marks.ip && marks.verdict);
    match (hubble, marks.zeek, marks.netfilter) {
        (true, false, false) => Some(Format::Hubble),
        (false, true, false) => Some(Format::Zeek),
        (false, false, true) => Some(Format::Ulogd),
        _ => None,
    }
}

/// The keys seen that only one format has.
#[derive(Debug, Default)]
struct Marks {
    envelope: bool,
    ip: bool,
    verdict: bool,
    zeek: bool,
    netfilter: bool,
}

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
        let mut marks = Marks::default();
        while let Some(key) = map.next_key::<Scalar<'de>>()? {
            match key.text().unwrap_or_default() {
                "flow" | "lost_events" | "node_status" | "agent_event" | "debug_event" => {
                    marks.envelope = true;
                }
                "IP" => marks.ip = true,
                "verdict" => marks.verdict = true,
                "id.orig_h" => marks.zeek = true,
                "ct.event" | "oob.prefix" | "oob.hook" | "raw.pktlen" => marks.netfilter = true,
                _ => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(marks)
    }
}
