//! A generated egress log: what an attacker and an honest pod beside it do, in the lines of a format.
//!
//! Used by the tables of attacks. A log is built as a list of contacts and queries; `write` renders it as the lines that the
//! producer of a format would write. What a format cannot show (names in conntrack) is left out, as there.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

/// The pod of the attacker, over IPv4 and over IPv6.
pub const POD: &str = "10.244.1.7";
pub const POD_V6: &str = "fd00:10:244:1::7";
/// The honest pod beside it.
pub const HONEST: &str = "10.244.1.21";
const RESOLVER: &str = "10.96.0.10";

const START_S: i64 = 1_790_000_000;
const SECOND: i64 = 1_000_000;
/// Contacts of the honest pod in a log, and seconds between them: not so few that silence is no evidence.
const HONEST_COUNT: i64 = 200;
const HONEST_EVERY_S: std::ops::RangeInclusive<i64> = 5..=50;

/// Which program writes the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Packets, from Cilium. Shows DNS, no bytes.
    Hubble,
    /// Begin and end of connections, from ulogd2. Shows bytes, no DNS.
    Conntrack,
    /// Connections and DNS.
    Zeek,
    /// Connections per minute, with TCP flags. No DNS.
    Vpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// What becomes of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answers,
    Refuses,
    Silent,
    Denied,
}

/// An answered connection with its volume.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    pub seconds: f64,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub packets: u64,
}

const REQUEST: Volume = Volume {
    seconds: 0.5,
    bytes_out: 700,
    bytes_in: 9_000,
    packets: 16,
};

#[derive(Clone, Debug)]
struct Contact {
    at: i64,
    source: IpAddr,
    source_port: u16,
    host: IpAddr,
    port: u16,
    transport: Transport,
    fate: Fate,
    volume: Volume,
}

#[derive(Clone, Debug)]
struct Query {
    at: i64,
    source: IpAddr,
    name: String,
    answers: Vec<IpAddr>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Log {
    pub format: Format,
    /// Pods that do something, of which each must be found.
    pub attackers: Vec<IpAddr>,
    /// Whether they are pods of one run.
    pub is_run: bool,
    /// That of the next contacts.
    transport: Transport,
    contacts: Vec<Contact>,
    queries: Vec<Query>,
    samples: Vec<(i64, f64)>,
}

fn micros(seconds: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "some days in microseconds")]
    let micros = (seconds * 1e6) as i64;
    micros
}

fn time(at: i64) -> Timestamp {
    Timestamp::from_microsecond(START_S * SECOND + at).unwrap()
}

impl Log {
    /// An empty log with one attacker.
    pub fn of(format: Format) -> Self {
        Self {
            format,
            attackers: vec![POD.parse().unwrap()],
            is_run: false,
            transport: Transport::Tcp,
            contacts: Vec::new(),
            queries: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// The attacker has its address of IPv6.
    pub fn over_v6(mut self) -> Self {
        self.attackers = vec![POD_V6.parse().unwrap()];
        self
    }

    /// Contacts are over UDP from here on.
    pub fn over_udp(mut self) -> Self {
        self.transport = Transport::Udp;
        self
    }

    /// So many attackers, as pods of one run.
    pub fn with_run(mut self, pods: u8) -> Self {
        self.attackers = (0..pods)
            .map(|n| format!("10.244.2.{}", n + 1).parse().unwrap())
            .collect();
        self.is_run = true;
        self
    }

    /// A contact of the first attacker.
    pub fn contact(&mut self, at: f64, host: &str, port: u16, fate: Fate) {
        self.contact_by(0, at, host, port, fate);
    }

    /// A contact of the n-th attacker.
    pub fn contact_by(&mut self, attacker: usize, at: f64, host: &str, port: u16, fate: Fate) {
        self.push(self.attackers[attacker], at, host, port, fate, REQUEST);
    }

    /// An answered connection of the attacker.
    pub fn session(&mut self, at: f64, host: &str, port: u16, volume: Volume) {
        self.push(self.attackers[0], at, host, port, Fate::Answers, volume);
    }

    fn push(&mut self, source: IpAddr, at: f64, host: &str, port: u16, fate: Fate, volume: Volume) {
        let number = u16::try_from(self.contacts.len() % 28_000).unwrap();
        self.contacts.push(Contact {
            at: micros(at),
            source,
            source_port: 32_768 + number,
            host: host.parse().unwrap(),
            port,
            transport: self.transport,
            fate,
            volume,
        });
    }

    /// A query of the attacker; without addresses the name does not exist.
    pub fn query(&mut self, at: f64, name: &str, answers: &[&str]) {
        self.queries.push(Query {
            at: micros(at),
            source: self.attackers[0],
            name: name.to_owned(),
            answers: answers.iter().map(|ip| ip.parse().unwrap()).collect(),
        });
    }

    /// The use of processors by the attacker.
    pub fn sample(&mut self, at: f64, cpu: f64) {
        self.samples.push((micros(at), cpu));
    }

    fn end(&self) -> i64 {
        let contacts = self.contacts.iter().map(|contact| contact.at);
        let queries = self.queries.iter().map(|query| query.at);
        contacts.chain(queries).max().unwrap_or_default()
    }

    /// Writes the files of a capture into a folder.
    pub fn write(&self, folder: &Path) {
        let mut whole = self.clone();
        whole.add_honest_pod();
        let mut flows: Vec<(i64, String)> = Vec::new();
        for contact in &whole.contacts {
            match self.format {
                Format::Hubble => contact.hubble(&mut flows),
                Format::Conntrack => contact.conntrack(&mut flows),
                Format::Zeek => contact.zeek(&mut flows),
                Format::Vpc => contact.vpc(&mut flows),
            }
        }
        let mut names: Vec<(i64, String)> = Vec::new();
        for query in &whole.queries {
            match self.format {
                Format::Hubble => flows.push((query.at, query.hubble())),
                Format::Zeek => names.push((query.at, query.zeek())),
                Format::Conntrack | Format::Vpc => {}
            }
        }
        let name = match self.format {
            Format::Zeek => "conn.log",
            Format::Vpc => "vpc.log",
            _ => "egress.jsonl",
        };
        let head = if self.format == Format::Vpc {
            VPC_HEADER
        } else {
            ""
        };
        write(&folder.join(name), head, flows);
        if !names.is_empty() {
            write(&folder.join("dns.log"), "", names);
        }
        if !self.samples.is_empty() {
            let pod = self.attackers[0].to_string();
            let lines = self.samples.iter().map(|(at, cpu)| {
                let line = json!({ "time": time(*at).to_string(), "pod": pod, "cpu": cpu });
                (*at, line.to_string())
            });
            write(&folder.join("samples.jsonl"), "", lines.collect());
        }
    }

    /// Whether it has samples of node metrics.
    pub fn has_samples(&self) -> bool {
        !self.samples.is_empty()
    }

    /// Requests over TCP, and look-ups over UDP, until a while after the attack.
    fn add_honest_pod(&mut self) {
        let end = self.end() / SECOND + 180;
        let honest: IpAddr = HONEST.parse().unwrap();
        let every = (end / HONEST_COUNT).clamp(*HONEST_EVERY_S.start(), *HONEST_EVERY_S.end());
        for second in (-120..end).step_by(usize::try_from(every).unwrap()) {
            #[allow(clippy::cast_precision_loss, reason = "some days in seconds")]
            let at = second as f64;
            self.transport = Transport::Udp;
            self.push(honest, at, RESOLVER, 53, Fate::Answers, REQUEST);
            let host = format!("203.0.113.{}", second.rem_euclid(40) + 1);
            if matches!(self.format, Format::Hubble | Format::Zeek) {
                self.queries.push(Query {
                    at: micros(at),
                    source: honest,
                    name: format!("www{}.honest.example", second.rem_euclid(40)),
                    answers: vec![host.parse().unwrap()],
                });
            }
            self.transport = Transport::Tcp;
            self.push(honest, at + 0.1, &host, 443, Fate::Answers, REQUEST);
        }
    }
}

fn write(path: &Path, head: &str, mut lines: Vec<(i64, String)>) {
    lines.sort_by_key(|(at, _)| *at);
    let mut text = head.to_owned();
    for (_, line) in lines {
        let _ = writeln!(text, "{line}");
    }
    std::fs::write(path, text).unwrap();
}

impl Contact {
    fn end(&self) -> i64 {
        self.at + micros(self.volume.seconds)
    }

    fn hubble_line(&self, at: i64, is_reply: bool, flags: &Value) -> String {
        let (mut from, mut to) = ((self.source, self.source_port), (self.host, self.port));
        if is_reply {
            std::mem::swap(&mut from, &mut to);
        }
        let mut ports = json!({ "source_port": from.1, "destination_port": to.1 });
        let name = match self.transport {
            Transport::Tcp => {
                ports["flags"] = flags.clone();
                "TCP"
            }
            Transport::Udp => "UDP",
        };
        let mut flow = json!({
            "time": time(at).to_string(),
            "verdict": "FORWARDED",
            "IP": { "source": from.0, "destination": to.0, "ipVersion": if from.0.is_ipv4() { "IPv4" } else { "IPv6" } },
            "l4": { name: ports },
            "Type": "L3_L4",
            "node_name": "node-1",
            "traffic_direction": "EGRESS",
            "is_reply": is_reply,
            "event_type": { "type": 4, "sub_type": if is_reply { 0 } else { 3 } },
        });
        if self.fate == Fate::Denied {
            flow["verdict"] = json!("DROPPED");
            flow["drop_reason_desc"] = json!("POLICY_DENIED");
            flow["event_type"] = json!({ "type": 1, "sub_type": 133 });
        }
        json!({ "flow": flow, "node_name": "node-1", "time": time(at).to_string() }).to_string()
    }

    /// A SYN and its answer; a session shows a packet each 20 s.
    fn hubble(&self, lines: &mut Vec<(i64, String)>) {
        lines.push((
            self.at,
            self.hubble_line(self.at, false, &json!({ "SYN": true })),
        ));
        let later = self.at + 3_000;
        match self.fate {
            Fate::Answers => {
                let flags = json!({ "SYN": true, "ACK": true });
                lines.push((later, self.hubble_line(later, true, &flags)));
                let mut at = self.at + 20 * SECOND;
                while at < self.end() {
                    let flags = json!({ "PSH": true, "ACK": true });
                    lines.push((at, self.hubble_line(at, true, &flags)));
                    at += 20 * SECOND;
                }
            }
            Fate::Refuses if self.transport == Transport::Tcp => {
                let flags = json!({ "RST": true, "ACK": true });
                lines.push((later, self.hubble_line(later, true, &flags)));
            }
            // A refusal over UDP is a message of ICMP, which Hubble does not relate to the datagram.
            Fate::Refuses | Fate::Silent | Fate::Denied => {}
        }
    }

    fn conntrack(&self, lines: &mut Vec<(i64, String)>) {
        let family = if self.source.is_ipv4() { 2 } else { 10 };
        let line = |event: u8, out: (u64, u64), back: (u64, u64), end: i64| {
            json!({
                "timestamp": time(end).strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string(), "dvc": "Netfilter",
                "src_ip": self.source, "dest_ip": self.host,
                "orig.ip.protocol": self.transport.number(), "orig.l4.sport": self.source_port, "orig.l4.dport": self.port,
                "orig.raw.pktlen": out.1, "orig.raw.pktcount": out.0,
                "reply.ip.protocol": self.transport.number(), "reply.l4.sport": self.port, "reply.l4.dport": self.source_port,
                "reply.raw.pktlen": back.1, "reply.raw.pktcount": back.0, "ct.event": event,
                "flow.start.sec": START_S + self.at.div_euclid(SECOND), "flow.start.usec": self.at.rem_euclid(SECOND),
                "flow.end.sec": START_S + end.div_euclid(SECOND), "flow.end.usec": end.rem_euclid(SECOND),
                "oob.family": family,
            })
            .to_string()
        };
        lines.push((self.at, line(1, (0, 0), (0, 0), self.at)));
        let half = self.volume.packets / 2;
        let header = if self.source.is_ipv4() { 40 } else { 60 };
        let timeout = if self.transport == Transport::Tcp {
            120
        } else {
            30
        };
        let (out, back, end) = match self.fate {
            Fate::Answers => (
                (half, self.volume.bytes_out + half * header),
                (half, self.volume.bytes_in + half * header),
                self.end(),
            ),
            Fate::Refuses if self.transport == Transport::Tcp => {
                ((1, header + 20), (1, header), self.at + 2_000)
            }
            Fate::Refuses | Fate::Silent | Fate::Denied => {
                ((1, header + 20), (0, 0), self.at + timeout * SECOND)
            }
        };
        lines.push((end, line(4, out, back, end)));
    }

    fn zeek(&self, lines: &mut Vec<(i64, String)>) {
        if self.fate == Fate::Denied {
            return; // it never reaches the wire
        }
        let protocol = if self.transport == Transport::Tcp {
            "tcp"
        } else {
            "udp"
        };
        let mut line = json!({
            "ts": seconds(self.at), "id.orig_h": self.source, "id.orig_p": self.source_port,
            "id.resp_h": self.host, "id.resp_p": self.port, "proto": protocol,
        });
        let (fields, end) = match (self.fate, self.transport) {
            (Fate::Answers, transport) => {
                let history = if transport == Transport::Tcp {
                    "ShADadFf"
                } else {
                    "Dd"
                };
                let half = self.volume.packets / 2;
                (
                    json!({
                        "conn_state": "SF", "history": history, "duration": self.volume.seconds,
                        "orig_bytes": self.volume.bytes_out, "resp_bytes": self.volume.bytes_in,
                        "orig_pkts": half, "resp_pkts": half,
                    }),
                    self.end(),
                )
            }
            (Fate::Refuses, Transport::Tcp) => (
                json!({ "conn_state": "REJ", "history": "Sr", "orig_pkts": 1, "resp_pkts": 1 }),
                self.at + 2_000,
            ),
            (_, Transport::Tcp) => (
                json!({ "conn_state": "S0", "history": "S", "orig_pkts": 1, "resp_pkts": 0 }),
                self.at + 5 * SECOND,
            ),
            (_, Transport::Udp) => (
                json!({ "conn_state": "S0", "history": "D", "orig_pkts": 1, "resp_pkts": 0 }),
                self.at + 5 * SECOND,
            ),
        };
        let fields = fields.as_object().unwrap().clone();
        line.as_object_mut().unwrap().extend(fields);
        lines.push((end, line.to_string()));
    }

    fn vpc(&self, lines: &mut Vec<(i64, String)>) {
        let is_tcp = self.transport == Transport::Tcp;
        let half = self.volume.packets / 2;
        let (out, back) = (
            self.volume.bytes_out + 40 * half,
            self.volume.bytes_in + 40 * half,
        );
        match self.fate {
            Fate::Answers => {
                let (windows, half) = (self.window_count(), half / self.window_count());
                for window in 0..windows {
                    let at = self.at + i64::try_from(window).unwrap() * 60 * SECOND;
                    let flags = if window == 0 { (2, 18) } else { (0, 0) };
                    let (out, back) = (out / windows, back / windows);
                    let (sent, got) = ((half.max(1), out), (half.max(1), back));
                    lines.push((at, self.vpc_line(at, false, sent, "ACCEPT", flags.0)));
                    lines.push((at, self.vpc_line(at, true, got, "ACCEPT", flags.1)));
                }
            }
            Fate::Denied => {
                lines.push((self.at, self.vpc_line(self.at, false, (1, 60), "REJECT", 2)));
            }
            Fate::Refuses | Fate::Silent => {
                lines.push((self.at, self.vpc_line(self.at, false, (1, 60), "ACCEPT", 2)));
                if self.fate == Fate::Refuses && is_tcp {
                    lines.push((self.at, self.vpc_line(self.at, true, (1, 40), "ACCEPT", 4)));
                }
            }
        }
    }

    /// Windows of a minute that a connection lasts.
    fn window_count(&self) -> u64 {
        u64::try_from((self.end() - self.at) / (60 * SECOND))
            .unwrap()
            .max(1)
    }

    fn vpc_line(
        &self,
        at: i64,
        is_reply: bool,
        counts: (u64, u64),
        action: &str,
        flags: u8,
    ) -> String {
        let start = START_S + at.div_euclid(SECOND);
        let end = start + 59;
        let (mut from, mut to) = ((self.source, self.source_port), (self.host, self.port));
        let way = if is_reply { "ingress" } else { "egress" };
        if is_reply {
            std::mem::swap(&mut from, &mut to);
        }
        let is_tcp = self.transport == Transport::Tcp;
        format!(
            "5 123456789012 eni-0a1b2c {} {} {} {} {} {} {} {} {} {start} {end} {action} {} OK {way} 8",
            from.0,
            to.0,
            from.1,
            to.1,
            from.0,
            to.0,
            self.transport.number(),
            counts.0,
            counts.1,
            if is_tcp { flags } else { 0 },
        )
    }
}

const VPC_HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr protocol packets bytes start end action tcp-flags log-status flow-direction traffic-path\n";

#[allow(
    clippy::cast_precision_loss,
    reason = "Zeek writes times as such numbers"
)]
fn seconds(at: i64) -> f64 {
    (START_S * SECOND + at) as f64 / 1e6
}

impl Query {
    fn hubble(&self) -> String {
        let at = time(self.at).to_string();
        let rcode = if self.answers.is_empty() { 3 } else { 0 };
        json!({ "flow": {
            "time": at, "verdict": "FORWARDED",
            "IP": { "source": RESOLVER, "destination": self.source, "ipVersion": "IPv4" },
            "l4": { "UDP": { "source_port": 53, "destination_port": 40_000 } },
            "Type": "L7", "node_name": "node-1", "traffic_direction": "EGRESS", "is_reply": true,
            "event_type": { "type": 129 },
            "l7": { "type": "RESPONSE", "dns": { "query": format!("{}.", self.name), "ips": self.answers, "rcode": rcode } },
        }, "node_name": "node-1", "time": at })
        .to_string()
    }

    fn zeek(&self) -> String {
        let rcode = if self.answers.is_empty() {
            "NXDOMAIN"
        } else {
            "NOERROR"
        };
        json!({
            "ts": seconds(self.at), "id.orig_h": self.source, "id.orig_p": 33_333, "id.resp_h": RESOLVER, "id.resp_p": 53,
            "query": self.name, "qtype_name": "A", "rcode_name": rcode, "answers": self.answers,
        })
        .to_string()
    }
}
