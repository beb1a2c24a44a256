//! What Cilium's drop reasons imply about the target of a packet. Used by the Hubble decoder.

use crate::model::Outcome;

/// How the datapath handled a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Forwarded.
    Forwarded,
    /// Dropped by a policy.
    Denied,
    /// Dropped because there is nothing at that address: no route, no tunnel, no backend. There will be no
    /// answer, and scans mostly reach addresses that were never assigned.
    Nowhere,
    /// Dropped because the source address does not belong to the sender.
    Forged,
    /// Dropped for a reason of the packet or of the node (full tables, rate limits, unknown
    /// protocols). It implies nothing about the target and must not count against the sender.
    Discarded,
}

impl Fate {
    /// The outcome for a packet that opens a connection.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Forwarded => Outcome::Pending,
            Self::Denied => Outcome::Denied,
            Self::Nowhere => Outcome::Unanswered,
            Self::Forged | Self::Discarded => Outcome::Unseen,
        }
    }
}

/// The reasons other than `Discarded`: number, name in `drop_reason_desc`, fate.
const REASONS: [(u64, &str, Fate); 12] = [
    (132, "INVALID_SOURCE_IP", Fate::Forged),
    (133, "POLICY_DENIED", Fate::Denied),
    (150, "UNKNOWN_L3_TARGET_ADDRESS", Fate::Nowhere),
    (151, "STALE_OR_UNROUTABLE_IP", Fate::Nowhere),
    (152, "NO_MATCHING_LOCAL_CONTAINER_FOUND", Fate::Nowhere),
    (158, "SERVICE_BACKEND_NOT_FOUND", Fate::Nowhere),
    (160, "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT", Fate::Nowhere),
    (164, "LOCAL_HOST_IS_UNREACHABLE", Fate::Nowhere),
    (169, "FIB_LOOKUP_FAILED", Fate::Nowhere),
    (177, "DENIED_BY_LB_SRC_RANGE_CHECK", Fate::Denied),
    (181, "POLICY_DENY", Fate::Denied),
    (189, "AUTH_REQUIRED", Fate::Denied),
];

/// The fate for a `drop_reason_desc`.
pub(super) fn by_name(name: &str) -> Fate {
    let found = REASONS.iter().find(|(_, reason, _)| *reason == name);
    found.map_or(Fate::Discarded, |(_, _, fate)| *fate)
}

/// The fate for a `drop_reason`.
pub(super) fn by_number(number: u64) -> Fate {
    let found = REASONS.iter().find(|(reason, _, _)| *reason == number);
    found.map_or(Fate::Discarded, |(_, _, fate)| *fate)
}

/// The name of a reason other than `Discarded`.
pub(in crate::signals::decode) fn name(number: u64) -> Option<&'static str> {
    let found = REASONS.iter().find(|(reason, _, _)| *reason == number);
    found.map(|(_, name, _)| *name)
}
