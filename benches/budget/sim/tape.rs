//! The tape: what a pod does, written down as the log of its node would show it.
//!
//! Profiles say "contact this target, it will refuse"; the tape turns that into the records of one
//! kind of log: a finished connection (Zeek), packets (Hubble), conntrack events (ulogd). It also
//! lays outages over everything, so that a profile need not know of them. Times are microseconds
//! since the start of the simulated day.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use yellowjack::testing::model::{
    DnsQuery, EventTime, Flow, Outcome, Signal, TlsName, Transport, Volume,
};
use yellowjack::testing::signals::decode::PodSample;

use super::random::Random;

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// When the simulated day begins: some day in 2025.
const START_S: i64 = 1_750_000_000;

pub const CLUSTER_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
pub const API_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));

/// The event time of a moment of the simulation.
pub const fn event_time(at: i64) -> EventTime {
    EventTime::from_seconds(START_S, 0).plus_micros(at)
}

/// What reaches the operator, and when.
#[derive(Clone, Debug)]
pub struct Event {
    pub arrival: i64,
    /// Number of the pod within its cluster.
    pub pod: usize,
    pub word: Word,
}

impl Event {
    /// Whether it is a record of the log.
    pub fn is_record(&self) -> bool {
        matches!(self.word, Word::Signal(_))
    }
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // nearly all are signals
pub enum Word {
    /// The pod has its address, from this time on.
    Started(i64),
    /// The pod is gone.
    Ended,
    /// A pod of somebody else has this address.
    Came(IpAddr),
    /// That pod is gone.
    Left(IpAddr),
    /// A record of the log.
    Signal(Signal<'static>),
    /// A sample of node metrics about the pod.
    Sample(Box<PodSample>),
    /// The producer of the log on the pod's node lost records.
    Lost(u64),
    /// A contact of the attacker: not in the log, counted by the judge.
    Attack,
}

/// Which kind of log a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// One record per connection, when it ends, with volumes.
    Zeek,
    /// Packets with their verdicts; no volumes, silence shows as no reply.
    Hubble,
    /// Start and end of conntrack entries; an unanswered one ends after its time-out.
    Conntrack,
}

impl Log {
    pub const ALL: [Self; 3] = [Self::Zeek, Self::Hubble, Self::Conntrack];

    /// When the log has told what became of a short contact; 10 s of silence count as told.
    pub const fn told_after(self, fate: Fate) -> i64 {
        match (self, fate) {
            (Self::Zeek, Fate::Answers) => 3 * SECOND,
            (Self::Zeek, Fate::Silent | Fate::Denied) => 5 * SECOND,
            (Self::Conntrack, Fate::Refuses) | (_, Fate::Silent) => 10 * SECOND,
            _ => 0,
        }
    }
}

/// What the log shows of what became of contacts. Real logs of each kind are set up so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answers {
    /// Answers, refusals, silence and drops.
    Seen,
    /// Cilium without trace events: verdicts on first packets, and no answers.
    VerdictsOnly,
    /// An exporter whose allow list has drops only.
    DropsOnly,
    /// A tap or mirror that sees what pods send and nothing that comes back.
    OneSided,
}

impl Answers {
    /// Whether a log of this kind can be set up so.
    pub const fn are_possible_in(self, log: Log) -> bool {
        match self {
            Self::Seen => true,
            Self::VerdictsOnly | Self::DropsOnly => matches!(log, Log::Hubble),
            Self::OneSided => matches!(log, Log::Zeek),
        }
    }
}

/// What the log shows of a pod.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub log: Log,
    /// What it shows of what became of contacts.
    pub answers: Answers,
    /// Whether DNS answers are in the log at all.
    pub shows_dns: bool,
    /// Whether server names of TLS handshakes are.
    pub shows_tls: bool,
}

/// What becomes of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answers,
    Refuses,
    Silent,
    /// Dropped by a policy on the node: it never reaches the wire.
    Denied,
}

/// What an answered contact carries.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// A request and its answer.
    Request,
    /// Megabytes inwards.
    Transfer,
    /// A thin session that stands this long: a websocket, MCP, SSH, a queue.
    Session(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: IpAddr,
    pub transport: Transport,
    pub port: u16,
}

impl Target {
    pub const fn tcp(host: IpAddr, port: u16) -> Self {
        let transport = Transport::Tcp;
        Self {
            host,
            transport,
            port,
        }
    }

    pub const fn udp(host: IpAddr, port: u16) -> Self {
        let transport = Transport::Udp;
        Self {
            host,
            transport,
            port,
        }
    }
}

/// What an outage breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Queries time out.
    Dns,
    /// Nothing beyond the cluster answers.
    Egress,
    /// Nothing at all answers: the network plug-in restarts on a node.
    Everything,
}

#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub broken: Broken,
    pub from: i64,
    pub until: i64,
    /// The node that it hits; `None`: all of them.
    pub node: Option<usize>,
}

/// See the module.
#[derive(Debug)]
pub struct Tape {
    pub events: Vec<Event>,
    pub random: Random,
    pub view: View,
    pod: usize,
    address: IpAddr,
    outages: Vec<Outage>,
    source_port: u16,
}

impl Tape {
    /// A tape for a pod on a node, with the outages that hit that node.
    pub fn new(
        random: Random,
        view: View,
        pod: usize,
        address: IpAddr,
        outages: Vec<Outage>,
    ) -> Self {
        Self {
            events: Vec::new(),
            random,
            view,
            pod,
            address,
            outages,
            source_port: 32_768,
        }
    }

    /// A pod of somebody else has this address for a time; nobody gets it for a while after that.
    pub fn stay(&mut self, host: IpAddr, from: i64, until: i64) {
        self.push(from, Word::Came(host));
        self.push(until, Word::Left(host));
    }

    /// The pod itself is there for a time.
    pub fn live(&mut self, from: i64, until: i64) {
        self.push(from.saturating_sub(SECOND), Word::Started(from));
        self.push(until, Word::Ended);
    }

    fn push(&mut self, arrival: i64, word: Word) {
        let pod = self.pod;
        self.events.push(Event { arrival, pod, word });
    }

    /// Whether names resolve at this moment.
    pub fn has_dns(&self, at: i64) -> bool {
        !self
            .now(at)
            .any(|outage| matches!(outage.broken, Broken::Dns | Broken::Everything))
    }

    /// A name is asked for. Says whether an answer came.
    pub fn ask(&mut self, at: i64, name: &str, answers: &[IpAddr]) -> bool {
        if !self.has_dns(at) {
            // glibc waits 5 s and asks a second time.
            self.contact(
                at,
                Target::udp(CLUSTER_DNS, 53),
                Fate::Silent,
                Load::Request,
                None,
            );
            return false;
        }
        self.contact(
            at,
            Target::udp(CLUSTER_DNS, 53),
            Fate::Answers,
            Load::Request,
            None,
        );
        if self.view.shows_dns {
            // ndots:5 tries the search domains first; one of them here, all of them in a cluster.
            if self.random.chance(0.2) {
                self.query(
                    at,
                    format!("{name}.runs.svc.cluster.local"),
                    Vec::new(),
                    Some(true),
                );
            }
            let nonexistent = answers.is_empty().then_some(true);
            self.query(
                at.saturating_add(2_000),
                name.to_owned(),
                answers.to_vec(),
                nonexistent,
            );
        }
        !answers.is_empty()
    }

    fn query(&mut self, at: i64, name: String, answers: Vec<IpAddr>, nonexistent: Option<bool>) {
        let query = DnsQuery {
            time: event_time(at),
            source: self.address,
            query: Cow::Owned(name),
            answers,
            nonexistent,
        };
        self.write(at.saturating_add(1_000), Signal::Dns(query));
    }

    /// A contact; `name` is what the pod asked for before it. Says whether it was answered.
    pub fn contact(
        &mut self,
        at: i64,
        target: Target,
        fate: Fate,
        load: Load,
        name: Option<&str>,
    ) -> bool {
        let fate = self.under_outages(at, target, fate);
        self.source_port = self.source_port.checked_add(1).unwrap_or(32_768);
        match self.view.log {
            Log::Zeek => self.write_connection(at, target, fate, load, name),
            Log::Hubble => self.write_packets(at, target, fate, name),
            Log::Conntrack => self.write_entries(at, target, fate, load),
        }
        fate == Fate::Answers
    }

    pub fn write(&mut self, arrival: i64, signal: Signal<'static>) {
        self.push(arrival, Word::Signal(signal));
    }

    /// Marks a contact as the attacker's.
    pub fn mark(&mut self, at: i64) {
        self.push(at.saturating_sub(1), Word::Attack);
    }

    fn now(&self, at: i64) -> impl Iterator<Item = &Outage> {
        self.outages
            .iter()
            .filter(move |outage| (outage.from..outage.until).contains(&at))
    }

    fn under_outages(&self, at: i64, target: Target, fate: Fate) -> Fate {
        let inside = match target.host {
            IpAddr::V4(v4) => v4.is_private(),
            IpAddr::V6(v6) => v6.is_unique_local(),
        };
        let is_broken = self.now(at).any(|outage| match outage.broken {
            Broken::Dns => false,
            Broken::Egress => !inside,
            Broken::Everything => true,
        });
        if is_broken && fate == Fate::Answers {
            Fate::Silent
        } else {
            fate
        }
    }

    fn flow(&self, at: i64, target: Target, outcome: Outcome) -> Flow<'static> {
        Flow {
            time: event_time(at),
            source: self.address,
            source_port: self.source_port,
            destination: target.host,
            destination_port: target.port,
            transport: target.transport,
            outcome,
            forwarded: outcome != Outcome::Denied,
            volume: None,
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        }
    }

    /// Zeek gives up on an unanswered TCP connection after 5 s and writes it then. It reads the wire,
    /// which a packet that a policy denies on the node never reaches.
    fn write_connection(
        &mut self,
        at: i64,
        target: Target,
        fate: Fate,
        load: Load,
        name: Option<&str>,
    ) {
        let is_one_sided = self.view.answers == Answers::OneSided;
        let (outcome, lasts) = match fate {
            // It acknowledges and sends data: somebody answered, and the log did not see it.
            Fate::Answers if is_one_sided => (Outcome::Unseen, self.length(load)),
            Fate::Answers => (Outcome::Answered, self.length(load)),
            Fate::Refuses if is_one_sided => (Outcome::Unanswered, 5 * SECOND),
            Fate::Refuses => (Outcome::Refused, 2_000),
            Fate::Silent => (Outcome::Unanswered, 5 * SECOND),
            Fate::Denied => return,
        };
        let mut flow = self.flow(at, target, outcome);
        let mut volume = volume(load, lasts, fate);
        if is_one_sided {
            (volume.bytes_in, volume.packets_in) = (0, 0);
        }
        flow.volume = Some(volume);
        let is_tls = fate == Fate::Answers && target.port == 443 && self.view.shows_tls;
        if let Some(name) = name.filter(|_| is_tls) {
            let tls = TlsName {
                time: event_time(at),
                source: self.address,
                source_port: self.source_port,
                destination: target.host,
                destination_port: target.port,
                server_name: Cow::Owned(name.to_owned()),
            };
            self.write(at.saturating_add(50_000), Signal::Tls(tls));
        }
        self.write(at.saturating_add(lasts), Signal::Flow(flow));
    }

    /// Linux sends a SYN again after 1, 3 and 7 s; each is a record, and so is each drop.
    fn write_packets(&mut self, at: i64, target: Target, fate: Fate, name: Option<&str>) {
        if self.view.answers == Answers::DropsOnly && fate != Fate::Denied {
            return;
        }
        let name = name.filter(|_| self.view.shows_dns);
        let name = name.map(|name| Cow::Owned(name.to_owned()));
        let (first, again) = match fate {
            Fate::Denied => (Outcome::Denied, true),
            Fate::Silent => (Outcome::Pending, true),
            Fate::Answers | Fate::Refuses => (Outcome::Pending, false),
        };
        let waits: &[i64] = if again { &[0, 1, 3, 7] } else { &[0] };
        for wait in waits {
            let mut flow = self.flow(at.saturating_add(wait * SECOND), target, first);
            flow.destination_name.clone_from(&name);
            self.write(at.saturating_add(wait * SECOND), Signal::Flow(flow));
        }
        if self.view.answers == Answers::VerdictsOnly {
            return;
        }
        let answer = match fate {
            Fate::Answers => Outcome::Answered,
            Fate::Refuses => Outcome::Refused,
            Fate::Silent | Fate::Denied => return,
        };
        let later = at.saturating_add(self.random.between(200, 120_000));
        let mut flow = self.flow(later, target, answer);
        flow.destination_name = name;
        self.write(later, Signal::Flow(flow));
    }

    /// nf_conntrack_tcp_timeout_syn_sent is 120 s, the time-out of unreplied UDP 30 s.
    fn write_entries(&mut self, at: i64, target: Target, fate: Fate, load: Load) {
        let flow = self.flow(at, target, Outcome::Pending);
        self.write(at, Signal::Flow(flow));
        let silence = if target.transport == Transport::Udp {
            30
        } else {
            120
        };
        let (outcome, lasts) = match fate {
            Fate::Answers => (Outcome::Answered, self.length(load)),
            Fate::Refuses => (Outcome::Refused, 10 * SECOND),
            Fate::Silent => (Outcome::Unanswered, silence * SECOND),
            Fate::Denied => (Outcome::Denied, 1_000),
        };
        if fate == Fate::Answers {
            let flow = self.flow(at, target, outcome);
            self.write(at.saturating_add(100_000), Signal::Flow(flow));
        }
        let mut flow = self.flow(at, target, outcome);
        flow.volume = Some(volume(load, lasts, fate));
        self.write(at.saturating_add(lasts), Signal::Flow(flow));
    }

    fn length(&mut self, load: Load) -> i64 {
        match load {
            Load::Request => self.random.between(20_000, 3 * SECOND),
            Load::Transfer => self.random.between(SECOND, 60 * SECOND),
            Load::Session(length) => length,
        }
    }
}

fn volume(load: Load, lasts: i64, fate: Fate) -> Volume {
    let duration_us = lasts.unsigned_abs();
    let seconds = duration_us / 1_000_000;
    let (bytes_out, bytes_in, packets_out, packets_in) = match (fate, load) {
        (Fate::Answers, Load::Request) => (900, 14_000, 9, 14),
        (Fate::Answers, Load::Transfer) => (40_000, 80_000_000, 20_000, 60_000),
        // A message of some hundred bytes each way every 20 s.
        (Fate::Answers, Load::Session(_)) => (
            300 + seconds * 20,
            400 + seconds * 25,
            6 + seconds / 10,
            6 + seconds / 10,
        ),
        (Fate::Refuses, _) => (60, 40, 1, 1),
        (Fate::Silent | Fate::Denied, _) => (180, 0, 3, 0),
    };
    Volume {
        bytes_out,
        bytes_in,
        packets_out,
        packets_in,
        duration_us,
        is_final: true,
    }
}
