//! What a case's `expected.json` says, and whether what came out agrees with it.
//!
//! Included by `tests/cases.rs`, which asks `replay`, and by `e2e/tests/parity`, which also asks the engine and
//! the operator on an API server. Each of them must come to the one result that stands in the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

const ACTIONS: [&str; 3] = ["None", "Alert", "Quarantine"];

/// The folders of all cases, in order.
pub fn cases(root: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut cases: Vec<_> = folders(root)
        .iter()
        .flat_map(|path| folders(path))
        .collect();
    cases.sort();
    cases
}

/// `<detector>/<case>`.
pub fn name(case: &Path) -> String {
    let parts: Vec<_> = case.iter().rev().take(2).collect();
    format!("{}/{}", parts[1].display(), parts[0].display())
}

/// Files beside the logs of a case, and the options of `replay` that they become.
pub const COMPANIONS: [(&str, &str); 4] = [
    ("--pool-list", "pools.txt"),
    ("--policy", "policy.yaml"),
    ("--runs", "runs.json"),
    ("--samples", "samples.jsonl"),
];

/// What came out, in the form of `expected.json`.
pub fn summary(capture: &Value) -> Value {
    let mut subjects = Map::new();
    for subject in capture["subjects"].as_array().unwrap() {
        let action = &subject["action"];
        let findings = subject["findings"].as_array().unwrap();
        let finding = findings
            .iter()
            .filter(|finding| finding["action"] == *action)
            // Of several the one that the verdict is about, which came first.
            .min_by_key(|finding| {
                let signature = finding["signature"].as_str().unwrap();
                let is_other = subject["verdict"] != verdict_of(signature);
                (is_other, acted_after(finding))
            });
        let Some(finding) = finding else { continue };
        let contact_count = acted_after(finding);
        subjects.insert(
            subject["subject"].as_str().unwrap().to_owned(),
            json!({
                "verdict": subject["verdict"],
                "action": action,
                "signature": finding["signature"],
                "contacts": [contact_count, contact_count],
            }),
        );
    }
    json!({
        "flows": capture["flows"],
        "malformed": capture["malformed"],
        "subjects": subjects,
    })
}

/// What a pod with this signature is taken for.
pub fn verdict_of(signature: &str) -> &'static str {
    match signature {
        "HorizontalScan" | "VerticalScan" => "Scan",
        "Mining" => "Mining",
        _ => "Tunnel",
    }
}

fn acted_after(finding: &Value) -> u64 {
    let moment = if finding["action"] == "Quarantine" {
        &finding["quarantined"]
    } else {
        &finding["alerted"]
    };
    moment["contacts"].as_u64().unwrap()
}

fn rank(action: &Value) -> usize {
    let known = ACTIONS.iter().position(|name| *action == *name);
    known.unwrap_or_else(|| panic!("{action} is no action: one of {ACTIONS:?}"))
}

/// Whether what came out for a subject is what was expected.
pub fn agrees(expected: &Value, found: Option<&Value>) -> bool {
    let action = found.map_or(json!("None"), |found| found["action"].clone());
    if let Some(most) = expected.get("at_most") {
        return rank(&action) <= rank(most);
    }
    if let Some(least) = expected.get("at_least") {
        let is_verdict = found.is_some_and(|found| found["verdict"] == expected["verdict"]);
        return rank(&action) >= rank(least) && is_verdict;
    }
    let Some(found) = found else { return false };
    let is_same = ["verdict", "action", "signature"]
        .iter()
        .all(|key| expected[*key] == found[*key]);
    let range = |index: usize| expected["contacts"][index].as_u64();
    let contact_count = found["contacts"][0].as_u64();
    let is_in_range = range(0) <= contact_count && contact_count <= range(1);
    is_same && (contact_count.is_none() || is_in_range)
}

/// Every disagreement, a line each.
pub fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for key in ["flows", "malformed"] {
        if found.get(key).is_some() && expected[key] != found[key] {
            lines.push(format!(
                "{key}: expected {}, found {}",
                expected[key], found[key]
            ));
        }
    }
    let subjects = |value: &Value| -> BTreeMap<String, Value> {
        let object = value["subjects"].as_object().cloned();
        object.unwrap_or_default().into_iter().collect()
    };
    let (mut wanted, present) = (subjects(expected), subjects(found));
    let some = wanted.remove("some");
    if let Some(some) = &some
        && !present.values().any(|found| agrees(some, Some(found)))
    {
        lines.push(format!(
            "some subject: expected {some}, found {}",
            found["subjects"]
        ));
    }
    for (subject, wanted) in &wanted {
        let found = present.get(subject);
        if !agrees(wanted, found) {
            let found = found.map_or("no finding".to_owned(), ToString::to_string);
            lines.push(format!("{subject}: expected {wanted}, found {found}"));
        }
    }
    if some.is_none() {
        for (subject, found) in present {
            if !wanted.contains_key(&subject) {
                lines.push(format!("{subject}: expected no finding, found {found}"));
            }
        }
    }
    lines
}
