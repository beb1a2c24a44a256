//! The Job of a `template`: when it is made and when it starts. Pure; `apply` carries it out.
//!
//! The Job starts once, when the guardrails are seen to stand. Whoever suspends it later, a
//! quarantine or a human, is not overruled.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::api::{
    ActionKind, AgentRun, AgentRunCondition, Incident, ObjectTarget, Reason, Verdict, condition_of,
    labels,
};

/// What to do about the Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartStep {
    /// Nothing: it has started, or is not to start again.
    Leave,
    /// Make it, suspended.
    Create,
    /// Let it run.
    Start,
    /// Keep it suspended, because of this.
    Wait(String),
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It completed.
    Complete,
    /// It failed.
    Failed,
}

/// What to do about the Job of this run. `missing_guardrail` names a guardrail that does not stand.
#[must_use]
pub fn next_step(
    run: &AgentRun,
    job: Option<&Job>,
    job_name: &str,
    incidents: &[Arc<Incident>],
    missing_guardrail: Option<String>,
) -> StartStep {
    let held_by = incidents.iter().find(|incident| holds(incident, job_name));
    let Some(job) = job else {
        // A run that has ended is not run again because its Job was cleaned up, nor is one that was
        // contained or ended by a human brought back.
        return if has_completed(run) || held_by.is_some() {
            StartStep::Leave
        } else {
            StartStep::Create
        };
    };
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let was_started = job.annotations().contains_key(labels::STARTED_AT);
    if !is_suspended || was_started || ended(job).is_some() {
        return StartStep::Leave;
    }
    if let Some(incident) = held_by {
        return StartStep::Wait(format!("Incident {} holds it", incident.name_any()));
    }
    missing_guardrail.map_or(StartStep::Start, StartStep::Wait)
}

/// How the Job ended, if it did.
#[must_use]
pub fn ended(job: &Job) -> Option<Ended> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let has = |kind: &str| {
        conditions
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    };
    if has("Complete") {
        Some(Ended::Complete)
    } else if has("Failed") {
        Some(Ended::Failed)
    } else {
        None
    }
}

/// Whether this run was seen to end before.
#[must_use]
pub fn has_completed(run: &AgentRun) -> bool {
    let conditions = run.status.as_ref().map_or(&[][..], |s| &s.conditions);
    condition_of(conditions, AgentRunCondition::Ready.name())
        .is_some_and(|ready| ready.reason == Reason::Completed.name())
}

/// Whether the Incident suspended or ended the Job, or is about to: it must be restored, or an
/// action on it is in the record and no human released it, or a human ended it.
fn holds(incident: &Incident, job_name: &str) -> bool {
    let is_job = |target: &ObjectTarget| target.kind == "Job" && target.name == job_name;
    let status = incident.status.as_ref();
    let verdict = incident.verdict();
    if verdict == Some(Verdict::Terminate) {
        return true;
    }
    if status.is_some_and(|s| s.restore.iter().any(|entry| is_job(&entry.target))) {
        return true;
    }
    let is_released = verdict == Some(Verdict::Release) && !incident.is_open();
    let acted = status.is_some_and(|s| {
        s.actions.iter().any(|action| {
            matches!(action.kind, ActionKind::Suspend | ActionKind::Terminate)
                && is_job(&action.target)
        })
    });
    acted && !is_released
}
