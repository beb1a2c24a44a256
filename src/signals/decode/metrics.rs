//! Node metrics: converts one response of a kubelet, an accelerator exporter or the metrics API to samples of pods.
//!
//! Called by `source::scrape` with each response body. Pure: the time of the fetch is a
//! parameter. Counters are converted to rates here, using the times in the text, because a kubelet measures
//! at other times than the fetch. Missing information produces no sample, never a zero.

mod accelerators;
mod exposition;
mod kubelet;
mod owners;
pub(super) mod plausible;
mod pod_metrics;
mod rates;
mod vendors;

use crate::limits;
use crate::model::{ComputeSample, EventTime};

pub(crate) use owners::{DeviceOwners, device_key};
use rates::Rates;

/// The format of the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricsFormat {
    /// A kubelet's `/metrics/resource`.
    Kubelet,
    /// An exporter of accelerator metrics: NVIDIA's DCGM exporter, AMD's device metrics exporter or
    /// Intel's XPU Manager. The text itself shows the vendor.
    Dcgm,
    /// A list of PodMetrics of `metrics.k8s.io`, as JSON.
    PodMetrics,
}

impl MetricsFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Kubelet, Self::Dcgm, Self::PodMetrics];

    /// The name in metrics and in fuzzing.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Dcgm => "dcgm",
            Self::PodMetrics => "pod-metrics",
        }
    }

    /// The longest response that is read.
    #[must_use]
    pub const fn body_bytes_max(self) -> usize {
        match self {
            Self::Kubelet | Self::Dcgm => limits::METRICS_TEXT_BYTES_MAX,
            Self::PodMetrics => limits::METRICS_LIST_BYTES_MAX,
        }
    }
}

/// A sample of the pod that had this name.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSample {
    /// Namespace.
    pub namespace: String,
    /// Name. An earlier pod may have had the same name, see `from`.
    pub name: String,
    /// UID, if the source provides it.
    pub uid: Option<String>,
    /// Start of the span that the sample covers: the pod must have existed at that time.
    pub from: EventTime,
    /// The sample; its `pod` is `NAMESPACE/NAME`.
    pub sample: ComputeSample<'static>,
}

/// The content of one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsRead {
    /// Samples that are new.
    pub samples: Vec<PodSample>,
    /// Pods with an accelerator that was found to be shared: their earlier samples of it are no evidence.
    pub withdrawn: Vec<PodSample>,
    /// Whether the response contains anything that the previous one did not. A source that repeats itself is
    /// as silent as one that does not respond.
    pub has_new_data: bool,
    /// Lines or objects that could not be read.
    pub malformed: u64,
    /// Accelerators that several pods share, so that their figures belong to none of them.
    pub shared_gpus: u64,
    /// Series, counters and samples beyond a bound.
    pub beyond_bound: u64,
    /// Samples with a time in the future.
    pub ahead: u64,
    /// Figures that are impossible for any machine.
    pub impossible: u64,
}

/// Reads the responses of one source, in order.
#[derive(Clone, Debug)]
pub struct MetricsReader {
    format: MetricsFormat,
    rates: Rates,
    owners: DeviceOwners,
    newest: Option<EventTime>,
}

/// The result of a format's reader.
#[derive(Debug, Default)]
struct ReadResult {
    read: MetricsRead,
    /// The latest time in the text for anything that is read.
    newest: Option<EventTime>,
}

impl ReadResult {
    fn record_time(&mut self, time: EventTime) {
        self.newest = self.newest.max(Some(time));
    }
}

impl MetricsReader {
    /// A reader without state.
    #[must_use]
    pub fn new(format: MetricsFormat) -> Self {
        Self {
            format,
            rates: Rates::default(),
            owners: DeviceOwners::default(),
            newest: None,
        }
    }

    /// Reads a response that was received at `now`.
    #[must_use]
    pub fn read(&mut self, body: &[u8], now: EventTime) -> MetricsRead {
        let mut found = match std::str::from_utf8(body) {
            Ok(text) => match self.format {
                MetricsFormat::Kubelet => kubelet::read(text, now, &mut self.rates),
                MetricsFormat::Dcgm => accelerators::read(text, now, &mut self.owners),
                MetricsFormat::PodMetrics => pod_metrics::read(text, &mut self.rates),
            },
            Err(_) => malformed(),
        };
        self.rates.end_round();
        // Not "later than": after a clock was set back, the source must not count as silent.
        found.read.has_new_data = found.newest.is_some() && found.newest != self.newest;
        self.newest = found.newest.or(self.newest);
        if self.format == MetricsFormat::Dcgm && !found.read.has_new_data {
            // The same text again, with the same times.
            found.read.samples.clear();
        }
        let latest = now.plus_micros(limits::LOG_AHEAD_MAX_MICROS);
        let all = found.read.samples.len();
        found.read.samples.retain(|s| s.sample.time <= latest);
        let ahead = all - found.read.samples.len();
        let over = found
            .read
            .samples
            .len()
            .saturating_sub(limits::SAMPLES_PER_READ_MAX);
        found.read.samples.truncate(limits::SAMPLES_PER_READ_MAX);
        found.read.withdrawn.truncate(limits::SAMPLES_PER_READ_MAX);
        found.read.ahead = count(ahead);
        found.read.beyond_bound += count(over) + self.rates.take_refused();
        found.read.impossible += self.rates.take_impossible();
        found.read
    }

    /// Number of counters that are stored.
    #[must_use]
    pub fn counter_count(&self) -> usize {
        self.rates.len()
    }
}

fn malformed() -> ReadResult {
    let mut found = ReadResult::default();
    found.read.malformed = 1;
    found
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whether the length of a text allows it to be a name in Kubernetes.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= limits::NAME_BYTES_MAX
}

/// The sample of a pod's CPU usage.
fn cpu_sample(namespace: &str, name: &str, span: (EventTime, EventTime), cores: f64) -> PodSample {
    let (from, time) = span;
    PodSample {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
        from,
        sample: ComputeSample {
            time,
            pod: format!("{namespace}/{name}").into(),
            cpu: Some(cores),
            gpu: None,
        },
    }
}

#[cfg(test)]
mod tests;
