//! The roster: which pod belongs to which run, as the controller resolved it last.
//!
//! Written by `controller` after each look at a run's target; read by whoever needs to know a
//! pod's run or a run's pods. A pod is on it by UID, so a label alone puts nobody on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

/// An AgentRun, by name and UID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, so that a later run of the same name is another one.
    pub uid: String,
}

#[derive(Debug, Default)]
struct Tables {
    run_of: HashMap<String, RunId>,
    pods_of: HashMap<String, HashSet<String>>,
    crawlers: HashSet<String>,
    version: u64,
}

/// Pods by run and runs by pod. Cheap to clone; all clones are one roster. Bounded by the pods that
/// the API server holds.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<RwLock<Tables>>);

impl Roster {
    /// The run has exactly these pods now, by UID. A pod moves if another run had it.
    pub fn set(&self, run: &RunId, pod_uids: impl IntoIterator<Item = String>) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let pods: HashSet<String> = pod_uids.into_iter().collect();
        let before = tables.pods_of.remove(&run.uid).unwrap_or_default();
        if before != pods {
            tables.version += 1;
        }
        for pod in before.difference(&pods) {
            if tables
                .run_of
                .get(pod)
                .is_some_and(|owner| owner.uid == run.uid)
            {
                tables.run_of.remove(pod);
            }
        }
        for pod in &pods {
            if let Some(other) = tables.run_of.insert(pod.clone(), run.clone())
                && other.uid != run.uid
                && let Some(others) = tables.pods_of.get_mut(&other.uid)
            {
                others.remove(pod);
            }
        }
        if !pods.is_empty() {
            tables.pods_of.insert(run.uid.clone(), pods);
        }
    }

    /// The run is gone.
    pub fn forget(&self, run: &RunId) {
        self.set(run, []);
        self.mark_crawler(&run.uid, false);
    }

    /// Whether the run's pods are expected to reach many dead hosts on the Internet.
    pub fn mark_crawler(&self, run_uid: &str, is_crawler: bool) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = if is_crawler {
            tables.crawlers.insert(run_uid.to_owned())
        } else {
            tables.crawlers.remove(run_uid)
        };
        tables.version += u64::from(changed);
    }

    /// The UIDs of the pods of all crawlers.
    #[must_use]
    pub fn crawler_pods(&self) -> HashSet<String> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_run = |run: &String| tables.pods_of.get(run).into_iter().flatten().cloned();
        tables.crawlers.iter().flat_map(of_run).collect()
    }

    /// Moves with every change, so that a reader can keep what it read.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .version
    }

    /// The run that a pod belongs to.
    #[must_use]
    pub fn run_of(&self, pod_uid: &str) -> Option<RunId> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .run_of
            .get(pod_uid)
            .cloned()
    }

    /// The UIDs of a run's pods, by the run's UID.
    #[must_use]
    pub fn pods_of(&self, run_uid: &str) -> HashSet<String> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tables.pods_of.get(run_uid).cloned().unwrap_or_default()
    }

    /// How many pods belong to runs.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .run_of
            .len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(uid: &str) -> RunId {
        RunId {
            namespace: "ns".into(),
            name: uid.into(),
            uid: uid.into(),
        }
    }

    fn set(roster: &Roster, uid: &str, pods: &[&str]) {
        roster.set(&run(uid), pods.iter().map(|pod| (*pod).to_owned()));
    }

    #[test]
    fn a_pod_is_of_one_run_at_a_time() {
        let roster = Roster::default();
        set(&roster, "a", &["p1", "p2"]);
        set(&roster, "b", &["p2"]);
        assert_eq!(roster.run_of("p2"), Some(run("b")));
        assert_eq!(roster.pods_of("a"), HashSet::from(["p1".to_owned()]));
        set(&roster, "a", &["p1"]);
        assert_eq!(roster.run_of("p2"), Some(run("b")));
    }

    #[test]
    fn pods_that_left_and_runs_that_ended_are_forgotten() {
        let roster = Roster::default();
        set(&roster, "a", &["p1", "p2"]);
        set(&roster, "a", &["p2"]);
        assert_eq!(roster.run_of("p1"), None);
        roster.forget(&run("a"));
        assert_eq!(roster.pod_count(), 0);
    }
}
