//! What the operator says of itself: readiness, metrics, totals.

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::{Duty, Operator};
use crate::api::{Incident, condition_is};
use crate::cluster::Outcome;
use crate::observability::{Metric, Reading};
use crate::signals::source::relay::RelayCounters;
use crate::signals::source::scrape::ScrapeCounters;

impl Operator {
    /// What does not work, in words. Whether this process leads is no matter.
    pub(super) fn missing(&self) -> Vec<String> {
        let broken = self
            .watches
            .iter()
            .filter(|(_, health)| !health.is_working());
        let mut missing: Vec<String> = broken
            .map(|(kind, _)| format!("the watch of {kind} does not work"))
            .collect();
        if self.lacks_lease() {
            missing.push("the Lease of the leader cannot be read or kept".to_owned());
        }
        missing
    }

    pub(super) fn say_totals(&self) {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let (lines, records) = (&self.lines, &self.records);
        tracing::info!(
            signals = count(&lines.signals),
            skipped = lines.skipped.total(),
            unknown = count(&lines.unknown),
            malformed = count(&lines.malformed),
            unattributed = lines.unattributed.total(),
            lost = count(&lines.lost),
            samples = count(&lines.samples.attributed),
            recorded = count(&records.recorded),
            without_run = count(&records.without_run),
            "Stopped."
        );
    }

    /// The metrics, as they are now.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let size = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let lines = &self.lines;
        let is_open = |incident: &Incident| {
            let status = incident.status.as_ref();
            !status.is_some_and(|status| condition_is(&status.conditions, "Closed"))
        };
        let mut readings = vec![
            Reading::labelled(Metric::Lines, "signal", count(&lines.signals)),
            Reading::labelled(Metric::Lines, "skipped", lines.skipped.total()),
            Reading::labelled(Metric::Lines, "unknown", count(&lines.unknown)),
            Reading::labelled(Metric::Lines, "malformed", count(&lines.malformed)),
            Reading::plain(Metric::SignalsBeyondBound, count(&lines.beyond_bound)),
            Reading::plain(Metric::ContactsWaiting, count(&lines.contacts_waiting)),
            Reading::plain(Metric::EventsLost, count(&lines.lost)),
            Reading::plain(Metric::ObjectsMalformed, self.controller.malformed_count()),
            Reading::plain(Metric::Runs, size(self.stores.runs.len())),
            Reading::plain(Metric::Pods, size(self.roster.pod_count())),
            Reading::plain(
                Metric::IncidentsOpen,
                size(self.stores.incidents.state_filter(is_open).len()),
            ),
        ];
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources.iter() {
            let health = source.health.snapshot();
            let of_source = |metric, value| Reading::labelled(metric, &source.name, value);
            readings.extend([
                of_source(Metric::SourceOversizedLines, health.oversized_lines),
                of_source(Metric::SourceRotations, health.rotations),
                of_source(Metric::SourceTruncations, health.truncations),
                of_source(Metric::SourceGaps, health.gaps),
                of_source(Metric::SourceLagBytes, health.lag_bytes),
            ]);
            if let Some(counters) = &source.relay {
                readings.extend(relay_readings(&source.name, counters));
            }
        }
        for (source, totals) in self.health.totals() {
            let of_result = |result, value| {
                Reading::of_two(Metric::SourceLines, [source.as_str(), result], value)
            };
            readings.extend([
                of_result("attributed", totals.attributed),
                of_result("neutral", totals.neutral),
                of_result("unused", totals.unused),
                of_result("unreadable", totals.unreadable),
            ]);
        }
        readings.extend(self.outcome_readings());
        readings.extend(self.attribution_readings());
        readings.extend(self.memory_readings());
        readings.extend(self.report_readings());
        readings.extend(self.metrics_readings());
        readings.extend(self.told_readings());
        readings.extend(self.leader_readings());
        readings
    }

    /// What became of findings and of writes.
    fn outcome_readings(&self) -> [Reading; 10] {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let (records, writes) = (&self.records, self.writer.counters());
        [
            Reading::labelled(Metric::Findings, "recorded", count(&records.recorded)),
            Reading::labelled(Metric::Findings, "disabled", count(&records.disabled)),
            Reading::labelled(Metric::Findings, "without_run", count(&records.without_run)),
            Reading::labelled(Metric::Findings, "retried", count(&records.retried)),
            Reading::labelled(Metric::Findings, "refused", count(&records.refused)),
            Reading::labelled(Metric::Findings, "overflowed", count(&records.overflowed)),
            Reading::labelled(
                Metric::ApiWrites,
                "accepted",
                writes.count(Outcome::Accepted),
            ),
            Reading::labelled(
                Metric::ApiWrites,
                "rejected",
                writes.count(Outcome::Rejected),
            ),
            Reading::labelled(
                Metric::ApiWrites,
                "timed_out",
                writes.count(Outcome::TimedOut),
            ),
            Reading::labelled(
                Metric::ApiWrites,
                "not_leader",
                writes.count(Outcome::NotLeader),
            ),
        ]
    }

    /// What became of lines and of what attribution keeps, by reason.
    fn attribution_readings(&self) -> Vec<Reading> {
        let size = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let of = |metric| move |(reason, value)| Reading::labelled(metric, reason, value);
        let lines = &self.lines;
        let skipped = lines.skipped.by_reason().map(of(Metric::LinesSkipped));
        let unattributed = lines.unattributed.by_reason();
        let unattributed = unattributed.map(of(Metric::SignalsUnattributed));
        let stats = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            index.stats()
        };
        let dropped = [
            ("ended_pod", stats.evicted_pods),
            ("earlier_holder", stats.evicted_holders),
            ("refused", stats.refused),
        ];
        let mut readings: Vec<Reading> = skipped.chain(unattributed).collect();
        readings.push(Reading::plain(Metric::IndexPods, size(stats.pod_count)));
        readings.extend(dropped.map(of(Metric::IndexDropped)));
        readings
    }

    /// What became of ContactReports.
    fn report_readings(&self) -> Vec<Reading> {
        let counters = self.reports.counters();
        let reports = [
            ("written", &counters.written),
            ("failed", &counters.failed),
            ("left_out", &counters.left_out),
            ("beyond_bound", &*self.reports_left_out),
        ];
        let contacts = [("taken", &counters.taken), ("refused", &counters.refused)];
        let reading = |metric| {
            move |(result, counter): (&str, &AtomicU64)| {
                Reading::labelled(metric, result, counter.load(Relaxed))
            }
        };
        let reports = reports.map(reading(Metric::ContactReports));
        let contacts = contacts.map(reading(Metric::ReportedContacts));
        reports.into_iter().chain(contacts).collect()
    }

    /// Whether this controller leads, and how fast it isolates. An agent does neither.
    fn leader_readings(&self) -> Vec<Reading> {
        let Duty::Controller(_) = &self.config.duty else {
            return Vec::new();
        };
        let gate = self.writer.gate();
        vec![
            Reading::plain(Metric::Leader, gate.is_open().into()),
            Reading::plain(Metric::LeaderTransitions, gate.terms()),
            Reading::histogram(Metric::IsolationLatency, &self.isolation_latency),
        ]
    }

    /// What became of what people were told.
    fn told_readings(&self) -> Vec<Reading> {
        let told = &self.notified;
        let mut readings = Vec::new();
        for (receiver, of) in [
            ("events", &told.events),
            ("alertmanager", &told.alertmanager),
            ("webhook", &told.webhook),
            ("otlp", &told.otlp),
        ] {
            for (result, counter) in [
                ("sent", &of.sent),
                ("failed", &of.failed),
                ("dead_lettered", &of.dead_lettered),
            ] {
                let labels = [receiver, result];
                let value = counter.load(Relaxed);
                readings.push(Reading::of_two(Metric::Notifications, labels, value));
            }
        }
        readings
    }

    /// What became of node metrics.
    fn metrics_readings(&self) -> Vec<Reading> {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let scrapes = self.scrapes();
        if scrapes.is_empty() {
            return Vec::new();
        }
        let mut readings = Vec::new();
        for (name, of) in &scrapes {
            for (result, counter) in [
                ("news", &of.news),
                ("unchanged", &of.unchanged),
                ("failed", &of.failed),
                ("overflowed", &of.overflowed),
            ] {
                let labels = [name.as_str(), result];
                readings.push(Reading::of_two(Metric::Scrapes, labels, count(counter)));
            }
        }
        let sum = |of: fn(&ScrapeCounters) -> &AtomicU64| -> u64 {
            scrapes
                .iter()
                .map(|(_, counters)| count(of(counters)))
                .sum()
        };
        let samples = &self.lines.samples;
        for (result, value) in [
            ("attributed", count(&samples.attributed)),
            ("unattributed", count(&samples.unattributed)),
            ("malformed", sum(|of| &of.malformed)),
            (
                "shared_gpu",
                sum(|of| &of.shared_gpus) + count(&samples.shared_gpus),
            ),
            ("beyond_bound", sum(|of| &of.beyond_bound)),
            ("ahead", sum(|of| &of.ahead)),
            ("impossible", sum(|of| &of.impossible)),
        ] {
            readings.push(Reading::labelled(Metric::Samples, result, value));
        }
        readings
    }
}

/// What became of a relay.
fn relay_readings(name: &str, of: &RelayCounters) -> Vec<Reading> {
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let lost = |place, counter| {
        let labels = [name, place];
        Reading::of_two(Metric::RelayEventsLost, labels, count(counter))
    };
    vec![
        Reading::labelled(Metric::RelayReconnects, name, count(&of.reconnects)),
        Reading::labelled(Metric::RelayRepeated, name, count(&of.repeated)),
        Reading::labelled(Metric::RelayNodesUnseen, name, count(&of.nodes_unseen)),
        lost("perf_ring_buffer", &of.lost_perf),
        lost("observer_queue", &of.lost_queue),
        lost("hubble_ring_buffer", &of.lost_ring),
        lost("unknown", &of.lost_unknown),
    ]
}
