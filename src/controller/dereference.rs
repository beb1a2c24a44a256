//! First step: reads everything that the other steps need. Reads the stores; the only request to the API server is
//! whether the owner of a `ref` target exists. Decides nothing.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::agents::AgentReports;
use super::{Controller, Role};
use crate::api::{AgentRun, GuardrailPolicy, Incident, Target};
use crate::cluster::{ApiError, Pod, Store};
use crate::guardrails::membership::OwnerLink;
use crate::guardrails::{ClusterFacts, RunOwner, selector};
use crate::signals::health::{Certainty, SignalsVerdict};

/// Observed state of a run and of everything it depends on.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The run.
    pub run: Arc<AgentRun>,
    /// The run as an owner.
    pub owner: RunOwner,
    /// The GuardrailPolicy that it references.
    pub policy: Option<Arc<GuardrailPolicy>>,
    /// All runs of the namespace, this one among them.
    pub runs: Vec<Arc<AgentRun>>,
    /// Pods of the namespace that may belong to the run.
    pub pods: Vec<ObservedPod>,
    /// The NetworkPolicies of the namespace.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// ResourceQuotas of the namespace that Yellowjack created.
    pub quotas: Vec<Arc<ResourceQuota>>,
    /// LimitRanges of the namespace that Yellowjack created.
    pub limit_ranges: Vec<Arc<LimitRange>>,
    /// The Job of a `template`, or the Job of a `ref`.
    pub job: Option<Arc<Job>>,
    /// Whether the owner of a `ref` exists; `true` for other targets.
    pub owner_exists: bool,
    /// Incidents of this run, including closed ones.
    pub incidents: Vec<Arc<Incident>>,
    /// Whether the cluster-wide deny policy is in place.
    pub cluster_deny: bool,
    /// Whether the cluster has Cilium, with the standing deny of its kind.
    pub on_cilium: bool,
    /// Verdict on the controller's own sources.
    pub signals: SignalsVerdict,
    /// How much is known about the sources; little shortly after the start of the process.
    pub certainty: Certainty,
    /// Last reports of the node agents.
    pub agents: Arc<AgentReports>,
    /// Facts about the cluster.
    pub facts: Arc<ClusterFacts>,
}

/// A pod and its owners.
#[derive(Clone, Debug)]
pub(super) struct ObservedPod {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its owners, nearest first.
    pub owners: Vec<OwnerLink>,
    /// UID of the run that it was attributed to. It stays there until one of them ends: whoever may change its labels or
    /// owner references must not take it out of the run.
    pub holder: Option<String>,
}

impl Controller {
    /// Reads the state of a run. `None` for an object without name or UID, which no API server returns.
    pub(super) async fn dereference(
        &self,
        run: Arc<AgentRun>,
    ) -> Result<Option<Observed>, ApiError> {
        let Some(owner) = RunOwner::of(&run) else {
            return Ok(None);
        };
        let namespace = owner.namespace.as_str();
        let stores = &self.stores;
        let held = self.membership.pods_of(&owner.uid);
        let pods = candidates(&stores.pods, &run.spec.target, &held, namespace);
        let pods = pods.into_iter().map(|pod| self.with_owners(pod)).collect();
        let of_run = |incident: &Incident| {
            let about = incident.spec.run.as_ref();
            about.is_some_and(|about| about.uid == owner.uid)
        };
        let mut incidents = stores.incidents.within_where(namespace, of_run);
        incidents.sort_by_key(|incident| incident.name_any());
        let (job, owner_exists) = match self.role {
            Role::Operator => self.owner_of(&run, &owner).await?,
            // Only the status needs to know whether the owner exists, and an observer writes none.
            Role::Observer => (None, true),
        };
        Ok(Some(Observed {
            policy: stores.policies.get(&ObjectRef::new(&run.spec.policy)),
            runs: stores.runs.within(namespace),
            pods,
            network_policies: stores.network_policies.within(namespace),
            quotas: stores.quotas.within(namespace),
            limit_ranges: stores.limit_ranges.within(namespace),
            job,
            owner_exists,
            incidents,
            cluster_deny: self.cluster_deny.is_stored(),
            on_cilium: self.cluster_deny.is_stored_for_cilium(),
            signals: self.signals(),
            certainty: self.certainty(),
            agents: self.agents(),
            facts: self.facts(),
            owner,
            run,
        }))
    }

    fn with_owners(&self, pod: Arc<Pod>) -> ObservedPod {
        let uid = pod.uid().unwrap_or_default();
        ObservedPod {
            owners: self.owners.chain_of(&uid).unwrap_or_default().links,
            holder: self.holder_of(&uid),
            pod,
        }
    }

    async fn owner_of(
        &self,
        run: &AgentRun,
        owner: &RunOwner,
    ) -> Result<(Option<Arc<Job>>, bool), ApiError> {
        let job = |name: &str| {
            let key = ObjectRef::new(name).within(&owner.namespace);
            self.stores.jobs.get(&key)
        };
        let target = &run.spec.target;
        if target.template.is_some() {
            return Ok((job(&owner.object_name()), true));
        }
        let Some(reference) = &target.reference else {
            return Ok((None, true));
        };
        if reference.kind == "Job" && reference.api_version.starts_with("batch/") {
            let found = job(&reference.name);
            let exists = found.is_some();
            return Ok((found, exists));
        }
        let client = self.writer.client();
        let exists = self
            .owners
            .exists(client, &owner.namespace, reference)
            .await?;
        Ok((None, exists))
    }
}

/// Pods that a target may cover, and those that the run has `held`. A selector is evaluated first, so that the owners of
/// other pods need not be read.
fn candidates(
    pods: &Store<Pod>,
    target: &Target,
    held: &HashSet<String>,
    namespace: &str,
) -> Vec<Arc<Pod>> {
    let is_held = |pod: &Pod| {
        let uid = pod.metadata.uid.as_ref();
        uid.is_some_and(|uid| held.contains(uid))
    };
    match &target.selector {
        Some(chosen) => pods.within_where(namespace, |pod| {
            selector::matches(chosen, pod.labels()) || is_held(pod)
        }),
        None => pods.within(namespace),
    }
}
