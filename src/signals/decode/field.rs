//! The value of one JSON field. Used by every decoder of this folder.
//!
//! Producers write numbers as strings, omit zeros and change types between versions. Therefore
//! a field is first read as a [`Scalar`], and interpreted when its meaning is known. Nothing here may
//! depend on a format, allocate for text without escapes, or recurse into values that it ignores.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Malformed;
use super::time;
use crate::limits;
use crate::model::EventTime;

/// One JSON value of any type. Arrays and objects are skipped and represented as `Other`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar<'a> {
    /// The key is missing, or the value is `null`.
    #[default]
    Absent,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Other,
}

impl<'a> Scalar<'a> {
    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The text, if the value is a text that is not empty.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The text, still borrowed from the line.
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Like [`Self::into_text`], but takes the text out of a reference.
    pub(super) fn take_text(&mut self) -> Option<Cow<'a, str>> {
        std::mem::take(self).into_text()
    }

    /// A count. In protojson (uint64) numbers are strings, and some pipelines write `1.0`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within u64 by the guard
    pub(super) fn unsigned(&self) -> Result<Option<u64>, Malformed> {
        match self {
            Self::Absent => Ok(None),
            Self::Unsigned(number) => Ok(Some(*number)),
            Self::Float(number)
                if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(number) =>
            {
                Ok(Some(*number as u64))
            }
            Self::Text(text) => text.parse().map(Some).map_err(|_| Malformed::BadNumber),
            _ => Err(Malformed::BadNumber),
        }
    }

    /// A count that only supplements a record: an unreadable one is treated as absent.
    pub(super) fn count(&self) -> Option<u64> {
        self.unsigned().ok().flatten()
    }

    /// A port. `None` if it is absent, which the decoder of the format interprets.
    pub(super) fn port(&self) -> Result<Option<u16>, Malformed> {
        match self.unsigned() {
            Ok(None) => Ok(None),
            Ok(Some(number)) => u16::try_from(number)
                .map(Some)
                .map_err(|_| Malformed::BadPort),
            Err(_) => Err(Malformed::BadPort),
        }
    }

    /// `Some` for a JSON boolean, or for 0 and 1, which netfilter writes.
    pub(super) fn flag(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            Self::Unsigned(0) => Some(false),
            Self::Unsigned(1) => Some(true),
            _ => None,
        }
    }

    /// An address. IPv4-mapped IPv6 addresses are converted to IPv4.
    pub(super) fn address(&self) -> Result<Option<IpAddr>, Malformed> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) if text.is_empty() => Ok(None),
            Self::Text(text) => parse_address(text).map(Some).ok_or(Malformed::BadAddress),
            _ => Err(Malformed::BadAddress),
        }
    }

    /// A time: seconds as a number, or a date as text.
    #[allow(clippy::cast_precision_loss)] // whole seconds of this century are exact in f64
    pub(super) fn time(&self) -> Result<Option<EventTime>, Malformed> {
        let time = match self {
            Self::Absent => return Ok(None),
            Self::Unsigned(seconds) => EventTime::from_seconds_f64(*seconds as f64),
            Self::Float(seconds) => EventTime::from_seconds_f64(*seconds),
            Self::Text(text) => time::parse(text),
            _ => None,
        };
        time.and_then(time::plausible)
            .map(Some)
            .ok_or(Malformed::BadTime)
    }
}

/// An address without its zone (`fe80::1%eth0`); IPv4-mapped IPv6 becomes IPv4.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    if let Some(address) = parse_plain_v4(text.as_bytes()) {
        return Some(IpAddr::V4(address));
    }
    let without_zone = text.split_once('%').map_or(text, |(address, _)| address);
    without_zone
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// An IPv4 address in the common form: four numbers without leading zeros. `None` for
/// all other text, which the standard library parses. Twice as fast as the standard library.
fn parse_plain_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut octet, mut digit_count, mut point_count) = (0_u32, 0_u32, 0, 0);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            let has_leading_zero = digit_count > 0 && octet == 0;
            octet = octet * 10 + u32::from(digit);
            digit_count += 1;
            if has_leading_zero || octet > 255 {
                return None;
            }
        } else {
            if *byte != b'.' || digit_count == 0 {
                return None;
            }
            bits = bits << 8 | octet;
            (octet, digit_count) = (0, 0);
            point_count += 1;
        }
    }
    (point_count == 3 && digit_count > 0).then(|| Ipv4Addr::from_bits(bits << 8 | octet))
}

/// `seconds` in microseconds; `None` if it is not a valid duration.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // range checked first
pub(super) fn duration_us(seconds: &Scalar<'_>) -> Option<u64> {
    let micros = match seconds {
        Scalar::Unsigned(seconds) => return Some(seconds.saturating_mul(1_000_000)),
        Scalar::Float(seconds) => seconds * 1e6,
        Scalar::Text(text) => text.parse::<f64>().ok()? * 1e6,
        _ => return None,
    };
    (micros.is_finite() && (0.0..9.2e18).contains(&micros)).then_some(micros.round() as u64)
}

impl Addresses {
    /// Appends the address in an element, if there is one and the bound allows it.
    pub(super) fn take(&mut self, element: &Scalar<'_>) {
        let address = element.text().and_then(parse_address);
        if let (Some(address), true) = (address, self.0.len() < limits::DNS_ANSWERS_MAX) {
            self.0.push(address);
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

struct ScalarVisitor<'a>(PhantomData<Scalar<'a>>);

impl<'de: 'a, 'a> Visitor<'de> for ScalarVisitor<'a> {
    type Value = Scalar<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_or(Scalar::Signed(value), Scalar::Unsigned))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// A nested object; `None` if the key is absent or the value is not an object. A derived struct alone
/// would also accept an array, by position.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// The addresses in a list of answers; other elements, such as names, are skipped. At most
/// [`limits::DNS_ANSWERS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Addresses(pub(super) Vec<IpAddr>);

/// The first text of a list that is not empty.
#[derive(Debug, Default)]
pub(super) struct FirstText<'a>(pub(super) Option<Cow<'a, str>>);

/// A value of any type that is not read; it has a field so that its key is expected at its position.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[cfg_attr(test, serde(from = "IgnoredAny"))]
pub(super) struct Skipped;

#[cfg(test)]
impl From<IgnoredAny> for Skipped {
    fn from(_: IgnoredAny) -> Self {
        Self
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut addresses = Vec::new();
        let take = |element: Scalar<'de>| {
            let address = element.text().and_then(parse_address);
            if let (Some(address), true) = (address, addresses.len() < limits::DNS_ANSWERS_MAX) {
                addresses.push(address);
            }
        };
        deserializer.deserialize_any(ListVisitor {
            take,
            element: PhantomData,
        })?;
        Ok(Self(addresses))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FirstText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut first = None;
        let take = |element: Scalar<'de>| {
            if first.is_none() {
                first = element.into_text();
            }
        };
        deserializer.deserialize_any(ListVisitor {
            take,
            element: PhantomData,
        })?;
        Ok(Self(first))
    }
}

/// Passes each element of an array to `take`; any other value is treated as an empty array.
struct ListVisitor<'de, F> {
    take: F,
    element: PhantomData<&'de ()>,
}

impl<'de, F: FnMut(Scalar<'de>)> Visitor<'de> for ListVisitor<'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.take)(element);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str) {
        let expected = text.parse::<Ipv4Addr>().ok();
        assert_eq!(parse_plain_v4(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn addresses_are_read_like_the_standard_library_reads_them() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "256.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "01.2.3.4",
            "00.0.0.0",
            "1.2.3.4 ",
            "1.2.3.-4",
            "",
            "....",
            "1.2.3.4%eth0",
            "4294967297.1.1.1",
            "::1",
        ] {
            check(text);
        }
    }

    proptest! {
        #[test]
        fn addresses_of_any_numbers_are_read_alike(text in "([0-9]{0,4}\\.){2,4}[0-9]{0,4}") {
            check(&text);
        }
    }
}
