//! Whether the cluster-wide standing denies are stored in the API server.
//!
//! The controller sets it after it read the policies back; the responder relies on a policy only while it is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The cluster-wide standing denies as last observed. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterDeny(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cluster_network_policy: AtomicBool,
    cilium: AtomicBool,
}

/// Which cluster-wide standing denies are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredDenies {
    /// The ClusterNetworkPolicy.
    pub cluster_network_policy: bool,
    /// The CiliumClusterwideNetworkPolicy.
    pub cilium: bool,
}

impl ClusterDeny {
    /// Sets what was observed.
    pub(crate) fn observed(&self, stored: StoredDenies) {
        let state = &self.0;
        state
            .cluster_network_policy
            .store(stored.cluster_network_policy, Ordering::Relaxed);
        state.cilium.store(stored.cilium, Ordering::Relaxed);
    }

    /// What was stored when it was last read.
    #[must_use]
    pub(crate) fn stored(&self) -> StoredDenies {
        StoredDenies {
            cluster_network_policy: self.0.cluster_network_policy.load(Ordering::Relaxed),
            cilium: self.0.cilium.load(Ordering::Relaxed),
        }
    }

    /// Whether the ClusterNetworkPolicy was stored when it was last read.
    #[must_use]
    pub(crate) fn is_stored(&self) -> bool {
        self.stored().cluster_network_policy
    }

    /// Whether the CiliumClusterwideNetworkPolicy was stored when it was last read.
    #[must_use]
    pub(crate) fn is_stored_for_cilium(&self) -> bool {
        self.stored().cilium
    }
}
