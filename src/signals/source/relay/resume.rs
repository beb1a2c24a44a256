//! Resume: from when on flows are asked for, and which of them were here before.
//!
//! Relay has no offsets, only times, and each node has its own clock. So it is remembered per node
//! how far its flows came, and as hashes what came lately. A node's flows come again when we
//! reconnect, and also when Relay itself reconnects to the node: it repeats our request, with the
//! old time. What is asked for overlaps with what was seen, and that shows losses too: a node that
//! does not repeat its last flow no longer has it, nor what followed.
//!
//! No I/O and no clock: time is a parameter, in nanoseconds since the Unix epoch.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use crate::limits;

/// How far back the flows of a node may come late and still be taken for new ones.
const WINDOW_NS: i64 = limits::RELAY_OVERLAP_S * 1_000_000_000;

/// A node that said nothing for so long no longer decides from when on flows are asked for.
const SILENT_NS: i64 = limits::RELAY_NODE_SILENT_S * 1_000_000_000;

/// A node whose last flow is so old is forgotten at the next connection.
const FORGET_NS: i64 = 3600 * 1_000_000_000;

/// What a flow is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It was not here before.
    New,
    /// The same, and before it flows of its node are missing.
    AfterGap,
    /// It was here before.
    Repeated,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Resume {
    /// Nothing before is wanted.
    floor_ns: i64,
    /// When Relay last said anything, by our clock.
    alive_ns: i64,
    requested_ns: i64,
    nodes: HashMap<String, Mark>,
    recent: Recent,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    last_ns: i64,
    /// The last flow must come again before a newer one does.
    is_awaited: bool,
    /// Flows up to `last_ns` were handed over by this process.
    is_ours: bool,
    /// Flows in a row that were older than the window.
    older: usize,
    /// When a flow last came again, by our clock.
    repeated_ns: i64,
}

impl Mark {
    const fn new(last_ns: i64, is_ours: bool) -> Self {
        Self {
            last_ns,
            is_awaited: false,
            is_ours,
            older: 0,
            repeated_ns: i64::MIN,
        }
    }
}

impl Resume {
    /// Begins at this time; `marks` are those of an earlier process, whose flows up to there may or
    /// may not have been dealt with.
    pub(super) fn new(floor_ns: i64, marks: BTreeMap<String, i64>) -> Self {
        let mark = |(node, last_ns)| (node, Mark::new(last_ns, false));
        Self {
            floor_ns,
            alive_ns: floor_ns,
            requested_ns: floor_ns,
            nodes: marks
                .into_iter()
                .take(limits::NODES_MAX)
                .map(mark)
                .collect(),
            recent: Recent::default(),
        }
    }

    /// From when on flows are wanted after a break at this moment.
    pub(super) fn since_ns(&self) -> i64 {
        let is_current =
            |mark: &&Mark| mark.is_ours && mark.last_ns > self.alive_ns.saturating_sub(SILENT_NS);
        let oldest = self.nodes.values().filter(is_current);
        let oldest = oldest.map(|mark| mark.last_ns).min();
        // A node whose clock is ahead must not move the others' time.
        let reached = oldest.map_or(self.alive_ns, |oldest| oldest.min(self.alive_ns));
        reached.saturating_sub(WINDOW_NS).max(self.floor_ns)
    }

    /// A stream begins, with what [`Self::since_ns`] says. Gives that.
    pub(super) fn begin(&mut self) -> i64 {
        let since_ns = self.since_ns();
        self.requested_ns = since_ns;
        let forget = self.alive_ns.saturating_sub(FORGET_NS);
        self.nodes.retain(|_, mark| mark.last_ns >= forget);
        for mark in self.nodes.values_mut() {
            mark.is_awaited = mark.last_ns >= since_ns;
        }
        since_ns
    }

    /// Relay said something.
    pub(super) fn alive(&mut self, now_ns: i64) {
        self.alive_ns = self.alive_ns.max(now_ns);
    }

    /// What is between the last flow and now is given up: it cannot be read.
    pub(super) fn skip_to(&mut self, now_ns: i64) {
        self.floor_ns = self.floor_ns.max(now_ns);
        self.alive(now_ns);
    }

    /// Relay lost a node at this time, and asks it again from the time of our request on. It tells
    /// late: the node may have repeated its flows already.
    pub(super) fn node_breaks(&mut self, node: &str, at_ns: i64) {
        let requested_ns = self.requested_ns;
        if let Some(mark) = self.nodes.get_mut(node) {
            mark.is_awaited = mark.repeated_ns < at_ns && mark.last_ns >= requested_ns;
        }
    }

    /// Judges a flow by its node, its time and its line.
    pub(super) fn judge(&mut self, node: &str, time_ns: i64, line: &[u8]) -> Judged {
        let is_known = !self.recent.insert(line);
        let Some(mark) = self.nodes.get_mut(node) else {
            if self.nodes.len() < limits::NODES_MAX {
                self.nodes.insert(node.to_owned(), Mark::new(time_ns, true));
            }
            return if is_known {
                Judged::Repeated
            } else {
                Judged::New
            };
        };
        let was_awaited = std::mem::replace(&mut mark.is_awaited, false);
        if time_ns > mark.last_ns {
            mark.last_ns = time_ns;
            mark.is_ours = true;
            mark.older = 0;
            return if was_awaited {
                Judged::AfterGap
            } else {
                Judged::New
            };
        }
        if is_known {
            mark.repeated_ns = self.alive_ns;
            return Judged::Repeated;
        }
        if !mark.is_ours || time_ns >= mark.last_ns.saturating_sub(WINDOW_NS) {
            return Judged::New;
        }
        mark.older += 1;
        if mark.older <= limits::RELAY_REPEATED_MAX {
            mark.repeated_ns = self.alive_ns;
            return Judged::Repeated;
        }
        // No buffer is that large: the node's clock was set back.
        mark.older = 0;
        mark.last_ns = time_ns;
        Judged::New
    }

    /// How far each node came, for the checkpoint.
    pub(super) fn marks(&self) -> BTreeMap<String, i64> {
        let marks = self.nodes.iter();
        marks
            .map(|(node, mark)| (node.clone(), mark.last_ns))
            .collect()
    }
}

/// The lines of the last flows, as hashes with a key that nobody outside knows.
#[derive(Debug, Default)]
struct Recent {
    hasher: foldhash::fast::RandomState,
    known: HashSet<u64, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Whether the line is new here.
    fn insert(&mut self, line: &[u8]) -> bool {
        let hash = self.hasher.hash_one(line);
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > limits::RELAY_RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const START: i64 = 1_790_000_000 * S;

    fn resume() -> Resume {
        Resume::new(START, BTreeMap::new())
    }

    /// Judges a flow of `node`, `seconds` after the start, and lets the clock follow.
    fn judge(resume: &mut Resume, node: &str, seconds: i64) -> Judged {
        let time = START + seconds * S;
        resume.alive(time);
        resume.judge(node, time, format!("{node} {seconds}").as_bytes())
    }

    #[test]
    fn the_first_request_is_for_what_comes_from_now_on() {
        assert_eq!(resume().begin(), START);
    }

    #[test]
    fn after_a_break_the_last_flows_are_asked_for_again_and_taken_once() {
        let mut resume = resume();
        for seconds in 1..60 {
            assert_eq!(judge(&mut resume, "a", seconds), Judged::New);
        }
        assert_eq!(resume.begin(), START + 49 * S);
        for seconds in 49..60 {
            assert_eq!(judge(&mut resume, "a", seconds), Judged::Repeated);
        }
        assert_eq!(judge(&mut resume, "a", 60), Judged::New);
    }

    #[test]
    fn a_node_that_lags_decides_and_one_that_is_silent_or_ahead_does_not() {
        let mut resume = resume();
        judge(&mut resume, "silent", 1);
        judge(&mut resume, "lags", 400);
        judge(&mut resume, "a", 420);
        let ahead = START + 100_000 * S;
        resume.judge("ahead", ahead, b"ahead");
        assert_eq!(resume.since_ns(), START + 390 * S);
    }

    #[test]
    fn a_node_that_no_longer_has_its_last_flow_has_lost_some() {
        let mut resume = resume();
        judge(&mut resume, "a", 30);
        judge(&mut resume, "b", 30);
        resume.begin();
        assert_eq!(judge(&mut resume, "a", 40), Judged::AfterGap);
        assert_eq!(judge(&mut resume, "a", 41), Judged::New);
        assert_eq!(judge(&mut resume, "b", 30), Judged::Repeated);
        assert_eq!(judge(&mut resume, "b", 41), Judged::New);
    }

    #[test]
    fn a_node_that_relay_asks_again_repeats_its_flows_and_none_counts_twice() {
        let mut resume = resume();
        resume.begin();
        for seconds in 1..100 {
            judge(&mut resume, "a", seconds);
        }
        // Before Relay says that it lost the node: it tells late.
        resume.alive(START + 101 * S);
        for seconds in 1..100 {
            assert_eq!(judge(&mut resume, "a", seconds), Judged::Repeated);
        }
        resume.node_breaks("a", START + 100 * S);
        assert_eq!(judge(&mut resume, "a", 120), Judged::New);
        // The node did not repeat anything since.
        resume.node_breaks("a", START + 130 * S);
        assert_eq!(judge(&mut resume, "a", 140), Judged::AfterGap);
    }

    #[test]
    fn what_no_longer_is_remembered_as_a_line_still_is_known_by_its_time() {
        let mut resume = resume();
        judge(&mut resume, "a", 1);
        for line in 0..limits::RELAY_RECENT_MAX {
            let time = START + 100 * S;
            resume.judge("a", time, &line.to_le_bytes());
        }
        assert_eq!(judge(&mut resume, "a", 1), Judged::Repeated);
        assert_eq!(resume.recent.known.len(), resume.recent.order.len());
        assert_eq!(resume.recent.order.len(), limits::RELAY_RECENT_MAX);
    }

    #[test]
    fn a_late_flow_is_new() {
        let mut resume = resume();
        judge(&mut resume, "a", 30);
        assert_eq!(judge(&mut resume, "a", 25), Judged::New);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_its_node_for_ever() {
        let mut resume = resume();
        judge(&mut resume, "a", 100_000);
        let mut judged = Judged::Repeated;
        for turn in 0..=limits::RELAY_REPEATED_MAX {
            judged = resume.judge("a", START + 10 * S, &turn.to_le_bytes());
        }
        assert_eq!(judged, Judged::New);
        assert_eq!(judge(&mut resume, "a", 11), Judged::New);
    }

    #[test]
    fn a_restart_takes_what_may_not_have_been_dealt_with_and_still_sees_a_gap() {
        let marks = || [("a".to_owned(), START + 9 * S)].into();
        let mut resume = Resume::new(START, marks());
        assert_eq!(resume.begin(), START);
        assert_eq!(judge(&mut resume, "a", 5), Judged::New);
        assert_eq!(judge(&mut resume, "a", 10), Judged::New);
        let mut resume = Resume::new(START, marks());
        resume.begin();
        assert_eq!(judge(&mut resume, "a", 10), Judged::AfterGap);
    }

    #[test]
    fn nodes_are_bounded() {
        let mut resume = resume();
        for node in 0..=limits::NODES_MAX {
            assert_eq!(judge(&mut resume, &node.to_string(), 1), Judged::New);
        }
        assert_eq!(resume.nodes.len(), limits::NODES_MAX);
    }
}
