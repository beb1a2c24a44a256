//! The metrics: a closed list of names, types, labels and help texts, and the exposition in text.
//!
//! The parts of the program count in atomics. The operator reads them into [`Reading`]s for each scrape. Label values come
//! from closed sets or from the operator's command line, never from a log or an object of the cluster.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use strum::VariantNames;

use super::labels::{
    Counters, DeliveryResult, FindingResult, IndexDrop, LabelValue, LineResult, LineUse, LossPlace,
    Receiver, ReportResult, ReportedContactResult, SampleResult, ScrapeResult, StateDefect,
    StateWriteResult, UnattributedReason, WriteOutcome,
};
use crate::limits;
use crate::signals::decode::SkipReason;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases. Its name gets the suffix `_total`.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts durations in buckets. Its name ends in the unit, `_seconds`.
    Histogram,
}

/// A label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Name of the label.
    pub name: &'static str,
    /// All values. Empty if the values are the names of sources, which come from the command line.
    pub values: &'static [&'static str],
}

/// The values are the names of sources, which come from the command line.
const SOURCES: &[&str] = &[];

macro_rules! metrics {
    ($(
        $(#[doc = $help:literal])*
        $variant:ident: $kind:ident $name:literal, labels { $($label:literal: $values:expr),* };
    )*) => {
        /// Every metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $($(#[doc = $help])* $variant,)*
        }

        impl Metric {
            /// All metrics, in the order of the docs.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name without the suffix of a counter.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Type of the metric.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// Help text.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),*).trim(),)* }
            }

            /// Labels of the metric.
            #[must_use]
            pub const fn labels(self) -> &'static [Label] {
                match self {
                    $(Self::$variant => &[$(Label { name: $label, values: $values }),*],)*
                }
            }
        }
    };
}

metrics! {
    /// Log lines by result of decoding.
    Lines: Counter "yellowjack_lines", labels {
        "result": LineResult::VARIANTS
    };
    /// Lines of one log by usefulness: signals of known pods; headers, statistics and the like; left out or of no
    /// known pod; not readable in the format of the log.
    SourceLines: Counter "yellowjack_source_lines", labels {
        "source": SOURCES,
        "result": LineUse::VARIANTS
    };
    /// Well-formed lines that are skipped, by reason.
    LinesSkipped: Counter "yellowjack_lines_skipped", labels {
        "reason": SkipReason::VARIANTS
    };
    /// Signals that could not be attributed to a pod, by reason.
    SignalsUnattributed: Counter "yellowjack_signals_unattributed", labels {
        "reason": UnattributedReason::VARIANTS
    };
    /// Pods in the attribution index, including those that ended within the last ten minutes.
    IndexPods: Gauge "yellowjack_index_pods", labels {};
    /// Entries that the attribution index dropped because it was full, so that lines may not be attributed.
    IndexDropped: Counter "yellowjack_index_dropped", labels {
        "what": IndexDrop::VARIANTS
    };
    /// Signals that were ignored because the maximum number of pods has detection state.
    SignalsBeyondBound: Counter "yellowjack_signals_beyond_bound", labels {};
    /// First contacts that wait for an answer, a timeout, or the run or target of their pod to become known, including
    /// those that were read less than a second ago.
    ContactsWaiting: Gauge "yellowjack_contacts_waiting", labels {};
    /// Records that the producers of the logs reported as lost.
    EventsLost: Counter "yellowjack_events_lost", labels {};
    /// Findings by result.
    Findings: Counter "yellowjack_findings", labels {
        "result": FindingResult::VARIANTS
    };
    /// ContactReports by result: written; failed and retried; left out because too many wait to be written; not
    /// stored because there are too many.
    ContactReports: Counter "yellowjack_contact_reports", labels {
        "result": ReportResult::VARIANTS
    };
    /// Contacts in the ContactReports of other nodes: added, or refused because their pod was not found on that
    /// node or the contact is invalid.
    ReportedContacts: Counter "yellowjack_reported_contacts", labels {
        "result": ReportedContactResult::VARIANTS
    };
    /// Writes to the API server by outcome.
    ApiWrites: Counter "yellowjack_api_writes", labels {
        "outcome": WriteOutcome::VARIANTS
    };
    /// Whether this process is the leader: 1 or 0.
    Leader: Gauge "yellowjack_leader", labels {};
    /// How often this process became the leader.
    LeaderTransitions: Counter "yellowjack_leader_transitions", labels {};
    /// Versions of objects that could not be parsed.
    ObjectsMalformed: Counter "yellowjack_objects_malformed", labels {};
    /// Addresses of pods that ended that did not fit into the list for node agents.
    EndedPodsLeftOut: Counter "yellowjack_ended_pods_left_out", labels {};
    /// Lines of a source that were dropped because they were too long.
    SourceOversizedLines: Counter "yellowjack_source_oversized_lines", labels { "source": SOURCES };
    /// Files of a source that replaced a rotated one.
    SourceRotations: Counter "yellowjack_source_rotations", labels { "source": SOURCES };
    /// Files of a source that were truncated in place.
    SourceTruncations: Counter "yellowjack_source_truncations", labels { "source": SOURCES };
    /// Files of a source that were removed before they were read completely.
    SourceGaps: Counter "yellowjack_source_gaps", labels { "source": SOURCES };
    /// Bytes of a source that are not read yet.
    SourceLagBytes: Gauge "yellowjack_source_lag_bytes", labels { "source": SOURCES };
    /// Reconnections to a relay.
    RelayReconnects: Counter "yellowjack_relay_reconnects", labels { "source": SOURCES };
    /// Flows of a relay that were received twice and count once.
    RelayRepeated: Counter "yellowjack_relay_repeated", labels { "source": SOURCES };
    /// Records that Hubble reported as lost, by place.
    RelayEventsLost: Counter "yellowjack_relay_events_lost", labels {
        "source": SOURCES,
        "place": LossPlace::VARIANTS
    };
    /// Nodes that a relay reports as unreachable.
    RelayNodesUnseen: Gauge "yellowjack_relay_nodes_unseen", labels { "source": SOURCES };
    /// Attempts to save the detection state, by result.
    StateWrites: Counter "yellowjack_state_writes", labels { "result": StateWriteResult::VARIANTS };
    /// Bytes of the saved detection state.
    StateBytes: Gauge "yellowjack_state_bytes", labels {};
    /// Pods with a detection state that was restored at the start of this process.
    StateRestoredPods: Gauge "yellowjack_state_restored_pods", labels {};
    /// The longest time in microseconds for which saving the state delayed lines.
    StateLongestStep: Gauge "yellowjack_state_longest_step_microseconds", labels {};
    /// Saved states that could not be used and were set aside, by reason.
    StateUnreadable: Counter "yellowjack_state_unreadable", labels {
        "reason": StateDefect::VARIANTS
    };
    /// Fetches of node metrics by result.
    Scrapes: Counter "yellowjack_scrapes", labels {
        "source": SOURCES,
        "result": ScrapeResult::VARIANTS
    };
    /// Samples of node metrics by result.
    Samples: Counter "yellowjack_samples", labels {
        "result": SampleResult::VARIANTS
    };
    /// AgentRuns.
    Runs: Gauge "yellowjack_runs", labels {};
    /// Pods that belong to a run.
    Pods: Gauge "yellowjack_pods", labels {};
    /// Notifications by receiver and result.
    Notifications: Counter "yellowjack_notifications", labels {
        "receiver": Receiver::VARIANTS,
        "result": DeliveryResult::VARIANTS
    };
    /// Incidents that are not closed.
    IncidentsOpen: Gauge "yellowjack_incidents_open", labels {};
    /// Time from the log line with which a pod crossed the quarantine threshold, by the time in the log, until the
    /// API server accepted the quarantine label on the pod. Includes the delay of the log, and the wait if a limit delayed
    /// the isolation. Pods that were isolated for another pod of their run are not counted.
    IsolationLatency: Histogram "yellowjack_isolation_latency_seconds", labels {};
}

/// The content of docs/metrics.md.
#[must_use]
pub fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from `src/observability/metrics.rs` by `make docs`. Served at `/metrics` of `--listen`, in the OpenMetrics\n\
         format. Every value of a label is listed here; `source` is the name of a source on the command line. Text from a pod, a\n\
         log or an object of the cluster never becomes a label.\n\n\
         | metric | type | labels | description |\n|---|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let (suffix, kind) = match metric.kind() {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        let labels: Vec<String> = metric.labels().iter().map(Label::described).collect();
        let labels = labels.join("; ");
        let row = [
            &format!("`{}{suffix}`", metric.name()),
            kind,
            &labels,
            metric.help(),
        ];
        page = page + "| " + &row.join(" | ") + " |\n";
    }
    page
}

impl Label {
    fn described(&self) -> String {
        let values: Vec<String> = self
            .values
            .iter()
            .map(|value| format!("`{value}`"))
            .collect();
        match values.as_slice() {
            [] => format!("`{}`", self.name),
            values => format!("`{}`: {}", self.name, values.join(", ")),
        }
    }
}

/// Durations, counted in the buckets of [`limits::LATENCY_BUCKETS_S`]. Clones share their counts.
#[derive(Clone, Debug)]
pub(crate) struct LatencyHistogram {
    histogram: Histogram,
    /// What was counted last, the oldest first; at most [`limits::LATENCY_KEYS_MAX`].
    counted: Arc<Mutex<VecDeque<String>>>,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self {
            histogram: Histogram::new(limits::LATENCY_BUCKETS_S),
            counted: Arc::default(),
        }
    }
}

impl LatencyHistogram {
    /// Counts the duration of what `key` names, unless it was counted before: a write is repeated until its
    /// effect is seen, and only the first one took this long.
    pub(crate) fn observe_once(&self, key: &str, duration: Duration) {
        let mut counted = self.counted.lock();
        if counted.iter().any(|known| known == key) {
            return;
        }
        if counted.len() >= limits::LATENCY_KEYS_MAX {
            counted.pop_front();
        }
        counted.push_back(key.to_owned());
        self.histogram.observe(duration.as_secs_f64());
    }
}

/// One value of a metric.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    metric: Metric,
    label_values: Vec<String>,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Histogram(LatencyHistogram),
}

impl Reading {
    /// A value of a metric without labels.
    #[must_use]
    pub(crate) const fn plain(metric: Metric, value: u64) -> Self {
        Self {
            metric,
            label_values: Vec::new(),
            value: Value::Number(value),
        }
    }

    /// The current state of a histogram.
    #[must_use]
    pub(crate) fn histogram(metric: Metric, histogram: &LatencyHistogram) -> Self {
        Self {
            metric,
            label_values: Vec::new(),
            value: Value::Histogram(histogram.clone()),
        }
    }

    /// A value of a metric with one label.
    #[must_use]
    pub(crate) fn labelled(metric: Metric, label: impl LabelValue, value: u64) -> Self {
        Self::new(metric, vec![label.into()], value)
    }

    /// The values of a metric with one label.
    pub(crate) fn all<L: LabelValue>(
        metric: Metric,
        counters: &Counters<L>,
    ) -> impl Iterator<Item = Self> {
        let all = counters.all();
        all.map(move |(label, count)| Self::labelled(metric, label, count))
    }

    /// A value of a metric with the label `source`.
    #[must_use]
    pub(crate) fn of_source(metric: Metric, source: &str, value: u64) -> Self {
        Self::new(metric, vec![source], value)
    }

    /// A value of a metric with the labels `source` and another one.
    #[must_use]
    pub(crate) fn of_source_by(
        metric: Metric,
        source: &str,
        label: impl LabelValue,
        value: u64,
    ) -> Self {
        Self::new(metric, vec![source, label.into()], value)
    }

    /// The values of a metric with two labels, for one value of the first.
    pub(crate) fn all_of<L: LabelValue>(
        metric: Metric,
        first: impl LabelValue,
        counters: &Counters<L>,
    ) -> impl Iterator<Item = Self> {
        let of = move |(second, count): (L, u64)| {
            Self::new(metric, vec![first.into(), second.into()], count)
        };
        counters.all().map(of)
    }

    fn new(metric: Metric, label_values: Vec<&str>, value: u64) -> Self {
        // A value of another metric's enum would be missing in docs/metrics.md.
        debug_assert!(
            metric
                .labels()
                .iter()
                .zip(&label_values)
                .all(|(label, value)| { label.values.is_empty() || label.values.contains(value) }),
            "{metric:?}: {label_values:?}"
        );
        Self {
            metric,
            label_values: label_values.into_iter().map(str::to_owned).collect(),
            value: Value::Number(value),
        }
    }
}

/// Reads the current values.
pub(crate) type Read = Arc<dyn Fn() -> Vec<Reading> + Send + Sync>;

struct Readings(Read);

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let readings = (self.0)();
        for metric in Metric::ALL {
            let mut of_metric = readings.iter().filter(|r| r.metric == *metric).peekable();
            let Some(first) = of_metric.peek() else {
                continue;
            };
            let kind = const_metric(first).metric_type();
            let mut family = encoder.encode_descriptor(metric.name(), metric.help(), None, kind)?;
            for reading in of_metric {
                let names = metric.labels().iter().map(|label| label.name);
                let values = reading.label_values.iter().map(String::as_str);
                let labels: Vec<(&str, &str)> = names.zip(values).collect();
                if labels.is_empty() {
                    // A metric without labels has one value.
                    const_metric(reading).encode(family)?;
                    break;
                }
                const_metric(reading).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn const_metric(reading: &Reading) -> Box<dyn EncodeConst> {
    match (&reading.value, reading.metric.kind()) {
        (Value::Histogram(histogram), _) => Box::new(histogram.histogram.clone()),
        (Value::Number(value), Kind::Counter) => Box::new(ConstCounter::new(*value)),
        (Value::Number(value), _) => {
            Box::new(ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)))
        }
    }
}

/// `EncodeMetric` as a trait object, because each kind is another type.
trait EncodeConst {
    fn encode(
        &self,
        encoder: prometheus_client::encoding::MetricEncoder<'_>,
    ) -> Result<(), fmt::Error>;
    fn metric_type(&self) -> prometheus_client::metrics::MetricType;
}

impl<M: EncodeMetric> EncodeConst for M {
    fn encode(
        &self,
        encoder: prometheus_client::encoding::MetricEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        EncodeMetric::encode(self, encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        EncodeMetric::metric_type(self)
    }
}

/// Encodes the values in the OpenMetrics text format.
pub(super) fn to_text(read: Read) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Readings(read)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_has_type_help_and_labels() {
        let latency = LatencyHistogram::default();
        latency.observe_once("a", Duration::from_secs(3));
        latency.observe_once("a", Duration::from_mins(1));
        let read: Read = Arc::new(move || {
            vec![
                Reading::labelled(Metric::Lines, LineResult::Signal, 7),
                Reading::labelled(Metric::Lines, LineResult::Malformed, 1),
                Reading::of_source_by(Metric::Scrapes, "kubelet n1", ScrapeResult::Failed, 2),
                Reading::plain(Metric::Runs, 3),
                Reading::histogram(Metric::IsolationLatency, &latency),
            ]
        });
        let text = to_text(read).unwrap();
        for line in [
            "# HELP yellowjack_lines Log lines by result of decoding.",
            "# TYPE yellowjack_lines counter",
            "yellowjack_lines_total{result=\"signal\"} 7",
            "yellowjack_lines_total{result=\"malformed\"} 1",
            "yellowjack_scrapes_total{source=\"kubelet n1\",result=\"failed\"} 2",
            "# TYPE yellowjack_runs gauge",
            "yellowjack_runs 3",
            "# TYPE yellowjack_isolation_latency_seconds histogram",
            "yellowjack_isolation_latency_seconds_sum 3.0",
            "yellowjack_isolation_latency_seconds_count 1",
            "yellowjack_isolation_latency_seconds_bucket{le=\"2.5\"} 0",
            "yellowjack_isolation_latency_seconds_bucket{le=\"5.0\"} 1",
            "yellowjack_isolation_latency_seconds_bucket{le=\"+Inf\"} 1",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line} is not in:\n{text}"
            );
        }
    }

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
        let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(
            names
                .iter()
                .all(|name| name.starts_with("yellowjack_") && name.chars().all(is_plain))
        );
        assert!(
            Metric::ALL
                .iter()
                .all(|metric| metric.help().ends_with('.'))
        );
    }
}
