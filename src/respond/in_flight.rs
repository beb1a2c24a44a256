//! Pods whose isolation was decided and that the store may not show yet. Counted with those in quarantine, so that
//! responses that run side by side keep the cap together. Used by the responder alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::plan::PodView;
use crate::limits;

/// One decision.
#[derive(Debug)]
struct Decided {
    incident: String,
    /// When its write was over; `None` until then.
    over: Option<Instant>,
}

/// The decisions that are not seen yet, by pod UID. Holds pods that the API server holds, each for the time of a write and
/// [`limits::STORE_LAG_MAX`].
#[derive(Debug, Default)]
pub struct Isolating {
    /// Held from the last look at the cap until the decision is noted here.
    pub(super) deciding: tokio::sync::Mutex<()>,
    pods: Mutex<HashMap<String, Decided>>,
}

impl Isolating {
    /// These pods are about to be isolated.
    pub(super) fn begin(&self, incident: &str, pods: &[PodView]) {
        let mut known = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in pods {
            let decided = Decided {
                incident: incident.to_owned(),
                over: None,
            };
            known.insert(pod.uid.clone(), decided);
        }
    }

    /// What could be done about these pods is done. A write without an answer may have happened, so each counts on until
    /// the store must have seen it.
    pub(super) fn end(&self, pods: &[PodView], now: Instant) {
        let mut known = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in pods {
            if let Some(decided) = known.get_mut(&pod.uid) {
                decided.over = Some(now);
            }
        }
    }

    /// How many pods are decided for other Incidents than this, besides those that are `seen` in quarantine.
    pub(super) fn count(&self, incident: &str, seen: &HashSet<String>, now: Instant) -> usize {
        let mut known = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, decided| {
            let age = decided.over.map(|over| now.saturating_duration_since(over));
            age.is_none_or(|age| age < limits::STORE_LAG_MAX)
        });
        let others = known
            .iter()
            .filter(|(uid, decided)| decided.incident != incident && !seen.contains(*uid));
        others.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(uids: &[&str]) -> Vec<PodView> {
        let view = |uid: &&str| PodView {
            name: (*uid).to_owned(),
            uid: (*uid).to_owned(),
            node: None,
            quarantine: None,
            grace_s: None,
        };
        uids.iter().map(view).collect()
    }

    #[test]
    fn a_decision_counts_for_others_until_its_pod_is_seen_in_quarantine() {
        let (isolating, now) = (Isolating::default(), Instant::now());
        isolating.begin("a", &pods(&["p1", "p2"]));
        let nobody = HashSet::new();
        assert_eq!(isolating.count("b", &nobody, now), 2);
        assert_eq!(isolating.count("a", &nobody, now), 0);
        let seen = HashSet::from(["p1".to_owned()]);
        assert_eq!(isolating.count("b", &seen, now), 1);
    }

    #[test]
    fn a_decision_is_forgotten_once_the_store_must_have_seen_it_and_not_before_its_write_is_over() {
        let (isolating, now) = (Isolating::default(), Instant::now());
        isolating.begin("a", &pods(&["p1", "p2"]));
        isolating.end(&pods(&["p1"]), now);
        let later = now + limits::STORE_LAG_MAX;
        assert_eq!(isolating.count("b", &HashSet::new(), now), 2);
        assert_eq!(isolating.count("b", &HashSet::new(), later), 1);
    }
}
