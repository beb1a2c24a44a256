//! What the cluster looks like: one store per kind, pruned to what is used.
//!
//! Stores are filled by `watch::follow` and read by everybody. They may lag; whoever acts on one
//! makes the write conditional (UID or resource version).

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{LimitRange, Pod, PodSpec, PodStatus, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use tokio::sync::OnceCell;

use crate::api::{AgentRun, GuardrailPolicy, Incident};

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
pub struct StoreWriters {
    /// AgentRuns.
    pub runs: reflector::store::Writer<AgentRun>,
    /// GuardrailPolicies.
    pub policies: reflector::store::Writer<GuardrailPolicy>,
    /// Incidents.
    pub incidents: reflector::store::Writer<Incident>,
    /// Pods.
    pub pods: reflector::store::Writer<Pod>,
    /// NetworkPolicies.
    pub network_policies: reflector::store::Writer<NetworkPolicy>,
    /// Jobs.
    pub jobs: reflector::store::Writer<Job>,
    /// ResourceQuotas.
    pub quotas: reflector::store::Writer<ResourceQuota>,
    /// LimitRanges.
    pub limit_ranges: reflector::store::Writer<LimitRange>,
    /// Leases.
    pub leases: reflector::store::Writer<Lease>,
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

fn fill_with_nothing<K>(writer: &mut reflector::store::Writer<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

impl Stores {
    /// Empty stores and their writing ends.
    #[must_use]
    pub fn new() -> (Self, StoreWriters) {
        let (runs, runs_writer) = reflector::store();
        let (policies, policies_writer) = reflector::store();
        let (incidents, incidents_writer) = reflector::store();
        let (pods, pods_writer) = reflector::store();
        let (network_policies, network_policies_writer) = reflector::store();
        let (jobs, jobs_writer) = reflector::store();
        let (quotas, quotas_writer) = reflector::store();
        let (limit_ranges, limit_ranges_writer) = reflector::store();
        let (leases, leases_writer) = reflector::store();
        let stores = Self {
            runs,
            policies,
            incidents,
            pods,
            network_policies,
            jobs,
            quotas,
            limit_ranges,
            leases,
            ready: Arc::default(),
        };
        let writers = StoreWriters {
            runs: runs_writer,
            policies: policies_writer,
            incidents: incidents_writer,
            pods: pods_writer,
            network_policies: network_policies_writer,
            jobs: jobs_writer,
            quotas: quotas_writer,
            limit_ranges: limit_ranges_writer,
            leases: leases_writer,
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
    pod.managed_fields_mut().clear();
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

/// Keeps an object as it is.
pub fn prune_nothing<K>(_: &mut K) {}

/// Keeps of a Job what Yellowjack uses: everything but managed fields and the pods' spec.
pub fn prune_job(job: &mut Job) {
    job.managed_fields_mut().clear();
    if let Some(spec) = &mut job.spec {
        spec.template.spec = None;
    }
}
