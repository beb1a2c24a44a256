//! The recorder: writes findings into Incidents, before any action (INV-5).
//!
//! One task. A finding that cannot be written yet (API server unreachable, run of the pod unknown) is
//! retried. For each pod and signature only the latest finding waits, so the queue is bounded and no
//! pod is lost.

mod evidence;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::api::ObjectMeta;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::evidence::incident_name;
use self::evidence::{evidence_entry, prepend_course};
use super::snapshot::RunSettings;
use crate::api::{
    AgentRun, EvidenceEntry, Incident, IncidentSpec, Mode, RunReference, SubjectReference, labels,
};
use crate::cluster::{
    ApiError, Conflicts, FieldManager, IndexKey, RunId, RunMembership, Stores, Writer,
};
use crate::guardrails::ceiling::Effective;
use crate::limits;
use crate::model::{EventTime, Finding, Signature, trace_id};
use crate::observability::{Counters, FindingResult};

/// How long a finding waits until the run of its pod is known.
const UNKNOWN_RUN_WAIT: Duration = Duration::from_mins(1);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// A finding with the pod that it was attributed to.
#[derive(Clone, Debug)]
pub(crate) struct AttributedFinding {
    /// What was found.
    pub finding: Finding,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Node of the pod.
    pub node: Option<String>,
    /// Addresses of the pod.
    pub ips: Vec<IpAddr>,
    /// Held until the finding is recorded or dropped.
    pub guard: Arc<AckGuard>,
}

/// Held by a finding until it is recorded. Until it is dropped, the lines that led to the finding are
/// not acknowledged and are read again after a crash.
#[derive(Debug)]
pub(crate) struct AckGuard;

/// Writes findings into Incidents.
pub(crate) struct Recorder {
    /// The stores.
    pub stores: Stores,
    /// Which pod belongs to which run.
    pub membership: RunMembership,
    /// Writes to the API server.
    pub writer: Writer,
    /// The name of the observer: the node, the replica, or `controller`.
    pub observer: String,
    /// The settings of a run.
    pub settings: RunSettings,
    /// Treat every run as if its modes were `Observe`.
    pub observe_all: bool,
    /// Findings by outcome.
    pub counters: Arc<Counters<FindingResult>>,
}

/// The last version of each Incident from the API server, by pod UID. The store may lag behind, and an
/// apply without an entry would delete it.
type Written = HashMap<String, Incident>;

struct Waiting {
    found: AttributedFinding,
    /// The guard of the first of several findings: after a crash, the later lines alone may not lead to
    /// the finding.
    first: Option<Arc<AckGuard>>,
    since: Instant,
    next: Instant,
    attempts: u32,
}

enum Recorded {
    Done,
    NoRunYet,
}

impl Recorder {
    /// Runs until the channel closes. Stopping earlier would drop guards, and lines of
    /// unrecorded findings would be acknowledged.
    pub(crate) async fn run(self, mut findings: mpsc::Receiver<AttributedFinding>) {
        let mut waiting: HashMap<(String, Signature), Waiting> = HashMap::new();
        let mut written = Written::new();
        loop {
            let next = waiting.values().map(|waiting| waiting.next).min();
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                found = findings.recv() => match found {
                    Some(found) => self.enqueue(&mut waiting, found),
                    None => return,
                },
                () = due => {}
            }
            self.record_due(&mut waiting, &mut written).await;
        }
    }

    fn enqueue(
        &self,
        waiting: &mut HashMap<(String, Signature), Waiting>,
        found: AttributedFinding,
    ) {
        let key = (
            found.finding.subject.pod.as_str().to_owned(),
            found.finding.signature,
        );
        let now = Instant::now();
        if let Some(known) = waiting.get_mut(&key) {
            // Lines are acknowledged in order: the first guard also holds back the lines of the others.
            known
                .first
                .get_or_insert_with(|| Arc::clone(&known.found.guard));
            if found.finding.severity >= known.found.finding.severity {
                known.found = found;
            }
            return;
        }
        if waiting.len() >= limits::FINDINGS_QUEUE_MAX {
            self.counters.count(FindingResult::Overflowed);
            tracing::error!(
                pod = found.pod,
                "Dropped a finding: too many findings are waiting."
            );
            return;
        }
        waiting.insert(
            key,
            Waiting {
                found,
                first: None,
                since: now,
                next: now,
                attempts: 0,
            },
        );
    }

    async fn record_due(
        &self,
        waiting: &mut HashMap<(String, Signature), Waiting>,
        written: &mut Written,
    ) {
        let now = Instant::now();
        let due: Vec<_> = waiting
            .iter()
            .filter(|(_, waiting)| waiting.next <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(mut entry) = waiting.remove(&key) else {
                continue;
            };
            match self.record(&entry.found, written).await {
                Ok(Recorded::Done) => {}
                Ok(Recorded::NoRunYet) if entry.since.elapsed() < UNKNOWN_RUN_WAIT => {
                    entry.next = Instant::now() + RETRY_MIN;
                    waiting.insert(key, entry);
                }
                Ok(Recorded::NoRunYet) => {
                    self.counters.count(FindingResult::WithoutRun);
                    let found = &entry.found;
                    tracing::info!(
                        namespace = found.namespace,
                        pod = found.pod,
                        signature = found.finding.signature.name(),
                        "Found a signature in a pod without an AgentRun; no action is taken."
                    );
                }
                Err(error) => self.retry_later(waiting, key, entry, &error),
            }
        }
    }

    fn retry_later(
        &self,
        waiting: &mut HashMap<(String, Signature), Waiting>,
        key: (String, Signature),
        mut entry: Waiting,
        error: &ApiError,
    ) {
        let text = crate::observability::chain(error);
        let pod = entry.found.pod.clone();
        if matches!(error, ApiError::Refused(_)) && entry.attempts > 3 {
            self.counters.count(FindingResult::Refused);
            tracing::error!(
                pod,
                error = text,
                "Dropped a finding: the API server refused its Incident."
            );
            return;
        }
        self.counters.count(FindingResult::Retried);
        tracing::warn!(
            pod,
            error = text,
            "Failed to write an Incident; will retry."
        );
        entry.attempts = entry.attempts.saturating_add(1);
        let delay = RETRY_MIN
            .saturating_mul(1 << entry.attempts.min(6))
            .min(RETRY_MAX);
        entry.next = Instant::now() + delay;
        waiting.insert(key, entry);
    }

    async fn record(
        &self,
        found: &AttributedFinding,
        written: &mut Written,
    ) -> Result<Recorded, ApiError> {
        let uid = found.finding.subject.pod.as_str();
        let Some(run_id) = self.membership.run_of(uid) else {
            return Ok(Recorded::NoRunYet);
        };
        let Some(run) = self.stored_run(&run_id) else {
            return Ok(Recorded::NoRunYet);
        };
        let mode = mode_of(&(self.settings)(&run), found.finding.signature);
        if mode == Mode::Disabled {
            self.counters.count(FindingResult::Disabled);
            return Ok(Recorded::Done);
        }
        let observe_only = self.observe_all || mode == Mode::Observe;
        if self.is_closed_since(found) {
            return Ok(Recorded::Done);
        }
        let entry = evidence_entry(&self.observer, &found.finding, observe_only);
        let incident = self.incident(found, &run_id, &run, entry, written.get(uid));
        let name = incident.metadata.name.clone().unwrap_or_default();
        let manager = FieldManager::evidence(&self.observer);
        let stored = self
            .writer
            .apply(
                &manager,
                &found.namespace,
                &name,
                &incident,
                Conflicts::Respect,
            )
            .await?;
        if written.len() >= limits::FINDINGS_QUEUE_MAX {
            // The store has caught up with all of them.
            written.clear();
        }
        let trace_id = trace_id(stored.metadata.uid.as_deref().unwrap_or_default());
        written.insert(uid.to_owned(), stored);
        self.counters.count(FindingResult::Recorded);
        tracing::info!(
            namespace = found.namespace,
            run = run_id.name,
            pod = found.pod,
            incident = name,
            trace_id,
            signature = found.finding.signature.name(),
            severity = found.finding.severity.name(),
            contacts = found.finding.evidence.contact_count,
            "Recorded a finding."
        );
        Ok(Recorded::Done)
    }

    /// Whether an Incident of this pod was closed after the last record that led to the finding. After a
    /// crash lines are read again, and must not open a new Incident for what a human has decided.
    fn is_closed_since(&self, found: &AttributedFinding) -> bool {
        let uid = found.finding.subject.pod.as_str();
        let last = found.finding.evidence.last;
        let is_later = |incident: &Incident| {
            let closed_at = incident.status.as_ref().and_then(|s| s.closed_at.as_ref());
            incident.metadata.namespace.as_ref() == Some(&found.namespace)
                && closed_at.is_some_and(|time| last < EventTime::from(time.0))
        };
        let of_pod = self.incidents_of(uid);
        of_pod.iter().any(|incident| is_later(incident))
    }

    /// The Incidents about a pod, open and closed.
    fn incidents_of(&self, pod_uid: &str) -> Vec<Arc<Incident>> {
        let key = IndexKey::Subject(pod_uid.to_owned());
        self.stores.incidents.with_key(&key)
    }

    fn stored_run(&self, id: &RunId) -> Option<Arc<AgentRun>> {
        let key = kube::runtime::reflector::ObjectRef::new(&id.name).within(&id.namespace);
        let run = self.stores.runs.get(&key)?;
        (run.metadata.uid.as_deref() == Some(&id.uid)).then_some(run)
    }

    /// The pod's open Incident with the new entry, or a new one. It contains only the fields that this
    /// observer owns.
    fn incident(
        &self,
        found: &AttributedFinding,
        run_id: &RunId,
        run: &AgentRun,
        entry: EvidenceEntry,
        written: Option<&Incident>,
    ) -> Incident {
        let uid = found.finding.subject.pod.as_str();
        // One of another node is not about the pod: an agent that lies wrote it, and would refuse this entry.
        let mut of_pod = self.incidents_of(uid);
        of_pod.retain(|incident| {
            incident.metadata.namespace.as_ref() == Some(&found.namespace)
                && incident.spec.subject.node == found.node
        });
        let is_known_closed = |incident: &&Incident| {
            let same = |known: &&Arc<Incident>| known.metadata.name == incident.metadata.name;
            of_pod
                .iter()
                .find(same)
                .is_some_and(|known| known.is_closed())
        };
        let written = written.filter(|incident| !is_known_closed(incident));
        let open = of_pod
            .iter()
            .find(|incident| !incident.is_closed())
            .map(AsRef::as_ref);
        let evidence = self.evidence(entry, [written, open].into_iter().flatten());
        let open = open.or(written);
        let spec = match open {
            Some(known) => IncidentSpec {
                evidence,
                observations: Vec::new(),
                disposition: None,
                ..known.spec.clone()
            },
            None => new_spec(found, run_id, run, evidence),
        };
        // A name may be taken by an Incident about another pod, because anybody can compute it.
        let new_name = || {
            let any = self
                .stores
                .incidents
                .within_where(&found.namespace, |_| true);
            let taken: HashSet<&str> = any
                .iter()
                .filter_map(|known| known.metadata.name.as_deref())
                .collect();
            // One more name than Incidents, so one of them is free.
            (0..=taken.len())
                .map(|nth| incident_name(&found.pod, uid, nth))
                .find(|name| !taken.contains(name.as_str()))
        };
        let name = open
            .and_then(|incident| incident.metadata.name.clone())
            .or_else(new_name);
        Incident {
            metadata: metadata(name, found, run_id),
            spec,
            status: None,
        }
    }

    /// The new entry and the earlier entries of this observer for other signatures.
    fn evidence<'i>(
        &self,
        mut entry: EvidenceEntry,
        before: impl Iterator<Item = &'i Incident>,
    ) -> Vec<EvidenceEntry> {
        let before: Vec<_> = before
            .flat_map(|incident| &incident.spec.evidence)
            .collect();
        let is_same = |known: &&&EvidenceEntry| {
            known.observer == self.observer && known.signature == entry.signature
        };
        // The first match is the latest version.
        if let Some(known) = before.iter().find(is_same) {
            prepend_course(&mut entry, known);
        }
        let mut evidence = vec![entry];
        for known in before {
            let is_new = evidence
                .iter()
                .all(|entry| entry.signature != known.signature);
            if known.observer == self.observer && is_new {
                evidence.push(known.clone());
            }
        }
        evidence
    }
}

fn new_spec(
    found: &AttributedFinding,
    run_id: &RunId,
    run: &AgentRun,
    evidence: Vec<EvidenceEntry>,
) -> IncidentSpec {
    IncidentSpec {
        run: Some(RunReference {
            name: run_id.name.clone(),
            uid: run_id.uid.clone(),
        }),
        subject: SubjectReference {
            name: found.pod.clone(),
            uid: found.finding.subject.pod.as_str().to_owned(),
            node: found.node.clone(),
            pod_ips: found.ips.iter().take(8).map(ToString::to_string).collect(),
        },
        evidence,
        observations: Vec::new(),
        disposition: None,
        trace: run.spec.trace.clone(),
    }
}

fn metadata(name: Option<String>, found: &AttributedFinding, run_id: &RunId) -> ObjectMeta {
    let labels = [
        (labels::POD_UID, found.finding.subject.pod.as_str()),
        (labels::RUN, run_id.name.as_str()),
        (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
    ];
    ObjectMeta {
        name,
        namespace: Some(found.namespace.clone()),
        labels: Some(
            labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..ObjectMeta::default()
    }
}

/// The mode of a run for this signature.
#[must_use]
pub(crate) const fn mode_of(settings: &Effective, signature: Signature) -> Mode {
    match signature {
        Signature::HorizontalScan | Signature::VerticalScan => settings.scan,
        Signature::Mining => settings.mining,
        Signature::ReverseTunnel | Signature::DnsTunnel | Signature::TunnelService => {
            settings.tunnel
        }
    }
}
