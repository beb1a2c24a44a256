//! Nodes that Relay does not hear: their pods may do what they like, unseen.
//!
//! Fed by what the stream says of nodes, by what Relay answers when it is asked, and by flows, which
//! prove the opposite. No I/O; names are those of Relay (`cluster/node`), cleaned and cut.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;
use crate::model::BoundedText;
use crate::signals::decode::relay::{NodeStatusEvent, ServerStatusResponse, node_state};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    unseen: BTreeMap<BoundedText, Instant>,
    has_changed: bool,
}

impl Nodes {
    /// Relay is to say anew what it does not hear.
    pub(super) fn clear(&mut self) {
        self.has_changed |= !self.unseen.is_empty();
        self.unseen.clear();
    }

    /// The stream says something of nodes. Whether it is that one is no longer heard which was.
    pub(super) fn told(&mut self, event: &NodeStatusEvent, now: Instant) -> bool {
        let mut is_news = false;
        for name in event.node_names.iter().take(limits::NODES_MAX) {
            match event.state_change {
                node_state::CONNECTED => self.heard(name),
                node_state::UNAVAILABLE | node_state::GONE | node_state::ERROR => {
                    is_news |= self.lose(name, now);
                }
                _ => {}
            }
        }
        is_news
    }

    /// A flow of this node came.
    pub(super) fn heard(&mut self, node: &str) {
        if !self.unseen.is_empty() {
            self.has_changed |= self.unseen.remove(&BoundedText::new(node)).is_some();
        }
    }

    /// Relay's answer. It names only the first nodes that it does not hear; where it named all, the
    /// others are back, but for those that broke off since it was asked the last time.
    pub(super) fn answered(
        &mut self,
        status: &ServerStatusResponse,
        asked: Duration,
        now: Instant,
    ) {
        let named = status.unavailable_nodes.iter().take(limits::NODES_MAX);
        for name in named.clone() {
            self.lose(name, now);
        }
        let Some(count) = status.num_unavailable_nodes else {
            return; // not a relay, or one that does not say
        };
        if usize::try_from(count).is_ok_and(|count| count <= status.unavailable_nodes.len()) {
            let before = self.unseen.len();
            self.unseen.retain(|_, since| now - *since < asked);
            self.has_changed |= self.unseen.len() != before;
        }
    }

    /// The nodes without their cluster, where that changed since it was asked the last time.
    pub(super) fn take_change(&mut self) -> Option<Vec<String>> {
        std::mem::take(&mut self.has_changed).then(|| {
            let names = self.unseen.keys().map(|name| short(name.as_str()));
            names.map(str::to_owned).collect()
        })
    }

    fn lose(&mut self, node: &str, now: Instant) -> bool {
        if self.unseen.len() >= limits::NODES_MAX {
            return false;
        }
        let is_news = self.unseen.insert(BoundedText::new(node), now).is_none();
        self.has_changed |= is_news;
        is_news
    }
}

/// The name that Kubernetes has for the node.
fn short(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, node)| node)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Duration = Duration::from_secs(15);

    fn event(state: i32, names: &[&str]) -> NodeStatusEvent {
        NodeStatusEvent {
            state_change: state,
            node_names: names.iter().map(|name| (*name).to_owned()).collect(),
            message: String::new(),
        }
    }

    #[test]
    fn a_node_is_unseen_until_it_is_connected_or_heard() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        for state in [node_state::UNAVAILABLE, node_state::GONE, node_state::ERROR] {
            assert!(nodes.told(&event(state, &["c/a", "c/b"]), now));
            assert!(!nodes.told(&event(state, &["c/a"]), now));
            assert_eq!(nodes.take_change().unwrap(), ["a", "b"]);
            nodes.told(&event(node_state::CONNECTED, &["c/a"]), now);
            assert_eq!(nodes.take_change().unwrap(), ["b"]);
            nodes.heard("c/b");
            assert_eq!(nodes.take_change().unwrap().len(), 0);
            assert_eq!(nodes.take_change(), None);
        }
    }

    #[test]
    fn an_answer_that_names_all_says_that_the_others_are_back() {
        let (mut nodes, start) = (Nodes::default(), Instant::now());
        nodes.told(&event(node_state::ERROR, &["c/a", "c/b"]), start);
        let mut status = ServerStatusResponse {
            num_unavailable_nodes: Some(2),
            unavailable_nodes: vec!["c/a".into()],
            ..ServerStatusResponse::default()
        };
        nodes.answered(&status, ASKED, start + ASKED);
        assert_eq!(nodes.take_change().unwrap(), ["a", "b"]);
        status.num_unavailable_nodes = Some(1);
        nodes.answered(&status, ASKED, start + ASKED);
        assert_eq!(nodes.take_change().unwrap(), ["a"]);
    }

    #[test]
    fn names_are_bounded_in_number_and_length_and_cleaned() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        let long = "\u{1b}".repeat(1000);
        nodes.told(&event(node_state::GONE, &[&long]), now);
        let names = nodes.take_change().unwrap();
        assert_eq!(names, ["?".repeat(limits::NAME_BYTES_MAX)]);
        let many: Vec<_> = (0..limits::NODES_MAX + 10).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        nodes.told(&event(node_state::GONE, &many), now);
        nodes.told(&event(node_state::GONE, &["more"]), now);
        assert_eq!(nodes.unseen.len(), limits::NODES_MAX);
    }
}
