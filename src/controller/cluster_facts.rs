//! What all runs depend on and none owns: the cluster-wide deny policy, the facts about the cluster, and the state of
//! the signal sources. Refreshed periodically; a change queues the runs for reconciliation.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};

use super::agents::AgentReports;
use super::{Controller, Role};
use crate::api::labels;
use crate::cluster::{ApiError, Conflicts, FieldManager, StoredDenies, read, shares_devices};
use crate::detect::Scopes;
use crate::guardrails::ClusterFacts;
use crate::guardrails::cilium::standing_deny_cilium_policy;
use crate::guardrails::drift::cluster_policy_matches;
use crate::guardrails::network::standing_deny_cluster_policy;
use crate::limits;
use crate::observability::chain;
use crate::signals::health::{Certainty, SignalsVerdict};

/// Interval between two refreshes of the facts and the cluster-wide deny policy.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Interval between two checks of the signal sources.
const SIGNALS_INTERVAL: Duration = Duration::from_secs(2);

/// Interval between two refreshes by a node agent, per node of the cluster, and its bounds.
const AGENT_REFRESH_PER_NODE: Duration = Duration::from_secs(2);
const AGENT_REFRESH_MIN: Duration = Duration::from_mins(1);
const AGENT_REFRESH_MAX: Duration = Duration::from_hours(2);

/// Name and addresses of a node.
struct NodeFacts {
    name: String,
    addresses: Vec<IpAddr>,
}

/// Whether the last refresh failed, so that each series of failures is logged once.
#[derive(Debug, Default)]
pub(super) struct RefreshFailures {
    deny: bool,
    facts: bool,
}

/// State of the signal sources: how certain it is, the verdict on the controller's own sources, and those of the
/// agents.
pub(super) type SignalStatus = (Certainty, SignalsVerdict, Vec<(String, SignalsVerdict)>);

/// Why the cluster-wide deny policy is not known to be in place.
#[derive(Debug, thiserror::Error)]
enum DenyError {
    /// The API server could not be reached, or refused a request.
    #[error("failed to reconcile the cluster-wide deny policy")]
    Api(#[source] ApiError),
    /// An object of another owner has its name.
    #[error(
        "unable to create the cluster-wide deny policy: the {0} yellowjack-quarantine has another owner"
    )]
    NameConflict(String),
}

impl Controller {
    /// Refreshes the cluster-wide deny policy and the facts periodically. Never returns.
    pub(super) async fn refresh_periodically(&self) {
        loop {
            tokio::time::sleep(REFRESH_INTERVAL).await;
            self.refresh().await;
        }
    }

    /// Refreshes the cluster-wide deny policy once, and creates it if it is missing and this process leads. Returns
    /// whether the API server gave a definite answer.
    pub(crate) async fn refresh_cluster_deny(&self) -> bool {
        let mut failing = self.refresh_failures.lock().await;
        let (stored, failure) = self.ensure_cluster_denies().await;
        let is_unanswered = matches!(
            &failure,
            Some(DenyError::Api(
                ApiError::TimedOut(_) | ApiError::Transient(_)
            ))
        );
        let failure = failure.as_ref().map(|error| chain(error));
        log_transition(&mut failing.deny, failure, "cluster-wide deny policy");
        // Without an answer the last observation is no longer valid.
        self.cluster_deny.observed(stored);
        !is_unanswered
    }

    /// Refreshes the cluster-wide deny policy and the facts once, and queues the runs if one of them changed. Also
    /// called before the first run is reconciled: policies that were created without the cluster's ranges would allow
    /// more, and 10,000 of them would be written twice.
    pub(crate) async fn refresh(&self) {
        let was_stored = self.cluster_deny.stored();
        self.refresh_cluster_deny().await;
        let changed = self.refresh_facts().await;
        if changed || was_stored != self.cluster_deny.stored() {
            self.enqueue_all();
        }
    }

    /// Refreshes the facts once; policies and detection depend on them. Returns whether they changed.
    pub(super) async fn refresh_facts(&self) -> bool {
        let found = self.read_facts().await;
        let failure = found.as_ref().err().map(|error| chain(error));
        log_transition(
            &mut self.refresh_failures.lock().await.facts,
            failure,
            "facts about the cluster",
        );
        found.is_ok_and(|(facts, nodes)| {
            self.set_nodes(&nodes);
            self.set_facts(facts)
        })
    }

    /// Refreshes only the facts, as a node agent does. Never returns. There is one agent per node and each reads all
    /// nodes, so the interval grows with the number of nodes.
    pub(super) async fn refresh_facts_periodically(&self) {
        loop {
            let ranges = self.facts().node_cidrs.len();
            let per_node = AGENT_REFRESH_PER_NODE * u32::try_from(ranges).unwrap_or(u32::MAX);
            tokio::time::sleep(per_node.clamp(AGENT_REFRESH_MIN, AGENT_REFRESH_MAX)).await;
            self.refresh_facts().await;
        }
    }

    /// Passes the names and addresses of the nodes to attribution.
    fn set_nodes(&self, nodes: &[NodeFacts]) {
        let names = nodes.iter().map(|node| node.name.as_str());
        let addresses = nodes.iter().flat_map(|node| node.addresses.iter().copied());
        let mut index = self.index.write();
        index.set_nodes(names, addresses);
    }

    /// Queues the runs when the state of the signal sources changes. Never returns.
    pub(super) async fn watch_signal_status(&self) {
        let mut last = self.read_signal_status();
        loop {
            tokio::time::sleep(SIGNALS_INTERVAL).await;
            let status = self.read_signal_status();
            if last != status {
                last = status;
                self.enqueue_all();
            }
        }
    }

    /// Reads the reports of the node agents; returns everything that affects the SignalsFresh conditions.
    pub(super) fn read_signal_status(&self) -> SignalStatus {
        let agents = AgentReports::of(self.stores.leases.state().iter().map(AsRef::as_ref));
        let of_agents = agents.verdicts(Timestamp::now());
        *self.agents.write() = Arc::new(agents);
        (self.certainty(), self.signals(), of_agents)
    }

    /// Which cluster-wide denies are stored, and the first failure.
    async fn ensure_cluster_denies(&self) -> (StoredDenies, Option<DenyError>) {
        let cluster_policy = self
            .ensure_cluster_deny(&standing_deny_cluster_policy())
            .await;
        let cilium = self
            .ensure_cluster_deny(&standing_deny_cilium_policy())
            .await;
        let stored = StoredDenies {
            cluster_network_policy: *cluster_policy.as_ref().unwrap_or(&false),
            cilium: *cilium.as_ref().unwrap_or(&false),
        };
        (stored, cluster_policy.err().or(cilium.err()))
    }

    /// Whether the cluster serves the kind of this policy and stores the policy. Creates or updates it if this process
    /// leads.
    async fn ensure_cluster_deny(&self, desired: &serde_json::Value) -> Result<bool, DenyError> {
        let client = self.writer.client();
        let text = |field: &str| desired[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or_default();
        let kind = GroupVersionKind::gvk(group, version, text("kind"));
        let served = read(async {
            match kube::discovery::pinned_kind(client, &kind).await {
                Ok((resource, _)) => Ok(Some(resource)),
                Err(kube::Error::Discovery(_)) => Ok(None),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
        .map_err(DenyError::Api)?;
        let Some(resource) = served else {
            return Ok(false);
        };
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let stored = read(api.get_opt(labels::STANDING_DENY))
            .await
            .map_err(DenyError::Api)?;
        if let Some(stored) = &stored {
            let manager = stored.metadata.labels.as_ref();
            let manager = manager.and_then(|found| found.get(labels::MANAGED_BY));
            if manager.map(String::as_str) != Some(labels::MANAGED_BY_VALUE) {
                return Err(DenyError::NameConflict(kind.kind));
            }
            if is_up_to_date(desired, stored) {
                return Ok(true);
            }
        }
        let Ok(object) = serde_json::from_value::<DynamicObject>(desired.clone()) else {
            return Ok(false);
        };
        if !self.writer.may_act() {
            return Ok(false);
        }
        let stored = self
            .writer
            .apply_dynamic(
                &FieldManager::controller(),
                &resource,
                labels::STANDING_DENY,
                &object,
                Conflicts::TakeOver,
            )
            .await
            .map_err(DenyError::Api)?;
        tracing::info!(
            kind = kind.kind,
            "Wrote the cluster-wide deny policy for quarantined pods."
        );
        Ok(is_up_to_date(desired, &stored))
    }

    /// Configured facts, plus the ranges of nodes and services that the API server stores.
    async fn read_facts(&self) -> Result<(ClusterFacts, Vec<NodeFacts>), ApiError> {
        let mut facts = (*self.configured_facts).clone();
        let mut known = Vec::new();
        let client = self.writer.client();
        let nodes: Api<Node> = Api::all(client.clone());
        let mut params = ListParams::default().limit(limits::NODES_PAGE);
        let mut sharing = Vec::new();
        loop {
            let page = read(nodes.list(&params)).await?;
            for node in &page.items {
                if known.len() < limits::NODES_MAX {
                    known.push(add_node(&mut facts, node));
                }
                let name = node.metadata.name.clone().filter(|_| shares_devices(node));
                sharing.extend(name.map(String::into_boxed_str));
            }
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => params = params.continue_token(&next),
                _ => break,
            }
        }
        self.index
            .write()
            .set_nodes_sharing_devices(sharing.into_iter());
        let services: Api<ServiceCIDR> = Api::all(client.clone());
        match read(services.list(&ListParams::default())).await {
            Ok(list) => {
                let specs = list.items.iter().filter_map(|item| item.spec.as_ref());
                let ranges = specs.flat_map(|spec| spec.cidrs.iter().flatten());
                facts
                    .service_cidrs
                    .extend(ranges.filter_map(|text| text.parse::<IpNet>().ok()));
            }
            // Before Kubernetes 1.33 there are no ServiceCIDRs; only the configured ranges apply.
            Err(ApiError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        if self.role == Role::Operator {
            let groups = read(client.list_api_groups()).await?;
            let served = groups.groups.iter().map(|group| group.name.as_str());
            facts.unread_policy_kinds = unread_policy_kinds(served);
            self.read_cilium_policies(&mut facts).await;
        }
        for ranges in [
            &mut facts.pod_cidrs,
            &mut facts.service_cidrs,
            &mut facts.node_cidrs,
        ] {
            *ranges = IpNet::aggregate(ranges);
            ranges.sort();
        }
        Ok((facts, known))
    }

    /// Replaces the facts. Returns whether they changed.
    pub(crate) fn set_facts(&self, facts: ClusterFacts) -> bool {
        let mut held = self.facts.write();
        if **held == facts {
            return false;
        }
        let cluster = facts.pod_cidrs.iter().chain(&facts.service_cidrs);
        let scopes = Scopes::new(cluster, &facts.node_cidrs);
        self.scopes.send_replace(scopes);
        *held = Arc::new(facts);
        true
    }

    /// Last reports of the node agents.
    pub(super) fn agents(&self) -> Arc<AgentReports> {
        Arc::clone(&self.agents.read())
    }

    /// How much is known about the sources.
    pub(super) fn certainty(&self) -> Certainty {
        self.signal_health
            .certainty(Instant::now(), self.signals_stale_after)
    }

    /// Current verdict on the controller's own sources.
    pub(super) fn signals(&self) -> SignalsVerdict {
        self.signal_health
            .verdict(Instant::now(), self.signals_stale_after)
    }
}

/// Kinds of network policy that can allow what a NetworkPolicy does not, by API group: those of Cilium, Calico, Antrea and
/// OVN-Kubernetes, and the cluster-wide kinds of SIG Network.
const POLICY_KINDS: [(&str, &[&str]); 5] = [
    (
        "cilium.io",
        &["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"],
    ),
    (
        "crd.projectcalico.org",
        &["NetworkPolicy and GlobalNetworkPolicy of Calico"],
    ),
    (
        "projectcalico.org",
        &["NetworkPolicy and GlobalNetworkPolicy of Calico"],
    ),
    (
        "crd.antrea.io",
        &["NetworkPolicy and ClusterNetworkPolicy of Antrea"],
    ),
    (
        "policy.networking.k8s.io",
        &["ClusterNetworkPolicy", "AdminNetworkPolicy"],
    ),
];

/// The kinds of the groups that are served, each once.
fn unread_policy_kinds<'g>(served: impl Iterator<Item = &'g str>) -> Vec<&'static str> {
    let served: BTreeSet<&str> = served.collect();
    let groups = POLICY_KINDS
        .iter()
        .filter(|(group, _)| served.contains(group));
    let mut kinds: Vec<&str> = groups
        .flat_map(|(_, kinds)| kinds.iter().copied())
        .collect();
    kinds.dedup();
    kinds
}

fn is_up_to_date(desired: &serde_json::Value, stored: &DynamicObject) -> bool {
    serde_json::to_value(stored).is_ok_and(|stored| cluster_policy_matches(desired, &stored))
}

/// Adds the pod ranges and addresses of a node to the facts. Host names among the addresses are ignored.
fn add_node(facts: &mut ClusterFacts, node: &Node) -> NodeFacts {
    if let Some(spec) = &node.spec {
        let one = spec.pod_cidr.iter();
        let ranges: BTreeSet<&String> = one.chain(spec.pod_cidrs.iter().flatten()).collect();
        let ranges = ranges.into_iter().filter_map(|text| text.parse().ok());
        facts.pod_cidrs.extend::<Vec<IpNet>>(ranges.collect());
    }
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.filter_map(|address| address.address.parse::<IpAddr>().ok());
    let node = NodeFacts {
        name: node.name_any(),
        addresses: addresses.collect(),
    };
    facts
        .node_cidrs
        .extend(node.addresses.iter().copied().map(IpNet::from));
    node
}

/// Logs the first failure of a series of refreshes, and the recovery.
fn log_transition(failed: &mut bool, failure: Option<String>, subject: &'static str) {
    match failure {
        Some(error) if !*failed => {
            *failed = true;
            tracing::warn!(error, "Failed to refresh the {subject}; retrying.");
        }
        None if *failed => {
            *failed = false;
            tracing::info!("Refreshing the {subject} succeeds again.");
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_policy_that_are_served_and_not_read_are_named_once() {
        let of = |groups: &[&str]| unread_policy_kinds(groups.iter().copied());
        assert_eq!(of(&["apps", "networking.k8s.io"]), [""; 0]);
        let calico = of(&["projectcalico.org", "crd.projectcalico.org"]);
        assert_eq!(calico, ["NetworkPolicy and GlobalNetworkPolicy of Calico"]);
        let cilium = of(&["policy.networking.k8s.io", "cilium.io"]);
        assert_eq!(cilium.len(), 4);
    }
}
