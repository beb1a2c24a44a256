//! Whether the sources speak and are of use: silence of a log is not safety, and neither are lines that become no
//! signals.
//!
//! The pipeline notes what each source does; the controller turns it into SignalsFresh.

mod usefulness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::signals::decode::Format;

use usefulness::Usefulness;
pub use usefulness::{LineFate, LineTally, LineTotals, Trouble, Unused};

/// The window over which the lines of a log are judged, where no other is set.
const WINDOW: Duration = Duration::from_mins(5);

/// For how many times the silence that makes a log stale lines that cannot be read are remembered, so that a log with
/// few of them does not go back and forth between silent and not understood.
const UNREADABLE_REMEMBERED: u32 = 5;

/// How long a loss of events is remembered.
const LOSS_REMEMBERED: Duration = Duration::from_mins(5);

#[derive(Clone, Debug)]
struct SourceNote {
    name: String,
    is_log: bool,
    format: Option<Format>,
    /// The last line that could be read, or the last fetch.
    last_line: Option<Instant>,
    /// The last line that could not be read.
    last_unreadable: Option<Instant>,
    lines: Usefulness,
    last_loss: Option<Instant>,
    /// Nodes that it does not hear.
    unseen: BTreeSet<String>,
    /// What it does not show although contacts needed it to be judged.
    lacking: Vec<Lacking>,
}

/// Something that a log does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The node of the pods whose contacts could not be judged, where it is known.
    pub node: Option<String>,
    /// What is missing, in words, with the log's name where it is known.
    pub what: String,
}

/// The state of all sources together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalsVerdict {
    /// Every source spoke lately and lost nothing.
    Fresh,
    /// No log is configured.
    NoSource,
    /// These logs are silent.
    Stale(Vec<String>),
    /// Logs deliver lines that are of no use.
    Unusable {
        /// The gravest of the causes.
        why: WhyUnusable,
        /// What each of the logs does, and the first thing to do.
        details: Vec<String>,
    },
    /// The logs speak, but for those of these nodes, which a relay does not hear.
    NodesUnseen {
        /// The nodes, sorted.
        nodes: Vec<String>,
        /// What there is to say of the others.
        others: Box<SignalsVerdict>,
    },
    /// The logs speak, but do not show whether contacts succeed.
    AnswersNotShown {
        /// Which log does not show what.
        lacking: Vec<Lacking>,
        /// What there is to say beside that.
        others: Box<SignalsVerdict>,
    },
    /// The logs speak; these sources of node metrics are silent.
    MetricsStale(Vec<String>),
    /// These sources reported that they lost events.
    Lossy(Vec<String>),
    /// The logs are of use, and many lines of these cannot be read.
    PartlyUnreadable(Vec<String>),
}

/// Why a log that delivers lines is of no use, the gravest cause first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyUnusable {
    /// Its lines are not in its format.
    NotUnderstood,
    /// Its lines are from the future.
    ClockAhead,
    /// Its lines are left out, by a filter or a mask of its writer.
    NothingUsable,
    /// Its lines belong to no known pod.
    NothingAttributed,
}

impl WhyUnusable {
    /// Every cause.
    pub const ALL: [Self; 4] = [
        Self::NotUnderstood,
        Self::ClockAhead,
        Self::NothingUsable,
        Self::NothingAttributed,
    ];

    /// The name of the reason that conditions and Leases give.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotUnderstood => "NotUnderstood",
            Self::ClockAhead => "ClockAhead",
            Self::NothingUsable => "NothingUsable",
            Self::NothingAttributed => "NothingAttributed",
        }
    }
}

impl From<Trouble> for WhyUnusable {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotUnderstood(_) => Self::NotUnderstood,
            Trouble::Unused(Unused::Ahead) => Self::ClockAhead,
            Trouble::Unused(Unused::Skipped(_)) => Self::NothingUsable,
            Trouble::Unused(
                Unused::UnknownAddress
                | Unused::HostNetwork
                | Unused::OtherTime
                | Unused::Ambiguous,
            ) => Self::NothingAttributed,
        }
    }
}

impl SignalsVerdict {
    /// The verdict for who has pods on these nodes only. With none it stays.
    #[must_use]
    pub fn on_nodes(self, wanted: &BTreeSet<&str>) -> Self {
        match self {
            Self::NodesUnseen { mut nodes, others } if !wanted.is_empty() => {
                nodes.retain(|node| wanted.contains(node.as_str()));
                let others = others.on_nodes(wanted);
                if nodes.is_empty() {
                    others
                } else {
                    let others = Box::new(others);
                    Self::NodesUnseen { nodes, others }
                }
            }
            Self::AnswersNotShown {
                mut lacking,
                others,
            } if !wanted.is_empty() => {
                let is_wanted = |node: &String| wanted.contains(node.as_str());
                lacking.retain(|lacking| lacking.node.as_ref().is_none_or(is_wanted));
                if lacking.is_empty() {
                    *others
                } else {
                    Self::AnswersNotShown { lacking, others }
                }
            }
            other => other,
        }
    }
}

/// How much is known of the sources soon after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// A log has delivered nothing yet, and had less time for it than makes a log stale.
    NothingHeard,
    /// No line of a log became a signal yet, and there was no time to judge that.
    NothingUsed,
    /// What there is to know.
    Known,
}

/// Notes about the sources. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct SignalHealth {
    notes: Arc<RwLock<Vec<SourceNote>>>,
    since: Instant,
    window: Duration,
}

impl Default for SignalHealth {
    fn default() -> Self {
        Self::new([])
    }
}

impl SignalHealth {
    /// Notes for these logs, by index.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self::with_metrics(names, [])
    }

    /// Notes for these logs and, with the indexes after them, these sources of node metrics.
    #[must_use]
    pub fn with_metrics(
        logs: impl IntoIterator<Item = String>,
        metrics: impl IntoIterator<Item = String>,
    ) -> Self {
        let note = |is_log| {
            move |name| SourceNote {
                name,
                is_log,
                format: None,
                last_line: None,
                last_unreadable: None,
                lines: Usefulness::over(WINDOW),
                last_loss: None,
                unseen: BTreeSet::new(),
                lacking: Vec::new(),
            }
        };
        let logs = logs.into_iter().map(note(true));
        let notes = logs.chain(metrics.into_iter().map(note(false)));
        Self {
            notes: Arc::new(RwLock::new(notes.collect())),
            since: Instant::now(),
            window: WINDOW,
        }
    }

    /// The same with another window over which the lines of each log are judged.
    #[must_use]
    pub fn judged_over(mut self, window: Duration) -> Self {
        self.window = window;
        let mut notes = self.notes.write();
        for note in notes.iter_mut() {
            note.lines = Usefulness::over(window);
        }
        drop(notes);
        self
    }

    /// The log of this index delivered lines, read in this format.
    pub fn delivered(
        &self,
        source: usize,
        format: Option<Format>,
        tally: &LineTally,
        now: Instant,
    ) {
        self.note(source, |note| {
            note.format = format;
            // A line that cannot be read is no sign of life of the log that was asked for.
            if tally.readable() > 0 || tally.is_empty() {
                note.last_line = Some(now);
            }
            if tally.unreadable() > 0 {
                note.last_unreadable = Some(now);
            }
            if !tally.is_empty() {
                note.lines.note(tally, now);
            }
        });
    }

    /// More is known of lines that the log of this index delivered before.
    pub fn settled(&self, source: usize, tally: &LineTally, now: Instant) {
        if !tally.is_empty() {
            self.note(source, |note| note.lines.note(tally, now));
        }
    }

    /// The source of this index delivered something.
    pub fn spoke(&self, source: usize, now: Instant) {
        self.note(source, |note| note.last_line = Some(now));
    }

    /// The source of this index reported that it lost events.
    pub fn lost(&self, source: usize, now: Instant) {
        self.note(source, |note| note.last_loss = Some(now));
    }

    /// The source of this index does not hear these nodes, and hears all others.
    pub fn unseen(&self, source: usize, nodes: Vec<String>) {
        self.note(source, |note| note.unseen = nodes.into_iter().collect());
    }

    /// The nodes that the source of this index does not hear.
    #[must_use]
    pub fn unseen_nodes(&self, source: usize) -> Vec<String> {
        let notes = self.notes.read();
        let unseen = notes.get(source).into_iter().flat_map(|note| &note.unseen);
        unseen.cloned().collect()
    }

    /// What the source of this index does not show now.
    pub fn lacks(&self, source: usize, lacking: Vec<Lacking>) {
        self.note(source, |note| note.lacking = lacking);
    }

    /// Whether the source of this index does not hear this node.
    #[must_use]
    pub fn is_unseen(&self, source: usize, node: &str) -> bool {
        let notes = self.notes.read();
        notes
            .get(source)
            .is_some_and(|note| note.unseen.contains(node))
    }

    /// The verdict; a source is silent that delivered nothing for `stale_after`.
    #[must_use]
    pub fn verdict(&self, now: Instant, stale_after: Duration) -> SignalsVerdict {
        let notes = self.notes.read();
        let unseen: BTreeSet<&String> = notes.iter().flat_map(|note| &note.unseen).collect();
        let verdict = verdict_of(&notes, self.since, now, stale_after);
        let is_graver = matches!(
            verdict,
            SignalsVerdict::Stale(_) | SignalsVerdict::Unusable { .. }
        );
        if is_graver {
            return verdict;
        }
        let lacking = lacking(&notes);
        let verdict = if lacking.is_empty() {
            verdict
        } else {
            SignalsVerdict::AnswersNotShown {
                lacking,
                others: Box::new(verdict),
            }
        };
        if unseen.is_empty() {
            return verdict;
        }
        SignalsVerdict::NodesUnseen {
            nodes: unseen.into_iter().cloned().collect(),
            others: Box::new(verdict),
        }
    }

    /// The lines of each log since the start, by what became of them.
    #[must_use]
    pub fn totals(&self) -> Vec<(String, LineTotals)> {
        let notes = self.notes.read();
        let logs = notes.iter().filter(|note| note.is_log);
        logs.map(|note| (note.name.clone(), note.lines.totals()))
            .collect()
    }

    /// How much is known, however the verdict is.
    #[must_use]
    pub fn certainty(&self, now: Instant, stale_after: Duration) -> Certainty {
        let notes = self.notes.read();
        let is_within = |span| now.saturating_duration_since(self.since) < span;
        let has_log =
            |is: fn(&SourceNote) -> bool| notes.iter().any(|note| note.is_log && is(note));
        if is_within(stale_after)
            && has_log(|note| note.last_line.is_none() && !note.lines.is_judged())
        {
            Certainty::NothingHeard
        } else if is_within(self.window) && has_log(|note| !note.lines.is_judged()) {
            Certainty::NothingUsed
        } else {
            Certainty::Known
        }
    }

    fn note(&self, source: usize, change: impl FnOnce(&mut SourceNote)) {
        let mut notes = self.notes.write();
        if let Some(note) = notes.get_mut(source) {
            change(note);
        }
    }
}

/// What logs do not show, with their names.
fn lacking(notes: &[SourceNote]) -> Vec<Lacking> {
    let of = |note: &SourceNote| {
        let name = note.name.clone();
        let named = move |lacking: Lacking| Lacking {
            what: format!("{name} shows {}", lacking.what),
            ..lacking
        };
        note.lacking.clone().into_iter().map(named)
    };
    notes.iter().flat_map(of).collect()
}

/// The verdict on the sources as such.
fn verdict_of(
    notes: &[SourceNote],
    since: Instant,
    now: Instant,
    stale_after: Duration,
) -> SignalsVerdict {
    let names = |chosen: &dyn Fn(&SourceNote) -> bool| -> Vec<String> {
        notes
            .iter()
            .filter(|note| chosen(note))
            .map(|note| note.name.clone())
            .collect()
    };
    let within = |time: Option<Instant>, span| time.is_some_and(|time| now - time < span);
    let is_stale = |note: &SourceNote| !within(note.last_line, stale_after);
    // Reading may begin in the middle of a line: at first one that cannot be read says nothing.
    let had_time = |note: &SourceNote| note.last_line.is_some() || now - since >= stale_after;
    let trouble = |note: &SourceNote| {
        let is_unreadable = within(note.last_unreadable, stale_after * UNREADABLE_REMEMBERED);
        match note.lines.trouble() {
            Some(trouble) if is_unreadable || !is_stale(note) => Some(trouble),
            None if is_unreadable && is_stale(note) && had_time(note) => {
                Some(note.lines.unreadable())
            }
            Some(_) | None => None,
        }
    };
    let is_stale_log = |note: &SourceNote| note.is_log && is_stale(note) && trouble(note).is_none();
    let stale = names(&is_stale_log);
    if !stale.is_empty() {
        return SignalsVerdict::Stale(stale);
    }
    let troubled = notes.iter().filter_map(|note| Some((note, trouble(note)?)));
    let troubled: Vec<(&SourceNote, Trouble)> = troubled.collect();
    if let Some(why) = troubled.iter().map(|(_, trouble)| (*trouble).into()).min() {
        let details = troubled
            .iter()
            .map(|(note, trouble)| trouble.sentence(&note.name, note.format));
        return SignalsVerdict::Unusable {
            why,
            details: details.collect(),
        };
    }
    let stale = names(&|note| !note.is_log && is_stale(note));
    if !stale.is_empty() {
        return SignalsVerdict::MetricsStale(stale);
    }
    // Metrics alone show no flow.
    if !notes.iter().any(|note| note.is_log) {
        return SignalsVerdict::NoSource;
    }
    let lossy = names(&|note| within(note.last_loss, LOSS_REMEMBERED));
    if !lossy.is_empty() {
        return SignalsVerdict::Lossy(lossy);
    }
    let partly = names(&|note| note.lines.is_partly_unreadable());
    if partly.is_empty() {
        SignalsVerdict::Fresh
    } else {
        SignalsVerdict::PartlyUnreadable(partly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_mins(1);

    #[test]
    fn a_source_that_never_spoke_or_fell_silent_is_named() {
        let (health, start) = (SignalHealth::new(["a".into(), "b".into()]), Instant::now());
        health.spoke(0, start);
        assert_eq!(
            health.verdict(start, STALE),
            SignalsVerdict::Stale(vec!["b".into()])
        );
        health.spoke(1, start + STALE);
        let later = start + STALE;
        assert_eq!(
            health.verdict(later, STALE),
            SignalsVerdict::Stale(vec!["a".into()])
        );
    }

    #[test]
    fn little_is_known_until_a_log_spoke_and_a_line_of_it_was_of_use_or_they_had_their_time() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        let certainty = |now| health.certainty(now, STALE);
        assert_eq!(certainty(start), Certainty::NothingHeard);
        assert_eq!(certainty(start + STALE * 2), Certainty::NothingUsed);
        health.spoke(0, start);
        assert_eq!(certainty(start), Certainty::NothingUsed);
        assert_eq!(certainty(start + WINDOW * 2), Certainty::Known);
        let mut tally = LineTally::default();
        tally.add(LineFate::Attributed, b"x");
        health.delivered(0, None, &tally, start);
        assert_eq!(certainty(start), Certainty::Known);
        let without_logs = SignalHealth::default();
        assert_eq!(without_logs.certainty(start, STALE), Certainty::Known);
    }

    #[test]
    fn metrics_that_fell_silent_are_named_unless_a_log_did() {
        let health = SignalHealth::with_metrics(["log".into()], ["kubelet".into()]);
        let start = Instant::now();
        let verdict = |now| health.verdict(now, STALE);
        health.spoke(1, start);
        assert_eq!(verdict(start), SignalsVerdict::Stale(vec!["log".into()]));
        health.spoke(0, start + STALE);
        let silent = SignalsVerdict::MetricsStale(vec!["kubelet".into()]);
        assert_eq!(verdict(start + STALE), silent);
        health.spoke(1, start + STALE);
        assert_eq!(verdict(start + STALE), SignalsVerdict::Fresh);
    }

    #[test]
    fn metrics_without_a_log_show_no_flow() {
        let (health, now) = (
            SignalHealth::with_metrics([], ["kubelet".into()]),
            Instant::now(),
        );
        health.spoke(0, now);
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::NoSource);
    }

    #[test]
    fn a_loss_is_remembered_for_five_minutes() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        health.lost(0, start);
        health.spoke(0, start);
        assert_eq!(
            health.verdict(start, STALE),
            SignalsVerdict::Lossy(vec!["a".into()])
        );
        let later = start + LOSS_REMEMBERED;
        health.spoke(0, later);
        assert_eq!(health.verdict(later, STALE), SignalsVerdict::Fresh);
        assert_eq!(
            SignalHealth::default().verdict(later, STALE),
            SignalsVerdict::NoSource
        );
    }

    #[test]
    fn a_log_that_shows_no_answers_concerns_who_has_pods_on_its_node() {
        let (health, now) = (SignalHealth::new(["log".into()]), Instant::now());
        health.spoke(0, now);
        let on_a = Lacking {
            node: Some("a".into()),
            what: "no answers over tcp".into(),
        };
        health.lacks(0, vec![on_a.clone()]);
        let verdict = health.verdict(now, STALE);
        let on = |node| verdict.clone().on_nodes(&BTreeSet::from([node]));
        let lacking = Lacking {
            what: "log shows no answers over tcp".into(),
            ..on_a
        };
        let not_shown = SignalsVerdict::AnswersNotShown {
            lacking: vec![lacking],
            others: Box::new(SignalsVerdict::Fresh),
        };
        assert_eq!(on("a"), not_shown);
        assert_eq!(on("b"), SignalsVerdict::Fresh);
        // A silent log is the greater trouble.
        let stale = SignalsVerdict::Stale(vec!["log".into()]);
        assert_eq!(health.verdict(now + STALE * 6, STALE), stale);
        health.lacks(0, Vec::new());
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::Fresh);
    }

    #[test]
    fn a_node_that_a_relay_does_not_hear_concerns_who_has_pods_there() {
        let (health, now) = (SignalHealth::new(["relay".into()]), Instant::now());
        health.spoke(0, now);
        health.unseen(0, vec!["b".into(), "a".into()]);
        let verdict = health.verdict(now, STALE);
        let on = |nodes: &[&str]| verdict.clone().on_nodes(&nodes.iter().copied().collect());
        let unseen = |nodes: &[&str]| SignalsVerdict::NodesUnseen {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            others: Box::new(SignalsVerdict::Fresh),
        };
        assert_eq!(on(&[]), unseen(&["a", "b"]));
        assert_eq!(on(&["b", "c"]), unseen(&["b"]));
        assert_eq!(on(&["c"]), SignalsVerdict::Fresh);
        assert!(health.is_unseen(0, "a") && !health.is_unseen(0, "c"));
        health.unseen(0, Vec::new());
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::Fresh);
        // A relay that says nothing at all is the greater trouble.
        health.unseen(0, vec!["a".into()]);
        let stale = SignalsVerdict::Stale(vec!["relay".into()]);
        assert_eq!(health.verdict(now + STALE, STALE), stale);
    }

    fn unreadable(count: usize) -> LineTally {
        let mut tally = LineTally::default();
        for _ in 0..count {
            tally.add(LineFate::Unreadable(None), b"x");
        }
        tally
    }

    #[test]
    fn lines_that_cannot_be_read_are_not_a_log_that_speaks_and_are_said_to_be_that() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        let format = Some(Format::Zeek);
        let why = |now| match health.verdict(now, STALE) {
            SignalsVerdict::Unusable { why, details } => {
                assert!(details[0].starts_with("a delivers lines, none of them readable as zeek"));
                why.name()
            }
            SignalsVerdict::Stale(_) => "Stale",
            SignalsVerdict::Fresh => "Fresh",
            other => panic!("{other:?}"),
        };
        // One may be the rest of a line, and few are enough after a while.
        health.delivered(0, format, &unreadable(1), start);
        assert_eq!(why(start), "Stale");
        assert_eq!(why(start + STALE * 2), "NotUnderstood");
        let mut good = LineTally::default();
        good.add(LineFate::Attributed, b"x");
        health.delivered(0, format, &good, start + STALE * 2);
        assert_eq!(why(start + STALE * 2), "Fresh");
        health.delivered(0, format, &unreadable(1), start + STALE * 4);
        assert_eq!(why(start + STALE * 4), "NotUnderstood");
        // At last it is silence like any other.
        assert_eq!(why(start + STALE * 20), "Stale");
    }

    #[test]
    fn a_log_that_is_not_understood_is_not_waited_for() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        health.delivered(0, Some(Format::Zeek), &unreadable(5), start);
        assert_eq!(health.certainty(start, STALE), Certainty::Known);
        assert!(matches!(
            health.verdict(start, STALE),
            SignalsVerdict::Unusable { .. }
        ));
    }

    #[test]
    fn a_silent_log_leads_and_one_of_no_use_comes_before_metrics_and_losses() {
        let health = SignalHealth::with_metrics(["a".into(), "b".into()], ["kubelet".into()]);
        let now = Instant::now();
        health.delivered(0, Some(Format::Zeek), &unreadable(9), now);
        assert_eq!(
            health.verdict(now, STALE),
            SignalsVerdict::Stale(vec!["b".into()])
        );
        health.spoke(1, now);
        health.lost(1, now);
        let SignalsVerdict::Unusable { why, details } = health.verdict(now, STALE) else {
            panic!("a is of no use");
        };
        assert_eq!((why, details.len()), (WhyUnusable::NotUnderstood, 1));
    }
}
