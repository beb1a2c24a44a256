//! Isolations that were planned and that the store may not show yet. They count against the cap on
//! quarantines together with the pods that are in quarantine, so that concurrent reconciles keep the
//! cap. Used by the responder.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use parking_lot::Mutex;

use super::plan::PodView;
use crate::limits;

#[derive(Debug)]
struct Isolation {
    /// Namespace and name of the Incident.
    incident: (String, String),
    /// When the attempt finished; `None` before that.
    finished: Option<Instant>,
}

/// Isolations in flight, by pod UID. Bounded by the existing pods, each for the duration of a write and
/// [`limits::STORE_LAG_MAX`].
#[derive(Debug, Default)]
pub(super) struct InFlightIsolations {
    /// Held from the check of the cap until [`Self::begin`].
    pub(super) deciding: tokio::sync::Mutex<()>,
    pods: Mutex<HashMap<String, Isolation>>,
}

impl InFlightIsolations {
    /// The isolation of these pods begins.
    pub(super) fn begin(&self, namespace: &str, incident: &str, pods: &[PodView]) {
        let mut known = self.pods.lock();
        for pod in pods {
            let isolation = Isolation {
                incident: (namespace.to_owned(), incident.to_owned()),
                finished: None,
            };
            known.insert(pod.uid.clone(), isolation);
        }
    }

    /// The isolation attempt for these pods has finished. A write that timed out may still have
    /// succeeded, so each pod keeps counting against the cap for [`limits::STORE_LAG_MAX`].
    pub(super) fn finish(&self, pods: &[PodView], now: Instant) {
        let mut known = self.pods.lock();
        for pod in pods {
            if let Some(isolation) = known.get_mut(&pod.uid) {
                isolation.finished = Some(now);
            }
        }
    }

    /// How many isolations are in flight for other Incidents than this one, without the pods that the
    /// store already shows in quarantine: in the cluster, and in the namespace.
    pub(super) fn count(
        &self,
        (namespace, incident): (&str, &str),
        stored: &HashSet<String>,
        now: Instant,
    ) -> (usize, usize) {
        let mut known = self.pods.lock();
        known.retain(|_, isolation| {
            let age = isolation
                .finished
                .map(|finished| now.saturating_duration_since(finished));
            age.is_none_or(|age| age < limits::STORE_LAG_MAX)
        });
        let is_own = |(within, name): &(String, String)| within == namespace && name == incident;
        let others = known
            .iter()
            .filter(|(uid, isolation)| !is_own(&isolation.incident) && !stored.contains(*uid));
        let in_namespace = others
            .clone()
            .filter(|(_, isolation)| isolation.incident.0 == namespace);
        (others.clone().count(), in_namespace.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(uids: &[&str]) -> Vec<PodView> {
        let view = |uid: &&str| PodView {
            name: (*uid).to_owned(),
            uid: (*uid).to_owned(),
            ..PodView::default()
        };
        uids.iter().map(view).collect()
    }

    #[test]
    fn an_isolation_counts_for_other_incidents_until_the_store_shows_it() {
        let (in_flight, now) = (InFlightIsolations::default(), Instant::now());
        in_flight.begin("ns", "a", &pods(&["p1", "p2"]));
        let none = HashSet::new();
        assert_eq!(in_flight.count(("ns", "b"), &none, now), (2, 2));
        assert_eq!(in_flight.count(("ns", "a"), &none, now), (0, 0));
        assert_eq!(in_flight.count(("other", "a"), &none, now), (2, 0));
        let seen = HashSet::from(["p1".to_owned()]);
        assert_eq!(in_flight.count(("ns", "b"), &seen, now), (1, 1));
    }

    #[test]
    fn an_isolation_counts_until_the_longest_lag_of_the_store_after_its_write() {
        let (in_flight, now) = (InFlightIsolations::default(), Instant::now());
        in_flight.begin("ns", "a", &pods(&["p1", "p2"]));
        in_flight.finish(&pods(&["p1"]), now);
        let later = now + limits::STORE_LAG_MAX;
        let count = |now| in_flight.count(("ns", "b"), &HashSet::new(), now).0;
        assert_eq!((count(now), count(later)), (2, 1));
    }
}
