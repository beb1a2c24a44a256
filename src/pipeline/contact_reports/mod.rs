//! ContactReports: how the engines of a run's nodes learn of each other's failed first contacts.
//!
//! - `convert`: between the API's types and those of `detect`. Pure.
//! - `inbox`: which contacts of which report the engine has taken in.
//! - `outbox`: what the engine contributes, until `writer` has written it.
//! - `writer`: writes the reports of this observer, paced.
//! - `reconciler`: the leading controller says which pods of a report are really there, and deletes
//!   reports that nobody needs.
//!
//! The pipeline calls [`ContactReports::exchange`] every so often, on its own thread; the wiring
//! feeds what the watch saw. Nothing here decides anything about a pod.

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

pub use reconciler::ReportKeeper;
pub use writer::ReportWriter;

use crate::api::ContactReport;
use crate::cluster::{Store, WatchEvent};
use crate::detect::Engine;
use crate::model::{EventTime, Finding, PodKey, RunKey, Subject};
use crate::signals::attribute::Index;
use convert::Taken;
use inbox::Inbox;
use outbox::Outbox;

/// Who writes reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportObserver {
    /// The node's name, or the replica's name of a controller.
    pub name: String,
    /// Whether it is a controller, whose log may show pods of any node.
    pub is_controller: bool,
}

impl ReportObserver {
    /// The node that its reports are about.
    fn node(&self) -> Option<String> {
        (!self.is_controller).then(|| self.name.clone())
    }
}

/// What became of reports and their contacts, since the start.
#[derive(Debug, Default)]
pub struct ContactReportCounters {
    /// Reports that were written.
    pub written: AtomicU64,
    /// Writes of reports that failed and are tried again.
    pub failed: AtomicU64,
    /// Contributions to runs that were left out because too many waited to be written.
    pub left_out: AtomicU64,
    /// Contacts of other observers that were handed to the engine.
    pub taken: AtomicU64,
    /// Contacts that did not count: of a pod that the controller has not found there, of a time
    /// to come, or of a shape that no observer writes.
    pub refused: AtomicU64,
}

/// See the module. Cheap to clone; all clones are one exchange.
#[derive(Clone)]
pub struct ContactReports(Arc<Shared>);

struct Shared {
    observer: ReportObserver,
    store: Store<ContactReport>,
    inbox: Mutex<Inbox>,
    outbox: Outbox,
    counters: ContactReportCounters,
}

impl ContactReports {
    /// An exchange for this observer.
    #[must_use]
    pub fn new(observer: ReportObserver, store: Store<ContactReport>) -> Self {
        Self(Arc::new(Shared {
            observer,
            store,
            inbox: Mutex::default(),
            outbox: Outbox::default(),
            counters: ContactReportCounters::default(),
        }))
    }

    /// What became of reports.
    #[must_use]
    pub fn counters(&self) -> &ContactReportCounters {
        &self.0.counters
    }

    /// The watch saw this.
    pub fn report_seen(&self, seen: &WatchEvent<ContactReport>) {
        let mut inbox = self.inbox();
        match seen {
            WatchEvent::Changed { new: report, .. } | WatchEvent::Gone(report) => {
                inbox.changed(report);
            }
            WatchEvent::Listed => {
                for report in self.0.store.state() {
                    inbox.changed(&report);
                }
            }
            // The store keeps what was last readable, and the watch says what is wrong.
            WatchEvent::Malformed { .. } => {}
        }
    }

    /// Hands what others contributed to the engine, and takes from it what its pods contribute, as
    /// of this event time. Returns what was found.
    pub fn exchange(
        &self,
        engine: &mut Engine,
        index: &Index,
        read_up_to: EventTime,
    ) -> Vec<Finding> {
        let findings = self.take_in(engine, index);
        for (run, contribution) in engine.take_contributions(read_up_to) {
            let outgoing = convert::outgoing(&contribution, index);
            self.0.outbox.put(run, outgoing, &self.0.counters);
        }
        findings
    }

    fn take_in(&self, engine: &mut Engine, index: &Index) -> Vec<Finding> {
        let mut findings = Vec::new();
        let now = EventTime::from(Timestamp::now());
        let mut inbox = self.inbox();
        let changed = inbox.take_changed();
        // First those that bring runs back which the reports of others are about.
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
                // The run may get its first pod here later.
                inbox.later(reference);
                continue;
            }
            let Taken {
                contribution,
                refused_count,
            } = convert::taken(&report, is_own, now);
            let news = inbox.news(&reference, &report, contribution);
            let counters = &self.0.counters;
            if !is_own {
                count(&counters.taken, news.failed.len() + news.answered.len());
                count(&counters.refused, refused_count);
            }
            findings.extend(engine.contributed(&run, &news, is_own).unwrap_or_default());
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

/// The pods of an own report that are still here have state again.
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

/// The run that a report is about, as the engine knows it.
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
