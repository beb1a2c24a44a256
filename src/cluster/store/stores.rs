//! What the cluster looks like: one store per kind, pruned to what is used.
//!
//! Stores are filled by `watch::follow` and read by everybody. They may lag; whoever acts on one
//! makes the write conditional (UID or resource version).

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use kube::runtime::reflector;
use tokio::sync::OnceCell;

use super::indexed::{Store, StoreWriter};
use super::pod::Pod;
use crate::api::{AgentRun, ContactReport, GuardrailPolicy, Incident};
use crate::limits;

/// One store per kind.
#[derive(Clone)]
pub struct Stores {
    /// AgentRuns.
    pub runs: Store<AgentRun>,
    /// GuardrailPolicies.
    pub policies: Store<GuardrailPolicy>,
    /// Incidents.
    pub incidents: Store<Incident>,
    /// Pods that have not ended.
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
    /// ContactReports, at most [`limits::CONTACT_REPORTS_MAX`].
    pub contact_reports: Store<ContactReport>,
    ready: Arc<OnceCell<bool>>,
}

/// The writing ends of [`Stores`], each for its watch.
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
    /// ContactReports.
    pub contact_reports: StoreWriter<ContactReport>,
}

impl Default for StoreWriters {
    fn default() -> Self {
        Self {
            runs: StoreWriter::default(),
            policies: StoreWriter::default(),
            incidents: StoreWriter::default(),
            pods: StoreWriter::default(),
            network_policies: StoreWriter::default(),
            jobs: StoreWriter::default(),
            quotas: StoreWriter::default(),
            limit_ranges: StoreWriter::default(),
            leases: StoreWriter::default(),
            contact_reports: StoreWriter::bounded(limits::CONTACT_REPORTS_MAX),
        }
    }
}

impl StoreWriters {
    /// Leaves the stores empty that a node agent does not look into, and lets nobody wait for them.
    pub fn leave_empty_for_node(&mut self) {
        fill_with_nothing(&mut self.network_policies);
        fill_with_nothing(&mut self.quotas);
        fill_with_nothing(&mut self.limit_ranges);
        fill_with_nothing(&mut self.leases);
    }

    /// Marks every store as filled once, empty. It names each field, so that a new store cannot be left out.
    #[cfg(test)]
    pub(crate) fn fill_all_with_nothing(&mut self) {
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
        } = self;
        fill_with_nothing(runs);
        fill_with_nothing(policies);
        fill_with_nothing(incidents);
        fill_with_nothing(pods);
        fill_with_nothing(network_policies);
        fill_with_nothing(jobs);
        fill_with_nothing(quotas);
        fill_with_nothing(limit_ranges);
        fill_with_nothing(leases);
        fill_with_nothing(contact_reports);
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
            contact_reports: writers.contact_reports.as_reader(),
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
        self.leases.wait_until_ready().await?;
        self.contact_reports.wait_until_ready().await
    }
}
