//! Reports: the results of a replay as JSON for programs and as text for people.
//!
//! Called by `cli::replay`. The JSON form is a contract: scores stay comparable. Every text that
//! came over the wire is a `BoundedText` and so free of control characters.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::labels::{LabelKind, Labels};
use super::run::{CaptureResult, Recorded, SubjectResult};
use super::score::Score;
use crate::detect::EngineConfig;
use crate::limits;
use crate::model::{BoundedText, Example, Outcome, Severity};

/// All results as one JSON object; `score` where there are labels.
#[must_use]
pub fn json(results: &[CaptureResult], labels: &Labels, score: Option<&Score>) -> Value {
    let captures: Vec<_> = results
        .iter()
        .map(|result| capture_json(result, labels))
        .collect();
    let mut report = Map::new();
    report.insert("captures".to_owned(), captures.into());
    if let Some(score) = score {
        report.insert("score".to_owned(), score_json(score));
    }
    Value::Object(report)
}

fn capture_json(result: &CaptureResult, labels: &Labels) -> Value {
    let subjects: Vec<_> = result
        .subjects
        .iter()
        .filter(|(ip, subject)| {
            !subject.findings.is_empty() || labels.kind(&result.capture, **ip).is_some()
        })
        .map(|(ip, subject)| {
            json!({
                "subject": ip.to_string(),
                "verdict": subject.verdict().name(),
                "action": action(subject),
                "findings": subject.findings.iter().map(finding_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "capture": result.capture,
        "flows": result.flow_count,
        "malformed": result.malformed_count,
        "subjects": subjects,
    })
}

fn finding_json(recorded: &Recorded) -> Value {
    let evidence = &recorded.latest.evidence;
    let mut sentences = vec![evidence.summary.to_string()];
    sentences.extend(evidence.examples.iter().map(example_line));
    json!({
        "signature": recorded.latest.signature.name(),
        "score": rounded(evidence.score),
        "first": evidence.first.to_string(),
        "last": evidence.last.to_string(),
        "contacts": evidence.contact_count,
        "evidence": sentences,
        "against": evidence.against.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn score_json(score: &Score) -> Value {
    let by_subject: Map<_, _> = score
        .first_action_contacts
        .iter()
        .map(|((capture, subject), count)| (format!("{capture}/{subject}"), json!(count)))
        .collect();
    json!({
        "quarantined_benign": score.quarantined_benign,
        "subjects_benign": score.subjects_benign,
        "scan": { "found": score.scan.0, "of": score.scan.1 },
        "mining": { "found": score.mining.0, "of": score.mining.1 },
        "first_action_contacts": {
            "median": score.first_action_contacts_median(),
            "by_subject": by_subject,
        },
    })
}

/// All results for a person, at most a screen per capture.
#[must_use]
pub fn text(
    results: &[CaptureResult],
    labels: &Labels,
    score: Option<&Score>,
    config: &EngineConfig,
) -> String {
    let mut out = String::new();
    for result in results {
        capture_text(&mut out, result, labels, config);
        out.push('\n');
    }
    if let Some(score) = score {
        score_text(&mut out, score);
    }
    out
}

// Writing into a string cannot fail, so the results of `writeln!` are not looked at.
fn capture_text(out: &mut String, result: &CaptureResult, labels: &Labels, config: &EngineConfig) {
    let _ = writeln!(
        out,
        "{}: {} flows of {} subjects, {} malformed lines, {} unknown lines",
        BoundedText::new(&result.capture),
        result.flow_count,
        result.subjects.len(),
        result.malformed_count,
        result.unknown_count,
    );
    if result.lost_count > 0 {
        let _ = writeln!(out, "  the log itself lost {} records", result.lost_count);
    }
    if result.refused_count > 0 {
        let max = limits::PODS_MAX;
        let count = result.refused_count;
        let _ = writeln!(
            out,
            "  {count} signals of subjects beyond the first {max} were not judged"
        );
    }
    let mut subjects: Vec<_> = result.subjects.iter().collect();
    subjects.sort_by(|(_, a), (_, b)| {
        b.severity()
            .cmp(&a.severity())
            .then(b.highest_walk_nats.total_cmp(&a.highest_walk_nats))
    });
    let found_count = subjects
        .iter()
        .filter(|(_, subject)| subject.severity().is_some())
        .count();
    let shown_max =
        (found_count + limits::CLEAN_SUBJECTS_SHOWN_MAX).min(limits::SUBJECTS_SHOWN_MAX);
    for (ip, subject) in subjects.iter().take(shown_max) {
        let label = labels.kind(&result.capture, **ip).map(LabelKind::name);
        subject_text(out, **ip, subject, label, config);
    }
    let hidden_count = subjects.len().saturating_sub(shown_max);
    if hidden_count > 0 {
        let hidden_found_count = found_count.saturating_sub(shown_max);
        let _ = writeln!(
            out,
            "  and {hidden_count} more, {hidden_found_count} of them with findings"
        );
    }
}

fn subject_text(
    out: &mut String,
    ip: IpAddr,
    subject: &SubjectResult,
    label: Option<&str>,
    config: &EngineConfig,
) {
    let label = label
        .map(|label| format!(", labelled {label}"))
        .unwrap_or_default();
    let verdict = subject.verdict().name();
    let _ = writeln!(out, "  {ip}  {verdict}, action {}{label}", action(subject));
    if subject.findings.is_empty() {
        let nats = subject.highest_walk_nats;
        let _ = writeln!(
            out,
            "    why not: highest walk at {nats:.1} nats of {:.1} for an alert, no pool contact",
            config.alert_nats
        );
    }
    for recorded in &subject.findings {
        finding_text(out, recorded);
    }
}

fn finding_text(out: &mut String, recorded: &Recorded) {
    let evidence = &recorded.latest.evidence;
    let name = recorded.latest.signature.name();
    let (word, (time, contact_count)) = match recorded.quarantined {
        Some(at) => ("quarantine", at),
        None => ("alert", recorded.alerted),
    };
    let _ = writeln!(
        out,
        "    {name}: {word} at {time} after {contact_count} contacts"
    );
    let _ = writeln!(out, "      why: {}", evidence.summary);
    let (score, threshold) = (evidence.score, evidence.threshold);
    let _ = writeln!(
        out,
        "      score: {score:.1} nats over a line of {threshold:.1}"
    );
    let examples: Vec<_> = evidence
        .examples
        .iter()
        .take(limits::EXAMPLES_SHOWN_MAX)
        .map(example_target)
        .collect();
    if !examples.is_empty() {
        let _ = writeln!(out, "      such as: {}", examples.join(", "));
    }
    for against in &evidence.against {
        let _ = writeln!(out, "      against it: {against}");
    }
}

fn score_text(out: &mut String, score: &Score) {
    let Score {
        quarantined_benign,
        subjects_benign,
        scan,
        mining,
        ..
    } = score;
    let _ = writeln!(out, "score");
    let _ = writeln!(
        out,
        "  benign quarantined: {quarantined_benign} of {subjects_benign} subjects"
    );
    let _ = writeln!(
        out,
        "  scans quarantined: {} of {} captures",
        scan.0, scan.1
    );
    let _ = writeln!(out, "  mining found: {} of {} captures", mining.0, mining.1);
    if let Some(median) = score.first_action_contacts_median() {
        let _ = writeln!(
            out,
            "  contacts up to a scan's quarantine: {median} (median)"
        );
    }
}

const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unseen => "outcome not in the log",
        Outcome::Pending => "waiting",
        Outcome::Answered => "answered",
        Outcome::Refused => "refused",
        Outcome::Unanswered => "unanswered",
        Outcome::Denied => "denied",
        Outcome::NotAnAttempt => "no attempt",
    }
}

fn example_line(example: &Example) -> String {
    format!("{} {}", example.time, example_target(example))
}

fn example_target(example: &Example) -> String {
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

const fn action_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Alert => "Alert",
        Severity::Quarantine => "Quarantine",
    }
}

fn action(subject: &SubjectResult) -> &'static str {
    subject.severity().map_or("None", action_name)
}

fn rounded(nats: f64) -> f64 {
    (nats * 1_000.0).round() / 1_000.0
}
