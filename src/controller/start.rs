//! The Job of a `template`: when it is created and when it starts. Pure; `apply` executes the step.
//!
//! The Job starts once, after all guardrails were observed to be in place. A later suspension, by a quarantine or by a
//! human, is never reverted.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::api::{
    ActionKind, AgentRun, AgentRunCondition, Incident, ObjectTarget, Reason, Verdict, condition_of,
    labels,
};

/// What to do with the Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StartStep {
    /// Nothing: it has started, or must not start again.
    Leave,
    /// Create it, suspended.
    Create,
    /// Start it.
    Start,
    /// Keep it suspended, for this reason.
    Wait(String),
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It completed.
    Complete,
    /// It failed.
    Failed,
}

/// What to do with the Job of this run. `missing_guardrail` is the reason why the guardrails are incomplete.
#[must_use]
pub(super) fn next_step(
    run: &AgentRun,
    job: Option<&Job>,
    job_name: &str,
    incidents: &[Arc<Incident>],
    missing_guardrail: Option<String>,
) -> StartStep {
    let holding_incident = incidents.iter().find(|incident| holds(incident, job_name));
    let Some(job) = job else {
        // The Job of a run that has ended, was contained, or was ended by a human is not created again after its
        // deletion.
        return if has_completed(run) || holding_incident.is_some() {
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
    if let Some(incident) = holding_incident {
        return StartStep::Wait(format!("Incident {} holds it", incident.name_any()));
    }
    missing_guardrail.map_or(StartStep::Start, StartStep::Wait)
}

/// How the Job ended. `None` while it has not.
#[must_use]
pub(super) fn ended(job: &Job) -> Option<Ended> {
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

/// Whether the stored status shows that this run has ended.
#[must_use]
pub(super) fn has_completed(run: &AgentRun) -> bool {
    let conditions = run.status.as_ref().map_or(&[][..], |s| &s.conditions);
    condition_of(conditions, AgentRunCondition::Ready.name())
        .is_some_and(|ready| ready.reason == Reason::Completed.name())
}

/// Whether the Incident suspended or ended the Job, or is about to: it has a restore entry for the Job, or a recorded
/// action on it without a release by a human, or a human ended it.
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
