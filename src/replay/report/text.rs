//! The report as text for a terminal, one screen per capture.
//!
//! A block per subject, the most severe first. Subjects that do not fit on the screen are shown as a line, and
//! those beyond that are counted. Colour is added to whole words after the layout.

use std::net::IpAddr;

use super::super::labels::{LabelKind, Labels};
use super::super::result::{CaptureResult, Recorded, SubjectResult, Verdict};
use super::super::score::Score;
use super::super::timeline::Timeline;
use super::sentences::{
    action, at_end, by_severity, cannot_show_in_short, crossing, example_target, file_lines,
    file_notes, left_out, moments, why_not,
};
use crate::detect::EngineConfig;
use crate::limits;
use crate::model::escape::for_terminal;
use crate::model::{EventTime, duration};
use crate::report::Colour;

fn paint_action(colour: Colour, action: &str) -> String {
    match action {
        "Quarantine" => colour.paint("1;31", action),
        "Alert" => colour.paint("33", action),
        _ => colour.paint("32", action),
    }
}

/// All results for a person.
#[must_use]
pub(crate) fn text(
    results: &[CaptureResult],
    labels: &Labels,
    score: Option<&Score>,
    config: &EngineConfig,
    colour: Colour,
) -> String {
    let mut lines = Vec::new();
    for result in results {
        lines.extend(capture_lines(result, labels, config, colour));
        lines.push(String::new());
    }
    if let Some(score) = score {
        lines.extend(score_lines(score));
    }
    lines.iter().fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

fn capture_lines(
    result: &CaptureResult,
    labels: &Labels,
    config: &EngineConfig,
    colour: Colour,
) -> Vec<String> {
    let mut lines = head_lines(result, colour);
    let subjects = by_severity(result);
    let found_count = subjects.iter().filter(|(_, s)| s.severity().is_some());
    let shown_max = found_count.count() + limits::CLEAN_SUBJECTS_SHOWN_MAX;
    let mut hidden: Vec<&SubjectResult> = Vec::new();
    // The blank line after a capture and the line that counts hidden subjects need room too.
    let room = limits::SCREEN_LINES_MAX - 2;
    for (index, (ip, subject)) in subjects.into_iter().enumerate() {
        let label = labels.kind(&result.capture, ip);
        let block = subject_lines(ip, subject, label, config, colour);
        let left = room.saturating_sub(lines.len());
        if index >= shown_max || left == 0 {
            hidden.push(subject);
        } else if block.len() <= left {
            lines.extend(block);
        } else {
            lines.extend(block.into_iter().take(1));
        }
    }
    if !hidden.is_empty() {
        let found_count = hidden.iter().filter(|s| s.severity().is_some()).count();
        lines.push(format!(
            "  and {} more, {found_count} of them with findings",
            hidden.len()
        ));
    }
    lines
}

fn head_lines(result: &CaptureResult, colour: Colour) -> Vec<String> {
    let span = result.span.map_or_else(String::new, |(first, last)| {
        format!(" over {}", duration::rounded(last.micros_since(first)))
    });
    let title = format!(
        ": {} flows of {} subjects{span}, {} malformed lines, {} unknown lines",
        result.flow_count,
        result.subjects.len(),
        result.malformed_count,
        result.unknown_count,
    );
    let name_columns_max = limits::SCREEN_COLUMNS_MAX.saturating_sub(title.chars().count());
    let name = for_terminal(&result.capture);
    let name: String = name.chars().take(name_columns_max).collect();
    let mut lines = vec![format!("{}{title}", colour.paint("1", &name))];
    for sentence in left_out(result) {
        lines.extend(wrapped("  ", &sentence, 2));
    }
    let files = file_lines(result);
    for file in files.iter().take(limits::FILES_SHOWN_MAX) {
        lines.extend(wrapped("  file ", &for_terminal(file), 2));
    }
    if let Some(more @ 1..) = files.len().checked_sub(limits::FILES_SHOWN_MAX) {
        lines.push(format!(
            "  and {more} more files; --output json has them all"
        ));
    }
    for note in file_notes(result).iter().take(limits::FILES_SHOWN_MAX) {
        lines.extend(wrapped("  note: ", &for_terminal(note), 4));
    }
    lines.extend(wrapped("  log: ", &cannot_show_in_short(result), 2));
    lines
}

fn subject_lines(
    ip: IpAddr,
    subject: &SubjectResult,
    label: Option<LabelKind>,
    config: &EngineConfig,
    colour: Colour,
) -> Vec<String> {
    let label = label.map_or_else(String::new, |label| format!(", labelled {}", label.name()));
    let run = subject.run.as_deref().map_or_else(String::new, |run| {
        let run: String = for_terminal(run).chars().take(24).collect();
        format!(", run {run}")
    });
    let verdict = subject.verdict();
    let action = match action(subject) {
        "None" if verdict == Verdict::Unknown => colour.paint("33", "None"),
        action => paint_action(colour, action),
    };
    let verdict = verdict.name();
    let mut lines = vec![format!("  {ip}  {verdict}, action {action}{label}{run}")];
    lines.extend(timeline_lines(subject));
    if subject.findings.is_empty() {
        lines.extend(wrapped(
            "    why not: ",
            &why_not(subject, config).join("; "),
            4,
        ));
    }
    for recorded in &subject.findings {
        lines.extend(finding_lines(recorded));
    }
    lines
}

fn finding_lines(recorded: &Recorded) -> Vec<String> {
    let evidence = &recorded.latest.evidence;
    let signature = recorded.latest.signature;
    let head = format!(
        "    {} ({}): ",
        signature.name(),
        signature.techniques().join(", ")
    );
    let mut lines = wrapped(&head, &moments(recorded), 3);
    lines.extend(wrapped(
        "      why: ",
        &for_terminal(evidence.summary.as_str()),
        3,
    ));
    lines.extend(wrapped("      score: ", &crossing(evidence), 1));
    let shown = evidence.examples.iter().take(limits::EXAMPLES_SHOWN_MAX);
    let shown: Vec<_> = shown
        .map(|example| for_terminal(&example_target(example)))
        .collect();
    if !shown.is_empty() {
        lines.extend(wrapped("      such as: ", &shown.join(", "), 2));
    }
    for against in &evidence.against {
        let against = for_terminal(against.as_str());
        lines.extend(wrapped("      against it: ", &against, 2));
    }
    if let Some(sentence) = at_end(recorded) {
        lines.extend(wrapped("      against it: ", sentence, 3));
    }
    lines
}

/// Connections over time, and below it where the first alert (A) and quarantine (Q) fell.
fn timeline_lines(subject: &SubjectResult) -> Vec<String> {
    let timeline = &subject.timeline;
    if timeline.counts().len() < 2 {
        return Vec::new();
    }
    let line = format!("    {}", sparkline(timeline.counts()));
    let note = format!(" {} each", duration::rounded(timeline.width_us()));
    let mut lines = vec![
        if line.chars().count() + note.len() <= limits::SCREEN_COLUMNS_MAX {
            line + &note
        } else {
            line
        },
    ];
    lines.extend(marks(timeline, subject).map(|marks| format!("    {marks}")));
    lines
}

fn sparkline(counts: &[u32]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = u64::from(counts.iter().copied().max().unwrap_or_default().max(1));
    let level = |count: u32| {
        let index = (u64::from(count) * LEVELS.len() as u64).div_ceil(highest);
        let index = usize::try_from(index).unwrap_or(LEVELS.len());
        index.checked_sub(1).and_then(|index| LEVELS.get(index))
    };
    counts
        .iter()
        .map(|count| level(*count).copied().unwrap_or(' '))
        .collect()
}

fn marks(timeline: &Timeline, subject: &SubjectResult) -> Option<String> {
    let first = |times: Vec<EventTime>| times.into_iter().min();
    let alerted = subject.findings.iter().map(|recorded| recorded.alerted.0);
    let acted = subject.findings.iter().filter_map(Recorded::acted);
    let places = [
        (first(alerted.collect()), 'A'),
        (first(acted.map(|(time, _)| time).collect()), 'Q'),
    ];
    let mut line: Vec<char> = Vec::new();
    for (time, mark) in places {
        let Some(position) = time.and_then(|time| timeline.position(time)) else {
            continue;
        };
        line.resize(line.len().max(position + 1), ' ');
        if let Some(place) = line.get_mut(position) {
            *place = mark;
        }
    }
    (!line.is_empty()).then(|| line.into_iter().collect())
}

/// `text` after `prefix`, wrapped at spaces and indented. At most `count_max` lines; truncated text ends in
/// dots.
fn wrapped(prefix: &str, text: &str, count_max: usize) -> Vec<String> {
    let indent = prefix.chars().count();
    let width = limits::SCREEN_COLUMNS_MAX.saturating_sub(indent).max(20);
    let mut rows: Vec<String> = Vec::new();
    let mut row = String::new();
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        let row_count = row.chars().count();
        if row_count > 0 && row_count + 1 + rest.len() > width {
            rows.push(std::mem::take(&mut row));
        } else if row_count > 0 {
            row.push(' ');
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            rows.push(rest.into_iter().collect());
            rest = tail;
        }
        row.extend(rest);
    }
    rows.push(row);
    if rows.len() > count_max {
        rows.truncate(count_max);
        if let Some(last) = rows.last_mut() {
            *last = last.chars().take(width - 3).collect();
            last.push_str("...");
        }
    }
    let lines = rows.iter().enumerate().map(|(index, row)| {
        if index == 0 {
            format!("{prefix}{row}")
        } else {
            format!("{:indent$}{row}", "")
        }
    });
    lines.collect()
}

fn score_lines(score: &Score) -> Vec<String> {
    let Score {
        quarantined_benign,
        subjects_benign,
        scan,
        mining,
        ..
    } = score;
    let mut lines = vec![
        "score".to_owned(),
        format!("  benign quarantined: {quarantined_benign} of {subjects_benign} subjects"),
        format!("  scans quarantined: {} of {} captures", scan.0, scan.1),
        format!("  mining found: {} of {} captures", mining.0, mining.1),
    ];
    if let Some(median) = score.first_action_contacts_median() {
        lines.push(format!(
            "  contacts up to a scan's quarantine: {median} (median)"
        ));
    }
    lines
}
