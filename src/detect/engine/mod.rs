//! The engine: one state per pod, and one entry point for all signals.
//!
//! The operator calls it for each attributed signal, `replay` for each recorded one. It uses event time only, so a
//! replay returns the same findings as the live stream (INV-9). A signal changes the state of its own pod and, if it
//! resolves a contact, that of the pod's run.

mod contributions;
mod saved;

use std::collections::HashMap;

use super::attributed::{Attributed, Origin, Workload};
use super::config::EngineConfig;
use super::origin::{OriginId, Origins, ReadProgress, VisibilityGap};
use super::pod::Pod;
use super::scan::contacts::{CLOCK_JUMP_US, ContactVerdict, LOG_GAP_US, VerdictChange};
use super::scan::{Run, RunDetection};
use super::scope::Scopes;
use super::state::KeyedState;
use crate::limits;
use crate::model::{EventTime, Finding, PodKey, RunKey, Severity, Signal, Subject, Table};

pub(crate) use self::saved::{RestoreError, Saving};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    config: EngineConfig,
    pods: Table<PodKey, Box<Pod>, KeyedState>,
    runs: Table<RunKey, Run, KeyedState>,
    origins: Origins,
    refused_pod_count: u64,
    /// Verdicts of the current step. Stored only to reuse the allocation.
    verdicts: Vec<ContactVerdict>,
}

impl Engine {
    /// An engine without state.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let state = KeyedState(config.hash_key);
        Self {
            config,
            pods: Table::with_hasher(state),
            runs: Table::with_hasher(state),
            ..Self::default()
        }
    }

    /// Replaces the address ranges of the cluster.
    pub fn set_scopes(&mut self, scopes: Scopes) {
        self.config.scopes = scopes;
    }

    /// Processes one signal of a pod. Returns the findings to report: the first one of a signature, one of a higher
    /// severity, or one with twice the contacts of the last. They may also concern other pods of the same run that
    /// contributed to a scan before.
    pub fn step(&mut self, attributed: &Attributed<'_>) -> Vec<Finding> {
        let Attributed {
            signal,
            subject,
            origin,
            neighbour,
            workload,
        } = *attributed;
        if self.pods.len() >= limits::PODS_MAX && !self.pods.contains_key(&subject.pod) {
            self.refused_pod_count = self.refused_pod_count.saturating_add(1);
            return Vec::new();
        }
        let pod = match self.pods.get_mut(&subject.pod) {
            Some(pod) => pod,
            None => self
                .pods
                .entry(subject.pod.clone())
                .or_insert_with(|| Box::new(Pod::new(&subject.pod))),
        };
        pod.workload = workload;
        if pod.subject.run != subject.run {
            remove_pod_from_run(&mut self.runs, pod.subject.run.as_ref());
            pod.subject.run.clone_from(&subject.run);
            add_pod_to_run(&mut self.runs, subject.run.as_ref(), &self.config);
        }
        self.verdicts.clear();
        let detections = if let Signal::Sample(sample) = signal {
            // Samples have another clock than the log: their time does not show how far the log was read, and no
            // contact waits for an answer in them.
            pod.observe_sample(sample, &self.config)
        } else {
            let id = self.origins.id(origin, pod.origin);
            pod.set_origin(id, &self.origins);
            self.origins.observe(id, signal, self.config.hash_key);
            let read = pod.read_progress_at(signal.time(), &self.origins);
            let mut detections =
                pod.observe(signal, neighbour, (&self.config, &read), &mut self.verdicts);
            detections.extend(pod.expire_pending(
                &read,
                CLOCK_JUMP_US,
                &self.config,
                &mut self.verdicts,
            ));
            detections
        };
        let mut findings = pod.report(detections);
        self.record_visibility_gaps();
        if !self.verdicts.is_empty() && subject.run.is_some() {
            let verdicts = std::mem::take(&mut self.verdicts);
            for contact in &verdicts {
                self.observe_run(subject, workload, contact, &mut findings);
            }
            self.verdicts = verdicts;
        }
        findings
    }

    /// Expires overdue contacts of all pods, for pods without new signals. To be called regularly with the time up to
    /// which each source has been read, and at the end of a log. While that time is unknown (`None`), contacts of that
    /// source continue to wait.
    pub fn expire_pending(
        &mut self,
        read_up_to: impl Fn(u16) -> Option<EventTime>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut contacts = Vec::new();
        for pod in self.pods.values_mut() {
            self.verdicts.clear();
            for id in pod.pending_origins(&self.origins) {
                let Some(now) = self.origins.read_up_to(id, &read_up_to) else {
                    continue;
                };
                let read = ReadProgress::source_of(&self.origins, id, now);
                let detections =
                    pod.expire_pending(&read, LOG_GAP_US, &self.config, &mut self.verdicts);
                findings.extend(pod.report(detections));
            }
            let of_pod = |contact: &ContactVerdict| (*contact, pod.subject.clone(), pod.workload);
            contacts.extend(self.verdicts.iter().map(of_pod));
        }
        for (contact, ..) in &contacts {
            record_visibility_gap(&mut self.origins, contact);
        }
        // The iteration order of the map depends on its history; the order in which a run observes contacts must not.
        contacts.sort_by(|(a, x, _), (b, y, _)| (a.time, &x.pod).cmp(&(b.time, &y.pod)));
        for (contact, subject, workload) in &contacts {
            self.observe_run(subject, *workload, contact, &mut findings);
        }
        findings.sort_by(|a, b| a.subject.pod.cmp(&b.subject.pod));
        if let Some(now) = self.origins.latest(&read_up_to) {
            self.runs.retain(|_, run| {
                run.pod_count > 0 || now.micros_since(run.last) < limits::EMPTY_RUN_KEPT_US
            });
        }
        findings
    }

    /// Processes a record of a log that belongs to no pod, or to no known one. It is no evidence about a pod, but it
    /// shows what the log contains.
    pub fn observe_unattributed(&mut self, origin: Origin<'_>, signal: &Signal<'_>) {
        if matches!(signal, Signal::Flow(_)) {
            let id = self.origins.id(origin, OriginId::default());
            self.origins.observe(id, signal, self.config.hash_key);
        }
    }

    /// What the logs do not show although verdicts on contacts depend on it: source, node and kind of gap.
    pub fn visibility_gaps(&self) -> impl Iterator<Item = (u16, Option<&str>, VisibilityGap)> {
        self.origins.visibility_gaps()
    }

    fn record_visibility_gaps(&mut self) {
        for contact in &self.verdicts {
            record_visibility_gap(&mut self.origins, contact);
        }
    }

    /// Passes a contact that no name explains to the run of its pod, and adds the findings about the run's pods to
    /// `findings`.
    fn observe_run(
        &mut self,
        subject: &Subject,
        workload: Workload,
        contact: &ContactVerdict,
        findings: &mut Vec<Finding>,
    ) {
        let run = subject.run.as_ref().and_then(|key| self.runs.get_mut(key));
        let Some(run) = run.filter(|_| contact.domain.is_none()) else {
            return;
        };
        for detection in run.observe(&subject.pod, contact, &self.config, workload) {
            report_members(&detection, &mut self.pods, &self.config, findings);
        }
    }

    /// Records that a log lost `count` records: for some time the silence of targets is no evidence for pods with
    /// records from that log. Without a node, records of every node of the source may be missing.
    pub fn record_loss(&mut self, origin: Origin<'_>, time: EventTime, count: u64) {
        if count > 0 {
            self.origins.record_loss(origin, time);
        }
    }

    /// Resets a pod that was released. Its earlier contacts stay in the walks of its run, but lead to no finding about
    /// this pod any more, neither here nor in engines that receive later contributions of this one.
    pub fn forget(&mut self, pod: &PodKey) {
        if let Some(run) = self.drop_pod(pod) {
            run.withdraw_pod(pod);
        }
    }

    /// Removes a pod that is gone or was released, and returns its run. The pod's contacts stay in the walks of the
    /// run; otherwise a scan by a series of short-lived pods would never be detected.
    fn drop_pod(&mut self, pod: &PodKey) -> Option<&mut Run> {
        let state = self.pods.remove(pod)?;
        let key = state.subject.run.as_ref();
        remove_pod_from_run(&mut self.runs, key);
        let run = self.runs.get_mut(key?)?;
        run.detach_pod(pod);
        Some(run)
    }

    /// The current score of the highest walk of a pod, in nats. Compare it with the thresholds in [`EngineConfig`] to
    /// explain why there is no finding.
    #[must_use]
    pub fn highest_walk_nats(&self, pod: &PodKey) -> f64 {
        self.pods
            .get(pod)
            .map_or(0.0, |pod| pod.scan.highest_nats())
    }

    /// Number of contacts of all pods that wait for an answer or for their timeout.
    #[must_use]
    pub fn waiting_contact_count(&self) -> usize {
        let waiting = self.pods.values().map(|pod| pod.contacts.pending_count());
        waiting.sum()
    }

    /// Number of contacts of a pod without a verdict, because the log has not, or not yet, shown their outcome.
    #[must_use]
    pub fn unjudged_count(&self, pod: &PodKey) -> usize {
        let pod = self.pods.get(pod);
        pod.map_or(0, |pod| pod.contacts.unjudged_count())
    }

    /// Number of pods with state.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Number of runs with state.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Number of signals that were dropped because [`limits::PODS_MAX`] other pods had state. The caller must report
    /// it.
    #[must_use]
    pub fn refused_signal_count(&self) -> u64 {
        self.refused_pod_count
    }
}

fn record_visibility_gap(origins: &mut Origins, contact: &ContactVerdict) {
    if contact.is_server_answer {
        return;
    }
    let transport = contact.target.transport;
    let gap = match contact.change {
        VerdictChange::Unobserved if contact.shown_since.is_none() => {
            VisibilityGap::Answers(transport)
        }
        VerdictChange::Failed if contact.shown_since.is_none() => {
            VisibilityGap::AllowedFlows(transport)
        }
        _ => return,
    };
    origins.record_gap(contact.origin, gap, contact.time);
}

/// Adds a finding for each pod that a walk of its run concerns.
fn report_members(
    detection: &RunDetection<'_>,
    pods: &mut HashMap<PodKey, Box<Pod>, KeyedState>,
    config: &EngineConfig,
    findings: &mut Vec<Finding>,
) {
    for (member, key) in detection.pods() {
        // The contacts of a pod that is gone or runs on another node stay in the sums; only pods with state here get a
        // finding.
        let Some(pod) = pods.get_mut(key) else {
            continue;
        };
        if !pod
            .reported
            .should_report(detection.report_level(detection.severity))
            || !detection.is_shared()
        {
            continue;
        }
        let peers = detection.peer_to_peer_counts(&pod.scan);
        let severity = if peers.is_some() {
            Severity::Alert
        } else {
            detection.severity
        };
        if pod.reported.should_report(detection.report_level(severity)) {
            let has_dns = pod.contacts.has_dns();
            let of_member = detection.for_member(member, severity, peers, has_dns, config);
            findings.extend(pod.report(vec![of_member]));
        }
    }
}

fn add_pod_to_run(
    runs: &mut HashMap<RunKey, Run, KeyedState>,
    key: Option<&RunKey>,
    config: &EngineConfig,
) {
    let Some(key) = key else { return };
    if !runs.contains_key(key) && runs.len() >= limits::RUNS_MAX {
        // The bound equals that of pods, so at least one of these runs has no pods any more.
        let empty = runs.iter().filter(|(_, run)| run.pod_count == 0);
        let oldest = empty.min_by_key(|(key, run)| (run.last, (*key).clone()));
        match oldest.map(|(key, _)| key.clone()) {
            Some(oldest) => runs.remove(&oldest),
            None => return,
        };
    }
    let new = || Run::new(key, config.shares_runs);
    runs.entry(key.clone()).or_insert_with(new).pod_count += 1;
}

fn remove_pod_from_run(runs: &mut HashMap<RunKey, Run, KeyedState>, key: Option<&RunKey>) {
    if let Some(run) = key.and_then(|key| runs.get_mut(key)) {
        run.pod_count = run.pod_count.saturating_sub(1);
    }
}
