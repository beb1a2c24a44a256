//! The new value of a condition, as `status` and `containment` compute it. Pure.

use crate::api::Reason;

/// New status, reason and message of a condition. A status of `None` is `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConditionUpdate {
    pub(super) status: Option<bool>,
    pub(super) reason: Reason,
    pub(super) message: String,
}

pub(super) fn update(
    status: Option<bool>,
    reason: Reason,
    message: impl Into<String>,
) -> ConditionUpdate {
    ConditionUpdate {
        status,
        reason,
        message: message.into(),
    }
}
