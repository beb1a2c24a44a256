//! Takes the snapshot that the plan decides from: reads stores and, where a store may lag too far, the
//! API server. Writes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::api::{ListParams, ObjectMeta};
use kube::runtime::reflector::ObjectRef;

use super::deletions::{Deletions, controller_of, created_s, deleted_at};
use super::in_flight::InFlightIsolations;
use super::plan::{
    BREAKER_WINDOW, Bounds, Breaker, BreakerLimits, CpuReduction, Crossing, Deny, OtherIncident,
    OwnerControl, PodView, Quarantines, Snapshot, isolated_at,
};
use super::verify::proof::TrafficObservation;
use super::verify::{TrafficMonitor, from_agent};
use crate::api::{
    AgentRun, Incident, IncidentCondition, ObjectTarget, Observation, Replacement, ResponseAction,
    ResponseScope, Verdict, condition_of, labels,
};
use crate::cluster::{ApiError, ClusterDeny, IndexKey, Owners, Pod, Reader, RunMembership, Stores};
use crate::guardrails::audit::{Protection, widening};
use crate::guardrails::ceiling::Effective;
use crate::guardrails::cilium::IdentityLabels;
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
    /// The maximum number of pods in quarantine in one namespace.
    pub namespace_quarantine_max: usize,
    /// The limits of the circuit breaker.
    pub breaker: BreakerLimits,
    /// How long a closed Incident is kept.
    pub incident_ttl: Duration,
    /// How long an alert about a pod that no longer exists stays open.
    pub alert_ttl: Duration,
}

/// The settings of a run within the ceilings of its policy.
pub(crate) type RunSettings = Arc<dyn Fn(&AgentRun) -> Effective + Send + Sync>;

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
    /// The security identities of pods by UID, if they were read.
    pub identities: Option<HashMap<String, IdentityLabels>>,
    /// Whether the policy of the Incident on Cilium could not be stored.
    pub interim_deny_failed: bool,
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
    pub deletions: Deletions,
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
        let replacement = (bounds.scope == ResponseScope::Pod)
            .then(|| self.replacement(&incident, subject.as_deref(), &namespace, &name))
            .flatten();
        let replacing = replacement
            .as_ref()
            .and_then(|replacement| self.replacing_pod(replacement, bounds, &namespace, &name));
        if let Some(pod) = &replacing
            && pods
                .iter()
                .all(|known| Some(&known.uid) != pod.metadata.uid.as_ref())
        {
            pods.push(stored_view(pod));
        }
        let judged: Vec<&Pod> = subject
            .iter()
            .chain(&replacing)
            .map(AsRef::as_ref)
            .collect();
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
            deny: self.deny(&namespace, &judged, &name),
            identities: self.identities(&namespace, &pods, pending),
            interim_deny_failed: pending.interim_deny_failed,
            breaker: self.breaker(now, &incident, &namespace, &pods),
            quarantines: self.quarantines(&namespace, &name),
            traffic: self.traffic_of(&incident, &pods),
            others: self.others(&incident, &namespace, pending),
            ttl: self.settings.incident_ttl,
            alert_ttl: self.settings.alert_ttl,
            replacement,
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

    /// Which pod takes the place of the isolated one, as far as it is known. `None` before the isolation, and for a pod
    /// without a controller.
    fn replacement(
        &self,
        incident: &Incident,
        subject: Option<&Pod>,
        namespace: &str,
        name: &str,
    ) -> Option<Replacement> {
        let isolated = isolated_at(incident)?;
        let known = incident.status.as_ref()?.replacement.as_ref();
        let controller = known
            .map(|known| known.controller.clone())
            .or_else(|| controller_target(subject?))?;
        let held = self.held_by(namespace, name);
        let deleted = held
            .iter()
            .filter_map(|pod| deleted_at(&pod.metadata))
            .max();
        let known = known.and_then(|known| known.not_before.as_ref());
        let incident = ObjectRef::new(name).within(namespace);
        let seen = deleted.max(self.deletions.latest(&incident).map(|d| d.not_before));
        let not_before = seen.max(known.map(|time| time.0)).or_else(|| {
            // Deleted while no controller ran.
            let recently = Timestamp::now()
                .checked_sub(limits::UNSEEN_DELETION_MAX)
                .ok();
            (subject.is_none() && held.is_empty()).then_some(recently.max(Some(isolated)))?
        });
        Some(Replacement {
            controller,
            not_before: not_before.map(MicroTime),
        })
    }

    /// The pods of the store that this Incident holds in quarantine.
    fn held_by(&self, namespace: &str, incident: &str) -> Vec<Arc<Pod>> {
        let in_quarantine = IndexKey::QuarantinedIn(namespace.to_owned());
        let mut pods = self.stores.pods.with_key(&in_quarantine);
        pods.retain(|pod| {
            let label = pod.labels().get(labels::QUARANTINE);
            label.is_some_and(|value| value == incident)
        });
        pods
    }

    /// The pod that takes the place of the isolated one: the first that the controller has made since, if it is in the quarantine
    /// of no other Incident. Only one that is held already where the run does not allow an isolation any more.
    fn replacing_pod(
        &self,
        replacement: &Replacement,
        bounds: Bounds,
        namespace: &str,
        incident: &str,
    ) -> Option<Arc<Pod>> {
        let not_before = replacement.not_before.as_ref()?.0.as_second();
        let key = ObjectRef::new(incident).within(namespace);
        let present = self.deletions.latest(&key).map(|deletion| deletion.present);
        let present = present.unwrap_or_default();
        let is_present = |pod: &Pod| {
            pod.metadata
                .uid
                .as_ref()
                .is_some_and(|uid| present.contains(uid))
        };
        let is_made_since = |pod: &Pod| {
            let controller = controller_of(pod);
            controller.is_some_and(|controller| controller.uid == replacement.controller.uid)
                && created_s(pod) >= not_before
                && !is_present(pod)
                && pod.metadata.deletion_timestamp.is_none()
        };
        let made = self.stores.pods.within_where(namespace, is_made_since);
        let is_free = |pod: &&Arc<Pod>| {
            let label = pod.labels().get(labels::QUARANTINE);
            label.map_or(bounds.max_action >= ResponseAction::Isolate, |label| {
                label == incident
            })
        };
        let is_held = |pod: &&Arc<Pod>| pod.labels().contains_key(labels::QUARANTINE);
        let mut free: Vec<&Arc<Pod>> = made.iter().filter(is_free).collect();
        // One that this Incident holds already is the one.
        free.sort_by_key(|pod| (!is_held(pod), created_s(pod), pod.name_any()));
        free.first().map(|pod| Arc::clone(pod))
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
            let pods = self.held_by(namespace, name);
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

    /// The standing deny, and what widens it for any of these pods.
    fn deny(&self, namespace: &str, pods: &[&Pod], incident: &str) -> Deny {
        let cluster_deny = self.cluster_deny.is_stored();
        let desired = standing_deny_network_policy(namespace);
        let key = ObjectRef::<NetworkPolicy>::new(labels::STANDING_DENY).within(namespace);
        let stored = self.stores.network_policies.get(&key);
        let is_stored = stored.is_some_and(|stored| network_policy_matches(&desired, &stored));
        let widening_with = |cluster_deny: bool| {
            let mut names = Vec::new();
            for pod in pods {
                let mut pod_labels: BTreeMap<String, String> = pod.labels().clone();
                pod_labels.insert(labels::QUARANTINE.to_owned(), incident.to_owned());
                let policies = self.stores.network_policies.within(namespace);
                let protection = Protection::Quarantined { cluster_deny };
                let policies = policies.iter().map(AsRef::as_ref);
                names.extend(widening(&pod_labels, policies, protection));
            }
            names.sort();
            names.dedup();
            names.truncate(limits::WIDENED_BY_MAX);
            names
        };
        let widened_by = widening_with(cluster_deny);
        let mut overridden = Vec::new();
        if cluster_deny {
            overridden = widening_with(false);
            overridden.retain(|name| !widened_by.contains(name));
        }
        Deny {
            is_stored,
            widened_by,
            overridden,
        }
    }

    /// The circuit breaker of the Incident's namespace. Closed, without a count, for one that it cannot hold back: the count
    /// reads all Incidents of the window, which is too much for each of many Incidents without a pod.
    fn breaker(
        &self,
        now: Timestamp,
        incident: &Incident,
        namespace: &str,
        pods: &[PodView],
    ) -> Breaker {
        if pods.is_empty() || !incident.is_actionable() || isolated_at(incident).is_some() {
            return Breaker::default();
        }
        let crossed = self.crossed_pods(now);
        let crossings = crossed.iter().flat_map(|(namespace, pods)| {
            let times = pods.values();
            times.map(|time| Crossing {
                namespace,
                time: *time,
            })
        });
        let pod_count = self.membership.pod_count();
        Breaker::at(now, namespace, crossings, pod_count, self.settings.breaker)
    }

    /// When pods last crossed the threshold, by namespace and UID: at most [`limits::BREAKER_CROSSINGS_MAX`] of a
    /// namespace, which is more than any breaker lets pass.
    fn crossed_pods(&self, now: Timestamp) -> HashMap<String, HashMap<String, Timestamp>> {
        let is_of_another_node = |incident: &Incident| {
            let is_elsewhere = |pod: Arc<Pod>| node_of(&pod) != incident.spec.subject.node.as_ref();
            subject_pod(&self.stores, incident).is_some_and(is_elsewhere)
        };
        let begin = now.checked_sub(BREAKER_WINDOW).unwrap_or(Timestamp::MIN);
        // The clock of the API server, which sets the time of creation, may be ahead.
        let end = now.checked_add(BREAKER_WINDOW).unwrap_or(Timestamp::MAX);
        let mut crossed: HashMap<String, HashMap<String, Timestamp>> = HashMap::new();
        for key in IndexKey::crossed_between(begin, end) {
            for incident in self.stores.incidents.with_key(&key) {
                let Some(time) = incident.metadata.creation_timestamp.as_ref() else {
                    continue;
                };
                let pods = crossed
                    .entry(incident.namespace().unwrap_or_default())
                    .or_default();
                if pods.len() >= limits::BREAKER_CROSSINGS_MAX || is_of_another_node(&incident) {
                    continue;
                }
                let known = pods
                    .entry(incident.spec.subject.uid.clone())
                    .or_insert(time.0);
                *known = (*known).max(time.0);
            }
        }
        crossed
    }

    /// The pods that other Incidents hold in quarantine, or are about to.
    fn quarantines(&self, namespace: &str, incident: &str) -> Quarantines {
        let is_elsewhere = |pod: &Arc<Pod>| {
            let label = pod.labels().get(labels::QUARANTINE).map(String::as_str);
            let is_own = pod.namespace().as_deref() == Some(namespace) && label == Some(incident);
            // A pod that is being deleted is lost to its owner already, so it takes no place.
            !is_own && pod.metadata.deletion_timestamp.is_none()
        };
        let mut stored = self.stores.pods.with_key(&IndexKey::Quarantined);
        let known: HashSet<String> = stored.iter().filter_map(|pod| pod.uid()).collect();
        stored.retain(is_elsewhere);
        let of_namespace = |pod: &&Arc<Pod>| pod.namespace().as_deref() == Some(namespace);
        let stored_in_namespace = stored.iter().filter(of_namespace).count();
        let (in_flight, in_flight_in_namespace) =
            self.in_flight
                .count((namespace, incident), &known, Instant::now());
        Quarantines {
            elsewhere: stored.len() + in_flight,
            max: self.settings.quarantine_max,
            elsewhere_in_namespace: stored_in_namespace + in_flight_in_namespace,
            namespace_max: self.settings.namespace_quarantine_max,
        }
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
        let current = || incident.spec.observations.iter().filter(is_current);
        // Of the nodes of the pods, where they are known: the log of the node of a replaced pod shows nothing any more.
        let is_of_pods = |observation: &&Observation| {
            let mut nodes = pods.iter().filter_map(|pod| pod.node.as_ref());
            nodes.any(|node| *node == observation.node)
        };
        let has_own = current().any(|observation| is_of_pods(&observation));
        let observations = current().filter(|observation| !has_own || is_of_pods(observation));
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

    /// The other open Incidents that share pods or changed objects with this one: those of its run, and those that changed
    /// fields. Only a release and a suspension read them.
    fn others(
        &self,
        incident: &Incident,
        namespace: &str,
        pending: &PendingWrites,
    ) -> Vec<OtherIncident> {
        if incident.verdict().is_none() && isolated_at(incident).is_none() {
            return Vec::new();
        }
        let is_other = |other: &Arc<Incident>| {
            other.metadata.uid != incident.metadata.uid
                && other.is_actionable()
                && may_hold(other)
                && !pending.closed_incidents.contains(&other.name_any())
        };
        let incidents = &self.stores.incidents;
        let mut others = incidents.with_key(&IndexKey::ChangedFieldsIn(namespace.to_owned()));
        if let Some(run) = &incident.spec.run {
            others.extend(incidents.with_key(&IndexKey::Run(run.uid.clone())));
        }
        others.retain(is_other);
        others.sort_by_key(|other| other.name_any());
        others.dedup_by_key(|other| other.name_any());
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

fn controller_target(pod: &Pod) -> Option<ObjectTarget> {
    let owner = controller_of(pod)?;
    Some(ObjectTarget {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
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
