//! Third step: creates missing objects, reverts drift, deletes obsolete objects, labels pods, and starts the Job. Needs
//! the client.
//!
//! Nothing is written if the stores show that an object is up to date. An object of the same name that belongs to
//! another owner is never written: the store shows it, or a read before the first write does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Controller;
use super::dereference::Observed;
use super::start::{StartStep, next_step};
use super::validate::{Member, RunLabel, Validated, is_quarantined};
use crate::api::labels;
use crate::cluster::{ApiError, Conflicts, FieldManager};
use crate::guardrails::RunOwner;
use crate::guardrails::cilium::{assign_cells, cells_per_run};
use crate::guardrails::drift::{
    Ownership, is_ours_to_delete, limit_range_matches, network_policy_matches, ownership,
    resource_quota_matches,
};
use crate::pipeline::pod_facts::own_addresses;

/// How long a network engine has to apply a new guard to running pods. Measured with Cilium 1.20: less than a second.
const GUARD_APPLIED_AFTER: Duration = Duration::from_secs(5);

/// State of a guardrail object after this step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ApplyState {
    /// The run needs no such object.
    #[default]
    NotDesired,
    /// The API server was observed to store the desired object.
    UpToDate,
    /// Not known to be stored as desired, for this reason.
    Unconfirmed(String),
    /// An object of the same name belongs to this other owner.
    Conflict(String),
    /// The API server refused the write, with this message.
    Refused(String),
}

impl ApplyState {
    /// Whether the object is up to date or not needed.
    #[must_use]
    pub(super) fn is_satisfied(&self) -> bool {
        matches!(self, Self::UpToDate | Self::NotDesired)
    }
}

/// Result of this step.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The standing deny policy of the namespace.
    pub standing_deny: ApplyState,
    /// The run's NetworkPolicy.
    pub network: ApplyState,
    /// The ResourceQuota.
    pub quota: ApplyState,
    /// The LimitRange.
    pub limit_range: ApplyState,
    /// The Job of a `template`.
    pub job: ApplyState,
    /// Why the Job is still suspended.
    pub waits_for: Option<String>,
    /// A pod of the run that Cilium does not select by the label of the run yet.
    pub awaiting_identity: Option<String>,
    /// When to reconcile the run again even if nothing changes.
    pub recheck: Option<Duration>,
    /// The first failed write. The run is reconciled again with backoff.
    pub error: Option<ApiError>,
}

impl Applied {
    /// All states with the names of their objects, in a fixed order.
    pub(super) fn states(&self) -> [(&'static str, &ApplyState); 5] {
        [
            ("NetworkPolicy of the quarantine", &self.standing_deny),
            ("NetworkPolicy", &self.network),
            ("ResourceQuota", &self.quota),
            ("LimitRange", &self.limit_range),
            ("Job", &self.job),
        ]
    }

    /// Records a failed write; returns the resulting state of the object.
    fn record_failure(&mut self, error: ApiError) -> ApplyState {
        let message = error.server_message();
        let is_refused = matches!(error, ApiError::Refused(_));
        self.error.get_or_insert(error);
        if is_refused {
            ApplyState::Refused(message)
        } else {
            ApplyState::Unconfirmed(message)
        }
    }

    /// Why the guardrails are incomplete; `None` if they are complete.
    fn missing_guardrail(&self, validated: &Validated) -> Option<String> {
        if !validated.is_accepted() {
            return Some("the run is not accepted".to_owned());
        }
        if validated.template_misses_quota {
            return Some(
                "the quota counts a PriorityClass that the template does not set".to_owned(),
            );
        }
        let guardrails = self.states().into_iter().filter(|(name, _)| *name != "Job");
        let missing = guardrails
            .into_iter()
            .find(|(_, state)| !state.is_satisfied())
            .map(|(name, _)| format!("the {name} is not in place"));
        missing.or_else(|| {
            let widening = validated.widened_by.first()?;
            Some(format!("NetworkPolicy {widening} would widen it"))
        })
    }
}

impl Controller {
    /// Reconciles the objects in the cluster with the desired ones.
    pub(super) async fn apply(&self, observed: &Observed, validated: &Validated) -> Applied {
        let mut applied = Applied::default();
        self.apply_networks(observed, validated, &mut applied).await;
        self.apply_resources(observed, validated, &mut applied)
            .await;
        self.delete_obsolete(observed, validated, &mut applied)
            .await;
        // After the policies: a pod that is labelled earlier would look guarded without being so.
        self.label_pods(observed, validated, &mut applied).await;
        if validated.desired.job.is_some() {
            self.apply_job(observed, validated, &mut applied).await;
        }
        applied
    }

    async fn apply_networks(
        &self,
        observed: &Observed,
        validated: &Validated,
        applied: &mut Applied,
    ) {
        let desired = &validated.desired;
        let stored = |name: &str| {
            observed
                .network_policies
                .iter()
                .find(|policy| policy.metadata.name.as_deref() == Some(name))
                .map(AsRef::as_ref)
        };
        let standing_deny = Ensure {
            desired: &desired.standing_deny,
            stored: stored(labels::STANDING_DENY),
            ownership: &managed_by_us,
            matches: network_policy_matches,
        };
        applied.standing_deny = match self.ensure(&observed.owner.namespace, standing_deny).await {
            Ok(state) => state,
            Err(error) => applied.record_failure(error),
        };
        let owner = &observed.owner;
        let guard = Ensure {
            desired: &desired.network,
            stored: stored(&owner.object_name()),
            ownership: &|metadata| ownership(owner, metadata),
            matches: network_policy_matches,
        };
        applied.network = match self.ensure(&owner.namespace, guard).await {
            Ok(state) => state,
            Err(error) => applied.record_failure(error),
        };
    }

    async fn apply_resources(
        &self,
        observed: &Observed,
        validated: &Validated,
        applied: &mut Applied,
    ) {
        let owner = &observed.owner;
        let ownership_of = |metadata: &ObjectMeta| ownership(owner, metadata);
        let name = owner.object_name();
        if let Some(desired) = &validated.desired.quota {
            let quota = Ensure {
                desired,
                stored: named(&observed.quotas, &name),
                ownership: &ownership_of,
                matches: resource_quota_matches,
            };
            applied.quota = match self.ensure(&owner.namespace, quota).await {
                Ok(state) => state,
                Err(error) => applied.record_failure(error),
            };
        }
        if let Some(desired) = &validated.desired.limit_range {
            let limit_range = Ensure {
                desired,
                stored: named(&observed.limit_ranges, &name),
                ownership: &ownership_of,
                matches: limit_range_matches,
            };
            applied.limit_range = match self.ensure(&owner.namespace, limit_range).await {
                Ok(state) => state,
                Err(error) => applied.record_failure(error),
            };
        }
    }

    /// Reconciles one object; returns its state.
    async fn ensure<K>(
        &self,
        namespace: &str,
        ensure: Ensure<'_, K>,
    ) -> Result<ApplyState, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned
            + Sync,
    {
        let name = ensure.desired.name_any();
        let read;
        let known = if let Some(stored) = ensure.stored {
            Some(stored)
        } else {
            // The store may lag, and contains only objects with our label. An apply would merge into an object of
            // another owner, so it is read from the API server first.
            read = self.read::<K>(namespace, &name).await?;
            read.as_ref()
        };
        if let Some(known) = known {
            if let Ownership::Other(holder) = (ensure.ownership)(known.meta()) {
                return Ok(ApplyState::Conflict(holder));
            }
            if (ensure.matches)(ensure.desired, known) {
                return Ok(ApplyState::UpToDate);
            }
        }
        let manager = FieldManager::controller();
        let stored = self
            .writer
            .apply(
                &manager,
                namespace,
                &name,
                ensure.desired,
                Conflicts::TakeOver,
            )
            .await?;
        tracing::debug!(namespace, name, kind = %K::kind(&()), "Wrote a guardrail.");
        Ok(if (ensure.matches)(ensure.desired, &stored) {
            ApplyState::UpToDate
        } else {
            let why = "the API server stored another object than the one that was applied; look for a webhook that changes it";
            ApplyState::Unconfirmed(why.to_owned())
        })
    }

    async fn read<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.writer.reader().get_opt(namespace, name).await
    }

    /// Deletes guardrails of this run that are no longer desired. Deletes only objects that Yellowjack created.
    async fn delete_obsolete(
        &self,
        observed: &Observed,
        validated: &Validated,
        applied: &mut Applied,
    ) {
        let owner = &observed.owner;
        let keep = owner.object_name();
        let desired = &validated.desired;
        let policies = obsolete(owner, &observed.network_policies, Some(&keep));
        let quotas = obsolete(
            owner,
            &observed.quotas,
            desired.quota.as_ref().map(|_| &*keep),
        );
        let ranges = obsolete(
            owner,
            &observed.limit_ranges,
            desired.limit_range.as_ref().map(|_| &*keep),
        );
        self.delete::<NetworkPolicy>(owner, policies, applied).await;
        self.delete::<ResourceQuota>(owner, quotas, applied).await;
        self.delete::<LimitRange>(owner, ranges, applied).await;
    }

    async fn delete<K>(
        &self,
        owner: &RunOwner,
        objects: Vec<(String, String)>,
        applied: &mut Applied,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        for (name, uid) in objects {
            let deleted = self.writer.delete::<K>(&owner.namespace, &name, &uid).await;
            if let Err(error) = deleted {
                applied.error.get_or_insert(error);
            }
        }
    }

    /// Sets the run label on pods that are attributed to the run and lack it, or have that of another run, and on Cilium
    /// the cell.
    async fn label_pods(&self, observed: &Observed, validated: &Validated, applied: &mut Applied) {
        let owner = &observed.owner;
        let has_cells = self.cluster_deny.is_stored_for_cilium();
        let is_single = validated.members.len() == 1;
        let is_guard_applied = is_guard_applied(observed, validated, Timestamp::now());
        let cell_of = |member: &Member| member.pod.labels().get(labels::CELL).cloned();
        let known: Vec<String> = validated.members.iter().filter_map(cell_of).collect();
        let cells = cells_per_run(self.stores.runs.len());
        let mut free_cells = assign_cells(known.iter().map(String::as_str), cells);
        for member in validated.members.iter().filter(|m| m.is_attributed) {
            let mut missing = BTreeMap::new();
            if member.run_label != RunLabel::Correct {
                missing.insert(labels::RUN, owner.name.clone());
            }
            // Where Cilium has an identity for the pod already, each change of a label delays the policies for it: a pod in
            // quarantine keeps its labels, and so does a single one, which shares its identity with no other.
            let is_new = !missing.is_empty() || own_addresses(&member.pod).is_empty();
            let needs_cell = has_cells && (is_new || !is_single) && !is_quarantined(&member.pod);
            if needs_cell && !is_new && !is_guard_applied && cell_of(member).is_none() {
                applied.recheck = Some(GUARD_APPLIED_AFTER);
            } else if needs_cell && cell_of(member).is_none() {
                missing.extend(free_cells.next().map(|cell| (labels::CELL, cell)));
            }
            if missing.is_empty() {
                continue;
            }
            let patch = json!({ "metadata": {
                "uid": member.pod.metadata.uid,
                "labels": missing,
            } });
            let name = member.pod.name_any();
            let manager = FieldManager::controller();
            let labelled = self
                .writer
                .merge::<Pod>(&manager, &owner.namespace, &name, &patch)
                .await;
            match labelled {
                // A deleted pod needs no label.
                Ok(_) | Err(ApiError::NotFound(_)) => {}
                Err(error) => {
                    applied.error.get_or_insert(error);
                }
            }
        }
    }

    async fn apply_job(&self, observed: &Observed, validated: &Validated, applied: &mut Applied) {
        let owner = &observed.owner;
        if let Some(job) = &observed.job
            && let Ownership::Other(holder) = ownership(owner, &job.metadata)
        {
            applied.job = ApplyState::Conflict(holder);
            return;
        }
        let step = next_step(
            &observed.run,
            observed.job.as_deref(),
            &owner.object_name(),
            &observed.incidents,
            applied.missing_guardrail(validated),
        );
        let done = match step {
            StartStep::Leave => Ok(ApplyState::UpToDate),
            StartStep::Wait(why) => {
                applied.waits_for = Some(why);
                Ok(ApplyState::UpToDate)
            }
            StartStep::Create => {
                applied.waits_for = Some("it was just created".to_owned());
                self.create_job(observed, validated).await
            }
            StartStep::Start => self.start_job(observed).await,
        };
        applied.job = match done {
            Ok(state) => state,
            Err(error) => applied.record_failure(error),
        };
    }

    async fn create_job(
        &self,
        observed: &Observed,
        validated: &Validated,
    ) -> Result<ApplyState, ApiError> {
        let owner = &observed.owner;
        // Read first, as for every guardrail, because the store may lag.
        if let Some(job) = self
            .read::<Job>(&owner.namespace, &owner.object_name())
            .await?
        {
            return Ok(match ownership(owner, &job.metadata) {
                Ownership::Ours => ApplyState::UpToDate,
                Ownership::Other(holder) => ApplyState::Conflict(holder),
            });
        }
        let desired = validated.desired.job.clone().unwrap_or_default();
        let Ok(object) = serde_json::from_value::<DynamicObject>(desired) else {
            return Ok(ApplyState::Unconfirmed(
                "failed to serialize the Job".to_owned(),
            ));
        };
        let manager = FieldManager::controller();
        let resource = ApiResource::erase::<Job>(&());
        self.writer
            .create_dynamic(&manager, &resource, &owner.namespace, &object)
            .await?;
        Ok(ApplyState::UpToDate)
    }

    /// Starts the Job. The same write marks it as started, so it happens once, and it fails if the Job has changed
    /// since it was observed.
    async fn start_job(&self, observed: &Observed) -> Result<ApplyState, ApiError> {
        let Some(job) = &observed.job else {
            return Ok(ApplyState::Unconfirmed(
                "the Job is not known yet".to_owned(),
            ));
        };
        let owner = &observed.owner;
        let patch = json!({
            "metadata": {
                "uid": job.metadata.uid,
                "resourceVersion": job.metadata.resource_version,
                "annotations": { labels::STARTED_AT: Timestamp::now().to_string() },
            },
            "spec": { "suspend": false },
        });
        let manager = FieldManager::controller();
        let name = owner.object_name();
        self.writer
            .merge::<Job>(&manager, &owner.namespace, &name, &patch)
            .await?;
        tracing::info!(
            namespace = owner.namespace,
            run = owner.name,
            "All guardrails are in place; started the Job."
        );
        Ok(ApplyState::UpToDate)
    }
}

/// Whether the guard of the run is stored as desired for so long that the network engine has applied it to the pods.
fn is_guard_applied(observed: &Observed, validated: &Validated, now: Timestamp) -> bool {
    let desired = &validated.desired.network;
    let name = observed.owner.object_name();
    named(&observed.network_policies, &name).is_some_and(|stored| {
        let created = stored.metadata.creation_timestamp.as_ref();
        let age = created.map(|time| now.duration_since(time.0).unsigned_abs());
        network_policy_matches(desired, stored) && age.is_some_and(|age| age >= GUARD_APPLIED_AFTER)
    })
}

/// An object to reconcile.
struct Ensure<'a, K> {
    desired: &'a K,
    stored: Option<&'a K>,
    ownership: &'a (dyn Fn(&ObjectMeta) -> Ownership + Sync),
    matches: fn(&K, &K) -> bool,
}

fn named<'o, K: Resource<DynamicType = ()>>(
    objects: &'o [std::sync::Arc<K>],
    name: &str,
) -> Option<&'o K> {
    objects
        .iter()
        .find(|object| object.meta().name.as_deref() == Some(name))
        .map(AsRef::as_ref)
}

/// Ownership of the standing deny policy. It has no owner reference, so its label decides.
fn managed_by_us(metadata: &ObjectMeta) -> Ownership {
    let manager = metadata
        .labels
        .as_ref()
        .and_then(|found| found.get(labels::MANAGED_BY));
    match manager.map(String::as_str) {
        Some(labels::MANAGED_BY_VALUE) => Ownership::Ours,
        Some(other) => Ownership::Other(other.to_owned()),
        None => Ownership::Other("an unknown owner".to_owned()),
    }
}

/// Names and UIDs of this run's objects, except the one to keep.
fn obsolete<K: Resource<DynamicType = ()>>(
    owner: &RunOwner,
    objects: &[std::sync::Arc<K>],
    keep: Option<&str>,
) -> Vec<(String, String)> {
    objects
        .iter()
        .map(|object| object.meta())
        .filter(|meta| meta.name.as_deref() != keep && is_ours_to_delete(owner, meta))
        .filter_map(|meta| Some((meta.name.clone()?, meta.uid.clone()?)))
        .collect()
}
