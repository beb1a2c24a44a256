//! Pods whose detection state must be reset. Filled by the responder and by `controller`, drained by
//! the pipeline.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;
use crate::model::PodKey;

/// Pods whose detection state must be reset, on their way to the pipeline. A set of at most
/// [`limits::RESETS_MAX`], and empty where no pipeline runs.
#[derive(Clone, Debug, Default)]
pub struct Forgotten(Arc<Mutex<Option<HashSet<PodKey>>>>);

impl Forgotten {
    /// A pipeline runs, and will take what is pushed from now on.
    pub fn open(&self) {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get_or_insert_default();
    }

    /// No pipeline runs any more.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// This pod's state must be reset. Where there is no room the pod keeps its state, and at most
    /// it is found again for what it did before.
    pub fn push(&self, pod: PodKey) {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pods) = pods.as_mut()
            && pods.len() < limits::RESETS_MAX
        {
            pods.insert(pod);
        }
    }

    /// Takes all that were pushed.
    #[must_use]
    pub fn take(&self) -> HashSet<PodKey> {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pods.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_wait_once_each_within_a_bound_and_only_for_a_pipeline() {
        let resets = Forgotten::default();
        let push = |n: usize| resets.push(PodKey::from(format!("pod-{n}").as_str()));
        push(0);
        assert!(resets.take().is_empty(), "nobody would take it");
        resets.open();
        (0..limits::RESETS_MAX + 10).for_each(push);
        push(0);
        assert_eq!(resets.take().len(), limits::RESETS_MAX);
        push(1);
        resets.close();
        assert!(resets.take().is_empty());
    }
}
