//! Decoders: convert the bytes of one log line to one signal. Pure.
//!
//! Sources call [`decode`] per line; `replay` calls [`sniff`] first if no format was given. A
//! decoder borrows from the line, never panics, keeps no state between lines and does not guess:
//! information that is not in a line is `None` or [`Outcome::Unseen`](crate::model::Outcome::Unseen). State from
//! earlier lines that is needed for later ones is kept by a [`Decoder`], one per log.

mod attempts;
mod bits;
mod blind_spots;
mod calico;
mod capabilities;
mod decoder;
mod field;
mod hubble;
mod icmp;
mod json;
mod metrics;
pub mod relay;
mod samples;
mod shape;
mod sniff;
mod suricata;
mod time;
mod ulogd;
mod unconfirmed;
mod vpc;
mod wrapper;
mod zeek;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use strum::{IntoStaticStr, VariantArray, VariantNames};

use crate::limits;
use crate::model::Signal;

pub use blind_spots::blind_spots_page;
pub(crate) use capabilities::{Capability, SourceCapabilities};
pub use decoder::Decoder;
pub(crate) use metrics::DeviceOwners;
pub use metrics::{MetricsFormat, MetricsRead, MetricsReader, PodSample};
pub use samples::decode_sample;
pub(crate) use samples::read_sample;
pub use shape::looks_like;
pub(crate) use shape::{LogShape, why_no_signals};
pub use sniff::sniff;
pub(crate) use unconfirmed::Tracking;
pub use unconfirmed::Unconfirmed;

/// The log formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Cilium Hubble: exporter files, `hubble observe -o json`, Relay responses as JSON.
    Hubble,
    /// Zeek `conn`, `dns`, `ssl`: JSON, or columns with their header lines.
    Zeek,
    /// ulogd2 JSON: NFLOG packets and NFCT connection events.
    Ulogd,
    /// AWS VPC flow logs as text.
    Vpc,
    /// Calico flow logs as JSON: `flows.log`, Goldmane.
    Calico,
    /// Suricata EVE JSON: `flow`, `dns`, `tls`, `quic`, `stats`.
    Suricata,
}

impl Format {
    /// Every format, in the order of the docs.
    pub const ALL: [Self; 6] = [
        Self::Hubble,
        Self::Zeek,
        Self::Ulogd,
        Self::Vpc,
        Self::Calico,
        Self::Suricata,
    ];

    /// The name on the command line and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hubble => "hubble",
            Self::Zeek => "zeek",
            Self::Ulogd => "ulogd",
            Self::Vpc => "vpc",
            Self::Calico => "calico",
            Self::Suricata => "suricata",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The result of decoding one line.
#[allow(clippy::large_enum_variant)] // lives on the stack for one line, and nearly always is a signal
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded<'a> {
    /// The line contains a signal.
    Signal(Signal<'a>),
    /// Well formed, and intentionally not a signal.
    Skipped(SkipReason),
    /// Well-formed JSON, but not a record of this format.
    Unknown,
    /// The line cannot be read.
    Malformed(Malformed),
}

/// Why a well-formed line is not a signal. A closed set: the names are label values of a metric.
#[derive(
    Clone,
    Copy,
    Debug,
    IntoStaticStr,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    VariantArray,
    VariantNames,
)]
pub enum SkipReason {
    /// Only white space.
    Blank,
    /// A record about the producer itself: node status, agent or debug events.
    NotTraffic,
    /// Traffic as observed by the receiving side; the record of the sending side counts.
    IngressView,
    /// The packet before the decision of the datapath, or a translation step of a packet that is logged
    /// elsewhere.
    DuplicateObservation,
    /// The packet was neither forwarded nor dropped.
    NoVerdict,
    /// The record does not show which side started.
    UnknownDirection,
    /// The source address was forged, so the record cannot be attributed to its owner.
    ForgedSource,
    /// ICMP errors and link-layer housekeeping, which are reactions to another packet.
    IcmpHousekeeping,
    /// An application record other than DNS.
    OtherL7,
    /// Another log of the same producer.
    OtherLog,
    /// A record about a name that contains none.
    NoName,
    /// Addresses or ports were masked, or the packet had none (fragments).
    FieldsMissing,
    /// Aggregates several pods or several targets, so it can be attributed to none of them.
    Aggregated,
    /// Names the fields of the following lines.
    Header,
}

impl SkipReason {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a line cannot be read. A closed set: the names are label values of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Longer than [`limits::LINE_BYTES_MAX`].
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// A part of a line that a container runtime split (CRI tag `P`).
    PartialLine,
    /// JSON that ends too early.
    Truncated,
    /// Not JSON.
    NotJson,
    /// A duplicate key, so two readers could obtain two different records.
    DuplicateKey,
    /// A field that the record requires is missing.
    MissingField,
    /// Columns without a header line before them that names them.
    NoHeader,
    /// No time, or an implausible one.
    BadTime,
    /// Not an IP address.
    BadAddress,
    /// Not a port.
    BadPort,
    /// Not a number.
    BadNumber,
}

impl Malformed {
    /// Every reason, in the order of the docs.
    pub const ALL: [Self; 12] = [
        Self::TooLong,
        Self::NotUtf8,
        Self::PartialLine,
        Self::Truncated,
        Self::NotJson,
        Self::DuplicateKey,
        Self::MissingField,
        Self::NoHeader,
        Self::BadTime,
        Self::BadAddress,
        Self::BadPort,
        Self::BadNumber,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "TooLong",
            Self::NotUtf8 => "NotUtf8",
            Self::PartialLine => "PartialLine",
            Self::Truncated => "Truncated",
            Self::NotJson => "NotJson",
            Self::DuplicateKey => "DuplicateKey",
            Self::MissingField => "MissingField",
            Self::NoHeader => "NoHeader",
            Self::BadTime => "BadTime",
            Self::BadAddress => "BadAddress",
            Self::BadPort => "BadPort",
            Self::BadNumber => "BadNumber",
        }
    }
}

impl<'a> From<Result<Signal<'a>, NoSignal>> for Decoded<'a> {
    fn from(read: Result<Signal<'a>, NoSignal>) -> Self {
        match read {
            Ok(signal) => Self::Signal(signal),
            Err(NoSignal::Skipped(reason)) => Self::Skipped(reason),
            Err(NoSignal::Unknown) => Self::Unknown,
            Err(NoSignal::Malformed(malformed)) => Self::Malformed(malformed),
        }
    }
}

/// Decodes one line as the first one of its log. The line may include its terminator and a prefix of a container
/// runtime. For formats that depend on earlier lines see [`Decoder`].
#[must_use]
pub fn decode(format: Format, line: &[u8]) -> Decoded<'_> {
    if format == Format::Vpc {
        return vpc::decode(line, &vpc::Columns::default());
    }
    let text = match text_of(line) {
        Ok("") => return Decoded::Skipped(SkipReason::Blank),
        Ok(text) => text,
        Err(malformed) => return Decoded::Malformed(malformed),
    };
    if text.starts_with('{') {
        return object(format, text);
    }
    if let Some(inner) = wrapper::without_prefix(text) {
        return object(format, inner);
    }
    if format == Format::Zeek {
        return zeek::tsv::decode(line, &zeek::tsv::Header::default());
    }
    not_an_object(text)
}

/// Decodes one object, or the object that a container runtime or a log shipper wrapped in it.
fn object(format: Format, text: &str) -> Decoded<'_> {
    let decoded = record(format, text);
    if !matches!(
        decoded,
        Decoded::Unknown | Decoded::Malformed(Malformed::MissingField | Malformed::BadTime)
    ) {
        return decoded;
    }
    // Tried last, so that a record without a wrapper has no extra cost.
    let inner = wrapper::unwrap(text);
    inner.map_or(decoded, |inner| {
        record(format, inner.trim_ascii()).into_owned()
    })
}

fn record(format: Format, text: &str) -> Decoded<'_> {
    let read = match format {
        Format::Hubble => hubble::decode(text),
        Format::Zeek => zeek::decode(text),
        Format::Ulogd => ulogd::decode(text),
        Format::Calico => calico::decode(text),
        Format::Suricata => suricata::decode(text),
        Format::Vpc => Err(NoSignal::Unknown), // not JSON: read above
    };
    read.into()
}

/// The result for a line that is not an object.
fn not_an_object(text: &str) -> Decoded<'static> {
    match parse::<IgnoredAny>(text) {
        Ok(_) => Decoded::Unknown,
        Err(malformed) => Decoded::Malformed(malformed),
    }
}

impl Decoded<'_> {
    /// The same with owned text, for a record that is not a part of the line.
    fn into_owned(self) -> Decoded<'static> {
        match self {
            Self::Signal(signal) => Decoded::Signal(signal.into_owned()),
            Self::Skipped(reason) => Decoded::Skipped(reason),
            Self::Unknown => Decoded::Unknown,
            Self::Malformed(malformed) => Decoded::Malformed(malformed),
        }
    }
}

/// Why a decoder stopped before it had a signal. Allows `?` for all three cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoSignal {
    Skipped(SkipReason),
    Unknown,
    Malformed(Malformed),
}

impl From<SkipReason> for NoSignal {
    fn from(reason: SkipReason) -> Self {
        Self::Skipped(reason)
    }
}

impl From<Malformed> for NoSignal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// The JSON of a line: bounded, UTF-8, without surrounding white space and without the CRI prefix.
fn text_of(line: &[u8]) -> Result<&str, Malformed> {
    if line.len() > limits::LINE_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let text = simdutf8::basic::from_utf8(line)
        .map_err(|_| Malformed::NotUtf8)?
        .trim_ascii();
    if text.starts_with('{') {
        Ok(text)
    } else {
        without_cri_prefix(text)
    }
}

/// The log format of Kubernetes' container runtimes: `TIME stdout F REST`; the tag `P` marks a split line.
fn without_cri_prefix(text: &str) -> Result<&str, Malformed> {
    let mut parts = text.splitn(4, ' ');
    let (Some(time), Some("stdout" | "stderr"), Some(tag), Some(rest)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Ok(text);
    };
    if time::parse(time).is_none() {
        return Ok(text);
    }
    // Several tags are separated by colons; the first one shows whether the line is complete.
    match tag.split(':').next() {
        Some("F") => Ok(rest.trim_ascii()),
        Some("P") => Err(Malformed::PartialLine),
        _ => Ok(text),
    }
}

/// Reads `text` as `T`. No field of our structs has a wrong type ([`field::Scalar`] accepts all), so
/// the only error of serde itself is a duplicate key.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    use serde_json::error::Category;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => Malformed::Truncated,
        Category::Data => Malformed::DuplicateKey,
        Category::Syntax | Category::Io => Malformed::NotJson,
    })
}

/// A DNS name without the root dot; `None` for the root itself.
fn without_trailing_dot(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let name = match name {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_suffix('.').unwrap_or(text)),
        Cow::Owned(mut text) => {
            if text.ends_with('.') {
                text.pop();
            }
            Cow::Owned(text)
        }
    };
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
