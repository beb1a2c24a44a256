//! Lines: splits chunks of bytes into complete lines, with a bound on the length of a line.
//!
//! Sources of both kinds push what they read through a [`LineBuffer`]; the consumer iterates over a batch
//! with [`lines`]. Pure. Neither allocates per line: a batch is one buffer, a line is a slice of it.

use crate::limits;

/// The lines in `bytes`, without their terminators (`\n` or `\r\n`). Empty lines are skipped.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (line, next) = match memchr::memchr(b'\n', rest) {
                Some(end) => (rest.get(..end)?, rest.get(end + 1..)?),
                None => (rest, [].as_slice()),
            };
            rest = next;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}

/// Collects bytes until a line is complete.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    partial: Vec<u8>,
    /// Dropping bytes until the next newline.
    is_skipping: bool,
    oversized: u64,
}

impl LineBuffer {
    /// A buffer that first drops the rest of a line that started before the first byte read.
    pub(super) fn amid_line() -> Self {
        Self {
            is_skipping: true,
            ..Self::default()
        }
    }

    /// Number of bytes of the incomplete line.
    pub(super) fn pending(&self) -> usize {
        self.partial.len()
    }

    /// Number of lines that were too long since the last call.
    pub(super) fn take_oversized(&mut self) -> u64 {
        std::mem::take(&mut self.oversized)
    }

    /// Adds the bytes that `read` appends to the buffer, at most [`limits::READ_BYTES_MAX`], and returns
    /// all lines that are complete now; empty if there are none.
    ///
    /// Only the incomplete rest is copied, so a batch of many lines moves without a copy.
    pub(super) fn push<E>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let mut bytes = std::mem::take(&mut self.partial);
        let known = bytes.len();
        if let Err(error) = read(&mut bytes) {
            bytes.truncate(known);
            self.partial = bytes;
            return Err(error);
        }
        if self.is_skipping {
            let fresh = bytes.get(known..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', fresh) else {
                return Ok(Vec::new());
            };
            bytes.drain(..=known + end);
            self.is_skipping = false;
            return Ok(self.split(bytes, 0));
        }
        Ok(self.split(bytes, known))
    }

    /// The first `known` bytes have been searched already and contain no newline.
    fn split(&mut self, mut bytes: Vec<u8>, known: usize) -> Vec<u8> {
        let known = known - drop_leading_zeros(&mut bytes).min(known);
        let fresh = bytes.get(known..).unwrap_or_default();
        let Some(last) = memchr::memrchr(b'\n', fresh) else {
            if bytes.len() > limits::LINE_BYTES_MAX {
                self.oversized += 1;
                self.is_skipping = true;
            } else {
                self.partial = bytes;
            }
            return Vec::new();
        };
        let first = memchr::memchr(b'\n', fresh).unwrap_or(last);
        self.partial = bytes.split_off(known + last + 1);
        if known + first > limits::LINE_BYTES_MAX {
            // Only the first line can be too long: all others lie within one read.
            self.oversized += 1;
            bytes.drain(..=known + first);
        }
        bytes
    }

    /// The incomplete line as the last line, as no more bytes follow. `None` if there is none.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        self.is_skipping = false;
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then_some(rest)
    }
}

/// A writer that does not use O_APPEND leaves a hole of zeros when its file is truncated
/// (copytruncate). Without this function the hole and the following line would be one line that is too long.
fn drop_leading_zeros(bytes: &mut Vec<u8>) -> usize {
    let count = bytes.iter().take_while(|byte| **byte == 0).count();
    if count > 0 {
        bytes.drain(..count);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `input` in chunks of `step` and gives all lines, the unfinished one too, and how
    /// many were too long.
    fn check(input: &[u8], step: usize) -> (Vec<String>, u64) {
        let mut buffer = LineBuffer::default();
        let mut found = Vec::new();
        let mut oversized = 0;
        for chunk in input.chunks(step) {
            let push = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(chunk);
                Ok::<(), ()>(())
            };
            let batch = buffer.push(push).unwrap();
            assert!(buffer.pending() <= limits::LINE_BYTES_MAX);
            found.extend(lines(&batch).map(|line| String::from_utf8_lossy(line).into_owned()));
            oversized += buffer.take_oversized();
        }
        let rest = buffer.finish().unwrap_or_default();
        found.extend(lines(&rest).map(|line| String::from_utf8_lossy(line).into_owned()));
        (found, oversized)
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let input = b"one\r\ntwo\n\n\r\nthree\nlast";
        for step in 1..=input.len() {
            assert_eq!(
                check(input, step),
                (
                    ["one", "two", "three", "last"].map(str::to_owned).to_vec(),
                    0
                )
            );
        }
    }

    #[test]
    fn a_line_of_ten_mebibytes_is_dropped_and_counted_once_and_its_neighbours_stay() {
        let mut input = b"before\n".to_vec();
        input.resize(input.len() + 10 * 1024 * 1024, b'x');
        input.extend_from_slice(b"\nafter\n");
        for step in [4096, 65_537, limits::READ_BYTES_MAX] {
            let expected = ["before", "after"].map(str::to_owned).to_vec();
            assert_eq!(check(&input, step), (expected, 1));
        }
    }

    #[test]
    fn a_line_just_over_the_bound_is_dropped_also_when_its_end_comes_with_it() {
        for (length, is_dropped) in [
            (limits::LINE_BYTES_MAX, false),
            (limits::LINE_BYTES_MAX + 1, true),
        ] {
            let mut input = vec![b'x'; length];
            input.extend_from_slice(b"\nafter\n");
            for step in [1000, limits::READ_BYTES_MAX] {
                let (found, oversized) = check(&input, step);
                assert_eq!(
                    oversized,
                    u64::from(is_dropped),
                    "length {length}, step {step}"
                );
                assert_eq!(found.len(), 2 - usize::from(is_dropped));
            }
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut buffer = LineBuffer::default();
        for _ in 0..1000 {
            let push = |bytes: &mut Vec<u8>| {
                bytes.resize(bytes.len() + limits::READ_BYTES_MAX, b'x');
                Ok::<(), ()>(())
            };
            assert!(buffer.push(push).unwrap().is_empty());
            assert!(buffer.pending() <= limits::LINE_BYTES_MAX);
        }
        assert_eq!(buffer.take_oversized(), 1);
        assert_eq!(buffer.finish(), None);
    }

    #[test]
    fn a_hole_of_zeros_before_a_line_is_no_part_of_it() {
        let mut input = vec![0; 3 * limits::LINE_BYTES_MAX];
        input.extend_from_slice(b"one\ntwo\n");
        let expected = ["one", "two"].map(str::to_owned).to_vec();
        assert_eq!(check(&input, 5000), (expected, 0));
    }

    #[test]
    fn bytes_that_are_no_text_pass() {
        let mut buffer = LineBuffer::default();
        let push = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(b"\xff\xfe\n");
            Ok::<(), ()>(())
        };
        let batch = buffer.push(push).unwrap();
        assert_eq!(lines(&batch).collect::<Vec<_>>(), [b"\xff\xfe"]);
    }

    #[test]
    fn a_failed_read_loses_nothing_that_waited() {
        let mut buffer = LineBuffer::default();
        let first = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(b"on");
            Ok::<(), ()>(())
        };
        buffer.push(first).unwrap();
        let failing = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(b"garbage");
            Err(())
        };
        assert_eq!(buffer.push(failing), Err(()));
        assert_eq!(buffer.finish().as_deref(), Some(b"on".as_slice()));
    }
}
