//! The shape of Hubble's JSON: the envelope and the flow record. Read by the Hubble decoder, which
//! alone knows what the fields mean.
//!
//! Names are those of Cilium's protobuf messages, of which some keep their upper case.

use crate::signals::decode::field::{Addresses, FirstText, Object, Scalar};
use crate::signals::decode::json::record;

record! {
    /// The envelope. `IP`, `l4` and `verdict` are on this level only where there is none.
    pub(super) struct Line {
        flow: Object<Record<'a>> = "flow",
        lost_events: Object<Lost<'a>> = "lost_events",
        node_status: Scalar<'a> = "node_status",
        agent_event: Scalar<'a> = "agent_event",
        debug_event: Scalar<'a> = "debug_event",
        time: Scalar<'a> = "time",
        ip: Scalar<'a> = "IP",
        l4: Scalar<'a> = "l4",
        verdict: Scalar<'a> = "verdict",
    }
}

record! {
    pub(super) struct Lost {
        num_events_lost: Scalar<'a> = "num_events_lost",
    }
}

record! {
    /// One flow record. Keys of a value that is zero are left out, and a field mask may leave out any.
    pub(super) struct Record {
        time: Scalar<'a> = "time",
        verdict: Scalar<'a> = "verdict",
        drop_reason: Scalar<'a> = "drop_reason",
        drop_reason_desc: Scalar<'a> = "drop_reason_desc",
        ip: Object<Ip<'a>> = "IP",
        l4: Object<Layer4<'a>> = "l4",
        source: Object<Endpoint<'a>> = "source",
        destination: Object<Endpoint<'a>> = "destination",
        source_names: FirstText<'a> = "source_names",
        destination_names: FirstText<'a> = "destination_names",
        l7: Object<Layer7<'a>> = "l7",
        event_type: Object<EventType<'a>> = "event_type",
        traffic_direction: Scalar<'a> = "traffic_direction",
        trace_observation_point: Scalar<'a> = "trace_observation_point",
        trace_reason: Scalar<'a> = "trace_reason",
        is_reply: Scalar<'a> = "is_reply",
        reply: Scalar<'a> = "reply",
    }
}

record! {
    pub(super) struct Ip {
        source: Scalar<'a> = "source",
        destination: Scalar<'a> = "destination",
    }
}

record! {
    pub(super) struct Layer4 {
        tcp: Object<Ports<'a>> = "TCP",
        udp: Object<Ports<'a>> = "UDP",
        sctp: Object<Ports<'a>> = "SCTP",
        icmp_v4: Object<Icmp<'a>> = "ICMPv4",
        icmp_v6: Object<Icmp<'a>> = "ICMPv6",
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
        syn: Scalar<'a> = "SYN",
        ack: Scalar<'a> = "ACK",
        rst: Scalar<'a> = "RST",
        fin: Scalar<'a> = "FIN",
        psh: Scalar<'a> = "PSH",
    }
}

record! {
    pub(super) struct Icmp {
        icmp_type: Scalar<'a> = "type",
    }
}

record! {
    pub(super) struct Endpoint {
        namespace: Scalar<'a> = "namespace",
        pod_name: Scalar<'a> = "pod_name",
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
        dns: Object<Dns<'a>> = "dns",
    }
}

record! {
    pub(super) struct Dns {
        query: Scalar<'a> = "query",
        ips: Addresses = "ips",
        rcode: Scalar<'a> = "rcode",
    }
}
