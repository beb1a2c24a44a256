//! Counts and what they prove. Called by `part` and by the bench.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Cell;
use super::group::{Origin, Plan};
use super::honest::Profile;
use super::judge::Said;
use super::tape::{Answers, Event, MINUTE, Outage};

/// Counts of one stratum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub pod_days: usize,
    /// Of those, pod-days whose log shows no answers.
    pub blind_pod_days: usize,
    /// Of all, pod-days of runs with pods on several nodes.
    pub spread_pod_days: usize,
    /// Of all, pod-days on nodes with an agent.
    pub agent_pod_days: usize,
    /// Of all, pod-days beside a miner on the same accelerator.
    pub shared_pod_days: usize,
    /// Pods that the engine would quarantine.
    pub quarantines: usize,
    /// Of those, pods that the circuit breaker would have let through.
    pub acted: usize,
    /// Of those, pods that crossed the line in an outage: what the breaker is for.
    pub in_outage: usize,
    /// Pods with an alert and no quarantine.
    pub alerted: usize,
    /// Records.
    pub records: usize,
}

impl Row {
    pub fn add(&mut self, other: &Self) {
        self.pod_days += other.pod_days;
        self.blind_pod_days += other.blind_pod_days;
        self.spread_pod_days += other.spread_pod_days;
        self.agent_pod_days += other.agent_pod_days;
        self.shared_pod_days += other.shared_pod_days;
        self.quarantines += other.quarantines;
        self.acted += other.acted;
        self.in_outage += other.in_outage;
        self.alerted += other.alerted;
        self.records += other.records;
    }
}

/// A stratum: a profile, and whether the log shows its names.
pub type Stratum = (Profile, bool);

/// A false quarantine, with what is needed to play it again.
#[derive(Clone, Debug)]
pub struct FalseQuarantine {
    pub origin: Origin,
    pub stratum: Stratum,
    /// Its number in the group.
    pub pod: usize,
    pub at: i64,
    pub summary: String,
    /// Whether the circuit breaker was still closed.
    pub acted: bool,
    /// Whether an outage hit the pod then.
    pub in_outage: bool,
}

fn stratum_of(plan: &Plan, index: usize) -> Stratum {
    (plan.profile, plan.view(index).shows_dns)
}

impl FalseQuarantine {
    fn of(plan: &Plan, index: usize, outages: &[Outage], word: &Said) -> Self {
        let node = plan.node(index).map(|node| node.number);
        let is_hit = |outage: &Outage| {
            let is_here = outage.node.is_none() || outage.node == node;
            // Conntrack tells silence after two minutes.
            is_here && (outage.from..outage.until + 3 * MINUTE).contains(&word.at)
        };
        Self {
            origin: plan.origin,
            stratum: stratum_of(plan, index),
            pod: index,
            at: word.at,
            summary: word.finding.evidence.summary.to_string(),
            acted: true,
            in_outage: outages.iter().any(is_hit),
        }
    }
}

/// What a cluster or a part came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub rows: BTreeMap<Stratum, Row>,
    pub quarantines: Vec<FalseQuarantine>,
}

impl Tally {
    /// One cluster's. Whether the breaker lets a quarantine through is not known yet.
    pub fn of(cell: &Cell, outages: &[Outage], events: &[Event], said: &[Said]) -> Self {
        let mut tally = Self::default();
        let mut records = vec![0; cell.pod_count()];
        for event in events.iter().filter(|event| event.is_record()) {
            if let Some(count) = records.get_mut(event.pod) {
                *count += 1;
            }
        }
        let mut first_said: BTreeMap<usize, &Said> = BTreeMap::new();
        for word in said.iter().filter(|word| word.is_quarantine()) {
            first_said.entry(word.pod).or_insert(word);
        }
        let alerted: BTreeSet<usize> = said.iter().map(|word| word.pod).collect();
        for ((number, (plan, index)), records) in cell.pods().enumerate().zip(records) {
            let quarantine = first_said
                .get(&number)
                .map(|word| FalseQuarantine::of(plan, index, outages, word));
            let days = plan.day_count;
            let if_so = |is_so: bool| if is_so { days } else { 0 };
            let is_spread = plan
                .nodes
                .iter()
                .any(|node| Some(node) != plan.nodes.first());
            let row = Row {
                pod_days: days,
                blind_pod_days: if_so(plan.view(index).answers != Answers::Seen),
                spread_pod_days: if_so(is_spread),
                agent_pod_days: if_so(cell.cluster.has_agents),
                shared_pod_days: if_so(plan.shares_accelerator),
                quarantines: usize::from(quarantine.is_some()),
                acted: 0,
                in_outage: usize::from(quarantine.as_ref().is_some_and(|q| q.in_outage)),
                alerted: usize::from(quarantine.is_none() && alerted.contains(&number)),
                records,
            };
            let stratum = stratum_of(plan, index);
            tally.rows.entry(stratum).or_default().add(&row);
            tally.quarantines.extend(quarantine);
        }
        tally
    }

    pub fn add(&mut self, other: Self) {
        for (stratum, row) in other.rows {
            self.rows.entry(stratum).or_default().add(&row);
        }
        self.quarantines.extend(other.quarantines);
    }

    pub fn total(&self) -> Row {
        let mut total = Row::default();
        self.rows.values().for_each(|row| total.add(row));
        total
    }
}

/// The upper end of the one-sided 95 % interval (Clopper and Pearson, in its Poisson form) of a
/// rate, from so many events: the mean under which as few as that have a probability of 5 %.
/// None at all gives 3.0, the rule of three.
pub fn upper95(event_count: usize) -> f64 {
    let (mut low, mut high) = (0.0, 10.0);
    while at_most(event_count, high) > 0.05 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if at_most(event_count, middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The probability of at most so many events of a Poisson distribution with this mean.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn at_most(event_count: usize, mean: f64) -> f64 {
    // In logarithms: e^-mean alone is zero from a mean of 745 on.
    let mut term_log = -mean;
    let mut sum = term_log.exp();
    for n in 1..=event_count {
        term_log += mean.ln() - (n as f64).ln();
        sum += term_log.exp();
    }
    sum
}

/// The value below which this share of them lies; `None` of nothing.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // counts far below 2^52
pub fn percentile<T: Ord + Copy>(values: &mut [T], share: f64) -> Option<T> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).round() as usize).copied()
}
