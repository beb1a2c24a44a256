//! Origins: the logs that records come from, by source and node, and where each of them has gaps.
//!
//! Kept by `engine`. A contact that waits for an answer names its origin, because the silence of a
//! target says nothing while that log, and no other, may have lost the answer (INV-8).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::attributed::Origin;
use super::loss::Loss;
use super::saved;
use super::sketch::HashKey;
use super::visibility::{Lack, Shown, Visibility};
use crate::limits;
use crate::model::{EventTime, Signal, Transport};

/// The number of an origin. Zero stands for all that did not fit into [`limits::ORIGINS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct OriginId(u16);

/// One log on one node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Log {
    source: u16,
    node: Option<Box<str>>,
    loss: Loss,
    visibility: Visibility,
}

/// What is known of a source over all its nodes.
#[derive(Clone, Debug, Default)]
struct Source {
    /// Its origins, by the node's name; the empty name stands for the one without a node.
    nodes: HashMap<Box<str>, OriginId>,
    /// Losses on a node that nothing named: they count for all nodes of the source.
    unplaced: Loss,
    /// All losses: they count for records whose node nothing names.
    all: Loss,
}

/// Where records of an origin may be missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gaps([Loss; 2]);

impl Gaps {
    /// Whether records of this time may be missing.
    pub(super) fn cover(self, time: EventTime) -> bool {
        self.0.iter().any(|loss| loss.covers(time))
    }
}

/// The losses of each source, and of all; and what was seen in the logs that did not fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedLosses {
    #[serde(deserialize_with = "saved::list::<_, _, { limits::SAVED_SOURCES_MAX }>")]
    sources: Vec<(u16, Loss, Loss)>,
    anywhere: Loss,
    beyond: Visibility,
}

/// The sources that something is said of.
#[derive(Clone, Copy, Debug)]
enum Sources {
    All,
    /// One source; `None`: the logs that did not fit.
    Of(Option<u16>),
}

/// Up to when which logs have been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read<'a> {
    origins: &'a Origins,
    /// Up to when.
    pub(super) now: EventTime,
    of: Sources,
}

impl<'a> Read<'a> {
    /// All logs have been read up to `now`.
    pub(super) fn all(origins: &'a Origins, now: EventTime) -> Self {
        Self {
            origins,
            now,
            of: Sources::All,
        }
    }

    /// The logs of the source of `id` have been read up to `now`, and nothing is said of others.
    pub(super) fn source_of(origins: &'a Origins, id: OriginId, now: EventTime) -> Self {
        Self {
            origins,
            now,
            of: Sources::Of(origins.source(id)),
        }
    }

    /// Whether this log is among them.
    pub(super) fn has(&self, id: OriginId) -> bool {
        match self.of {
            Sources::All => true,
            Sources::Of(source) => self.origins.source(id) == source,
        }
    }

    /// Whether this log may miss records of this time.
    pub(super) fn is_lossy(&self, id: OriginId, time: EventTime) -> bool {
        self.origins.gaps(id).cover(time)
    }

    /// Whether this log could have shown an answer to a contact of this time.
    pub(super) fn answers(&self, id: OriginId, transport: Transport, time: EventTime) -> Shown {
        let best = |best: Shown, seen: &Visibility| best.max(seen.answers(transport, time));
        let own = self
            .origins
            .seen(id)
            .map_or(Shown::NotYet, |seen| seen.answers(transport, time));
        match own {
            Shown::Yes => own,
            _ => self
                .origins
                .unplaced(id)
                .map_or(own, |seen| best(own, seen)),
        }
    }

    /// Whether this log has shown answers lately before this time.
    pub(super) fn shows_answers(
        &self,
        id: OriginId,
        transport: Transport,
        time: EventTime,
    ) -> bool {
        let shows = |seen: &Visibility| seen.shows_answers(transport, time);
        self.origins.seen(id).is_some_and(shows) || self.origins.unplaced(id).is_some_and(shows)
    }

    /// From when on this log has shown flows that passed, if it did lately at this time.
    pub(super) fn allowed_since(
        &self,
        id: OriginId,
        transport: Transport,
        time: EventTime,
    ) -> Option<EventTime> {
        let since = |seen: &Visibility| seen.allowed_since(transport, time);
        let own = self.origins.seen(id).and_then(since);
        own.or_else(|| self.origins.unplaced(id).and_then(since))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    sources: HashMap<u16, Source>,
    logs: Vec<Log>,
    /// All losses of all sources: they count for what did not fit.
    anywhere: Loss,
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            sources: HashMap::new(),
            logs: vec![Log::default()],
            anywhere: Loss::default(),
        }
    }
}

impl Origins {
    /// The number of an origin, a new one where it is not known. `hint` is tried first: most records
    /// of a pod come from where its last one came from.
    pub(super) fn id(&mut self, origin: Origin<'_>, hint: OriginId) -> OriginId {
        let is_it = |log: &Log| log.source == origin.source && log.node.as_deref() == origin.node;
        if hint != OriginId::default() && self.logs.get(usize::from(hint.0)).is_some_and(is_it) {
            return hint;
        }
        let name = origin.node.unwrap_or_default();
        if let Some(id) = self
            .sources
            .get(&origin.source)
            .and_then(|source| source.nodes.get(name))
        {
            return *id;
        }
        let next = u16::try_from(self.logs.len()).unwrap_or(u16::MAX);
        if self.logs.len() >= limits::ORIGINS_MAX || name.len() > limits::NAME_BYTES_MAX {
            return OriginId::default();
        }
        self.logs.push(Log {
            source: origin.source,
            node: origin.node.map(Into::into),
            loss: Loss::default(),
            visibility: Visibility::default(),
        });
        let source = self.sources.entry(origin.source).or_default();
        source.nodes.insert(name.into(), OriginId(next));
        OriginId(next)
    }

    /// Learns from a record about anybody what its log shows.
    pub(super) fn observe(&mut self, id: OriginId, signal: &Signal<'_>, key: HashKey) {
        if let Some(log) = self.logs.get_mut(usize::from(id.0)) {
            log.visibility.observe(signal, key);
        }
    }

    /// Notes that a log has not shown something that was needed to judge a contact.
    pub(super) fn lacks(&mut self, id: OriginId, lack: Lack, time: EventTime) {
        if let Some(log) = self.logs.get_mut(usize::from(id.0)) {
            log.visibility.lacks(lack, time);
        }
    }

    /// What each log does not show although it was needed: source, node, what.
    pub(super) fn lacking(&self) -> impl Iterator<Item = (u16, Option<&str>, Lack)> {
        self.logs.iter().flat_map(|log| {
            let lacks = log.visibility.lacking();
            lacks.map(|lack| (log.source, log.node.as_deref(), lack))
        })
    }

    /// What was seen in this log.
    fn seen(&self, id: OriginId) -> Option<&Visibility> {
        Some(&self.logs.get(usize::from(id.0))?.visibility)
    }

    /// What was seen in the records of the same source that name no node: the log may be of any.
    fn unplaced(&self, id: OriginId) -> Option<&Visibility> {
        let source = self.sources.get(&self.source(id)?)?;
        let unplaced = source.nodes.get("").filter(|unplaced| **unplaced != id)?;
        self.seen(*unplaced)
    }

    /// The source of an origin.
    pub(super) fn source(&self, id: OriginId) -> Option<u16> {
        let log = self.logs.get(usize::from(id.0))?;
        (id != OriginId::default()).then_some(log.source)
    }

    /// What is saved of all logs together.
    pub(super) fn saved(&self) -> SavedLosses {
        let sources = self.sources.iter();
        SavedLosses {
            sources: sources
                .map(|(number, source)| (*number, source.unplaced, source.all))
                .collect(),
            anywhere: self.anywhere,
            beyond: self.seen(OriginId::default()).cloned().unwrap_or_default(),
        }
    }

    /// The logs one by one, in the order in which they are restored.
    pub(super) fn log(&self, position: usize) -> Option<&Log> {
        self.logs.get(position + 1)
    }

    /// Takes in what [`Self::saved`] gave, before anything else.
    pub(super) fn restore(saved: SavedLosses) -> Self {
        let entry = |(number, unplaced, all)| {
            let nodes = HashMap::new();
            (
                number,
                Source {
                    nodes,
                    unplaced,
                    all,
                },
            )
        };
        Self {
            sources: saved.sources.into_iter().map(entry).collect(),
            anywhere: saved.anywhere,
            logs: vec![Log {
                visibility: saved.beyond,
                ..Log::default()
            }],
        }
    }

    /// Takes in a log. `false`: it does not fit, or is there already.
    pub(super) fn restore_log(&mut self, log: Log) -> bool {
        let origin = Origin {
            source: log.source,
            node: log.node.as_deref(),
        };
        let count = self.logs.len();
        self.id(origin, OriginId::default());
        match self.logs.get_mut(count) {
            Some(new) => {
                *new = log;
                true
            }
            None => false,
        }
    }

    /// Up to when the source of an origin has been read. What did not fit has been read as far as the
    /// source that is furthest behind.
    pub(super) fn read_up_to(
        &self,
        id: OriginId,
        read_up_to: &dyn Fn(u16) -> Option<EventTime>,
    ) -> Option<EventTime> {
        match self.source(id) {
            Some(source) => read_up_to(source),
            None => self.sources.keys().filter_map(|s| read_up_to(*s)).min(),
        }
    }

    /// The time that the source has reached that is furthest ahead.
    pub(super) fn latest(
        &self,
        read_up_to: &dyn Fn(u16) -> Option<EventTime>,
    ) -> Option<EventTime> {
        self.sources.keys().filter_map(|s| read_up_to(*s)).max()
    }

    /// Records are missing.
    pub(super) fn lost(&mut self, origin: Origin<'_>, time: EventTime) {
        let id = self.id(origin, OriginId::default());
        self.anywhere.extend(time);
        // A source without any origin that fits has no entry, and what did not fit has `anywhere`.
        if let Some(source) = self.sources.get_mut(&origin.source) {
            source.all.extend(time);
            if origin.node.is_none() || id == OriginId::default() {
                source.unplaced.extend(time);
            }
        }
        if let Some(log) = self.logs.get_mut(usize::from(id.0)) {
            log.loss.extend(time);
        }
    }

    /// Where records of this origin may be missing.
    pub(super) fn gaps(&self, id: OriginId) -> Gaps {
        let log = self.logs.get(usize::from(id.0));
        let Some(log) = log.filter(|_| id != OriginId::default()) else {
            return Gaps([self.anywhere; 2]);
        };
        let source = self.sources.get(&log.source);
        let of_source = source.map(|source| {
            if log.node.is_some() {
                source.unplaced
            } else {
                source.all
            }
        });
        Gaps([log.loss, of_source.unwrap_or_default()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(1_000 + second, 0)
    }

    fn origin(source: u16, node: &str) -> Origin<'_> {
        Origin {
            source,
            node: Some(node).filter(|name| !name.is_empty()),
        }
    }

    /// Whether a loss at the first origin covers records of the second.
    fn hides(lost: Origin<'_>, other: Origin<'_>) -> bool {
        let mut origins = Origins::default();
        let id = origins.id(other, OriginId::default());
        origins.lost(lost, at(0));
        origins.gaps(id).cover(at(1))
    }

    #[test]
    fn a_loss_counts_for_its_node_and_source_and_without_a_node_for_its_source() {
        for (lost, other, expected) in [
            (origin(1, "a"), origin(1, "a"), true),
            (origin(1, "a"), origin(1, "b"), false),
            (origin(1, "a"), origin(2, "a"), false),
            (origin(1, ""), origin(1, "a"), true),
            (origin(1, ""), origin(2, "a"), false),
            (origin(1, "a"), origin(1, ""), true),
            (origin(1, "a"), origin(2, ""), false),
        ] {
            assert_eq!(hides(lost, other), expected, "{lost:?} {other:?}");
        }
    }

    #[test]
    fn what_does_not_fit_shares_all_losses() {
        let mut origins = Origins::default();
        for n in 0..limits::ORIGINS_MAX {
            origins.id(origin(1, &format!("n{n}")), OriginId::default());
        }
        let beyond = origins.id(origin(1, "beyond"), OriginId::default());
        assert_eq!(beyond, OriginId::default());
        assert!(!origins.gaps(beyond).cover(at(0)));
        origins.lost(origin(1, "n5"), at(0));
        assert!(origins.gaps(beyond).cover(at(0)));
        let within = origins.id(origin(1, "n6"), OriginId::default());
        assert!(!origins.gaps(within).cover(at(0)));
        origins.lost(origin(1, "beyond"), at(0));
        assert!(origins.gaps(within).cover(at(0)), "it may be any of them");
    }
}
