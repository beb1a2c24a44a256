//! Which pod belongs to which run, as the controller last resolved it.
//!
//! Written by `controller` after it resolved the target of a run. Pods are identified by UID, so a label
//! alone does not make a pod a member.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::api::AgentRun;

/// An AgentRun, by name and UID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunId {
    /// Namespace of the run.
    pub namespace: String,
    /// Name of the run.
    pub name: String,
    /// UID of the run; a later run of the same name has another one.
    pub uid: String,
}

impl RunId {
    /// The identity of a stored AgentRun. `None` for one that the API server has not given a UID.
    #[must_use]
    pub(crate) fn of(run: &AgentRun) -> Option<Self> {
        Some(Self {
            namespace: run.metadata.namespace.clone()?,
            name: run.metadata.name.clone()?,
            uid: run.metadata.uid.clone()?,
        })
    }
}

#[derive(Debug, Default)]
struct Tables {
    run_of: HashMap<String, RunId>,
    pods_of: HashMap<String, HashSet<String>>,
}

/// Pods by run and runs by pod. Clones share one state. Bounded by the existing pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunMembership {
    tables: Arc<RwLock<Tables>>,
    changes: Arc<Changes>,
}

/// The runs that pods joined since the last call of [`RunMembership::joined`].
#[derive(Debug, Default)]
struct Changes {
    /// `None` until the first call: not every process reads them.
    runs: Mutex<Option<HashSet<RunId>>>,
    any: Notify,
}

impl RunMembership {
    /// Sets the pods of a run, by UID. A pod of another run moves to this one. Returns the pods that left
    /// the run and belong to no other.
    pub(crate) fn set(
        &self,
        run: &RunId,
        pod_uids: impl IntoIterator<Item = String>,
    ) -> Vec<String> {
        let mut tables = self.tables.write();
        let pods: HashSet<String> = pod_uids.into_iter().collect();
        let before = tables.pods_of.remove(&run.uid).unwrap_or_default();
        let mut left = Vec::new();
        for pod in before.difference(&pods) {
            if tables
                .run_of
                .get(pod)
                .is_some_and(|owner| owner.uid == run.uid)
            {
                tables.run_of.remove(pod);
                left.push(pod.clone());
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
        let have_joined = !pods.is_subset(&before);
        if !pods.is_empty() {
            tables.pods_of.insert(run.uid.clone(), pods);
        }
        drop(tables);
        if have_joined {
            self.changes.record(run);
        }
        left
    }

    /// Waits until pods joined a run, and returns all such runs since the last call. For a single reader.
    pub(crate) async fn joined(&self) -> HashSet<RunId> {
        loop {
            let runs = self.changes.runs.lock().replace(HashSet::new());
            match runs {
                Some(runs) if !runs.is_empty() => return runs,
                _ => self.changes.any.notified().await,
            }
        }
    }

    /// The run that a pod belongs to.
    #[must_use]
    pub(crate) fn run_of(&self, pod_uid: &str) -> Option<RunId> {
        self.tables.read().run_of.get(pod_uid).cloned()
    }

    /// The UIDs of a run's pods, by the run's UID.
    #[must_use]
    pub(crate) fn pods_of(&self, run_uid: &str) -> HashSet<String> {
        let tables = self.tables.read();
        tables.pods_of.get(run_uid).cloned().unwrap_or_default()
    }

    /// How many pods belong to runs.
    #[must_use]
    pub(crate) fn pod_count(&self) -> usize {
        self.tables.read().run_of.len()
    }
}

impl Changes {
    fn record(&self, run: &RunId) {
        if let Some(runs) = self.runs.lock().as_mut() {
            runs.insert(run.clone());
            self.any.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn run(uid: &str) -> RunId {
        RunId {
            namespace: "ns".into(),
            name: uid.into(),
            uid: uid.into(),
        }
    }

    fn set(membership: &RunMembership, uid: &str, pods: &[&str]) {
        membership.set(&run(uid), pods.iter().map(|pod| (*pod).to_owned()));
    }

    #[test]
    fn a_pod_belongs_to_one_run_at_a_time() {
        let membership = RunMembership::default();
        set(&membership, "a", &["p1", "p2"]);
        set(&membership, "b", &["p2"]);
        assert_eq!(membership.run_of("p2"), Some(run("b")));
        assert_eq!(membership.pods_of("a"), HashSet::from(["p1".to_owned()]));
        set(&membership, "a", &["p1"]);
        assert_eq!(membership.run_of("p2"), Some(run("b")));
    }

    #[tokio::test]
    async fn a_run_is_reported_when_a_pod_joins_it_and_not_when_one_leaves() {
        let membership = RunMembership::default();
        set(&membership, "before-the-first-reader", &["p0"]);
        assert_eq!(membership.joined().now_or_never(), None);
        set(&membership, "a", &["p1"]);
        assert_eq!(membership.joined().await, HashSet::from([run("a")]));
        set(&membership, "a", &["p1"]);
        set(&membership, "a", &[]);
        assert_eq!(membership.joined().now_or_never(), None);
        set(&membership, "a", &["p1", "p2"]);
        set(&membership, "b", &["p2"]);
        let both = HashSet::from([run("a"), run("b")]);
        assert_eq!(membership.joined().await, both);
    }

    #[test]
    fn pods_that_left_and_runs_that_ended_are_removed() {
        let membership = RunMembership::default();
        set(&membership, "a", &["p1", "p2"]);
        let left = membership.set(&run("a"), ["p2".to_owned()]);
        assert_eq!(left, ["p1"]);
        assert_eq!(membership.run_of("p1"), None);
        assert_eq!(membership.set(&run("a"), []), ["p2"]);
        assert_eq!(membership.pod_count(), 0);
    }
}
