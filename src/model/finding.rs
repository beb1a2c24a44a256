//! Findings: a detector's judgement with its evidence.
//!
//! Detectors make them, the incident writer stores them, `replay` prints them. A finding decides
//! nothing: what is done about it is `respond`'s matter.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BoundedText, EventTime, Outcome, Subject, Transport};

/// What a detector recognised. Closed set: names go into Incidents, metrics and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signature {
    /// One port on many hosts.
    HorizontalScan,
    /// Many ports on one host.
    VerticalScan,
    /// Work for a mining pool.
    Mining,
    /// A session that the pod opened and that the far side uses like a client.
    ReverseTunnel,
    /// Data inside the names that are asked of one domain.
    DnsTunnel,
    /// A tunnel service of the user's list.
    TunnelService,
}

impl Signature {
    /// Every signature, in the order in which docs and status list them.
    pub const ALL: [Self; 6] = [
        Self::HorizontalScan,
        Self::VerticalScan,
        Self::Mining,
        Self::ReverseTunnel,
        Self::DnsTunnel,
        Self::TunnelService,
    ];

    /// The name in the API and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HorizontalScan => "HorizontalScan",
            Self::VerticalScan => "VerticalScan",
            Self::Mining => "Mining",
            Self::ReverseTunnel => "ReverseTunnel",
            Self::DnsTunnel => "DnsTunnel",
            Self::TunnelService => "TunnelService",
        }
    }

    /// The signature of this API name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|signature| signature.name() == name)
    }

    /// Technique identifiers: MITRE ATT&CK, then ATLAS where one is related.
    #[must_use]
    pub const fn techniques(self) -> &'static [&'static str] {
        match self {
            // Network Service Discovery.
            Self::HorizontalScan | Self::VerticalScan => &["T1046"],
            // Resource Hijacking: Compute Hijacking; ATLAS: Agentic Resource Consumption (related).
            Self::Mining => &["T1496.001", "AML.T0034.002"],
            // Protocol Tunneling.
            Self::ReverseTunnel => &["T1572"],
            // Protocol Tunneling; Application Layer Protocol: DNS.
            Self::DnsTunnel => &["T1572", "T1071.004"],
            // Protocol Tunneling; Proxy: External Proxy.
            Self::TunnelService => &["T1572", "T1090.002"],
        }
    }
}

/// How sure a finding is. The order matters: a stronger one replaces a weaker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Worth a human's look; nothing is done to the pod.
    Alert,
    /// Crossed the line that the false-quarantine budget draws.
    Quarantine,
}

impl Severity {
    /// The name in the API and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert => "Alert",
            Self::Quarantine => "Quarantine",
        }
    }
}

/// A judgement about one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Whom it is about.
    pub subject: Subject,
    /// What was recognised.
    pub signature: Signature,
    /// How sure it is.
    pub severity: Severity,
    /// What it rests on.
    pub evidence: Evidence,
}

/// What a finding rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Log-likelihood score in nats.
    pub score: f64,
    /// The line that the score had to cross, in nats.
    pub threshold: f64,
    /// First contact that counts towards it.
    pub first: EventTime,
    /// Last contact that counts towards it.
    pub last: EventTime,
    /// Distinct contacts that count towards it.
    pub contact_count: u64,
    /// What was seen, in at most two sentences for a person.
    pub summary: BoundedText,
    /// Examples, at most [`crate::limits::EXAMPLES_MAX`].
    pub examples: Vec<Example>,
    /// What speaks against it, one sentence each, at most [`crate::limits::AGAINST_MAX`].
    pub against: Vec<BoundedText>,
}

/// One contact as an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// When.
    pub time: EventTime,
    /// Target.
    pub destination: IpAddr,
    /// Target port.
    pub port: u16,
    /// Transport.
    pub transport: Transport,
    /// What became of it.
    pub outcome: Outcome,
    /// The target's name, where one is known.
    pub name: Option<BoundedText>,
}
