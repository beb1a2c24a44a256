//! Tests of when a Job is created and started: once, after its guardrails, and never against a quarantine or a human.

use serde_json::{Value, json};

use super::super::start::{StartStep, next_step};
use super::{by_template, incident, job, run, with_conditions};
use crate::api::labels;

const NAME: &str = "yellowjack-run-a";

fn fresh() -> k8s_openapi::api::batch::v1::Job {
    job(json!({}), true, json!({}))
}

fn suspension(result: &str) -> Value {
    json!([{
        "type": "Suspend", "time": "2026-01-01T00:00:00Z", "result": result,
        "target": { "apiVersion": "batch/v1", "kind": "Job", "name": NAME },
    }])
}

#[test]
fn a_missing_job_is_created() {
    let step = next_step(&run("a", by_template()), None, NAME, &[], None);
    assert_eq!(step, StartStep::Create);
}

#[test]
fn a_job_waits_for_the_guardrail_that_is_missing_and_then_starts() {
    let run = run("a", by_template());
    let why = "the NetworkPolicy is not in place".to_owned();
    let step = next_step(&run, Some(&fresh()), NAME, &[], Some(why.clone()));
    assert_eq!(step, StartStep::Wait(why));
    let step = next_step(&run, Some(&fresh()), NAME, &[], None);
    assert_eq!(step, StartStep::Start);
}

#[test]
fn a_job_that_was_started_once_is_not_started_against_whoever_suspended_it() {
    let started = job(
        json!({ labels::STARTED_AT: "2026-01-01T00:00:00Z" }),
        true,
        json!({}),
    );
    let step = next_step(&run("a", by_template()), Some(&started), NAME, &[], None);
    assert_eq!(step, StartStep::Leave);
}

#[test]
fn a_job_that_an_incident_must_restore_or_acted_on_does_not_start() {
    let to_restore = incident(
        "inc-1",
        json!({ "restore": [{
        "target": { "apiVersion": "batch/v1", "kind": "Job", "name": NAME },
        "field": "/spec/suspend", "originalValue": false, "appliedValue": true,
    }] }),
    );
    let acted = incident("inc-2", json!({ "actions": suspension("Succeeded") }));
    for held_by in [to_restore, acted] {
        let name = held_by.metadata.name.clone().unwrap();
        let step = next_step(
            &run("a", by_template()),
            Some(&fresh()),
            NAME,
            std::slice::from_ref(&held_by),
            None,
        );
        assert_eq!(step, StartStep::Wait(format!("Incident {name} holds it")));
        let step = next_step(&run("a", by_template()), None, NAME, &[held_by], None);
        assert_eq!(step, StartStep::Leave, "it is not created again");
    }
}

#[test]
fn a_released_incident_holds_nothing_and_an_ended_run_is_not_brought_back() {
    let with_word = |verdict: &str| {
        let mut status = with_conditions(&[("Closed", "True", "Released")]);
        status["actions"] = suspension("Succeeded");
        let mut incident = (*incident("inc-1", status)).clone();
        incident.spec.disposition = Some(super::of(
            json!({ "verdict": verdict, "decidedBy": "x", "justification": "y" }),
        ));
        std::sync::Arc::new(incident)
    };
    let run = run("a", by_template());
    let step = next_step(&run, Some(&fresh()), NAME, &[with_word("Release")], None);
    assert_eq!(step, StartStep::Start);
    let step = next_step(&run, None, NAME, &[with_word("Terminate")], None);
    assert_eq!(step, StartStep::Leave);
}

#[test]
fn a_run_that_has_completed_is_not_run_again_when_its_job_is_cleaned_up() {
    let mut completed = run("a", by_template());
    completed.status = Some(super::of(with_conditions(&[(
        "Ready",
        "True",
        "Completed",
    )])));
    assert_eq!(
        next_step(&completed, None, NAME, &[], None),
        StartStep::Leave
    );
}
