//! The schema of Hubble's JSON: the envelope and the flow record. Only the Hubble decoder reads it and interprets
//! the fields.
//!
//! Names are those of Cilium's protobuf messages, some of which are in upper case.

use crate::signals::decode::field::{Addresses, FirstText, Object, Scalar, Skipped};
use crate::signals::decode::json::record;

record! {
    /// The envelope. `IP`, `l4` and `verdict` are on this level only in records without an envelope.
    pub(super) struct Line {
        flow: Object<Record<'a>> = "flow",
        node_status: Scalar<'a> = "node_status",
        lost_events: Object<Lost<'a>> = "lost_events",
        agent_event: Scalar<'a> = "agent_event",
        debug_event: Scalar<'a> = "debug_event",
        node_name: Scalar<'a> = "node_name",
        time: Scalar<'a> = "time",
        verdict: Scalar<'a> = "verdict",
        ip: Scalar<'a> = "IP",
        l4: Scalar<'a> = "l4",
    }
}

record! {
    pub(super) struct Lost {
        source: Skipped = "source",
        num_events_lost: Scalar<'a> = "num_events_lost",
    }
}

record! {
    /// One flow record. Keys with a zero value are omitted, and a field mask may omit any key.
    pub(super) struct Record {
        time: Scalar<'a> = "time",
        uuid: Skipped = "uuid",
        emitter: Skipped = "emitter",
        verdict: Scalar<'a> = "verdict",
        drop_reason: Scalar<'a> = "drop_reason",
        auth_type: Skipped = "auth_type",
        ethernet: Skipped = "ethernet",
        ip: Object<Ip<'a>> = "IP",
        l4: Object<Layer4<'a>> = "l4",
        tunnel: Skipped = "tunnel",
        source: Object<Endpoint<'a>> = "source",
        destination: Object<Endpoint<'a>> = "destination",
        kind: Skipped = "Type",
        node_name: Scalar<'a> = "node_name",
        node_labels: Skipped = "node_labels",
        source_names: FirstText<'a> = "source_names",
        destination_names: FirstText<'a> = "destination_names",
        l7: Object<Layer7<'a>> = "l7",
        reply: Scalar<'a> = "reply",
        event_type: Object<EventType<'a>> = "event_type",
        source_service: Skipped = "source_service",
        destination_service: Skipped = "destination_service",
        traffic_direction: Scalar<'a> = "traffic_direction",
        policy_match_type: Skipped = "policy_match_type",
        trace_observation_point: Scalar<'a> = "trace_observation_point",
        trace_reason: Scalar<'a> = "trace_reason",
        drop_reason_desc: Scalar<'a> = "drop_reason_desc",
        is_reply: Scalar<'a> = "is_reply",
        interface: Skipped = "interface",
        proxy_port: Skipped = "proxy_port",
        trace_id: Skipped = "trace_id",
        egress_allowed_by: Skipped = "egress_allowed_by",
        ingress_allowed_by: Skipped = "ingress_allowed_by",
        egress_denied_by: Skipped = "egress_denied_by",
        ingress_denied_by: Skipped = "ingress_denied_by",
        summary: Skipped = "Summary",
    }
}

record! {
    pub(super) struct Ip {
        source: Scalar<'a> = "source",
        destination: Scalar<'a> = "destination",
        version: Skipped = "ipVersion",
    }
}

record! {
    pub(super) struct Layer4 {
        tcp: Object<Ports<'a>> = "TCP",
        udp: Object<Ports<'a>> = "UDP",
        icmp_v4: Object<Icmp<'a>> = "ICMPv4",
        icmp_v6: Object<Icmp<'a>> = "ICMPv6",
        sctp: Object<Ports<'a>> = "SCTP",
        vrrp: Scalar<'a> = "VRRP",
        igmp: Scalar<'a> = "IGMP",
    }
}

record! {
    pub(super) struct Ports {
        source_port: Scalar<'a> = "source_port",
        destination_port: Scalar<'a> = "destination_port",
        flags: Object<Flags<'a>> = "flags",
    }
}

record! {
    pub(super) struct Flags {
        fin: Scalar<'a> = "FIN",
        syn: Scalar<'a> = "SYN",
        rst: Scalar<'a> = "RST",
        psh: Scalar<'a> = "PSH",
        ack: Scalar<'a> = "ACK",
    }
}

record! {
    pub(super) struct Icmp {
        icmp_type: Scalar<'a> = "type",
        code: Skipped = "code",
    }
}

record! {
    pub(super) struct Endpoint {
        id: Skipped = "ID",
        identity: Skipped = "identity",
        cluster_name: Skipped = "cluster_name",
        namespace: Scalar<'a> = "namespace",
        labels: Skipped = "labels",
        pod_name: Scalar<'a> = "pod_name",
        workloads: Skipped = "workloads",
    }
}

record! {
    pub(super) struct EventType {
        kind: Scalar<'a> = "type",
        sub_type: Scalar<'a> = "sub_type",
    }
}

record! {
    pub(super) struct Layer7 {
        kind: Scalar<'a> = "type",
        latency: Skipped = "latency_ns",
        dns: Object<Dns<'a>> = "dns",
    }
}

record! {
    pub(super) struct Dns {
        query: Scalar<'a> = "query",
        ips: Addresses = "ips",
        ttl: Skipped = "ttl",
        names: Skipped = "cnames",
        observed_by: Skipped = "observation_source",
        rcode: Scalar<'a> = "rcode",
        qtypes: Skipped = "qtypes",
        rrtypes: Skipped = "rrtypes",
    }
}
