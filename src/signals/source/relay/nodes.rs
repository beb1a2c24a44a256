//! Nodes that Relay cannot reach: the traffic of their pods is not visible.
//!
//! Updated by node events in the stream, by Relay's responses to status requests, and by flows, which
//! prove that a node is reachable. No I/O. Names are those of Relay (`cluster/node`), sanitised and truncated.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;
use crate::model::BoundedText;
use crate::signals::decode::relay::{NodeStatusEvent, ServerStatusResponse, node_state};

/// The unreachable nodes, with the time at which each was last reported.
#[derive(Debug, Default)]
pub(super) struct UnreachableNodes {
    unreachable: BTreeMap<BoundedText, Instant>,
    has_changed: bool,
}

impl UnreachableNodes {
    /// A new stream begins, in which Relay reports the unreachable nodes again.
    pub(super) fn clear(&mut self) {
        self.has_changed |= !self.unreachable.is_empty();
        self.unreachable.clear();
    }

    /// Applies a node event of the stream. Returns whether a node became unreachable.
    pub(super) fn apply_event(&mut self, event: &NodeStatusEvent, now: Instant) -> bool {
        let mut is_new = false;
        for name in event.node_names.iter().take(limits::NODES_MAX) {
            match event.state_change {
                node_state::CONNECTED => self.mark_reachable(name),
                node_state::UNAVAILABLE | node_state::GONE | node_state::ERROR => {
                    is_new |= self.mark_unreachable(name, now);
                }
                _ => {}
            }
        }
        is_new
    }

    /// Records that a flow of this node was received.
    pub(super) fn mark_reachable(&mut self, node: &str) {
        if !self.unreachable.is_empty() {
            self.has_changed |= self.unreachable.remove(&BoundedText::new(node)).is_some();
        }
    }

    /// Applies Relay's response to a status request. It lists only the first unreachable nodes. If the list is
    /// complete, the other nodes are reachable again, except those that became unreachable within `interval`.
    pub(super) fn apply_status(
        &mut self,
        status: &ServerStatusResponse,
        interval: Duration,
        now: Instant,
    ) {
        let named = status.unavailable_nodes.iter().take(limits::NODES_MAX);
        for name in named.clone() {
            self.mark_unreachable(name, now);
        }
        let Some(count) = status.num_unavailable_nodes else {
            return; // not a Relay, or one that does not report the number
        };
        if usize::try_from(count).is_ok_and(|count| count <= status.unavailable_nodes.len()) {
            let before = self.unreachable.len();
            self.unreachable.retain(|_, since| now - *since < interval);
            self.has_changed |= self.unreachable.len() != before;
        }
    }

    /// The unreachable nodes, without the name of their cluster, if they have changed since the last call.
    pub(super) fn take_change(&mut self) -> Option<Vec<String>> {
        std::mem::take(&mut self.has_changed).then(|| {
            let names = self.unreachable.keys().map(|name| short(name.as_str()));
            names.map(str::to_owned).collect()
        })
    }

    fn mark_unreachable(&mut self, node: &str, now: Instant) -> bool {
        if self.unreachable.len() >= limits::NODES_MAX {
            return false;
        }
        let is_new = self
            .unreachable
            .insert(BoundedText::new(node), now)
            .is_none();
        self.has_changed |= is_new;
        is_new
    }
}

/// The name of the node in Kubernetes.
fn short(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, node)| node)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn event(state: i32, names: &[&str]) -> NodeStatusEvent {
        NodeStatusEvent {
            state_change: state,
            node_names: names.iter().map(|name| (*name).to_owned()).collect(),
            message: String::new(),
        }
    }

    #[test]
    fn a_node_is_unreachable_until_it_is_connected_or_sends_a_flow() {
        let (mut nodes, now) = (UnreachableNodes::default(), Instant::now());
        for state in [node_state::UNAVAILABLE, node_state::GONE, node_state::ERROR] {
            assert!(nodes.apply_event(&event(state, &["c/a", "c/b"]), now));
            assert!(!nodes.apply_event(&event(state, &["c/a"]), now));
            assert_eq!(nodes.take_change().unwrap(), ["a", "b"]);
            nodes.apply_event(&event(node_state::CONNECTED, &["c/a"]), now);
            assert_eq!(nodes.take_change().unwrap(), ["b"]);
            nodes.mark_reachable("c/b");
            assert_eq!(nodes.take_change().unwrap().len(), 0);
            assert_eq!(nodes.take_change(), None);
        }
    }

    #[test]
    fn a_complete_status_marks_the_other_nodes_reachable_again() {
        let (mut nodes, start) = (UnreachableNodes::default(), Instant::now());
        nodes.apply_event(&event(node_state::ERROR, &["c/a", "c/b"]), start);
        let mut status = ServerStatusResponse {
            num_unavailable_nodes: Some(2),
            unavailable_nodes: vec!["c/a".into()],
            ..ServerStatusResponse::default()
        };
        nodes.apply_status(&status, INTERVAL, start + INTERVAL);
        assert_eq!(nodes.take_change().unwrap(), ["a", "b"]);
        status.num_unavailable_nodes = Some(1);
        nodes.apply_status(&status, INTERVAL, start + INTERVAL);
        assert_eq!(nodes.take_change().unwrap(), ["a"]);
    }

    #[test]
    fn names_are_bounded_in_number_and_length_and_cleaned() {
        let (mut nodes, now) = (UnreachableNodes::default(), Instant::now());
        let long = "\u{1b}".repeat(1000);
        nodes.apply_event(&event(node_state::GONE, &[&long]), now);
        let names = nodes.take_change().unwrap();
        assert_eq!(names, ["?".repeat(limits::NAME_BYTES_MAX)]);
        let many: Vec<_> = (0..limits::NODES_MAX + 10).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        nodes.apply_event(&event(node_state::GONE, &many), now);
        nodes.apply_event(&event(node_state::GONE, &["more"]), now);
        assert_eq!(nodes.unreachable.len(), limits::NODES_MAX);
    }
}
