//! One store for each kind.
//!
//! `watch::follow` fills the stores. They may lag behind the API server, so a write that depends on a
//! stored object is conditional on its UID or resource version.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use kube::runtime::reflector;
use tokio::sync::OnceCell;

use super::index_key::{keys_of_incident, keys_of_pod};
use super::indexed::{Store, StoreWriter};
use super::pod::Pod;
use crate::api::{AgentRun, ContactReport, GuardrailPolicy, Incident};
use crate::limits;

/// One store for each kind.
#[derive(Clone)]
pub(crate) struct Stores {
    /// AgentRuns.
    pub runs: Store<AgentRun>,
    /// GuardrailPolicies.
    pub policies: Store<GuardrailPolicy>,
    /// Incidents.
    pub incidents: Store<Incident>,
    /// Pods that have not finished.
    pub pods: Store<Pod>,
    /// All NetworkPolicies: those of other owners are audited.
    pub network_policies: Store<NetworkPolicy>,
    /// Jobs, without their pod templates.
    pub jobs: Store<Job>,
    /// ResourceQuotas that Yellowjack created.
    pub quotas: Store<ResourceQuota>,
    /// LimitRanges that Yellowjack created.
    pub limit_ranges: Store<LimitRange>,
    /// Leases of node agents.
    pub leases: Store<Lease>,
    /// ContactReports, at most [`limits::CONTACT_REPORTS_MAX`].
    pub contact_reports: Store<ContactReport>,
    ready: Arc<OnceCell<bool>>,
}

/// The writers of [`Stores`], one for each watch.
pub(crate) struct StoreWriters {
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
    /// ContactReports.
    pub contact_reports: StoreWriter<ContactReport>,
    /// The list of pods that ended, for node agents. It has no reader: the agent uses the events of its watch, and works
    /// without them.
    pub ended_pods: StoreWriter<ConfigMap>,
}

impl Default for StoreWriters {
    fn default() -> Self {
        Self {
            runs: StoreWriter::default(),
            policies: StoreWriter::default(),
            incidents: StoreWriter::indexed(keys_of_incident),
            pods: StoreWriter::indexed(keys_of_pod),
            network_policies: StoreWriter::default(),
            jobs: StoreWriter::default(),
            quotas: StoreWriter::default(),
            limit_ranges: StoreWriter::default(),
            leases: StoreWriter::default(),
            contact_reports: StoreWriter::bounded(limits::CONTACT_REPORTS_MAX),
            ended_pods: StoreWriter::bounded(1),
        }
    }
}

impl StoreWriters {
    /// Marks the stores that a node agent does not use as filled, empty.
    pub(crate) fn leave_empty_for_node(&mut self) {
        fill_empty(&mut self.network_policies);
        fill_empty(&mut self.quotas);
        fill_empty(&mut self.limit_ranges);
        fill_empty(&mut self.leases);
    }

    /// Marks every store as filled, empty. Names each field, so that a new store cannot be left out.
    #[cfg(test)]
    pub(crate) fn fill_all_empty(&mut self) {
        let Self {
            runs,
            policies,
            incidents,
            pods,
            network_policies,
            jobs,
            quotas,
            limit_ranges,
            leases,
            contact_reports,
            ended_pods,
        } = self;
        fill_empty(runs);
        fill_empty(policies);
        fill_empty(incidents);
        fill_empty(pods);
        fill_empty(network_policies);
        fill_empty(jobs);
        fill_empty(quotas);
        fill_empty(limit_ranges);
        fill_empty(leases);
        fill_empty(contact_reports);
        fill_empty(ended_pods);
    }
}

fn fill_empty<K>(writer: &mut StoreWriter<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer.list_begins();
    writer.list_ends();
}

impl Stores {
    /// Empty stores and their writers.
    #[must_use]
    pub(crate) fn new() -> (Self, StoreWriters) {
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
            contact_reports: writers.contact_reports.as_reader(),
            ready: Arc::default(),
        };
        (stores, writers)
    }

    /// Waits until the first list of every store is complete; `false` if a watch ended before that. Until
    /// then a missing object does not mean that it does not exist.
    ///
    /// A store wakes only the last task that waits for it, so all tasks wait for one shared cell.
    pub(crate) async fn wait_until_ready(&self) -> bool {
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
        self.leases.wait_until_ready().await?;
        self.contact_reports.wait_until_ready().await
    }
}
