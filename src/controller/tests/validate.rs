//! Tests of the pods of a run, their labels, and the desired objects.

use std::sync::Arc;

use kube::ResourceExt;
use serde_json::json;

use super::super::dereference::ObservedPod;
use super::super::validate::{RunLabel, validate};
use super::{
    by_job, by_label, by_template, foreign_policy, names, observed, owned_by, pod, run, with_pods,
};
use crate::api::labels;
use crate::guardrails::audit::selects;

#[test]
fn the_run_covers_what_its_target_names_and_not_pods_that_have_ended() {
    let mut ended = pod("done", json!({ "app": "agent" }));
    ended.status = Some(super::of(json!({ "phase": "Succeeded" })));
    let seen = with_pods(
        observed(run("a", by_label())),
        [
            pod("q", json!({ "app": "agent" })),
            pod("p", json!({ "app": "agent" })),
            pod("other", json!({ "app": "web" })),
            ended,
        ],
    );
    let validated = validate(&seen);
    let members: Vec<_> = validated.members.iter().map(|m| (*m.pod).clone()).collect();
    assert_eq!(names(&members), ["p", "q"]);
    assert_eq!(
        validated.enrolled.len(),
        3,
        "late lines about the ended pod are attributed to the run"
    );
}

#[test]
fn a_contested_pod_stays_with_the_oldest_run() {
    let chain = vec![owned_by("Job", "batch/v1", "j", "uid-j")];
    let seen_by = |name: &str, target| {
        let mut seen = observed(run(name, target));
        seen.runs = vec![
            Arc::new(run("b", by_job("j"))),
            Arc::new(run("a", by_job("j"))),
        ];
        seen.pods.push(ObservedPod {
            pod: Arc::new(pod("p", json!({}))),
            owners: chain.clone(),
            holder: None,
        });
        validate(&seen)
    };
    let (old, new) = (seen_by("a", by_job("j")), seen_by("b", by_job("j")));
    for validated in [&old, &new] {
        assert!(
            validated.overlaps[0].contains("a and b"),
            "{:?}",
            validated.overlaps
        );
        assert!(validated.overlaps[0].contains("belongs to a "));
    }
    assert!(old.members[0].is_attributed && !new.members[0].is_attributed);
    assert_eq!(old.enrolled, ["uid-p"]);
    assert!(new.enrolled.is_empty());
}

#[test]
fn a_pod_with_changed_labels_stays_in_its_run_and_goes_to_no_older_one() {
    let seen_by = |name: &str, holder: Option<&str>| {
        let mut seen = observed(run(name, by_label()));
        seen.runs = vec![
            Arc::new(run("b", by_job("j"))),
            Arc::new(run("a", by_label())),
        ];
        if name == "b" {
            seen.run = Arc::clone(&seen.runs[0]);
        }
        seen.pods.push(ObservedPod {
            pod: Arc::new(pod("p", json!({ "app": "agent" }))),
            owners: Vec::new(),
            holder: holder.map(str::to_owned),
        });
        validate(&seen)
    };
    // Its Job was j, and now it has the label that the older run selects.
    let (old, new) = (seen_by("a", Some("uid-b")), seen_by("b", Some("uid-b")));
    assert_eq!(new.enrolled, ["uid-p"]);
    assert!(new.members[0].has_left && new.members[0].is_attributed);
    assert!(old.enrolled.is_empty());
    let control = (seen_by("a", None), seen_by("b", None));
    assert_eq!(control.0.enrolled, ["uid-p"]);
    assert!(control.1.members.is_empty());
}

#[test]
fn the_guard_of_a_younger_run_leaves_out_the_pods_of_an_older_one() {
    let selector = |name: &str, pod_labels| {
        let mut seen = observed(run(name, by_label()));
        seen.runs = vec![
            Arc::new(run("a", by_label())),
            Arc::new(run("b", by_label())),
        ];
        let validated = validate(&with_pods(seen, [pod("p", pod_labels)]));
        (validated.desired.network, validated.members)
    };
    let app = json!({ "app": "agent" });
    let labelled = json!({ "app": "agent", labels::RUN: "a" });
    let (old, old_members) = selector("a", app.clone());
    assert_eq!(old_members[0].run_label, RunLabel::Missing);
    let (young, _) = selector("b", app.clone());
    let pods = with_pods(observed(run("a", by_label())), [pod("p", labelled)]).pods;
    assert!(selects(&old, pods[0].pod.labels()));
    assert!(!selects(&young, pods[0].pod.labels()));
    let alone = validate(&with_pods(observed(run("b", by_label())), [pod("p", app)]));
    assert!(selects(&alone.desired.network, pods[0].pod.labels()));
    assert_eq!(alone.members[0].run_label, RunLabel::Correct);
}

#[test]
fn a_label_of_another_run_is_recognised() {
    let chain = vec![owned_by("Job", "batch/v1", "j", "uid-j")];
    let run_label_of = |labels| {
        let mut seen = observed(run("a", by_job("j")));
        seen.pods.push(ObservedPod {
            pod: Arc::new(pod("p", labels)),
            owners: chain.clone(),
            holder: None,
        });
        validate(&seen).members[0].run_label.clone()
    };
    assert_eq!(run_label_of(json!({})), RunLabel::Missing);
    assert_eq!(run_label_of(json!({ labels::RUN: "a" })), RunLabel::Correct);
    assert_eq!(
        run_label_of(json!({ labels::RUN: "z" })),
        RunLabel::OtherRun("z".into())
    );
}

#[test]
fn a_run_label_alone_makes_no_pod_a_member() {
    let seen = with_pods(
        observed(run("a", by_template())),
        [pod("p", json!({ labels::RUN: "a" }))],
    );
    assert!(validate(&seen).members.is_empty());
}

#[test]
fn a_template_is_audited_before_it_has_pods() {
    let mut seen = observed(run("a", by_template()));
    seen.network_policies.push(foreign_policy("allow-all"));
    assert_eq!(validate(&seen).widened_by, ["allow-all"]);
}

#[test]
fn a_template_that_its_own_quota_would_not_count_is_known_before_it_starts() {
    let mut unclassed = run("a", by_template());
    unclassed.spec.resources = super::of(json!({ "quota": {
        "hard": { "pods": "4" }, "priorityClassName": "batch",
    } }));
    assert!(validate(&observed(unclassed.clone())).template_misses_quota);
    let template = unclassed.spec.target.template.as_mut().unwrap();
    template
        .pod
        .spec
        .insert("priorityClassName".into(), "batch".into());
    assert!(!validate(&observed(unclassed)).template_misses_quota);
}
