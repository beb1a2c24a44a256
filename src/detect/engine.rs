//! The engine: one state per pod, one entry for every signal.
//!
//! Called by the operator for each attributed signal and by `replay` for each recorded one. It
//! knows event time only, so a replay gives the same findings as the live stream did. A signal
//! touches the state of its own pod and of no other.

use std::collections::HashMap;

use super::contacts::{Contacts, Judged};
use super::intel::PoolList;
use super::scan::{Crossing, Scan, Surroundings};
use super::scope::{Scope, Scopes};
use super::told::{Told, Word};
use super::traffic::Traffic;
use crate::limits;
use crate::model::{EventTime, Finding, Outcome, PodKey, Signal, Subject};

/// How long a node's silence is not believed after it said that it lost records, and how long
/// before that already: an answer that is missing may have been among them.
const LOSS_AFTER_US: i64 = 30_000_000;
const LOSS_BEFORE_US: i64 = super::contacts::ANSWER_WAIT_US;

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

    /// The line for an alert: a look costs a thousandth of a lost training run, so a thousand
    /// times as many false ones are accepted.
    #[must_use]
    pub fn alert_nats(self) -> f64 {
        self.threshold_nats() - 1_000.0_f64.ln()
    }
}

impl Default for ErrorBudget {
    /// 10,000 pods with 1,000 such contacts a day and one false quarantine in 50 days:
    /// ln(1e4 x 1e3 / 0.02) = ln 5e8 = 20.03 nats, which are 35 straight failures
    /// (35 x 0.588 = 20.57). The alert line is 13.1 nats, 23 straight failures.
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
        }
    }
}

/// What the run's owner said that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pods: HashMap<PodKey, Pod>,
    losses: HashMap<Box<str>, Loss>,
    /// Losses of all nodes together, for pods whose node nobody told.
    loss_anywhere: Loss,
    refused_pod_count: u64,
}

/// All that is known about one pod.
#[derive(Clone, Debug)]
struct Pod {
    subject: Subject,
    workload: Workload,
    node: Option<Box<str>>,
    contacts: Contacts,
    scan: Scan,
    traffic: Traffic,
    told: Told,
}

/// A span of event time in which records may be missing.
#[derive(Clone, Copy, Debug)]
struct Loss {
    from: EventTime,
    until: EventTime,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            from: EventTime::MIN,
            until: EventTime::MIN,
        }
    }
}

impl Engine {
    /// An engine that has seen nothing yet.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Takes in one signal of a pod. Returns the findings that are news: a pod's first one of a
    /// signature, a more severe one, or one with twice the contacts of the last.
    pub fn step(
        &mut self,
        subject: &Subject,
        workload: Workload,
        signal: &Signal<'_>,
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
                .or_insert_with(|| Pod::new(subject)),
        };
        pod.workload = workload;
        if pod.subject.run != subject.run {
            pod.subject.run.clone_from(&subject.run);
        }
        let loss = pod.loss(&self.losses, self.loss_anywhere);
        let mut crossings = pod.take_in(signal, &self.config, loss);
        // Samples come from another clock than the log: they say nothing about how far it was read.
        if !matches!(signal, Signal::Sample(_)) {
            crossings.extend(pod.settle(signal.time(), &self.config, loss));
        }
        pod.news(crossings)
    }

    /// Judges what is overdue at `now` in all pods, for pods that have fallen silent: call it
    /// now and then with the time up to which every source has been read, and at a log's end.
    pub fn settle(&mut self, now: EventTime) -> Vec<Finding> {
        let mut findings = Vec::new();
        for pod in self.pods.values_mut() {
            let loss = pod.loss(&self.losses, self.loss_anywhere);
            let crossings = pod.settle(now, &self.config, loss);
            findings.extend(pod.news(crossings));
        }
        // The map's order is random; the findings' must not be.
        findings.sort_by(|a, b| a.subject.pod.cmp(&b.subject.pod));
        findings
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
            let pod = Pod {
                node: Some(node.into()),
                ..Pod::new(subject)
            };
            self.pods.insert(subject.pod.clone(), pod);
        }
    }

    /// Forgets a pod that is gone or was released: its state starts anew.
    pub fn forget(&mut self, pod: &PodKey) {
        self.pods.remove(pod);
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

    /// Signals that were left out because [`limits::PODS_MAX`] other pods had state. Never zero
    /// in silence: the shell must say it.
    #[must_use]
    pub fn refused_signal_count(&self) -> u64 {
        self.refused_pod_count
    }
}

impl Pod {
    fn new(subject: &Subject) -> Self {
        Self {
            subject: subject.clone(),
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

    fn take_in(&mut self, signal: &Signal<'_>, config: &EngineConfig, loss: Loss) -> Vec<Crossing> {
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
                if let Some(contact) = self.contacts.observe(flow) {
                    let is_lossy = loss.covers(contact.time);
                    crossings.extend(self.scan(&contact, config, is_lossy));
                }
                crossings
            }
            Signal::Dns(query) => {
                self.contacts.resolved(&query.answers);
                self.traffic.observe_dns(query, config, &self.told)
            }
            Signal::Tls(tls) => self.traffic.observe_tls(tls, config, &self.told),
            Signal::Sample(sample) => self.traffic.observe_sample(sample, config, &self.told),
            // About a node, not about a pod: `Engine::node_lost`.
            Signal::Lost(_) => Vec::new(),
        }
    }

    fn settle(&mut self, now: EventTime, config: &EngineConfig, loss: Loss) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        while let Some(contact) = self.contacts.overdue(now, |time| loss.covers(time)) {
            crossings.extend(self.scan(&contact, config, false));
        }
        crossings
    }

    fn scan(&mut self, contact: &Judged, config: &EngineConfig, is_lossy: bool) -> Vec<Crossing> {
        let around = Surroundings {
            config,
            workload: self.workload,
            has_dns: self.contacts.has_dns(),
            is_lossy,
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

impl Loss {
    fn covers(self, time: EventTime) -> bool {
        (self.from..=self.until).contains(&time) && self.until > EventTime::MIN
    }

    /// Losses that follow each other closely become one span; a later one starts anew.
    fn extend(&mut self, time: EventTime) {
        let (from, until) = (
            time.plus_micros(-LOSS_BEFORE_US),
            time.plus_micros(LOSS_AFTER_US),
        );
        let touches = from <= self.until && until >= self.from;
        if self.until > EventTime::MIN && touches {
            self.from = self.from.min(from);
            self.until = self.until.max(until);
        } else {
            *self = Self { from, until };
        }
    }
}
