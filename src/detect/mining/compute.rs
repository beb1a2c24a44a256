//! Processor use over time: plateaus.
//!
//! Called by `mining` for every sample. What real miners show is not "more than 90 %" but a step
//! up to a level that does not move: eight of eight plateaued at 50 to 54 % of the machine, with
//! the middle 80 % of the samples within 3 points. Any unit will do, since only the shape is
//! judged. Compilers and single-threaded jobs have plateaus too, so this speaks only together with
//! a session (see [`Compute::nats`]).

use serde::{Deserialize, Serialize};

use crate::model::{ComputeSample, EventTime, duration};

use super::super::session::Session;
use super::gpu::Gpu;

/// A sample is on the plateau within this share of its level: 3 points of 52.
const TOLERANCE: f64 = 0.06;

/// Samples off the plateau that it survives: dips of a tenth at either end.
const OFF_SHARE_MAX: f64 = 0.2;

/// So long off in a row, and so many samples, ends it.
const OFF_ROW_US: i64 = 60_000_000;
const OFF_ROW_MIN: u32 = 3;

/// How far a level may creep from where it began. A plateau stands; a slow ramp does not.
const DRIFT_MAX: f64 = 0.08;

/// Without samples for so long nothing is known.
const GAP_US: i64 = 300_000_000;

/// A plateau counts from the first on, and in full from the second: below, tests, installs and
/// single steps look the same.
const SHORT_US: i64 = 300_000_000;
const LONG_US: i64 = 600_000_000;
const SAMPLES_MIN: u32 = 5;

/// So many samples before those off the plateau can break it.
const BREAKABLE_SAMPLES_MIN: u32 = 8;

/// A sample is an average over the time since the one before, up to this. It lets a plateau begin where
/// its first sample began, so that a source with a sample a minute shows what one with four does.
const AVERAGED_MAX_US: i64 = 60_000_000;

/// From here on a pod's first sample may hold a step in its middle: what came before is then reckoned
/// from the two levels.
const SPANNING_US: i64 = 30_000_000;

/// Lowest level that counts, in any unit, and as a share of the most that the pod ever used: an
/// idle pod is flat too.
const LEVEL_MIN: f64 = 0.05;
const LEVEL_SHARE_MIN: f64 = 0.2;

/// A step up is this much above what was before.
const STEP_RATIO: f64 = 1.5;

/// Weight of one sample in the moving average: some ten samples back.
const RECENT_GAIN: f64 = 0.1;

/// A miner joins its pool and begins; the two starts lie this close. Node metrics come up to a
/// minute late.
const TOGETHER_US: i64 = 300_000_000;

/// What a plateau alone adds, what a start together with the session does, and what living as long
/// as the session does.
const PLATEAU_NATS: f64 = 5.0;
const STARTED_TOGETHER_NATS: f64 = 2.5;
const LIVED_TOGETHER_NATS: f64 = 1.5;

/// A time of even use.
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
}

/// Samples off the plateau in a row, near each other: the beginning of another one, perhaps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Row {
    /// Recent use when it began.
    before: f64,
    /// When the use that its first sample averages began.
    begin: EventTime,
    since: EventTime,
    count: u32,
    sum: f64,
}

/// A pod's processors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Compute {
    now: Option<Plateau>,
    row: Option<Row>,
    /// The longest plateau that is over: a record of a session may come after it.
    over: Option<Plateau>,
    most: f64,
    /// Recent use, as a moving average.
    recent: Option<f64>,
    /// The time of the sample before, and whether it is the only one so far.
    previous: Option<(EventTime, bool)>,
    gpu: Gpu,
}

impl Compute {
    /// Takes in a sample.
    pub(super) fn observe(&mut self, sample: &ComputeSample<'_>) {
        if let Some(cpu) = sample.cpu.filter(|cpu| cpu.is_finite() && *cpu >= 0.0) {
            self.cpu(sample.time, cpu);
        }
        if let Some(gpu) = &sample.gpu {
            self.gpu.observe(sample.time, gpu);
        }
    }

    /// What the processors add to a session, and in which words. Processor and accelerator are one
    /// family: a simulation keeps both even, so together they are no more than one.
    pub(super) fn nats(&self, session: &Session) -> (f64, Option<String>) {
        let plateaus = [self.now, self.over].into_iter().flatten();
        let cpu = plateaus
            .map(|plateau| (self.plateau_nats(&plateau, session), plateau))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let gpu = self.gpu.nats(session);
        match cpu {
            Some((nats, plateau)) if nats > 0.0 && nats >= gpu.0 => (nats, Some(plateau.words())),
            _ => gpu,
        }
    }

    fn plateau_nats(&self, plateau: &Plateau, session: &Session) -> f64 {
        let is_low = plateau.level < LEVEL_MIN.max(LEVEL_SHARE_MIN * self.most);
        let span_us = plateau.last.micros_since(plateau.start);
        let shared_us = shared_us(plateau.start, plateau.last, session);
        // A plateau that the session has little to do with says nothing about it.
        if is_low || plateau.on < SAMPLES_MIN || shared_us * 5 < span_us * 3 {
            return 0.0;
        }
        let began_together = plateau.start.micros_since(session.first).abs() <= TOGETHER_US;
        let mut nats = PLATEAU_NATS;
        if plateau.is_step && began_together {
            nats += STARTED_TOGETHER_NATS;
        }
        if began_together && shared_us * 5 >= session.span_us().max(span_us) * 4 {
            nats += LIVED_TOGETHER_NATS;
        }
        nats * share(span_us)
    }

    fn cpu(&mut self, time: EventTime, cpu: f64) {
        self.most = self.most.max(cpu);
        self.follow(time, cpu);
        let recent = self.recent.unwrap_or(cpu);
        self.recent = Some(recent + (cpu - recent) * RECENT_GAIN);
        self.previous = Some((time, self.previous.is_none()));
    }

    fn follow(&mut self, time: EventTime, cpu: f64) {
        let Some(plateau) = &mut self.now else {
            self.now = Some(Plateau::new(time, cpu, false));
            return;
        };
        let gap_us =
            time.micros_since(plateau.last.max(self.row.map_or(plateau.last, |r| r.since)));
        if gap_us.abs() > GAP_US {
            self.end(Plateau::new(time, cpu, false));
            return;
        }
        if plateau.takes(time, cpu) {
            self.row = None;
            return;
        }
        plateau.off = plateau.off.saturating_add(1);
        let begun = begin_and_level_before(time, cpu, self.previous, self.recent);
        let is_apart = |row: &Row| (cpu - row.mean()).abs() > TOLERANCE * row.mean();
        let row = self.row.get_or_insert_with(|| Row::new(time, begun));
        if row.count > 0 && is_apart(row) {
            *row = Row::new(time, begun);
        }
        row.count = row.count.saturating_add(1);
        row.sum += cpu;
        let is_other = row.count >= OFF_ROW_MIN && time.micros_since(row.since) >= OFF_ROW_US;
        if is_other || plateau.is_broken() {
            let next = row.plateau(time);
            self.end(next);
        }
    }

    fn end(&mut self, next: Plateau) {
        self.row = None;
        let Some(done) = self.now.replace(next) else {
            return;
        };
        let is_longest = self.over.is_none_or(|over| over.span_us() < done.span_us());
        if done.on >= SAMPLES_MIN && is_longest {
            self.over = Some(done);
        }
    }
}

impl Row {
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
        }
    }

    fn span_us(&self) -> i64 {
        self.last.micros_since(self.start)
    }

    /// Whether the sample lies on it; then it does.
    fn takes(&mut self, time: EventTime, cpu: f64) -> bool {
        let is_on = (cpu - self.level).abs() <= TOLERANCE * self.level
            && (cpu - self.anchor).abs() <= (TOLERANCE + DRIFT_MAX) * self.anchor;
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

    fn words(&self) -> String {
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

/// When the use that a sample averages began, and the level before it. A pod's first sample of a minute
/// is a mixture of what was before a step and what is after it. Half of each is the guess that takes
/// nothing from a flat line.
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

/// How much of a span the session covers.
pub(super) fn shared_us(start: EventTime, last: EventTime, session: &Session) -> i64 {
    let (from, until) = (start.max(session.first), last.min(session.last));
    until.micros_since(from).max(0)
}

/// The longer the evidence lasts, the less it is chance.
#[allow(clippy::cast_precision_loss)] // both are below 2^53
pub(super) fn share(span_us: i64) -> f64 {
    (span_us.clamp(SHORT_US, LONG_US) - SHORT_US) as f64 / (LONG_US - SHORT_US) as f64
}
