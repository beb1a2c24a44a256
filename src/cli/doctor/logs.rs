//! Checks of logs: whether a file has lines that a source of its format can use. Its beginning and its end are
//! read, as the controller and the agents read them. Pods are not known here.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::check::{Check, Verdict};
use crate::limits;
use crate::model::EventTime;
use crate::operator::{LogLocation, LogSource};
use crate::signals::decode::{Decoded, Decoder, Format, looks_like, sniff};
use crate::signals::health::{LineOutcome, LineTally, LogProblem};

/// From this age of the newest line on, the log may no longer be written.
const OLD_AFTER_S: i64 = 3_600;

/// A check for each source.
pub(super) fn checks(sources: &[LogSource], now: Timestamp) -> Vec<Check> {
    let now = EventTime::from(now);
    sources.iter().map(|source| check(source, now)).collect()
}

fn check(source: &LogSource, now: EventTime) -> Check {
    let name = source.name();
    let wanted = format!("{name} holds lines that become signals");
    let texts = match texts_of(&source.location) {
        Ok(texts) => texts,
        Err(Unread::NotAFile(todo)) => {
            let found = format!("{name} is not read from a file");
            return Check::new("log", Verdict::Unknown, wanted, found, todo);
        }
        Err(Unread::Failed(error)) => {
            let found = format!("unable to read {name}: {error}");
            let todo = "give the path of the log on this machine, with permission to read it";
            return Check::new("log", Verdict::Fail, wanted, found, todo);
        }
    };
    let mut sample = Sample::new(source.format);
    for text in &texts {
        sample.take(text);
    }
    sample.judge(&name, &wanted, now)
}

/// Why a source was not read.
enum Unread {
    /// It is no file; the text is what to do instead.
    NotAFile(&'static str),
    Failed(std::io::Error),
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

/// The parts of the files that are checked.
fn texts_of(location: &LogLocation) -> Result<Vec<Text>, Unread> {
    match location {
        LogLocation::Stdin => Ok(vec![Text::of_stdin()?]),
        LogLocation::Path(path) => {
            let files = files_of(path)?;
            files
                .iter()
                .map(|file| Text::of_file(file).map_err(Unread::Failed))
                .collect()
        }
        LogLocation::Relay(_) => Err(Unread::NotAFile(
            "apply an AgentRun and read its condition SignalsFresh: only the controller connects to a relay",
        )),
    }
}

/// The file, or the files of the folder.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Unread> {
    let about = fs::metadata(path)?;
    if about.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !about.is_dir() {
        return Err(Unread::NotAFile("give the file or the folder of a log"));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)?.take(limits::FOLDER_ENTRIES_MAX) {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    files.truncate(limits::FOLLOWED_FILES_MAX);
    Ok(files)
}

/// Whole lines from the beginning and the end of a file.
struct Text {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Text {
    fn of_stdin() -> std::io::Result<Self> {
        let mut head = Vec::new();
        let input = std::io::stdin().lock();
        input
            .take(2 * limits::LOG_SAMPLE_BYTES_MAX)
            .read_to_end(&mut head)?;
        let tail = Vec::new();
        Ok(Self { head, tail })
    }

    fn of_file(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let max = limits::LOG_SAMPLE_BYTES_MAX;
        if size <= 2 * max {
            file.take(2 * max).read_to_end(&mut head)?;
            return Ok(Self { head, tail });
        }
        Read::by_ref(&mut file).take(max).read_to_end(&mut head)?;
        head.truncate(
            head.iter()
                .rposition(|byte| *byte == b'\n')
                .unwrap_or(head.len()),
        );
        file.seek(SeekFrom::Start(size - max))?;
        file.take(max).read_to_end(&mut tail)?;
        // The first line is only the end of a line.
        let begin = tail
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|end| end + 1);
        tail.drain(..begin.unwrap_or(tail.len()));
        Ok(Self { head, tail })
    }
}

/// The results of the lines.
struct Sample {
    format: Option<Format>,
    tally: LineTally,
    newest: Option<EventTime>,
    /// The beginning of the first file.
    first: Vec<u8>,
}

impl Sample {
    fn new(format: Option<Format>) -> Self {
        Self {
            format,
            tally: LineTally::default(),
            newest: None,
            first: Vec::new(),
        }
    }

    fn take(&mut self, text: &Text) {
        if self.first.is_empty() {
            let begin = text.head.len().min(limits::LINE_BYTES_MAX);
            self.first = text.head.get(..begin).unwrap_or_default().to_vec();
        }
        // A header applies to its own file only.
        let mut decoder = self.format.map(Decoder::new);
        for part in [&text.head, &text.tail] {
            for line in part.split(|byte| *byte == b'\n') {
                self.line(&mut decoder, line);
            }
        }
        self.format = self.format.or(decoder.map(|decoder| decoder.format()));
    }

    fn line(&mut self, known: &mut Option<Decoder>, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if known.is_none() {
            *known = sniff(line).map(Decoder::new);
        }
        let Some(decoder) = known else {
            self.tally.add(LineOutcome::Unreadable(None), line);
            return;
        };
        let fate = match decoder.decode(line) {
            Decoded::Signal(signal) => {
                self.newest = self.newest.max(Some(signal.time()));
                Some(LineOutcome::Attributed)
            }
            Decoded::Skipped(reason) => LineOutcome::skipped(reason),
            Decoded::Unknown => Some(LineOutcome::Unreadable(None)),
            Decoded::Malformed(reason) => Some(LineOutcome::Unreadable(Some(reason))),
        };
        if let Some(fate) = fate {
            self.tally.add(fate, line);
        }
        decoder.learn(line);
    }

    fn judge(&self, name: &str, wanted: &str, now: EventTime) -> Check {
        let check = |verdict, found: String, todo: &str| {
            Check::new("log", verdict, wanted.to_owned(), found, todo)
        };
        if self.tally.is_empty() {
            let found = format!("{name} is empty");
            let todo = "check whether its writer runs, or wait until a pod opens a connection";
            return check(Verdict::Warn, found, todo);
        }
        if let Some(problem) = self.tally.problem() {
            let (found, todo) = self.whole_file(problem).parts(name, self.format);
            return check(Verdict::Fail, found, todo);
        }
        let (signals, unreadable) = (self.tally.attributed(), self.tally.unreadable());
        let lines = self.tally.readable() + unreadable;
        let format = self.format.map_or("no format", Format::name);
        let found =
            format!("{signals} of {lines} lines of {name} became signals, read as {format}");
        let age_s = self
            .newest
            .map(|newest| now.micros_since(newest) / 1_000_000);
        match age_s {
            _ if self.tally.is_partly_unreadable() => {
                let found = format!("{found}; {unreadable} are unreadable");
                check(Verdict::Warn, found, "check what else writes into it")
            }
            None => {
                let todo = "wait until a pod opens a connection, and check again";
                check(Verdict::Warn, found, todo)
            }
            Some(age_s) if age_s * 1_000_000 < -limits::LOG_AHEAD_MAX_MICROS => {
                let found = format!("{found}; the newest is {} s in the future", -age_s);
                let todo = "set the clock of the machine that writes the log, or of this one";
                check(Verdict::Fail, found, todo)
            }
            Some(age_s) if age_s > OLD_AFTER_S => {
                let found = format!("{found}; the newest is {} min old", age_s / 60);
                check(Verdict::Warn, found, "check whether it is still written")
            }
            Some(_) => check(Verdict::Ok, found, ""),
        }
    }

    /// The first bytes identify a binary file better than its lines.
    fn whole_file(&self, mut problem: LogProblem) -> LogProblem {
        if let LogProblem::NotUnderstood(unreadable) = &mut problem {
            unreadable.look = looks_like(&self.first).or(unreadable.look);
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::source_args::source;

    const ULOGD: &str = r#"{"timestamp":"2026-11-29T10:00:00","oob.time.sec":1795946400,"oob.hook":2,"oob.prefix":"","raw.pktlen":60,"ip.protocol":6,"src_ip":"10.0.0.1","src_port":40000,"dest_ip":"203.0.113.9","dest_port":443,"tcp.syn":1}"#;
    /// A minute after the line.
    const NOW: i64 = 1_795_946_460;

    fn check_of(format: &str, text: &[u8], now_s: i64) -> Check {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, text).unwrap();
        let source = source(&format!("{format}{}", path.display())).unwrap();
        let now = Timestamp::from_second(now_s).unwrap();
        checks(&[source], now).remove(0)
    }

    fn lines(line: &str, count: usize) -> Vec<u8> {
        format!("{line}\n").repeat(count).into_bytes()
    }

    #[test]
    fn a_log_in_its_format_is_fine_and_in_another_it_is_named() {
        for format in ["ulogd:", ""] {
            let fine = check_of(format, &lines(ULOGD, 3), NOW);
            assert_eq!(fine.verdict, Verdict::Ok, "{fine:?}");
            assert!(fine.found.contains("3 of 3 lines"), "{fine:?}");
        }
        let wrong = check_of("zeek:", &lines(ULOGD, 3), NOW);
        assert_eq!(wrong.verdict, Verdict::Fail, "{wrong:?}");
        assert!(
            wrong
                .found
                .contains("none of them readable as zeek; they look like ulogd"),
            "{wrong:?}"
        );
        assert_eq!(wrong.todo, "name the format ulogd");
    }

    #[test]
    fn another_kind_of_log_fails_and_compression_is_recognised() {
        let application = br#"{"level":"info","msg":"hello","ts":"2026"}"#;
        let other = check_of("hubble:", application, NOW);
        assert_eq!(other.verdict, Verdict::Fail, "{other:?}");
        assert!(
            other.found.contains("a program's own messages"),
            "{other:?}"
        );
        let packed = check_of("ulogd:", b"\x1f\x8b\x08\x00 some \n bytes \n\n of it", NOW);
        assert!(packed.found.contains("they look like gzip"), "{packed:?}");
    }

    #[test]
    fn the_end_of_a_large_file_counts_as_well_and_no_more_than_both_ends_is_read() {
        let large = usize::try_from(limits::LOG_SAMPLE_BYTES_MAX).unwrap() * 4 / ULOGD.len();
        let mut text = lines(ULOGD, large);
        text.extend(lines("x", 100_000));
        let mixed = check_of("ulogd:", &text, NOW);
        assert_eq!(mixed.verdict, Verdict::Warn, "{mixed:?}");
        let read: usize = mixed.found.split(' ').nth(2).unwrap().parse().unwrap();
        assert!(read < large + 100_000, "{mixed:?}");
    }

    #[test]
    fn an_empty_missing_old_or_future_log_is_reported() {
        assert_eq!(check_of("ulogd:", b"\n", NOW).verdict, Verdict::Warn);
        let old = check_of("ulogd:", &lines(ULOGD, 1), NOW + 10_000);
        assert_eq!(old.verdict, Verdict::Warn, "{old:?}");
        let early = check_of("ulogd:", &lines(ULOGD, 1), NOW - 1_000);
        assert_eq!(early.verdict, Verdict::Fail, "{early:?}");
        let missing = source("ulogd:/does/not/exist").unwrap();
        let missing = checks(&[missing], Timestamp::UNIX_EPOCH).remove(0);
        assert_eq!(missing.verdict, Verdict::Fail, "{missing:?}");
    }

    #[test]
    fn a_folder_is_judged_by_all_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.json"), lines(ULOGD, 2)).unwrap();
        fs::write(folder.path().join("b.json"), lines(ULOGD, 2)).unwrap();
        let source = source(&format!("ulogd:{}", folder.path().display())).unwrap();
        let check = checks(&[source], Timestamp::from_second(NOW).unwrap()).remove(0);
        assert!(check.found.contains("4 of 4 lines"), "{check:?}");
    }
}
