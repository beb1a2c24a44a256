//! Accelerator use over time: the signature of hashing.
//!
//! Called by `compute`. Training uses tensor cores, loads data, reduces over links, and dips at steps and checkpoints;
//! hashing keeps all multiprocessors busy with integer work, draws constant power and moves no data. A missing value is
//! no evidence, and neither is a device that other pods use or may use. Renderers, genomics and molecular dynamics
//! share some of these signs, so they count only together with a session.

use serde::{Deserialize, Serialize};

use crate::model::{DeviceUse, EventTime, GpuSample, duration};

use super::overlap::{duration_share, shared_us};
use crate::detect::session::Session;

/// Busy multiprocessors. Utilization is weaker evidence, because one resident kernel makes it 100 %.
const BUSY_SM: f64 = 0.8;
const BUSY_UTILIZATION: f64 = 0.95;
/// Almost no matrix work.
const TENSOR_MAX: f64 = 0.01;
const FP64_MAX: f64 = 0.05;
/// Integer work as hashing has it, and memory traffic as memory-hard coins have it.
const INTEGER_MIN: f64 = 0.4;
const DRAM_MIN: f64 = 0.6;
/// Constant power: ratio of standard deviation and mean.
const POWER_SPREAD_MAX: f64 = 0.02;
/// 1 % of a PCIe 4.0 x16 link, in both directions.
const LINK_BYTES_MAX: f64 = 640_000_000.0;
/// Constant memory use.
const MEMORY_SPREAD_MAX: f64 = 0.01;

/// A gap without samples that ends a period of the pattern.
const GAP_US: i64 = 300_000_000;
/// A period also ends after this time without the pattern, in at least this number of samples, so that one odd sample
/// of a source with one sample per minute does not end it.
const OFF_US: i64 = 60_000_000;
const OFF_SAMPLES_MIN: u32 = 2;
/// Minimum number of samples: with one per minute, a period of five minutes has as many.
const SAMPLES_MIN: u32 = 5;

/// The nats that each sign adds. Together they are one family.
const BUSY_WITHOUT_TENSOR_NATS: f64 = 2.5;
const INTEGER_NATS: f64 = 3.0;
const DRAM_NATS: f64 = 1.0;
const EVEN_POWER_NATS: f64 = 2.5;
const QUIET_LINK_NATS: f64 = 1.5;
const STEADY_MEMORY_NATS: f64 = 1.0;

/// A period of samples that look like hashing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct HashingRun {
    start: EventTime,
    last: EventTime,
    count: u32,
    /// Number of samples without the pattern since the last one with it.
    off: u32,
    /// The device of its samples; `None` if there are several.
    device: Option<u64>,
    power: RunningStats,
    memory: RunningStats,
    integer: RunningStats,
    dram: RunningStats,
    link: RunningStats,
}

/// Mean and variance of a value, by Welford's method.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct RunningStats {
    count: u32,
    mean: f64,
    squares: f64,
}

/// State of a pod's accelerator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Gpu {
    run: Option<HashingRun>,
    longest_past: Option<HashingRun>,
}

impl Gpu {
    pub(super) fn observe(&mut self, time: EventTime, sample: &GpuSample) {
        match sample.device_use {
            DeviceUse::Exclusive => self.observe_own(time, sample),
            // What counted as the pod's own work may have been that of another pod.
            DeviceUse::Shared => self.withdraw(sample.device),
            DeviceUse::Unknown => {}
        }
    }

    /// Discards the periods that contain samples of a device.
    fn withdraw(&mut self, device: Option<u64>) {
        let is_other = |run: &HashingRun| run.device.is_some() && run.device != device;
        self.run = self.run.filter(is_other);
        self.longest_past = self.longest_past.filter(is_other);
    }

    fn observe_own(&mut self, time: EventTime, sample: &GpuSample) {
        let Some(is_busy) = is_busy_without_tensor(sample) else {
            return;
        };
        if let Some(run) = &mut self.run {
            let silent_us = time.micros_since(run.last);
            run.off = if is_busy {
                0
            } else {
                run.off.saturating_add(1)
            };
            let is_off = run.off >= OFF_SAMPLES_MIN && silent_us > OFF_US;
            if silent_us.abs() > GAP_US || is_off {
                let run = *run;
                let is_longest = self
                    .longest_past
                    .is_none_or(|longest_past| longest_past.span_us() < run.span_us());
                if is_longest {
                    self.longest_past = Some(run);
                }
                self.run = None;
            }
        }
        if !is_busy {
            // A dip changes the variance of the power, if it is known.
            if let Some(run) = &mut self.run {
                run.power.add(sample.power_watts);
            }
            return;
        }
        self.run
            .get_or_insert_with(|| HashingRun::new(time, sample.device))
            .add(time, sample);
    }

    /// The nats that the accelerator adds to a session, and their description.
    pub(super) fn nats(&self, session: &Session) -> (f64, Option<String>) {
        let runs = [self.run, self.longest_past].into_iter().flatten();
        let best = runs
            .map(|run| (run.nats(session), run))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((nats, run)) if nats > 0.0 => (nats, Some(run.description())),
            _ => (0.0, None),
        }
    }
}

impl HashingRun {
    fn new(start: EventTime, device: Option<u64>) -> Self {
        Self {
            start,
            last: start,
            count: 0,
            off: 0,
            device,
            power: RunningStats::default(),
            memory: RunningStats::default(),
            integer: RunningStats::default(),
            dram: RunningStats::default(),
            link: RunningStats::default(),
        }
    }

    fn add(&mut self, time: EventTime, sample: &GpuSample) {
        self.last = self.last.max(time);
        self.count = self.count.saturating_add(1);
        self.device = self.device.filter(|device| Some(*device) == sample.device);
        self.power.add(sample.power_watts);
        self.memory.add(sample.memory_used_mib);
        self.integer.add(sample.int_active);
        self.dram.add(sample.dram_active);
        self.link.add(sample.link_bytes_per_second);
    }

    fn span_us(&self) -> i64 {
        self.last.micros_since(self.start)
    }

    fn nats(&self, session: &Session) -> f64 {
        let span_us = self.span_us();
        let shared_us = shared_us(self.start, self.last, session);
        if self.count < SAMPLES_MIN || shared_us * 5 < span_us * 3 {
            return 0.0;
        }
        let signs = self.signs();
        let nats = BUSY_WITHOUT_TENSOR_NATS + signs.iter().map(|sign| sign.0).sum::<f64>();
        nats * duration_share(span_us)
    }

    /// The measured signs of hashing: the nats and the description of each.
    fn signs(&self) -> Vec<(f64, &'static str)> {
        let is_integer = self
            .integer
            .mean_if_known()
            .is_some_and(|mean| mean > INTEGER_MIN);
        let is_memory_bound = self
            .dram
            .mean_if_known()
            .is_some_and(|mean| mean > DRAM_MIN);
        let is_link_quiet = self
            .link
            .mean_if_known()
            .is_some_and(|mean| mean < LINK_BYTES_MAX);
        [
            (is_integer, INTEGER_NATS, "with integer work"),
            (is_memory_bound, DRAM_NATS, "with its memory busy"),
            (
                self.power.is_even(POWER_SPREAD_MAX),
                EVEN_POWER_NATS,
                "at even power",
            ),
            (is_link_quiet, QUIET_LINK_NATS, "with a quiet link"),
            (
                self.memory.is_even(MEMORY_SPREAD_MAX),
                STEADY_MEMORY_NATS,
                "with steady memory use",
            ),
        ]
        .into_iter()
        .filter(|(is_seen, _, _)| *is_seen)
        .map(|(_, nats, description)| (nats, description))
        .collect()
    }

    /// Describes only what was measured.
    fn description(&self) -> String {
        let signs: Vec<_> = self.signs().into_iter().map(|sign| sign.1).collect();
        let listed = match signs.split_last() {
            None => String::new(),
            Some((last, [])) => format!(", {last},"),
            Some((last, others)) => format!(", {} and {last},", others.join(", ")),
        };
        format!(
            "Its accelerator was busy without tensor work{listed} for {}.",
            duration::rounded(self.span_us())
        )
    }
}

impl RunningStats {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return;
        };
        self.count = self.count.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / f64::from(self.count);
        self.squares += delta * (value - self.mean);
    }

    fn mean_if_known(&self) -> Option<f64> {
        (self.count >= SAMPLES_MIN).then_some(self.mean)
    }

    fn is_even(&self, share_max: f64) -> bool {
        let deviation = (self.squares / f64::from(self.count.max(1))).sqrt();
        self.count >= SAMPLES_MIN && self.mean > 0.0 && deviation <= share_max * self.mean
    }
}

/// Whether the accelerator is busy without tensor work. `None` if the sample does not show it: without a value of
/// tensor work, training looks the same.
fn is_busy_without_tensor(sample: &GpuSample) -> Option<bool> {
    let tensor = sample.tensor_active?;
    let is_busy = match (sample.sm_active, sample.utilization) {
        (Some(sm), _) => sm > BUSY_SM,
        (None, Some(utilization)) => utilization > BUSY_UTILIZATION,
        (None, None) => return None,
    };
    let has_fp64 = sample.fp64_active.is_some_and(|fp64| fp64 > FP64_MAX);
    Some(is_busy && tensor < TENSOR_MAX && !has_fp64)
}
