//! Processor use over time: plateaus.
//!
//! Called by `mining` for every sample. Real miners do not show "more than 90 %", but a step to a constant level: eight
//! of eight had plateaus at 50 to 54 % of the machine, with the middle 80 % of the samples within 3 points. Any unit
//! works, because only the shape is evaluated. Compilers and single-threaded jobs have plateaus too, so this is
//! evidence only together with a session (see [`Compute::nats`]).

use serde::{Deserialize, Serialize};

use crate::model::{ComputeSample, EventTime, duration};

use super::gpu::Gpu;
use super::overlap::{duration_share, shared_us};
use crate::detect::session::Session;

/// A sample is on the plateau within this share of its level: 3 points of 52.
const TOLERANCE: f64 = 0.06;

/// It is also on the plateau within this share while the mean deviation of such samples is at most [`TOLERANCE`]: a miner
/// that works a little less from time to time is as even as one that does not.
const NEAR: f64 = 0.16;

/// Weight of one sample in the mean deviation.
const DEVIATION_GAIN: f64 = 0.05;

/// Share of samples off the plateau that does not end it: dips of a tenth on either side.
const OFF_SHARE_MAX: f64 = 0.2;

/// Consecutive samples off the plateau over this time, and of this number, end it.
const DEVIATION_US: i64 = 60_000_000;
const DEVIATION_SAMPLES_MIN: u32 = 3;

/// How far the level may drift from the initial one. A plateau is constant; a slow ramp is not.
const DRIFT_MAX: f64 = 0.08;

/// After a gap of this length the earlier samples do not count.
const GAP_US: i64 = 300_000_000;

const SAMPLES_MIN: u32 = 5;

/// Minimum number of samples before those off the plateau can end it.
const BREAKABLE_SAMPLES_MIN: u32 = 8;

/// A sample is an average over the time since the previous one, up to this. A plateau therefore starts where the
/// interval of its first sample starts, so that a source with one sample per minute leads to the same result as one
/// with four.
const AVERAGED_MAX_US: i64 = 60_000_000;

/// From this interval on, a pod's first sample may contain a step in its middle: the level before it is then estimated
/// from the two levels.
const SPANNING_US: i64 = 30_000_000;

/// Lowest level that counts, in any unit, and as a share of the pod's peak: an idle pod is constant too.
const LEVEL_MIN: f64 = 0.05;
const LEVEL_SHARE_MIN: f64 = 0.2;

/// Ratio of the level after a step to the level before it.
const STEP_RATIO: f64 = 1.5;

/// Weight of one sample in the moving average, which covers some ten samples.
const RECENT_GAIN: f64 = 0.1;

/// A miner connects to its pool and starts to work; the two starts are at most this far apart. Node metrics are up to a
/// minute late.
const TOGETHER_US: i64 = 300_000_000;

/// What a plateau alone adds, what a start at the same time as the session adds, and what the same lifetime adds.
const PLATEAU_NATS: f64 = 5.0;
const STARTED_TOGETHER_NATS: f64 = 2.5;
const SAME_LIFETIME_NATS: f64 = 1.5;

/// A period of constant use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Plateau {
    pub(super) level: f64,
    pub(super) start: EventTime,
    pub(super) last: EventTime,
    /// Whether use was clearly lower before.
    pub(super) is_step: bool,
    anchor: f64,
    on: u32,
    off: u32,
    /// Mean deviation of the samples near the level, as a share of it.
    mean_deviation: f64,
}

/// Consecutive samples off the plateau with similar values: possibly the start of another plateau.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Deviation {
    /// Recent use when it started.
    before: f64,
    /// Start of the interval of its first sample.
    begin: EventTime,
    since: EventTime,
    count: u32,
    sum: f64,
}

/// State of a pod's processors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Compute {
    current: Option<Plateau>,
    deviation: Option<Deviation>,
    /// The longest plateau that has ended: the record of a session may arrive after it.
    longest_past: Option<Plateau>,
    peak: f64,
    /// Recent use, as a moving average.
    recent: Option<f64>,
    /// Time of the previous sample, and whether it was the first.
    previous: Option<(EventTime, bool)>,
    gpu: Gpu,
}

impl Compute {
    /// Processes a sample.
    pub(super) fn observe(&mut self, sample: &ComputeSample<'_>) {
        if let Some(cpu) = sample.cpu.filter(|cpu| cpu.is_finite() && *cpu >= 0.0) {
            self.observe_cpu(sample.time, cpu);
        }
        if let Some(gpu) = &sample.gpu {
            self.gpu.observe(sample.time, gpu);
        }
    }

    /// The nats that the processors add to a session, and their description. Processor and accelerator are one family:
    /// a simulation keeps both constant, so together they add no more than one of them.
    pub(super) fn nats(&self, session: &Session) -> (f64, Option<String>) {
        let plateaus = [self.current, self.longest_past].into_iter().flatten();
        let cpu = plateaus
            .map(|plateau| (self.plateau_nats(&plateau, session), plateau))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let gpu = self.gpu.nats(session);
        match cpu {
            Some((nats, plateau)) if nats > 0.0 && nats >= gpu.0 => {
                (nats, Some(plateau.description()))
            }
            _ => gpu,
        }
    }

    fn plateau_nats(&self, plateau: &Plateau, session: &Session) -> f64 {
        let is_low = plateau.level < LEVEL_MIN.max(LEVEL_SHARE_MIN * self.peak);
        let span_us = plateau.last.micros_since(plateau.start);
        let shared_us = shared_us(plateau.start, plateau.last, session);
        // A plateau outside of most of the session is no evidence about it.
        if is_low || plateau.on < SAMPLES_MIN || shared_us * 5 < span_us * 3 {
            return 0.0;
        }
        let began_together = plateau.start.micros_since(session.first).abs() <= TOGETHER_US;
        let mut nats = PLATEAU_NATS;
        if plateau.is_step && began_together {
            nats += STARTED_TOGETHER_NATS;
        }
        if began_together && shared_us * 5 >= session.span_us().max(span_us) * 4 {
            nats += SAME_LIFETIME_NATS;
        }
        nats * duration_share(span_us)
    }

    fn observe_cpu(&mut self, time: EventTime, cpu: f64) {
        self.peak = self.peak.max(cpu);
        self.update_plateau(time, cpu);
        let recent = self.recent.unwrap_or(cpu);
        self.recent = Some(recent + (cpu - recent) * RECENT_GAIN);
        self.previous = Some((time, self.previous.is_none()));
    }

    fn update_plateau(&mut self, time: EventTime, cpu: f64) {
        let Some(plateau) = &mut self.current else {
            self.current = Some(Plateau::new(time, cpu, false));
            return;
        };
        let gap_us = time.micros_since(
            plateau
                .last
                .max(self.deviation.map_or(plateau.last, |r| r.since)),
        );
        if gap_us.abs() > GAP_US {
            self.end(Plateau::new(time, cpu, false));
            return;
        }
        if plateau.accept(time, cpu) {
            self.deviation = None;
            return;
        }
        plateau.off = plateau.off.saturating_add(1);
        let begun = begin_and_level_before(time, cpu, self.previous, self.recent);
        let is_apart =
            |deviation: &Deviation| (cpu - deviation.mean()).abs() > TOLERANCE * deviation.mean();
        let deviation = self
            .deviation
            .get_or_insert_with(|| Deviation::new(time, begun));
        if deviation.count > 0 && is_apart(deviation) {
            *deviation = Deviation::new(time, begun);
        }
        deviation.count = deviation.count.saturating_add(1);
        deviation.sum += cpu;
        let is_other = deviation.count >= DEVIATION_SAMPLES_MIN
            && time.micros_since(deviation.since) >= DEVIATION_US;
        if is_other || plateau.is_broken() {
            let next = deviation.plateau(time);
            self.end(next);
        }
    }

    fn end(&mut self, next: Plateau) {
        self.deviation = None;
        let Some(done) = self.current.replace(next) else {
            return;
        };
        let is_longest = self
            .longest_past
            .is_none_or(|longest_past| longest_past.span_us() < done.span_us());
        if done.on >= SAMPLES_MIN && is_longest {
            self.longest_past = Some(done);
        }
    }
}

impl Deviation {
    fn new(since: EventTime, (begin, before): (EventTime, f64)) -> Self {
        Self {
            before,
            begin,
            since,
            count: 0,
            sum: 0.0,
        }
    }

    /// The plateau that it has become.
    fn plateau(&self, last: EventTime) -> Plateau {
        let mean = self.mean();
        Plateau {
            last,
            on: self.count,
            ..Plateau::new(self.begin, mean, mean >= self.before * STEP_RATIO)
        }
    }

    fn mean(&self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }
}

impl Plateau {
    fn new(start: EventTime, level: f64, is_step: bool) -> Self {
        Self {
            level,
            start,
            last: start,
            is_step,
            anchor: level,
            on: 1,
            off: 0,
            mean_deviation: 0.0,
        }
    }

    fn span_us(&self) -> i64 {
        self.last.micros_since(self.start)
    }

    /// Whether the sample is on the plateau. If so, adds it.
    fn accept(&mut self, time: EventTime, cpu: f64) -> bool {
        let deviation = (cpu - self.level).abs();
        let is_near = deviation <= NEAR * self.level;
        if is_near && self.level > 0.0 {
            let share = deviation / self.level;
            self.mean_deviation += (share - self.mean_deviation) * DEVIATION_GAIN;
        }
        let tolerance = if self.mean_deviation <= TOLERANCE {
            NEAR
        } else {
            TOLERANCE
        };
        let is_on = deviation <= tolerance * self.level
            && (cpu - self.anchor).abs() <= (tolerance + DRIFT_MAX) * self.anchor;
        if is_on {
            self.on = self.on.saturating_add(1);
            self.level += (cpu - self.level) / f64::from(self.on.min(20));
            if self.on == BREAKABLE_SAMPLES_MIN {
                self.anchor = self.level;
            }
            self.last = self.last.max(time);
        }
        is_on
    }

    fn is_broken(&self) -> bool {
        let all = self.on.saturating_add(self.off);
        all >= BREAKABLE_SAMPLES_MIN && f64::from(self.off) > OFF_SHARE_MAX * f64::from(all)
    }

    fn description(&self) -> String {
        let step = if self.is_step {
            "stepped up to"
        } else {
            "stayed at"
        };
        format!(
            "Its processor use {step} {:.3} and did not move for {}.",
            self.level,
            duration::rounded(self.span_us())
        )
    }
}

/// The start of a sample's interval, and the level before it. A pod's first sample in a minute is a mixture of the
/// levels before and after a step. The assumption of half and half does not change a constant level.
fn begin_and_level_before(
    time: EventTime,
    cpu: f64,
    previous: Option<(EventTime, bool)>,
    recent: Option<f64>,
) -> (EventTime, f64) {
    let before = recent.unwrap_or(cpu);
    let Some((at, is_only)) = previous else {
        return (time, before);
    };
    let span_us = time.micros_since(at);
    if span_us <= 0 {
        return (time, before);
    }
    let begin = at.max(time.plus_micros(-AVERAGED_MAX_US));
    if is_only && span_us >= SPANNING_US && cpu > before {
        return (begin, (2.0 * before - cpu).max(0.0));
    }
    (begin, before)
}
