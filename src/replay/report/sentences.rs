//! The sentences that all forms of a report share: why something was found, why not, and what the log
//! could not show. Text from a log is a `BoundedText` and is escaped once more on its way to a terminal
//! or a page (INV-6).

use std::net::IpAddr;

use super::super::files::FileResult;
use super::super::open_targets::FAILURE_NATS;
use super::super::result::{CaptureResult, Recorded, SubjectResult};
use crate::detect::EngineConfig;
use crate::limits;
use crate::model::{EventTime, Evidence, Example, Outcome, Severity};
use crate::signals::decode::{Capability, SourceCapabilities};

/// Subjects by action, then by the highest score.
pub(super) fn by_severity(result: &CaptureResult) -> Vec<(IpAddr, &SubjectResult)> {
    let subjects = result.subjects.iter();
    let mut subjects: Vec<_> = subjects.map(|(ip, subject)| (*ip, subject)).collect();
    subjects.sort_by(|(_, a), (_, b)| {
        b.severity()
            .cmp(&a.severity())
            .then(b.highest_walk_nats.total_cmp(&a.highest_walk_nats))
    });
    subjects
}

pub(super) fn action(subject: &SubjectResult) -> &'static str {
    subject.severity().map_or("None", Severity::name)
}

pub(super) fn count_of(result: &CaptureResult, severity: Severity) -> usize {
    let severities = result.subjects.values().map(SubjectResult::severity);
    severities.filter(|found| *found == Some(severity)).count()
}

/// When it was first an alert, and when it led to a quarantine.
pub(super) fn moments(recorded: &Recorded) -> String {
    let at = |(time, count): (EventTime, u64)| {
        let second = EventTime::from_seconds(time.as_micros().div_euclid(1_000_000), 0);
        format!("{second} after {count} contacts")
    };
    let alert = format!("alert at {}", at(recorded.alerted));
    match (recorded.quarantined, recorded.held_back) {
        (None, _) => alert,
        (Some(moment), None) if recorded.alerted == moment => {
            format!("quarantine at {}", at(moment))
        }
        (Some(moment), None) => format!("{alert}, quarantine at {}", at(moment)),
        (Some(moment), Some(why)) => {
            format!("{alert}; no quarantine at {}, because {why}", at(moment))
        }
    }
}

/// The caveat of a finding that came after the last line.
pub(super) fn at_end(recorded: &Recorded) -> Option<&'static str> {
    recorded.is_at_end.then_some(
        "the log ends before these contacts had 10 s for an answer; they are judged as if no answer came, but a truncated log cannot show the answers",
    )
}

/// The files of a capture, those without signals first, a line each.
pub(super) fn file_lines(result: &CaptureResult) -> Vec<String> {
    let mut files: Vec<&FileResult> = result.files.iter().collect();
    files.sort_by_key(|file| file.signal_count > 0);
    let named = |file: &&FileResult| {
        let name = file.path.file_name().unwrap_or(file.path.as_os_str());
        format!("{}: {}", name.to_string_lossy(), file.summary())
    };
    files.iter().map(named).collect()
}

/// Notes about the files of a capture: faults, advice, and files that were not read.
pub(super) fn file_notes(result: &CaptureResult) -> Vec<String> {
    let mut notes = result.faults();
    notes.extend(result.files.iter().filter_map(|file| {
        let advice = file.advice()?;
        Some(format!("{}: {advice}", file.path.display()))
    }));
    if !result.left_out.is_empty() {
        let shown = result.left_out.iter().take(limits::LEFT_OUT_SHOWN_MAX);
        let shown: Vec<_> = shown
            .map(|file| {
                let name = file.path.file_name().unwrap_or(file.path.as_os_str());
                format!("{} ({})", name.to_string_lossy(), file.why)
            })
            .collect();
        let more = result.left_out.len().saturating_sub(shown.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        notes.push(format!("not read: {}{more}", shown.join(", ")));
    }
    notes
}

/// The threshold, and by how much it was crossed.
pub(super) fn crossing(evidence: &Evidence) -> String {
    let Evidence {
        score, threshold, ..
    } = evidence;
    let over = score - threshold;
    let share = if *threshold > 0.0 {
        over / threshold * 100.0
    } else {
        0.0
    };
    format!("{score:.1} nats, {over:.1} ({share:.0} %) over the threshold of {threshold:.1}")
}

/// Why there is no finding about a subject.
pub(super) fn why_not(subject: &SubjectResult, config: &EngineConfig) -> Vec<String> {
    let nats = subject.highest_walk_nats;
    let threshold = config.threshold_nats;
    let missing_count = ((threshold - nats).max(0.0) / FAILURE_NATS).ceil();
    let mut sentences = Vec::new();
    if subject.unjudged_count > 0 {
        sentences.push(format!(
            "the log does not show whether {} of its contacts were answered, so they could not be judged",
            subject.unjudged_count
        ));
    }
    sentences.push(format!(
        "highest walk at {nats:.1} of {threshold:.1} nats for a quarantine, {missing_count:.0} more failed first contacts in a row away"
    ));
    let outcomes = subject.outcomes;
    if outcomes.answered + outcomes.failed + outcomes.unknown == 0 {
        sentences.push("it started no connection".to_owned());
    } else {
        sentences.push(format!(
            "connections: {} answered, {} failed, {} without an outcome in the log",
            outcomes.answered, outcomes.failed, outcomes.unknown
        ));
    }
    if subject.is_unknown {
        sentences.push(format!(
            "{} targets have no outcome in the log, so it does not show whether they were a scan; docs/sources.md lists what the log must contain",
            subject.open_target_count
        ));
    }
    if outcomes.names > 0 {
        sentences.push(format!("names looked up or sent: {}", outcomes.names));
    }
    sentences
}

/// What the log of a capture cannot show, a sentence each.
pub(super) fn cannot_show(result: &CaptureResult) -> Vec<String> {
    let mut sentences = Vec::new();
    for format in &result.formats {
        for (part, shown) in SourceCapabilities::PART_NAMES
            .iter()
            .zip(format.capabilities().parts())
        {
            match shown {
                Capability::Always => {}
                Capability::When(condition) => sentences.push(format!(
                    "{} shows {part} only when {condition}",
                    format.name()
                )),
                Capability::Never(reason) => {
                    sentences.push(format!("{} shows no {part}: {reason}", format.name()));
                }
            }
        }
    }
    if !result.has_names {
        sentences.push(NO_NAMES.to_owned());
    }
    sentences.extend(lacking(result));
    sentences
}

/// What this log did not show although its format can.
pub(super) fn lacking(result: &CaptureResult) -> impl Iterator<Item = String> + '_ {
    let lacks = result.lacking.iter();
    lacks.map(|lack| {
        format!(
            "this log has shown {lack} recently, so silence or denials there lead to no quarantine"
        )
    })
}

const NO_NAMES: &str = "this log contains no DNS answer and no TLS name";

/// What the log of a capture cannot show, in one line.
pub(super) fn cannot_show_in_short(result: &CaptureResult) -> String {
    let mut parts = Vec::new();
    for format in &result.formats {
        let never: Vec<_> = SourceCapabilities::PART_NAMES
            .iter()
            .zip(format.capabilities().parts())
            .filter(|(_, shown)| !shown.is_possible())
            .map(|(part, _)| *part)
            .collect();
        if never.is_empty() {
            parts.push(format!("{} log", format.name()));
        } else {
            parts.push(format!(
                "{} never shows {}",
                format.name(),
                never.join(", ")
            ));
        }
    }
    if !result.has_names {
        parts.push(NO_NAMES.to_owned());
    }
    parts.extend(lacking(result));
    parts.join("; ")
}

pub(super) const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unseen => "outcome not in the log",
        Outcome::Pending => "waiting",
        Outcome::Answered => "answered",
        Outcome::Refused => "refused",
        Outcome::Unanswered => "unanswered",
        Outcome::Denied => "denied",
        Outcome::NotAnAttempt | Outcome::Established => "no attempt",
    }
}

pub(super) fn example_target(example: &Example) -> String {
    let Example {
        destination,
        port,
        transport,
        outcome,
        name,
        ..
    } = example;
    let name = name
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    let word = outcome_word(*outcome);
    let port = if *port == 0 {
        String::new()
    } else {
        format!("/{port}")
    };
    format!("{destination}{name} {}{port} {word}", transport.name())
}

/// What is missing in a result, a sentence each.
pub(super) fn left_out(result: &CaptureResult) -> Vec<String> {
    let mut sentences = Vec::new();
    if result.lost_count > 0 {
        sentences.push(format!("the log itself lost {} records", result.lost_count));
    }
    if result.refused_count > 0 {
        sentences.push(format!(
            "{} signals of subjects beyond the first {} were not judged",
            result.refused_count,
            limits::PODS_MAX
        ));
    }
    if result.impossible_count > 0 {
        sentences.push(format!(
            "{} figures of samples are impossible and were left out",
            result.impossible_count
        ));
    }
    if result.unnamed_device_count > 0 {
        sentences.push(format!(
            "{} samples of accelerators do not name their device, so they are no evidence: it may be shared",
            result.unnamed_device_count
        ));
    }
    sentences
}
