//! Lines: bounded reading of log files, several of one capture merged by event time.
//!
//! Called by `run`. Zeek writes names and connections into separate files, and a connection must not be
//! judged before the DNS answer that explains it. Therefore the file with the earliest next record is read
//! first. This requires that `dns` is in order of time; `conn` is not, because Zeek writes connections in the
//! order in which they end. Rotated files are opened when their time is reached.
//!
//! A read error ends a file; what was read before it counts. Its [`FileResult`] has the error.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use super::captures::Capture;
use super::file_head::FileHead;
use super::file_name::FileName;
use super::files::{FileResult, LineResult};
use super::merge_key::{MergeKey, key_of_decoded, key_of_line};
use crate::limits;
use crate::model::EventTime;
use crate::signals::decode::{Decoded, Decoder, Format, Malformed, decode_sample, sniff};
use crate::signals::source::compressed;

/// A file, with its next line.
pub(super) struct LogFile {
    path: PathBuf,
    /// The number of its log in the capture. Rotated files belong to one log.
    source: u16,
    /// `None` before it is opened and after its end.
    reader: Option<Box<dyn BufRead>>,
    is_opened: bool,
    decoder: Option<Decoder>,
    line: Vec<u8>,
    is_too_long: bool,
    result: FileResult,
}

/// A line that was read.
pub(super) enum Line<'a> {
    /// A line of a known format, and its decoder, which knows the lines before it.
    Text(&'a Decoder, &'a [u8]),
    /// A line of a file of samples.
    Sample(&'a [u8]),
    /// A line before the format is known.
    Unrecognised,
    /// A line over the length limit.
    TooLong,
}

/// The files of a capture.
pub(super) struct Files {
    files: Vec<LogFile>,
    /// Files that are copies of others: the copy, and the file that has its lines.
    pub(super) copies: Vec<(PathBuf, PathBuf)>,
}

impl Files {
    /// The files of a capture, none of them opened yet.
    pub(super) fn of(capture: &Capture, format: Option<Format>) -> Self {
        let mut logs: Vec<String> = Vec::new();
        let mut source_of = |path: &Path| {
            let name = FileName::of(path);
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

    /// Calls `take` with every line of all files and the number of its log, merged by time where there are
    /// several files. Returns the results of each file.
    pub(super) fn for_each_line(
        &mut self,
        mut take: impl FnMut(u16, &Line<'_>) -> LineResult,
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
        let mut heads: Vec<(MergeKey, LogFile)> = Vec::new();
        loop {
            let next = earliest(&heads);
            let next_key = next.and_then(|index| heads.get(index)).map(|(key, _)| *key);
            let is_due = waiting.last().is_some_and(|(key, _)| {
                let has_room = heads.len() < limits::MERGE_FILES_MAX;
                has_room && next_key.is_none_or(|next| *key <= next)
            });
            if is_due && let Some((_, mut file)) = waiting.pop() {
                match file.advance(&mut take) {
                    Some(key) => heads.push((key, file)),
                    None => done.push(file.finish()),
                }
                continue;
            }
            let Some((index, (key, file))) = next.and_then(|i| Some((i, heads.get_mut(i)?))) else {
                break;
            };
            file.give(&mut take);
            match file.advance(&mut take) {
                Some(next) => *key = next,
                None => done.push(heads.swap_remove(index).1.finish()),
            }
        }
        done.sort_by(|a, b| a.path.cmp(&b.path));
        done
    }

    /// The files by the time of their first record, the latest first, without copies of each other.
    fn in_order(&mut self, files: Vec<LogFile>) -> Vec<(MergeKey, LogFile)> {
        let mut kept: Vec<(FileHead, LogFile)> = Vec::new();
        for file in files {
            let format = file.decoder.map(|decoder| decoder.format());
            let head = FileHead::at(&file.path, format);
            let of_log = |known: &LogFile| known.source == file.source && !file.result.is_samples;
            let holder = kept
                .iter()
                .find(|(known, other)| of_log(other) && head.is_within(known));
            if let Some((_, other)) = holder {
                self.copies.push((file.path, other.path.clone()));
                continue;
            }
            // A copy that was made while its log was written has fewer lines, and may come first.
            kept.retain(|(known, other)| {
                let is_copy = of_log(other) && known.is_within(&head);
                if is_copy {
                    self.copies.push((other.path.clone(), file.path.clone()));
                }
                !is_copy
            });
            kept.push((head, file));
        }
        let key_of = |head: &FileHead| head.key.unwrap_or((EventTime::MIN, 0));
        let mut waiting: Vec<_> = kept
            .into_iter()
            .map(|(head, file)| (key_of(&head), file))
            .collect();
        // Stable: files of the same time stay in the order of their names.
        waiting.reverse();
        waiting.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
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
                self.result.read_error = Some(error.to_string());
                self.reader = None;
                return false;
            }
        };
        self.result.count_line(&self.line);
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

    /// Passes on the line that was read last.
    fn give(&mut self, take: &mut impl FnMut(u16, &Line<'_>) -> LineResult) {
        let result = take(self.source, &self.current());
        self.result.count(result);
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

    /// Advances to the next line that has a time. Lines without a time are passed on at once.
    fn advance(&mut self, take: &mut impl FnMut(u16, &Line<'_>) -> LineResult) -> Option<MergeKey> {
        while self.next() {
            if let Some(key) = key_of(&self.current()) {
                return Some(key);
            }
            self.give(take);
        }
        None
    }

    fn finish(self) -> FileResult {
        self.result.finish()
    }
}

fn earliest(heads: &[(MergeKey, LogFile)]) -> Option<usize> {
    let keys = heads
        .iter()
        .enumerate()
        .map(|(index, (key, _))| (*key, index));
    keys.min().map(|(_, index)| index)
}

fn key_of(line: &Line<'_>) -> Option<MergeKey> {
    match line {
        Line::Text(decoder, text) => key_of_line(decoder, text),
        Line::Sample(text) => key_of_decoded(&decode_sample(text)),
        Line::Unrecognised | Line::TooLong => None,
    }
}

/// The result of a decoded line.
pub(super) fn result_of(decoded: &Decoded<'_>) -> LineResult {
    match decoded {
        Decoded::Signal(_) => LineResult::Signal,
        Decoded::Skipped(reason) => LineResult::Skipped(*reason),
        Decoded::Unknown => LineResult::Unknown,
        Decoded::Malformed(reason) => LineResult::Malformed(*reason),
    }
}

/// The result of a line that is too long.
pub(super) const TOO_LONG: LineResult = LineResult::Malformed(Malformed::TooLong);

/// Reads one line without its end into `line`. `Some(false)` for a line that is too long, which is skipped.
/// `None` at the end of the input.
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
    fn a_line_of_ten_mebibytes_is_skipped_and_the_next_one_is_read() {
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
