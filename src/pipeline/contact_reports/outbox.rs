//! Contributions that wait to be written: the latest of each run. The pipeline's thread adds them without waiting; the
//! writer removes them.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::convert::Outgoing;
use super::{ContactReportCounters, count};
use crate::limits;
use crate::model::RunKey;

/// The latest unwritten contribution of each run.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<BTreeMap<RunKey, Outgoing>>,
    changed: Notify,
}

impl Outbox {
    /// Adds the latest contribution of a run. When the outbox is full, a run that is not in it is dropped and counted.
    pub(super) fn put(&self, run: RunKey, outgoing: Outgoing, counters: &ContactReportCounters) {
        let mut waiting = self.waiting();
        if waiting.len() >= limits::CONTACT_REPORTS_MAX && !waiting.contains_key(&run) {
            count(&counters.left_out, 1);
            return;
        }
        waiting.insert(run, outgoing);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Returns a contribution that could not be written, unless a newer one has been added.
    pub(super) fn put_back(&self, run: RunKey, outgoing: Outgoing) {
        self.waiting().entry(run).or_insert(outgoing);
    }

    /// Runs with a contribution.
    pub(super) fn runs(&self) -> Vec<RunKey> {
        self.waiting().keys().cloned().collect()
    }

    /// Removes and returns the contribution of a run.
    pub(super) fn take(&self, run: &RunKey) -> Option<Outgoing> {
        self.waiting().remove(run)
    }

    /// Waits until a contribution is added.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<RunKey, Outgoing>> {
        self.waiting.lock()
    }
}
