//! The pods of a run on other nodes. A node agent watches only the pods of its own node and learns the
//! addresses of the others from the status of the AgentRun, which the controller writes.
//!
//! Part of the index, which uses it when it knows no holder of an address. The controller's index
//! contains every pod, so nothing is stored here.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{Index, covers};
use crate::detect::Attributed;
use crate::limits;
use crate::model::{EventTime, Neighbour, RunKey};

/// The addresses of the pods of each run that has pods on this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Siblings {
    runs: HashMap<RunKey, Addresses, RandomState>,
    address_count: usize,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    spans: HashMap<IpAddr, Span, RandomState>,
    /// Whether the list contains the address of every pod of the run.
    is_complete: bool,
}

/// The time during which a pod of the run had an address.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: EventTime,
    until: Option<EventTime>,
}

impl Siblings {
    /// The relation of the holder of an address to a pod of the run.
    pub(super) fn neighbour(&self, run: &RunKey, ip: IpAddr, time: EventTime) -> Neighbour {
        let span = self.runs.get(run).and_then(|run| run.spans.get(&ip));
        match span {
            Some(span) if covers(span.from, span.until, time) => Neighbour::Sibling,
            Some(span)
                if span
                    .until
                    .is_some_and(|until| time > until && !is_old(until, time)) =>
            {
                Neighbour::Departed
            }
            _ => Neighbour::Stranger,
        }
    }

    /// Drops spans that ended longer ago than lines can be late.
    pub(super) fn expire(&mut self, now: EventTime) {
        for run in self.runs.values_mut() {
            run.spans
                .retain(|_, span| span.until.is_none_or(|until| !is_old(until, now)));
        }
        self.runs
            .retain(|_, run| !run.spans.is_empty() || !run.is_complete);
        self.address_count = self.runs.values().map(|run| run.spans.len()).sum();
    }
}

fn is_old(until: EventTime, now: EventTime) -> bool {
    now.micros_since(until) > limits::POD_RETENTION_SECONDS * 1_000_000
}

impl Index {
    /// Sets the addresses of the pods of a run, as observed at `at`. `is_complete` means that the list contains the
    /// address of every pod of the run. For a run without pods on this node the list is empty.
    ///
    /// Addresses in the first list of a run also apply to older lines, because the agent may read a log for the first
    /// time. Addresses that a later list adds apply from shortly before `at`: a list arrives some seconds after the pod
    /// has got its address.
    pub fn set_siblings(
        &mut self,
        run: &RunKey,
        addresses: impl IntoIterator<Item = IpAddr>,
        is_complete: bool,
        at: EventTime,
    ) {
        let from = if self.siblings.runs.contains_key(run) {
            at.plus_micros(-limits::SIBLING_LAG_MICROS)
        } else {
            EventTime::MIN
        };
        let entry = self.siblings.runs.entry(run.clone()).or_default();
        entry.is_complete = is_complete;
        let mut gone = std::mem::take(&mut entry.spans);
        let (before, mut count) = (gone.len(), self.siblings.address_count);
        for ip in addresses.into_iter().map(|ip| ip.to_canonical()) {
            if entry.spans.contains_key(&ip) {
                continue;
            }
            match gone.remove(&ip) {
                Some(span) if span.until.is_none() => drop(entry.spans.insert(ip, span)),
                _ if count < limits::INDEX_PODS_MAX => {
                    count += 1;
                    entry.spans.insert(ip, Span { from, until: None });
                }
                _ => self.stats.refused += 1,
            }
        }
        let ended = gone.into_iter().map(|(ip, span)| {
            let until = span.until.or(Some(at));
            (ip, Span { until, ..span })
        });
        entry.spans.extend(ended);
        let after = entry.spans.len();
        self.siblings.address_count = (self.siblings.address_count + after).saturating_sub(before);
    }

    /// Whether siblings of a run are stored.
    #[must_use]
    pub fn has_siblings(&self, run: &RunKey) -> bool {
        self.siblings.runs.contains_key(run)
    }

    /// Whether the target of a contact may turn out to be a pod of the same run: it failed or may fail, no known pod has
    /// the address, and the addresses of some of the run's pods are not known yet.
    #[must_use]
    pub fn may_be_sibling(&self, attributed: &Attributed<'_>) -> bool {
        let run = attributed.subject.run.as_ref();
        self.is_failure_at_unknown_address(attributed)
            && run
                .and_then(|run| self.siblings.runs.get(run))
                .is_some_and(|run| !run.is_complete)
    }

    /// Whether a pod was first observed so recently that its run may not be known yet.
    #[must_use]
    pub fn may_get_run(&self, attributed: &Attributed<'_>, now: EventTime) -> bool {
        let pod = self.pods.get(&attributed.subject.pod);
        attributed.subject.run.is_none()
            && pod.is_some_and(|pod| {
                now.micros_since(pod.seen_at).abs() < limits::ENROLMENT_WAIT_MICROS
            })
    }
}
