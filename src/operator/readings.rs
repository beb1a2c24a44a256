//! What the program reports about itself: readiness, metrics, and totals at its end.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::leadership::lacks_lease;
use super::parts::Operator;
use crate::api::Incident;
use crate::observability::{
    FindingResult, IndexDrop, LabelValue, LineResult, LineUse, LossPlace, Metric, Reading,
    Receiver, ReportResult, ReportedContactResult, SampleResult, ScrapeResult, StateWriteResult,
};
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
        recorded = records.of(FindingResult::Recorded),
        without_run = records.of(FindingResult::WithoutRun),
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
        Reading::labelled(Metric::Lines, LineResult::Signal, count(&lines.signals)),
        Reading::labelled(Metric::Lines, LineResult::Skipped, lines.skipped.total()),
        Reading::labelled(Metric::Lines, LineResult::Unknown, count(&lines.unknown)),
        Reading::labelled(
            Metric::Lines,
            LineResult::Malformed,
            count(&lines.malformed),
        ),
        Reading::plain(Metric::SignalsBeyondBound, count(&lines.beyond_bound)),
        Reading::plain(Metric::ContactsWaiting, count(&lines.contacts_waiting)),
        Reading::plain(Metric::EventsLost, count(&lines.lost)),
    ]
}

fn object_readings(operator: &Operator) -> Vec<Reading> {
    let open_count = operator
        .stores
        .incidents
        .state_filter(Incident::is_open)
        .len();
    let malformed_count = operator.controller.malformed_count();
    vec![
        Reading::plain(Metric::ObjectsMalformed, malformed_count),
        Reading::plain(
            Metric::EndedPodsLeftOut,
            operator.controller.ended_pods_left_out(),
        ),
        Reading::plain(Metric::Runs, size(operator.stores.runs.len())),
        Reading::plain(Metric::Pods, size(operator.membership.pod_count())),
        Reading::plain(Metric::IncidentsOpen, size(open_count)),
    ]
}

fn source_readings(operator: &Operator) -> Vec<Reading> {
    let mut readings = Vec::new();
    let sources = &operator.sources;
    let sources = sources.lock();
    for source in sources.iter() {
        let health = source.health.snapshot();
        let of_source = |metric, value| Reading::of_source(metric, &source.name, value);
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
            |result, value| Reading::of_source_by(Metric::SourceLines, &source, result, value);
        readings.extend([
            of_result(LineUse::Attributed, totals.attributed),
            of_result(LineUse::Neutral, totals.neutral),
            of_result(LineUse::Unused, totals.unused),
            of_result(LineUse::Unreadable, totals.unreadable),
        ]);
    }
    readings
}

fn relay_readings(name: &str, relay: &RelayCounters) -> Vec<Reading> {
    let of_relay = |metric, counter| Reading::of_source(metric, name, count(counter));
    let lost = |place, counter| {
        Reading::of_source_by(Metric::RelayEventsLost, name, place, count(counter))
    };
    vec![
        of_relay(Metric::RelayReconnects, &relay.reconnects),
        of_relay(Metric::RelayRepeated, &relay.repeated),
        of_relay(Metric::RelayNodesUnseen, &relay.nodes_unseen),
        lost(LossPlace::PerfRingBuffer, &relay.lost_perf),
        lost(LossPlace::ObserverQueue, &relay.lost_queue),
        lost(LossPlace::HubbleRingBuffer, &relay.lost_ring),
        lost(LossPlace::Unknown, &relay.lost_unknown),
    ]
}

/// Results of findings and of writes to the API server.
fn response_readings(operator: &Operator) -> Vec<Reading> {
    let findings = Reading::all(Metric::Findings, &operator.records);
    let writes = Reading::all(Metric::ApiWrites, operator.writer.counters());
    findings.chain(writes).collect()
}

/// Skipped lines and unattributed signals by reason, and the size of the index.
fn attribution_readings(operator: &Operator) -> Vec<Reading> {
    let lines = &operator.lines;
    let skipped = Reading::all(Metric::LinesSkipped, &lines.skipped);
    let unattributed = Reading::all(Metric::SignalsUnattributed, &lines.unattributed);
    let stats = {
        let index = &operator.index;
        let index = index.read();
        index.stats()
    };
    let dropped = [
        (IndexDrop::EndedPod, stats.evicted_pods),
        (IndexDrop::EarlierHolder, stats.evicted_holders),
        (IndexDrop::Refused, stats.refused),
    ];
    let mut readings: Vec<Reading> = skipped.chain(unattributed).collect();
    readings.push(Reading::plain(Metric::IndexPods, size(stats.pod_count)));
    let dropped = dropped.map(|(what, n)| Reading::labelled(Metric::IndexDropped, what, n));
    readings.extend(dropped);
    readings
}

/// Writes and reads of the detection state. Empty where it is not saved.
fn saved_state_readings(operator: &Operator) -> Vec<Reading> {
    if operator.config.checkpoint_dir.is_none() {
        return Vec::new();
    }
    let state = &operator.saved_state;
    let written = [
        (StateWriteResult::Written, &state.written),
        (StateWriteResult::Failed, &state.failed),
    ];
    let mut readings = counted(Metric::StateWrites, &written);
    let plain = |metric, counter| Reading::plain(metric, count(counter));
    readings.extend([
        plain(Metric::StateBytes, &state.bytes),
        plain(Metric::StateRestoredPods, &state.restored_pods),
        plain(Metric::StateLongestStep, &state.longest_step_us),
    ]);
    readings.extend(Reading::all(Metric::StateUnreadable, &state.unreadable));
    readings
}

fn contact_report_readings(operator: &Operator) -> Vec<Reading> {
    let counters = operator.reports.counters();
    let mut readings = counted(
        Metric::ContactReports,
        &[
            (ReportResult::Written, &counters.written),
            (ReportResult::Failed, &counters.failed),
            (ReportResult::LeftOut, &counters.left_out),
            (ReportResult::BeyondBound, &operator.reports_left_out),
        ],
    );
    readings.extend(counted(
        Metric::ReportedContacts,
        &[
            (ReportedContactResult::Taken, &counters.taken),
            (ReportedContactResult::Refused, &counters.refused),
        ],
    ));
    readings
}

/// Results of scrapes, by source of node metrics.
fn scrape_readings(operator: &Operator) -> Vec<Reading> {
    let scrapes = &operator.scrapes;
    let scrapes = scrapes.lock();
    let of_source = |(name, scrapes): &(String, std::sync::Arc<ScrapeCounters>)| {
        [
            (ScrapeResult::News, &scrapes.news),
            (ScrapeResult::Unchanged, &scrapes.unchanged),
            (ScrapeResult::Failed, &scrapes.failed),
            (ScrapeResult::Overflowed, &scrapes.overflowed),
        ]
        .map(|(result, counter)| {
            Reading::of_source_by(Metric::Scrapes, name, result, count(counter))
        })
    };
    scrapes.iter().flat_map(of_source).collect()
}

/// Results of the samples in all scrapes. Empty where nothing is scraped.
fn sample_readings(operator: &Operator) -> Vec<Reading> {
    let scrapes = &operator.scrapes;
    let scrapes = scrapes.lock();
    if scrapes.is_empty() {
        return Vec::new();
    }
    let sum = |of: fn(&ScrapeCounters) -> &AtomicU64| -> u64 {
        scrapes.iter().map(|(_, scrapes)| count(of(scrapes))).sum()
    };
    let samples = &operator.lines.samples;
    let shared_gpu = sum(|of| &of.shared_gpus) + count(&samples.shared_gpus);
    [
        (SampleResult::Attributed, count(&samples.attributed)),
        (SampleResult::Unattributed, count(&samples.unattributed)),
        (SampleResult::Malformed, sum(|of| &of.malformed)),
        (SampleResult::SharedGpu, shared_gpu),
        (SampleResult::BeyondBound, sum(|of| &of.beyond_bound)),
        (SampleResult::Ahead, sum(|of| &of.ahead)),
        (SampleResult::Impossible, sum(|of| &of.impossible)),
    ]
    .map(|(result, value)| Reading::labelled(Metric::Samples, result, value))
    .into()
}

/// Results of notifications, by receiver.
fn notification_readings(operator: &Operator) -> Vec<Reading> {
    let notified = &operator.notified;
    let receivers = [
        (Receiver::Events, &notified.events),
        (Receiver::Alertmanager, &notified.alertmanager),
        (Receiver::Webhook, &notified.webhook),
        (Receiver::Otlp, &notified.otlp),
    ];
    let of_receiver =
        |(receiver, counters)| Reading::all_of(Metric::Notifications, receiver, counters);
    receivers.into_iter().flat_map(of_receiver).collect()
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
fn counted<L: LabelValue>(metric: Metric, counters: &[(L, &AtomicU64)]) -> Vec<Reading> {
    let reading =
        |(label, counter): &(L, &AtomicU64)| Reading::labelled(metric, *label, count(counter));
    counters.iter().map(reading).collect()
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
