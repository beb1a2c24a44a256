//! The results of the lines of each file of a capture. Filled by `lines`, printed by `report`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::limits;
use crate::signals::decode::{Format, LogShape, Malformed, SkipReason, looks_like, why_no_signals};

/// The result of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineResult {
    Signal,
    Skipped(SkipReason),
    Unknown,
    Malformed(Malformed),
}

/// A file, and its lines by result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileResult {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// The format that was given, or detected from the lines.
    pub format: Option<Format>,
    /// Whether it is a file of samples.
    pub is_samples: bool,
    /// Lines, including blank ones.
    pub line_count: u64,
    /// Lines that became signals.
    pub signal_count: u64,
    /// Well-formed lines that are intentionally no signal, by reason.
    pub skipped: BTreeMap<SkipReason, u64>,
    /// Well-formed lines that are unknown to the format, and lines before the format was known.
    pub unknown_count: u64,
    /// Malformed lines, by reason.
    pub malformed: BTreeMap<Malformed, u64>,
    /// The error that ended reading before the end of the file.
    pub read_error: Option<String>,
    /// The format that the first line looks like.
    pub looks_like: Option<LogShape>,
    /// The beginning of the first line that is not blank.
    first: Vec<u8>,
}

impl FileResult {
    pub(super) fn new(path: &Path, format: Option<Format>, is_samples: bool) -> Self {
        Self {
            path: path.to_owned(),
            format,
            is_samples,
            ..Self::default()
        }
    }

    /// Counts a line, and keeps the first one, to name what the file looks like if it has no signals.
    pub(super) fn count_line(&mut self, line: &[u8]) {
        self.line_count += 1;
        if self.first.is_empty() && !line.trim_ascii().is_empty() {
            let beginning = line.get(..limits::PEEK_BYTES).unwrap_or(line);
            self.first = beginning.to_vec();
        }
    }

    pub(super) fn count(&mut self, result: LineResult) {
        match result {
            LineResult::Signal => self.signal_count += 1,
            LineResult::Skipped(reason) => *self.skipped.entry(reason).or_default() += 1,
            LineResult::Unknown => self.unknown_count += 1,
            LineResult::Malformed(reason) => *self.malformed.entry(reason).or_default() += 1,
        }
    }

    /// To be called after the last line.
    pub(super) fn finish(mut self) -> Self {
        if self.signal_count == 0 {
            self.looks_like = looks_like(&self.first);
        }
        self.first = Vec::new();
        self
    }

    /// The number of skipped lines.
    #[must_use]
    pub fn skipped_count(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// The number of malformed lines.
    #[must_use]
    pub fn malformed_count(&self) -> u64 {
        self.malformed.values().sum()
    }

    /// What is wrong with the file, and what to do. `None` for a usable file. A log without records beside
    /// others (`is_alone` is false) is usable: there was no traffic in its period.
    #[must_use]
    pub fn fault(&self, is_alone: bool) -> Option<String> {
        if let Some(error) = &self.read_error {
            let path = self.path.display();
            return Some(match self.line_count {
                0 => format!("failed to read {path}: {error}"),
                count => format!("failed to read {path} beyond line {count}: {error}"),
            });
        }
        if self.signal_count > 0 {
            return None;
        }
        let path = self.path.display();
        let has_records = self.line_count > self.blank_count();
        if !has_records {
            let what = if self.line_count == 0 {
                "it is empty"
            } else {
                "it contains a header or blank lines, but no records"
            };
            return is_alone.then(|| format!("{path} gave nothing: {what}"));
        }
        let what = match self.format {
            Some(format) => format!(
                "{path} gave nothing: none of its {} lines can be used as {}",
                self.line_count,
                format.name()
            ),
            None if self.is_samples => {
                format!(
                    "{path} gave nothing: none of its {} lines is a sample",
                    self.line_count
                )
            }
            None => format!(
                "unable to detect the format of {path}: none of its lines is in a known format"
            ),
        };
        Some(match self.reason() {
            Some(LogShape { name, advice }) => {
                format!("{what}; they look like {name}; hint: {advice}")
            }
            None => format!("{what}; hint: docs/sources.md lists the formats and their set-up"),
        })
    }

    /// The reason why most lines were skipped, if another configuration of the log's writer avoids it. Only for a
    /// file with signals.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let (format, (reason, count)) = (self.format?, self.most_skipped()?);
        let is_avoidable = matches!(
            reason,
            SkipReason::UnknownDirection
                | SkipReason::FieldsMissing
                | SkipReason::NoVerdict
                | SkipReason::Aggregated
        );
        let is_most = count.saturating_mul(2) > self.line_count;
        (is_avoidable && is_most && self.signal_count > 0).then(|| {
            let LogShape { name, advice } = why_no_signals(format, reason);
            format!(
                "{count} of {} lines were skipped ({}): they look like {name}; hint: {advice}",
                self.line_count,
                reason.name()
            )
        })
    }

    fn reason(&self) -> Option<LogShape> {
        let is_of_format = self.looks_like.is_some_and(|looks| {
            self.format
                .is_some_and(|format| looks.name == format.name())
        });
        if !is_of_format {
            return self.looks_like;
        }
        let (reason, _) = self.most_skipped()?;
        Some(why_no_signals(self.format?, reason))
    }

    fn most_skipped(&self) -> Option<(SkipReason, u64)> {
        let most = self.skipped.iter().max_by_key(|(_, count)| **count);
        most.map(|(reason, count)| (*reason, *count))
    }

    /// Lines that cannot contain a record.
    fn blank_count(&self) -> u64 {
        [SkipReason::Blank, SkipReason::Header]
            .iter()
            .filter_map(|reason| self.skipped.get(reason))
            .sum()
    }

    /// The lines by result, as text.
    #[must_use]
    pub fn summary(&self) -> String {
        let kind = match self.format {
            _ if self.is_samples => "samples",
            Some(format) => format.name(),
            None => "unknown format",
        };
        let of = |counts: Vec<(&str, u64)>| {
            let counts = counts.into_iter();
            let counts: Vec<_> = counts
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            if counts.is_empty() {
                String::new()
            } else {
                format!(" ({})", counts.join(", "))
            }
        };
        let skipped = self.skipped.iter().map(|(why, count)| (why.name(), *count));
        let malformed = self
            .malformed
            .iter()
            .map(|(why, count)| (why.name(), *count));
        format!(
            "{kind}, {} lines: {} signals, {} skipped{}, {} unknown, {} malformed{}",
            self.line_count,
            self.signal_count,
            self.skipped_count(),
            of(skipped.collect()),
            self.unknown_count,
            self.malformed_count(),
            of(malformed.collect()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(format: Option<Format>, first: &str, results: &[LineResult]) -> FileResult {
        let mut file = FileResult::new(Path::new("a.log"), format, false);
        for result in results {
            file.count_line(first.as_bytes());
            file.count(*result);
        }
        file.finish()
    }

    #[track_caller]
    fn check(file: &FileResult, expected: &[&str]) {
        let fault = file.fault(true).unwrap();
        for part in expected {
            assert!(fault.contains(part), "no {part:?} in {fault}");
        }
    }

    #[test]
    fn the_fault_of_an_unusable_file_names_what_it_looks_like_and_what_to_do() {
        let masked = file(
            Some(Format::Hubble),
            r#"{"flow":{}}"#,
            &[LineResult::Skipped(SkipReason::UnknownDirection); 3],
        );
        check(
            &masked,
            &[
                "none of its 3 lines can be used as hubble",
                "is_reply",
                "hint: add",
            ],
        );
        let netflow = file(
            Some(Format::Suricata),
            r#"{"timestamp":"2025-11-29T08:00:00Z","event_type":"netflow"}"#,
            &[LineResult::Skipped(SkipReason::OtherLog)],
        );
        check(&netflow, &["netflow", "add - flow to the types of eve-log"]);
        let wrong = file(
            Some(Format::Zeek),
            r#"{"raw.pktlen":60}"#,
            &[LineResult::Unknown],
        );
        check(
            &wrong,
            &["as zeek; they look like ulogd; hint: name the format ulogd"],
        );
        check(
            &file(None, "a,b", &[LineResult::Unknown]),
            &["unable to detect the format", "CSV"],
        );
        check(
            &file(None, "hello there", &[LineResult::Unknown]),
            &["hint: docs/sources.md"],
        );
    }

    #[test]
    fn a_log_without_records_is_no_fault_beside_others() {
        let header = file(
            Some(Format::Zeek),
            "#fields\tts",
            &[LineResult::Skipped(SkipReason::Header)],
        );
        assert_eq!(header.fault(false), None);
        check(&header, &["a header or blank lines"]);
        let empty = file(None, "", &[]);
        assert_eq!(empty.fault(false), None);
        check(&empty, &["it is empty"]);
        let good = file(
            Some(Format::Zeek),
            "x",
            &[LineResult::Signal, LineResult::Unknown],
        );
        assert_eq!(good.fault(true), None);
    }

    #[test]
    fn a_read_error_is_a_fault_whatever_was_read_before() {
        let mut torn = file(Some(Format::Zeek), "x", &[LineResult::Signal; 2]);
        torn.read_error = Some("it ends in the middle".to_owned());
        check(&torn, &["failed to read a.log beyond line 2: it ends"]);
    }

    #[test]
    fn mostly_skipped_lines_lead_to_advice_where_another_set_up_avoids_it() {
        let mut results = vec![LineResult::Skipped(SkipReason::UnknownDirection); 9];
        results.push(LineResult::Signal);
        let advice = file(Some(Format::Vpc), "x", &results).advice().unwrap();
        assert!(
            advice.starts_with("9 of 10 lines were skipped (UnknownDirection)"),
            "{advice}"
        );
        assert!(advice.contains("tcp-flags"), "{advice}");
        let replies = [
            LineResult::Skipped(SkipReason::IngressView),
            LineResult::Signal,
        ];
        assert_eq!(file(Some(Format::Hubble), "x", &replies).advice(), None);
    }
}
