//! What attribution needs from Kubernetes objects: a pod's addresses and when it had them, and the run that the pod
//! belongs to.
//!
//! Called by `operator` for every change of a pod, by `controller` for every change of a run's pods, and by the
//! simulator of the error budget.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{AgentRun, Profile};
use crate::cluster::{Pod, RunId};
use crate::detect::Workload;
use crate::limits;
use crate::model::{EventTime, PodKey, RunKey};
use crate::signals::attribute::{Membership, PodFacts};

/// The condition that becomes true when the pod's network is set up.
pub(crate) const NETWORK_UP: &str = "PodReadyToStartContainers";

/// Facts about a pod. `None` for a pod without a UID or a start time, which has no address yet.
#[must_use]
pub fn pod_facts(pod: &Pod) -> Option<PodFacts> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let network_up = conditions
        .iter()
        .find(|condition| condition.type_ == NETWORK_UP && condition.status == "True")
        .and_then(|condition| condition.last_transition_time.as_ref());
    let since = network_up.or(status.start_time.as_ref())?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut ips: Vec<_> = listed
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse().ok())
        .collect();
    ips.sort_unstable();
    ips.dedup();
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let spec = pod.spec.as_ref();
    Some(PodFacts {
        key: PodKey::from(pod.uid()?.as_str()),
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        ips,
        host_network: spec.and_then(|spec| spec.host_network) == Some(true),
        node: spec.and_then(|spec| spec.node_name.clone()),
        since: EventTime::from(since.0),
        ended_at: pod.has_ended().then(|| EventTime::from(Timestamp::now())),
        terminating_since: terminating_since(pod),
        workload: owner.map(|owner| format!("{} {}", owner.kind, owner.name)),
    })
}

/// Membership of the pods of a run with this profile in force. `None` for a run without a UID, which has no pods yet.
#[must_use]
pub fn membership_of(run: &AgentRun, profile: Profile) -> Option<Membership> {
    Some(Membership {
        run: Some(run_key(run)?),
        workload: match profile {
            Profile::Standard => Workload::Standard,
            Profile::Crawler => Workload::Crawler,
        },
    })
}

/// Key of a run in the engine. `None` for a run without a UID.
#[must_use]
pub(crate) fn run_key(run: &AgentRun) -> Option<RunKey> {
    let id = RunId::of(run)?;
    Some(RunKey::from(
        format!("{}/{}", id.namespace, id.uid).as_str(),
    ))
}

/// Addresses of a pod. Empty for a pod on the host network, which has the addresses of its node.
#[must_use]
pub(crate) fn own_addresses(pod: &Pod) -> BTreeSet<IpAddr> {
    let is_on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let status = pod.status.as_ref().filter(|_| !is_on_host);
    let listed = status.and_then(|status| status.pod_ips.as_deref());
    let listed = listed.unwrap_or_default().iter().map(|ip| ip.ip.as_str());
    let first = status.and_then(|status| status.pod_ip.as_deref());
    listed
        .chain(first)
        .filter_map(|ip| ip.parse().ok())
        .take(limits::POD_ADDRESSES_MAX)
        .collect()
}

/// When the deletion of the pod was requested. The API server stores the end of the grace period instead.
pub(crate) fn terminating_since(pod: &Pod) -> Option<EventTime> {
    let deadline = EventTime::from(pod.metadata.deletion_timestamp.as_ref()?.0);
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    Some(deadline.plus_micros(grace.max(0).saturating_mul(-1_000_000)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
            "spec": { "containers": [] },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_has_its_address_since_its_network_came_up() {
        let facts = pod_facts(&pod(&json!({
            "startTime": "2026-01-01T00:00:00Z",
            "podIP": "10.0.0.1",
            "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "conditions": [{
                "type": NETWORK_UP, "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z",
            }],
        })))
        .unwrap();
        assert_eq!(facts.ips.len(), 2);
        assert_eq!(facts.since.to_string(), "2026-01-01T00:00:05Z");
    }

    #[test]
    fn a_pod_is_terminating_since_its_deletion_was_requested() {
        let mut deleted = pod(&json!({ "startTime": "2026-01-01T00:00:00Z", "podIP": "10.0.0.1" }));
        assert_eq!(pod_facts(&deleted).unwrap().terminating_since, None);
        deleted.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:10:30Z")).unwrap());
        deleted.metadata.deletion_grace_period_seconds = Some(30);
        let since = pod_facts(&deleted).unwrap().terminating_since.unwrap();
        assert_eq!(since.to_string(), "2026-01-01T00:10:00Z");
    }

    #[test]
    fn a_pending_pod_has_no_address_and_one_that_ended_releases_it() {
        assert_eq!(pod_facts(&pod(&json!({ "phase": "Pending" }))), None);
        let ended = json!({ "phase": "Failed", "startTime": "2026-01-01T00:00:00Z" });
        assert!(pod_facts(&pod(&ended)).unwrap().ended_at.is_some());
    }
}
