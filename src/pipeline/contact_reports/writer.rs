//! Writes the reports of this observer: only changed reports, rate-limited per report and in total.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::convert::{Outgoing, report_name};
use super::{ContactReports, count};
use crate::api::{AgentRun, ContactReport, ContactReportSpec, RunReference, labels};
use crate::cluster::{ApiError, Conflicts, FieldManager, RateLimiter, Stores, Writer};
use crate::limits;
use crate::model::RunKey;
use crate::observability::chain;

/// After this long without a write, the pause of a report starts again from its minimum.
const PAUSE_RESET_AFTER: Duration = Duration::from_mins(1);

/// Maximum wait when no report is due.
const IDLE_WAIT: Duration = Duration::from_mins(1);

/// Writes reports.
pub(crate) struct ReportWriter {
    /// The exchange with the contributions to write.
    pub reports: ContactReports,
    /// Stored objects.
    pub stores: Stores,
    /// Writer to the API server.
    pub writer: Writer,
}

/// Pause between two writes of a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    last: Instant,
    length: Duration,
}

impl Pause {
    /// The pause after a write at `now`. `before` is the pause after the previous write.
    pub(super) fn after(before: Option<Self>, now: Instant) -> Self {
        let length = match before {
            Some(before) if now.saturating_duration_since(before.last) < PAUSE_RESET_AFTER => {
                (before.length * 2).min(limits::CONTACT_REPORT_PAUSE_MAX)
            }
            _ => limits::CONTACT_REPORT_PAUSE_MIN,
        };
        Self { last: now, length }
    }

    /// End of the pause.
    pub(super) fn end(self) -> Instant {
        self.last + self.length
    }
}

impl ReportWriter {
    /// Writes reports. Never returns.
    pub(crate) async fn run(self) {
        let limiter = RateLimiter::new(limits::CONTACT_REPORTS_PER_SECOND);
        let mut pauses: HashMap<RunKey, Pause> = HashMap::new();
        loop {
            let now = Instant::now();
            let mut next = now + IDLE_WAIT;
            for run in self.reports.0.outbox.runs() {
                let pause = pauses.get(&run).copied();
                match pause.map(Pause::end).filter(|end| *end > now) {
                    Some(end) => next = next.min(end),
                    None => {
                        if self.write_next(&run, &limiter).await {
                            pauses.insert(run, Pause::after(pause, Instant::now()));
                            next = next.min(Instant::now() + limits::CONTACT_REPORT_PAUSE_MIN);
                        }
                    }
                }
            }
            pauses.retain(|_, pause| pause.last.elapsed() < PAUSE_RESET_AFTER);
            tokio::select! {
                () = self.reports.0.outbox.changed() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Writes the contribution of a run. Returns whether it sent a request.
    async fn write_next(&self, key: &RunKey, limiter: &RateLimiter) -> bool {
        let shared = &self.reports.0;
        let Some(outgoing) = shared.outbox.take(key) else {
            return false;
        };
        let Some((namespace, run)) = self.run_of(key) else {
            // The run was deleted, and its reports with it.
            return false;
        };
        let name = report_name(&run.name, &run.uid, &shared.observer.name);
        let reference = ObjectRef::new(&name).within(&namespace);
        let stored = shared.store.get(&reference);
        let is_stored = match &stored {
            Some(stored) => outgoing.matches(stored),
            None => outgoing.is_empty(),
        };
        if is_stored {
            return false;
        }
        tokio::time::sleep(limiter.reserve(Instant::now())).await;
        match self.write(&namespace, &name, run, &outgoing).await {
            Ok(()) => count(&shared.counters.written, 1),
            Err(error) => {
                count(&shared.counters.failed, 1);
                let is_final = matches!(error, ApiError::Refused(_));
                let (run, error) = (key.as_str(), chain(&error));
                tracing::warn!(
                    run,
                    error,
                    "Failed to write a ContactReport; the other nodes of the run lack these contacts until a retry succeeds."
                );
                if !is_final {
                    shared.outbox.put_back(key.clone(), outgoing);
                }
            }
        }
        true
    }

    async fn write(
        &self,
        namespace: &str,
        name: &str,
        run: RunReference,
        outgoing: &Outgoing,
    ) -> Result<(), ApiError> {
        let observer = &self.reports.0.observer;
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(
                [
                    (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
                    (labels::RUN_UID, &run.uid),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: AgentRun::api_version(&()).into_owned(),
                kind: AgentRun::kind(&()).into_owned(),
                name: run.name.clone(),
                uid: run.uid.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        };
        let report = ContactReport {
            metadata,
            spec: ContactReportSpec {
                run,
                node: observer.node(),
                pods: outgoing.pods.clone(),
                answered: outgoing.answered.clone(),
            },
            status: None,
        };
        let manager = FieldManager::contacts(&observer.name);
        self.writer
            .apply(&manager, namespace, name, &report, Conflicts::TakeOver)
            .await
            .map(drop)
    }

    /// Namespace and reference of the run with this key, if it still exists.
    fn run_of(&self, key: &RunKey) -> Option<(String, RunReference)> {
        let (namespace, uid) = key.as_str().split_once('/')?;
        let runs = &self.stores.runs;
        let is_it = |run: &AgentRun| run.metadata.uid.as_deref() == Some(uid);
        let run: Arc<AgentRun> = runs.within_where(namespace, is_it).pop()?;
        let reference = RunReference {
            name: run.name_any(),
            uid: uid.to_owned(),
        };
        Some((namespace.to_owned(), reference))
    }
}
