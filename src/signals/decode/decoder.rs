//! Decoder: a format together with what earlier lines of the same log said about later ones.
//!
//! Sources and `replay` keep one per file. Most formats need none of it: each of their lines
//! stands for itself. VPC flow logs and Zeek's columns name their fields in the first lines, and
//! Suricata counts the packets that it lost from its start on, so that only two records show how many
//! are new.
//!
//! It is small and `Copy`, so that a line which is read again later is read with the decoder of
//! its time: [`Decoder::decode`] changes nothing, [`Decoder::learn`] alone does.

use super::suricata::{self, Drops};
use super::vpc::{self, Columns};
use super::zeek::tsv::{self, Header};
use super::{Decoded, Format, SkipReason, Tracking, decode, text_of, ulogd};
use crate::model::{LostEvents, Signal};

/// See the module.
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

    /// Decodes a line in the light of the lines before it.
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

    /// The same, and what the line says about the entry of its connection in connection tracking, where the format tells.
    #[must_use]
    pub fn decode_tracked<'a>(&self, line: &'a [u8]) -> (Decoded<'a>, Option<Tracking>) {
        if self.format == Format::Ulogd
            && let Ok(text) = text_of(line)
            && text.starts_with('{')
            && let Ok((signal, tracking)) = ulogd::decode_tracked(text)
        {
            return (Decoded::Signal(signal), tracking);
        }
        (self.decode(line), None)
    }

    /// Remembers what a line says about the lines after it. To be called once per line, in the
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

    /// Remembers what a line at the beginning of the file says about all lines of it, where reading
    /// begins further behind: the header, and no counters, which were long overtaken.
    pub fn learn_header(&mut self, line: &[u8]) {
        if matches!(self.memory, Memory::Vpc(_) | Memory::Zeek(_)) {
            self.learn(line);
        }
    }
}

impl Decoder {
    /// The decoder of another file of the same source. Columns belong to a file; what counts on from
    /// file to file is kept, and so is the order of fields of a log that names them once.
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
