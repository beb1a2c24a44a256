//! What our decoders are compared with: plain typed `serde_json` into structs of the same fields,
//! with text borrowed from the line. Called by the bench alone.
//!
//! The comparison leans towards serde: it takes kinds as given, so a number in quotes or a field of
//! another kind fails the line; it leaves addresses and times as text; it decides nothing.

use std::borrow::Cow;

use serde::Deserialize;

type Text<'a> = Option<Cow<'a, str>>;

macro_rules! shapes {
    ($($name:ident { $($field:ident: $kind:ty = $key:literal,)* })*) => {
        $(
            #[derive(Debug, Default, Deserialize)]
            #[serde(default, bound(deserialize = "'de: 'a"))]
            #[allow(dead_code)] // filled and dropped: the bench measures the filling
            pub struct $name<'a> {
                $(#[serde(rename = $key)] $field: $kind,)*
                #[serde(skip)]
                marker: std::marker::PhantomData<&'a ()>,
            }
        )*
    };
}

/// Text that serde borrows where it can; a plain `Option<Cow>` would always copy.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Borrowed<'a>(
    #[serde(borrow)]
    #[allow(dead_code)]
    Text<'a>,
);

shapes! {
    Hubble {
        flow: Option<Record<'a>> = "flow",
        time: Borrowed<'a> = "time",
    }
    Record {
        time: Borrowed<'a> = "time",
        verdict: Borrowed<'a> = "verdict",
        drop_reason: Option<u64> = "drop_reason",
        drop_reason_desc: Borrowed<'a> = "drop_reason_desc",
        ip: Option<Ip<'a>> = "IP",
        l4: Option<Layer4<'a>> = "l4",
        source: Option<Endpoint<'a>> = "source",
        destination: Option<Endpoint<'a>> = "destination",
        source_names: Vec<Borrowed<'a>> = "source_names",
        destination_names: Vec<Borrowed<'a>> = "destination_names",
        l7: Option<Layer7<'a>> = "l7",
        event_type: Option<EventType<'a>> = "event_type",
        traffic_direction: Borrowed<'a> = "traffic_direction",
        trace_observation_point: Borrowed<'a> = "trace_observation_point",
        trace_reason: Borrowed<'a> = "trace_reason",
        is_reply: Option<bool> = "is_reply",
        reply: Option<bool> = "reply",
    }
    Ip {
        source: Borrowed<'a> = "source",
        destination: Borrowed<'a> = "destination",
    }
    Layer4 {
        tcp: Option<Ports<'a>> = "TCP",
        udp: Option<Ports<'a>> = "UDP",
        sctp: Option<Ports<'a>> = "SCTP",
        icmp_v4: Option<Icmp<'a>> = "ICMPv4",
        icmp_v6: Option<Icmp<'a>> = "ICMPv6",
    }
    Ports {
        source_port: Option<u16> = "source_port",
        destination_port: Option<u16> = "destination_port",
        flags: Option<Flags<'a>> = "flags",
    }
    Flags {
        syn: bool = "SYN",
        ack: bool = "ACK",
        rst: bool = "RST",
        fin: bool = "FIN",
        psh: bool = "PSH",
    }
    Icmp {
        icmp_type: Option<u64> = "type",
    }
    Endpoint {
        namespace: Borrowed<'a> = "namespace",
        pod_name: Borrowed<'a> = "pod_name",
    }
    EventType {
        kind: Option<u64> = "type",
        sub_type: Option<u64> = "sub_type",
    }
    Layer7 {
        kind: Borrowed<'a> = "type",
        dns: Option<Dns<'a>> = "dns",
    }
    Dns {
        query: Borrowed<'a> = "query",
        ips: Vec<Borrowed<'a>> = "ips",
        rcode: Option<u64> = "rcode",
    }
    Zeek {
        path: Borrowed<'a> = "_path",
        ts: Option<f64> = "ts",
        orig_host: Borrowed<'a> = "id.orig_h",
        orig_port: Option<u16> = "id.orig_p",
        resp_host: Borrowed<'a> = "id.resp_h",
        resp_port: Option<u16> = "id.resp_p",
        proto: Borrowed<'a> = "proto",
        conn_state: Borrowed<'a> = "conn_state",
        history: Borrowed<'a> = "history",
        missed_bytes: Option<u64> = "missed_bytes",
        duration: Option<f64> = "duration",
        orig_bytes: Option<u64> = "orig_bytes",
        resp_bytes: Option<u64> = "resp_bytes",
        orig_pkts: Option<u64> = "orig_pkts",
        resp_pkts: Option<u64> = "resp_pkts",
        query: Borrowed<'a> = "query",
        qtype: Option<u64> = "qtype",
        rcode: Option<u64> = "rcode",
        rcode_name: Borrowed<'a> = "rcode_name",
        answers: Vec<Borrowed<'a>> = "answers",
        server_name: Borrowed<'a> = "server_name",
        cipher: Borrowed<'a> = "cipher",
        established: Option<bool> = "established",
    }
    Ulogd {
        timestamp: Borrowed<'a> = "timestamp",
        oob_seconds: Option<u64> = "oob.time.sec",
        oob_micros: Option<u64> = "oob.time.usec",
        src_ip: Borrowed<'a> = "src_ip",
        dest_ip: Borrowed<'a> = "dest_ip",
        icmp_type: Option<u64> = "icmp.type",
        icmpv6_type: Option<u64> = "icmpv6.type",
        hook: Option<u64> = "oob.hook",
        prefix: Borrowed<'a> = "oob.prefix",
        packet_bytes: Option<u64> = "raw.pktlen",
        action: Borrowed<'a> = "action",
        ip_protocol: Option<u64> = "ip.protocol",
        ip6_protocol: Option<u64> = "ip6.nexthdr",
        src_port: Option<u16> = "src_port",
        dest_port: Option<u16> = "dest_port",
        ack: Option<u64> = "tcp.ack",
        rst: Option<u64> = "tcp.rst",
        event: Option<u64> = "ct.event",
        orig_protocol: Option<u64> = "orig.ip.protocol",
        orig_source_port: Option<u16> = "orig.l4.sport",
        orig_destination_port: Option<u16> = "orig.l4.dport",
        orig_packets: Option<u64> = "orig.raw.pktcount",
        orig_bytes: Option<u64> = "orig.raw.pktlen",
        reply_packets: Option<u64> = "reply.raw.pktcount",
        reply_bytes: Option<u64> = "reply.raw.pktlen",
        start_seconds: Option<u64> = "flow.start.sec",
        start_micros: Option<u64> = "flow.start.usec",
        end_seconds: Option<u64> = "flow.end.sec",
        end_micros: Option<u64> = "flow.end.usec",
    }
}

/// Reads one line; whether it could be read. One check of the line's UTF-8 and then `from_str` is
/// the fastest way that `serde_json` offers.
pub fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> bool {
    let text = std::str::from_utf8(line).unwrap_or_default();
    match serde_json::from_str::<T>(text) {
        Ok(shape) => {
            std::hint::black_box(&shape);
            true
        }
        Err(_) => false,
    }
}
