//! Writes the reports of this observer: only what changed, and paced per report and in all.

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

/// After so long without a write, a report may be written as fast as a new one.
const REST: Duration = Duration::from_mins(1);

/// How long the writer sleeps where nothing is due.
const IDLE: Duration = Duration::from_mins(1);

/// See the module.
pub struct ReportWriter {
    /// What is to be written.
    pub reports: ContactReports,
    /// What the cluster looks like.
    pub stores: Stores,
    /// The way to the API server.
    pub writer: Writer,
}

/// When a report may be written next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    last: Instant,
    length: Duration,
}

impl Pause {
    /// After a write at `now`; `before` is the pause after the write before.
    pub(super) fn after(before: Option<Self>, now: Instant) -> Self {
        let length = match before {
            Some(before) if now.saturating_duration_since(before.last) < REST => {
                (before.length * 2).min(limits::CONTACT_REPORT_PAUSE_MAX)
            }
            _ => limits::CONTACT_REPORT_PAUSE_MIN,
        };
        Self { last: now, length }
    }

    /// When it ends.
    pub(super) fn end(self) -> Instant {
        self.last + self.length
    }
}

impl ReportWriter {
    /// Works for ever.
    pub async fn run(self) {
        let limiter = RateLimiter::new(limits::CONTACT_REPORTS_PER_SECOND);
        let mut pauses: HashMap<RunKey, Pause> = HashMap::new();
        loop {
            let now = Instant::now();
            let mut next = now + IDLE;
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
            pauses.retain(|_, pause| pause.last.elapsed() < REST);
            tokio::select! {
                () = self.reports.0.outbox.news() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Writes what waits of a run; returns whether that took a request.
    async fn write_next(&self, key: &RunKey, limiter: &RateLimiter) -> bool {
        let shared = &self.reports.0;
        let Some(outgoing) = shared.outbox.take(key) else {
            return false;
        };
        let Some((namespace, run)) = self.run_of(key) else {
            // The run is gone, and its reports go with it.
            return false;
        };
        let name = report_name(&run.name, &run.uid, &shared.observer.name);
        let reference = ObjectRef::new(&name).within(&namespace);
        let stored = shared.store.get(&reference);
        let is_known = match &stored {
            Some(stored) => outgoing.is_said_by(stored),
            None => outgoing.is_empty(),
        };
        if is_known {
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
                    "The contacts of a run's pods could not be reported to the run's other nodes."
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

    /// The run that the engine knows by this key, if it is still there.
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
