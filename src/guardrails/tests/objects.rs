//! Tests of the Job, the ResourceQuota and the LimitRange, and of whether a quota counts.

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use super::super::ceiling::Quota;
use super::super::job::job;
use super::super::quota::{QuotaPod, bound, limit_range, resource_quota};
use super::{owner, run};
use crate::api::{Reason, ResourceDefaults, labels};

fn job_of(template: Value) -> Value {
    let spec = run(json!({ "target": { "template": template } }));
    job(&owner(), &spec.target.template.unwrap())
}

fn quota(class: Option<&str>) -> Quota {
    Quota {
        hard: [("pods".to_owned(), "4".to_owned())].into(),
        priority_class: class.map(str::to_owned),
    }
}

fn counted(used: Value) -> ResourceQuota {
    serde_json::from_value(json!({ "metadata": {}, "status": { "used": used } })).unwrap()
}

const PLAIN: QuotaPod<'static> = QuotaPod {
    priority_class: None,
};
const BATCH: QuotaPod<'static> = QuotaPod {
    priority_class: Some("batch"),
};

#[test]
fn a_job_is_made_suspended_and_its_pods_carry_the_run() {
    let job = job_of(json!({
        "parallelism": 3,
        "completions": 5,
        "backoffLimit": 2,
        "pod": {
            "labels": { "app": "agent" },
            "annotations": { "note": "x" },
            "spec": { "containers": [{ "name": "a" }] },
        },
    }));
    let spec = &job["spec"];
    assert_eq!(spec["suspend"], true);
    assert_eq!(spec["parallelism"], 3);
    assert_eq!(spec["completions"], 5);
    assert_eq!(spec["backoffLimit"], 2);
    assert_eq!(spec["template"]["metadata"]["labels"]["app"], "agent");
    assert_eq!(spec["template"]["metadata"]["labels"][labels::RUN], "train");
    assert_eq!(spec["template"]["metadata"]["annotations"]["note"], "x");
    assert_eq!(job["metadata"]["name"], "yellowjack-run-train");
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "uid-1");
}

#[test]
fn the_pod_spec_is_kept_as_written_with_fields_that_this_build_does_not_know() {
    let written = json!({
        "containers": [{ "name": "a", "fieldOfTomorrow": { "x": [1, 2] } }],
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": true,
        "anotherOfTomorrow": true,
    });
    let job = job_of(json!({ "pod": { "spec": written.clone() } }));
    assert_eq!(job["spec"]["template"]["spec"], written);
    assert_eq!(job["spec"].get("completions"), None);
    let job = job_of(json!({ "pod": { "spec": { "containers": [] } } }));
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(spec["automountServiceAccountToken"], false);
}

#[test]
fn a_template_cannot_set_our_labels() {
    let job = job_of(json!({ "pod": {
        "labels": { "yellowjack.dev/run": "other", "yellowjack.dev/quarantine": "x" },
        "spec": { "containers": [] },
    } }));
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({ "yellowjack.dev/run": "train" })
    );
}

#[test]
fn a_quota_counts_the_namespace_or_one_priority_class() {
    let object = resource_quota(&owner(), &quota(Some("batch")));
    let spec = serde_json::to_value(object.spec.unwrap()).unwrap();
    assert_eq!(spec["hard"], json!({ "pods": "4" }));
    assert_eq!(
        spec["scopeSelector"]["matchExpressions"],
        json!([{ "scopeName": "PriorityClass", "operator": "In", "values": ["batch"] }])
    );
    let object = resource_quota(&owner(), &quota(None));
    let selector = object.spec.unwrap().scope_selector.unwrap();
    assert_eq!(selector.match_expressions, Some(vec![]));
}

#[test]
fn a_limit_range_writes_out_what_the_api_server_would_fill_in() {
    let defaults = ResourceDefaults {
        requests: [("cpu".to_owned(), "1".to_owned())].into(),
        limits: [
            ("cpu".to_owned(), "2".to_owned()),
            ("memory".to_owned(), "1Gi".to_owned()),
        ]
        .into(),
    };
    let object = limit_range(&owner(), &defaults);
    let spec = serde_json::to_value(object.spec.unwrap()).unwrap();
    assert_eq!(
        spec["limits"],
        json!([{
            "type": "Container",
            "default": { "cpu": "2", "memory": "1Gi" },
            "defaultRequest": { "cpu": "1", "memory": "1Gi" },
        }])
    );
}

#[test]
fn a_quota_of_a_class_that_no_pod_has_does_not_count() {
    let verdict = bound(
        Some(&quota(Some("batch"))),
        Some(&counted(json!({ "pods": "0" }))),
        &[PLAIN],
    );
    assert_eq!(
        (verdict.status, verdict.reason),
        (Some(false), Reason::ScopeMatchesNoPods)
    );
    let verdict = bound(
        Some(&quota(Some("batch"))),
        Some(&counted(json!({ "pods": "1" }))),
        &[PLAIN, BATCH],
    );
    assert_eq!(verdict.status, Some(false));
    assert!(verdict.message.contains("1 of 2"), "{}", verdict.message);
}

#[test]
fn a_quota_that_counts_the_pods_is_bound() {
    let verdict = bound(
        Some(&quota(Some("batch"))),
        Some(&counted(json!({ "pods": "1" }))),
        &[BATCH],
    );
    assert_eq!(
        (verdict.status, verdict.reason),
        (Some(true), Reason::QuotaEnforced)
    );
    let waiting = bound(
        Some(&quota(Some("batch"))),
        Some(&counted(json!({ "pods": "0" }))),
        &[],
    );
    assert_eq!(
        waiting.status,
        Some(true),
        "no pod yet, and Kubernetes counts"
    );
}

#[test]
fn a_quota_is_not_reported_as_counting_before_it_counts() {
    let not_stored = bound(Some(&quota(None)), None, &[]);
    assert_eq!(
        (not_stored.status, not_stored.reason),
        (None, Reason::QuotaNotCounted)
    );
    let not_counted = bound(
        Some(&quota(None)),
        Some(&ResourceQuota::default()),
        &[PLAIN],
    );
    assert_eq!(
        (not_counted.status, not_counted.reason),
        (None, Reason::QuotaNotCounted)
    );
    let zero = bound(
        Some(&quota(None)),
        Some(&counted(json!({ "pods": "0" }))),
        &[PLAIN],
    );
    assert_eq!((zero.status, zero.reason), (None, Reason::QuotaNotCounted));
}

#[test]
fn without_a_quota_nothing_is_reported_as_bound() {
    let verdict = bound(None, None, &[PLAIN]);
    assert_eq!(
        (verdict.status, verdict.reason),
        (Some(false), Reason::NoQuotaRequested)
    );
}
