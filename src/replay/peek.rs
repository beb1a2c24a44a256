//! Peek: a look at the beginning of each file of a capture, so that files are read in the order of their
//! times, and none whose lines stand in another one. Called by `lines` where there are several.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::lines::{Due, due_of_text};
use crate::limits;
use crate::signals::decode::{Decoder, Format, sniff};
use crate::signals::source::compressed;

/// What the beginning of a file shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Peek {
    /// When its first record is due; `None` where none of the first lines has a time.
    pub(super) due: Option<Due>,
    head: Vec<u8>,
    /// Whether the head is the whole file.
    is_whole: bool,
}

impl Peek {
    /// Looks at a file. One that cannot be read shows nothing; reading it says why.
    pub(super) fn at(path: &Path, format: Option<Format>) -> Self {
        let mut bytes = Vec::new();
        let Ok(file) = File::open(path) else {
            return Self::default();
        };
        let Ok(reader) = compressed::open(file) else {
            return Self::default();
        };
        let limit = limits::PEEK_BYTES as u64;
        // What came before an error is the beginning all the same.
        let _ = reader.take(limit).read_to_end(&mut bytes);
        let is_whole = bytes.len() <= limits::CHAIN_HEAD_BYTES;
        let due = first_due(&bytes, format);
        bytes.truncate(limits::CHAIN_HEAD_BYTES);
        bytes.shrink_to_fit();
        Self {
            due,
            head: bytes,
            is_whole,
        }
    }

    /// Whether another file, looked at as `other`, has all lines of this one, as far as its beginning
    /// tells.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        if self.head.len() < limits::COPY_HEAD_BYTES_MIN {
            return false;
        }
        if self.is_whole {
            other.head.starts_with(&self.head)
        } else {
            !other.is_whole && self.head == other.head
        }
    }
}

fn first_due(bytes: &[u8], format: Option<Format>) -> Option<Due> {
    let mut decoder = format.map(Decoder::new);
    let lines = bytes.split(|byte| *byte == b'\n').take(limits::PEEK_LINES);
    for line in lines {
        let known = decoder.or_else(|| sniff(line).map(Decoder::new));
        let Some(mut known) = known else { continue };
        if let Some(due) = due_of_text(&known, line) {
            return Some(due);
        }
        known.learn(line);
        decoder = Some(known);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peek(text: &[u8]) -> Peek {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        Peek::at(&path, None)
    }

    #[test]
    fn a_copy_is_known_also_one_that_is_not_whole() {
        let long = b"a line that is long enough for a record of some kind\n".repeat(200);
        let (whole, part) = (peek(&long), peek(&long[..530]));
        assert!(part.is_within(&whole) && !whole.is_within(&part));
        assert!(whole.is_within(&peek(&long)));
        let mut other = long.clone();
        other[3] = b'x';
        assert!(!whole.is_within(&peek(&other)));
        assert!(!peek(b"").is_within(&whole));
    }

    #[test]
    fn the_first_time_is_found_behind_a_header() {
        let text = b"#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n1764403200.25\t10.0.0.1\t1\t10.0.0.2\t2\ttcp\tS0\n";
        let (time, _) = peek(text).due.unwrap();
        assert_eq!(time.to_string(), "2025-11-29T08:00:00.25Z");
        assert_eq!(peek(b"hello\n").due, None);
    }
}
