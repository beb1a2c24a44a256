//! Whether the cluster-wide standing deny was seen to be stored.
//!
//! The controller sets it after it read the ClusterNetworkPolicy back; the responder counts on it
//! only while it is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The standing ClusterNetworkPolicy, as last observed. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct ClusterDeny(Arc<AtomicBool>);

impl ClusterDeny {
    /// Notes what was observed.
    pub fn observed(&self, is_stored: bool) {
        self.0.store(is_stored, Ordering::Relaxed);
    }

    /// Whether it stood when it was last looked at.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
