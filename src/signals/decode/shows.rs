//! What each format can and cannot show, as data. The engine reads it to know what silence means,
//! and the page on limits is generated from it.

use super::Format;
use crate::model::Transport;

/// Whether a format shows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Every record that has it shows it.
    Always,
    /// Only under this condition.
    When(&'static str),
    /// Never, because of this.
    Never(&'static str),
}

impl Shown {
    /// Whether it can be shown at all.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        !matches!(self, Self::Never(_))
    }
}

/// What a format shows about contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shows {
    /// The first packet of a connection, when it is sent.
    pub attempts: Shown,
    /// Whether the target answered.
    pub answers: Shown,
    /// Bytes and packets, both ways.
    pub bytes: Shown,
    /// How long a connection lasted.
    pub durations: Shown,
    /// The names of targets: DNS queries, TLS server names.
    pub names: Shown,
    /// Packets that a policy dropped.
    pub drops: Shown,
    /// The pod, by name.
    pub pods: Shown,
    /// That the producer itself lost records.
    pub losses: Shown,
}

impl Shows {
    /// The names of the parts, in the order of [`Shows::parts`].
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

    /// The parts, in the order in which docs list them.
    #[must_use]
    pub const fn parts(self) -> [Shown; 8] {
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
    pub const fn shows(self) -> Shows {
        match self {
            Self::Hubble => HUBBLE,
            Self::Zeek => ZEEK,
            Self::Ulogd => ULOGD,
        }
    }

    /// Whether records of this format can show that a target answered over this transport.
    #[must_use]
    pub const fn shows_answers(self, transport: Transport) -> bool {
        // Zeek gives protocols that it does not know one state, whatever happened. Conntrack counts
        // their packets both ways, and Hubble marks replies.
        !matches!((self, transport), (Self::Zeek, Transport::Other(_)))
    }
}

const HUBBLE: Shows = Shows {
    attempts: Shown::Always,
    answers: Shown::When("is_reply is exported, and the node lost no events"),
    bytes: Shown::Never("the flow message has no such field; aggregates count flows"),
    durations: Shown::Never("records are packets, sampled every 5 s per connection by default"),
    names: Shown::When("a DNS (L7) rule applies to the pod"),
    drops: Shown::Always,
    pods: Shown::When("source.namespace and source.pod_name are not masked out"),
    losses: Shown::Always,
};

const ZEEK: Shows = Shows {
    attempts: Shown::Never("a connection is written when it ends"),
    answers: Shown::Always,
    bytes: Shown::Always,
    durations: Shown::Always,
    names: Shown::When("dns.log and ssl.log are read, and the traffic is not encrypted DNS"),
    drops: Shown::Never(
        "it sees the wire, and what is dropped before it looks unanswered or absent",
    ),
    pods: Shown::Never("it knows addresses only"),
    losses: Shown::Never("capture loss is in another log"),
};

const ULOGD: Shows = Shows {
    attempts: Shown::When("a rule sends new connections to NFLOG, or NFCT logs their begin"),
    answers: Shown::When("NFCT logs the end of connections and nf_conntrack_acct is 1"),
    bytes: Shown::When("NFCT logs the end of connections and nf_conntrack_acct is 1"),
    durations: Shown::When("nf_conntrack_timestamp is 1; the kernel's time-out is part of it"),
    names: Shown::Never("it logs addresses and ports"),
    drops: Shown::When("the rule that drops also logs, with a numeric label (action: blocked)"),
    pods: Shown::Never("it knows addresses only"),
    losses: Shown::Never("a full socket buffer loses events without a record"),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_every_format_is_named() {
        for format in Format::ALL {
            let parts = format.shows().parts();
            assert_eq!(parts.len(), Shows::PART_NAMES.len());
            for (name, shown) in Shows::PART_NAMES.iter().zip(parts) {
                if let Shown::When(text) | Shown::Never(text) = shown {
                    assert!(
                        !text.is_empty() && !text.ends_with('.'),
                        "{} {name}",
                        format.name()
                    );
                }
            }
            assert_eq!(
                format.shows().answers.is_possible(),
                format.shows_answers(Transport::Tcp),
                "{}",
                format.name()
            );
        }
    }
}
