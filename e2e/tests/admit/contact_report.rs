//! What is a ContactReport, and what of it may not change.

use serde_json::{Value, json};

use crate::cases::{Case, Change, Kind};

fn report(node: &str) -> Value {
    json!({ "run": { "name": "train", "uid": "u-1" }, "node": node, "pods": [] })
}

pub fn cases() -> Vec<Case> {
    let kind = Kind::ContactReport;
    vec![
        Case::admitted(kind, "a report without contacts", report("node-1")),
        Case::refused(
            kind,
            "a report about no run",
            "spec.run: Required value",
            json!({ "node": "node-1" }),
        ),
        Case::refused(
            kind,
            "a node without a name",
            "spec.node in body should be at least 1 chars long",
            report(""),
        ),
    ]
}

pub fn changes() -> Vec<Change> {
    let change = |what, patch, refused| Change {
        kind: Kind::ContactReport,
        what,
        before: report("node-1"),
        patch,
        refused,
    };
    vec![
        change("other contacts", json!({ "answered": [] }), None),
        change(
            "another node",
            json!({ "node": "node-2" }),
            Some("node is immutable"),
        ),
        change(
            "no node",
            json!({ "node": null }),
            Some("node is immutable"),
        ),
        change(
            "another run",
            json!({ "run": { "name": "train", "uid": "u-2" } }),
            Some("run is immutable"),
        ),
    ]
}
