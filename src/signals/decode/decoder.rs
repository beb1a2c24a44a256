//! Decoder: a format, together with the state from earlier lines of the same log that is needed to read later ones.
//!
//! Sources and `replay` keep one per file. Most formats have no such state. VPC flow logs and Zeek's columns name
//! their fields in the first lines. Suricata counts the packets that it lost since its start, so two records are
//! needed to know how many losses are new.
//!
//! A decoder is small and `Copy`, so that a line that is read again later can be read with the decoder of
//! its time: only [`Decoder::learn`] changes the state, [`Decoder::decode`] does not.

use super::suricata::{self, Drops};
use super::vpc::{self, Columns};
use super::zeek::tsv::{self, Header};
use super::{Decoded, Format, SkipReason, Tracking, decode, text_of, ulogd};
use crate::model::{LostEvents, Signal};

/// A format and the state of its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    format: Format,
    memory: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Nothing,
    Vpc(Columns),
    Suricata(Drops),
    Zeek(Header),
}

impl Decoder {
    /// A decoder at the beginning of a log.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let memory = match format {
            Format::Vpc => Memory::Vpc(Columns::default()),
            Format::Suricata => Memory::Suricata(Drops::default()),
            Format::Zeek => Memory::Zeek(Header::default()),
            Format::Hubble | Format::Ulogd | Format::Calico => Memory::Nothing,
        };
        Self { format, memory }
    }

    /// The format.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Decodes a line, using the state from the lines before it.
    #[must_use]
    pub fn decode<'a>(&self, line: &'a [u8]) -> Decoded<'a> {
        match &self.memory {
            Memory::Vpc(columns) => vpc::decode(line, columns),
            Memory::Zeek(header) if header.has_columns() && is_text(line) => {
                tsv::decode(line, header)
            }
            Memory::Nothing | Memory::Zeek(_) => decode(self.format, line),
            Memory::Suricata(drops) => {
                let decoded = decode(self.format, line);
                if decoded != Decoded::Skipped(SkipReason::NotTraffic) {
                    return decoded;
                }
                match suricata::count_drops(line).map(|(time, now)| (time, drops.until(now))) {
                    Some((time, count)) if count > 0 => Decoded::Signal(Signal::Lost(LostEvents {
                        time,
                        count,
                        node: None,
                    })),
                    _ => decoded,
                }
            }
        }
    }

    /// Like [`Self::decode`], with the state of the connection in connection tracking where the format shows it.
    #[must_use]
    pub fn decode_with_conntrack<'a>(&self, line: &'a [u8]) -> (Decoded<'a>, Option<Tracking>) {
        if self.format == Format::Ulogd
            && let Ok(text) = text_of(line)
            && text.starts_with('{')
            && let Ok((signal, tracking)) = ulogd::decode_with_conntrack(text)
        {
            return (Decoded::Signal(signal), tracking);
        }
        (self.decode(line), None)
    }

    /// Updates the state from a line. Must be called once per line, in the
    /// order of the log, after the line was decoded.
    pub fn learn(&mut self, line: &[u8]) {
        match &mut self.memory {
            Memory::Nothing => {}
            Memory::Vpc(columns) => {
                if let Some(named) = Columns::from_header(line) {
                    *columns = named;
                }
            }
            Memory::Zeek(header) => header.learn(line),
            Memory::Suricata(drops) => {
                if let Some((_, now)) = suricata::count_drops(line) {
                    *drops = now;
                }
            }
        }
    }

    /// Updates the state from a line at the beginning of the file, if reading starts at a later offset:
    /// only the header is used. Counters are ignored, because they are outdated.
    pub fn learn_header(&mut self, line: &[u8]) {
        if matches!(self.memory, Memory::Vpc(_) | Memory::Zeek(_)) {
            self.learn(line);
        }
    }
}

impl Decoder {
    /// The decoder for another file of the same source. Columns belong to one file; counters that continue across
    /// files are kept, and so is the field order of a log that contains it only once.
    #[must_use]
    pub fn for_next_file(&self) -> Self {
        match self.memory {
            Memory::Zeek(_) => Self::new(self.format),
            Memory::Nothing | Memory::Vpc(_) | Memory::Suricata(_) => *self,
        }
    }
}

/// Whether a line is not JSON, with or without a container runtime's prefix.
fn is_text(line: &[u8]) -> bool {
    line.first() != Some(&b'{') && !text_of(line).is_ok_and(|text| text.starts_with('{'))
}
