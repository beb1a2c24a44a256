//! Whether the cluster-wide standing deny is stored in the API server.
//!
//! The controller sets it after it read the ClusterNetworkPolicy back; the responder relies on the policy
//! only while it is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The standing ClusterNetworkPolicy as last observed. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterDeny(Arc<AtomicBool>);

impl ClusterDeny {
    /// Sets what was observed.
    pub(crate) fn observed(&self, is_stored: bool) {
        self.0.store(is_stored, Ordering::Relaxed);
    }

    /// Whether it was stored when it was last read.
    #[must_use]
    pub(crate) fn is_stored(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
