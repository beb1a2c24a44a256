//! The engine: one state per pod, one entry for every signal.
//!
//! Called by the operator for each attributed signal and by `replay` for each recorded one. It
//! knows event time only, so a replay gives the same findings as the live stream did. A signal
//! touches the state of its own pod and, with the contacts that it brings, that of the pod's run.

mod saved;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::contacts::{CLOCK_JUMP_US, Contacts, Judged, LOG_GAP_US};
use super::intel::PoolList;
use super::loss::Loss;
use super::run::Run;
use super::scan::{Crossing, Scan, Surroundings};
use super::scope::{Scope, Scopes};
use super::sketch::{HashKey, KeyedState};
use super::told::{Told, Word};
use super::traffic::Traffic;
use crate::limits;
use crate::model::{
    EventTime, Finding, Neighbour, Outcome, PodKey, RunKey, Severity, Signal, Subject,
};

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
    /// The line that a walk has to cross for a quarantine; see [`ErrorBudget`].
    pub threshold_nats: f64,
    /// The line for an alert.
    pub alert_nats: f64,
    /// The secret under which targets are hashed.
    pub hash_key: HashKey,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let budget = ErrorBudget::default();
        Self {
            scopes: Scopes::default(),
            pools: PoolList::default(),
            tunnels: PoolList::default(),
            threshold_nats: budget.threshold_nats(),
            alert_nats: budget.alert_nats(),
            hash_key: HashKey::default(),
        }
    }
}

/// What the run's owner said that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workload {
    /// Nothing special.
    #[default]
    Standard,
    /// It follows links, so failures on the Internet weigh half; in other scopes as ever.
    Crawler,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    config: EngineConfig,
    pods: HashMap<PodKey, Box<Pod>, KeyedState>,
    runs: HashMap<RunKey, Run, KeyedState>,
    losses: HashMap<Box<str>, Loss>,
    /// Losses of all nodes together, for pods whose node nobody told.
    loss_anywhere: Loss,
    refused_pod_count: u64,
    /// Contacts that the current step has judged; kept for its memory.
    judged: Vec<Judged>,
}

/// All that is known about one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pod {
    subject: Subject,
    workload: Workload,
    node: Option<Box<str>>,
    contacts: Contacts,
    scan: Scan,
    traffic: Traffic,
    told: Told,
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

    /// Takes in one signal of a pod. Returns the findings that are news: a pod's first one of a
    /// signature, a more severe one, or one with twice the contacts of the last. They may be about
    /// other pods of the same run too, which have done their part of a scan before.
    pub fn step(
        &mut self,
        subject: &Subject,
        workload: Workload,
        signal: &Signal<'_>,
    ) -> Vec<Finding> {
        self.step_beside(subject, workload, signal, Neighbour::Stranger)
    }

    /// The same for a caller that knows who the target of a flow is to the pod. Asked for only
    /// where [`Outcome::may_fail`].
    pub fn step_beside(
        &mut self,
        subject: &Subject,
        workload: Workload,
        signal: &Signal<'_>,
        neighbour: Neighbour,
    ) -> Vec<Finding> {
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
            join(&mut self.runs, subject.run.as_ref());
        }
        let loss = pod.loss(&self.losses, self.loss_anywhere);
        self.judged.clear();
        let around = (&self.config, loss);
        let mut crossings = pod.take_in(signal, neighbour, around, &mut self.judged);
        // Samples come from another clock than the log: they say nothing about how far it was read.
        if !matches!(signal, Signal::Sample(_)) {
            let now = (signal.time(), CLOCK_JUMP_US);
            crossings.extend(pod.settle(now, &self.config, loss, &mut self.judged));
        }
        let mut findings = pod.news(crossings);
        if !self.judged.is_empty() && subject.run.is_some() {
            let judged = std::mem::take(&mut self.judged);
            for contact in &judged {
                self.observe_run(subject, workload, contact, &mut findings);
            }
            self.judged = judged;
        }
        findings
    }

    /// Judges what is overdue at `now` in all pods, for pods that have fallen silent: call it
    /// now and then with the time up to which every source has been read, and at a log's end.
    pub fn settle(&mut self, now: EventTime) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut contacts = Vec::new();
        for pod in self.pods.values_mut() {
            let loss = pod.loss(&self.losses, self.loss_anywhere);
            self.judged.clear();
            let crossings = pod.settle((now, LOG_GAP_US), &self.config, loss, &mut self.judged);
            findings.extend(pod.news(crossings));
            let of_pod = |contact: &Judged| (*contact, pod.subject.clone(), pod.workload);
            contacts.extend(self.judged.iter().map(of_pod));
        }
        // The map's order depends on its past; what a run sees first must not.
        contacts.sort_by(|(a, x, _), (b, y, _)| (a.time, &x.pod).cmp(&(b.time, &y.pod)));
        for (contact, subject, workload) in &contacts {
            self.observe_run(subject, *workload, contact, &mut findings);
        }
        findings.sort_by(|a, b| a.subject.pod.cmp(&b.subject.pod));
        self.runs.retain(|_, run| {
            run.pod_count > 0 || now.micros_since(run.last) < limits::EMPTY_RUN_KEPT_US
        });
        findings
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
            for (member, key) in rise.pods() {
                // A pod that is gone stays in the sums, but nobody can be told about it.
                let Some(pod) = self.pods.get_mut(key) else {
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
                    let crossing = rise.crossing(member, severity, peers, has_dns, &self.config);
                    findings.extend(pod.news(vec![crossing]));
                }
            }
        }
    }

    /// A node's log lost records: the silence of its pods says nothing for a while. Pods whose
    /// node is not known ([`Engine::place`]) are meant as well.
    pub fn node_lost(&mut self, node: &str, time: EventTime, count: u64) {
        if count == 0 {
            return;
        }
        self.loss_anywhere.extend(time);
        if let Some(loss) = self.losses.get_mut(node) {
            loss.extend(time);
        } else if self.losses.len() < limits::NODES_MAX {
            let mut loss = Loss::default();
            loss.extend(time);
            self.losses.insert(node.into(), loss);
        }
    }

    /// Says on which node a pod runs, so that only that node's losses count for it.
    pub fn place(&mut self, subject: &Subject, node: &str) {
        if let Some(pod) = self.pods.get_mut(&subject.pod) {
            if pod.node.as_deref() != Some(node) {
                pod.node = Some(node.into());
            }
        } else if self.pods.len() < limits::PODS_MAX {
            let mut pod = Pod::new(&subject.pod);
            pod.node = Some(node.into());
            self.pods.insert(subject.pod.clone(), Box::new(pod));
        }
    }

    /// Forgets a pod that is gone or was released: its state starts anew. What it did as part of its run stays in
    /// the run's walks, else a scan by one short-lived pod after another would never be seen; but
    /// nothing is said about the pod any more.
    pub fn forget(&mut self, pod: &PodKey) {
        if let Some(pod) = self.pods.remove(pod) {
            leave(&mut self.runs, pod.subject.run.as_ref());
        }
    }

    /// The score of the highest walk of a pod as it stands now, for "why not": compare it with
    /// the lines in [`EngineConfig`].
    #[must_use]
    pub fn highest_walk_nats(&self, pod: &PodKey) -> f64 {
        self.pods
            .get(pod)
            .map_or(0.0, |pod| pod.scan.highest_nats())
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

impl Pod {
    fn new(key: &PodKey) -> Self {
        Self {
            subject: Subject {
                pod: key.clone(),
                run: None,
            },
            workload: Workload::default(),
            node: None,
            contacts: Contacts::default(),
            scan: Scan::default(),
            traffic: Traffic::default(),
            told: Told::default(),
        }
    }

    fn loss(&self, losses: &HashMap<Box<str>, Loss>, anywhere: Loss) -> Loss {
        match &self.node {
            Some(node) => losses.get(node).copied().unwrap_or_default(),
            None => anywhere,
        }
    }

    fn take_in(
        &mut self,
        signal: &Signal<'_>,
        neighbour: Neighbour,
        (config, loss): (&EngineConfig, Loss),
        judged: &mut Vec<Judged>,
    ) -> Vec<Crossing> {
        match signal {
            Signal::Flow(flow) => {
                let is_nobody = config.scopes.classify(flow.destination) == Scope::Nobody;
                if is_nobody {
                    return Vec::new();
                }
                let mut crossings = self.traffic.observe_flow(flow, config, &self.told);
                if flow.outcome == Outcome::NotAnAttempt {
                    return crossings;
                }
                let key = config.hash_key;
                if let Some(mut contact) = self.contacts.observe(flow, neighbour, key) {
                    contact.is_lossy = loss.covers(contact.time);
                    let taken_back = self.contacts.taken_back(&contact, key);
                    for contact in [Some(contact), taken_back].into_iter().flatten() {
                        crossings.extend(self.scan(&contact, config));
                        judged.push(contact);
                    }
                }
                crossings
            }
            Signal::Dns(query) => {
                self.contacts.resolved(&query.answers, config.hash_key);
                self.traffic.observe_dns(query, config, &self.told)
            }
            Signal::Tls(tls) => self.traffic.observe_tls(tls, config, &self.told),
            Signal::Sample(sample) => self.traffic.observe_sample(sample, config, &self.told),
            // About a node, not about a pod: `Engine::node_lost`.
            Signal::Lost(_) => Vec::new(),
        }
    }

    /// Judges what is overdue. Time that jumped by more than the second part of `now` has not
    /// simply passed.
    fn settle(
        &mut self,
        now: (EventTime, i64),
        config: &EngineConfig,
        loss: Loss,
        judged: &mut Vec<Judged>,
    ) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        let (now, jump_us) = now;
        let key = config.hash_key;
        self.contacts.pass(now, jump_us);
        while let Some(contact) = self.contacts.overdue(now, key, |time| loss.covers(time)) {
            crossings.extend(self.scan(&contact, config));
            judged.push(contact);
        }
        crossings
    }

    fn scan(&mut self, contact: &Judged, config: &EngineConfig) -> Vec<Crossing> {
        let around = Surroundings {
            config,
            workload: self.workload,
            has_dns: self.contacts.has_dns(),
            told: &self.told,
        };
        self.scan.observe(contact, around)
    }

    /// Keeps what is news.
    fn news(&mut self, crossings: Vec<Crossing>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for Crossing {
            signature,
            severity,
            evidence,
        } in crossings
        {
            let (contact_count, score) = (evidence.contact_count, evidence.score);
            let word = Word {
                signature,
                severity,
                contact_count,
                score,
            };
            if self.told.is_news(word) {
                self.told.tell(word);
                let subject = self.subject.clone();
                findings.push(Finding {
                    subject,
                    signature,
                    severity,
                    evidence,
                });
            }
        }
        findings
    }
}

fn join(runs: &mut HashMap<RunKey, Run, KeyedState>, key: Option<&RunKey>) {
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
    runs.entry(key.clone()).or_default().pod_count += 1;
}

fn leave(runs: &mut HashMap<RunKey, Run, KeyedState>, key: Option<&RunKey>) {
    if let Some(run) = key.and_then(|key| runs.get_mut(key)) {
        run.pod_count = run.pod_count.saturating_sub(1);
    }
}
