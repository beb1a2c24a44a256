//! Lines: bounded reading of log files, several of one capture merged by event time.
//!
//! Called by `run`. Zeek writes names and connections into separate files, and a connection must
//! not be judged before the DNS answer that explains it, so the file whose next record is the
//! earliest goes first. That needs `dns` to be in order of time, not `conn`, which Zeek writes in
//! the order in which connections end. Rotated files are opened when their time comes.
//!
//! A file that cannot be read ends there, and what was read of it counts: its [`FileResult`] says so.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use super::captures::Capture;
use super::files::{Fate, FileResult};
use super::names::Name;
use super::peek::Peek;
use crate::limits;
use crate::model::{EventTime, Signal};
use crate::signals::decode::{Decoded, Decoder, Format, Malformed, decode_sample, sniff};
use crate::signals::source::compressed;

/// A TLS name is known some time after its connection began. It goes before it all the same, as
/// in a live stream, where the connection's record comes at its end.
const TLS_HEAD_START_US: i64 = 10_000_000;

/// One file, with the line that comes next.
pub(super) struct LogFile {
    path: PathBuf,
    /// The number of its log among those of the capture: rotated files are of one log.
    source: u16,
    /// `None` before it is opened and after its end.
    reader: Option<Box<dyn BufRead>>,
    is_opened: bool,
    decoder: Option<Decoder>,
    line: Vec<u8>,
    is_too_long: bool,
    result: FileResult,
}

/// What reading one line gave.
pub(super) enum Line<'a> {
    /// A line of a known format, and how it is read after the lines before it.
    Text(&'a Decoder, &'a [u8]),
    /// A line of a file of samples.
    Sample(&'a [u8]),
    /// A line of no format known so far.
    Unrecognised,
    /// A line longer than is read.
    TooLong,
}

/// The files of a capture.
pub(super) struct Files {
    files: Vec<LogFile>,
    /// Files whose lines stand in another one: which, and in which.
    pub(super) copies: Vec<(PathBuf, PathBuf)>,
}

impl Files {
    /// The files of a capture, none of them opened yet.
    pub(super) fn of(capture: &Capture, format: Option<Format>) -> Self {
        let mut logs: Vec<String> = Vec::new();
        let mut source_of = |path: &Path| {
            let name = Name::of(path);
            let log = name.zeek_kind().map_or(name.family, str::to_owned);
            let known = logs.iter().position(|known| *known == log);
            let number = known.unwrap_or_else(|| {
                logs.push(log);
                logs.len() - 1
            });
            u16::try_from(number).unwrap_or(u16::MAX)
        };
        let mut files: Vec<_> = capture
            .files
            .iter()
            .map(|path| LogFile::new(path, source_of(path), format, false))
            .collect();
        if files.is_empty() {
            files.push(LogFile::new(Path::new("-"), 0, format, false));
        }
        if let Some(path) = &capture.samples {
            let number = u16::try_from(logs.len().max(1)).unwrap_or(u16::MAX);
            files.push(LogFile::new(path, number, None, true));
        }
        Self {
            files,
            copies: Vec::new(),
        }
    }

    /// Calls `take` with every line of all files and the number of its log, merged by time where
    /// there are several, and says what became of the lines of each file.
    pub(super) fn for_each_line(
        &mut self,
        mut take: impl FnMut(u16, &Line<'_>) -> Fate,
    ) -> Vec<FileResult> {
        let mut files = std::mem::take(&mut self.files);
        if let [file] = files.as_mut_slice() {
            while file.next() {
                file.give(&mut take);
            }
            return files.into_iter().map(LogFile::finish).collect();
        }
        let mut waiting = self.in_order(files);
        let mut done = Vec::new();
        let mut heads: Vec<(Due, LogFile)> = Vec::new();
        loop {
            let next = earliest(&heads);
            let next_due = next.and_then(|index| heads.get(index)).map(|(due, _)| *due);
            let is_due = waiting.last().is_some_and(|(due, _)| {
                let has_room = heads.len() < limits::MERGE_FILES_MAX;
                has_room && next_due.is_none_or(|next| *due <= next)
            });
            if is_due && let Some((_, mut file)) = waiting.pop() {
                match file.advance(&mut take) {
                    Some(due) => heads.push((due, file)),
                    None => done.push(file.finish()),
                }
                continue;
            }
            let Some((index, (due, file))) = next.and_then(|i| Some((i, heads.get_mut(i)?))) else {
                break;
            };
            file.give(&mut take);
            match file.advance(&mut take) {
                Some(next) => *due = next,
                None => done.push(heads.swap_remove(index).1.finish()),
            }
        }
        done.sort_by(|a, b| a.path.cmp(&b.path));
        done
    }

    /// The files by the time of their first record, the latest first, without copies of each other.
    fn in_order(&mut self, files: Vec<LogFile>) -> Vec<(Due, LogFile)> {
        let mut kept: Vec<(Peek, LogFile)> = Vec::new();
        for file in files {
            let format = file.decoder.map(|decoder| decoder.format());
            let peek = Peek::at(&file.path, format);
            let of_log = |known: &LogFile| known.source == file.source && !file.result.is_samples;
            let holder = kept
                .iter()
                .find(|(known, other)| of_log(other) && peek.is_within(known));
            if let Some((_, other)) = holder {
                self.copies.push((file.path, other.path.clone()));
                continue;
            }
            // A copy that was made while its log was written has fewer lines, and came first here.
            kept.retain(|(known, other)| {
                let is_copy = of_log(other) && known.is_within(&peek);
                if is_copy {
                    self.copies.push((other.path.clone(), file.path.clone()));
                }
                !is_copy
            });
            kept.push((peek, file));
        }
        let due_of = |peek: &Peek| peek.due.unwrap_or((EventTime::MIN, 0));
        let mut waiting: Vec<_> = kept
            .into_iter()
            .map(|(peek, file)| (due_of(&peek), file))
            .collect();
        // Stable: files of the same time stay in the order of their names.
        waiting.reverse();
        waiting.sort_by_key(|(due, _)| std::cmp::Reverse(*due));
        waiting
    }
}

impl LogFile {
    fn new(path: &Path, source: u16, format: Option<Format>, is_samples: bool) -> Self {
        Self {
            path: path.to_owned(),
            source,
            reader: None,
            is_opened: false,
            decoder: format.map(Decoder::new),
            line: Vec::new(),
            is_too_long: false,
            result: FileResult::new(path, format, is_samples),
        }
    }

    fn open(&self) -> io::Result<Box<dyn BufRead>> {
        if self.path.as_os_str() == "-" {
            return compressed::open(io::stdin());
        }
        compressed::open(File::open(&self.path)?)
    }

    /// Reads the next line; `false` at the end.
    fn next(&mut self) -> bool {
        if let Some(decoder) = &mut self.decoder {
            decoder.learn(&self.line);
        }
        let read = self.read();
        let is_whole = match read {
            Ok(Some(is_whole)) => is_whole,
            Ok(None) => return false,
            Err(error) => {
                self.result.trouble = Some(error.to_string());
                self.reader = None;
                return false;
            }
        };
        self.result.see(&self.line);
        if is_whole && self.decoder.is_none() && !self.result.is_samples {
            self.decoder = sniff(&self.line).map(Decoder::new);
            self.result.format = self.decoder.map(|decoder| decoder.format());
        }
        self.is_too_long = !is_whole;
        true
    }

    fn read(&mut self) -> io::Result<Option<bool>> {
        if !self.is_opened {
            self.is_opened = true;
            self.reader = Some(self.open()?);
        }
        match &mut self.reader {
            Some(reader) => read_bounded(reader, &mut self.line),
            None => Ok(None),
        }
    }

    /// Hands over the line that was read last.
    fn give(&mut self, take: &mut impl FnMut(u16, &Line<'_>) -> Fate) {
        let fate = take(self.source, &self.current());
        self.result.count(fate);
    }

    /// The line that was read last.
    fn current(&self) -> Line<'_> {
        match &self.decoder {
            _ if self.is_too_long => Line::TooLong,
            _ if self.result.is_samples => Line::Sample(&self.line),
            Some(decoder) => Line::Text(decoder, &self.line),
            None => Line::Unrecognised,
        }
    }

    /// Moves on to the next line that has a time. Those without are taken at once.
    fn advance(&mut self, take: &mut impl FnMut(u16, &Line<'_>) -> Fate) -> Option<Due> {
        while self.next() {
            if let Some(due) = due_of(&self.current()) {
                return Some(due);
            }
            self.give(take);
        }
        None
    }

    fn finish(self) -> FileResult {
        self.result.finish()
    }
}

/// When a record is due, and names before connections at the same time.
pub(super) type Due = (EventTime, u8);

fn earliest(heads: &[(Due, LogFile)]) -> Option<usize> {
    let due = heads
        .iter()
        .enumerate()
        .map(|(index, (due, _))| (*due, index));
    due.min().map(|(_, index)| index)
}

fn due_of(line: &Line<'_>) -> Option<Due> {
    match line {
        Line::Text(decoder, text) => due_of_text(decoder, text),
        Line::Sample(text) => due_of_decoded(&decode_sample(text)),
        Line::Unrecognised | Line::TooLong => None,
    }
}

/// When a line of a log is due.
pub(super) fn due_of_text(decoder: &Decoder, text: &[u8]) -> Option<Due> {
    due_of_decoded(&decoder.decode(text))
}

fn due_of_decoded(decoded: &Decoded<'_>) -> Option<Due> {
    match decoded {
        Decoded::Signal(Signal::Dns(query)) => Some((query.time, 0)),
        Decoded::Signal(Signal::Tls(tls)) => Some((tls.time.plus_micros(-TLS_HEAD_START_US), 1)),
        Decoded::Signal(signal) => Some((signal.time(), 2)),
        _ => None,
    }
}

/// What became of a line, without what it says.
pub(super) fn fate_of(decoded: &Decoded<'_>) -> Fate {
    match decoded {
        Decoded::Signal(_) => Fate::Signal,
        Decoded::Skipped(reason) => Fate::Skipped(*reason),
        Decoded::Unknown => Fate::Unknown,
        Decoded::Malformed(reason) => Fate::Malformed(*reason),
    }
}

/// What becomes of a line that is too long.
pub(super) const TOO_LONG: Fate = Fate::Malformed(Malformed::TooLong);

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
        let mut reader = io::BufReader::with_capacity(64, text);
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
