//! ContactReports: the engines of a run's nodes exchange the failed first contacts of the run's pods.
//!
//! - `convert`: converts between the types of the API and those of `detect`. Pure.
//! - `inbox`: which contacts of which report the engine has received.
//! - `outbox`: contributions of the engine, until `writer` has written them.
//! - `writer`: writes the reports of this observer, rate-limited.
//! - `reconciler`: in the leading controller, verifies the pods of each report and deletes obsolete reports.
//!
//! The pipeline calls [`ContactReports::exchange`] at every tick, on its own thread; `operator` passes the events of
//! the watch. Nothing here decides about a pod.

mod convert;
mod inbox;
mod outbox;
mod reconciler;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

pub(crate) use reconciler::ReportReconciler;
pub(crate) use writer::ReportWriter;

use crate::api::ContactReport;
use crate::cluster::{Store, WatchEvent};
use crate::detect::Engine;
use crate::model::{EventTime, Finding, PodKey, RunKey, Subject};
use crate::signals::attribute::Index;
use convert::Incoming;
use inbox::Inbox;
use outbox::Outbox;

/// The process that writes reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportObserver {
    /// Name of the node, or of the replica of a controller.
    pub name: String,
    /// Whether it is a controller. Its logs may contain pods of any node.
    pub is_controller: bool,
}

impl ReportObserver {
    /// The node that its reports are limited to.
    fn node(&self) -> Option<String> {
        (!self.is_controller).then(|| self.name.clone())
    }
}

/// Reports and contacts by result, since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct ContactReportCounters {
    /// Reports written.
    pub written: AtomicU64,
    /// Failed writes of reports.
    pub failed: AtomicU64,
    /// Contributions that were dropped because too many waited to be written.
    pub left_out: AtomicU64,
    /// Contacts of other observers that were passed to the engine.
    pub taken: AtomicU64,
    /// Contacts that were rejected: their pod is not verified, their time is in the future, or no observer writes them
    /// in this form.
    pub refused: AtomicU64,
}

/// The exchange. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub(crate) struct ContactReports(Arc<Shared>);

struct Shared {
    observer: ReportObserver,
    store: Store<ContactReport>,
    inbox: Mutex<Inbox>,
    outbox: Outbox,
    counters: ContactReportCounters,
}

impl ContactReports {
    /// An exchange for this observer over this store of reports.
    #[must_use]
    pub(crate) fn new(observer: ReportObserver, store: Store<ContactReport>) -> Self {
        Self(Arc::new(Shared {
            observer,
            store,
            inbox: Mutex::default(),
            outbox: Outbox::default(),
            counters: ContactReportCounters::default(),
        }))
    }

    /// Reports and contacts by result.
    #[must_use]
    pub(crate) fn counters(&self) -> &ContactReportCounters {
        &self.0.counters
    }

    /// Handles an event of the watch.
    pub(crate) fn on_report_event(&self, event: &WatchEvent<ContactReport>) {
        let mut inbox = self.inbox();
        match event {
            WatchEvent::Changed { new: report, .. } | WatchEvent::Gone(report) => {
                inbox.changed(report);
            }
            WatchEvent::Listed => {
                for report in self.0.store.state() {
                    inbox.changed(&report);
                }
            }
            // The store keeps the last readable version, and the watch reports the error.
            WatchEvent::Malformed { .. } => {}
        }
    }

    /// Passes the contributions of other observers to the engine, and collects the contributions of its own pods as of
    /// this event time. Returns the findings.
    pub(crate) fn exchange(
        &self,
        engine: &mut Engine,
        index: &Index,
        read_up_to: EventTime,
    ) -> Vec<Finding> {
        let findings = self.import_reports(engine, index);
        for (run, contribution) in engine.take_contributions(read_up_to) {
            let outgoing = convert::outgoing(&contribution, index);
            self.0.outbox.put(run, outgoing, &self.0.counters);
        }
        findings
    }

    fn import_reports(&self, engine: &mut Engine, index: &Index) -> Vec<Finding> {
        let mut findings = Vec::new();
        let now = EventTime::from(Timestamp::now());
        let mut inbox = self.inbox();
        let changed = inbox.take_changed();
        // Own reports first: they restore runs that the reports of other observers refer to.
        for report in changed.iter().filter_map(|one| self.0.store.get(one)) {
            if let Some(run) = run_key(&report).filter(|_| self.is_own(&report)) {
                readmit(engine, index, &report, &run);
            }
        }
        for reference in changed {
            let Some(report) = self.0.store.get(&reference) else {
                inbox.forget(&reference);
                continue;
            };
            let Some(run) = run_key(&report) else {
                continue;
            };
            let is_own = self.is_own(&report);
            if !engine.has_run(&run) {
                // The run may get its first pod on this node later.
                inbox.requeue(reference);
                continue;
            }
            let Incoming {
                contribution,
                refused_count,
            } = convert::incoming(&report, is_own, now);
            let new = inbox.new_contacts(&reference, &report, contribution);
            let counters = &self.0.counters;
            if !is_own {
                count(&counters.taken, new.failed.len() + new.answered.len());
                count(&counters.refused, refused_count);
            }
            findings.extend(
                engine
                    .apply_contribution(&run, &new, is_own)
                    .unwrap_or_default(),
            );
        }
        findings
    }

    fn is_own(&self, report: &ContactReport) -> bool {
        let run = &report.spec.run;
        report.name_any() == convert::report_name(&run.name, &run.uid, &self.0.observer.name)
    }

    fn inbox(&self) -> parking_lot::MutexGuard<'_, Inbox> {
        self.0.inbox.lock()
    }
}

/// Restores the engine's state of the pods in an own report that still belong to the run.
fn readmit(engine: &mut Engine, index: &Index, report: &ContactReport, run: &RunKey) {
    for pod in &report.spec.pods {
        let key = PodKey::from(pod.uid.as_str());
        let membership = index.membership(&key);
        if membership.is_some_and(|membership| membership.run.as_ref() == Some(run)) {
            engine.readmit(&Subject {
                pod: key,
                run: Some(run.clone()),
            });
        }
    }
}

/// Key of a report's run in the engine.
fn run_key(report: &ContactReport) -> Option<RunKey> {
    let namespace = report.metadata.namespace.as_deref()?;
    Some(RunKey::from(
        format!("{namespace}/{}", report.spec.run.uid).as_str(),
    ))
}

fn count(counter: &AtomicU64, by: usize) {
    let by = u64::try_from(by).unwrap_or(u64::MAX);
    counter.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
