//! Zeek JSON with a scope separator other than the dot: `id_orig_h` for `id.orig_h`. Called by
//! [`super::decode`] for a line without `id.orig_h`, so that ordinary lines have no extra cost.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::Line;
use crate::signals::decode::field::Scalar;
use crate::signals::decode::{Malformed, parse};

/// Longest supported separator.
const SEPARATOR_BYTES_MAX: usize = 3;

/// A field of the record `id` of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    OrigHost,
    OrigPort,
    RespHost,
    RespPort,
}

/// The part of `id` that a key or column names, with any separator of punctuation characters.
pub(super) fn part_of(key: &str) -> Option<Part> {
    const PARTS: [(&str, Part); 4] = [
        ("orig_h", Part::OrigHost),
        ("orig_p", Part::OrigPort),
        ("resp_h", Part::RespHost),
        ("resp_p", Part::RespPort),
    ];
    let rest = key.strip_prefix("id")?;
    let (separator, part) = PARTS
        .into_iter()
        .find_map(|(name, part)| Some((rest.strip_suffix(name)?, part)))?;
    let is_separator = (1..=SEPARATOR_BYTES_MAX).contains(&separator.len())
        && separator.bytes().all(|byte| byte.is_ascii_punctuation());
    is_separator.then_some(part)
}

/// Reads the ends of the connection from a line with a separator other than the dot.
#[cold]
pub(super) fn read<'a>(text: &'a str, line: &mut Line<'a>) -> Result<(), Malformed> {
    let Ends([orig_host, orig_port, resp_host, resp_port]) = parse(text)?;
    line.orig_host = orig_host;
    line.orig_port = orig_port;
    line.resp_host = resp_host;
    line.resp_port = resp_port;
    Ok(())
}

/// The values of the four parts, in the order of [`Part`].
struct Ends<'a>([Scalar<'a>; 4]);

impl<'de> Deserialize<'de> for Ends<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EndsVisitor)
    }
}

struct EndsVisitor;

impl<'de> Visitor<'de> for EndsVisitor {
    type Value = Ends<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut ends: [Scalar<'de>; 4] = std::array::from_fn(|_| Scalar::Absent);
        while let Some(key) = map.next_key::<Scalar<'de>>()? {
            let part = key.text().and_then(part_of);
            let Some(slot) = part.and_then(|part| ends.get_mut(part as usize)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value()?;
            if std::mem::replace(slot, value).is_present() {
                return Err(A::Error::custom("the same part twice"));
            }
        }
        Ok(Ends(ends))
    }
}
