//! The responder: reconciles Incidents. Looks (view), plans, carries out, writes down; one step at a
//! time, each recorded before the next (INV-5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::execute::Outcome;
use super::in_flight::Isolating;
use super::plan::{BreakerLimits, Plan, Step, plan};
use super::reset_queue::Forgotten;
use super::snapshot::Known;
use super::verify::Witness;
use crate::api::{
    ActionRecord, AgentRun, Incident, IncidentCondition, IncidentStatus, RestoreEntry,
    condition_is, set_condition,
};
use crate::cluster::{
    ApiError, ClusterDeny, FieldManager, Owners, RateLimiter, RunMembership, Stores, Writer,
};
use crate::guardrails::ceiling::Effective;
use crate::limits;
use crate::model::{PodKey, Signature};
use crate::observability::LatencyHistogram;

/// What an operator of the cluster sets.
#[derive(Clone, Debug)]
pub struct ResponderSettings {
    /// Namespaces in which nothing is done automatically.
    pub protected_namespaces: Vec<String>,
    /// The most pods in quarantine at once.
    pub quarantine_max: usize,
    /// The circuit breaker's limits.
    pub breaker: BreakerLimits,
    /// How long a closed Incident is kept.
    pub incident_ttl: Duration,
}

/// Everything that a response needs.
pub struct Responder {
    /// What the cluster looks like.
    pub stores: Stores,
    /// Which pod belongs to which run.
    pub membership: RunMembership,
    /// Who owns the pods of Incidents.
    pub owners: Owners,
    /// The way to the API server.
    pub writer: Writer,
    /// What the log shows of isolated pods.
    pub witness: Witness,
    /// The pace of actions.
    pub limiter: RateLimiter,
    /// Whether the cluster-wide deny stands.
    pub cluster_deny: ClusterDeny,
    /// The run's settings inside its policy's ceilings.
    pub settings_of: Arc<dyn Fn(&AgentRun) -> Effective + Send + Sync>,
    /// What an operator of the cluster sets.
    pub settings: ResponderSettings,
    /// Pods whose detection state starts anew.
    pub forgotten: Forgotten,
    /// Pods that are being isolated.
    pub isolating: Isolating,
    /// Time from a pod's log line to its isolation.
    pub isolation_latency: LatencyHistogram,
}

/// Why a reconcile did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RespondError {
    /// A record could not be written.
    #[error("failed to write the record of an Incident")]
    Record(#[source] ApiError),
    /// An action could not be carried out.
    #[error("failed to carry out an action of an Incident")]
    Act(#[source] ApiError),
    /// Something could not be read from the API server.
    #[error("failed to read what a response rests on")]
    Read(#[source] ApiError),
    /// A step does not change what the plan looks at: a bug, kept from looping.
    #[error("unable to finish an Incident within {0} steps")]
    TooManySteps(usize),
}

impl RespondError {
    /// Whether the Incident was written since it was read, which a second look mends.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::Record(ApiError::Conflict(_)))
    }

    /// Whether another process is to go on with it.
    #[must_use]
    pub const fn is_not_leader(&self) -> bool {
        matches!(
            self,
            Self::Record(ApiError::NotLeader) | Self::Act(ApiError::NotLeader)
        )
    }
}

impl Responder {
    /// Brings one Incident as far as it goes now.
    pub async fn reconcile(&self, incident: &Incident) -> Result<Action, RespondError> {
        let mut stored = incident.clone();
        let mut known = Known::default();
        let mut status = stored.status.clone().unwrap_or_default();
        for _ in 0..limits::STEPS_MAX {
            let current = Incident {
                status: Some(status.clone()),
                ..stored.clone()
            };
            let (mut next, widened_by) = self.decide(&current, &known).await?;
            let Some(step) = next.step.take() else {
                return self.conclude(stored, status, &next, widened_by).await;
            };
            if step == Step::Expire {
                return self.expire(&stored).await;
            }
            // What the last step did is written down before the next one is taken.
            let written = self.write(&mut stored, &status).await;
            let outcome = match written {
                Ok(()) => Ok(self.carry_out(&current, &step, &mut known).await),
                Err(error) => Err(error),
            };
            if let Step::Isolate(pods) = &step {
                self.isolating.end(pods, monotonic_now());
            }
            let outcome = outcome?;
            if let Some(error) = note(&mut status, &step, outcome) {
                self.write(&mut stored, &status).await?;
                return Err(RespondError::Act(error));
            }
        }
        self.write(&mut stored, &status).await?;
        Err(RespondError::TooManySteps(limits::STEPS_MAX))
    }

    /// Looks and plans; with the plan, the policies that widen the deny.
    async fn look(
        &self,
        incident: &Incident,
        known: &Known,
    ) -> Result<(Plan, Vec<String>), RespondError> {
        let situation = self.view(incident, known).await?;
        let next = plan(&situation);
        Ok((next, situation.deny.widened_by.clone()))
    }

    /// The same, and before pods are isolated once more while nobody else decides: responses run side by side, and all of
    /// them together must keep the cap.
    async fn decide(
        &self,
        incident: &Incident,
        known: &Known,
    ) -> Result<(Plan, Vec<String>), RespondError> {
        let first = self.look(incident, known).await?;
        if !matches!(first.0.step, Some(Step::Isolate(_))) {
            return Ok(first);
        }
        let _alone = self.isolating.deciding.lock().await;
        let last = self.look(incident, known).await?;
        if let Some(Step::Isolate(pods)) = &last.0.step {
            self.isolating.begin(&incident.name_any(), pods);
        }
        Ok(last)
    }

    /// Says what the plan says, and stores it if that is new.
    async fn conclude(
        &self,
        mut stored: Incident,
        mut status: IncidentStatus,
        next: &Plan,
        widened_by: Vec<String>,
    ) -> Result<Action, RespondError> {
        let generation = stored.metadata.generation;
        let now = Timestamp::now();
        for said in &next.said {
            set_condition(
                &mut status.conditions,
                said.condition.name(),
                said.status,
                said.reason,
                &said.message,
                generation,
                now,
            );
        }
        status.observed_generation = generation;
        status.techniques = techniques_of(&stored);
        status.widened_by = widened_by;
        if next.close && status.closed_at.is_none() {
            status.closed_at = Some(MicroTime(now));
        }
        self.write(&mut stored, &status).await?;
        let pod = PodKey::from(stored.spec.subject.uid.as_str());
        if condition_is(&status.conditions, IncidentCondition::Closed.name()) && next.close {
            self.witness.forget(&pod);
            self.forgotten.push(pod);
        }
        Ok(next
            .recheck
            .map_or_else(Action::await_change, Action::requeue))
    }

    /// Stores the status unless it is what is stored already. `stored` becomes what is stored.
    async fn write(
        &self,
        stored: &mut Incident,
        status: &IncidentStatus,
    ) -> Result<(), RespondError> {
        let known = stored.status.as_ref();
        if known == Some(status) || (known.is_none() && *status == IncidentStatus::default()) {
            return Ok(());
        }
        let manager = FieldManager::responder();
        *stored = self
            .writer
            .status(&manager, stored, status)
            .await
            .map_err(RespondError::Record)?;
        // As it was sent: the API cuts times to whole seconds, and that would look like news.
        stored.status = Some(status.clone());
        Ok(())
    }

    async fn expire(&self, incident: &Incident) -> Result<Action, RespondError> {
        let meta = &incident.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let uid = meta.uid.as_deref().unwrap_or_default();
        self.writer
            .delete::<Incident>(namespace, name, uid)
            .await
            .map_err(RespondError::Act)?;
        tracing::info!(namespace, incident = name, "A closed Incident has expired.");
        Ok(Action::await_change())
    }
}

/// Puts what a step did into the record. Returns the error of a step that failed.
fn note(status: &mut IncidentStatus, step: &Step, outcome: Outcome) -> Option<ApiError> {
    match step {
        Step::Save(entry) => save(&mut status.restore, entry),
        Step::Restore { entry, .. } if outcome.as_ref().is_ok_and(|done| !done.is_open) => {
            status.restore.retain(|other| other != entry);
        }
        _ => {}
    }
    let (records, capture, error) = match outcome {
        Ok(done) => (done.records, done.capture, None),
        Err(failed) => (vec![failed.record], None, Some(failed.error)),
    };
    if capture.is_some() {
        status.capture = capture;
    }
    for record in records {
        push_record(&mut status.actions, record);
    }
    error
}

/// Notes what must be restored, in place of what was noted about the same field.
pub(super) fn save(restore: &mut Vec<RestoreEntry>, entry: &RestoreEntry) {
    restore.retain(|other| other.target != entry.target || other.field != entry.field);
    if restore.len() < limits::RESTORE_MAX {
        restore.push(entry.clone());
    }
}

/// Adds a record. A repeat of the last one of its kind and target only replaces it, so that retries
/// do not fill the list; where it is full the oldest repeatable one gives way.
fn push_record(actions: &mut Vec<ActionRecord>, record: ActionRecord) {
    let is_repeat = |known: &ActionRecord| {
        known.kind == record.kind && known.target == record.target && known.result == record.result
    };
    if let Some(known) = actions.iter_mut().rev().find(|known| is_repeat(known)) {
        // The same again says nothing new, unless it failed for another reason.
        if known.message != record.message {
            *known = record;
        }
        return;
    }
    if actions.len() >= limits::ACTIONS_MAX {
        let failed = actions
            .iter()
            .position(|a| a.result != crate::api::ActionResult::Succeeded);
        actions.remove(failed.unwrap_or(actions.len() / 2));
    }
    actions.push(record);
}

fn techniques_of(incident: &Incident) -> Vec<String> {
    let signatures = incident
        .spec
        .evidence
        .iter()
        .filter_map(|entry| Signature::from_name(&entry.signature));
    let mut all: Vec<String> = signatures
        .flat_map(Signature::techniques)
        .map(|technique| (*technique).to_owned())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The clock that only moves forward, for the witness.
pub(super) fn monotonic_now() -> Instant {
    Instant::now()
}
