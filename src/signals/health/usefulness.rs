//! Whether the lines of one log become signals of pods: a log that delivers bytes may still be unusable.
//!
//! Pure: the pipeline counts the outcome of each line in a [`LineTally`] and passes it on per batch. Two
//! judgements are made over a window of several slots:
//!
//! - *Not understood*: none, or fewer than one in a hundred, of the lines can be read in the format. The traffic of an
//!   agent does not change the form of a line, so a share is sufficient here.
//! - *Unused*: the lines are in the format, but not one became a signal of a known pod. A pod can cause lines
//!   that become no signal (bare acknowledgements, forged addresses), so with a share it could make the source appear
//!   useless for all other pods. Therefore one signal of any pod within the window rules this judgement out.
//!
//! Both need lines in most slots of the window, so that a burst decides nothing. Both use a lower threshold to clear
//! than to set (hysteresis), so that a log near the threshold does not change its state repeatedly.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::signals::decode::{Format, LogShape, Malformed, SkipReason, looks_like, why_no_signals};

/// Slots of the window.
const SLOTS: usize = 6;
/// Slots that must contain lines before the window is judged.
const SLOTS_WITH_LINES_MIN: usize = 4;
/// Minimum number of lines in the window before it is judged.
const LINES_MIN: u64 = 20;
/// Unreadable lines after which a log that never had a readable one is judged immediately. Reading may start in the
/// middle of a line, so the first unreadable line proves nothing.
const UNREADABLE_FIRST_MIN: u64 = 5;
/// Unreadable lines per readable line from which a log is not understood.
const UNREADABLE_PER_READABLE: u64 = 99;
/// Unreadable lines per readable line up to which a log is understood again.
const UNREADABLE_PER_READABLE_CLEARED: u64 = 9;
/// A log is partly unreadable from one unreadable line in this many, until fewer than one in twice as many.
const PARTLY_ONE_IN: u64 = 10;
/// Unreadable lines of one tally that are examined for what they look like: this costs as much as decoding a line.
const LOOKS_PER_TALLY_MAX: u64 = 8;
/// Distinct appearances that are counted.
const LOOKS_MAX: usize = 8;

/// The outcome of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOutcome {
    /// It became a signal of a known pod.
    Attributed,
    /// It is in the format and proves nothing about the usefulness of the log: a header, statistics, an answer to an
    /// external host.
    Neutral,
    /// It is in the format and became no signal of a pod.
    Unused(Unused),
    /// It cannot be read in the format. `None`: it does not even resemble the format.
    Unreadable(Option<Malformed>),
}

/// Why a line in the right format became no signal of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// The decoder left it out.
    Skipped(SkipReason),
    /// Its address does not belong to a known pod.
    UnknownAddress,
    /// Its address is that of a node.
    HostNetwork,
    /// A pod has its address, but did not have it at the time of the line.
    OtherTime,
    /// More than one pod matches.
    Ambiguous,
    /// Its time is in the future.
    Ahead,
}

impl LineOutcome {
    /// The outcome of a line that the decoder skipped. Lines caused by a pod's own packets or a quiet log are neutral;
    /// `None` for a line without content.
    #[must_use]
    pub const fn skipped(reason: SkipReason) -> Option<Self> {
        match reason {
            SkipReason::Blank => None,
            SkipReason::NotTraffic
            | SkipReason::Header
            | SkipReason::ForgedSource
            | SkipReason::IcmpHousekeeping
            | SkipReason::NoName => Some(Self::Neutral),
            SkipReason::IngressView
            | SkipReason::DuplicateObservation
            | SkipReason::NoVerdict
            | SkipReason::UnknownDirection
            | SkipReason::OtherL7
            | SkipReason::OtherLog
            | SkipReason::FieldsMissing
            | SkipReason::Aggregated => Some(Self::Unused(Unused::Skipped(reason))),
        }
    }
}

/// Number of lines by outcome. Its size does not depend on the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineTally {
    attributed: u64,
    neutral: u64,
    unused: Counts<Unused>,
    unreadable: Counts<Option<Malformed>>,
    looks: Counts<Option<LogShape>>,
}

/// How often each value occurred; the type has few values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counts<T>(Vec<(T, u64)>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + PartialEq> Counts<T> {
    fn add(&mut self, value: T, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == value) {
            Some((_, known)) => *known += count,
            None => self.0.push((value, count)),
        }
    }

    fn add_all(&mut self, other: &Self) {
        for (value, count) in &other.0 {
            self.add(*value, *count);
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The most frequent value, the first of several.
    fn most(&self) -> Option<T> {
        let most = self.0.iter().map(|(_, count)| *count).max()?;
        let found = self.0.iter().find(|(_, count)| *count == most);
        found.map(|(value, _)| *value)
    }
}

impl LineTally {
    /// Counts a line. For an unreadable line, the text is examined for what it looks like.
    pub fn add(&mut self, fate: LineOutcome, line: &[u8]) {
        match fate {
            LineOutcome::Attributed => self.attributed += 1,
            LineOutcome::Neutral => self.neutral += 1,
            LineOutcome::Unused(why) => self.unused.add(why, 1),
            LineOutcome::Unreadable(how) => {
                if self.looks.total() < LOOKS_PER_TALLY_MAX {
                    self.looks.add(looks_like(line), 1);
                }
                self.unreadable.add(how, 1);
            }
        }
    }

    /// Counts lines that were discarded for this reason.
    pub fn add_unused(&mut self, why: Unused, count: u64) {
        self.unused.add(why, count);
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readable() + self.unreadable() == 0
    }

    /// Lines that became signals of known pods.
    #[must_use]
    pub const fn attributed(&self) -> u64 {
        self.attributed
    }

    /// Lines in the format.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.attributed + self.neutral + self.unused.total()
    }

    /// Lines that cannot be read in the format.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable.total()
    }

    fn add_all(&mut self, other: &Self) {
        self.attributed += other.attributed;
        self.neutral += other.neutral;
        self.unused.add_all(&other.unused);
        self.unreadable.add_all(&other.unreadable);
        self.looks.add_all(&other.looks);
        self.looks.0.truncate(LOOKS_MAX);
    }

    /// The problem of a log of which these lines are a sample taken at one time.
    #[must_use]
    pub fn problem(&self) -> Option<LogProblem> {
        if self.is_unreadable() {
            return Some(self.not_understood());
        }
        let is_used = self.attributed > 0 || self.unused.total() == 0;
        (!is_used).then(|| self.not_used()).flatten()
    }

    fn is_unreadable(&self) -> bool {
        let unreadable = self.unreadable();
        unreadable > 0 && unreadable >= self.readable() * UNREADABLE_PER_READABLE
    }

    fn not_understood(&self) -> LogProblem {
        LogProblem::NotUnderstood(Unreadable {
            has_readable: self.readable() > 0,
            look: self.looks.most().flatten(),
            how: self.unreadable.most().flatten(),
        })
    }

    fn not_used(&self) -> Option<LogProblem> {
        self.unused.most().map(LogProblem::Unused)
    }

    /// Whether enough lines are unreadable to report it.
    #[must_use]
    pub fn is_partly_unreadable(&self) -> bool {
        let unreadable = self.unreadable();
        unreadable > 0 && unreadable * PARTLY_ONE_IN >= unreadable + self.readable()
    }
}

/// Number of lines of one source by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineTotals {
    /// They became signals of known pods.
    pub attributed: u64,
    /// They prove nothing about the usefulness of the log.
    pub neutral: u64,
    /// They are in the format but became no signal of a pod.
    pub unused: u64,
    /// They cannot be read in the format.
    pub unreadable: u64,
}

impl LineTotals {
    fn add(&mut self, tally: &LineTally) {
        self.attributed += tally.attributed;
        self.neutral += tally.neutral;
        self.unused += tally.unused.total();
        self.unreadable += tally.unreadable();
    }

    const fn has_readable(self) -> bool {
        self.attributed + self.neutral + self.unused > 0
    }
}

/// Why the lines of a log do not become signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogProblem {
    /// Its lines are not in the format.
    NotUnderstood(Unreadable),
    /// They are in the format but become no signals of pods, most of them for this reason.
    Unused(Unused),
}

/// What is known about lines that are not in the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Whether a few of the lines are in the format.
    pub has_readable: bool,
    /// What they look like.
    pub look: Option<LogShape>,
    /// What is wrong with most of them as lines of the format. `None`: they do not resemble it.
    pub how: Option<Malformed>,
}

impl LogProblem {
    /// The sentence for people: the problem of the log with this name and format, and the first thing to do.
    #[must_use]
    pub fn sentence(&self, name: &str, format: Option<Format>) -> String {
        let (fault, advice) = self.parts(name, format);
        format!("{fault}: {advice}")
    }

    /// The two parts of the sentence.
    #[must_use]
    pub fn parts(&self, name: &str, format: Option<Format>) -> (String, &'static str) {
        match self {
            Self::NotUnderstood(unreadable) => unreadable.parts(name, format),
            Self::Unused(why) => {
                let (fault, advice) = why.words(format);
                let fault = format!(
                    "{name} delivers lines, and none becomes a signal of a pod; most are {fault}"
                );
                (fault, advice)
            }
        }
    }
}

/// What to do about lines that resemble no known log.
const UNKNOWN_LOOK: &str = "look at what writes them";

impl Unreadable {
    fn parts(self, name: &str, format: Option<Format>) -> (String, &'static str) {
        let share = if self.has_readable {
            "almost none"
        } else {
            "none"
        };
        let format = format.map_or("any format that Yellowjack reads", Format::name);
        let (look, advice) = match (self.look, self.how) {
            (Some(look), _) => (format!("they look like {}", look.name), look.advice),
            (None, Some(how)) => (
                format!(
                    "they look like no log that is known (most are {})",
                    how.name()
                ),
                UNKNOWN_LOOK,
            ),
            (None, None) => (
                "they look like no log that is known".to_owned(),
                UNKNOWN_LOOK,
            ),
        };
        let fault = format!("{name} delivers lines, {share} of them readable as {format}; {look}");
        (fault, advice)
    }
}

impl Unused {
    /// The problem, and the first thing to do about it.
    fn words(self, format: Option<Format>) -> (&'static str, &'static str) {
        match self {
            Self::Skipped(reason) => {
                let why = why_no_signals(format.unwrap_or(Format::Ulogd), reason);
                (why.name, why.advice)
            }
            Self::UnknownAddress => (
                "about addresses of no known pod",
                "log the pods' own addresses, before any translation, and read the log on the node of these pods",
            ),
            Self::HostNetwork => (
                "about addresses of nodes",
                "log the pods' own addresses, before any translation",
            ),
            Self::OtherTime => (
                "from a time at which no pod had their address",
                "set the clock of the machine that writes the log, or wait until old lines are read",
            ),
            Self::Ambiguous => (
                "about addresses that fit several pods, or another pod than the log names",
                "look whether logs of several clusters are mixed",
            ),
            Self::Ahead => (
                "from the future",
                "set the clock of the machine that writes the log, or of this one",
            ),
        }
    }
}

/// The outcomes of the lines of one log over the window that ends now.
#[derive(Clone, Debug)]
pub(super) struct Usefulness {
    /// The newest slot is the first.
    slots: VecDeque<LineTally>,
    slot_began: Option<Instant>,
    slot: Duration,
    /// Of all lines since the start.
    totals: LineTotals,
    problem: Option<LogProblem>,
    is_partly: bool,
}

impl Usefulness {
    /// With a window of this length.
    pub(super) fn over(window: Duration) -> Self {
        Self {
            slots: VecDeque::new(),
            slot_began: None,
            slot: (window / u32::try_from(SLOTS).unwrap_or(1)).max(Duration::from_millis(1)),
            totals: LineTotals::default(),
            problem: None,
            is_partly: false,
        }
    }

    /// Adds the outcomes of some lines.
    pub(super) fn note(&mut self, tally: &LineTally, now: Instant) {
        self.advance(now);
        if let Some(newest) = self.slots.front_mut() {
            newest.add_all(tally);
        }
        self.totals.add(tally);
        self.judge();
    }

    /// Whether the log is known to be usable, or known not to be.
    pub(super) const fn is_judged(&self) -> bool {
        self.totals.attributed > 0 || self.problem.is_some()
    }

    /// All lines since the start.
    pub(super) const fn totals(&self) -> LineTotals {
        self.totals
    }

    /// The problem, as of the last lines.
    pub(super) const fn problem(&self) -> Option<LogProblem> {
        self.problem
    }

    /// The problem of a log of which no line could be read for so long that it would count as stale.
    pub(super) fn unreadable(&self) -> LogProblem {
        self.newest(1).not_understood()
    }

    /// Whether the log is usable and still has many lines that cannot be read.
    pub(super) const fn is_partly_unreadable(&self) -> bool {
        self.is_partly
    }

    fn advance(&mut self, now: Instant) {
        let Some(mut began) = self.slot_began else {
            self.slots.push_front(LineTally::default());
            self.slot_began = Some(now);
            return;
        };
        for _ in 0..SLOTS {
            if now.saturating_duration_since(began) < self.slot {
                break;
            }
            self.slots.push_front(LineTally::default());
            self.slots.truncate(SLOTS);
            began += self.slot;
        }
        // After a long pause all slots are empty, and the current slot starts now.
        if now.saturating_duration_since(began) >= self.slot {
            began = now;
        }
        self.slot_began = Some(began);
    }

    fn window(&self) -> LineTally {
        self.newest(SLOTS)
    }

    fn newest(&self, slots: usize) -> LineTally {
        let mut sum = LineTally::default();
        for slot in self.slots.iter().take(slots) {
            sum.add_all(slot);
        }
        sum
    }

    /// Whether most slots contain such lines.
    fn is_spread(&self, has: impl Fn(&LineTally) -> bool) -> bool {
        self.slots.iter().filter(|slot| has(slot)).count() >= SLOTS_WITH_LINES_MIN
    }

    fn judge(&mut self) {
        let window = self.window();
        self.problem = match self.problem {
            Some(LogProblem::NotUnderstood(_)) if self.is_still_unreadable() => {
                Some(window.not_understood())
            }
            Some(LogProblem::Unused(_)) if is_still_unused(&window) => {
                window.not_used().or(self.problem)
            }
            _ => self.detect_problem(&window),
        };
        self.is_partly = self.problem.is_none() && {
            let (unreadable, readable) = (window.unreadable(), window.readable());
            let one_in = if self.is_partly {
                2 * PARTLY_ONE_IN
            } else {
                PARTLY_ONE_IN
            };
            unreadable >= LINES_MIN && unreadable * one_in >= unreadable + readable
        };
    }

    /// The problem of a log that had no problem before.
    fn detect_problem(&self, window: &LineTally) -> Option<LogProblem> {
        let at_once = !self.totals.has_readable() && window.unreadable() >= UNREADABLE_FIRST_MIN;
        let by_share = window.unreadable() >= LINES_MIN
            && window.is_unreadable()
            && self.is_spread(|slot| slot.unreadable() > 0);
        if at_once || by_share {
            return Some(window.not_understood());
        }
        let is_unused = window.attributed == 0
            && window.unused.total() >= LINES_MIN
            && self.is_spread(|slot| slot.unused.total() > 0);
        is_unused.then(|| window.not_used()).flatten()
    }

    /// Uses only the newest lines, so that a log that is correct again is not rejected for a whole window.
    fn is_still_unreadable(&self) -> bool {
        let newest = self.newest(2);
        newest.unreadable() > newest.readable() * UNREADABLE_PER_READABLE_CLEARED
    }
}

fn is_still_unused(window: &LineTally) -> bool {
    let unused = window.unused.total();
    window.attributed < LINES_MIN && window.attributed * PARTLY_ONE_IN < unused + window.attributed
}

#[cfg(test)]
mod tests;
