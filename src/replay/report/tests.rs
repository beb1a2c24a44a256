//! What the three forms promise: a screen, no text of an attacker that acts, why and why not.

use std::net::IpAddr;

use super::super::labels::Labels;
use super::super::policies::HeldBack;
use super::super::result::{CaptureResult, Recorded, SubjectResult};
use super::sentences::action;
use super::*;
use crate::detect::EngineConfig;
use crate::limits;
use crate::model::{
    BoundedText, EventTime, Evidence, Example, Finding, Outcome, PodKey, Severity, Signature,
    Subject, Transport,
};
use crate::report::Colour;

const HOSTILE: &str = "x\u{1b}[2J\u{202e}` | <img src=x> @team";

fn at(second: i64) -> EventTime {
    EventTime::from_seconds(1_700_000_000 + second, 0)
}

fn finding(signature: Signature, severity: Severity) -> Finding {
    let example = Example {
        time: at(3),
        destination: "198.51.100.7".parse().unwrap(),
        port: 22,
        transport: Transport::Tcp,
        outcome: Outcome::Refused,
        name: Some(BoundedText::new(HOSTILE)),
    };
    Finding {
        subject: Subject {
            pod: PodKey::from("10.0.0.1"),
            run: None,
        },
        signature,
        severity,
        evidence: Evidence {
            score: 24.0,
            threshold: 20.0,
            first: at(0),
            last: at(9),
            contact_count: 40,
            summary: BoundedText::new(&format!("{HOSTILE} {}", "word ".repeat(60))),
            examples: vec![example; limits::EXAMPLES_MAX],
            against: vec![BoundedText::new(&"against ".repeat(30)); limits::AGAINST_MAX],
        },
    }
}

fn subject(signatures: &[Signature]) -> SubjectResult {
    let mut subject = SubjectResult::default();
    for second in 0..300 {
        subject.timeline.count(at(second));
    }
    for signature in signatures {
        subject.findings.push(Recorded {
            alerted: (at(100), 23),
            quarantined: Some((at(200), 35)),
            latest: finding(*signature, Severity::Quarantine),
            held_back: None,
            is_at_end: false,
        });
    }
    subject
}

fn capture(subjects: Vec<SubjectResult>) -> CaptureResult {
    let numbered = (1_u8..).zip(subjects);
    CaptureResult {
        capture: HOSTILE.to_owned(),
        subjects: numbered
            .map(|(n, subject)| (IpAddr::from([10, 0, 0, n]), subject))
            .collect(),
        ..CaptureResult::default()
    }
}

fn as_text(result: &CaptureResult, colour: Colour) -> String {
    let labels = Labels::default();
    let config = EngineConfig::default();
    text(std::slice::from_ref(result), &labels, None, &config, colour)
}

#[test]
fn a_capture_takes_one_screen_however_much_was_found() {
    let every = vec![subject(&Signature::ALL); 60];
    let page = as_text(&capture(every), Colour::Plain);
    assert!(page.lines().count() <= limits::SCREEN_LINES_MAX, "{page}");
    for line in page.lines() {
        assert!(
            line.chars().count() <= limits::SCREEN_COLUMNS_MAX,
            "{line:?}"
        );
    }
    assert!(
        page.contains("more, "),
        "the hidden subjects are not counted:\n{page}"
    );
}

#[test]
fn names_from_a_log_do_not_steer_the_terminal() {
    let page = as_text(
        &capture(vec![subject(&[Signature::HorizontalScan])]),
        Colour::Plain,
    );
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!page.contains(steers), "{page:?}");
    assert!(page.contains("\\u{1b}"), "hidden instead of shown:\n{page}");
}

#[test]
fn colours_are_used_only_when_enabled() {
    let result = capture(vec![subject(&[Signature::Mining])]);
    assert!(!as_text(&result, Colour::Plain).contains('\u{1b}'));
    assert!(as_text(&result, Colour::Ansi).contains("\u{1b}[1;31mQuarantine\u{1b}[0m"));
}

#[test]
fn the_timeline_marks_the_first_alert_and_the_quarantine() {
    let page = as_text(
        &capture(vec![subject(&[Signature::HorizontalScan])]),
        Colour::Plain,
    );
    let marks = page
        .lines()
        .find(|line| line.trim() == "A                        Q");
    assert!(marks.is_some(), "{page}");
}

#[test]
fn a_finding_shows_its_threshold_and_what_prevented_the_action() {
    let mut held = subject(&[Signature::HorizontalScan]);
    for recorded in &mut held.findings {
        recorded.held_back = Some(HeldBack::Observe);
    }
    assert_eq!(action(&held), "Alert");
    let page = as_text(&capture(vec![held]), Colour::Plain);
    for expected in [
        "24.0 nats, 4.0 (20 %) over the threshold of 20.0",
        "no quarantine at",
        "because the mode is Observe",
        "(T1046)",
    ] {
        let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(expected), "no {expected:?} in\n{page}");
    }
}

#[test]
fn markdown_keeps_what_an_attacker_wrote_inside_code() {
    let result = capture(vec![subject(&[Signature::HorizontalScan])]);
    let config = EngineConfig::default();
    let page = markdown(
        std::slice::from_ref(&result),
        &Labels::default(),
        None,
        &config,
    );
    let mut is_code = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if line.contains("<img") && !is_code {
            assert!(line.contains("\\| <img src=x> @team`"), "{line}");
            assert_eq!(line.matches('`').count(), 2, "{line}");
        }
    }
    assert!(!is_code, "a code block is left open");
}
