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
    let Marks(marks) = parse(text).ok()?;
    let hubble = marks & ENVELOPE != 0 || marks & BARE_FLOW == BARE_FLOW;
    match (hubble, marks & ZEEK != 0, marks & NETFILTER != 0) {
        (true, false, false) => Some(Format::Hubble),
        (false, true, false) => Some(Format::Zeek),
        (false, false, true) => Some(Format::Ulogd),
        _ => None,
    }
}

/// The keys seen that only one format has, one bit each.
struct Marks(u8);

const ENVELOPE: u8 = 1;
const IP: u8 = 2;
const VERDICT: u8 = 4;
const ZEEK: u8 = 8;
const NETFILTER: u8 = 16;

/// A Hubble record without envelope has both.
const BARE_FLOW: u8 = IP | VERDICT;

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
                "id.orig_h" => ZEEK,
                "ct.event" | "oob.prefix" | "oob.hook" | "raw.pktlen" => NETFILTER,
                _ => 0,
            };
            map.next_value::<IgnoredAny>()?;
        }
        Ok(Marks(marks))
    }
}
