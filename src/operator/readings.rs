//! What the program reports about itself: readiness, metrics, and totals at its end.

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::leadership::lacks_lease;
use super::parts::Operator;
use crate::api::{Incident, IncidentCondition, condition_is};
use crate::cluster::Outcome;
use crate::controller::memory::REASONS;
use crate::observability::{Metric, Reading};
use crate::signals::source::relay::RelayCounters;
use crate::signals::source::scrape::ScrapeCounters;

/// Why the program is not ready, a sentence each. It is ready whether it leads or not.
pub(super) fn missing(operator: &Operator) -> Vec<String> {
    let watches = operator.watches.iter();
    let broken = watches.filter(|(_, health)| !health.is_working());
    let mut missing: Vec<String> = broken
        .map(|(kind, _)| format!("the watch of {kind} does not work"))
        .collect();
    if lacks_lease(operator) {
        missing.push("the leader's Lease can be neither read nor renewed".to_owned());
    }
    missing
}

/// Logs the totals when the program stops.
pub(super) fn log_totals(operator: &Operator) {
    let (lines, records) = (&operator.lines, &operator.records);
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

/// The current value of every metric.
pub(super) fn all(operator: &Operator) -> Vec<Reading> {
    [
        line_readings(operator),
        object_readings(operator),
        source_readings(operator),
        response_readings(operator),
        attribution_readings(operator),
        saved_state_readings(operator),
        contact_report_readings(operator),
        scrape_readings(operator),
        sample_readings(operator),
        notification_readings(operator),
        leader_readings(operator),
    ]
    .concat()
}

fn line_readings(operator: &Operator) -> Vec<Reading> {
    let lines = &operator.lines;
    vec![
        Reading::labelled(Metric::Lines, "signal", count(&lines.signals)),
        Reading::labelled(Metric::Lines, "skipped", lines.skipped.total()),
        Reading::labelled(Metric::Lines, "unknown", count(&lines.unknown)),
        Reading::labelled(Metric::Lines, "malformed", count(&lines.malformed)),
        Reading::plain(Metric::SignalsBeyondBound, count(&lines.beyond_bound)),
        Reading::plain(Metric::ContactsWaiting, count(&lines.contacts_waiting)),
        Reading::plain(Metric::EventsLost, count(&lines.lost)),
    ]
}

fn object_readings(operator: &Operator) -> Vec<Reading> {
    let is_open = |incident: &Incident| {
        let status = incident.status.as_ref();
        let closed = IncidentCondition::Closed.name();
        !status.is_some_and(|status| condition_is(&status.conditions, closed))
    };
    let open_count = operator.stores.incidents.state_filter(is_open).len();
    let malformed_count = operator.controller.malformed_count();
    vec![
        Reading::plain(Metric::ObjectsMalformed, malformed_count),
        Reading::plain(Metric::Runs, size(operator.stores.runs.len())),
        Reading::plain(Metric::Pods, size(operator.membership.pod_count())),
        Reading::plain(Metric::IncidentsOpen, size(open_count)),
    ]
}

fn source_readings(operator: &Operator) -> Vec<Reading> {
    let mut readings = Vec::new();
    let sources = &operator.sources;
    let sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
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
    for (source, totals) in operator.health.totals() {
        let of_result =
            |result, value| Reading::of_two(Metric::SourceLines, [source.as_str(), result], value);
        readings.extend([
            of_result("attributed", totals.attributed),
            of_result("neutral", totals.neutral),
            of_result("unused", totals.unused),
            of_result("unreadable", totals.unreadable),
        ]);
    }
    readings
}

fn relay_readings(name: &str, relay: &RelayCounters) -> Vec<Reading> {
    let of_relay = |metric, counter| Reading::labelled(metric, name, count(counter));
    let lost = |place, counter| {
        let labels = [name, place];
        Reading::of_two(Metric::RelayEventsLost, labels, count(counter))
    };
    vec![
        of_relay(Metric::RelayReconnects, &relay.reconnects),
        of_relay(Metric::RelayRepeated, &relay.repeated),
        of_relay(Metric::RelayNodesUnseen, &relay.nodes_unseen),
        lost("perf_ring_buffer", &relay.lost_perf),
        lost("observer_queue", &relay.lost_queue),
        lost("hubble_ring_buffer", &relay.lost_ring),
        lost("unknown", &relay.lost_unknown),
    ]
}

/// Results of findings and of writes to the API server.
fn response_readings(operator: &Operator) -> Vec<Reading> {
    let (records, writes) = (&operator.records, operator.writer.counters());
    let findings = counted(
        Metric::Findings,
        &[
            ("recorded", &records.recorded),
            ("disabled", &records.disabled),
            ("without_run", &records.without_run),
            ("retried", &records.retried),
            ("refused", &records.refused),
            ("overflowed", &records.overflowed),
        ],
    );
    let writes = [
        ("accepted", Outcome::Accepted),
        ("rejected", Outcome::Rejected),
        ("timed_out", Outcome::TimedOut),
        ("not_leader", Outcome::NotLeader),
    ]
    .map(|(result, outcome)| Reading::labelled(Metric::ApiWrites, result, writes.count(outcome)));
    findings.into_iter().chain(writes).collect()
}

/// Skipped lines and unattributed signals by reason, and the size of the index.
fn attribution_readings(operator: &Operator) -> Vec<Reading> {
    let of = |metric| move |(reason, value)| Reading::labelled(metric, reason, value);
    let lines = &operator.lines;
    let skipped = lines.skipped.by_reason().map(of(Metric::LinesSkipped));
    let unattributed = lines.unattributed.by_reason();
    let unattributed = unattributed.map(of(Metric::SignalsUnattributed));
    let stats = {
        let index = &operator.index;
        let index = index.read().unwrap_or_else(PoisonError::into_inner);
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

/// Writes and reads of the detection state. Empty where it is not saved.
fn saved_state_readings(operator: &Operator) -> Vec<Reading> {
    if operator.config.checkpoint_dir.is_none() {
        return Vec::new();
    }
    let memory = &operator.memory;
    let written = [("written", &memory.written), ("failed", &memory.failed)];
    let mut readings = counted(Metric::StateWrites, &written);
    let plain = |metric, counter| Reading::plain(metric, count(counter));
    readings.extend([
        plain(Metric::StateBytes, &memory.bytes),
        plain(Metric::StateRestoredPods, &memory.restored_pods),
        plain(Metric::StateLongestStep, &memory.longest_step_us),
    ]);
    for (reason, counter) in REASONS.iter().zip(&memory.unreadable) {
        let unreadable = count(counter);
        readings.push(Reading::labelled(
            Metric::StateUnreadable,
            reason,
            unreadable,
        ));
    }
    readings
}

fn contact_report_readings(operator: &Operator) -> Vec<Reading> {
    let counters = operator.reports.counters();
    let mut readings = counted(
        Metric::ContactReports,
        &[
            ("written", &counters.written),
            ("failed", &counters.failed),
            ("left_out", &counters.left_out),
            ("beyond_bound", &operator.reports_left_out),
        ],
    );
    readings.extend(counted(
        Metric::ReportedContacts,
        &[("taken", &counters.taken), ("refused", &counters.refused)],
    ));
    readings
}

/// Results of scrapes, by source of node metrics.
fn scrape_readings(operator: &Operator) -> Vec<Reading> {
    let scrapes = &operator.scrapes;
    let scrapes = scrapes.lock().unwrap_or_else(PoisonError::into_inner);
    let of_source = |(name, scrapes): &(String, std::sync::Arc<ScrapeCounters>)| {
        [
            ("news", &scrapes.news),
            ("unchanged", &scrapes.unchanged),
            ("failed", &scrapes.failed),
            ("overflowed", &scrapes.overflowed),
        ]
        .map(|(result, counter)| {
            Reading::of_two(Metric::Scrapes, [name.as_str(), result], count(counter))
        })
    };
    scrapes.iter().flat_map(of_source).collect()
}

/// Results of the samples in all scrapes. Empty where nothing is scraped.
fn sample_readings(operator: &Operator) -> Vec<Reading> {
    let scrapes = &operator.scrapes;
    let scrapes = scrapes.lock().unwrap_or_else(PoisonError::into_inner);
    if scrapes.is_empty() {
        return Vec::new();
    }
    let sum = |of: fn(&ScrapeCounters) -> &AtomicU64| -> u64 {
        scrapes.iter().map(|(_, scrapes)| count(of(scrapes))).sum()
    };
    let samples = &operator.lines.samples;
    let shared_gpu = sum(|of| &of.shared_gpus) + count(&samples.shared_gpus);
    [
        ("attributed", count(&samples.attributed)),
        ("unattributed", count(&samples.unattributed)),
        ("malformed", sum(|of| &of.malformed)),
        ("shared_gpu", shared_gpu),
        ("beyond_bound", sum(|of| &of.beyond_bound)),
        ("ahead", sum(|of| &of.ahead)),
        ("impossible", sum(|of| &of.impossible)),
    ]
    .map(|(result, value)| Reading::labelled(Metric::Samples, result, value))
    .into()
}

/// Results of notifications, by receiver.
fn notification_readings(operator: &Operator) -> Vec<Reading> {
    let notified = &operator.notified;
    let mut readings = Vec::new();
    for (receiver, deliveries) in [
        ("events", &notified.events),
        ("alertmanager", &notified.alertmanager),
        ("webhook", &notified.webhook),
        ("otlp", &notified.otlp),
    ] {
        for (result, counter) in [
            ("sent", &deliveries.sent),
            ("failed", &deliveries.failed),
            ("dead_lettered", &deliveries.dead_lettered),
        ] {
            let labels = [receiver, result];
            readings.push(Reading::of_two(
                Metric::Notifications,
                labels,
                count(counter),
            ));
        }
    }
    readings
}

/// Whether this controller leads, and how fast it isolates. Empty for a node agent.
fn leader_readings(operator: &Operator) -> Vec<Reading> {
    if !operator.config.component.is_controller() {
        return Vec::new();
    }
    let gate = operator.writer.gate();
    vec![
        Reading::plain(Metric::Leader, gate.is_open().into()),
        Reading::plain(Metric::LeaderTransitions, gate.term()),
        Reading::histogram(Metric::IsolationLatency, &operator.isolation_latency),
    ]
}

/// Readings of a metric with one label, by its values.
fn counted(metric: Metric, counters: &[(&str, &AtomicU64)]) -> Vec<Reading> {
    let reading = |(value, counter): &(&str, &AtomicU64)| {
        Reading::labelled(metric, value, counter.load(Relaxed))
    };
    counters.iter().map(reading).collect()
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
