//! Whether the lines of one log become signals of pods: bytes that arrive are not yet a log that is read.
//!
//! Pure: the pipeline counts what became of each line in a [`LineTally`] and hands it over per batch. Two
//! judgements are made over a window of several slots:
//!
//! - *Not understood*: none, or fewer than one in a hundred, of the lines can be read in the format. What an agent's
//!   traffic looks like does not change the form of a line, so a share is enough here.
//! - *Unused*: the lines are in the format, and not one became a signal of a known pod. A pod can bring about lines
//!   that become no signal (bare acknowledgements, forged addresses), so a share would let it make the source look
//!   useless for all others: one signal of any pod within the window is enough against this judgement.
//!
//! Both need lines in most slots of the window, so a burst decides nothing, and both are given up at another line
//! than they are taken at, so a log at the border does not change its state all the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::signals::decode::{Format, LooksLike, Malformed, SkipReason, looks_like, why_nothing};

/// Slots of the window.
const SLOTS: usize = 6;
/// Slots that must hold lines before the window is judged.
const SLOTS_WITH_LINES_MIN: usize = 4;
/// Lines in the window below which it is not judged.
const LINES_MIN: u64 = 20;
/// Unreadable lines after which a log that never had a readable one is judged at once. Reading may begin in the middle
/// of a line, so the first one says nothing.
const UNREADABLE_FIRST_MIN: u64 = 5;
/// Unreadable lines for each readable one, from which on a log is not understood.
const UNREADABLE_PER_READABLE: u64 = 99;
/// Unreadable lines for each readable one, from which on a log is understood again.
const READABLE_AGAIN: u64 = 9;
/// One unreadable line in so many is worth a word, and fewer than one in twice as many is not any more.
const PARTLY_ONE_IN: u64 = 10;
/// Unreadable lines of one tally whose look is taken: looking at a line costs as much as reading it.
const LOOKS_PER_TALLY_MAX: u64 = 8;
/// Different looks that are counted.
const LOOKS_MAX: usize = 8;

/// What became of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFate {
    /// It became a signal of a known pod.
    Attributed,
    /// It is in the format and says nothing for or against the log: a header, statistics, an answer to somebody
    /// outside.
    Neutral,
    /// It is in the format and became no signal of a pod.
    Unused(Unused),
    /// It cannot be read in the format; `None`: it has no shape of the format.
    Unreadable(Option<Malformed>),
}

/// Why a line in the right format became no signal of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// The decoder left it out.
    Skipped(SkipReason),
    /// Its address belongs to no known pod.
    UnknownAddress,
    /// Its address is a node's.
    HostNetwork,
    /// A pod has its address, and had not at the time of the line.
    OtherTime,
    /// More than one pod can be meant.
    Ambiguous,
    /// Its time is in the future.
    Ahead,
}

impl LineFate {
    /// The fate of a line that the decoder left out. What a pod's own packets or a quiet log bring about is neutral;
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

/// Lines by what became of them. Its size does not depend on the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineTally {
    attributed: u64,
    neutral: u64,
    unused: Counts<Unused>,
    unreadable: Counts<Option<Malformed>>,
    looks: Counts<Option<LooksLike>>,
}

/// How often each value came; values are few by their type.
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

    /// The value that came most often, the first one of several.
    fn most(&self) -> Option<T> {
        let most = self.0.iter().map(|(_, count)| *count).max()?;
        let found = self.0.iter().find(|(_, count)| *count == most);
        found.map(|(value, _)| *value)
    }
}

impl LineTally {
    /// Counts a line. Of an unreadable one the text shows what it may be instead.
    pub fn add(&mut self, fate: LineFate, line: &[u8]) {
        match fate {
            LineFate::Attributed => self.attributed += 1,
            LineFate::Neutral => self.neutral += 1,
            LineFate::Unused(why) => self.unused.add(why, 1),
            LineFate::Unreadable(how) => {
                if self.looks.total() < LOOKS_PER_TALLY_MAX {
                    self.looks.add(looks_like(line), 1);
                }
                self.unreadable.add(how, 1);
            }
        }
    }

    /// Counts lines that were given up for this reason.
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

    /// What is wrong with a log of which these lines are a sample that was taken at one time.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
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

    fn not_understood(&self) -> Trouble {
        Trouble::NotUnderstood(Unreadable {
            has_readable: self.readable() > 0,
            look: self.looks.most().flatten(),
            how: self.unreadable.most().flatten(),
        })
    }

    fn not_used(&self) -> Option<Trouble> {
        self.unused.most().map(Trouble::Unused)
    }

    /// Whether enough lines are unreadable for a word about it.
    #[must_use]
    pub fn is_partly_unreadable(&self) -> bool {
        let unreadable = self.unreadable();
        unreadable > 0 && unreadable * PARTLY_ONE_IN >= unreadable + self.readable()
    }
}

/// Lines of one source by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineTotals {
    /// They became signals of known pods.
    pub attributed: u64,
    /// They say nothing for or against the log.
    pub neutral: u64,
    /// They are in the format and became no signal of a pod.
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

/// What is wrong with a log whose lines become no signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its lines are not in the format.
    NotUnderstood(Unreadable),
    /// They are, and become no signals of pods, most of them for this reason.
    Unused(Unused),
}

/// What is known of lines that are not in the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Whether a few of the lines are in the format.
    pub has_readable: bool,
    /// What they look like.
    pub look: Option<LooksLike>,
    /// What is wrong with most of them as lines of the format; `None`: they have no shape of it.
    pub how: Option<Malformed>,
}

impl Trouble {
    /// The sentence for people: what the log of this name and format does, and the first thing to do.
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

/// What to do about lines of which nothing is known.
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
    /// What is wrong, and the first thing to do.
    fn words(self, format: Option<Format>) -> (&'static str, &'static str) {
        match self {
            Self::Skipped(reason) => {
                let why = why_nothing(format.unwrap_or(Format::Ulogd), reason);
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

/// What the lines of one log did over the window that ends now.
#[derive(Clone, Debug)]
pub(super) struct Usefulness {
    /// The newest slot is the first.
    slots: VecDeque<LineTally>,
    slot_began: Option<Instant>,
    slot: Duration,
    /// Of all lines since the start.
    totals: LineTotals,
    trouble: Option<Trouble>,
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
            trouble: None,
            is_partly: false,
        }
    }

    /// Takes in what became of some lines.
    pub(super) fn note(&mut self, tally: &LineTally, now: Instant) {
        self.advance(now);
        if let Some(newest) = self.slots.front_mut() {
            newest.add_all(tally);
        }
        self.totals.add(tally);
        self.judge();
    }

    /// Whether it is settled that the log is of use, or that it is not.
    pub(super) const fn is_judged(&self) -> bool {
        self.totals.attributed > 0 || self.trouble.is_some()
    }

    /// All lines since the start.
    pub(super) const fn totals(&self) -> LineTotals {
        self.totals
    }

    /// What is wrong, as of the last lines.
    pub(super) const fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// What is wrong where no line could be read for so long that the log would count as silent.
    pub(super) fn unreadable(&self) -> Trouble {
        self.newest(1).not_understood()
    }

    /// Whether the log is of use and still has many lines that cannot be read.
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
        // After a long pause the slots are empty, and the time of the pause is over.
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

    /// Whether most slots have such lines.
    fn is_spread(&self, has: impl Fn(&LineTally) -> bool) -> bool {
        self.slots.iter().filter(|slot| has(slot)).count() >= SLOTS_WITH_LINES_MIN
    }

    fn judge(&mut self) {
        let window = self.window();
        self.trouble = match self.trouble {
            Some(Trouble::NotUnderstood(_)) if self.is_still_unreadable() => {
                Some(window.not_understood())
            }
            Some(Trouble::Unused(_)) if is_still_unused(&window) => {
                window.not_used().or(self.trouble)
            }
            _ => self.found(&window),
        };
        self.is_partly = self.trouble.is_none() && {
            let (unreadable, readable) = (window.unreadable(), window.readable());
            let one_in = if self.is_partly {
                2 * PARTLY_ONE_IN
            } else {
                PARTLY_ONE_IN
            };
            unreadable >= LINES_MIN && unreadable * one_in >= unreadable + readable
        };
    }

    /// What is wrong with a log that nothing was wrong with before.
    fn found(&self, window: &LineTally) -> Option<Trouble> {
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

    /// By the newest lines alone, so that a log that is right again is not held against for a whole window.
    fn is_still_unreadable(&self) -> bool {
        let newest = self.newest(2);
        newest.unreadable() > newest.readable() * READABLE_AGAIN
    }
}

fn is_still_unused(window: &LineTally) -> bool {
    let unused = window.unused.total();
    window.attributed < LINES_MIN && window.attributed * PARTLY_ONE_IN < unused + window.attributed
}

#[cfg(test)]
mod tests;
