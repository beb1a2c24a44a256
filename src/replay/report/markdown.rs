//! The report as Markdown, to paste into an issue or a pull request.
//!
//! Text from a log is in code spans or code blocks, where links, images, mentions and HTML of an attacker have
//! no effect.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::super::labels::{LabelKind, Labels};
use super::super::result::{CaptureResult, Recorded, SubjectResult};
use super::super::score::Score;
use super::sentences::{
    action, at_end, by_severity, cannot_show, count_of, crossing, example_target, file_lines,
    file_notes, left_out, moments, why_not,
};
use crate::detect::EngineConfig;
use crate::limits;
use crate::model::escape::{for_markdown, for_terminal};
use crate::model::{Severity, duration};

/// All results as a page.
// Writing into a string cannot fail, so the results of `writeln!` are ignored.
#[must_use]
pub(crate) fn markdown(
    results: &[CaptureResult],
    labels: &Labels,
    score: Option<&Score>,
    config: &EngineConfig,
) -> String {
    let mut out = "# Yellowjack replay\n\n".to_owned();
    out.push_str("| capture | flows | span | malformed | subjects | quarantined | alerted |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for result in results {
        let span = result
            .span
            .map_or(0, |(first, last)| last.micros_since(first));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            for_markdown(&result.capture),
            result.flow_count,
            duration::rounded(span),
            result.malformed_count,
            result.subjects.len(),
            count_of(result, Severity::Quarantine),
            count_of(result, Severity::Alert),
        );
    }
    if let Some(score) = score {
        score_table(&mut out, score);
    }
    for result in results {
        capture_section(&mut out, result, labels, config);
    }
    out
}

fn score_table(out: &mut String, score: &Score) {
    let median = score
        .first_action_contacts_median()
        .map_or_else(|| "none".to_owned(), |median| median.to_string());
    let _ = write!(
        out,
        "\n## Score\n\n| figure | value |\n|---|---:|\n\
         | benign subjects quarantined | {} of {} |\n\
         | captures with a scan quarantined | {} of {} |\n\
         | captures with mining found | {} of {} |\n\
         | contacts up to a scan's quarantine, median | {median} |\n",
        score.quarantined_benign,
        score.subjects_benign,
        score.scan.0,
        score.scan.1,
        score.mining.0,
        score.mining.1,
    );
}

fn capture_section(
    out: &mut String,
    result: &CaptureResult,
    labels: &Labels,
    config: &EngineConfig,
) {
    let _ = writeln!(out, "\n## {}\n", for_markdown(&result.capture));
    for sentence in left_out(result) {
        let _ = writeln!(out, "- {sentence}");
    }
    for file in file_lines(result).iter().take(limits::MARKDOWN_FILES_MAX) {
        let _ = writeln!(out, "- {}", for_markdown(file));
    }
    for note in file_notes(result).iter().take(limits::MARKDOWN_FILES_MAX) {
        let _ = writeln!(out, "- note: {}", for_markdown(note));
    }
    out.push('\n');
    let subjects = by_severity(result);
    let found_count = subjects.iter().filter(|(_, s)| s.severity().is_some());
    let shown_max =
        (found_count.count() + limits::CLEAN_SUBJECTS_SHOWN_MAX).min(limits::MARKDOWN_SUBJECTS_MAX);
    let hidden_count = subjects.len().saturating_sub(shown_max);
    out.push_str("| subject | verdict | action | label |\n|---|---|---|---|\n");
    for (ip, subject) in subjects.iter().take(shown_max) {
        let label = labels
            .kind(&result.capture, *ip)
            .map_or("", LabelKind::name);
        let _ = writeln!(
            out,
            "| {ip} | {} | {} | {label} |",
            subject.verdict().name(),
            action(subject)
        );
    }
    if hidden_count > 0 {
        let _ = writeln!(out, "\n{hidden_count} more subjects are not listed.");
    }
    for (ip, subject) in subjects.iter().take(shown_max) {
        subject_section(out, *ip, subject, config);
    }
    out.push_str("\nWhat this log cannot show:\n\n");
    for sentence in cannot_show(result) {
        let _ = writeln!(out, "- {sentence}");
    }
}

fn subject_section(out: &mut String, ip: IpAddr, subject: &SubjectResult, config: &EngineConfig) {
    let verdict = subject.verdict().name();
    let _ = writeln!(out, "\n### {ip}: {verdict}, action {}\n", action(subject));
    if let Some(run) = &subject.run {
        let _ = writeln!(out, "Run {}.\n", for_markdown(run));
    }
    if subject.findings.is_empty() {
        out.push_str("Why not:\n\n");
        for sentence in why_not(subject, config) {
            let _ = writeln!(out, "- {sentence}");
        }
    }
    for recorded in &subject.findings {
        finding_section(out, recorded);
    }
}

fn finding_section(out: &mut String, recorded: &Recorded) {
    let evidence = &recorded.latest.evidence;
    let signature = recorded.latest.signature;
    let _ = writeln!(
        out,
        "**{}** ({}): {}.\nScore {}.\n",
        signature.name(),
        signature.techniques().join(", "),
        moments(recorded),
        crossing(evidence)
    );
    // Every line of the block has a fixed prefix, so that none can close the block.
    out.push_str("```text\n");
    let _ = writeln!(out, "seen: {}", for_terminal(evidence.summary.as_str()));
    for example in evidence.examples.iter().take(limits::EXAMPLES_MAX) {
        let target = for_terminal(&example_target(example));
        let _ = writeln!(out, "flow: {} {target}", example.time);
    }
    for against in &evidence.against {
        let _ = writeln!(out, "against: {}", for_terminal(against.as_str()));
    }
    if let Some(sentence) = at_end(recorded) {
        let _ = writeln!(out, "against: {sentence}");
    }
    out.push_str("```\n\n");
}
