//! Nodes that give their accelerators to several pods.
//!
//! Told by whoever reads Node objects: the controller for all nodes, an agent for its own. Asked by the
//! pipeline for samples of accelerators: on such a node a device's figures are about no pod in particular.

use super::Index;
use crate::limits;

impl Index {
    /// Takes in which nodes declare shared accelerators, all of them.
    pub fn set_nodes_sharing_devices(&mut self, nodes: impl Iterator<Item = Box<str>>) {
        self.sharing_nodes = nodes.take(limits::NODES_MAX).collect();
    }

    /// Whether this node does.
    #[must_use]
    pub fn shares_devices(&self, node: &str) -> bool {
        self.sharing_nodes.contains(node)
    }
}
