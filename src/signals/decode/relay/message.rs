//! The messages of Cilium's observer API, as far as they are used.
//!
//! Taken from `api/v1/{flow,observer,relay}` of github.com/cilium/cilium at v1.20.2 (Apache-2.0).
//! One definition per field: the number on the wire, and the key in the line of an exporter. Members of
//! a `oneof` are ordinary fields on the wire, and are defined as such here. Fields that are not
//! read are left out; protobuf skips them.
//!
//! `tests/relay` compares numbers, types and names with Cilium's own definitions.

use prost::Message;
use serde::{Serialize, Serializer};

use super::names::{direction, drop_name, is_zero, l7_type, point, trace_reason, verdict};

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

const NANOS: i64 = 1_000_000_000;

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // below 10^9
    pub const fn from_nanos(nanos: i64) -> Self {
        Self {
            seconds: nanos.div_euclid(NANOS),
            nanos: nanos.rem_euclid(NANOS) as i32,
        }
    }

    /// Nanoseconds since the Unix epoch, saturating outside their range (1677 to 2262).
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.seconds
            .saturating_mul(NANOS)
            .saturating_add(self.nanos as i64)
    }
}

/// As a date. A time outside the calendar is `null`, which the decoder treats as missing.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let in_range = (0..NANOS).contains(&i64::from(self.nanos));
        match jiff::Timestamp::new(self.seconds, self.nanos) {
            Ok(time) if in_range => serializer.collect_str(&time),
            _ => serializer.serialize_none(),
        }
    }
}

/// `observer.GetFlowsRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct GetFlowsRequest {
    /// Continues after everything that is stored was sent.
    #[prost(bool, tag = "3")]
    pub follow: bool,
    /// A flow that one of these filters matches is not sent.
    #[prost(message, repeated, tag = "5")]
    pub blacklist: Vec<FlowFilter>,
    /// The oldest requested flow.
    #[prost(message, optional, tag = "7")]
    pub since: Option<Timestamp>,
    /// The requested fields.
    #[prost(message, optional, tag = "10")]
    pub field_mask: Option<FieldMask>,
    /// The earlier place of the mask.
    #[prost(message, optional, tag = "999")]
    pub experimental: Option<Experimental>,
}

/// `observer.GetFlowsRequest.Experimental`, until Cilium 1.18.
#[derive(Clone, PartialEq, Message)]
pub struct Experimental {
    /// The requested fields.
    #[prost(message, optional, tag = "1")]
    pub field_mask: Option<FieldMask>,
}

/// `google.protobuf.FieldMask`.
#[derive(Clone, PartialEq, Message)]
pub struct FieldMask {
    /// Paths of fields.
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
}

/// `flow.FlowFilter`: every field that is set must match with one of its values.
#[derive(Clone, PartialEq, Message)]
pub struct FlowFilter {
    /// `flow.Verdict`.
    #[prost(int32, repeated, tag = "5")]
    pub verdict: Vec<i32>,
    /// `flow.TrafficDirection`.
    #[prost(int32, repeated, tag = "30")]
    pub traffic_direction: Vec<i32>,
}

/// Flows that are not requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blacklisted {
    /// With one of these verdicts.
    Verdicts(&'static [i32]),
    /// In one of these directions.
    Directions(&'static [i32]),
}

/// Flows that the decoder skips anyway: INGRESS; TRACED and TRANSLATED.
pub const BLACKLISTED: [Blacklisted; 2] = [
    Blacklisted::Directions(&[1]),
    Blacklisted::Verdicts(&[6, 7]),
];

impl From<&Blacklisted> for FlowFilter {
    fn from(kind: &Blacklisted) -> Self {
        match kind {
            Blacklisted::Verdicts(verdict) => Self {
                verdict: verdict.to_vec(),
                ..Self::default()
            },
            Blacklisted::Directions(direction) => Self {
                traffic_direction: direction.to_vec(),
                ..Self::default()
            },
        }
    }
}

/// `observer.ServerStatusRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ServerStatusRequest {}

/// `observer.ServerStatusResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ServerStatusResponse {
    /// Nodes that Relay can reach.
    #[prost(message, optional, tag = "5")]
    pub num_connected_nodes: Option<u32>,
    /// Nodes that it cannot reach.
    #[prost(message, optional, tag = "6")]
    pub num_unavailable_nodes: Option<u32>,
    /// Some of the unreachable nodes, by name.
    #[prost(string, repeated, tag = "7")]
    pub unavailable_nodes: Vec<String>,
    /// The version of Relay.
    #[prost(string, tag = "8")]
    pub version: String,
}

/// `observer.GetFlowsResponse`. Its JSON is the line of an exporter.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct GetFlowsResponse {
    /// A flow.
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Relay's report on its nodes; not converted to a line.
    #[prost(message, optional, tag = "2")]
    #[serde(skip)]
    pub node_status: Option<NodeStatusEvent>,
    /// Records that a node lost.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_events: Option<LostEvent>,
    /// The node, as `cluster/node`.
    #[prost(string, tag = "1000")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// The time.
    #[prost(message, optional, tag = "1001")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// `relay.NodeStatusEvent`.
#[derive(Clone, PartialEq, Message)]
pub struct NodeStatusEvent {
    /// See [`node_state`].
    #[prost(int32, tag = "1")]
    pub state_change: i32,
    /// The nodes, as `cluster/node`.
    #[prost(string, repeated, tag = "2")]
    pub node_names: Vec<String>,
    /// The cause of an error.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// `relay.NodeState`.
pub mod node_state {
    /// Flows of the node are sent.
    pub const CONNECTED: i32 = 1;
    /// Relay cannot reach the node.
    pub const UNAVAILABLE: i32 = 2;
    /// The node left the cluster.
    pub const GONE: i32 = 3;
    /// The stream of the node's flows failed.
    pub const ERROR: i32 = 4;
}

/// `flow.LostEvent`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct LostEvent {
    /// See [`lost_source`].
    #[prost(int32, tag = "1")]
    #[serde(skip)]
    pub source: i32,
    /// The number of lost records.
    #[prost(uint64, tag = "2")]
    pub num_events_lost: u64,
}

/// `flow.LostEventSource`: where records were lost.
pub mod lost_source {
    /// Unknown.
    pub const UNKNOWN: i32 = 0;
    /// Between the datapath and the agent.
    pub const PERF_EVENT_RING_BUFFER: i32 = 1;
    /// In the agent, before Hubble read them.
    pub const OBSERVER_EVENTS_QUEUE: i32 = 2;
    /// In Hubble's buffer, because its reader was too slow.
    pub const HUBBLE_RING_BUFFER: i32 = 3;
}

/// `flow.Flow`. In the order in which the decoder expects the keys.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct Flow {
    /// The time.
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// `flow.Verdict`.
    #[prost(int32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "verdict")]
    pub verdict: i32,
    /// The number of the reason of a drop.
    #[prost(uint32, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub drop_reason: u32,
    /// Addresses.
    #[prost(message, optional, tag = "5")]
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ip>,
    /// Ports and flags.
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4: Option<Layer4>,
    /// The sender of the packet.
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Endpoint>,
    /// Its receiver.
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Endpoint>,
    /// The node that observed it. Older versions of Cilium set it only here.
    #[prost(string, tag = "11")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Names of the sender.
    #[prost(string, repeated, tag = "13")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_names: Vec<String>,
    /// Names of the receiver.
    #[prost(string, repeated, tag = "14")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_names: Vec<String>,
    /// The application-layer record.
    #[prost(message, optional, tag = "15")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l7: Option<Layer7>,
    /// Whether it is a reply; used by older versions.
    #[prost(bool, tag = "16")]
    #[serde(skip_serializing_if = "is_zero")]
    pub reply: bool,
    /// The kind of notification.
    #[prost(message, optional, tag = "19")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// `flow.TrafficDirection`.
    #[prost(int32, tag = "22")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "direction")]
    pub traffic_direction: i32,
    /// `flow.TraceObservationPoint`.
    #[prost(int32, tag = "24")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "point")]
    pub trace_observation_point: i32,
    /// `flow.TraceReason`.
    #[prost(int32, tag = "36")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "trace_reason")]
    pub trace_reason: i32,
    /// `flow.DropReason`: the numbers of `drop_reason`, with names.
    #[prost(int32, tag = "25")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "drop_name")]
    pub drop_reason_desc: i32,
    /// Whether it is a reply; absent if unknown.
    #[prost(message, optional, tag = "26")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_reply: Option<bool>,
}

/// `flow.IP`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct Ip {
    /// The sender.
    #[prost(string, tag = "1")]
    pub source: String,
    /// The receiver.
    #[prost(string, tag = "2")]
    pub destination: String,
}

/// `flow.Layer4`.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct Layer4 {
    /// TCP.
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// UDP.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<Ports>,
    /// ICMP.
    #[prost(message, optional, tag = "3")]
    #[serde(rename = "ICMPv4", skip_serializing_if = "Option::is_none")]
    pub icmp_v4: Option<Icmp>,
    /// ICMP of IPv6.
    #[prost(message, optional, tag = "4")]
    #[serde(rename = "ICMPv6", skip_serializing_if = "Option::is_none")]
    pub icmp_v6: Option<Icmp>,
    /// SCTP.
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<Ports>,
    /// VRRP.
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrrp: Option<Other>,
    /// IGMP.
    #[prost(message, optional, tag = "7")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub igmp: Option<Other>,
}

/// A message of which only the presence matters.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct Other {}

/// `flow.TCP`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct Tcp {
    /// Port of the sender.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub source_port: u32,
    /// Port of the receiver.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub destination_port: u32,
    /// Flags; absent if they were not observed.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<TcpFlags>,
}

/// `flow.UDP` and `flow.SCTP`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct Ports {
    /// Port of the sender.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub source_port: u32,
    /// Port of the receiver.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub destination_port: u32,
}

/// `flow.TCPFlags`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
#[allow(clippy::struct_excessive_bools)] // as on the wire
#[serde(rename_all = "UPPERCASE")]
pub struct TcpFlags {
    /// The sender has finished.
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub fin: bool,
    /// Opens.
    #[prost(bool, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub syn: bool,
    /// Ends at once.
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub rst: bool,
    /// Has data.
    #[prost(bool, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub psh: bool,
    /// Acknowledges.
    #[prost(bool, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub ack: bool,
}

/// `flow.ICMPv4` and `flow.ICMPv6`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct Icmp {
    /// The type.
    #[prost(uint32, tag = "1")]
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    pub icmp_type: u32,
}

/// `flow.Endpoint`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct Endpoint {
    /// The pod's namespace.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The pod's name.
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
}

/// `flow.CiliumEventType`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct EventType {
    /// The kind.
    #[prost(int32, tag = "1")]
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    pub kind: i32,
    /// The sub-type within the kind.
    #[prost(int32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub sub_type: i32,
}

/// `flow.Layer7`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct Layer7 {
    /// `flow.L7FlowType`.
    #[prost(int32, tag = "1")]
    #[serde(
        rename = "type",
        skip_serializing_if = "is_zero",
        serialize_with = "l7_type"
    )]
    pub kind: i32,
    /// DNS.
    #[prost(message, optional, tag = "100")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
}

/// `flow.DNS`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct Dns {
    /// The queried name.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Addresses in the answer.
    #[prost(string, repeated, tag = "2")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// The response code.
    #[prost(uint32, tag = "6")]
    #[serde(skip_serializing_if = "is_zero")]
    pub rcode: u32,
}
