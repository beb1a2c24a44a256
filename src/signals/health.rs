//! Whether the sources are active and usable: a silent log is not a safe one, and neither is one that yields no
//! signals.
//!
//! The pipeline records what each source does; the controller derives the condition SignalsFresh from it.

mod usefulness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::signals::decode::Format;

use usefulness::Usefulness;
pub(crate) use usefulness::{LineOutcome, LineTally, LineTotals, LogProblem, Unused};

/// Default window over which the lines of a log are judged.
const WINDOW: Duration = Duration::from_mins(5);

/// How long unreadable lines are remembered, as a multiple of the silence that makes a log stale. A log with
/// few such lines would otherwise alternate between stale and not understood.
const UNREADABLE_REMEMBERED: u32 = 5;

/// How long a loss of events is remembered.
const LOSS_REMEMBERED: Duration = Duration::from_mins(5);

#[derive(Clone, Debug)]
struct SourceRecord {
    name: String,
    is_log: bool,
    format: Option<Format>,
    /// The last readable line, or the last fetch.
    last_line: Option<Instant>,
    /// The last unreadable line.
    last_unreadable: Option<Instant>,
    lines: Usefulness,
    last_loss: Option<Instant>,
    /// Nodes that a relay cannot reach.
    unreachable: BTreeSet<String>,
    /// Information that it does not contain although it was needed to judge contacts.
    lacking: Vec<Lacking>,
}

/// Information that a log does not contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The node of the pods with contacts that could not be judged, if known.
    pub node: Option<String>,
    /// What is missing, in words, with the name of the log if known.
    pub what: String,
}

/// The state of all sources together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalsVerdict {
    /// Every source delivered something recently and lost nothing.
    Fresh,
    /// No log is configured.
    NoSource,
    /// These logs deliver nothing.
    Stale(Vec<String>),
    /// Logs deliver lines that cannot be used.
    Unusable {
        /// The most severe of the causes.
        why: UnusableReason,
        /// For each of the logs, what is wrong and the first thing to do about it.
        details: Vec<String>,
    },
    /// The logs are active, except that a relay cannot reach these nodes.
    NodesUnseen {
        /// The nodes, sorted.
        nodes: Vec<String>,
        /// The verdict on all other nodes.
        others: Box<SignalsVerdict>,
    },
    /// The logs are active but do not show whether contacts succeed.
    AnswersNotShown {
        /// Which log lacks which information.
        lacking: Vec<Lacking>,
        /// The verdict apart from that.
        others: Box<SignalsVerdict>,
    },
    /// The logs are active; these sources of node metrics deliver nothing.
    MetricsStale(Vec<String>),
    /// These sources reported that they lost events.
    Lossy(Vec<String>),
    /// The logs are usable, but many lines of these logs cannot be read.
    PartlyUnreadable(Vec<String>),
}

/// Why a log that delivers lines cannot be used, the most severe cause first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnusableReason {
    /// Its lines are not in its format.
    NotUnderstood,
    /// Its lines are from the future.
    ClockAhead,
    /// Its lines are filtered out or masked by its writer.
    NothingUsable,
    /// Its lines are about addresses of no known pod.
    NothingAttributed,
}

impl UnusableReason {
    /// Every cause.
    pub const ALL: [Self; 4] = [
        Self::NotUnderstood,
        Self::ClockAhead,
        Self::NothingUsable,
        Self::NothingAttributed,
    ];

    /// The name of the reason in conditions and Leases.
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

impl From<LogProblem> for UnusableReason {
    fn from(problem: LogProblem) -> Self {
        match problem {
            LogProblem::NotUnderstood(_) => Self::NotUnderstood,
            LogProblem::Unused(Unused::Ahead) => Self::ClockAhead,
            LogProblem::Unused(Unused::Skipped(_)) => Self::NothingUsable,
            LogProblem::Unused(
                Unused::UnknownAddress
                | Unused::HostNetwork
                | Unused::OtherTime
                | Unused::Ambiguous,
            ) => Self::NothingAttributed,
        }
    }
}

impl SignalsVerdict {
    /// The verdict that applies to pods on these nodes only. An empty set leaves it unchanged.
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

/// How much is known about the sources soon after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// A log has delivered nothing yet, and has been read for less time than makes a log stale.
    NothingReceived,
    /// No line of a log has become a signal yet, and it is too early to judge that.
    NothingUsed,
    /// The verdict is final for the current data.
    Known,
}

/// What is known about the sources. Cheap to clone; all clones share one state.
#[derive(Clone, Debug)]
pub struct SignalHealth {
    notes: Arc<RwLock<Vec<SourceRecord>>>,
    since: Instant,
    window: Duration,
}

impl Default for SignalHealth {
    fn default() -> Self {
        Self::new([])
    }
}

impl SignalHealth {
    /// A state for these logs, by index.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self::with_metrics(names, [])
    }

    /// A state for these logs and, with the indexes after them, for these sources of node metrics.
    #[must_use]
    pub fn with_metrics(
        logs: impl IntoIterator<Item = String>,
        metrics: impl IntoIterator<Item = String>,
    ) -> Self {
        let note = |is_log| {
            move |name| SourceRecord {
                name,
                is_log,
                format: None,
                last_line: None,
                last_unreadable: None,
                lines: Usefulness::over(WINDOW),
                last_loss: None,
                unreachable: BTreeSet::new(),
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

    /// The log of this index delivered lines, which were read in this format.
    pub fn delivered(
        &self,
        source: usize,
        format: Option<Format>,
        tally: &LineTally,
        now: Instant,
    ) {
        self.note(source, |note| {
            note.format = format;
            // An unreadable line does not prove that the expected log is still written.
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

    /// More is known about lines that the log of this index delivered before.
    pub fn settled(&self, source: usize, tally: &LineTally, now: Instant) {
        if !tally.is_empty() {
            self.note(source, |note| note.lines.note(tally, now));
        }
    }

    /// The source of this index delivered something.
    pub fn record_activity(&self, source: usize, now: Instant) {
        self.note(source, |note| note.last_line = Some(now));
    }

    /// The source of this index reported that it lost events.
    pub fn record_loss(&self, source: usize, now: Instant) {
        self.note(source, |note| note.last_loss = Some(now));
    }

    /// The relay of this index cannot reach these nodes, and reaches all others.
    pub fn set_unreachable_nodes(&self, source: usize, nodes: Vec<String>) {
        self.note(source, |note| {
            note.unreachable = nodes.into_iter().collect();
        });
    }

    /// The nodes that the relay of this index cannot reach.
    #[must_use]
    pub fn unreachable_nodes(&self, source: usize) -> Vec<String> {
        let notes = self.notes.read();
        let unseen = notes
            .get(source)
            .into_iter()
            .flat_map(|note| &note.unreachable);
        unseen.cloned().collect()
    }

    /// The information that the source of this index does not contain at present.
    pub fn set_lacking(&self, source: usize, lacking: Vec<Lacking>) {
        self.note(source, |note| note.lacking = lacking);
    }

    /// Whether the relay of this index cannot reach this node.
    #[must_use]
    pub fn is_unreachable(&self, source: usize, node: &str) -> bool {
        let notes = self.notes.read();
        notes
            .get(source)
            .is_some_and(|note| note.unreachable.contains(node))
    }

    /// The verdict. A source is stale if it delivered nothing for `stale_after`.
    #[must_use]
    pub fn verdict(&self, now: Instant, stale_after: Duration) -> SignalsVerdict {
        let notes = self.notes.read();
        let unseen: BTreeSet<&String> = notes.iter().flat_map(|note| &note.unreachable).collect();
        let verdict = verdict_of(&notes, self.since, now, stale_after);
        let is_more_severe = matches!(
            verdict,
            SignalsVerdict::Stale(_) | SignalsVerdict::Unusable { .. }
        );
        if is_more_severe {
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

    /// The lines of each log since the start, by outcome.
    #[must_use]
    pub fn totals(&self) -> Vec<(String, LineTotals)> {
        let notes = self.notes.read();
        let logs = notes.iter().filter(|note| note.is_log);
        logs.map(|note| (note.name.clone(), note.lines.totals()))
            .collect()
    }

    /// How much is known, independent of the verdict.
    #[must_use]
    pub fn certainty(&self, now: Instant, stale_after: Duration) -> Certainty {
        let notes = self.notes.read();
        let is_within = |span| now.saturating_duration_since(self.since) < span;
        let has_log =
            |is: fn(&SourceRecord) -> bool| notes.iter().any(|note| note.is_log && is(note));
        if is_within(stale_after)
            && has_log(|note| note.last_line.is_none() && !note.lines.is_judged())
        {
            Certainty::NothingReceived
        } else if is_within(self.window) && has_log(|note| !note.lines.is_judged()) {
            Certainty::NothingUsed
        } else {
            Certainty::Known
        }
    }

    fn note(&self, source: usize, change: impl FnOnce(&mut SourceRecord)) {
        let mut notes = self.notes.write();
        if let Some(note) = notes.get_mut(source) {
            change(note);
        }
    }
}

/// The information that logs do not contain, with the names of the logs.
fn lacking(notes: &[SourceRecord]) -> Vec<Lacking> {
    let of = |note: &SourceRecord| {
        let name = note.name.clone();
        let named = move |lacking: Lacking| Lacking {
            what: format!("{name} shows {}", lacking.what),
            ..lacking
        };
        note.lacking.clone().into_iter().map(named)
    };
    notes.iter().flat_map(of).collect()
}

/// The verdict from the states of the sources alone.
fn verdict_of(
    notes: &[SourceRecord],
    since: Instant,
    now: Instant,
    stale_after: Duration,
) -> SignalsVerdict {
    let names = |chosen: &dyn Fn(&SourceRecord) -> bool| -> Vec<String> {
        notes
            .iter()
            .filter(|note| chosen(note))
            .map(|note| note.name.clone())
            .collect()
    };
    let within = |time: Option<Instant>, span| time.is_some_and(|time| now - time < span);
    let is_stale = |note: &SourceRecord| !within(note.last_line, stale_after);
    // Reading may start in the middle of a line, so at first an unreadable line proves nothing.
    let had_time = |note: &SourceRecord| note.last_line.is_some() || now - since >= stale_after;
    let problem = |note: &SourceRecord| {
        let is_unreadable = within(note.last_unreadable, stale_after * UNREADABLE_REMEMBERED);
        match note.lines.problem() {
            Some(problem) if is_unreadable || !is_stale(note) => Some(problem),
            None if is_unreadable && is_stale(note) && had_time(note) => {
                Some(note.lines.unreadable())
            }
            Some(_) | None => None,
        }
    };
    let is_stale_log =
        |note: &SourceRecord| note.is_log && is_stale(note) && problem(note).is_none();
    let stale = names(&is_stale_log);
    if !stale.is_empty() {
        return SignalsVerdict::Stale(stale);
    }
    let with_problem = notes.iter().filter_map(|note| Some((note, problem(note)?)));
    let with_problem: Vec<(&SourceRecord, LogProblem)> = with_problem.collect();
    if let Some(why) = with_problem
        .iter()
        .map(|(_, problem)| (*problem).into())
        .min()
    {
        let details = with_problem
            .iter()
            .map(|(note, problem)| problem.sentence(&note.name, note.format));
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
    fn a_source_that_never_delivered_or_stopped_is_named() {
        let (health, start) = (SignalHealth::new(["a".into(), "b".into()]), Instant::now());
        health.record_activity(0, start);
        assert_eq!(
            health.verdict(start, STALE),
            SignalsVerdict::Stale(vec!["b".into()])
        );
        health.record_activity(1, start + STALE);
        let later = start + STALE;
        assert_eq!(
            health.verdict(later, STALE),
            SignalsVerdict::Stale(vec!["a".into()])
        );
    }

    #[test]
    fn little_is_known_until_a_log_delivers_a_useful_line_or_its_time_is_over() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        let certainty = |now| health.certainty(now, STALE);
        assert_eq!(certainty(start), Certainty::NothingReceived);
        assert_eq!(certainty(start + STALE * 2), Certainty::NothingUsed);
        health.record_activity(0, start);
        assert_eq!(certainty(start), Certainty::NothingUsed);
        assert_eq!(certainty(start + WINDOW * 2), Certainty::Known);
        let mut tally = LineTally::default();
        tally.add(LineOutcome::Attributed, b"x");
        health.delivered(0, None, &tally, start);
        assert_eq!(certainty(start), Certainty::Known);
        let without_logs = SignalHealth::default();
        assert_eq!(without_logs.certainty(start, STALE), Certainty::Known);
    }

    #[test]
    fn metrics_that_stopped_are_named_unless_a_log_did() {
        let health = SignalHealth::with_metrics(["log".into()], ["kubelet".into()]);
        let start = Instant::now();
        let verdict = |now| health.verdict(now, STALE);
        health.record_activity(1, start);
        assert_eq!(verdict(start), SignalsVerdict::Stale(vec!["log".into()]));
        health.record_activity(0, start + STALE);
        let silent = SignalsVerdict::MetricsStale(vec!["kubelet".into()]);
        assert_eq!(verdict(start + STALE), silent);
        health.record_activity(1, start + STALE);
        assert_eq!(verdict(start + STALE), SignalsVerdict::Fresh);
    }

    #[test]
    fn metrics_without_a_log_show_no_flow() {
        let (health, now) = (
            SignalHealth::with_metrics([], ["kubelet".into()]),
            Instant::now(),
        );
        health.record_activity(0, now);
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::NoSource);
    }

    #[test]
    fn a_loss_is_remembered_for_five_minutes() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        health.record_loss(0, start);
        health.record_activity(0, start);
        assert_eq!(
            health.verdict(start, STALE),
            SignalsVerdict::Lossy(vec!["a".into()])
        );
        let later = start + LOSS_REMEMBERED;
        health.record_activity(0, later);
        assert_eq!(health.verdict(later, STALE), SignalsVerdict::Fresh);
        assert_eq!(
            SignalHealth::default().verdict(later, STALE),
            SignalsVerdict::NoSource
        );
    }

    #[test]
    fn a_log_that_shows_no_answers_concerns_runs_with_pods_on_its_node() {
        let (health, now) = (SignalHealth::new(["log".into()]), Instant::now());
        health.record_activity(0, now);
        let on_a = Lacking {
            node: Some("a".into()),
            what: "no answers over tcp".into(),
        };
        health.set_lacking(0, vec![on_a.clone()]);
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
        // A stale log is the more severe problem.
        let stale = SignalsVerdict::Stale(vec!["log".into()]);
        assert_eq!(health.verdict(now + STALE * 6, STALE), stale);
        health.set_lacking(0, Vec::new());
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::Fresh);
    }

    #[test]
    fn a_node_that_a_relay_does_not_reach_concerns_runs_with_pods_there() {
        let (health, now) = (SignalHealth::new(["relay".into()]), Instant::now());
        health.record_activity(0, now);
        health.set_unreachable_nodes(0, vec!["b".into(), "a".into()]);
        let verdict = health.verdict(now, STALE);
        let on = |nodes: &[&str]| verdict.clone().on_nodes(&nodes.iter().copied().collect());
        let unseen = |nodes: &[&str]| SignalsVerdict::NodesUnseen {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            others: Box::new(SignalsVerdict::Fresh),
        };
        assert_eq!(on(&[]), unseen(&["a", "b"]));
        assert_eq!(on(&["b", "c"]), unseen(&["b"]));
        assert_eq!(on(&["c"]), SignalsVerdict::Fresh);
        assert!(health.is_unreachable(0, "a") && !health.is_unreachable(0, "c"));
        health.set_unreachable_nodes(0, Vec::new());
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::Fresh);
        // A relay that delivers nothing at all is the more severe problem.
        health.set_unreachable_nodes(0, vec!["a".into()]);
        let stale = SignalsVerdict::Stale(vec!["relay".into()]);
        assert_eq!(health.verdict(now + STALE, STALE), stale);
    }

    fn unreadable(count: usize) -> LineTally {
        let mut tally = LineTally::default();
        for _ in 0..count {
            tally.add(LineOutcome::Unreadable(None), b"x");
        }
        tally
    }

    #[test]
    fn lines_that_cannot_be_read_do_not_make_a_log_fresh_and_are_reported() {
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
        // One may be the rest of a line; after a while a few are enough.
        health.delivered(0, format, &unreadable(1), start);
        assert_eq!(why(start), "Stale");
        assert_eq!(why(start + STALE * 2), "NotUnderstood");
        let mut good = LineTally::default();
        good.add(LineOutcome::Attributed, b"x");
        health.delivered(0, format, &good, start + STALE * 2);
        assert_eq!(why(start + STALE * 2), "Fresh");
        health.delivered(0, format, &unreadable(1), start + STALE * 4);
        assert_eq!(why(start + STALE * 4), "NotUnderstood");
        // In the end the log is stale like any other.
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
        health.record_activity(1, now);
        health.record_loss(1, now);
        let SignalsVerdict::Unusable { why, details } = health.verdict(now, STALE) else {
            panic!("a is of no use");
        };
        assert_eq!((why, details.len()), (UnusableReason::NotUnderstood, 1));
    }
}
