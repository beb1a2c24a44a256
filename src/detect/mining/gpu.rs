//! Accelerator use over time: the signature of hashing.
//!
//! Called by `compute`. Training uses tensor cores, loads data, reduces over links and dips at
//! steps and checkpoints; hashing keeps all multiprocessors busy with integer work, draws even
//! power and moves no data. A figure that is missing is no evidence. Renderers, genomics and
//! molecular dynamics share parts of this, so it speaks only together with a session.

use serde::{Deserialize, Serialize};

use crate::model::{EventTime, GpuSample};

use super::super::session::Session;
use super::compute::{share, shared_us};

/// Multiprocessors busy; utilisation says less, since one resident kernel makes it 100 %.
const BUSY_SM: f64 = 0.8;
const BUSY_UTILIZATION: f64 = 0.95;
/// No matrix work to speak of.
const TENSOR_MAX: f64 = 0.01;
const FP64_MAX: f64 = 0.05;
/// Integer work as hashing has it, and memory traffic as memory-hard coins have it.
const INTEGER_MIN: f64 = 0.4;
const DRAM_MIN: f64 = 0.6;
/// Even power: standard deviation over mean.
const POWER_SPREAD_MAX: f64 = 0.02;
/// 1 % of a PCIe 4.0 x16 link, both ways.
const LINK_BYTES_MAX: f64 = 640_000_000.0;
/// Memory in use that does not move.
const MEMORY_SPREAD_MAX: f64 = 0.01;

/// A time without samples, or without the pattern, that ends a run of it.
const GAP_US: i64 = 300_000_000;
const OFF_US: i64 = 60_000_000;
const SAMPLES_MIN: u32 = 8;

/// What the signs add. All of them together are one family.
const BUSY_WITHOUT_TENSOR_NATS: f64 = 2.5;
const INTEGER_NATS: f64 = 3.0;
const DRAM_NATS: f64 = 1.0;
const EVEN_POWER_NATS: f64 = 2.5;
const QUIET_LINK_NATS: f64 = 1.5;
const STEADY_MEMORY_NATS: f64 = 1.0;

/// A run of samples that look like hashing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Run {
    start: EventTime,
    last: EventTime,
    count: u32,
    power: Spread,
    memory: Spread,
    integer: Spread,
    dram: Spread,
    link: Spread,
}

/// Mean and spread of a figure, by Welford's method.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Spread {
    count: u32,
    mean: f64,
    squares: f64,
}

/// A pod's accelerator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Gpu {
    run: Option<Run>,
    over: Option<Run>,
}

impl Gpu {
    pub(super) fn observe(&mut self, time: EventTime, sample: &GpuSample) {
        let Some(is_busy) = is_busy_without_tensor(sample) else {
            return;
        };
        if let Some(run) = self.run {
            let silent_us = time.micros_since(run.last);
            let is_over = silent_us.abs() > GAP_US || (!is_busy && silent_us > OFF_US);
            if is_over {
                let is_longest = self.over.is_none_or(|over| over.span_us() < run.span_us());
                if is_longest {
                    self.over = Some(run);
                }
                self.run = None;
            }
        }
        if !is_busy {
            // A dip shows in the power's spread, where it is known.
            if let Some(run) = &mut self.run {
                run.power.add(sample.power_watts);
            }
            return;
        }
        self.run
            .get_or_insert_with(|| Run::new(time))
            .add(time, sample);
    }

    /// What it adds to a session.
    pub(super) fn nats(&self, session: &Session) -> f64 {
        let runs = [self.run, self.over].into_iter().flatten();
        runs.map(|run| run.nats(session)).fold(0.0, f64::max)
    }

    pub(super) fn words(&self) -> String {
        let longest = self.run.into_iter().chain(self.over);
        let span_us = longest.map(|run| run.span_us()).max().unwrap_or_default();
        format!(
            "Its accelerator was busy without tensor work and at even power for {}.",
            super::super::scan::span_us(span_us)
        )
    }
}

impl Run {
    fn new(start: EventTime) -> Self {
        Self {
            start,
            last: start,
            count: 0,
            power: Spread::default(),
            memory: Spread::default(),
            integer: Spread::default(),
            dram: Spread::default(),
            link: Spread::default(),
        }
    }

    fn add(&mut self, time: EventTime, sample: &GpuSample) {
        self.last = self.last.max(time);
        self.count = self.count.saturating_add(1);
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
        let mut nats = BUSY_WITHOUT_TENSOR_NATS;
        if self.integer.known().is_some_and(|mean| mean > INTEGER_MIN) {
            nats += INTEGER_NATS;
        }
        if self.dram.known().is_some_and(|mean| mean > DRAM_MIN) {
            nats += DRAM_NATS;
        }
        if self.power.is_even(POWER_SPREAD_MAX) {
            nats += EVEN_POWER_NATS;
        }
        if self.link.known().is_some_and(|mean| mean < LINK_BYTES_MAX) {
            nats += QUIET_LINK_NATS;
        }
        if self.memory.is_even(MEMORY_SPREAD_MAX) {
            nats += STEADY_MEMORY_NATS;
        }
        nats * share(span_us)
    }
}

impl Spread {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return;
        };
        self.count = self.count.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / f64::from(self.count);
        self.squares += delta * (value - self.mean);
    }

    fn known(&self) -> Option<f64> {
        (self.count >= SAMPLES_MIN).then_some(self.mean)
    }

    fn is_even(&self, share_max: f64) -> bool {
        let deviation = (self.squares / f64::from(self.count.max(1))).sqrt();
        self.count >= SAMPLES_MIN && self.mean > 0.0 && deviation <= share_max * self.mean
    }
}

/// `None` where the sample cannot tell: without a word on tensor work, training looks the same.
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
