//! Findings: the result of a detector, with evidence.
//!
//! Detectors create them, the recorder stores them, `replay` prints them. `respond` decides about actions.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BoundedText, EventTime, Outcome, Subject, Transport};

/// The kind of activity that a detector recognizes. Closed set: the names are used in Incidents, metrics and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signature {
    /// One port on many hosts.
    HorizontalScan,
    /// Many ports on one host.
    VerticalScan,
    /// Mining of cryptocurrency.
    Mining,
    /// A session that the pod opened and in which the remote side behaves like a client.
    ReverseTunnel,
    /// Data inside the names that are looked up in one domain.
    DnsTunnel,
    /// A connection to a tunnel service on the user's list.
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

/// The severity of a finding, in ascending order: a higher one replaces a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// A human should check it. Nothing is done to the pod.
    Alert,
    /// The score crossed the threshold that follows from the budget for false quarantines.
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

/// The result of a detector about one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The pod and its run.
    pub subject: Subject,
    /// The kind of activity.
    pub signature: Signature,
    /// The severity.
    pub severity: Severity,
    /// The evidence.
    pub evidence: Evidence,
}

/// The evidence for a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Log-likelihood score in nats.
    pub score: f64,
    /// Threshold that the score crossed, in nats.
    pub threshold: f64,
    /// First contact that counts towards it.
    pub first: EventTime,
    /// Last contact that counts towards it.
    pub last: EventTime,
    /// Distinct contacts that count towards it.
    pub contact_count: u64,
    /// The observation, in at most two sentences.
    pub summary: BoundedText,
    /// Examples, at most [`crate::limits::EXAMPLES_MAX`].
    pub examples: Vec<Example>,
    /// Evidence against it, one sentence each, at most [`crate::limits::AGAINST_MAX`].
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
    /// The outcome.
    pub outcome: Outcome,
    /// The target's name, if it is known.
    pub name: Option<BoundedText>,
}
