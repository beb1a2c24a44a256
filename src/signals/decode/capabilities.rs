//! What each format can and cannot show, as data. The engine uses it to interpret missing records,
//! and the page docs/blind-spots.md is generated from it.

use super::Format;
use crate::model::{Flow, Signal, Signature, Transport, Volume};

/// Whether a format shows a part of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Every record of the relevant kind shows it.
    Always,
    /// Only if this condition holds.
    When(&'static str),
    /// Never, for this reason.
    Never(&'static str),
}

impl Capability {
    /// Whether it can be shown under some condition.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        !matches!(self, Self::Never(_))
    }
}

/// What a format shows about contacts, by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// The first packet of a connection, when it is sent.
    pub attempts: Capability,
    /// Whether the target answered.
    pub answers: Capability,
    /// Number of bytes and packets, in both directions.
    pub bytes: Capability,
    /// How long a connection lasted.
    pub durations: Capability,
    /// The names of targets: DNS queries, TLS server names.
    pub names: Capability,
    /// Packets dropped by a policy.
    pub drops: Capability,
    /// The pod, by name.
    pub pods: Capability,
    /// Records lost by the producer itself.
    pub losses: Capability,
}

impl SourceCapabilities {
    /// The names of the parts, in the order of [`SourceCapabilities::parts`].
    pub const PART_NAMES: [&'static str; 8] = [
        "attempts",
        "answers",
        "bytes",
        "durations",
        "names",
        "drops",
        "pods",
        "losses",
    ];

    /// The meanings of the parts, in the same order.
    pub const PART_MEANINGS: [&'static str; 8] = [
        "the first packet of a connection, when it is sent",
        "whether the target answered",
        "bytes and packets, both ways",
        "how long a connection lasted",
        "the names of targets: DNS queries, TLS server names",
        "packets that a policy dropped",
        "the pod, by name",
        "that the producer itself lost records",
    ];

    /// The parts, in the order of the docs.
    #[must_use]
    pub const fn parts(self) -> [Capability; 8] {
        [
            self.attempts,
            self.answers,
            self.bytes,
            self.durations,
            self.names,
            self.drops,
            self.pods,
            self.losses,
        ]
    }
}

impl Format {
    /// What this format shows.
    #[must_use]
    pub const fn capabilities(self) -> SourceCapabilities {
        match self {
            Self::Hubble => HUBBLE,
            Self::Zeek => ZEEK,
            Self::Ulogd => ULOGD,
            Self::Vpc => VPC,
            Self::Calico => CALICO,
            Self::Suricata => SURICATA,
        }
    }

    /// The parts that this format never shows, each with the reason.
    pub fn blind_spots(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let parts = SourceCapabilities::PART_NAMES
            .into_iter()
            .zip(self.capabilities().parts());
        parts.filter_map(|(name, shown)| match shown {
            Capability::Never(reason) => Some((name, reason)),
            Capability::Always | Capability::When(_) => None,
        })
    }

    /// The parts that a signature needs and that this format never shows.
    pub fn cannot_show(
        self,
        signature: Signature,
    ) -> impl Iterator<Item = (&'static str, &'static str)> {
        let required_parts = required_parts(signature);
        self.blind_spots()
            .filter(move |(name, _)| required_parts.iter().any(|part| part.name == *name))
    }

    /// Whether this record proves that the log shows, within seconds or in its next window, the packets of a
    /// connection that was opened before a deny and is still alive. Only then does the absence of records of a pod
    /// prove that none of its connections is alive. This is not assumed for any format: a Hubble exporter may
    /// write only drops, and a VPC log may lack the flags that distinguish an old connection from a new one.
    #[must_use]
    pub fn shows_survivors(self, signal: &Signal<'_>) -> bool {
        let Signal::Flow(flow) = signal else {
            return false;
        };
        let is_later = flow.forwarded && !flow.outcome.is_attempt();
        match self {
            // A packet with ACK that was forwarded and that the datapath does not treat as new; for ulogd, packets
            // that are only logged by the rule for established connections.
            Self::Hubble | Self::Ulogd => is_later && flow.volume.is_none(),
            // A later window of a connection: there is no SYN among its flags.
            Self::Vpc => is_later && flow.transport == Transport::Tcp,
            // A connection that neither started nor ended in the window.
            Self::Calico => {
                let spans = |volume: Volume| volume.duration_us > 0 && !volume.is_final;
                flow.forwarded && flow.volume.is_some_and(spans)
            }
            // These formats write a connection when it ends.
            Self::Zeek | Self::Suricata => false,
        }
    }

    /// Whether the time of a record is that of its start, so that it covers nothing earlier. Conntrack counts
    /// retransmissions of a denied flow, and where the kernel keeps no timestamps an event has the time of its
    /// line: such an event does not prove that a connection is alive.
    #[must_use]
    pub fn has_start_time(self, flow: &Flow<'_>) -> bool {
        let is_dated = |volume: Volume| volume.is_final && volume.duration_us > 0;
        self != Self::Ulogd || flow.volume.is_none_or(is_dated)
    }

    /// Whether records of this format can show that a target answered over this transport.
    #[must_use]
    pub const fn shows_answers(self, transport: Transport) -> bool {
        // For protocols that it does not know, Zeek has only one state, whatever happened. Conntrack counts
        // their packets in both directions, and Hubble marks replies.
        // VPC logs have no ICMP type, so a request and its answer look the same.
        !matches!(
            (self, transport),
            (Self::Zeek, Transport::Other(_)) | (Self::Vpc, Transport::Icmp | Transport::Other(_))
        )
    }
}

/// A part that a signature needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequiredPart {
    /// Its name, one of [`SourceCapabilities::PART_NAMES`].
    pub name: &'static str,
    /// What it is needed for.
    pub why: &'static str,
}

const fn part(name: &'static str, why: &'static str) -> RequiredPart {
    RequiredPart { name, why }
}

/// The parts that a signature needs, the most important one first.
#[must_use]
pub(super) const fn required_parts(signature: Signature) -> &'static [RequiredPart] {
    match signature {
        Signature::HorizontalScan | Signature::VerticalScan => &SCAN,
        Signature::Mining => &MINING,
        Signature::ReverseTunnel => &REVERSE_TUNNEL,
        Signature::DnsTunnel => &DNS_TUNNEL,
        Signature::TunnelService => &TUNNEL_SERVICE,
    }
}

const SCAN: [RequiredPart; 4] = [
    part(
        "answers",
        "a contact fails when it is refused or not answered",
    ),
    part("drops", "a contact that a policy stops has failed"),
    part("names", "a target that DNS named is no evidence"),
    part("losses", "where records are lost, silence is no failure"),
];

const MINING: [RequiredPart; 4] = [
    part("names", "the name of a pool is on the user's list"),
    part(
        "attempts",
        "a session with a listed address counts as soon as it begins",
    ),
    part("bytes", "sessions with a pool are thin and steady"),
    part("durations", "sessions with a pool are long"),
];

const REVERSE_TUNNEL: [RequiredPart; 3] = [
    part("durations", "a tunnel stays open for a long time"),
    part(
        "bytes",
        "the external side sends requests, and the pod sends more data in its responses",
    ),
    part("names", "a target without a known name is rare"),
];

const DNS_TUNNEL: [RequiredPart; 1] = [part(
    "names",
    "the names queried below one domain carry the data",
)];

const TUNNEL_SERVICE: [RequiredPart; 1] = [part(
    "names",
    "the name of a tunnel service is on the user's list",
)];

const HUBBLE: SourceCapabilities = SourceCapabilities {
    attempts: Capability::Always,
    answers: Capability::When("is_reply is exported, and the node lost no events"),
    bytes: Capability::Never("the flow message has no such field; aggregates count flows"),
    durations: Capability::Never(
        "records are packets, sampled every 5 s per connection by default",
    ),
    names: Capability::When("a DNS (L7) rule applies to the pod"),
    drops: Capability::Always,
    pods: Capability::When("source.namespace and source.pod_name are not masked out"),
    losses: Capability::Always,
};

const ZEEK: SourceCapabilities = SourceCapabilities {
    attempts: Capability::Never("a connection is written when it ends"),
    answers: Capability::Always,
    bytes: Capability::Always,
    durations: Capability::Always,
    names: Capability::When("dns.log and ssl.log are read, and the traffic is not encrypted DNS"),
    drops: Capability::Never(
        "it sees the wire, and what is dropped before it looks unanswered or absent",
    ),
    pods: Capability::Never("it knows addresses only"),
    losses: Capability::Never("capture loss is in another log"),
};

const ULOGD: SourceCapabilities = SourceCapabilities {
    attempts: Capability::When("a rule sends new connections to NFLOG, or NFCT logs their begin"),
    answers: Capability::When("NFCT logs the end of connections and nf_conntrack_acct is 1"),
    bytes: Capability::When("NFCT logs the end of connections and nf_conntrack_acct is 1"),
    durations: Capability::When("nf_conntrack_timestamp is 1; the kernel's time-out is part of it"),
    names: Capability::Never("it logs addresses and ports"),
    drops: Capability::When(
        "an NFLOG rule precedes the policies and NFCT logs begins, or the rule that drops \
         logs with a numeric label (action: blocked)",
    ),
    pods: Capability::Never("it knows addresses only"),
    losses: Capability::Never("a full socket buffer loses events without a record"),
};

const VPC: SourceCapabilities = SourceCapabilities {
    attempts: Capability::When(
        "tcp-flags are in the log, or the ports distinguish client and server",
    ),
    answers: Capability::When(
        "the interface is the pod's; for TCP tcp-flags, packets and bytes are in the log, for UDP the \
         ports distinguish client and server; never for ICMP, because its type is not logged",
    ),
    bytes: Capability::When(
        "both records of a connection are in the log: each counts one direction",
    ),
    durations: Capability::When("the connection ends within its first window, of 1 or 10 minutes"),
    names: Capability::Never("it logs addresses and ports"),
    drops: Capability::When(
        "a security group or network ACL drops (REJECT), not a policy on the node",
    ),
    pods: Capability::Never("it knows addresses only, and behind the node's NAT only the node's"),
    losses: Capability::When("log-status is in the log; SKIPDATA does not include the number"),
};

const CALICO: SourceCapabilities = SourceCapabilities {
    attempts: Capability::When(
        "flows.log keeps both addresses: denied flows do, allowed ones with aggregation off; \
         Goldmane has no address at all",
    ),
    answers: Capability::When(
        "allowed flows are not aggregated; an answer may be in the next window",
    ),
    bytes: Capability::When("allowed flows are not aggregated"),
    durations: Capability::When("a connection lasts for a whole window, 300 s by default"),
    names: Capability::When("dest_domains is enabled, and the agent resolved the name through it"),
    drops: Capability::When("flows.log is read and not Goldmane"),
    pods: Capability::When("source_name is not aggregated"),
    losses: Capability::Never("the agent drops flows beyond its limits without a record"),
};

const SURICATA: SourceCapabilities = SourceCapabilities {
    attempts: Capability::Never("a flow is written when it ends or times out"),
    answers: Capability::Always,
    bytes: Capability::Always,
    durations: Capability::Always,
    names: Capability::When("dns, tls and quic are logged, and the traffic is not encrypted DNS"),
    drops: Capability::When("Suricata itself drops, inline (flow.action: drop)"),
    pods: Capability::Never("it knows addresses only"),
    losses: Capability::When("stats are logged; kernel drops alone count"),
};

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Decoder};
    use super::*;

    /// Whether a log with these lines is recognised as one that shows surviving connections.
    fn shows_survivors(format: Format, lines: &[&str]) -> bool {
        let mut decoder = Decoder::new(format);
        lines.iter().any(|line| {
            let shows = match decoder.decode(line.as_bytes()) {
                Decoded::Signal(signal) => format.shows_survivors(&signal),
                _ => false,
            };
            decoder.learn(line.as_bytes());
            shows
        })
    }

    #[test]
    fn a_hubble_log_is_recognised_to_show_survivors_by_a_later_packet_that_passed_and_by_nothing_else()
     {
        let line = |verdict: &str, flags: &str, rest: &str| {
            format!(
                r#"{{"flow":{{"time":"2026-02-24T08:43:39Z","verdict":"{verdict}","IP":{{"source":"10.0.1.5","destination":"203.0.113.7"}},"l4":{{"TCP":{{"source_port":40000,"destination_port":443,"flags":{{{flags}}}}}}},"traffic_direction":"EGRESS"{rest}}}}}"#
            )
        };
        let (syn, ack) = (r#""SYN":true"#, r#""ACK":true"#);
        let original = r#","is_reply":false"#;
        let denied =
            r#","drop_reason_desc":"POLICY_DENIED","event_type":{"type":1,"sub_type":133}"#;
        let shows = |line: String| shows_survivors(Format::Hubble, &[&line]);
        assert!(shows(line("FORWARDED", ack, original)));
        assert!(!shows(line("FORWARDED", syn, original)));
        assert!(!shows(line("FORWARDED", ack, "")), "the sender is unknown");
        assert!(!shows(line("DROPPED", syn, denied)));
        assert!(!shows(line("DROPPED", ack, &format!("{denied}{original}"))));
        // A probe with ACK that opens: a policy verdict is about first packets only.
        let verdict = format!(r#"{original},"event_type":{{"type":5}}"#);
        assert!(!shows(line("FORWARDED", ack, &verdict)));
        let new = format!(r#"{original},"trace_reason":"NEW""#);
        assert!(!shows(line("FORWARDED", ack, &new)));
    }

    #[test]
    fn a_vpc_log_is_recognised_to_show_survivors_by_a_window_without_a_syn() {
        let header = "srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status tcp-flags";
        let record = |action: &str, flags: u8| {
            format!(
                "10.0.1.5 198.51.100.7 41000 443 6 9 900 1700000000 1700000060 {action} OK {flags}"
            )
        };
        let shows = |record: &str| shows_survivors(Format::Vpc, &[header, record]);
        assert!(shows(&record("ACCEPT", 0)));
        assert!(!shows(&record("ACCEPT", 2)) && !shows(&record("ACCEPT", 3)));
        assert!(!shows(&record("REJECT", 0)));
        // Without flags an old connection looks like a new one.
        let default = "2 123456789010 eni-1 10.0.1.5 198.51.100.7 41000 443 6 9 900 1700000000 1700000060 ACCEPT OK";
        assert!(!shows_survivors(Format::Vpc, &[default]));
    }

    #[test]
    fn a_calico_log_is_recognised_to_show_survivors_by_a_connection_that_spans_a_window() {
        let record = |action: &str, started: u8, completed: u8| {
            format!(
                r#"{{"start_time":1659621542,"end_time":1659621842,"source_ip":"10.48.1.5","source_type":"wep","dest_ip":"10.48.1.6","dest_port":5050,"proto":"tcp","action":"{action}","reporter":"src","bytes_in":900,"bytes_out":540,"num_flows":1,"num_flows_started":{started},"num_flows_completed":{completed},"packets_in":9,"packets_out":9}}"#
            )
        };
        let shows = |record: String| shows_survivors(Format::Calico, &[&record]);
        assert!(shows(record("allow", 0, 0)));
        assert!(!shows(record("allow", 1, 0)) && !shows(record("allow", 0, 1)));
        assert!(!shows(record("deny", 0, 0)));
    }

    #[test]
    fn every_part_of_every_format_is_named() {
        for format in Format::ALL {
            let parts = format.capabilities().parts();
            assert_eq!(parts.len(), SourceCapabilities::PART_NAMES.len());
            for (name, shown) in SourceCapabilities::PART_NAMES.iter().zip(parts) {
                if let Capability::When(text) | Capability::Never(text) = shown {
                    assert!(
                        !text.is_empty() && !text.ends_with('.'),
                        "{} {name}",
                        format.name()
                    );
                }
            }
            assert_eq!(
                format.capabilities().answers.is_possible(),
                format.shows_answers(Transport::Tcp),
                "{}",
                format.name()
            );
        }
    }

    #[test]
    fn a_signature_needs_parts_that_exist() {
        for signature in Signature::ALL {
            for part in required_parts(signature) {
                assert!(
                    SourceCapabilities::PART_NAMES.contains(&part.name),
                    "{}",
                    part.name
                );
            }
        }
    }

    #[test]
    fn a_blind_spot_names_the_part_and_the_reason() {
        let of = |format: Format| {
            format
                .blind_spots()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Format::Hubble), ["bytes", "durations"]);
        assert_eq!(of(Format::Vpc), ["names", "pods"]);
        let mining: Vec<_> = Format::Vpc.cannot_show(Signature::Mining).collect();
        assert_eq!(mining, [("names", "it logs addresses and ports")]);
        assert_eq!(
            Format::Hubble
                .cannot_show(Signature::HorizontalScan)
                .count(),
            0
        );
    }
}
