//! What engines of several nodes exchange about the runs whose pods they share out among them.
//!
//! Called by the shell every so often: it carries contributions from engine to engine, knows of
//! which pods they may be, and hands in only what is new.

use super::{Engine, join, leave};
use crate::detect::contribution::Contribution;
use crate::detect::pod::Pod;
use crate::limits;
use crate::model::{EventTime, Finding, RunKey, Subject};

impl Engine {
    /// What the pods of this engine contribute to their runs: of each run for which that may have
    /// changed since the last call, all of it. An empty contribution takes back an earlier one.
    pub fn take_contributions(&mut self, now: EventTime) -> Vec<(RunKey, Contribution)> {
        let runs = self.runs.iter_mut();
        let changed =
            runs.filter_map(|(key, run)| Some((key.clone(), run.take_contribution(now)?)));
        let mut changed: Vec<_> = changed.collect();
        changed.sort_by(|(a, _), (b, _)| a.cmp(b));
        changed
    }

    /// A pod of this engine had contributed to its run before the engine was started again. From now
    /// on it has state again, so that what others contribute can become a finding about it before its
    /// next record does.
    pub fn readmit(&mut self, subject: &Subject) {
        if self.pods.len() >= limits::PODS_MAX && !self.pods.contains_key(&subject.pod) {
            return;
        }
        let new = || Box::new(Pod::new(&subject.pod));
        let pod = self.pods.entry(subject.pod.clone()).or_insert_with(new);
        if pod.subject.run != subject.run {
            leave(&mut self.runs, pod.subject.run.as_ref());
            pod.subject.run.clone_from(&subject.run);
            join(&mut self.runs, subject.run.as_ref(), &self.config);
        }
    }

    /// Takes in what another engine contributes to a run, or with `is_own` what this one had
    /// contributed before it was started again. `None` where the run has no pod here: then it says
    /// nothing to this engine yet. Findings are about pods of this engine alone.
    pub fn contributed(
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
            for rise in run.observe_shared(pod, contact, is_own, config) {
                super::name_pods(&rise, pods, config, &mut findings);
            }
        }
        findings.sort_by(|a, b| a.subject.pod.cmp(&b.subject.pod));
        Some(findings)
    }

    /// Whether a run has state here.
    #[must_use]
    pub fn has_run(&self, run: &RunKey) -> bool {
        self.runs.contains_key(run)
    }

    /// The score of the highest walk of a run.
    #[cfg(test)]
    pub(in crate::detect) fn run_nats(&self, run: &RunKey) -> f64 {
        self.runs.get(run).map_or(0.0, super::Run::highest_nats)
    }
}
