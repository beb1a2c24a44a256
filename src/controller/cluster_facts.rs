//! What every run rests on and no run owns: the cluster-wide standing deny, the facts about the
//! cluster, and whether the sources speak. Looked at every so often; runs are woken when one changes.

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

use super::Controller;
use super::agents::Agents;
use crate::api::labels;
use crate::cluster::{ApiError, Conflicts, FieldManager, read, shares_devices};
use crate::detect::Scopes;
use crate::guardrails::ClusterFacts;
use crate::guardrails::drift::cluster_policy_matches;
use crate::guardrails::network::{
    CLUSTER_POLICY_API_VERSION, CLUSTER_POLICY_KIND, standing_deny_cluster_policy,
};
use crate::limits;
use crate::observability::chain;
use crate::signals::health::{Certainty, SignalsVerdict};

/// How often the cluster's facts and the standing deny are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How often it is asked whether the sources speak.
const SIGNALS_EVERY: Duration = Duration::from_secs(2);

/// How often a node agent looks at the facts, for each node of the cluster; never more often and never more
/// seldom than that.
const AGENT_LOOK_PER_NODE: Duration = Duration::from_secs(2);
const AGENT_LOOK_MIN: Duration = Duration::from_mins(1);
const AGENT_LOOK_MAX: Duration = Duration::from_hours(2);

/// A node's name and addresses.
struct NodeFacts {
    name: String,
    addresses: Vec<IpAddr>,
}

/// What failed when it was looked at last, so that each streak is said once.
#[derive(Debug, Default)]
pub(super) struct Failing {
    deny: bool,
    facts: bool,
}

/// What the sources and the node agents do: how much is known, the controller's own, the agents'.
pub(super) type Standing = (Certainty, SignalsVerdict, Vec<(String, SignalsVerdict)>);

/// Why the cluster-wide deny is not known to stand.
#[derive(Debug, thiserror::Error)]
enum DenyError {
    /// The API server could not be asked, or did not take it.
    #[error("failed to make sure of the cluster-wide deny")]
    Api(#[source] ApiError),
    /// Somebody else's object has its name.
    #[error("unable to make the cluster-wide deny: a ClusterNetworkPolicy of its name is not ours")]
    NameConflict,
}

impl Controller {
    /// Keeps the cluster-wide deny and the facts, for ever.
    pub(super) async fn keep_surroundings(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look_around().await;
        }
    }

    /// Looks at the cluster-wide deny once, and makes it where it is missing and this process leads.
    /// Returns whether the API server said whatever there is to say.
    pub async fn look_at_deny(&self) -> bool {
        let mut failing = self.surroundings.lock().await;
        let result = self.make_sure_of_deny().await;
        let failure = result.as_ref().err().map(|error| chain(error));
        say_once(
            &mut failing.deny,
            failure,
            "The cluster-wide deny is not known to stand.",
        );
        let is_answered = !matches!(
            result,
            Err(DenyError::Api(
                ApiError::TimedOut(_) | ApiError::Transient(_)
            ))
        );
        // Without an answer the last observation is no observation any more.
        self.cluster_deny.observed(result.unwrap_or(false));
        is_answered
    }

    /// Looks at the cluster-wide deny and the facts once, and wakes the runs where they changed. Done before
    /// the first run is looked at as well: a guard that was made without the cluster's ranges would let more
    /// through, and 10,000 would be written twice.
    pub async fn look_around(&self) {
        let stood = self.cluster_deny.is_stored();
        self.look_at_deny().await;
        let changed = self.look_at_facts().await;
        if changed || stood != self.cluster_deny.is_stored() {
            self.wake_all();
        }
    }

    /// Looks at the facts once: the guards and detection go by them. Returns whether they changed.
    pub(super) async fn look_at_facts(&self) -> bool {
        let found = self.look_up_facts().await;
        let failure = found.as_ref().err().map(|error| chain(error));
        say_once(
            &mut self.surroundings.lock().await.facts,
            failure,
            "Failed to refresh the facts about the cluster.",
        );
        found.is_ok_and(|(facts, nodes)| {
            self.set_nodes(&nodes);
            self.set_facts(facts)
        })
    }

    /// Keeps the facts alone, as a node agent does, for ever. There is one agent per node, and each of
    /// them reads all nodes, so that it looks the more seldom the more there are.
    pub(super) async fn keep_facts(&self) {
        loop {
            let ranges = self.facts().node_cidrs.len();
            let per_node = AGENT_LOOK_PER_NODE * u32::try_from(ranges).unwrap_or(u32::MAX);
            tokio::time::sleep(per_node.clamp(AGENT_LOOK_MIN, AGENT_LOOK_MAX)).await;
            self.look_at_facts().await;
        }
    }

    /// Tells attribution which names and addresses are nodes'.
    fn set_nodes(&self, nodes: &[NodeFacts]) {
        let names = nodes.iter().map(|node| node.name.as_str());
        let addresses = nodes.iter().flat_map(|node| node.addresses.iter().copied());
        let mut index = self.index.write();
        index.set_nodes(names, addresses);
    }

    /// Wakes the runs when the sources fall silent or speak again, for ever.
    pub(super) async fn follow_signals(&self) {
        let mut last = self.listen();
        loop {
            tokio::time::sleep(SIGNALS_EVERY).await;
            let standing = self.listen();
            if last != standing {
                last = standing;
                self.wake_all();
            }
        }
    }

    /// Takes in what the node agents say, and tells what changes where something must be said anew.
    pub(super) fn listen(&self) -> Standing {
        let agents = Agents::of(self.stores.leases.state().iter().map(AsRef::as_ref));
        let of_agents = agents.standing(Timestamp::now());
        *self.agents.write() = Arc::new(agents);
        (self.certainty(), self.signals(), of_agents)
    }

    /// Whether the cluster serves ClusterNetworkPolicies and ours stands.
    async fn make_sure_of_deny(&self) -> Result<bool, DenyError> {
        let client = self.writer.client();
        let (group, version) = CLUSTER_POLICY_API_VERSION
            .split_once('/')
            .unwrap_or_default();
        let kind = GroupVersionKind::gvk(group, version, CLUSTER_POLICY_KIND);
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
        let wanted = standing_deny_cluster_policy();
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let stored = read(api.get_opt(labels::STANDING_DENY))
            .await
            .map_err(DenyError::Api)?;
        if let Some(stored) = &stored {
            let manager = stored.metadata.labels.as_ref();
            let manager = manager.and_then(|found| found.get(labels::MANAGED_BY));
            if manager.map(String::as_str) != Some(labels::MANAGED_BY_VALUE) {
                return Err(DenyError::NameConflict);
            }
            if stands(&wanted, stored) {
                return Ok(true);
            }
        }
        let Ok(object) = serde_json::from_value::<DynamicObject>(wanted.clone()) else {
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
        tracing::info!("Wrote the cluster-wide deny of quarantined pods.");
        Ok(stands(&wanted, &stored))
    }

    /// What was configured, and what the API server knows of nodes and services.
    async fn look_up_facts(&self) -> Result<(ClusterFacts, Vec<NodeFacts>), ApiError> {
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
            // Before Kubernetes 1.33 nobody tells; then the configured ranges stand alone.
            Err(ApiError::NotFound(_)) => {}
            Err(error) => return Err(error),
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

    /// Returns whether they are others than before.
    pub fn set_facts(&self, facts: ClusterFacts) -> bool {
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

    /// What the node agents said last.
    pub(super) fn agents(&self) -> Arc<Agents> {
        Arc::clone(&self.agents.read())
    }

    pub(super) fn certainty(&self) -> Certainty {
        self.signal_health
            .certainty(Instant::now(), self.signals_stale_after)
    }

    /// What the sources do, now.
    pub(super) fn signals(&self) -> SignalsVerdict {
        self.signal_health
            .verdict(Instant::now(), self.signals_stale_after)
    }
}

fn stands(wanted: &serde_json::Value, stored: &DynamicObject) -> bool {
    serde_json::to_value(stored).is_ok_and(|stored| cluster_policy_matches(wanted, &stored))
}

/// Pod ranges and addresses of a node. Names among the addresses are no addresses.
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

/// One line when it begins to fail and one when it works again.
fn say_once(failed: &mut bool, failure: Option<String>, what: &'static str) {
    match failure {
        Some(error) if !*failed => {
            *failed = true;
            tracing::warn!(error, "{what}");
        }
        None if *failed => {
            *failed = false;
            tracing::info!(about = what, "It works again.");
        }
        Some(_) | None => {}
    }
}
