//! What Cilium's drop reasons say about the target of a packet. Used by the Hubble decoder.

use crate::model::Outcome;

/// What the datapath did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Passed on.
    Forwarded,
    /// Dropped because a policy says so.
    Denied,
    /// Dropped because nothing is at that address: no route, no tunnel, no backend. Nobody will
    /// answer, and addresses that were never given to anything are where scans end up.
    Nowhere,
    /// Dropped because the source address is not the sender's.
    Forged,
    /// Dropped for a reason of the packet or of the node (full tables, rate limits, unknown
    /// protocols). That says nothing about the target and must not count against the sender.
    Discarded,
}

impl Fate {
    /// The outcome for a packet that opens.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Forwarded => Outcome::Pending,
            Self::Denied => Outcome::Denied,
            Self::Nowhere => Outcome::Unanswered,
            Self::Forged | Self::Discarded => Outcome::Unseen,
        }
    }
}

/// The reasons that mean more than `Discarded`: number, name in `drop_reason_desc`, fate.
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

/// The fate behind a `drop_reason_desc`.
pub(super) fn by_name(name: &str) -> Fate {
    let found = REASONS.iter().find(|(_, reason, _)| *reason == name);
    found.map_or(Fate::Discarded, |(_, _, fate)| *fate)
}

/// The fate behind a `drop_reason`.
pub(super) fn by_number(number: u64) -> Fate {
    let found = REASONS.iter().find(|(reason, _, _)| *reason == number);
    found.map_or(Fate::Discarded, |(_, _, fate)| *fate)
}

/// The name of a reason that means more than `Discarded`.
pub(in crate::signals::decode) fn name(number: u64) -> Option<&'static str> {
    let found = REASONS.iter().find(|(reason, _, _)| *reason == number);
    found.map(|(_, name, _)| *name)
}
