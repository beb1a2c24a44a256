//! Which pods have or had a name: for samples, which name a pod and no address.
//!
//! Part of the index. A name is given out again at once by a StatefulSet, so that it never names a
//! pod alone: the span of the sample must lie within the pod's life.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Attribution, Index, Known, PodFacts};
use crate::limits;
use crate::model::{EventTime, PodHint, PodKey};
use crate::observability::UnattributedReason;

type Pods = Vec<PodKey>;

/// Pods by namespace and name. Holds what the index holds, so it is bounded with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, HashMap<Box<str>, Pods, RandomState>, RandomState>);

impl Names {
    pub(super) fn add(&mut self, namespace: &str, name: &str, pod: &PodKey) {
        let named = self.0.entry(namespace.into()).or_default();
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
    /// Its start is taken strictly: a span that began before it is about another pod, or about none.
    /// Its end is not, because the API hears of it late.
    #[must_use]
    pub fn named(
        &self,
        namespace: &str,
        name: &str,
        (from, until): (EventTime, EventTime),
    ) -> Attribution<'_> {
        match self.find_named(namespace, name, (from, until)) {
            Ok(known) => Attribution::Pod(&known.facts),
            Err(why) => Attribution::Unattributed(why),
        }
    }

    pub(super) fn find_named(
        &self,
        namespace: &str,
        name: &str,
        (from, until): (EventTime, EventTime),
    ) -> Result<&Known, UnattributedReason> {
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

/// Whether what a log calls a pod fits what the API calls it.
pub(super) fn agrees(hint: &PodHint<'_>, facts: &PodFacts) -> bool {
    // Only in a replay has a pod no name: there is no API server that would say it.
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
            workload: None,
        }
    }

    fn named(index: &Index, from: i64, until: i64) -> Result<&str, UnattributedReason> {
        match index.named("team-a", "agent-0", (at(from), at(until))) {
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
        // Begun with the one and ended with the other: of nobody.
        assert!(named(&index, 195, 210).is_err());
        assert_eq!(named(&index, 90, 105), Err(UnattributedReason::BeforePod));
    }

    #[test]
    fn a_name_that_nobody_has_is_nobodys() {
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
