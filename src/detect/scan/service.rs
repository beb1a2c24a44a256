//! A service: one port over one transport in one scope.
//!
//! The key of horizontal walks, in the walks of pods and of runs.

use serde::{Deserialize, Serialize};

use crate::detect::scope::Scope;
use crate::model::Transport;

/// The key of a horizontal walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) scope: Scope,
    pub(super) transport: Transport,
    pub(super) port: u16,
}

/// In place of a port: several ports at once.
pub(super) const MANY_PORTS: u16 = 0;
