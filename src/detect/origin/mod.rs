//! Origins: the logs that records come from, by source and node, their gaps, and what they can show.
//!
//! Owned by `engine`. A contact that waits for an answer stores its origin: a missing answer is no evidence if that
//! log, and no other, may have lost the answer (INV-8).

mod loss;
pub(super) mod visibility;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use self::loss::LossSpan;
pub(super) use self::visibility::VisibilityGap;
use self::visibility::{Shown, Visibility};
use super::attributed::Origin;
use super::state::{HashKey, bounded};
use crate::limits;
use crate::model::{EventTime, Signal, Transport};

/// Number of an origin. Zero represents all origins beyond [`limits::ORIGINS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct OriginId(u16);

/// The state of one log on one node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Log {
    source: u16,
    node: Option<Box<str>>,
    loss: LossSpan,
    visibility: Visibility,
}

/// The state of a source over all its nodes.
#[derive(Clone, Debug, Default)]
struct Source {
    /// Its origins by node name. The empty name represents records without a node.
    nodes: HashMap<Box<str>, OriginId>,
    /// Losses on an unknown node: they apply to all nodes of the source.
    without_node: LossSpan,
    /// All losses: they apply to records without a node.
    all_nodes: LossSpan,
}

/// Time spans in which records of an origin may be missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gaps([LossSpan; 2]);

impl Gaps {
    /// Whether records of this time may be missing.
    pub(super) fn cover(self, time: EventTime) -> bool {
        self.0.iter().any(|loss| loss.covers(time))
    }
}

/// Saved losses per source and over all sources, and the visibility of the logs beyond the bound.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedLosses {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::SAVED_SOURCES_MAX }>")]
    sources: Vec<(u16, LossSpan, LossSpan)>,
    all_sources: LossSpan,
    overflow: Visibility,
}

/// Which sources a progress covers.
#[derive(Clone, Copy, Debug)]
enum Sources {
    All,
    /// One source; `None` for the logs beyond the bound.
    Of(Option<u16>),
}

/// How far some of the logs have been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadProgress<'a> {
    origins: &'a Origins,
    /// The logs have been read up to this time.
    pub(super) now: EventTime,
    of: Sources,
}

impl<'a> ReadProgress<'a> {
    /// All logs have been read up to `now`.
    pub(super) fn all(origins: &'a Origins, now: EventTime) -> Self {
        Self {
            origins,
            now,
            of: Sources::All,
        }
    }

    /// The logs of the source of `id` have been read up to `now`. The progress of other sources is unknown.
    pub(super) fn source_of(origins: &'a Origins, id: OriginId, now: EventTime) -> Self {
        Self {
            origins,
            now,
            of: Sources::Of(origins.source(id)),
        }
    }

    /// Whether it covers this log.
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
        let best =
            |best: Shown, visibility: &Visibility| best.max(visibility.answers(transport, time));
        let own = self
            .origins
            .visibility(id)
            .map_or(Shown::NotYet, |visibility| {
                visibility.answers(transport, time)
            });
        match own {
            Shown::Yes => own,
            _ => self
                .origins
                .without_node(id)
                .map_or(own, |visibility| best(own, visibility)),
        }
    }

    /// Whether this log has recently shown answers, as of this time.
    pub(super) fn shows_answers(
        &self,
        id: OriginId,
        transport: Transport,
        time: EventTime,
    ) -> bool {
        let shows = |visibility: &Visibility| visibility.shows_answers(transport, time);
        self.origins.visibility(id).is_some_and(shows)
            || self.origins.without_node(id).is_some_and(shows)
    }

    /// Start of the span in which this log has shown forwarded flows, if that span includes this time.
    pub(super) fn allowed_since(
        &self,
        id: OriginId,
        transport: Transport,
        time: EventTime,
    ) -> Option<EventTime> {
        let since = |visibility: &Visibility| visibility.allowed_since(transport, time);
        let own = self.origins.visibility(id).and_then(since);
        own.or_else(|| self.origins.without_node(id).and_then(since))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    sources: HashMap<u16, Source>,
    logs: Vec<Log>,
    /// All losses of all sources: they apply to origins beyond the bound.
    all_sources: LossSpan,
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            sources: HashMap::new(),
            logs: vec![Log::default()],
            all_sources: LossSpan::default(),
        }
    }
}

impl Origins {
    /// The number of an origin, newly assigned if it is unknown. `hint` is tried first, because most records of a pod
    /// have the origin of the pod's previous record.
    pub(super) fn id(&mut self, origin: Origin<'_>, hint: OriginId) -> OriginId {
        let matches = |log: &Log| log.source == origin.source && log.node.as_deref() == origin.node;
        if hint != OriginId::default() && self.logs.get(usize::from(hint.0)).is_some_and(matches) {
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
            loss: LossSpan::default(),
            visibility: Visibility::default(),
        });
        let source = self.sources.entry(origin.source).or_default();
        source.nodes.insert(name.into(), OriginId(next));
        OriginId(next)
    }

    /// Updates the visibility of a log from any of its records.
    pub(super) fn observe(&mut self, id: OriginId, signal: &Signal<'_>, key: HashKey) {
        if let Some(log) = self.logs.get_mut(usize::from(id.0)) {
            log.visibility.observe(signal, key);
        }
    }

    /// Records that a log has not shown something that the verdict on a contact depends on.
    pub(super) fn record_gap(&mut self, id: OriginId, gap: VisibilityGap, time: EventTime) {
        if let Some(log) = self.logs.get_mut(usize::from(id.0)) {
            log.visibility.record_gap(gap, time);
        }
    }

    /// What each log does not show although verdicts depend on it: source, node and kind of gap.
    pub(super) fn visibility_gaps(
        &self,
    ) -> impl Iterator<Item = (u16, Option<&str>, VisibilityGap)> {
        self.logs.iter().flat_map(|log| {
            let gaps = log.visibility.visibility_gaps();
            gaps.map(|gap| (log.source, log.node.as_deref(), gap))
        })
    }

    /// The visibility of this log.
    fn visibility(&self, id: OriginId) -> Option<&Visibility> {
        Some(&self.logs.get(usize::from(id.0))?.visibility)
    }

    /// The visibility of the records of the same source that contain no node: they may come from the log of any node.
    fn without_node(&self, id: OriginId) -> Option<&Visibility> {
        let source = self.sources.get(&self.source(id)?)?;
        let without_node = source
            .nodes
            .get("")
            .filter(|without_node| **without_node != id)?;
        self.visibility(*without_node)
    }

    /// The source of an origin. `None` for origins beyond the bound.
    pub(super) fn source(&self, id: OriginId) -> Option<u16> {
        let log = self.logs.get(usize::from(id.0))?;
        (id != OriginId::default()).then_some(log.source)
    }

    /// The saved form of what concerns all logs.
    pub(super) fn saved(&self) -> SavedLosses {
        let sources = self.sources.iter();
        SavedLosses {
            sources: sources
                .map(|(number, source)| (*number, source.without_node, source.all_nodes))
                .collect(),
            all_sources: self.all_sources,
            overflow: self
                .visibility(OriginId::default())
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// The log at this position, in the order in which logs are restored.
    pub(super) fn log(&self, position: usize) -> Option<&Log> {
        self.logs.get(position + 1)
    }

    /// Restores the result of [`Self::saved`]. The logs follow.
    pub(super) fn restore(saved: SavedLosses) -> Self {
        let entry = |(number, without_node, all_nodes)| {
            let nodes = HashMap::new();
            (
                number,
                Source {
                    nodes,
                    without_node,
                    all_nodes,
                },
            )
        };
        Self {
            sources: saved.sources.into_iter().map(entry).collect(),
            all_sources: saved.all_sources,
            logs: vec![Log {
                visibility: saved.overflow,
                ..Log::default()
            }],
        }
    }

    /// Restores a log. Returns false if it does not fit or exists already.
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

    /// The time up to which the source of an origin has been read. For origins beyond the bound, that of the source
    /// with the least progress.
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

    /// The time up to which the source with the most progress has been read.
    pub(super) fn latest(
        &self,
        read_up_to: &dyn Fn(u16) -> Option<EventTime>,
    ) -> Option<EventTime> {
        self.sources.keys().filter_map(|s| read_up_to(*s)).max()
    }

    /// Records that a log lost records at this time.
    pub(super) fn record_loss(&mut self, origin: Origin<'_>, time: EventTime) {
        let id = self.id(origin, OriginId::default());
        self.all_sources.extend(time);
        // A source that has only origins beyond the bound has no entry; `all_sources` covers those.
        if let Some(source) = self.sources.get_mut(&origin.source) {
            source.all_nodes.extend(time);
            if origin.node.is_none() || id == OriginId::default() {
                source.without_node.extend(time);
            }
        }
        if let Some(log) = self.logs.get_mut(usize::from(id.0)) {
            log.loss.extend(time);
        }
    }

    /// The time spans in which records of this origin may be missing.
    pub(super) fn gaps(&self, id: OriginId) -> Gaps {
        let log = self.logs.get(usize::from(id.0));
        let Some(log) = log.filter(|_| id != OriginId::default()) else {
            return Gaps([self.all_sources; 2]);
        };
        let source = self.sources.get(&log.source);
        let of_source = source.map(|source| {
            if log.node.is_some() {
                source.without_node
            } else {
                source.all_nodes
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
        origins.record_loss(lost, at(0));
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
        let overflow = origins.id(origin(1, "overflow"), OriginId::default());
        assert_eq!(overflow, OriginId::default());
        assert!(!origins.gaps(overflow).cover(at(0)));
        origins.record_loss(origin(1, "n5"), at(0));
        assert!(origins.gaps(overflow).cover(at(0)));
        let within = origins.id(origin(1, "n6"), OriginId::default());
        assert!(!origins.gaps(within).cover(at(0)));
        origins.record_loss(origin(1, "overflow"), at(0));
        assert!(origins.gaps(within).cover(at(0)), "it may be any of them");
    }
}
