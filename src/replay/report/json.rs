//! The report as JSON. It is a stable format, so that scores stay comparable: keys may be added, never removed.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::super::files::FileResult;
use super::super::labels::{LabelKind, Labels};
use super::super::result::{CaptureResult, Recorded, SubjectResult};
use super::super::score::Score;
use super::sentences::{action, at_end, cannot_show, example_target, file_notes};
use crate::limits;
use crate::model::{EventTime, Example};

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
    let cannot_show = cannot_show(result);
    let subjects: Vec<_> = result
        .subjects
        .iter()
        .filter(|(ip, subject)| {
            !subject.findings.is_empty()
                || subject.is_unknown
                || labels.kind(&result.capture, **ip).is_some()
        })
        .map(|(ip, subject)| {
            let label = labels.kind(&result.capture, *ip);
            subject_json(*ip, subject, label, &cannot_show)
        })
        .collect();
    json!({
        "capture": result.capture,
        "flows": result.flow_count,
        "malformed": result.malformed_count,
        "unknown": result.unknown_count,
        "lost": result.lost_count,
        "refused": result.refused_count,
        "impossible_figures": result.impossible_count,
        "unnamed_devices": result.unnamed_device_count,
        "formats": result.formats.iter().map(|format| format.name()).collect::<Vec<_>>(),
        "cannot_show": cannot_show,
        "files": result.files.iter().map(file_json).collect::<Vec<_>>(),
        "left_out": result.left_out.iter().map(|file| json!({
            "path": file.path.to_string_lossy(),
            "why": file.why,
        })).collect::<Vec<_>>(),
        "notes": file_notes(result),
        "subjects": subjects,
    })
}

fn file_json(file: &FileResult) -> Value {
    let skipped: Map<_, _> = file
        .skipped
        .iter()
        .map(|(why, count)| (why.name().to_owned(), json!(count)))
        .collect();
    let malformed: Map<_, _> = file
        .malformed
        .iter()
        .map(|(why, count)| (why.name().to_owned(), json!(count)))
        .collect();
    json!({
        "path": file.path.to_string_lossy(),
        "format": file.format.map(crate::signals::decode::Format::name),
        "lines": file.line_count,
        "signals": file.signal_count,
        "skipped": skipped,
        "unknown": file.unknown_count,
        "malformed": malformed,
        "trouble": file.read_error,
        "looks_like": file.looks_like.map(|looks| json!({
            "name": looks.name,
            "advice": looks.advice,
        })),
    })
}

fn subject_json(
    ip: IpAddr,
    subject: &SubjectResult,
    label: Option<LabelKind>,
    cannot_show: &[String],
) -> Value {
    let findings = subject.findings.iter();
    let findings: Vec<_> = findings
        .map(|recorded| finding_json(recorded, cannot_show))
        .collect();
    let timeline = &subject.timeline;
    json!({
        "subject": ip.to_string(),
        "verdict": subject.verdict().name(),
        "action": action(subject),
        "label": label.map(LabelKind::name),
        "run": subject.run,
        "highest_walk": rounded(subject.highest_walk_nats),
        "connections": {
            "answered": subject.outcomes.answered,
            "failed": subject.outcomes.failed,
            "unknown": subject.outcomes.unknown,
            "open_targets": subject.open_target_count,
        },
        "unjudged": subject.unjudged_count,
        "timeline": {
            "start": timeline.start().to_string(),
            "bucket_s": timeline.width_us() / 1_000_000,
            "counts": timeline.counts(),
        },
        "findings": findings,
    })
}

fn finding_json(recorded: &Recorded, cannot_show: &[String]) -> Value {
    let evidence = &recorded.latest.evidence;
    let examples = evidence.examples.iter().take(limits::EXAMPLES_MAX);
    let mut sentences = vec![evidence.summary.to_string()];
    sentences.extend(examples.map(example_line));
    let mut against: Vec<_> = evidence.against.iter().map(ToString::to_string).collect();
    against.extend(at_end(recorded).map(str::to_owned));
    json!({
        "signature": recorded.latest.signature.name(),
        "severity": recorded.latest.severity.name(),
        "action": recorded.action().name(),
        "held_back": recorded.held_back.map(|why| why.to_string()),
        "score": rounded(evidence.score),
        "threshold": rounded(evidence.threshold),
        "over": rounded(evidence.score - evidence.threshold),
        "techniques": recorded.latest.signature.techniques(),
        "first": evidence.first.to_string(),
        "last": evidence.last.to_string(),
        "contacts": evidence.contact_count,
        "alerted": moment(recorded.alerted),
        "quarantined": recorded.quarantined.map(moment),
        "evidence": sentences,
        "against": against,
        "cannot_show": cannot_show,
    })
}

fn moment((time, contact_count): (EventTime, u64)) -> Value {
    json!({ "time": time.to_string(), "contacts": contact_count })
}

fn example_line(example: &Example) -> String {
    format!("{} {}", example.time, example_target(example))
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

fn rounded(nats: f64) -> f64 {
    (nats * 1_000.0).round() / 1_000.0
}
