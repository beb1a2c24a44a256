//! Pods that need a reset of their detection state. Filled by the responder and by the watch of pods, drained
//! by the pipeline.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits;
use crate::model::PodKey;

/// A set of at most [`limits::RESETS_MAX`] pods. It stays empty while no pipeline runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResetQueue(Arc<Mutex<Option<HashSet<PodKey>>>>);

impl ResetQueue {
    /// Accepts pods from now on: a pipeline runs and drains the queue.
    pub(crate) fn open(&self) {
        let mut pods = self.0.lock();
        pods.get_or_insert_default();
    }

    /// Accepts no more pods and drops those in the queue: no pipeline runs any more.
    pub(crate) fn close(&self) {
        *self.0.lock() = None;
    }

    /// Adds a pod. If the queue is full the pod keeps its state, and at most it is reported again for
    /// earlier traffic.
    pub(crate) fn push(&self, pod: PodKey) {
        let mut pods = self.0.lock();
        if let Some(pods) = pods.as_mut()
            && pods.len() < limits::RESETS_MAX
        {
            pods.insert(pod);
        }
    }

    /// Removes and returns all pods.
    #[must_use]
    pub(crate) fn take(&self) -> HashSet<PodKey> {
        let mut pods = self.0.lock();
        pods.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_queued_once_within_a_bound_and_only_while_a_pipeline_runs() {
        let resets = ResetQueue::default();
        let push = |n: usize| resets.push(PodKey::from(format!("pod-{n}").as_str()));
        push(0);
        assert!(resets.take().is_empty(), "no pipeline runs");
        resets.open();
        (0..limits::RESETS_MAX + 10).for_each(push);
        push(0);
        assert_eq!(resets.take().len(), limits::RESETS_MAX);
        push(1);
        resets.close();
        assert!(resets.take().is_empty());
    }
}
