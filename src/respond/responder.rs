//! The responder: reconciles Incidents. Takes a snapshot, plans, executes one step and records it,
//! until no step is left. Each step is recorded before the next one (INV-5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::deletions::Deletions;
use super::execute::{Done, Executor, StepOutcome, execute};
use super::in_flight::InFlightIsolations;
use super::plan::cilium::is_denied as is_denied_by_cilium;
use super::plan::{Plan, Snapshot, Step, plan, push_action, push_restore_entry};
use super::reset_queue::ResetQueue;
use super::snapshot::{PendingWrites, ResponderSettings, RunSettings, SnapshotSources};
use super::verify::TrafficMonitor;
use crate::api::{ActionRecord, Incident, IncidentStatus, set_condition};
use crate::cluster::{
    ApiError, ClusterDeny, FieldManager, Owners, RateLimiter, RunId, RunMembership, Stores, Writer,
};
use crate::limits;
use crate::model::{PodKey, Signature};
use crate::observability::LatencyHistogram;

/// What a [`Responder`] is made of.
pub(crate) struct ResponderParts {
    /// The stores.
    pub stores: Stores,
    /// Which pod belongs to which run.
    pub membership: RunMembership,
    /// Writes to the API server.
    pub writer: Writer,
    /// What the logs show of isolated pods.
    pub traffic: TrafficMonitor,
    /// The rate of actions.
    pub limiter: RateLimiter,
    /// Whether the cluster-wide deny is stored.
    pub cluster_deny: ClusterDeny,
    /// The settings of a run.
    pub run_settings: RunSettings,
    /// The settings for the whole cluster.
    pub settings: ResponderSettings,
    /// When pods in quarantine were deleted.
    pub deletions: Deletions,
    /// Pods that need a reset of their detection state.
    pub resets: ResetQueue,
    /// The time from a log line of a pod to its isolation.
    pub isolation_latency: LatencyHistogram,
}

/// Reconciles Incidents.
pub(crate) struct Responder {
    sources: SnapshotSources,
    executor: Executor,
    resets: ResetQueue,
}

/// Why a reconcile did not finish. It will be retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RespondError {
    /// The status of the Incident could not be written.
    #[error("failed to write the status of an Incident")]
    Record(#[source] ApiError),
    /// An action failed.
    #[error("failed to execute an action of an Incident")]
    Act(#[source] ApiError),
    /// The state could not be read from the API server.
    #[error("failed to read the state that a response depends on")]
    Read(#[source] ApiError),
    /// A step had no effect on the plan, which is a bug. The limit prevents an endless loop.
    #[error("unable to finish an Incident within {0} steps")]
    TooManySteps(usize),
}

impl RespondError {
    /// Whether the Incident was written since it was read: a retry with the new version can succeed.
    #[must_use]
    pub(crate) const fn is_stale(&self) -> bool {
        matches!(self, Self::Record(ApiError::Conflict(_)))
    }

    /// Whether this process is not the leader.
    #[must_use]
    pub(crate) const fn is_not_leader(&self) -> bool {
        matches!(
            self,
            Self::Record(ApiError::NotLeader) | Self::Act(ApiError::NotLeader)
        )
    }
}

impl Responder {
    /// A responder without isolations in flight.
    #[must_use]
    pub(crate) fn new(parts: ResponderParts) -> Self {
        let owners: Arc<Owners> = Arc::default();
        let reader = parts.writer.reader();
        Self {
            executor: Executor {
                stores: parts.stores.clone(),
                reader: reader.clone(),
                writer: parts.writer,
                limiter: parts.limiter,
                owners: Arc::clone(&owners),
                isolation_latency: parts.isolation_latency,
            },
            sources: SnapshotSources {
                reader,
                stores: parts.stores,
                membership: parts.membership,
                owners,
                traffic: parts.traffic,
                cluster_deny: parts.cluster_deny,
                run_settings: parts.run_settings,
                settings: parts.settings,
                in_flight: InFlightIsolations::default(),
                deletions: parts.deletions,
            },
            resets: parts.resets,
        }
    }

    /// The stores that the responder reads.
    #[must_use]
    pub(crate) const fn stores(&self) -> &Stores {
        &self.sources.stores
    }

    /// How long a closed Incident is kept.
    #[must_use]
    pub(crate) const fn incident_ttl(&self) -> Duration {
        self.sources.settings.incident_ttl
    }

    /// Whether this process is the leader.
    #[must_use]
    pub(crate) fn may_act(&self) -> bool {
        self.executor.writer.may_act()
    }

    pub(super) const fn writer(&self) -> &Writer {
        &self.executor.writer
    }

    /// The run that a pod belongs to.
    pub(super) fn run_of_pod(&self, uid: &str) -> Option<RunId> {
        self.sources.membership.run_of(uid)
    }

    /// Executes the steps for one Incident until none is left.
    pub(crate) async fn reconcile(&self, incident: &Incident) -> Result<Action, RespondError> {
        let mut stored = incident.clone();
        let mut pending = PendingWrites::default();
        let mut status = stored.status.clone().unwrap_or_default();
        for _ in 0..limits::STEPS_MAX {
            let current = Incident {
                status: Some(status.clone()),
                ..stored.clone()
            };
            let (snapshot, mut next) = self.decide(current, &pending).await?;
            let Some(step) = next.step.take() else {
                return self.conclude(stored, status, &next, snapshot).await;
            };
            if step == Step::Expire {
                return self.expire(&stored).await;
            }
            // The outcome of the last step is stored before the next step begins.
            let written = self.write(&mut stored, &status).await;
            let outcome = match written {
                Ok(()) => {
                    let incident = &snapshot.incident;
                    let executed = execute(&self.executor, incident, &step, &mut pending);
                    Ok(executed.await)
                }
                Err(error) => Err(error),
            };
            if let Step::Isolate(pods) = &step {
                self.sources.in_flight.finish(pods, Instant::now());
            }
            if let Some(error) = record_outcome(&mut status, &step, outcome?) {
                self.write(&mut stored, &status).await?;
                return Err(RespondError::Act(error));
            }
        }
        self.write(&mut stored, &status).await?;
        Err(RespondError::TooManySteps(limits::STEPS_MAX))
    }

    async fn plan(
        &self,
        incident: Incident,
        pending: &PendingWrites,
    ) -> Result<(Snapshot, Plan), RespondError> {
        let snapshot = self.sources.snapshot(incident, pending).await;
        let snapshot = snapshot.map_err(RespondError::Read)?;
        let next = plan(&snapshot);
        Ok((snapshot, next))
    }

    /// Plans the next step. An isolation is planned a second time under a lock, because all concurrent
    /// reconciles together must keep the cap on quarantines.
    async fn decide(
        &self,
        incident: Incident,
        pending: &PendingWrites,
    ) -> Result<(Snapshot, Plan), RespondError> {
        let (snapshot, next) = self.plan(incident, pending).await?;
        if !matches!(next.step, Some(Step::Isolate(_))) {
            return Ok((snapshot, next));
        }
        let in_flight = &self.sources.in_flight;
        let _lock = in_flight.deciding.lock().await;
        let (snapshot, next) = self.plan(snapshot.incident, pending).await?;
        if let Some(Step::Isolate(pods)) = &next.step {
            let incident = &snapshot.incident;
            let namespace = incident.namespace().unwrap_or_default();
            in_flight.begin(&namespace, &incident.name_any(), pods);
        }
        Ok((snapshot, next))
    }

    /// Sets the conditions of the plan, and stores the status if it changed.
    async fn conclude(
        &self,
        mut stored: Incident,
        mut status: IncidentStatus,
        next: &Plan,
        snapshot: Snapshot,
    ) -> Result<Action, RespondError> {
        let generation = stored.metadata.generation;
        let now = Timestamp::now();
        for update in &next.conditions {
            set_condition(
                &mut status.conditions,
                update.condition.name(),
                update.status,
                update.reason,
                &update.message,
                generation,
                now,
            );
        }
        status.observed_generation = generation;
        status.techniques = techniques_of(&stored);
        status.widened_by = if is_denied_by_cilium(&snapshot) {
            Vec::new()
        } else {
            snapshot.deny.widened_by
        };
        status.replacement = snapshot.replacement;
        if next.close && status.closed_at.is_none() {
            status.closed_at = Some(MicroTime(now));
        }
        self.write(&mut stored, &status).await?;
        if next.close && stored.is_closed() {
            let pod = PodKey::from(stored.spec.subject.uid.as_str());
            self.sources.traffic.forget(&pod);
            self.sources.deletions.forget(&ObjectRef::from_obj(&stored));
            self.resets.push(pod);
        }
        Ok(next
            .recheck
            .map_or_else(Action::await_change, Action::requeue))
    }

    /// Stores the status if it differs from the stored one. `stored` becomes the new version.
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
        let written = self.executor.writer.status(&manager, stored, status).await;
        *stored = written.map_err(RespondError::Record)?;
        // Keep the status as it was sent: the API server cuts times to whole seconds, which would look
        // like a change.
        stored.status = Some(status.clone());
        Ok(())
    }

    async fn expire(&self, incident: &Incident) -> Result<Action, RespondError> {
        let meta = &incident.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let uid = meta.uid.as_deref().unwrap_or_default();
        self.executor
            .writer
            .delete::<Incident>(namespace, name, uid)
            .await
            .map_err(RespondError::Act)?;
        tracing::info!(namespace, incident = name, "Deleted an expired Incident.");
        Ok(Action::await_change())
    }
}

/// An outcome with nothing but this record.
fn recorded(record: ActionRecord) -> Done {
    Done {
        records: vec![record],
        ..Done::default()
    }
}

/// Records the outcome of a step in the status. Returns the error of a failed step.
fn record_outcome(
    status: &mut IncidentStatus,
    step: &Step,
    outcome: StepOutcome,
) -> Option<ApiError> {
    match step {
        Step::RecordRestore(entry) => push_restore_entry(&mut status.restore, entry),
        Step::Restore { entry, .. } if outcome.as_ref().is_ok_and(|done| !done.needs_retry) => {
            status.restore.retain(|other| other != entry);
        }
        _ => {}
    }
    let (done, error) = match outcome {
        Ok(done) => (done, None),
        Err(failed) => (recorded(failed.record), Some(failed.error)),
    };
    if matches!(step, Step::Isolate(_)) {
        // Other pods than before have the label.
        if let Some(known) = &mut status.cilium {
            known.label_in_force_since = None;
        }
    }
    if done.cilium.is_some() {
        status.cilium = done.cilium;
    }
    if done.capture.is_some() {
        status.capture = done.capture;
    }
    for record in done.records {
        push_action(&mut status.actions, record);
    }
    error
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
