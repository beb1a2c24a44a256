//! Resume: from which time flows are requested, and which of the received flows are repetitions.
//!
//! Relay has no offsets, only times, and each node has its own clock. So for each node the time of its last flow is
//! stored, and the recent flows are stored as hashes. The flows of a node are repeated when this source
//! reconnects, and also when Relay itself reconnects to the node: Relay repeats the request with the
//! original time. The requested time overlaps with what was received, which also reveals losses: a node that
//! does not repeat its last flow no longer has it, nor the flows that followed.
//!
//! No I/O and no clock: time is a parameter, in nanoseconds since the Unix epoch.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use crate::limits;

/// How late a flow of a node may arrive and still be treated as a new one.
const WINDOW_NS: i64 = limits::RELAY_OVERLAP_S * 1_000_000_000;

/// A node without flows for this long no longer determines the time from which flows are requested.
const SILENT_NS: i64 = limits::RELAY_NODE_SILENT_S * 1_000_000_000;

/// A node with a last flow this old is dropped at the next connection.
const FORGET_NS: i64 = 3600 * 1_000_000_000;

/// How a received flow relates to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowStatus {
    /// It was not received before.
    New,
    /// It was not received before, and flows of its node before it are missing.
    AfterGap,
    /// It was received before.
    Repeated,
}

/// The progress of all nodes.
#[derive(Debug)]
pub(super) struct Resume {
    /// Flows before this time are not requested.
    floor_ns: i64,
    /// When Relay last sent anything, by the local clock.
    last_message_ns: i64,
    requested_ns: i64,
    nodes: HashMap<String, NodeProgress>,
    recent: RecentLines,
}

#[derive(Clone, Copy, Debug)]
struct NodeProgress {
    last_ns: i64,
    /// The last flow must be repeated before a newer one arrives; otherwise flows are missing.
    is_repeat_expected: bool,
    /// Flows up to `last_ns` were sent to the consumer by this process.
    is_from_this_process: bool,
    /// Consecutive flows that were older than the window.
    older: usize,
    /// When a flow was last repeated, by the local clock.
    repeated_ns: i64,
}

impl NodeProgress {
    const fn new(last_ns: i64, is_from_this_process: bool) -> Self {
        Self {
            last_ns,
            is_repeat_expected: false,
            is_from_this_process,
            older: 0,
            repeated_ns: i64::MIN,
        }
    }
}

impl Resume {
    /// Starts at `floor_ns`. `progress` is that of an earlier process; its flows up to there may or
    /// may not have been processed.
    pub(super) fn new(floor_ns: i64, progress: BTreeMap<String, i64>) -> Self {
        let restored = |(node, last_ns)| (node, NodeProgress::new(last_ns, false));
        Self {
            floor_ns,
            last_message_ns: floor_ns,
            requested_ns: floor_ns,
            nodes: progress
                .into_iter()
                .take(limits::NODES_MAX)
                .map(restored)
                .collect(),
            recent: RecentLines::default(),
        }
    }

    /// The time from which flows are requested if the connection fails now.
    pub(super) fn since_ns(&self) -> i64 {
        let is_current = |progress: &&NodeProgress| {
            progress.is_from_this_process
                && progress.last_ns > self.last_message_ns.saturating_sub(SILENT_NS)
        };
        let oldest = self.nodes.values().filter(is_current);
        let oldest = oldest.map(|progress| progress.last_ns).min();
        // A node with a clock that is ahead must not advance the time for the others.
        let reached = oldest.map_or(self.last_message_ns, |oldest| {
            oldest.min(self.last_message_ns)
        });
        reached.saturating_sub(WINDOW_NS).max(self.floor_ns)
    }

    /// Starts a stream at [`Self::since_ns`], and returns that time.
    pub(super) fn start_stream(&mut self) -> i64 {
        let since_ns = self.since_ns();
        self.requested_ns = since_ns;
        let forget = self.last_message_ns.saturating_sub(FORGET_NS);
        self.nodes.retain(|_, progress| progress.last_ns >= forget);
        for progress in self.nodes.values_mut() {
            progress.is_repeat_expected = progress.last_ns >= since_ns;
        }
        since_ns
    }

    /// Records that Relay sent something.
    pub(super) fn record_activity(&mut self, now_ns: i64) {
        self.last_message_ns = self.last_message_ns.max(now_ns);
    }

    /// Skips everything between the last flow and now, because it cannot be read.
    pub(super) fn skip_to(&mut self, now_ns: i64) {
        self.floor_ns = self.floor_ns.max(now_ns);
        self.record_activity(now_ns);
    }

    /// Relay lost a node at this time, and requests its flows again from the time of our request. Relay reports
    /// this late: the node may have repeated its flows already.
    pub(super) fn node_disconnected(&mut self, node: &str, at_ns: i64) {
        let requested_ns = self.requested_ns;
        if let Some(progress) = self.nodes.get_mut(node) {
            progress.is_repeat_expected =
                progress.repeated_ns < at_ns && progress.last_ns >= requested_ns;
        }
    }

    /// Classifies a flow by its node, its time and its line.
    pub(super) fn classify(&mut self, node: &str, time_ns: i64, line: &[u8]) -> FlowStatus {
        let is_known = !self.recent.insert(line);
        let Some(progress) = self.nodes.get_mut(node) else {
            if self.nodes.len() < limits::NODES_MAX {
                self.nodes
                    .insert(node.to_owned(), NodeProgress::new(time_ns, true));
            }
            return if is_known {
                FlowStatus::Repeated
            } else {
                FlowStatus::New
            };
        };
        let was_repeat_expected = std::mem::replace(&mut progress.is_repeat_expected, false);
        if time_ns > progress.last_ns {
            progress.last_ns = time_ns;
            progress.is_from_this_process = true;
            progress.older = 0;
            return if was_repeat_expected {
                FlowStatus::AfterGap
            } else {
                FlowStatus::New
            };
        }
        if is_known {
            progress.repeated_ns = self.last_message_ns;
            return FlowStatus::Repeated;
        }
        if !progress.is_from_this_process || time_ns >= progress.last_ns.saturating_sub(WINDOW_NS) {
            return FlowStatus::New;
        }
        progress.older += 1;
        if progress.older <= limits::RELAY_REPEATED_MAX {
            progress.repeated_ns = self.last_message_ns;
            return FlowStatus::Repeated;
        }
        // No buffer is that large, so the node's clock was set back.
        progress.older = 0;
        progress.last_ns = time_ns;
        FlowStatus::New
    }

    /// The time of the last flow of each node, for the checkpoint.
    pub(super) fn progress(&self) -> BTreeMap<String, i64> {
        let progress = self.nodes.iter();
        progress
            .map(|(node, progress)| (node.clone(), progress.last_ns))
            .collect()
    }
}

/// The lines of the last flows, as hashes with a secret key.
#[derive(Debug, Default)]
struct RecentLines {
    hasher: foldhash::fast::RandomState,
    known: HashSet<u64, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
}

impl RecentLines {
    /// Stores the line. Returns whether it is new.
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

    /// Classifies a flow of `node`, `seconds` after the start, and advances the clock.
    fn classify(resume: &mut Resume, node: &str, seconds: i64) -> FlowStatus {
        let time = START + seconds * S;
        resume.record_activity(time);
        resume.classify(node, time, format!("{node} {seconds}").as_bytes())
    }

    #[test]
    fn the_first_request_is_for_what_comes_from_now_on() {
        assert_eq!(resume().start_stream(), START);
    }

    #[test]
    fn after_an_interruption_the_last_flows_are_requested_again_and_processed_once() {
        let mut resume = resume();
        for seconds in 1..60 {
            assert_eq!(classify(&mut resume, "a", seconds), FlowStatus::New);
        }
        assert_eq!(resume.start_stream(), START + 49 * S);
        for seconds in 49..60 {
            assert_eq!(classify(&mut resume, "a", seconds), FlowStatus::Repeated);
        }
        assert_eq!(classify(&mut resume, "a", 60), FlowStatus::New);
    }

    #[test]
    fn a_node_that_lags_determines_the_start_and_one_that_is_silent_or_ahead_does_not() {
        let mut resume = resume();
        classify(&mut resume, "silent", 1);
        classify(&mut resume, "lags", 400);
        classify(&mut resume, "a", 420);
        let ahead = START + 100_000 * S;
        resume.classify("ahead", ahead, b"ahead");
        assert_eq!(resume.since_ns(), START + 390 * S);
    }

    #[test]
    fn a_node_that_no_longer_has_its_last_flow_has_lost_some() {
        let mut resume = resume();
        classify(&mut resume, "a", 30);
        classify(&mut resume, "b", 30);
        resume.start_stream();
        assert_eq!(classify(&mut resume, "a", 40), FlowStatus::AfterGap);
        assert_eq!(classify(&mut resume, "a", 41), FlowStatus::New);
        assert_eq!(classify(&mut resume, "b", 30), FlowStatus::Repeated);
        assert_eq!(classify(&mut resume, "b", 41), FlowStatus::New);
    }

    #[test]
    fn a_node_to_which_relay_reconnects_repeats_its_flows_and_none_counts_twice() {
        let mut resume = resume();
        resume.start_stream();
        for seconds in 1..100 {
            classify(&mut resume, "a", seconds);
        }
        // Before Relay reports that it lost the node, which it does late.
        resume.record_activity(START + 101 * S);
        for seconds in 1..100 {
            assert_eq!(classify(&mut resume, "a", seconds), FlowStatus::Repeated);
        }
        resume.node_disconnected("a", START + 100 * S);
        assert_eq!(classify(&mut resume, "a", 120), FlowStatus::New);
        // The node did not repeat anything since.
        resume.node_disconnected("a", START + 130 * S);
        assert_eq!(classify(&mut resume, "a", 140), FlowStatus::AfterGap);
    }

    #[test]
    fn a_line_that_is_no_longer_stored_is_still_recognised_by_its_time() {
        let mut resume = resume();
        classify(&mut resume, "a", 1);
        for line in 0..limits::RELAY_RECENT_MAX {
            let time = START + 100 * S;
            resume.classify("a", time, &line.to_le_bytes());
        }
        assert_eq!(classify(&mut resume, "a", 1), FlowStatus::Repeated);
        assert_eq!(resume.recent.known.len(), resume.recent.order.len());
        assert_eq!(resume.recent.order.len(), limits::RELAY_RECENT_MAX);
    }

    #[test]
    fn a_late_flow_is_new() {
        let mut resume = resume();
        classify(&mut resume, "a", 30);
        assert_eq!(classify(&mut resume, "a", 25), FlowStatus::New);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_hide_the_flows_of_its_node_forever() {
        let mut resume = resume();
        classify(&mut resume, "a", 100_000);
        let mut status = FlowStatus::Repeated;
        for turn in 0..=limits::RELAY_REPEATED_MAX {
            status = resume.classify("a", START + 10 * S, &turn.to_le_bytes());
        }
        assert_eq!(status, FlowStatus::New);
        assert_eq!(classify(&mut resume, "a", 11), FlowStatus::New);
    }

    #[test]
    fn a_restart_reads_flows_that_may_not_have_been_processed_and_still_detects_a_gap() {
        let progress = || [("a".to_owned(), START + 9 * S)].into();
        let mut resume = Resume::new(START, progress());
        assert_eq!(resume.start_stream(), START);
        assert_eq!(classify(&mut resume, "a", 5), FlowStatus::New);
        assert_eq!(classify(&mut resume, "a", 10), FlowStatus::New);
        let mut resume = Resume::new(START, progress());
        resume.start_stream();
        assert_eq!(classify(&mut resume, "a", 10), FlowStatus::AfterGap);
    }

    #[test]
    fn nodes_are_bounded() {
        let mut resume = resume();
        for node in 0..=limits::NODES_MAX {
            assert_eq!(classify(&mut resume, &node.to_string(), 1), FlowStatus::New);
        }
        assert_eq!(resume.nodes.len(), limits::NODES_MAX);
    }
}
