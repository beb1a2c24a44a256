//! The new value of one condition, as `status` and `containment` compute it. Pure.

use crate::api::Reason;

/// What one condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) status: Option<bool>,
    pub(super) reason: Reason,
    pub(super) message: String,
}

pub(super) fn say(status: Option<bool>, reason: Reason, message: impl Into<String>) -> Said {
    Said {
        status,
        reason,
        message: message.into(),
    }
}
