//! Third step: makes the objects that are wanted and stand not yet, takes back those that drifted,
//! removes those that are no longer wanted, stamps pods, and starts the Job. Needs the client.
//!
//! Nothing is written where the stores show that it stands. An object of our name that belongs to
//! somebody else is never written: the store shows it, or a read before the first write does.

use std::fmt::Debug;

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
use super::validate::{Stamp, Validated};
use crate::api::labels;
use crate::cluster::{ApiError, Conflicts, FieldManager};
use crate::guardrails::RunOwner;
use crate::guardrails::drift::{
    Ownership, is_ours_to_delete, limit_range_matches, network_policy_matches, ownership,
    resource_quota_matches,
};

/// How a wanted object stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is not wanted.
    #[default]
    Unwanted,
    /// It was seen to be stored as it is wanted.
    Stands,
    /// It is not known to be stored as it is wanted; why.
    Unproven(String),
    /// An object of its name belongs to somebody else; whom.
    Conflict(String),
    /// The API server refused it; what it said.
    Refused(String),
}

impl State {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        matches!(self, Self::Stands | Self::Unwanted)
    }
}

/// How everything stands after this step.
#[derive(Debug, Default)]
pub struct Applied {
    /// The standing deny of the namespace.
    pub standing_deny: State,
    /// The guard.
    pub network: State,
    /// The quota.
    pub quota: State,
    /// The defaults.
    pub limit_range: State,
    /// The Job of a `template`.
    pub job: State,
    /// Why the Job is kept suspended.
    pub waits_for: Option<String>,
    /// The first write that failed. The run is looked at again, with backoff.
    pub error: Option<ApiError>,
}

impl Applied {
    /// Every state with the name of its object, in a fixed order.
    pub fn states(&self) -> [(&'static str, &State); 5] {
        [
            ("NetworkPolicy of the quarantine", &self.standing_deny),
            ("NetworkPolicy", &self.network),
            ("ResourceQuota", &self.quota),
            ("LimitRange", &self.limit_range),
            ("Job", &self.job),
        ]
    }

    fn failed(&mut self, error: ApiError) -> State {
        let said = error.server_message();
        let is_refused = matches!(error, ApiError::Refused(_));
        self.error.get_or_insert(error);
        if is_refused {
            State::Refused(said)
        } else {
            State::Unproven(said)
        }
    }

    /// A guardrail that does not stand, in words.
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
            .find(|(_, state)| !state.is_fine())
            .map(|(name, _)| format!("the {name} does not stand"));
        missing.or_else(|| {
            let widening = validated.widened_by.first()?;
            Some(format!("NetworkPolicy {widening} would widen it"))
        })
    }
}

impl Controller {
    /// Brings the cluster to what is wanted, as far as it goes now.
    pub(super) async fn apply(&self, observed: &Observed, validated: &Validated) -> Applied {
        let mut applied = Applied::default();
        self.apply_networks(observed, validated, &mut applied).await;
        self.apply_resources(observed, validated, &mut applied)
            .await;
        self.remove_unwanted(observed, validated, &mut applied)
            .await;
        // Only now: a stamp before the guard would leave the pod unguarded and looking guarded.
        self.stamp(observed, validated, &mut applied).await;
        if validated.wanted.job.is_some() {
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
        let wanted = &validated.wanted;
        let stored = |name: &str| {
            observed
                .network_policies
                .iter()
                .find(|policy| policy.metadata.name.as_deref() == Some(name))
                .map(AsRef::as_ref)
        };
        let standing = Ensure {
            wanted: &wanted.standing_deny,
            stored: stored(labels::STANDING_DENY),
            holder: &managed_by_us,
            stands: network_policy_matches,
        };
        applied.standing_deny = match self.ensure(&observed.owner.namespace, standing).await {
            Ok(state) => state,
            Err(error) => applied.failed(error),
        };
        let owner = &observed.owner;
        let guard = Ensure {
            wanted: &wanted.network,
            stored: stored(&owner.object_name()),
            holder: &|metadata| ownership(owner, metadata),
            stands: network_policy_matches,
        };
        applied.network = match self.ensure(&owner.namespace, guard).await {
            Ok(state) => state,
            Err(error) => applied.failed(error),
        };
    }

    async fn apply_resources(
        &self,
        observed: &Observed,
        validated: &Validated,
        applied: &mut Applied,
    ) {
        let owner = &observed.owner;
        let whose = |metadata: &ObjectMeta| ownership(owner, metadata);
        let name = owner.object_name();
        if let Some(wanted) = &validated.wanted.quota {
            let quota = Ensure {
                wanted,
                stored: named(&observed.quotas, &name),
                holder: &whose,
                stands: resource_quota_matches,
            };
            applied.quota = match self.ensure(&owner.namespace, quota).await {
                Ok(state) => state,
                Err(error) => applied.failed(error),
            };
        }
        if let Some(wanted) = &validated.wanted.limit_range {
            let limit_range = Ensure {
                wanted,
                stored: named(&observed.limit_ranges, &name),
                holder: &whose,
                stands: limit_range_matches,
            };
            applied.limit_range = match self.ensure(&owner.namespace, limit_range).await {
                Ok(state) => state,
                Err(error) => applied.failed(error),
            };
        }
    }

    /// Makes sure of one object, and says how it stands.
    async fn ensure<K>(&self, namespace: &str, ensure: Ensure<'_, K>) -> Result<State, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned
            + Sync,
    {
        let name = ensure.wanted.name_any();
        let read;
        let known = if let Some(stored) = ensure.stored {
            Some(stored)
        } else {
            // The store may lag, and holds only what carries our label. An apply to a foreign
            // object would merge into it, so the API server is asked first.
            read = self.read::<K>(namespace, &name).await?;
            read.as_ref()
        };
        if let Some(known) = known {
            if let Ownership::Other(whom) = (ensure.holder)(known.meta()) {
                return Ok(State::Conflict(whom));
            }
            if (ensure.stands)(ensure.wanted, known) {
                return Ok(State::Stands);
            }
        }
        let manager = FieldManager::controller();
        let stored = self
            .writer
            .apply(
                &manager,
                namespace,
                &name,
                ensure.wanted,
                Conflicts::TakeOver,
            )
            .await?;
        tracing::debug!(namespace, name, kind = %K::kind(&()), "Wrote a guardrail.");
        Ok(if (ensure.stands)(ensure.wanted, &stored) {
            State::Stands
        } else {
            let why = "the API server stored something else than what was applied; look for a webhook that changes it";
            State::Unproven(why.to_owned())
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

    /// Removes guardrails of this run that are no longer wanted. Only what is ours.
    async fn remove_unwanted(
        &self,
        observed: &Observed,
        validated: &Validated,
        applied: &mut Applied,
    ) {
        let owner = &observed.owner;
        let keep = owner.object_name();
        let wanted = &validated.wanted;
        let policies = unwanted(owner, &observed.network_policies, Some(&keep));
        let quotas = unwanted(
            owner,
            &observed.quotas,
            wanted.quota.as_ref().map(|_| &*keep),
        );
        let ranges = unwanted(
            owner,
            &observed.limit_ranges,
            wanted.limit_range.as_ref().map(|_| &*keep),
        );
        self.remove::<NetworkPolicy>(owner, policies, applied).await;
        self.remove::<ResourceQuota>(owner, quotas, applied).await;
        self.remove::<LimitRange>(owner, ranges, applied).await;
    }

    async fn remove<K>(
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

    /// Puts the run label on the pods that need it and are the run's alone.
    async fn stamp(&self, observed: &Observed, validated: &Validated, applied: &mut Applied) {
        let owner = &observed.owner;
        let unstamped = validated
            .members
            .iter()
            .filter(|member| member.is_sole && member.stamp == Stamp::Missing);
        for member in unstamped {
            let patch = json!({ "metadata": {
                "uid": member.pod.metadata.uid,
                "labels": { labels::RUN: owner.name },
            } });
            let name = member.pod.name_any();
            let manager = FieldManager::controller();
            let stamped = self
                .writer
                .merge::<Pod>(&manager, &owner.namespace, &name, &patch)
                .await;
            match stamped {
                // A pod that is gone needs no stamp.
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
            && let Ownership::Other(whom) = ownership(owner, &job.metadata)
        {
            applied.job = State::Conflict(whom);
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
            StartStep::Leave => Ok(State::Stands),
            StartStep::Wait(why) => {
                applied.waits_for = Some(why);
                Ok(State::Stands)
            }
            StartStep::Create => {
                applied.waits_for = Some("it was just made".to_owned());
                self.create_job(observed, validated).await
            }
            StartStep::Start => self.start_job(observed).await,
        };
        applied.job = match done {
            Ok(state) => state,
            Err(error) => applied.failed(error),
        };
    }

    async fn create_job(
        &self,
        observed: &Observed,
        validated: &Validated,
    ) -> Result<State, ApiError> {
        let owner = &observed.owner;
        // Read first, like every guardrail: the store may lag.
        if let Some(job) = self
            .read::<Job>(&owner.namespace, &owner.object_name())
            .await?
        {
            return Ok(match ownership(owner, &job.metadata) {
                Ownership::Ours => State::Stands,
                Ownership::Other(whom) => State::Conflict(whom),
            });
        }
        let wanted = validated.wanted.job.clone().unwrap_or_default();
        let Ok(object) = serde_json::from_value::<DynamicObject>(wanted) else {
            return Ok(State::Unproven(
                "the Job could not be written out".to_owned(),
            ));
        };
        let manager = FieldManager::controller();
        let resource = ApiResource::erase::<Job>(&());
        self.writer
            .create_dynamic(&manager, &resource, &owner.namespace, &object)
            .await?;
        Ok(State::Stands)
    }

    /// Lets the Job run, once and for all: the mark is set by the same write, and the write fails
    /// if anybody changed the Job since it was looked at.
    async fn start_job(&self, observed: &Observed) -> Result<State, ApiError> {
        let Some(job) = &observed.job else {
            return Ok(State::Unproven("the Job is not known yet".to_owned()));
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
            "The guardrails stand; started the Job."
        );
        Ok(State::Stands)
    }
}

/// One object to make sure of.
struct Ensure<'a, K> {
    wanted: &'a K,
    stored: Option<&'a K>,
    holder: &'a (dyn Fn(&ObjectMeta) -> Ownership + Sync),
    stands: fn(&K, &K) -> bool,
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

/// The standing deny has no owner; the label says whose it is.
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

/// Name and UID of the objects of this run that are not the one to keep.
fn unwanted<K: Resource<DynamicType = ()>>(
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
