//! Hubble Relay over gRPC: its messages, and the line of an exporter file for each of them.
//!
//! Relay sends the same records that an exporter writes, as protobuf. To ensure that a flow has the same meaning on
//! both paths, there is one mapping: a message is converted to the line that the exporter would have written, without
//! the keys that the decoder skips, and the Hubble decoder reads that line. Lines can also wait, be counted
//! and be logged like those of files. A second decoder for protobuf would avoid the conversion to text,
//! but its rules about replies and drops would have to be kept identical permanently.
//!
//! Pure. The connection is implemented in `signals/source/relay`.

mod message;
mod names;

use prost::Message;

pub use message::{
    BLACKLISTED, Dns, Endpoint, EventType, Experimental, FieldMask, Flow, FlowFilter,
    GetFlowsRequest, GetFlowsResponse, Icmp, Ip, Layer4, Layer7, LostEvent, NodeStatusEvent, Other,
    Ports, ServerStatusRequest, ServerStatusResponse, Tcp, TcpFlags, Timestamp, lost_source,
    node_state,
};

/// The gRPC methods that are called.
pub const GET_FLOWS: &str = "/observer.Observer/GetFlows";
/// See [`GET_FLOWS`].
pub const SERVER_STATUS: &str = "/observer.Observer/ServerStatus";

/// The fields of a flow that the decoder reads. A field is requested completely if a part of it could be absent: a
/// server that masks a part of `l7` sends an empty `l7` with every flow, and one that masks a part of `l4`
/// leaves the ports of the last flow in it.
pub const FIELDS_READ: [&str; 18] = [
    "time",
    "node_name",
    "verdict",
    "drop_reason",
    "IP.source",
    "IP.destination",
    "l4",
    "source.namespace",
    "source.pod_name",
    "destination.namespace",
    "destination.pod_name",
    "source_names",
    "destination_names",
    "l7",
    "reply",
    "event_type",
    "traffic_direction",
    "trace_observation_point",
];

/// Fields that Relay supports only since about Cilium 1.11. They are requested together with the others: a server
/// that does not know a field rejects the whole mask, and is then sent a request without a mask.
pub const FIELDS_READ_TOO: [&str; 3] = ["trace_reason", "drop_reason_desc", "is_reply"];

/// Requests all flows since `since`, and continues with new ones. Excludes flows that the decoder skips anyway:
/// the view of the receiving side, and flows that are neither forwarded nor dropped.
#[must_use]
pub fn flows_request(since: Timestamp, with_mask: bool) -> GetFlowsRequest {
    let mask = with_mask.then(|| FieldMask {
        paths: FIELDS_READ
            .iter()
            .chain(&FIELDS_READ_TOO)
            .map(|path| (*path).to_owned())
            .collect(),
    });
    GetFlowsRequest {
        follow: true,
        blacklist: BLACKLISTED.iter().map(FlowFilter::from).collect(),
        since: Some(since),
        field_mask: mask.clone(),
        // Its place until Cilium 1.17.
        experimental: mask.map(|mask| Experimental {
            field_mask: Some(mask),
        }),
    }
}

/// Reads a message. `None` if it cannot be decoded.
#[must_use]
pub fn read(message: &[u8]) -> Option<GetFlowsResponse> {
    GetFlowsResponse::decode(message).ok()
}

impl GetFlowsResponse {
    /// Appends the line that an exporter would have written, with its terminator.
    pub fn write_line(&self, lines: &mut Vec<u8>) {
        let start = lines.len();
        // Writing to a Vec cannot fail, and the message has no map with keys that are not text.
        if serde_json::to_writer(&mut *lines, self).is_err() {
            lines.truncate(start);
            write_unreadable(&[], lines);
            return;
        }
        lines.push(b'\n');
    }
}

/// Appends a line for a message that could not be read, so that it is counted and
/// logged as malformed.
pub fn write_unreadable(message: &[u8], lines: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    lines.extend_from_slice(b"protobuf:");
    for byte in message.iter().take(SHOWN_BYTES_MAX) {
        for half in [byte >> 4, byte & 15] {
            lines.extend(DIGITS.get(usize::from(half)));
        }
    }
    lines.push(b'\n');
}

/// Number of bytes of an unreadable message that are included in its line.
const SHOWN_BYTES_MAX: usize = 80;

/// Appends the line of a loss that Relay itself does not report, because it occurred between Relay and
/// its nodes or between Relay and this process. The number of lost records is unknown: at least one.
pub fn write_loss(time: Timestamp, lines: &mut Vec<u8>) {
    let loss = GetFlowsResponse {
        lost_events: Some(LostEvent {
            source: lost_source::UNKNOWN,
            num_events_lost: 1,
        }),
        time: Some(time),
        ..GetFlowsResponse::default()
    };
    loss.write_line(lines);
}
