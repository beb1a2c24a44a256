//! The engine: one state per pod, one entry for every signal.
//!
//! Called by the operator for each attributed signal and by `replay` for each recorded one. It
//! knows event time only, so a replay gives the same findings as the live stream did. A signal
//! touches the state of its own pod and, with the contacts that it brings, that of the pod's run.

mod contributions;
mod saved;

use std::collections::HashMap;

use super::attributed::{Attributed, Origin, Workload};
use super::contacts::{CLOCK_JUMP_US, Change, Judged, LOG_GAP_US};
use super::intel::PoolList;
use super::origin::{OriginId, Origins, Read};
use super::pod::Pod;
use super::run::{Run, RunCrossing};
use super::scope::Scopes;
use super::sketch::{HashKey, KeyedState};
use super::visibility::Lack;
use crate::limits;
use crate::model::{EventTime, Finding, PodKey, RunKey, Severity, Signal, Subject};

pub use self::saved::{RestoreError, Saving};

/// How many false quarantines are accepted, and how much happens in which they can.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorBudget {
    /// Pods that are watched.
    pub pods: f64,
    /// First contacts without a DNS answer per pod and day.
    pub contacts_per_pod_day: f64,
    /// False quarantines per day that are accepted.
    pub false_quarantines_per_day: f64,
}

impl ErrorBudget {
    /// The line for a quarantine: a floored walk of an honest pod crosses h with probability
    /// e^-h per contact at most, so h = ln(pods x contacts / false quarantines).
    #[must_use]
    pub fn threshold_nats(self) -> f64 {
        let contacts_per_day = self.pods.max(1.0) * self.contacts_per_pod_day.max(1.0);
        (contacts_per_day / self.false_quarantines_per_day.max(1e-6)).ln()
    }

    /// The line for an alert: one false one in 500 pod-days, over two sums of which either
    /// raises it (see `walk`). h = ln(2 x contacts x 500), which is ln 1e6 = 13.8 nats, 24
    /// straight failures. It does not depend on the number of pods: who has more of them looks at
    /// more alerts.
    #[must_use]
    pub fn alert_nats(self) -> f64 {
        (2.0 * self.contacts_per_pod_day.max(1.0) / FALSE_ALERTS_PER_POD_DAY).ln()
    }
}

/// See [`ErrorBudget::alert_nats`]. A team with 10,000 pods then looks at twenty a day if all of
/// its pods are of the worst honest kind.
const FALSE_ALERTS_PER_POD_DAY: f64 = 2e-3;

impl Default for ErrorBudget {
    /// 10,000 pods with 1,000 such contacts a day and one false quarantine in 50 days:
    /// ln(1e4 x 1e3 / 0.02) = ln 5e8 = 20.03 nats, which are 35 straight failures
    /// (35 x 0.588 = 20.57).
    fn default() -> Self {
        Self {
            pods: 10_000.0,
            contacts_per_pod_day: 1_000.0,
            false_quarantines_per_day: 0.02,
        }
    }
}

/// What the engine has to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The cluster's ranges.
    pub scopes: Scopes,
    /// The user's pool list.
    pub pools: PoolList,
    /// The user's list of tunnel services.
    pub tunnels: PoolList,
    /// The starter list of pools: a match is an alert and adds to nothing else.
    pub starter_pools: PoolList,
    /// The starter list of tunnel services, in the same way.
    pub starter_tunnels: PoolList,
    /// The line that a walk has to cross for a quarantine; see [`ErrorBudget`].
    pub threshold_nats: f64,
    /// The line for an alert.
    pub alert_nats: f64,
    /// The secret under which targets are hashed.
    pub hash_key: HashKey,
    /// Whether engines of other nodes may see pods of the same runs: then this one keeps what it
    /// contributes to them ([`Engine::take_contributions`]).
    pub shares_runs: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let budget = ErrorBudget::default();
        Self {
            scopes: Scopes::default(),
            pools: PoolList::default(),
            tunnels: PoolList::default(),
            starter_pools: PoolList::default(),
            starter_tunnels: PoolList::default(),
            threshold_nats: budget.threshold_nats(),
            alert_nats: budget.alert_nats(),
            hash_key: HashKey::default(),
            shares_runs: false,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    config: EngineConfig,
    pods: HashMap<PodKey, Box<Pod>, KeyedState>,
    runs: HashMap<RunKey, Run, KeyedState>,
    origins: Origins,
    refused_pod_count: u64,
    /// Contacts that the current step has judged; kept for its memory.
    judged: Vec<Judged>,
}

impl Engine {
    /// An engine that has seen nothing yet.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let state = KeyedState(config.hash_key);
        Self {
            config,
            pods: HashMap::with_hasher(state),
            runs: HashMap::with_hasher(state),
            ..Self::default()
        }
    }

    /// The cluster's ranges, from now on.
    pub fn set_scopes(&mut self, scopes: Scopes) {
        self.config.scopes = scopes;
    }

    /// Takes in one signal of a pod: the only way in. Returns the findings that are news: a pod's
    /// first one of a signature, a more severe one, or one with twice the contacts of the last. They
    /// may be about other pods of the same run too, which have done their part of a scan before.
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
            leave(&mut self.runs, pod.subject.run.as_ref());
            pod.subject.run.clone_from(&subject.run);
            join(&mut self.runs, subject.run.as_ref(), &self.config);
        }
        self.judged.clear();
        let crossings = if let Signal::Sample(sample) = signal {
            // Samples come from another clock than the log: they say nothing about how far it was
            // read, and no contact waits for an answer in them.
            pod.observe_sample(sample, &self.config)
        } else {
            let id = self.origins.id(origin, pod.origin);
            pod.come_from(id, &self.origins);
            self.origins.observe(id, signal, self.config.hash_key);
            let read = pod.read_by(signal.time(), &self.origins);
            let mut crossings =
                pod.take_in(signal, neighbour, (&self.config, &read), &mut self.judged);
            crossings.extend(pod.settle(&read, CLOCK_JUMP_US, &self.config, &mut self.judged));
            crossings
        };
        let mut findings = pod.news(crossings);
        self.note_lacks();
        if !self.judged.is_empty() && subject.run.is_some() {
            let judged = std::mem::take(&mut self.judged);
            for contact in &judged {
                self.observe_run(subject, workload, contact, &mut findings);
            }
            self.judged = judged;
        }
        findings
    }

    /// Judges what is overdue in all pods, for pods that have fallen silent: call it now and then
    /// with the time up to which each source has been read, and at a log's end. `None` for a source
    /// of which that is not known: its contacts wait on.
    pub fn settle(&mut self, read_up_to: impl Fn(u16) -> Option<EventTime>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut contacts = Vec::new();
        for pod in self.pods.values_mut() {
            self.judged.clear();
            for id in pod.waits_for(&self.origins) {
                let Some(now) = self.origins.read_up_to(id, &read_up_to) else {
                    continue;
                };
                let read = Read::source_of(&self.origins, id, now);
                let crossings = pod.settle(&read, LOG_GAP_US, &self.config, &mut self.judged);
                findings.extend(pod.news(crossings));
            }
            let of_pod = |contact: &Judged| (*contact, pod.subject.clone(), pod.workload);
            contacts.extend(self.judged.iter().map(of_pod));
        }
        for (contact, ..) in &contacts {
            note_lack(&mut self.origins, contact);
        }
        // The map's order depends on its past; what a run sees first must not.
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

    /// A record of this log that belongs to no pod, or to none that is known. It says nothing about
    /// anybody, but shows what the log shows.
    pub fn heard(&mut self, origin: Origin<'_>, signal: &Signal<'_>) {
        if matches!(signal, Signal::Flow(_)) {
            let id = self.origins.id(origin, OriginId::default());
            self.origins.observe(id, signal, self.config.hash_key);
        }
    }

    /// What logs do not show although contacts needed it to be judged: source, node, what.
    pub fn lacking(&self) -> impl Iterator<Item = (u16, Option<&str>, Lack)> {
        self.origins.lacking()
    }

    fn note_lacks(&mut self) {
        for contact in &self.judged {
            note_lack(&mut self.origins, contact);
        }
    }

    /// Adds a contact to its pod's run, and the run's findings to the others.
    fn observe_run(
        &mut self,
        subject: &Subject,
        workload: Workload,
        contact: &Judged,
        findings: &mut Vec<Finding>,
    ) {
        let run = subject.run.as_ref().and_then(|key| self.runs.get_mut(key));
        let Some(run) = run else { return };
        for rise in run.observe(&subject.pod, contact, &self.config, workload) {
            name_pods(&rise, &mut self.pods, &self.config, findings);
        }
    }

    /// A log lost records: the silence of targets says nothing for a while to the pods whose records
    /// come from there. Without a node, those of all nodes of the source may be missing.
    pub fn lost(&mut self, origin: Origin<'_>, time: EventTime, count: u64) {
        if count > 0 {
            self.origins.lost(origin, time);
        }
    }

    /// Forgets a pod that was released: its state starts anew. What it did as part of its run stays in
    /// the run's walks, but nothing is said about the pod for it any more, here or by other engines that
    /// get the contributions of this one from now on.
    pub fn forget(&mut self, pod: &PodKey) {
        if let Some(run) = self.drop_pod(pod) {
            run.withdraw(pod);
        }
    }

    /// Drops a pod that is gone or was released. What it did as part of its run stays in the run's walks, else a
    /// scan by one short-lived pod after another would never be seen. Returns its run.
    fn drop_pod(&mut self, pod: &PodKey) -> Option<&mut Run> {
        let state = self.pods.remove(pod)?;
        let key = state.subject.run.as_ref();
        leave(&mut self.runs, key);
        let run = self.runs.get_mut(key?)?;
        run.disown(pod);
        Some(run)
    }

    /// The score of the highest walk of a pod as it stands now, for "why not": compare it with
    /// the lines in [`EngineConfig`].
    #[must_use]
    pub fn highest_walk_nats(&self, pod: &PodKey) -> f64 {
        self.pods
            .get(pod)
            .map_or(0.0, |pod| pod.scan.highest_nats())
    }

    /// Contacts of all pods that wait for an answer or for their time to run out.
    #[must_use]
    pub fn waiting_contact_count(&self) -> usize {
        let waiting = self.pods.values().map(|pod| pod.contacts.waiting_count());
        waiting.sum()
    }

    /// How many contacts of a pod could not be judged, because its log has not shown, or not yet, what
    /// became of them.
    #[must_use]
    pub fn unjudged_count(&self, pod: &PodKey) -> usize {
        let pod = self.pods.get(pod);
        pod.map_or(0, |pod| pod.contacts.unjudged_count())
    }

    /// Pods with state.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Runs with state.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Signals that were left out because [`limits::PODS_MAX`] other pods had state. Never zero
    /// in silence: the shell must say it.
    #[must_use]
    pub fn refused_signal_count(&self) -> u64 {
        self.refused_pod_count
    }
}

fn note_lack(origins: &mut Origins, contact: &Judged) {
    if contact.is_server_answer {
        return;
    }
    let transport = contact.target.transport;
    let lack = match contact.change {
        Change::Unshown if contact.shown_since.is_none() => Lack::Answers(transport),
        Change::Failed if contact.shown_since.is_none() => Lack::AllowedFlows(transport),
        _ => return,
    };
    origins.lacks(contact.origin, lack, contact.time);
}

/// Findings about the pods that a walk of their run is about.
fn name_pods(
    rise: &RunCrossing<'_>,
    pods: &mut HashMap<PodKey, Box<Pod>, KeyedState>,
    config: &EngineConfig,
    findings: &mut Vec<Finding>,
) {
    for (member, key) in rise.pods() {
        // A pod that is gone or on another node stays in the sums, but nothing is said about it here.
        let Some(pod) = pods.get_mut(key) else {
            continue;
        };
        if !pod.told.is_news(rise.word(rise.severity)) || !rise.is_shared() {
            continue;
        }
        let peers = rise.peers_around(&pod.scan);
        let severity = if peers.is_some() {
            Severity::Alert
        } else {
            rise.severity
        };
        if pod.told.is_news(rise.word(severity)) {
            let has_dns = pod.contacts.has_dns();
            let crossing = rise.crossing(member, severity, peers, has_dns, config);
            findings.extend(pod.news(vec![crossing]));
        }
    }
}

fn join(runs: &mut HashMap<RunKey, Run, KeyedState>, key: Option<&RunKey>, config: &EngineConfig) {
    let Some(key) = key else { return };
    if !runs.contains_key(key) && runs.len() >= limits::RUNS_MAX {
        // As many runs as there may be pods, so one of them has no pod any more.
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

fn leave(runs: &mut HashMap<RunKey, Run, KeyedState>, key: Option<&RunKey>) {
    if let Some(run) = key.and_then(|key| runs.get_mut(key)) {
        run.pod_count = run.pod_count.saturating_sub(1);
    }
}
