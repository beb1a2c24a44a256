//! What is an Incident, and how it may change.

use serde_json::{Value, json};

use crate::cases::{Case, Change, Kind};

const SUBJECT_CHANGED: &str = "subject is immutable";
const RUN_CHANGED: &str = "run is immutable";
const FINAL: &str = "a Release or Terminate is final: a new finding makes a new Incident";

fn yes(what: &'static str, spec: Value) -> Case {
    Case::admitted(Kind::Incident, what, spec)
}

fn no(what: &'static str, message: &'static str, spec: Value) -> Case {
    Case::refused(Kind::Incident, what, message, spec)
}

fn with(field: &str, value: Value) -> Value {
    json!({ "subject": { "name": "agent-0", "uid": "u-1" }, field: value })
}

/// One observer's entry.
pub fn evidence(node: &str, signature: &str) -> Value {
    json!({
        "observer": node,
        "signature": signature,
        "severity": "Quarantine",
        "score": 21.5,
        "threshold": 20.1,
        "firstSeen": "2026-01-05T10:00:00Z",
        "lastSeen": "2026-01-05T10:00:09.25Z",
        "contacts": 40,
        "summary": "40 hosts on port 22, 38 of them silent.",
    })
}

fn verdict(verdict: &str) -> Value {
    json!({ "verdict": verdict, "decidedBy": "sam@example.com", "justification": "a false alarm" })
}

pub fn cases() -> Vec<Case> {
    [objects(), verdicts()].into_iter().flatten().collect()
}

fn objects() -> Vec<Case> {
    let changed = |field: &str, value: Value| {
        let mut entry = evidence("node-a", "Mining");
        entry[field] = value;
        with("evidence", json!([entry]))
    };
    let twice = json!([evidence("node-a", "Mining"), evidence("node-a", "Mining")]);
    let keys_apart = json!([
        evidence("node-a", "Mining"),
        evidence("node-b", "Mining"),
        evidence("node-a", "HorizontalScan"),
    ]);
    vec![
        yes("a subject alone", with("evidence", json!([]))),
        yes("evidence under the former names of its fields", former()),
        no(
            "evidence of no observer",
            "observer is required",
            changed("observer", json!("")),
        ),
        no("no subject", "spec.subject: Required value", json!({})),
        no(
            "a subject without a UID",
            "spec.subject.uid: Required value",
            json!({ "subject": { "name": "a" } }),
        ),
        yes("a run", with("run", json!({ "name": "r", "uid": "u" }))),
        no(
            "a run without a UID",
            "spec.run.uid: Required value",
            with("run", json!({ "name": "r" })),
        ),
        yes(
            "evidence that differs in one key",
            with("evidence", keys_apart),
        ),
        no(
            "the same evidence twice",
            "Duplicate value",
            with("evidence", twice),
        ),
        yes("evidence for an alert", changed("severity", json!("Alert"))),
        no(
            "a severity that is none",
            "Unsupported value: \"Bad\"",
            changed("severity", json!("Bad")),
        ),
        no(
            "a time that is none",
            "must be of type date-time",
            changed("firstSeen", json!("yesterday")),
        ),
        no(
            "a score that is no number",
            "spec.evidence[0].score: Required value",
            changed("score", json!(null)),
        ),
    ]
}

/// As an older version writes it.
fn former() -> Value {
    let mut entry = evidence("node-a", "Mining");
    let entries = entry.as_object_mut();
    let observer = entries.and_then(|entry| entry.remove("observer"));
    entry["node"] = json!(observer);
    with("evidence", json!([entry]))
}

fn verdicts() -> Vec<Case> {
    vec![
        yes("a Confirm", with("disposition", verdict("Confirm"))),
        yes("a Release", with("disposition", verdict("Release"))),
        no(
            "a verdict that is none",
            "Unsupported value: \"Ignore\"",
            with("disposition", verdict("Ignore")),
        ),
        no(
            "a verdict of nobody",
            "decidedBy is required",
            with(
                "disposition",
                json!({ "verdict": "Release", "justification": "x" }),
            ),
        ),
        no(
            "a verdict without a reason",
            "justification is required",
            with(
                "disposition",
                json!({ "verdict": "Release", "decidedBy": "x" }),
            ),
        ),
        no(
            "a verdict with an empty reason",
            "disposition.justification in body should be at least 1 chars long",
            with(
                "disposition",
                json!({ "verdict": "Release", "decidedBy": "x", "justification": "" }),
            ),
        ),
    ]
}

fn change(
    what: &'static str,
    before: Value,
    patch: Value,
    refused: Option<&'static str>,
) -> Change {
    Change {
        kind: Kind::Incident,
        what,
        before,
        patch,
        refused,
    }
}

pub fn changes() -> Vec<Change> {
    [identity_changes(), verdict_changes()]
        .into_iter()
        .flatten()
        .collect()
}

fn identity_changes() -> Vec<Change> {
    let plain = || with("evidence", json!([]));
    let of_run = || with("run", json!({ "name": "r", "uid": "u" }));
    vec![
        change(
            "another pod",
            plain(),
            json!({ "subject": { "uid": "u-2" } }),
            Some(SUBJECT_CHANGED),
        ),
        change(
            "another node",
            plain(),
            json!({ "subject": { "node": "n" } }),
            Some(SUBJECT_CHANGED),
        ),
        change(
            "another run",
            of_run(),
            json!({ "run": { "uid": "v" } }),
            Some(RUN_CHANGED),
        ),
        change(
            "the run taken away",
            of_run(),
            json!({ "run": null }),
            Some(RUN_CHANGED),
        ),
        change(
            "a run added later",
            plain(),
            json!({ "run": { "name": "r", "uid": "u" } }),
            Some(RUN_CHANGED),
        ),
        change(
            "more evidence",
            plain(),
            json!({ "evidence": [evidence("n", "Mining")] }),
            None,
        ),
    ]
}

fn verdict_changes() -> Vec<Change> {
    let plain = || with("evidence", json!([]));
    let released = || with("disposition", verdict("Release"));
    let confirmed = || with("disposition", verdict("Confirm"));
    let ended = || with("disposition", verdict("Terminate"));
    let say = |word: &str| json!({ "disposition": verdict(word) });
    vec![
        change("a first Release", plain(), say("Release"), None),
        change(
            "a Release after a Confirm",
            confirmed(),
            say("Release"),
            None,
        ),
        change(
            "a Terminate after a Confirm",
            confirmed(),
            say("Terminate"),
            None,
        ),
        change(
            "a Confirm taken back",
            confirmed(),
            json!({ "disposition": null }),
            None,
        ),
        change(
            "a Release taken back",
            released(),
            json!({ "disposition": null }),
            Some(FINAL),
        ),
        change(
            "a Terminate after a Release",
            released(),
            say("Terminate"),
            Some(FINAL),
        ),
        change(
            "a Confirm after a Release",
            released(),
            say("Confirm"),
            Some(FINAL),
        ),
        change(
            "a Release after a Terminate",
            ended(),
            say("Release"),
            Some(FINAL),
        ),
        change(
            "another reason for a Release",
            released(),
            json!({ "disposition": { "justification": "other" } }),
            Some(FINAL),
        ),
        change("the same Release again", released(), say("Release"), None),
        change(
            "evidence after a Release",
            released(),
            json!({ "evidence": [evidence("n", "Mining")] }),
            None,
        ),
    ]
}
