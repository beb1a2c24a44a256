//! The view: gathers from stores and the API server what the plan looks at. Writes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, ObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::plan::{
    Bounds, Breaker, Cpu, Deny, Lever, OtherIncident, PodView, Situation, isolated_at,
};
use super::responder::{RespondError, Responder, monotonic_now};
use super::verify::proof::Witnessed;
use super::verify::{together, told, worst};
use crate::api::{
    AgentRun, Incident, IncidentCondition, Observation, ResponseAction, ResponseScope, Verdict,
    condition_is, condition_of, labels,
};
use crate::cluster::{ApiError, Pod};
use crate::guardrails::audit::{Protection, widening};
use crate::guardrails::drift::network_policy_matches;
use crate::guardrails::network::standing_deny_network_policy;
use crate::limits;
use crate::model::{EventTime, PodKey, Severity};

/// What this reconcile has changed and the stores may not show yet.
#[derive(Debug, Default)]
pub struct Known {
    /// Quarantine labels by pod UID.
    pub labels: HashMap<String, Option<String>>,
    /// Pods that are gone, by UID.
    pub gone: HashSet<String>,
    /// Pods whose deletion was asked for, by UID, with their grace period in seconds.
    pub ending: HashMap<String, i64>,
    /// The owner, once it was looked at.
    pub lever: Option<Lever>,
    /// What CPU can be taken, once that was looked at.
    pub cpu: Option<Cpu>,
    /// Other Incidents that hold nothing any more, by name.
    pub let_go: HashSet<String>,
}

impl Responder {
    /// What there is to know about an Incident now.
    pub(super) async fn view<'a>(
        &self,
        incident: &'a Incident,
        known: &Known,
    ) -> Result<Situation<'a>, RespondError> {
        let name = incident.name_any();
        let namespace = incident.namespace().unwrap_or_default();
        let run = self.run_of(incident);
        let bounds = self.bounds_of(run.as_deref());
        let subject = self.subject(incident, &namespace);
        let mut pods = self.pods_to_contain(incident, &namespace, bounds);
        let mut labelled = self.labelled(incident, &namespace, &name).await?;
        for pod in pods.iter_mut().chain(&mut labelled) {
            if let Some(label) = known.labels.get(&pod.uid) {
                pod.quarantine.clone_from(label);
            }
            if let Some(grace_s) = known.ending.get(&pod.uid) {
                pod.grace_s = Some(pod.grace_s.map_or(*grace_s, |now| now.min(*grace_s)));
            }
        }
        pods.retain(|pod| !known.gone.contains(&pod.uid));
        labelled.retain(|pod| {
            !known.gone.contains(&pod.uid) && pod.quarantine.as_deref() == Some(&name)
        });
        let freshly = pods
            .iter()
            .filter(|pod| pod.quarantine.as_deref() == Some(&name));
        let missing: Vec<_> = freshly
            .filter(|pod| labelled.iter().all(|l| l.uid != pod.uid))
            .cloned()
            .collect();
        labelled.extend(missing);
        let now = Timestamp::now();
        Ok(Situation {
            incident,
            now,
            bounds,
            protected: self.protection(&namespace, subject.as_deref()),
            lever: known.lever.clone().unwrap_or(Lever::Unread),
            cpu: known.cpu.clone(),
            deny: self.deny(&namespace, subject.as_deref(), &name),
            breaker: self.breaker(now),
            quarantined_elsewhere: self.quarantined_elsewhere(&name),
            quarantine_max: self.settings.quarantine_max,
            witnessed: self.witnessed(incident, &pods),
            others: self.others(incident, &namespace, known),
            ttl: self.settings.incident_ttl,
            pods,
            labelled,
        })
    }

    fn run_of(&self, incident: &Incident) -> Option<std::sync::Arc<AgentRun>> {
        let reference = incident.spec.run.as_ref()?;
        let namespace = incident.namespace()?;
        let run = self
            .stores
            .runs
            .get(&ObjectRef::new(&reference.name).within(&namespace))?;
        (run.metadata.uid.as_deref() == Some(&reference.uid)).then_some(run)
    }

    /// The run's bounds. Where the run is gone, the built-in ones: its record outlives it.
    fn bounds_of(&self, run: Option<&AgentRun>) -> Bounds {
        let built_in = Bounds {
            max_action: ResponseAction::Suspend,
            scope: ResponseScope::Pod,
        };
        run.map_or(built_in, |run| {
            let effective = (self.settings_of)(run);
            Bounds {
                max_action: effective.max_action,
                scope: effective.scope,
            }
        })
    }

    pub(super) fn subject(
        &self,
        incident: &Incident,
        namespace: &str,
    ) -> Option<std::sync::Arc<Pod>> {
        let subject = &incident.spec.subject;
        let pod = self
            .stores
            .pods
            .get(&ObjectRef::new(&subject.name).within(namespace))?;
        (pod.metadata.uid.as_deref() == Some(&subject.uid)).then_some(pod)
    }

    fn pods_to_contain(
        &self,
        incident: &Incident,
        namespace: &str,
        bounds: Bounds,
    ) -> Vec<PodView> {
        let subject = self.subject(incident, namespace);
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

    /// The pods with this Incident's label. Where something is about to be undone the API server is
    /// asked: a store that lags must not leave a pod in quarantine with no open Incident.
    async fn labelled(
        &self,
        incident: &Incident,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<PodView>, RespondError> {
        let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
        let is_closed = condition_is(conditions, IncidentCondition::Closed.name());
        let verdict = incident
            .spec
            .disposition
            .as_ref()
            .map(|disposition| disposition.verdict);
        let is_undone = matches!(verdict, Some(Verdict::Release | Verdict::Terminate));
        if is_closed || !is_undone {
            let has_label = |pod: &Pod| {
                let label = pod.labels().get(labels::QUARANTINE);
                label.is_some_and(|value| value == name)
            };
            let pods = self.stores.pods.within_where(namespace, has_label);
            return Ok(pods.iter().map(|pod| stored_view(pod)).collect());
        }
        let api: Api<Pod> = Api::namespaced(self.writer.client().clone(), namespace);
        let params = ListParams::default().labels(&format!("{}={name}", labels::QUARANTINE));
        let limit = std::time::Duration::from_secs(limits::API_TIMEOUT_S);
        let pods = tokio::time::timeout(limit, api.list_metadata(&params))
            .await
            .map_err(|_| RespondError::Read(ApiError::TimedOut(limit)))?
            .map_err(|error| RespondError::Read(error.into()))?;
        Ok(pods
            .items
            .iter()
            // Where they run is not in the metadata; only contained pods are looked for in a log.
            .map(|pod| pod_view(&pod.metadata, None))
            .collect())
    }

    fn protection(&self, namespace: &str, pod: Option<&Pod>) -> Option<String> {
        /// Set by the kubelet on the API object of a static pod.
        const MIRROR: &str = "kubernetes.io/config.mirror";
        if self
            .settings
            .protected_namespaces
            .iter()
            .any(|protected| protected == namespace)
        {
            return Some(format!(
                "namespace {namespace} is protected from automatic action"
            ));
        }
        let pod = pod?;
        if pod.annotations().contains_key(MIRROR) {
            return Some("a static pod belongs to its node and cannot be contained".to_owned());
        }
        let on_host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        on_host_network.then(|| "no network policy holds a pod on the host's network".to_owned())
    }

    fn deny(&self, namespace: &str, pod: Option<&Pod>, incident: &str) -> Deny {
        let cluster_deny = self.cluster_deny.stands();
        let wanted = standing_deny_network_policy(namespace);
        let key = ObjectRef::<NetworkPolicy>::new(labels::STANDING_DENY).within(namespace);
        let stored = self.stores.network_policies.get(&key);
        let stands = stored.is_some_and(|stored| network_policy_matches(&wanted, &stored));
        let mut widened_by = Vec::new();
        if let Some(pod) = pod {
            let mut pod_labels: BTreeMap<String, String> = pod.labels().clone();
            pod_labels.insert(labels::QUARANTINE.to_owned(), incident.to_owned());
            let policies = self.stores.network_policies.within(namespace);
            let stance = Protection::Quarantined { cluster_deny };
            widened_by = widening(&pod_labels, policies.iter().map(AsRef::as_ref), stance);
            widened_by.truncate(limits::WIDENED_BY_MAX);
        }
        Deny { stands, widened_by }
    }

    fn breaker(&self, now: Timestamp) -> Breaker {
        let incidents = self.stores.incidents.state();
        let mut first: HashMap<&str, Timestamp> = HashMap::new();
        for incident in incidents.iter().filter(|incident| crossed(incident)) {
            if let Some(time) = incident.metadata.creation_timestamp.as_ref() {
                let known = first.entry(&incident.spec.subject.uid).or_insert(time.0);
                *known = (*known).max(time.0);
            }
        }
        let watched = self.membership.pod_count();
        Breaker::at(now, first.into_values(), watched, self.settings.breaker)
    }

    /// Pods that other Incidents hold, or are about to.
    fn quarantined_elsewhere(&self, incident: &str) -> usize {
        let elsewhere = |pod: &Pod| {
            let label = pod.labels().get(labels::QUARANTINE);
            label.is_some_and(|value| value != incident)
        };
        let seen = self.stores.pods.state_filter(elsewhere);
        let seen: HashSet<String> = seen.iter().filter_map(|pod| pod.uid()).collect();
        let decided = self.isolating.count(incident, &seen, monotonic_now());
        seen.len() + decided
    }

    /// What the log shows of all pods of the Incident, the worst of each.
    fn witnessed(&self, incident: &Incident, pods: &[PodView]) -> Option<Witnessed> {
        let isolated = EventTime::from(isolated_at(incident)?);
        let watch = |pod: &PodView| {
            let (key, node) = (PodKey::from(pod.uid.as_str()), pod.node.as_deref());
            self.witness.watch(&key, node, isolated, monotonic_now())
        };
        let own = pods.iter().filter_map(watch).reduce(worst);
        // What an agent told about an earlier isolation says nothing about this one.
        let is_about_this =
            |observation: &&Observation| EventTime::from(observation.since.0) >= isolated;
        let now = Timestamp::now();
        let observations = incident.spec.observations.iter().filter(is_about_this);
        let of_agents = observations.map(|told_by| told(told_by, now)).reduce(worst);
        // A controller without sources has nothing to say; with some, both must agree.
        let own_or_nothing = own.filter(|own| own.log_time > EventTime::MIN);
        match (own_or_nothing, of_agents) {
            (Some(own), Some(agents)) => Some(together(own, agents)),
            (None, Some(agents)) => Some(agents),
            (_, None) => own,
        }
    }

    fn others(&self, incident: &Incident, namespace: &str, known: &Known) -> Vec<OtherIncident> {
        let holds = |other: &Incident| {
            other.metadata.uid != incident.metadata.uid
                && crossed(other)
                && may_hold(other)
                && !known.let_go.contains(&other.name_any())
        };
        let others = self.stores.incidents.within_where(namespace, holds);
        others.iter().map(|other| self.other(other)).collect()
    }

    fn other(&self, other: &Incident) -> OtherIncident {
        let conditions = other.status.as_ref().map_or(&[][..], |s| &s.conditions);
        let subject = &other.spec.subject.uid;
        let mut pod_uids = Vec::new();
        if condition_is(conditions, IncidentCondition::Contained.name()) {
            pod_uids.push(subject.clone());
            let bounds = self.bounds_of(self.run_of(other).as_deref());
            if let (ResponseScope::Run, Some(run)) = (bounds.scope, &other.spec.run) {
                pod_uids.extend(self.membership.pods_of(&run.uid));
            }
        }
        let pod = self.subject(other, &other.namespace().unwrap_or_default());
        let chain = self.owners.chain_of(subject);
        OtherIncident {
            name: other.name_any(),
            pod_uids,
            run_uid: other.spec.run.as_ref().map(|run| run.uid.clone()),
            pod_is_gone: pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()),
            owners: chain.map(|chain| chain.links.into_iter().map(|link| link.uid).collect()),
            restore: other
                .status
                .as_ref()
                .map(|s| s.restore.clone())
                .unwrap_or_default(),
        }
    }
}

/// Whether an Incident that crossed the line is open, and holds something or may be about to.
pub(super) fn may_hold(incident: &Incident) -> bool {
    let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let has_saved = incident
        .status
        .as_ref()
        .is_some_and(|s| !s.restore.is_empty());
    let verdict = incident.spec.disposition.as_ref().map(|d| d.verdict);
    let contained = condition_of(conditions, IncidentCondition::Contained.name());
    verdict != Some(Verdict::Release)
        && !condition_is(conditions, IncidentCondition::Closed.name())
        && (has_saved || contained.is_none_or(|said| said.status == "True"))
}

fn crossed(incident: &Incident) -> bool {
    incident
        .spec
        .evidence
        .iter()
        .any(|entry| entry.severity == Severity::Quarantine.name() && !entry.observe_only)
}

fn stored_view(pod: &Pod) -> PodView {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    pod_view(&pod.metadata, node)
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
