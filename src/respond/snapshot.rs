//! Takes the snapshot that the plan decides from: reads stores and, where a store may lag too far, the
//! API server. Writes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{ListParams, ObjectMeta};
use kube::runtime::reflector::ObjectRef;

use super::in_flight::InFlightIsolations;
use super::plan::{
    Bounds, Breaker, BreakerLimits, CpuReduction, Deny, OtherIncident, OwnerControl, PodView,
    Snapshot, isolated_at,
};
use super::verify::proof::TrafficObservation;
use super::verify::{TrafficMonitor, from_agent};
use crate::api::{
    AgentRun, Incident, IncidentCondition, Observation, ResponseAction, ResponseScope, Verdict,
    condition_of, labels,
};
use crate::cluster::{ApiError, ClusterDeny, Owners, Pod, Reader, RunMembership, Stores};
use crate::guardrails::audit::{Protection, widening};
use crate::guardrails::ceiling::Effective;
use crate::guardrails::drift::network_policy_matches;
use crate::guardrails::network::standing_deny_network_policy;
use crate::limits;
use crate::model::{EventTime, PodKey};

/// Settings of the response for the whole cluster.
#[derive(Clone, Debug)]
pub(crate) struct ResponderSettings {
    /// Namespaces without automatic action.
    pub protected_namespaces: Vec<String>,
    /// The maximum number of pods in quarantine.
    pub quarantine_max: usize,
    /// The limits of the circuit breaker.
    pub breaker: BreakerLimits,
    /// How long a closed Incident is kept.
    pub incident_ttl: Duration,
}

/// The settings of a run within the ceilings of its policy.
pub(super) type RunSettings = Arc<dyn Fn(&AgentRun) -> Effective + Send + Sync>;

/// What this reconcile has written or read, and the stores may not show yet.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Quarantine labels by pod UID.
    pub labels: HashMap<String, Option<String>>,
    /// UIDs of pods that no longer exist.
    pub gone: HashSet<String>,
    /// Grace periods in seconds of deleted pods, by UID.
    pub deleted: HashMap<String, i64>,
    /// The owner, if it was read since it was last changed.
    pub owner: Option<OwnerControl>,
    /// How the CPU can be reduced, if that was read since it was last changed.
    pub cpu: Option<CpuReduction>,
    /// Names of other Incidents that no longer hold anything.
    pub closed_incidents: HashSet<String>,
}

/// Where a snapshot is taken from.
pub(super) struct SnapshotSources {
    pub stores: Stores,
    pub reader: Reader,
    pub membership: RunMembership,
    pub owners: Arc<Owners>,
    pub traffic: TrafficMonitor,
    pub cluster_deny: ClusterDeny,
    pub run_settings: RunSettings,
    pub settings: ResponderSettings,
    pub in_flight: InFlightIsolations,
}

impl SnapshotSources {
    /// The current state of an Incident and its surroundings.
    pub(super) async fn snapshot(
        &self,
        incident: Incident,
        pending: &PendingWrites,
    ) -> Result<Snapshot, ApiError> {
        let name = incident.name_any();
        let namespace = incident.namespace().unwrap_or_default();
        let run = self.run_of(&incident);
        let bounds = self.bounds_of(run.as_deref());
        let subject = subject_pod(&self.stores, &incident);
        let mut pods = self.pods_to_contain(&incident, &namespace, bounds);
        let mut labelled = self.labelled(&incident, &namespace, &name).await?;
        for pod in pods.iter_mut().chain(&mut labelled) {
            if let Some(label) = pending.labels.get(&pod.uid) {
                pod.quarantine.clone_from(label);
            }
            if let Some(grace_s) = pending.deleted.get(&pod.uid) {
                pod.grace_s = Some(pod.grace_s.map_or(*grace_s, |now| now.min(*grace_s)));
            }
        }
        let has_label = |pod: &PodView| pod.quarantine.as_deref() == Some(&name);
        pods.retain(|pod| !pending.gone.contains(&pod.uid));
        labelled.retain(|pod| !pending.gone.contains(&pod.uid) && has_label(pod));
        let newly_labelled = pods.iter().filter(|pod| has_label(pod));
        let missing: Vec<_> = newly_labelled
            .filter(|pod| labelled.iter().all(|l| l.uid != pod.uid))
            .cloned()
            .collect();
        labelled.extend(missing);
        let now = Timestamp::now();
        Ok(Snapshot {
            now,
            bounds,
            protected: self.protection(&namespace, subject.as_deref()),
            owner: pending.owner.clone().unwrap_or(OwnerControl::Unread),
            cpu: pending.cpu.clone(),
            deny: self.deny(&namespace, subject.as_deref(), &name),
            breaker: self.breaker(now),
            quarantined_elsewhere: self.quarantined_elsewhere(&name),
            quarantine_max: self.settings.quarantine_max,
            traffic: self.traffic_of(&incident, &pods),
            others: self.others(&incident, &namespace, pending),
            ttl: self.settings.incident_ttl,
            incident,
            pods,
            labelled,
        })
    }

    fn run_of(&self, incident: &Incident) -> Option<Arc<AgentRun>> {
        let reference = incident.spec.run.as_ref()?;
        let namespace = incident.namespace()?;
        let run = self
            .stores
            .runs
            .get(&ObjectRef::new(&reference.name).within(&namespace))?;
        (run.metadata.uid.as_deref() == Some(&reference.uid)).then_some(run)
    }

    /// The bounds of the run, or the built-in ones if the run was deleted: its Incidents outlive it.
    fn bounds_of(&self, run: Option<&AgentRun>) -> Bounds {
        let built_in = Bounds {
            max_action: ResponseAction::Suspend,
            scope: ResponseScope::Pod,
        };
        run.map_or(built_in, |run| {
            let effective = (self.run_settings)(run);
            Bounds {
                max_action: effective.max_action,
                scope: effective.scope,
            }
        })
    }

    fn pods_to_contain(
        &self,
        incident: &Incident,
        namespace: &str,
        bounds: Bounds,
    ) -> Vec<PodView> {
        let subject = subject_pod(&self.stores, incident);
        let run = incident.spec.run.as_ref();
        let (ResponseScope::Run, Some(run)) = (bounds.scope, run) else {
            return subject.iter().map(|pod| stored_view(pod)).collect();
        };
        let of_run = self.membership.pods_of(&run.uid);
        let chosen = |pod: &Pod| {
            let uid = pod.metadata.uid.as_ref();
            uid.is_some_and(|uid| of_run.contains(uid) || *uid == incident.spec.subject.uid)
        };
        self.stores
            .pods
            .within_where(namespace, chosen)
            .iter()
            .map(|pod| stored_view(pod))
            .collect()
    }

    /// The pods with this Incident's label. Before something is undone they are listed from the API
    /// server: a lagging store must not leave a pod in quarantine without an open Incident.
    async fn labelled(
        &self,
        incident: &Incident,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<PodView>, ApiError> {
        let is_undone = matches!(
            incident.verdict(),
            Some(Verdict::Release | Verdict::Terminate)
        );
        if incident.is_closed() || !is_undone {
            let has_label = |pod: &Pod| {
                let label = pod.labels().get(labels::QUARANTINE);
                label.is_some_and(|value| value == name)
            };
            let pods = self.stores.pods.within_where(namespace, has_label);
            return Ok(pods.iter().map(|pod| stored_view(pod)).collect());
        }
        let params = ListParams::default().labels(&format!("{}={name}", labels::QUARANTINE));
        let pods = self.reader.list_metadata::<Pod>(namespace, &params).await?;
        // The metadata does not contain the node, which only the verification of a containment needs.
        let view = |pod: &kube::api::PartialObjectMeta<Pod>| pod_view(&pod.metadata, None);
        Ok(pods.items.iter().map(view).collect())
    }

    fn protection(&self, namespace: &str, pod: Option<&Pod>) -> Option<String> {
        /// Set by the kubelet on the API object of a static pod.
        const MIRROR: &str = "kubernetes.io/config.mirror";
        let mut protected = self.settings.protected_namespaces.iter();
        if protected.any(|protected| protected == namespace) {
            return Some(format!(
                "namespace {namespace} is protected from automatic action"
            ));
        }
        let pod = pod?;
        if pod.annotations().contains_key(MIRROR) {
            return Some("a static pod belongs to its node and cannot be contained".to_owned());
        }
        let on_host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        on_host_network
            .then(|| "network policies do not apply to a pod on the host network".to_owned())
    }

    fn deny(&self, namespace: &str, pod: Option<&Pod>, incident: &str) -> Deny {
        let cluster_deny = self.cluster_deny.is_stored();
        let desired = standing_deny_network_policy(namespace);
        let key = ObjectRef::<NetworkPolicy>::new(labels::STANDING_DENY).within(namespace);
        let stored = self.stores.network_policies.get(&key);
        let is_stored = stored.is_some_and(|stored| network_policy_matches(&desired, &stored));
        let mut widened_by = Vec::new();
        if let Some(pod) = pod {
            let mut pod_labels: BTreeMap<String, String> = pod.labels().clone();
            pod_labels.insert(labels::QUARANTINE.to_owned(), incident.to_owned());
            let policies = self.stores.network_policies.within(namespace);
            let protection = Protection::Quarantined { cluster_deny };
            widened_by = widening(&pod_labels, policies.iter().map(AsRef::as_ref), protection);
            widened_by.truncate(limits::WIDENED_BY_MAX);
        }
        Deny {
            is_stored,
            widened_by,
        }
    }

    fn breaker(&self, now: Timestamp) -> Breaker {
        let incidents = self.stores.incidents.state();
        let mut latest: HashMap<&str, Timestamp> = HashMap::new();
        let counts = |incident: &&Arc<Incident>| {
            let is_elsewhere = |pod: Arc<Pod>| node_of(&pod) != incident.spec.subject.node.as_ref();
            incident.is_actionable()
                && !subject_pod(&self.stores, incident).is_some_and(is_elsewhere)
        };
        for incident in incidents.iter().filter(counts) {
            if let Some(time) = incident.metadata.creation_timestamp.as_ref() {
                let known = latest.entry(&incident.spec.subject.uid).or_insert(time.0);
                *known = (*known).max(time.0);
            }
        }
        let pod_count = self.membership.pod_count();
        Breaker::at(now, latest.into_values(), pod_count, self.settings.breaker)
    }

    /// How many pods other Incidents hold in quarantine, or are about to.
    fn quarantined_elsewhere(&self, incident: &str) -> usize {
        let elsewhere = |pod: &Pod| {
            let label = pod.labels().get(labels::QUARANTINE);
            label.is_some_and(|value| value != incident)
        };
        let stored = self.stores.pods.state_filter(elsewhere);
        let stored: HashSet<String> = stored.iter().filter_map(|pod| pod.uid()).collect();
        let in_flight = self.in_flight.count(incident, &stored, Instant::now());
        stored.len() + in_flight
    }

    /// What the logs show of all pods of the Incident together.
    fn traffic_of(&self, incident: &Incident, pods: &[PodView]) -> Option<TrafficObservation> {
        let isolated = EventTime::from(isolated_at(incident)?);
        let observe = |pod: &PodView| {
            let (key, node) = (PodKey::from(pod.uid.as_str()), pod.node.as_deref());
            self.traffic.observe(&key, node, isolated, Instant::now())
        };
        let observed = pods.iter().filter_map(observe);
        let own = observed.reduce(TrafficObservation::merge_pods);
        // An agent's observation of an earlier isolation does not count.
        let is_current =
            |observation: &&Observation| EventTime::from(observation.since.0) >= isolated;
        let now = Timestamp::now();
        let observations = incident.spec.observations.iter().filter(is_current);
        let of_agents = observations.map(|observation| from_agent(observation, now));
        let of_agents = of_agents.reduce(TrafficObservation::merge_pods);
        // A controller without sources observes nothing; with sources, both have to agree.
        let own_with_records = own.filter(|own| own.log_time > EventTime::MIN);
        match (own_with_records, of_agents) {
            (Some(own), Some(agents)) => Some(own.merge_sources(agents)),
            (None, Some(agents)) => Some(agents),
            (_, None) => own,
        }
    }

    fn others(
        &self,
        incident: &Incident,
        namespace: &str,
        pending: &PendingWrites,
    ) -> Vec<OtherIncident> {
        let is_other = |other: &Incident| {
            other.metadata.uid != incident.metadata.uid
                && other.is_actionable()
                && may_hold(other)
                && !pending.closed_incidents.contains(&other.name_any())
        };
        let others = self.stores.incidents.within_where(namespace, is_other);
        others.iter().map(|other| self.other(other)).collect()
    }

    fn other(&self, other: &Incident) -> OtherIncident {
        let subject = &other.spec.subject.uid;
        let mut pod_uids = Vec::new();
        if other.is_contained() {
            pod_uids.push(subject.clone());
            let bounds = self.bounds_of(self.run_of(other).as_deref());
            if let (ResponseScope::Run, Some(run)) = (bounds.scope, &other.spec.run) {
                pod_uids.extend(self.membership.pods_of(&run.uid));
            }
        }
        let pod = subject_pod(&self.stores, other);
        let chain = self.owners.chain_of(subject);
        OtherIncident {
            name: other.name_any(),
            pod_uids,
            run_uid: other.spec.run.as_ref().map(|run| run.uid.clone()),
            pod_is_gone: pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()),
            owners: chain.map(|chain| chain.links.into_iter().map(|link| link.uid).collect()),
            restore: other.restore().to_vec(),
        }
    }
}

/// The pod that an Incident is about, if it is in the store.
pub(super) fn subject_pod(stores: &Stores, incident: &Incident) -> Option<Arc<Pod>> {
    let subject = &incident.spec.subject;
    let key = ObjectRef::new(&subject.name).within(incident.metadata.namespace.as_deref()?);
    let pod = stores.pods.get(&key)?;
    (pod.metadata.uid.as_deref() == Some(&subject.uid)).then_some(pod)
}

/// Whether an Incident is open, and has recorded fields to restore, contains a pod, or may do so soon.
pub(super) fn may_hold(incident: &Incident) -> bool {
    let contained = condition_of(incident.conditions(), IncidentCondition::Contained.name());
    incident.verdict() != Some(Verdict::Release)
        && !incident.is_closed()
        && (!incident.restore().is_empty() || contained.is_none_or(|known| known.status == "True"))
}

fn stored_view(pod: &Pod) -> PodView {
    pod_view(&pod.metadata, node_of(pod).cloned())
}

fn node_of(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref()?.node_name.as_ref()
}

fn pod_view(pod: &ObjectMeta, node: Option<String>) -> PodView {
    let own = pod.labels.as_ref();
    let is_deleted = pod.deletion_timestamp.is_some();
    PodView {
        name: pod.name.clone().unwrap_or_default(),
        uid: pod.uid.clone().unwrap_or_default(),
        node,
        quarantine: own.and_then(|all| all.get(labels::QUARANTINE).cloned()),
        grace_s: is_deleted.then(|| pod.deletion_grace_period_seconds.unwrap_or(0)),
    }
}
