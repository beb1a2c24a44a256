//! Nodes that share accelerators between pods.
//!
//! Set by the component that watches Node objects: the controller for all nodes, an agent for its own node. Queried by
//! the pipeline for accelerator samples: on such a node the figures of a device belong to no single pod.

use super::Index;
use crate::limits;

impl Index {
    /// Replaces the set of nodes that declare shared accelerators.
    pub fn set_nodes_sharing_devices(&mut self, nodes: impl Iterator<Item = Box<str>>) {
        self.sharing_nodes = nodes.take(limits::NODES_MAX).collect();
    }

    /// Whether this node declares shared accelerators.
    #[must_use]
    pub fn shares_devices(&self, node: &str) -> bool {
        self.sharing_nodes.contains(node)
    }
}
