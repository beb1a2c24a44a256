//! Zeek's default format: columns of text, after header lines that start with `#`. Called by
//! [`super::super::Decoder`], which keeps the header, and by [`super::super::decode`].
//!
//! ```text
//! #separator \x09
//! #set_separator  ,
//! #empty_field    (empty)
//! #unset_field    -
//! #path   conn
//! #fields ts      uid     id.orig_h       ...
//! #types  time    string  addr            ...
//! ```
//!
//! A header may be repeated in the middle of a log. Columns are found by their names, in any
//! order. Zeek writes the separator, non-printable characters and a leading `#` of a value as
//! `\xNN`, so no value can be mistaken for a header or for another column.

use std::borrow::Cow;

use super::scoped::{self, Part};
use super::{Line, Log};
use crate::limits;
use crate::signals::decode::field::{Addresses, Scalar, parse_address};
use crate::signals::decode::{Decoded, Malformed, NoSignal, SkipReason, without_cri_prefix};

/// A field of [`Line`] that a column can contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    /// A column that is not read.
    #[default]
    Other,
    Ts,
    OrigHost,
    OrigPort,
    RespHost,
    RespPort,
    Proto,
    Duration,
    OrigBytes,
    RespBytes,
    ConnState,
    MissedBytes,
    History,
    OrigPackets,
    RespPackets,
    Query,
    Qtype,
    Rcode,
    RcodeName,
    Answers,
    Cipher,
    ServerName,
    Established,
}

impl Field {
    fn of_column(name: &str) -> Self {
        match name {
            "ts" => Self::Ts,
            "proto" => Self::Proto,
            "duration" => Self::Duration,
            "orig_bytes" => Self::OrigBytes,
            "resp_bytes" => Self::RespBytes,
            "conn_state" => Self::ConnState,
            "missed_bytes" => Self::MissedBytes,
            "history" => Self::History,
            "orig_pkts" => Self::OrigPackets,
            "resp_pkts" => Self::RespPackets,
            "query" => Self::Query,
            "qtype" => Self::Qtype,
            "rcode" => Self::Rcode,
            "rcode_name" => Self::RcodeName,
            "answers" => Self::Answers,
            "cipher" => Self::Cipher,
            "server_name" => Self::ServerName,
            "established" => Self::Established,
            _ => match scoped::part_of(name) {
                Some(Part::OrigHost) => Self::OrigHost,
                Some(Part::OrigPort) => Self::OrigPort,
                Some(Part::RespHost) => Self::RespHost,
                Some(Part::RespPort) => Self::RespPort,
                None => Self::Other,
            },
        }
    }
}

/// A short text of a header. Longer text than `N` bytes is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Short<N> {
    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            bytes,
            length: u8::try_from(text.len()).ok()?,
        })
    }

    fn text(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length));
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

/// The header: the information in the lines that start with `#` about the following lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Header {
    separator: Short<4>,
    set_separator: Short<4>,
    empty_field: Short<16>,
    unset_field: Short<16>,
    path: Path,
    columns: [Field; limits::ZEEK_COLUMNS_MAX],
    column_count: u8,
}

/// The log that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Unnamed,
    Known(Log),
    Other,
}

impl Default for Header {
    fn default() -> Self {
        let short = |text| {
            Short::new(text).unwrap_or(Short {
                bytes: [0; 4],
                length: 0,
            })
        };
        let long = |text| {
            Short::new(text).unwrap_or(Short {
                bytes: [0; 16],
                length: 0,
            })
        };
        Self {
            separator: short("\t"),
            set_separator: short(","),
            empty_field: long("(empty)"),
            unset_field: long("-"),
            path: Path::Unnamed,
            columns: [Field::Other; limits::ZEEK_COLUMNS_MAX],
            column_count: 0,
        }
    }
}

impl Header {
    /// Whether there was a header with column names.
    pub(in super::super) const fn has_columns(&self) -> bool {
        self.column_count > 0
    }

    /// Processes a line that starts with `#`; ignores any other line.
    pub(in super::super) fn learn(&mut self, line: &[u8]) {
        if !matches!(line.first(), Some(b'#' | b'0'..=b'9')) {
            return; // a record of JSON, or a line that neither Zeek nor a container runtime writes
        }
        let Ok(text) = text_of(line) else { return };
        if !text.starts_with('#') {
            return;
        }
        if let Some(separator) = text.strip_prefix("#separator ") {
            let separator = unescaped(separator);
            *self = Self::default();
            if let Some(separator) = Short::new(&separator).filter(|short| short.length > 0) {
                self.separator = separator;
            }
            return;
        }
        let separator = self.separator;
        let Some((key, value)) = text.split_once(separator.text()) else {
            return;
        };
        match key {
            "#set_separator" => set(&mut self.set_separator, &unescaped(value)),
            "#empty_field" => set(&mut self.empty_field, &unescaped(value)),
            "#unset_field" => set(&mut self.unset_field, &unescaped(value)),
            "#path" => {
                self.path = Log::from_path(value).map_or(Path::Other, Path::Known);
                self.column_count = 0;
            }
            "#fields" => self.name_columns(value),
            _ => {} // #types, #open, #close
        }
    }

    fn name_columns(&mut self, names: &str) {
        let separator = self.separator;
        self.columns = [Field::Other; limits::ZEEK_COLUMNS_MAX];
        self.column_count = 0;
        for name in names.split(separator.text()) {
            let Some(column) = self.columns.get_mut(usize::from(self.column_count)) else {
                // More columns than are supported: their number is unknown, so no line matches.
                self.column_count = 0;
                return;
            };
            *column = Field::of_column(name);
            self.column_count += 1;
        }
        if self.path == Path::Unnamed
            && let Some(log) = self.log_by_columns()
        {
            self.path = Path::Known(log);
        }
    }

    /// The log of a header without `#path`, determined from columns that only one log has.
    fn log_by_columns(&self) -> Option<Log> {
        let has = |wanted: &[Field]| self.columns.iter().any(|column| wanted.contains(column));
        if has(&[Field::ConnState, Field::MissedBytes]) {
            return Some(Log::Conn);
        }
        if has(&[Field::Query, Field::Qtype, Field::Rcode]) {
            return Some(Log::Dns);
        }
        has(&[Field::ServerName, Field::Cipher, Field::Established]).then_some(Log::Ssl)
    }

    fn read<'a>(&self, text: &'a str) -> Result<Line<'a>, NoSignal> {
        let mut line = Line::default();
        let mut count = 0_usize;
        let separator = self.separator.text();
        let column_count = usize::from(self.column_count);
        let mut take = |value: &'a str| {
            if let Some(column) = self.columns.get(count) {
                self.put(&mut line, *column, value);
            }
            count += 1;
        };
        // Searching for one byte takes half the time of searching for a string.
        match separator.as_bytes() {
            [byte] => text.split(char::from(*byte)).for_each(&mut take),
            _ => text.split(separator).for_each(&mut take),
        }
        match count.cmp(&column_count) {
            std::cmp::Ordering::Equal => Ok(line),
            std::cmp::Ordering::Less => Err(Malformed::Truncated.into()),
            std::cmp::Ordering::Greater => Err(NoSignal::Unknown),
        }
    }

    fn put<'a>(&self, line: &mut Line<'a>, column: Field, value: &'a str) {
        if value == self.unset_field.text() || value == self.empty_field.text() {
            return;
        }
        let slot = match column {
            Field::Other => return,
            Field::Answers => {
                line.answers = self.addresses(value);
                return;
            }
            Field::Ts => {
                line.ts = value.parse().map_or_else(|_| scalar(value), Scalar::Float);
                return;
            }
            Field::OrigHost => &mut line.orig_host,
            Field::OrigPort => &mut line.orig_port,
            Field::RespHost => &mut line.resp_host,
            Field::RespPort => &mut line.resp_port,
            Field::Proto => &mut line.proto,
            Field::Duration => &mut line.duration,
            Field::OrigBytes => &mut line.orig_bytes,
            Field::RespBytes => &mut line.resp_bytes,
            Field::ConnState => &mut line.conn_state,
            Field::MissedBytes => &mut line.missed_bytes,
            Field::History => &mut line.history,
            Field::OrigPackets => &mut line.orig_pkts,
            Field::RespPackets => &mut line.resp_pkts,
            Field::Query => &mut line.query,
            Field::Qtype => &mut line.qtype,
            Field::Rcode => &mut line.rcode,
            Field::RcodeName => &mut line.rcode_name,
            Field::Cipher => &mut line.cipher,
            Field::ServerName => &mut line.server_name,
            Field::Established => &mut line.established,
        };
        *slot = scalar(value);
    }

    /// The addresses of a set. The elements are split before their escapes are decoded: the text of a
    /// TXT record may contain the separator.
    fn addresses(&self, set: &str) -> Addresses {
        let separator = self.set_separator.text();
        let separator = if separator.is_empty() { "," } else { separator };
        let elements = set.split(separator);
        let addresses = elements.filter_map(|element| parse_address(&unescaped(element)));
        Addresses(addresses.take(limits::DNS_ANSWERS_MAX).collect())
    }
}

/// Whether a line is one of the lines with `#` before Zeek's columns.
pub(in super::super) fn is_header(text: &str) -> bool {
    text.starts_with("#separator ") || text.starts_with("#fields\t")
}

fn set<const N: usize>(slot: &mut Short<N>, value: &str) {
    if let Some(short) = Short::new(value) {
        *slot = short;
    }
}

fn scalar(value: &str) -> Scalar<'_> {
    Scalar::Text(unescaped(value))
}

/// Decodes one line of a log with this header.
pub(in super::super) fn decode<'a>(line: &'a [u8], header: &Header) -> Decoded<'a> {
    let text = match text_of(line) {
        Ok(text) => text,
        Err(malformed) => return Decoded::Malformed(malformed),
    };
    if text.trim_ascii().is_empty() {
        return Decoded::Skipped(SkipReason::Blank);
    }
    if text.starts_with('#') {
        return Decoded::Skipped(SkipReason::Header);
    }
    if header.column_count == 0 {
        return without_header(text, header);
    }
    let log = match header.path {
        Path::Known(log) => log,
        Path::Other => return Decoded::Skipped(SkipReason::OtherLog),
        Path::Unnamed => return Decoded::Unknown,
    };
    let read = header.read(text);
    Decoded::from(read.and_then(|line| line.signal(log)))
}

/// A line before any header: columns with unknown names, or a line that is not from Zeek.
fn without_header<'a>(text: &'a str, header: &Header) -> Decoded<'a> {
    if text.contains(header.separator.text()) {
        return Decoded::Malformed(Malformed::NoHeader);
    }
    super::super::not_an_object(text)
}

/// The columns of a line: bounded, UTF-8, without its terminator and without a container runtime's prefix.
/// White space is kept: a separator at the end is an empty column.
fn text_of(line: &[u8]) -> Result<&str, Malformed> {
    if line.len() > limits::LINE_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let text = simdutf8::basic::from_utf8(line).map_err(|_| Malformed::NotUtf8)?;
    without_cri_prefix(text.trim_end_matches(['\r', '\n']))
}

/// A value with Zeek's escapes decoded: `\xNN` and `\\`.
fn unescaped(value: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', value.as_bytes()).is_none() {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'\\', b'x', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (*first, after_first(rest)),
            },
            [b'\\', b'\\', after @ ..] => (b'\\', after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn after_first(bytes: &[u8]) -> &[u8] {
    bytes.get(1..).unwrap_or_default()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
