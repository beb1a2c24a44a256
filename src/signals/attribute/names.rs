//! Which pods have or had a name. Used for samples, which contain a pod's name but no address.
//!
//! Part of the index. A StatefulSet reuses a name immediately, so a name alone never identifies a pod: the span of
//! the sample must also lie within the pod's lifetime.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Attribution, Index, KnownPod, PodFacts};
use crate::limits;
use crate::model::{EventTime, PodHint, PodKey, Table};
use crate::observability::UnattributedReason;

type Pods = Vec<PodKey>;

/// Pods by namespace and name. Holds only pods of the index, so it has the same bound.
#[derive(Clone, Debug, Default)]
pub(super) struct PodNames(HashMap<Box<str>, Table<Box<str>, Pods, RandomState>, RandomState>);

impl PodNames {
    pub(super) fn add(&mut self, namespace: &str, name: &str, pod: &PodKey) {
        let named = self.0.entry(namespace.into()).or_default();
        named.keep_room();
        named.entry(name.into()).or_default().push(pod.clone());
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str, pod: &PodKey) {
        let Some(named) = self.0.get_mut(namespace) else {
            return;
        };
        if let Some(pods) = named.get_mut(name) {
            pods.retain(|known| known != pod);
            if pods.is_empty() {
                named.remove(name);
            }
        }
        if named.is_empty() {
            self.0.remove(namespace);
        }
    }

    fn of(&self, namespace: &str, name: &str) -> &[PodKey] {
        let named = self.0.get(namespace).and_then(|named| named.get(name));
        named.map_or(&[], Vec::as_slice)
    }
}

impl Index {
    /// The pod that had this name from `from` to `until`.
    ///
    /// The start of the pod is applied strictly: a span that began before it is about another pod, or about none.
    /// The end is not, because the API server learns of it late.
    #[must_use]
    pub fn lookup_by_name(
        &self,
        namespace: &str,
        name: &str,
        (from, until): (EventTime, EventTime),
    ) -> Attribution<'_> {
        match self.find_by_name(namespace, name, (from, until)) {
            Ok(known) => Attribution::Pod(&known.facts),
            Err(why) => Attribution::Unattributed(why),
        }
    }

    pub(super) fn find_by_name(
        &self,
        namespace: &str,
        name: &str,
        (from, until): (EventTime, EventTime),
    ) -> Result<&KnownPod, UnattributedReason> {
        let mut found = None;
        let mut why = UnattributedReason::UnknownName;
        for key in self.names.of(namespace, name) {
            let Some(pod) = self.pods.get(key) else {
                continue;
            };
            let has_ended = |ended: EventTime| until > ended.plus_micros(limits::CLOCK_SKEW_MICROS);
            if from < pod.known.facts.since {
                why = UnattributedReason::BeforePod;
            } else if pod.ended.is_some_and(has_ended) {
                why = UnattributedReason::AfterPod;
            } else if found.replace(&*pod.known).is_some() {
                return Err(UnattributedReason::Ambiguous);
            }
        }
        found.ok_or(why)
    }
}

/// Whether the pod that a log names can be the pod that the API server reports.
pub(super) fn matches_hint(hint: &PodHint<'_>, facts: &PodFacts) -> bool {
    // Only in a replay does a pod have no name, because there is no API server.
    let same = |hinted: &str, known: &str| hinted.is_empty() || known.is_empty() || hinted == known;
    same(&hint.namespace, &facts.namespace) && same(&hint.name, &facts.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(second, 0)
    }

    fn pod(uid: &str, since: i64) -> PodFacts {
        PodFacts {
            key: PodKey::from(uid),
            namespace: "team-a".into(),
            name: "agent-0".into(),
            ips: Vec::new(),
            host_network: false,
            node: None,
            since: at(since),
            ended_at: None,
            terminating_since: None,
            workload: None,
        }
    }

    fn named(index: &Index, from: i64, until: i64) -> Result<&str, UnattributedReason> {
        match index.lookup_by_name("team-a", "agent-0", (at(from), at(until))) {
            Attribution::Pod(facts) => Ok(facts.key.as_str()),
            Attribution::Unattributed(why) => Err(why),
        }
    }

    #[test]
    fn a_name_that_is_given_out_again_names_the_pod_of_that_time() {
        let mut index = Index::new();
        index.apply(pod("first", 100), at(100));
        index.delete(&PodKey::from("first"), at(200));
        index.apply(pod("second", 201), at(202));
        assert_eq!(named(&index, 150, 165), Ok("first"));
        assert_eq!(named(&index, 215, 230), Ok("second"));
        // Started with one pod and ended with the other: attributed to neither.
        assert!(named(&index, 195, 210).is_err());
        assert_eq!(named(&index, 90, 105), Err(UnattributedReason::BeforePod));
    }

    #[test]
    fn a_name_that_no_pod_has_is_attributed_to_none() {
        let mut index = Index::new();
        assert_eq!(named(&index, 1, 2), Err(UnattributedReason::UnknownName));
        index.apply(pod("first", 0), at(0));
        index.delete(&PodKey::from("first"), at(10));
        assert_eq!(named(&index, 20, 30), Err(UnattributedReason::AfterPod));
        index.expire(at(10 + limits::POD_RETENTION_SECONDS + 1));
        assert_eq!(named(&index, 1, 2), Err(UnattributedReason::UnknownName));
        assert!(
            index.names.0.is_empty(),
            "what is forgotten takes no memory"
        );
    }

    #[test]
    fn of_two_pods_that_can_have_had_the_name_none_is_named() {
        let mut index = Index::new();
        index.apply(pod("first", 0), at(0));
        index.apply(pod("second", 0), at(0));
        assert_eq!(named(&index, 1, 2), Err(UnattributedReason::Ambiguous));
    }
}
