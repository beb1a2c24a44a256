//! When pods in quarantine were deleted. The watch records it, and the responder finds with it the pod that takes the place
//! of a deleted one: the API server keeps nothing of a pod that was deleted at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use crate::api::Incident;
use crate::cluster::{Pod, Store};
use crate::limits;

/// How much later than the controller of a pod this process may see its deletion.
const WATCH_LAG: SignedDuration = SignedDuration::from_secs(2);

/// The deletion of a pod in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deletion {
    /// A pod that was created earlier does not take its place.
    pub not_before: Timestamp,
    /// UIDs of pods of the same controller that are younger and existed at the deletion. A watch reports the deletion
    /// before the pod that the controller makes because of it.
    pub present: HashSet<String>,
}

/// The latest deletion of a pod in quarantine, by Incident: at most [`limits::MONITORED_PODS_MAX`], further ones are left out.
/// Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions(Arc<Mutex<HashMap<ObjectRef<Incident>, Deletion>>>);

impl Deletions {
    /// Records that a pod is being deleted or gone, which this Incident held in quarantine. `pods` has the state after this event.
    pub(super) fn record(
        &self,
        incident: ObjectRef<Incident>,
        pod: &Pod,
        pods: &Store<Pod>,
        now: Timestamp,
    ) {
        let seen = now.checked_sub(WATCH_LAG).unwrap_or(now);
        let not_before = deleted_at(&pod.metadata).unwrap_or(seen);
        let is_earlier = |known: &Deletion| known.not_before >= not_before;
        if self.0.lock().get(&incident).is_some_and(is_earlier) {
            return;
        }
        let namespace = pod.namespace().unwrap_or_default();
        let is_present = |other: &Pod| {
            let (own, other_owner) = (controller_of(pod), controller_of(other));
            own.map(|owner| &owner.uid) == other_owner.map(|owner| &owner.uid)
                && created_s(other) >= not_before.as_second()
        };
        let present = pods.within_where(&namespace, is_present);
        let present = present.iter().filter_map(|pod| pod.uid());
        let deletion = Deletion {
            not_before,
            present: present.take(limits::SIBLINGS_PRESENT_MAX).collect(),
        };
        let mut known = self.0.lock();
        if known.len() < limits::MONITORED_PODS_MAX || known.contains_key(&incident) {
            known.insert(incident, deletion);
        }
    }

    /// The latest deletion of a pod that this Incident held.
    pub(super) fn latest(&self, incident: &ObjectRef<Incident>) -> Option<Deletion> {
        self.0.lock().get(incident).cloned()
    }

    /// Removes a closed Incident.
    pub(super) fn forget(&self, incident: &ObjectRef<Incident>) {
        self.0.lock().remove(incident);
    }
}

/// The controller of a pod.
pub(super) fn controller_of(pod: &Pod) -> Option<&OwnerReference> {
    let mut owners = pod.owner_references().iter();
    owners.find(|owner| owner.controller == Some(true))
}

/// When a pod was created, in seconds of Unix time; the API server stores no fractions.
pub(super) fn created_s(pod: &Pod) -> i64 {
    let time = pod.metadata.creation_timestamp.as_ref();
    time.map_or(0, |time| time.0.as_second())
}

/// When the deletion of a pod was requested.
pub(super) fn deleted_at(pod: &ObjectMeta) -> Option<Timestamp> {
    let ends = pod.deletion_timestamp.as_ref()?.0;
    let grace_s = pod.deletion_grace_period_seconds.unwrap_or(0);
    ends.checked_sub(SignedDuration::from_secs(grace_s)).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::cluster::Stores;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(name: &str, created: i64) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".to_owned());
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(format!("uid-{name}"));
        pod.metadata.creation_timestamp = Some(Time(at(created)));
        pod.metadata.owner_references = Some(vec![OwnerReference {
            uid: "uid-owner".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        pod
    }

    fn gracefully_deleted() -> Pod {
        let mut pod = pod("held", 500);
        pod.metadata.deletion_timestamp = Some(Time(at(1_030)));
        pod.metadata.deletion_grace_period_seconds = Some(30);
        pod
    }

    #[test]
    fn a_graceful_deletion_has_the_time_of_its_request_and_another_that_of_the_event() {
        let (deletions, incident) = (Deletions::default(), ObjectRef::new("i").within("ns"));
        let pods = Stores::new().0.pods;
        let record = |pod: &Pod, now| deletions.record(incident.clone(), pod, &pods, at(now));
        let not_before = || {
            deletions
                .latest(&incident)
                .map(|deletion| deletion.not_before)
        };
        assert_eq!(not_before(), None);
        record(&gracefully_deleted(), 1_035);
        assert_eq!(not_before(), Some(at(1_000)));
        record(&pod("held", 500), 1_100);
        assert_eq!(not_before(), Some(at(1_098)));
        record(&gracefully_deleted(), 1_200);
        assert_eq!(not_before(), Some(at(1_098)), "the latest counts");
        deletions.forget(&incident);
        assert_eq!(not_before(), None);
    }

    #[test]
    fn pods_that_existed_at_the_deletion_are_known() {
        let (deletions, incident) = (Deletions::default(), ObjectRef::new("i").within("ns"));
        let (stores, mut writers) = Stores::new();
        writers.fill_all_empty();
        writers.pods.apply(pod("older", 900));
        writers.pods.apply(pod("present", 1_000));
        let mut of_another = pod("of-another", 1_000);
        of_another.metadata.owner_references = None;
        writers.pods.apply(of_another);
        deletions.record(
            incident.clone(),
            &gracefully_deleted(),
            &stores.pods,
            at(1_001),
        );
        writers.pods.apply(pod("replacement", 1_000));
        // The end of the grace period is the same deletion.
        deletions.record(
            incident.clone(),
            &gracefully_deleted(),
            &stores.pods,
            at(1_031),
        );
        let present = deletions.latest(&incident).unwrap().present;
        assert_eq!(present, HashSet::from(["uid-present".to_owned()]));
    }

    #[test]
    fn deletions_are_bounded() {
        let (deletions, pods) = (Deletions::default(), Stores::new().0.pods);
        let incident = |number: usize| ObjectRef::new(&format!("i{number}")).within("ns");
        for number in 0..=limits::MONITORED_PODS_MAX {
            deletions.record(incident(number), &pod("held", 500), &pods, at(1_000));
        }
        assert_eq!(
            deletions.latest(&incident(limits::MONITORED_PODS_MAX)),
            None
        );
    }
}
