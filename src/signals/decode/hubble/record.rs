//! The shape of Hubble's JSON: the envelope and the flow record. Read by the Hubble decoder, which
//! alone knows what the fields mean.
//!
//! Names are those of Cilium's protobuf messages, of which some keep their upper case.

use serde::Deserialize;

use crate::signals::decode::field::{Addresses, FirstText, Object, Scalar};

/// The envelope. `IP`, `l4` and `verdict` are on this level only where there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) flow: Object<Record<'a>>,
    #[serde(borrow)]
    pub(super) lost_events: Object<Lost<'a>>,
    #[serde(borrow)]
    pub(super) node_status: Scalar<'a>,
    #[serde(borrow)]
    pub(super) agent_event: Scalar<'a>,
    #[serde(borrow)]
    pub(super) debug_event: Scalar<'a>,
    #[serde(borrow)]
    pub(super) time: Scalar<'a>,
    #[serde(borrow, rename = "IP")]
    pub(super) ip: Scalar<'a>,
    #[serde(borrow)]
    pub(super) l4: Scalar<'a>,
    #[serde(borrow)]
    pub(super) verdict: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lost<'a> {
    #[serde(borrow)]
    pub(super) num_events_lost: Scalar<'a>,
}

/// One flow record. Keys of a value that is zero are left out, and a field mask may leave out any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    pub(super) time: Scalar<'a>,
    #[serde(borrow)]
    pub(super) verdict: Scalar<'a>,
    #[serde(borrow)]
    pub(super) drop_reason: Scalar<'a>,
    #[serde(borrow)]
    pub(super) drop_reason_desc: Scalar<'a>,
    #[serde(borrow, rename = "IP")]
    pub(super) ip: Object<Ip<'a>>,
    #[serde(borrow)]
    pub(super) l4: Object<Layer4<'a>>,
    #[serde(borrow)]
    pub(super) source: Object<Endpoint<'a>>,
    #[serde(borrow)]
    pub(super) destination: Object<Endpoint<'a>>,
    #[serde(borrow)]
    pub(super) source_names: FirstText<'a>,
    #[serde(borrow)]
    pub(super) destination_names: FirstText<'a>,
    #[serde(borrow)]
    pub(super) l7: Object<Layer7<'a>>,
    #[serde(borrow)]
    pub(super) event_type: Object<EventType<'a>>,
    #[serde(borrow)]
    pub(super) traffic_direction: Scalar<'a>,
    #[serde(borrow)]
    pub(super) trace_observation_point: Scalar<'a>,
    #[serde(borrow)]
    pub(super) trace_reason: Scalar<'a>,
    #[serde(borrow)]
    pub(super) is_reply: Scalar<'a>,
    #[serde(borrow)]
    pub(super) reply: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ip<'a> {
    #[serde(borrow)]
    pub(super) source: Scalar<'a>,
    #[serde(borrow)]
    pub(super) destination: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Layer4<'a> {
    #[serde(borrow, rename = "TCP")]
    pub(super) tcp: Object<Ports<'a>>,
    #[serde(borrow, rename = "UDP")]
    pub(super) udp: Object<Ports<'a>>,
    #[serde(borrow, rename = "SCTP")]
    pub(super) sctp: Object<Ports<'a>>,
    #[serde(borrow, rename = "ICMPv4")]
    pub(super) icmp_v4: Object<Icmp<'a>>,
    #[serde(borrow, rename = "ICMPv6")]
    pub(super) icmp_v6: Object<Icmp<'a>>,
    #[serde(borrow, rename = "VRRP")]
    pub(super) vrrp: Scalar<'a>,
    #[serde(borrow, rename = "IGMP")]
    pub(super) igmp: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ports<'a> {
    #[serde(borrow)]
    pub(super) source_port: Scalar<'a>,
    #[serde(borrow)]
    pub(super) destination_port: Scalar<'a>,
    #[serde(borrow)]
    pub(super) flags: Object<Flags<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Flags<'a> {
    #[serde(borrow, rename = "SYN")]
    pub(super) syn: Scalar<'a>,
    #[serde(borrow, rename = "ACK")]
    pub(super) ack: Scalar<'a>,
    #[serde(borrow, rename = "RST")]
    pub(super) rst: Scalar<'a>,
    #[serde(borrow, rename = "FIN")]
    pub(super) fin: Scalar<'a>,
    #[serde(borrow, rename = "PSH")]
    pub(super) psh: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Icmp<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) icmp_type: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint<'a> {
    #[serde(borrow)]
    pub(super) namespace: Scalar<'a>,
    #[serde(borrow)]
    pub(super) pod_name: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventType<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    #[serde(borrow)]
    pub(super) sub_type: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Layer7<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    #[serde(borrow)]
    pub(super) dns: Object<Dns<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Dns<'a> {
    #[serde(borrow)]
    pub(super) query: Scalar<'a>,
    pub(super) ips: Addresses,
    #[serde(borrow)]
    pub(super) rcode: Scalar<'a>,
}
