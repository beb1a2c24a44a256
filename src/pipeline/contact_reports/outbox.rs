//! What is to be written into reports: of each run the latest contribution. Put in by the
//! pipeline's thread, which must not wait; taken out by the writer.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::convert::Outgoing;
use super::{ContactReportCounters, count};
use crate::limits;
use crate::model::RunKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<BTreeMap<RunKey, Outgoing>>,
    news: Notify,
}

impl Outbox {
    /// Puts in the latest of a run. Where too many wait, a run that is not among them is left out.
    pub(super) fn put(&self, run: RunKey, outgoing: Outgoing, counters: &ContactReportCounters) {
        let mut waiting = self.waiting();
        if waiting.len() >= limits::CONTACT_REPORTS_MAX && !waiting.contains_key(&run) {
            count(&counters.left_out, 1);
            return;
        }
        waiting.insert(run, outgoing);
        drop(waiting);
        self.news.notify_one();
    }

    /// Puts back what could not be written, unless something newer has come meanwhile.
    pub(super) fn put_back(&self, run: RunKey, outgoing: Outgoing) {
        self.waiting().entry(run).or_insert(outgoing);
    }

    /// The runs of which something waits.
    pub(super) fn runs(&self) -> Vec<RunKey> {
        self.waiting().keys().cloned().collect()
    }

    /// Takes out what waits of a run.
    pub(super) fn take(&self, run: &RunKey) -> Option<Outgoing> {
        self.waiting().remove(run)
    }

    /// Waits until something is put in.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<RunKey, Outgoing>> {
        self.waiting.lock()
    }
}
