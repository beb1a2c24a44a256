//! The exchange between engines of several nodes about runs that have pods on more than one of these nodes.
//!
//! The caller transports contributions between engines at intervals, checks which pods they may concern, and passes on
//! only what is new.

use super::{Engine, add_pod_to_run, remove_pod_from_run};
use crate::detect::pod::Pod;
use crate::detect::scan::Contribution;
use crate::limits;
use crate::model::{EventTime, Finding, RunKey, Subject};

impl Engine {
    /// The contributions of this engine's pods to their runs: the complete contribution of each run for which it may
    /// have changed since the last call. An empty contribution withdraws an earlier one.
    pub fn take_contributions(&mut self, now: EventTime) -> Vec<(RunKey, Contribution)> {
        let runs = self.runs.iter_mut();
        let changed =
            runs.filter_map(|(key, run)| Some((key.clone(), run.take_contribution(now)?)));
        let mut changed: Vec<_> = changed.collect();
        changed.sort_by(|(a, _), (b, _)| a.cmp(b));
        changed
    }

    /// Adds a pod that contributed to its run before the engine was restarted, so that contributions of other engines
    /// can lead to a finding about it before its next record does.
    pub fn readmit(&mut self, subject: &Subject) {
        if self.pods.len() >= limits::PODS_MAX && !self.pods.contains_key(&subject.pod) {
            return;
        }
        let new = || Box::new(Pod::new(&subject.pod));
        let pod = self.pods.entry(subject.pod.clone()).or_insert_with(new);
        if pod.subject.run != subject.run {
            remove_pod_from_run(&mut self.runs, pod.subject.run.as_ref());
            pod.subject.run.clone_from(&subject.run);
            add_pod_to_run(&mut self.runs, subject.run.as_ref(), &self.config);
        }
    }

    /// Applies a contribution of another engine to a run, or with `is_own` the contribution of this engine from before
    /// its restart. Returns `None` if the run has no pod here, so that the contribution has no effect yet. Findings
    /// concern only pods of this engine.
    pub fn apply_contribution(
        &mut self,
        run: &RunKey,
        contribution: &Contribution,
        is_own: bool,
    ) -> Option<Vec<Finding>> {
        let Self {
            runs, pods, config, ..
        } = self;
        let run = runs.get_mut(run)?;
        let failed = contribution.failed.iter();
        let failed = failed.map(|(pod, contact)| (Some(pod), contact));
        let answered = contribution.answered.iter().map(|contact| (None, contact));
        let mut contacts: Vec<_> = failed.chain(answered).collect();
        contacts.sort_by_key(|(pod, contact)| (contact.time, contact.target, *pod));
        let mut findings = Vec::new();
        for (pod, contact) in contacts {
            for detection in run.observe_shared(pod, contact, is_own, config) {
                super::report_members(&detection, pods, config, &mut findings);
            }
        }
        findings.sort_by(|a, b| a.subject.pod.cmp(&b.subject.pod));
        Some(findings)
    }

    /// Whether this engine has state of the run.
    #[must_use]
    pub fn has_run(&self, run: &RunKey) -> bool {
        self.runs.contains_key(run)
    }

    /// The score of the highest walk of a run, in nats.
    #[cfg(test)]
    pub(in crate::detect) fn run_nats(&self, run: &RunKey) -> f64 {
        self.runs.get(run).map_or(0.0, super::Run::highest_nats)
    }
}
