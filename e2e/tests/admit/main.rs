//! The API's rules against the real server: what it admits, what it refuses and with which words,
//! what it fills in, and what kubectl shows.
//!
//! Cases are data: `agent_run`, `reach`, `guardrail_policy` and `incident` hold them, `cases` runs them,
//! `bounds` derives more from the schemas themselves.

#![allow(
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "reading a JSON value by a missing key gives null, and cases hand over fresh values"
)]

mod agent_run;
mod bounds;
mod cases;
mod contact_report;
mod defaults;
mod examples;
mod guardrail_policy;
mod incident;
mod kubectl;
mod reach;
mod readme;

use std::collections::BTreeSet;

use cases::{Case, Change};
use yellowjack_e2e::with_namespace;

fn all_cases() -> Vec<Case> {
    [
        agent_run::cases(),
        reach::cases(),
        guardrail_policy::cases(),
        incident::cases(),
        contact_report::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn all_changes() -> Vec<Change> {
    [
        agent_run::changes(),
        incident::changes(),
        contact_report::changes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[tokio::test]
async fn the_server_admits_and_refuses_objects_as_the_cases_say() -> anyhow::Result<()> {
    with_namespace(async |env| cases::check(&env, all_cases()).await).await
}

#[tokio::test]
async fn the_server_admits_and_refuses_changes_as_the_cases_say() -> anyhow::Result<()> {
    with_namespace(async |env| cases::check_changes(&env, all_changes()).await).await
}

/// A rule that no case trips could say anything.
#[test]
fn every_cel_rule_has_a_case_that_it_refuses() {
    let tripped: BTreeSet<String> = all_cases()
        .into_iter()
        .filter_map(|case| case.refused)
        .chain(
            all_changes()
                .into_iter()
                .filter_map(|change| change.refused),
        )
        .map(str::to_owned)
        .collect();
    let mut rules = BTreeSet::new();
    for crd in yellowjack::testing::api::crds() {
        collect_messages(&serde_json::to_value(&crd).unwrap(), &mut rules);
    }
    assert!(rules.len() > 10, "the CRDs lost their rules: {rules:?}");
    let without_case: Vec<_> = rules.difference(&tripped).collect();
    assert!(
        without_case.is_empty(),
        "no case is refused with: {without_case:#?}"
    );
}

fn collect_messages(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if key == "x-kubernetes-validations" {
                    let rules = value.as_array().into_iter().flatten();
                    into.extend(
                        rules.filter_map(|rule| Some(rule["message"].as_str()?.to_owned())),
                    );
                } else {
                    collect_messages(value, into);
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|item| collect_messages(item, into)),
        _ => {}
    }
}
