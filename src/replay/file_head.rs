//! The beginning of each file of a capture, from which the order of the files and copies are recognised.
//! Called by `lines` where there are several files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::merge_key::{MergeKey, key_of_line};
use crate::limits;
use crate::signals::decode::{Decoder, Format, sniff};
use crate::signals::source::compressed;

/// The beginning of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct FileHead {
    /// The key of its first record. `None` where none of the first lines has a time.
    pub(super) key: Option<MergeKey>,
    head: Vec<u8>,
    /// Whether the head is the whole file.
    is_whole: bool,
}

impl FileHead {
    /// Reads the beginning of a file. Empty for a file that cannot be read; reading it later reports the error.
    pub(super) fn at(path: &Path, format: Option<Format>) -> Self {
        let mut bytes = Vec::new();
        let Ok(file) = File::open(path) else {
            return Self::default();
        };
        let Ok(reader) = compressed::open(file) else {
            return Self::default();
        };
        let limit = limits::PEEK_BYTES as u64;
        // The bytes before an error are still the beginning.
        let _ = reader.take(limit).read_to_end(&mut bytes);
        let is_whole = bytes.len() <= limits::CHAIN_HEAD_BYTES;
        let key = first_key(&bytes, format);
        bytes.truncate(limits::CHAIN_HEAD_BYTES);
        bytes.shrink_to_fit();
        Self {
            key,
            head: bytes,
            is_whole,
        }
    }

    /// Whether another file has all lines of this one, as far as the beginnings show.
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

fn first_key(bytes: &[u8], format: Option<Format>) -> Option<MergeKey> {
    let mut decoder = format.map(Decoder::new);
    let lines = bytes.split(|byte| *byte == b'\n').take(limits::PEEK_LINES);
    for line in lines {
        let known = decoder.or_else(|| sniff(line).map(Decoder::new));
        let Some(mut known) = known else { continue };
        if let Some(key) = key_of_line(&known, line) {
            return Some(key);
        }
        known.learn(line);
        decoder = Some(known);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &[u8]) -> FileHead {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        FileHead::at(&path, None)
    }

    #[test]
    fn a_copy_is_recognised_even_if_it_is_partial() {
        let long = b"a line that is long enough for a record of some kind\n".repeat(200);
        let (whole, part) = (head(&long), head(&long[..530]));
        assert!(part.is_within(&whole) && !whole.is_within(&part));
        assert!(whole.is_within(&head(&long)));
        let mut other = long.clone();
        other[3] = b'x';
        assert!(!whole.is_within(&head(&other)));
        assert!(!head(b"").is_within(&whole));
    }

    #[test]
    fn the_first_time_is_found_after_a_header() {
        let text = b"#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n1764403200.25\t10.0.0.1\t1\t10.0.0.2\t2\ttcp\tS0\n";
        let (time, _) = head(text).key.unwrap();
        assert_eq!(time.to_string(), "2025-11-29T08:00:00.25Z");
        assert_eq!(head(b"hello\n").key, None);
    }
}
