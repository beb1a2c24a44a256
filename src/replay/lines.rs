//! Lines: bounded reading of log files, several of one capture merged by event time.
//!
//! Called by `run`. Zeek writes names and connections into separate files, and a connection must
//! not be judged before the DNS answer that explains it, so the file whose next record is the
//! earliest goes first. That needs `dns` to be in order of time, not `conn`, which Zeek writes in
//! the order in which connections end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use super::ReplayError;
use super::captures::Capture;
use crate::limits;
use crate::model::{EventTime, Signal};
use crate::signals::decode::{Decoded, Decoder, Format, decode_sample, sniff};

/// A TLS name is known some time after its connection began. It goes before it all the same, as
/// in a live stream, where the connection's record comes at its end.
const TLS_HEAD_START_US: i64 = 10_000_000;

/// One file, with the line that comes next.
pub(super) struct LogFile {
    path: PathBuf,
    /// Its number among the files of the capture.
    source: u16,
    reader: Box<dyn BufRead>,
    decoder: Option<Decoder>,
    is_samples: bool,
    line: Vec<u8>,
    line_count: u64,
}

/// What reading one line gave.
pub(super) enum Line<'a> {
    /// A line of a known format, and how it is read after the lines before it.
    Text(&'a Decoder, &'a [u8]),
    /// A line of a file of samples.
    Sample(&'a [u8]),
    /// A line longer than is read, or of no format known so far.
    Unusable,
}

impl LogFile {
    /// Opens the files of a capture.
    pub(super) fn open_all(
        capture: &Capture,
        format: Option<Format>,
    ) -> Result<Vec<Self>, ReplayError> {
        let mut files = Vec::new();
        if capture.files.is_empty() {
            let stdin = Box::new(BufReader::new(io::stdin()));
            files.push(Self::new((0, PathBuf::from("-")), stdin, format));
        }
        let open = |(source, path): (usize, &PathBuf)| {
            let file = File::open(path).map_err(|source| ReplayError::Read {
                path: path.clone(),
                source,
            })?;
            let reader = Box::new(BufReader::with_capacity(256 * 1024, file));
            // At most MERGE_FILES_MAX, so it fits.
            let source = u16::try_from(source).unwrap_or(u16::MAX);
            Ok(Self::new((source, path.clone()), reader, format))
        };
        for numbered in capture.files.iter().enumerate() {
            files.push(open(numbered)?);
        }
        if let Some(path) = &capture.samples {
            files.push(Self {
                is_samples: true,
                ..open((files.len(), path))?
            });
        }
        Ok(files)
    }

    fn new(
        (source, path): (u16, PathBuf),
        reader: Box<dyn BufRead>,
        format: Option<Format>,
    ) -> Self {
        Self {
            path,
            source,
            reader,
            decoder: format.map(Decoder::new),
            is_samples: false,
            line: Vec::new(),
            line_count: 0,
        }
    }

    /// Reads the next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, ReplayError> {
        if let Some(decoder) = &mut self.decoder {
            decoder.learn(&self.line);
        }
        let read = read_bounded(&mut self.reader, &mut self.line);
        let is_whole = match read {
            Ok(None) => return self.finish(),
            Ok(Some(is_whole)) => is_whole,
            Err(source) => {
                return Err(ReplayError::Read {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        self.line_count += 1;
        if !is_whole {
            return Ok(Some(Line::Unusable));
        }
        if self.decoder.is_none() && !self.is_samples {
            self.decoder = sniff(&self.line).map(Decoder::new);
        }
        Ok(Some(self.current()))
    }

    /// The line that was read last.
    pub(super) fn current(&self) -> Line<'_> {
        match &self.decoder {
            _ if self.is_samples => Line::Sample(&self.line),
            Some(decoder) => Line::Text(decoder, &self.line),
            None => Line::Unusable,
        }
    }

    fn finish(&self) -> Result<Option<Line<'_>>, ReplayError> {
        if self.decoder.is_none() && self.line_count > 0 && !self.is_samples {
            return Err(ReplayError::UnknownFormat(self.path.clone()));
        }
        Ok(None)
    }
}

/// Calls `take` with every line of all files and the number of its file, merged by time where there
/// are several.
pub(super) fn for_each_line(
    mut files: Vec<LogFile>,
    mut take: impl FnMut(u16, &Line<'_>),
) -> Result<(), ReplayError> {
    if let [file] = files.as_mut_slice() {
        while let Some(line) = file.next()? {
            take(0, &line);
        }
        return Ok(());
    }
    let mut heads = Vec::new();
    for mut file in files {
        if let Some(key) = advance(&mut file, &mut take)? {
            heads.push((key, file));
        }
    }
    while let Some(index) = earliest(&heads) {
        let Some((key, file)) = heads.get_mut(index) else {
            break;
        };
        take(file.source, &file.current());
        match advance(file, &mut take)? {
            Some(next) => *key = next,
            None => drop(heads.swap_remove(index)),
        }
    }
    Ok(())
}

/// When a record is due, and names before connections at the same time.
type Due = (EventTime, u8);

fn earliest(heads: &[(Due, LogFile)]) -> Option<usize> {
    let due = heads
        .iter()
        .enumerate()
        .map(|(index, (due, _))| (*due, index));
    due.min().map(|(_, index)| index)
}

/// Moves on to the next line that has a time. Those without are taken at once.
fn advance(
    file: &mut LogFile,
    take: &mut impl FnMut(u16, &Line<'_>),
) -> Result<Option<Due>, ReplayError> {
    let source = file.source;
    while let Some(line) = file.next()? {
        if let Some(due) = due_of(&line) {
            return Ok(Some(due));
        }
        take(source, &line);
    }
    Ok(None)
}

fn due_of(line: &Line<'_>) -> Option<Due> {
    let decoded = match line {
        Line::Text(decoder, text) => decoder.decode(text),
        Line::Sample(text) => decode_sample(text),
        Line::Unusable => return None,
    };
    match decoded {
        Decoded::Signal(Signal::Dns(query)) => Some((query.time, 0)),
        Decoded::Signal(Signal::Tls(tls)) => Some((tls.time.plus_micros(-TLS_HEAD_START_US), 1)),
        Decoded::Signal(signal) => Some((signal.time(), 2)),
        _ => None,
    }
}

/// Reads one line without its end into `line`. `Some(false)` for one that is too long: the rest
/// of it is passed over. `None` at the end of the input.
fn read_bounded(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let limit = limits::LINE_BYTES_MAX as u64 + 1;
    if reader.take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(true));
    }
    if line.len() <= limits::LINE_BYTES_MAX {
        return Ok(Some(true)); // the last line has no end
    }
    line.clear();
    loop {
        let buffer = reader.fill_buf()?;
        let (length, is_end) = match memchr::memchr(b'\n', buffer) {
            Some(position) => (position + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(length);
        if is_end {
            return Ok(Some(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<(bool, usize)> {
        let mut reader = BufReader::with_capacity(64, text);
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while let Some(is_whole) = read_bounded(&mut reader, &mut line).unwrap() {
            lines.push((is_whole, line.len()));
        }
        lines
    }

    #[test]
    fn a_line_of_ten_mebibytes_is_passed_over_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 10 << 20];
        text.extend_from_slice(b"\nnext\nlast");
        assert_eq!(lines(&text), vec![(false, 0), (true, 4), (true, 4)]);
    }

    #[test]
    fn the_longest_allowed_line_is_read_whole() {
        let mut text = vec![b'x'; limits::LINE_BYTES_MAX];
        text.push(b'\n');
        assert_eq!(lines(&text), vec![(true, limits::LINE_BYTES_MAX)]);
    }
}
