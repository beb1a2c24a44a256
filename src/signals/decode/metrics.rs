//! Node metrics: one answer of a kubelet, an accelerator exporter or the metrics API, to samples of pods.
//!
//! Called by `source::scrape` with each body that it fetched. Pure: the time of the fetch is a
//! parameter. Counters become rates here, on the times in the text, because a kubelet's numbers are
//! of other moments than the fetch. What a text does not say is no sample, never a zero.

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

pub use owners::{DeviceOwners, device_key};
use rates::Rates;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricsFormat {
    /// A kubelet's `/metrics/resource`.
    Kubelet,
    /// An exporter of accelerator metrics: NVIDIA's DCGM exporter, AMD's device metrics exporter or
    /// Intel's XPU Manager. The text itself shows whose it is.
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

    /// The longest answer that is read.
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
    /// Name. Another pod can have had it before, see `from`.
    pub name: String,
    /// UID, where the source tells it.
    pub uid: Option<String>,
    /// Begin of the span that the sample is about: the pod must have been there already.
    pub from: EventTime,
    /// The sample; its `pod` is `NAMESPACE/NAME`.
    pub sample: ComputeSample<'static>,
}

/// What one answer said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsRead {
    /// Samples that are new.
    pub samples: Vec<PodSample>,
    /// Pods whose accelerator was found to be shared: what it said of them before is no evidence.
    pub withdrawn: Vec<PodSample>,
    /// Whether the answer said anything that the one before did not: a source that repeats itself is
    /// as silent as one that is away.
    pub is_news: bool,
    /// Lines or objects that could not be read.
    pub malformed: u64,
    /// Accelerators that several pods share, whose figures are about none of them.
    pub shared_gpus: u64,
    /// Series, counters and samples that did not fit.
    pub beyond_bound: u64,
    /// Samples with a time that is yet to come.
    pub ahead: u64,
    /// Figures that no machine can have.
    pub impossible: u64,
}

/// Reads the answers of one source, in their order.
#[derive(Clone, Debug)]
pub struct MetricsReader {
    format: MetricsFormat,
    rates: Rates,
    owners: DeviceOwners,
    newest: Option<EventTime>,
}

/// What a format's reader found.
#[derive(Debug, Default)]
struct Found {
    read: MetricsRead,
    /// The latest time that was said about anything known.
    newest: Option<EventTime>,
}

impl Found {
    fn saw(&mut self, time: EventTime) {
        self.newest = self.newest.max(Some(time));
    }
}

impl MetricsReader {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn new(format: MetricsFormat) -> Self {
        Self {
            format,
            rates: Rates::default(),
            owners: DeviceOwners::default(),
            newest: None,
        }
    }

    /// Reads an answer that came at `now`.
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
        // Not "later than": after a clock was set back, a source speaks all the same.
        found.read.is_news = found.newest.is_some() && found.newest != self.newest;
        self.newest = found.newest.or(self.newest);
        if self.format == MetricsFormat::Dcgm && !found.read.is_news {
            // The same text again, with the times that it had.
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

    /// Counters that are remembered.
    #[must_use]
    pub fn counter_count(&self) -> usize {
        self.rates.len()
    }
}

fn malformed() -> Found {
    let mut found = Found::default();
    found.read.malformed = 1;
    found
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whether a text can be a name in Kubernetes, as far as its length goes.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= limits::NAME_BYTES_MAX
}

/// The sample of a pod's processors.
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
