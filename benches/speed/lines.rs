//! Log lines of an honest cluster, made anew and alike on every run. Called by the bench; reads no
//! file, so that figures do not depend on what lies beside the repository.
//!
//! Field names, their order and the length of the lines follow real ones: 1.3-1.4 KiB for Hubble's
//! exporter without a field mask, 350 bytes for Zeek's conn log, 600-800 bytes for ulogd2. The
//! traffic is that of 200 pods that talk to a few dozen services each, again and again, with some
//! new targets, names, failures and drops between them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use yellowjack::testing::signals::decode::Format;

/// Pods that talk.
pub const POD_COUNT: u32 = 200;

/// Services that one pod knows.
const KNOWN_SERVICES: u64 = 30;

/// First second of the log.
pub const START_SECONDS: u64 = 1_790_000_000;

/// The generator that the lines come from (splitmix64): small, fast, and the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// The address of a pod.
pub fn pod_address(pod: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0af4_0000 + 256 * (pod / 100) + pod % 100 + 10)
}

/// What happens in one line.
struct Event {
    pod: u32,
    target: Ipv4Addr,
    port: u16,
    source_port: u16,
    micros: u64,
    uid: u64,
    /// 0..100: which kind of line.
    kind: u64,
}

/// One contact after the other, some 20 ms apart in all of the cluster.
struct Events {
    random: Random,
    micros: u64,
}

impl Events {
    fn next(&mut self) -> Event {
        let random = &mut self.random;
        self.micros += 10_000 + random.below(20_000);
        let pod = u32::try_from(random.below(POD_COUNT.into())).unwrap_or(0);
        // Low services are asked more often, as in real life. One contact in 50 is to a new one.
        let service = match random.below(50) {
            0 => 1_000 + random.below(100_000),
            _ => random
                .below(KNOWN_SERVICES)
                .min(random.below(KNOWN_SERVICES)),
        };
        let of_pod = Random::new(u64::from(pod) << 32 | service).next();
        let [a, b, c, d, ..] = of_pod.to_be_bytes();
        let target = if a < 64 {
            Ipv4Addr::new(10, 245, b, c | 1)
        } else {
            Ipv4Addr::new(40 + a % 100, b, c, d | 1)
        };
        let ports = [443, 443, 443, 80, 5432, 6379, 8080, 9092];
        let port = usize::try_from(of_pod >> 61).unwrap_or(0);
        Event {
            pod,
            target,
            port: ports.get(port).copied().unwrap_or(443),
            source_port: u16::try_from(32_768 + random.below(28_000)).unwrap_or(40_000),
            micros: self.micros,
            uid: random.next(),
            kind: random.below(100),
        }
    }
}

/// `count` lines of a format, each with its newline.
pub fn log(format: Format, count: usize) -> Vec<u8> {
    let mut events = Events {
        random: Random::new(0x7e11_04ac),
        micros: START_SECONDS * 1_000_000,
    };
    let mut text = String::new();
    for _ in 0..count {
        let event = events.next();
        #[allow(clippy::match_wildcard_for_single_variants)] // not every format is measured
        match format {
            Format::Hubble => hubble(&mut text, &event),
            Format::Zeek => zeek(&mut text, &event),
            _ => ulogd(&mut text, &event),
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Writing to a `String` cannot fail.
macro_rules! put {
    ($text:expr, $($part:tt)*) => {
        let _ = write!($text, $($part)*);
    };
}

fn rfc3339(micros: u64) -> String {
    let micros = i64::try_from(micros).unwrap_or_default();
    let time = yellowjack::testing::model::EventTime::from_micros(micros);
    time.to_timestamp()
        .map(|timestamp| format!("{timestamp:.9}"))
        .unwrap_or_default()
}

fn hubble(text: &mut String, event: &Event) {
    let time = rfc3339(event.micros);
    let (is_reply, is_ingress, is_drop) = match event.kind {
        0..35 => (true, false, false),
        35..45 => (false, true, false),
        45..47 => (false, false, true),
        _ => (false, false, false),
    };
    let pod = pod_address(event.pod).to_string();
    let (pod_port, target, target_port) = (event.source_port, event.target.to_string(), event.port);
    let (from, from_port, to, to_port) = if is_reply {
        (&target, target_port, &pod, pod_port)
    } else {
        (&pod, pod_port, &target, target_port)
    };
    let uid = event.uid;
    put!(
        text,
        r#"{{"flow":{{"time":"{time}","uuid":"{:08x}-8985-4710-b275-{:012x}","#,
        uid >> 32,
        uid & 0xffff_ffff_ffff
    );
    put!(
        text,
        r#""emitter":{{"name":"Hubble","version":"1.19.1+gd0d0c879"}},"#
    );
    if is_drop {
        text.push_str(r#""verdict":"DROPPED","drop_reason":133,"#);
    } else {
        text.push_str(r#""verdict":"FORWARDED","#);
    }
    put!(
        text,
        r#""ethernet":{{"source":"9a:4b:92:54:a9:{:02x}","destination":"72:59:04:fd:68:13"}},"#,
        uid & 0xff
    );
    put!(
        text,
        r#""IP":{{"source":"{from}","destination":"{to}","ipVersion":"IPv4"}},"#
    );
    let is_dns = (47..51).contains(&event.kind);
    if is_dns {
        put!(
            text,
            r#""l4":{{"UDP":{{"source_port":{from_port},"destination_port":53}}}},"#
        );
    } else {
        let flags = match (is_reply, event.kind % 3) {
            (true, 0) => r#""SYN":true,"ACK":true"#,
            (false, 0 | 1) => r#""SYN":true"#,
            _ => r#""PSH":true,"ACK":true"#,
        };
        put!(
            text,
            r#""l4":{{"TCP":{{"source_port":{from_port},"destination_port":{to_port},"flags":{{{flags}}}}}}},"#
        );
    }
    hubble_ends(text, event, is_reply);
    hubble_rest(text, event, is_reply, is_ingress, is_drop);
    if is_dns {
        put!(
            text,
            r#""l7":{{"type":"RESPONSE","latency_ns":"1203401","dns":{{"query":"service-{}.example.com.","ips":["{target}"],"ttl":60,"qtypes":["A"],"rrtypes":["A"]}}}},"#,
            uid & 0xff
        );
    }
    put!(
        text,
        r#""Summary":"TCP Flags: SYN"}},"node_name":"10.10.21.166","time":"{time}"}}"#
    );
}

fn hubble_ends(text: &mut String, event: &Event, is_reply: bool) {
    let pod = event.pod;
    let pod = format!(
        r#"{{"ID":{},"identity":20252,"cluster_name":"default","namespace":"agents-{}","labels":["k8s:app=agent","k8s:io.cilium.k8s.policy.cluster=default","k8s:io.cilium.k8s.policy.serviceaccount=agent-runner","k8s:io.kubernetes.pod.namespace=agents-{}"],"pod_name":"{}","workloads":[{{"name":"agent-{pod}","kind":"Job"}}]}}"#,
        3_000 + pod,
        pod % 20,
        pod % 20,
        pod_name(pod),
    );
    let other = r#"{"identity":16777217,"labels":["cidr:40.0.0.0/8","reserved:world"]}"#;
    if is_reply {
        put!(text, r#""source":{other},"destination":{pod},"#);
    } else {
        put!(text, r#""source":{pod},"destination":{other},"#);
    }
}

/// The name of a pod, as the index knows it too.
pub fn pod_name(pod: u32) -> String {
    format!("agent-{pod}-7788964bc-lsfw5")
}

fn hubble_rest(text: &mut String, event: &Event, is_reply: bool, is_ingress: bool, is_drop: bool) {
    put!(
        text,
        r#""Type":"L3_L4","node_name":"10.10.21.166","node_labels":["kubernetes.io/arch=amd64","kubernetes.io/hostname=10.10.21.166","kubernetes.io/os=linux","node.kubernetes.io/instance-type=S5.MEDIUM4","topology.kubernetes.io/region=eu-1","topology.kubernetes.io/zone=eu-1a"],"#
    );
    if is_drop {
        text.push_str(r#""event_type":{"type":1,"sub_type":133},"#);
    } else {
        if is_reply {
            text.push_str(r#""reply":true,"#);
        }
        let sub_type = if is_reply { "" } else { r#","sub_type":11"# };
        put!(text, r#""event_type":{{"type":4{sub_type}}},"#);
    }
    let direction = if is_ingress { "INGRESS" } else { "EGRESS" };
    put!(text, r#""traffic_direction":"{direction}","#);
    if is_drop {
        text.push_str(r#""drop_reason_desc":"POLICY_DENIED","#);
    } else {
        let (point, reason) = match (is_reply, event.kind % 3) {
            (true, _) => ("TO_ENDPOINT", "REPLY"),
            (false, 0 | 1) => ("TO_NETWORK", "NEW"),
            _ => ("TO_NETWORK", "ESTABLISHED"),
        };
        put!(
            text,
            r#""trace_observation_point":"{point}","trace_reason":"{reason}","is_reply":{is_reply},"interface":{{"index":6,"name":"eni07eaad73233"}},"#
        );
    }
}

fn zeek(text: &mut String, event: &Event) {
    let (state, history, packets_in, bytes_in) = match event.kind {
        0..2 => ("S0", "S", 0, 0),
        2..4 => ("REJ", "Sr", 1, 0),
        4..12 => ("RSTO", "ShADadR", 9, 1_200 + event.uid % 9_000),
        _ => ("SF", "ShADadFf", 12, 3_000 + event.uid % 90_000),
    };
    put!(
        text,
        r#"{{"ts":{}.{:06},"uid":"C{:017x}","id.orig_h":"{}","id.orig_p":{},"id.resp_h":"{}","id.resp_p":{},"proto":"tcp","service":"ssl","duration":{}.{:06},"orig_bytes":{},"resp_bytes":{bytes_in},"conn_state":"{state}","missed_bytes":0,"history":"{history}","orig_pkts":{},"orig_ip_bytes":{},"resp_pkts":{packets_in},"resp_ip_bytes":{}}}"#,
        event.micros / 1_000_000,
        event.micros % 1_000_000,
        event.uid,
        pod_address(event.pod),
        event.source_port,
        event.target,
        event.port,
        event.uid % 60,
        event.uid % 999_983,
        event.uid % 5_000,
        11 + event.uid % 10,
        900 + event.uid % 5_000,
        bytes_in + 40 * packets_in,
    );
}

fn ulogd(text: &mut String, event: &Event) {
    let (seconds, micros) = (event.micros / 1_000_000, event.micros % 1_000_000);
    let time = rfc3339(event.micros);
    let time = time.get(..19).unwrap_or_default();
    let (source, target) = (pod_address(event.pod), event.target);
    let (source_port, port, id) = (event.source_port, event.port, event.uid & 0xffff_ffff);
    if event.kind < 30 {
        put!(
            text,
            r#"{{"timestamp": "{time}.{micros:06}", "dvc": "Netfilter", "raw.pktlen": 60, "raw.pktcount": 1, "oob.prefix": "", "oob.time.sec": {seconds}, "oob.time.usec": {micros}, "oob.mark": 0, "oob.ifindex_in": 24, "oob.ifindex_out": 3, "oob.hook": 2, "raw.mac_len": 14, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 6, "ip.tos": 0, "ip.ttl": 63, "ip.totlen": 60, "ip.ihl": 5, "ip.csum": 18717, "ip.id": 48469, "ip.fragoff": 16384, "src_port": {source_port}, "dest_port": {port}, "tcp.seq": {id}, "tcp.ackseq": 0, "tcp.window": 64240, "tcp.offset": 0, "tcp.reserved": 0, "tcp.urg": 0, "tcp.ack": 0, "tcp.psh": 0, "tcp.rst": 0, "tcp.syn": 1, "tcp.fin": 0, "tcp.res1": 0, "tcp.res2": 0, "tcp.csum": 13688, "oob.in": "veth318439d9", "oob.out": "eth0", "src_ip": "{source}", "dest_ip": "{target}"}}"#
        );
        return;
    }
    let is_end = event.kind >= 65;
    let packets_in = if event.kind >= 98 { 0 } else { 12 };
    let (packets, bytes, event_number, span) = if is_end {
        ((14, packets_in), (2_048, packets_in * 700), 4, "end")
    } else {
        ((0, 0), (0, 0), 1, "start")
    };
    put!(
        text,
        r#"{{"timestamp": "{time}", "dvc": "Netfilter", "orig.ip.protocol": 6, "orig.l4.sport": {source_port}, "orig.l4.dport": {port}, "orig.raw.pktlen": {}, "orig.raw.pktcount": {}, "reply.ip.protocol": 6, "reply.l4.sport": {port}, "reply.l4.dport": {source_port}, "reply.raw.pktlen": {}, "reply.raw.pktcount": {}, "ct.mark": 0, "ct.id": {id}, "ct.event": {event_number}, "flow.{span}.sec": {seconds}, "flow.{span}.usec": {micros}, "oob.family": 2, "oob.protocol": 0, "src_ip": "{source}", "dest_ip": "{target}", "reply.ip.saddr.str": "{target}", "reply.ip.daddr.str": "{source}"}}"#,
        bytes.0,
        packets.0,
        bytes.1,
        packets.1,
    );
}
