//! What the cluster looks like: one store per kind, pruned to what is used.
//!
//! Stores are filled by `watch::follow` and read by everybody. They may lag; whoever acts on one
//! makes the write conditional (UID or resource version).

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{LimitRange, Pod, PodSpec, PodStatus, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::runtime::reflector;
use kube::{Resource, ResourceExt};
use tokio::sync::OnceCell;

use super::store::{Store, StoreWriter};
use crate::api::{AgentRun, GuardrailPolicy, Incident, labels};

/// One store per kind.
#[derive(Clone)]
pub struct Stores {
    /// AgentRuns.
    pub runs: Store<AgentRun>,
    /// GuardrailPolicies.
    pub policies: Store<GuardrailPolicy>,
    /// Incidents.
    pub incidents: Store<Incident>,
    /// Pods that have not ended, pruned by [`prune_pod`].
    pub pods: Store<Pod>,
    /// Every NetworkPolicy: others' are audited.
    pub network_policies: Store<NetworkPolicy>,
    /// Jobs, without their pod templates.
    pub jobs: Store<Job>,
    /// ResourceQuotas that Yellowjack made.
    pub quotas: Store<ResourceQuota>,
    /// LimitRanges that Yellowjack made.
    pub limit_ranges: Store<LimitRange>,
    /// Leases of node agents.
    pub leases: Store<Lease>,
    ready: Arc<OnceCell<bool>>,
}

/// The writing ends of [`Stores`], each for its watch.
#[derive(Default)]
pub struct StoreWriters {
    /// AgentRuns.
    pub runs: StoreWriter<AgentRun>,
    /// GuardrailPolicies.
    pub policies: StoreWriter<GuardrailPolicy>,
    /// Incidents.
    pub incidents: StoreWriter<Incident>,
    /// Pods.
    pub pods: StoreWriter<Pod>,
    /// NetworkPolicies.
    pub network_policies: StoreWriter<NetworkPolicy>,
    /// Jobs.
    pub jobs: StoreWriter<Job>,
    /// ResourceQuotas.
    pub quotas: StoreWriter<ResourceQuota>,
    /// LimitRanges.
    pub limit_ranges: StoreWriter<LimitRange>,
    /// Leases.
    pub leases: StoreWriter<Lease>,
}

impl StoreWriters {
    /// Leaves the stores empty that a node agent does not look into, and lets nobody wait for them.
    pub fn leave_empty_for_node(&mut self) {
        fill_with_nothing(&mut self.network_policies);
        fill_with_nothing(&mut self.quotas);
        fill_with_nothing(&mut self.limit_ranges);
        fill_with_nothing(&mut self.leases);
    }
}

fn fill_with_nothing<K>(writer: &mut StoreWriter<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer.list_begins();
    writer.list_ends();
}

impl Stores {
    /// Empty stores and their writing ends.
    #[must_use]
    pub fn new() -> (Self, StoreWriters) {
        let writers = StoreWriters::default();
        let stores = Self {
            runs: writers.runs.as_reader(),
            policies: writers.policies.as_reader(),
            incidents: writers.incidents.as_reader(),
            pods: writers.pods.as_reader(),
            network_policies: writers.network_policies.as_reader(),
            jobs: writers.jobs.as_reader(),
            quotas: writers.quotas.as_reader(),
            limit_ranges: writers.limit_ranges.as_reader(),
            leases: writers.leases.as_reader(),
            ready: Arc::default(),
        };
        (stores, writers)
    }

    /// Waits until every store was filled once; `false` where a watch ended before that. Until then
    /// nothing may be concluded from an object that is missing.
    ///
    /// A store remembers only the last task that waits for it, so all waiting goes through one cell.
    pub async fn wait_until_ready(&self) -> bool {
        *self
            .ready
            .get_or_init(|| async { self.fill().await.is_ok() })
            .await
    }

    async fn fill(&self) -> Result<(), reflector::store::WriterDropped> {
        self.runs.wait_until_ready().await?;
        self.policies.wait_until_ready().await?;
        self.incidents.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await?;
        self.jobs.wait_until_ready().await?;
        self.quotas.wait_until_ready().await?;
        self.limit_ranges.wait_until_ready().await?;
        self.leases.wait_until_ready().await
    }
}

/// Keeps of a pod what Yellowjack uses: a full pod is ten times as large in memory.
///
/// Kept: metadata without managed fields and annotations (but the mirror-pod mark), node, host
/// network, priority class, phase, addresses, start time, when the network came up.
pub fn prune_pod(pod: &mut Pod) {
    /// Set by the kubelet on the API object of a static pod.
    const MIRROR: &str = "kubernetes.io/config.mirror";
    prune_metadata(pod);
    pod.annotations_mut().retain(|key, _| key == MIRROR);
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        node_name: spec.node_name,
        host_network: spec.host_network,
        priority_class_name: spec.priority_class_name,
        ..PodSpec::default()
    });
    pod.status = pod.status.take().map(|status| PodStatus {
        phase: status.phase,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        start_time: status.start_time,
        qos_class: status.qos_class,
        conditions: status.conditions.map(|mut conditions| {
            conditions.retain(|condition| condition.type_ == "PodReadyToStartContainers");
            conditions
        }),
        ..PodStatus::default()
    });
}

/// Takes away what nobody looks at: who wrote which field, which is the largest part of a small object, and the copy that
/// `kubectl apply` keeps.
pub fn prune_metadata<K: Resource<DynamicType = ()>>(object: &mut K) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// Keeps of a ResourceQuota everything but the fields of other writers: of our own the keys are looked at.
pub fn prune_quota(quota: &mut ResourceQuota) {
    let is_ours = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        manager.starts_with(labels::FIELD_MANAGER_PREFIX)
    };
    let mut entries = std::mem::take(quota.managed_fields_mut());
    entries.retain(is_ours);
    prune_metadata(quota);
    quota.metadata.managed_fields = Some(entries);
}

/// Keeps of a Job what Yellowjack uses: everything but managed fields and the pods' spec.
pub fn prune_job(job: &mut Job) {
    prune_metadata(job);
    if let Some(spec) = &mut job.spec {
        spec.template.spec = None;
    }
}
