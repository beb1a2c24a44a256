//! Hubble Relay over gRPC: its messages, and the line of an exporter file for each of them.
//!
//! Relay sends what an exporter writes, as protobuf. So that a flow means the same by either way,
//! there is one mapping: a message becomes the line that the exporter would have written, without
//! the keys that the decoder skips, and the Hubble decoder reads that. Lines can also wait, be counted
//! and be shown as those of files are. A second decoder for protobuf would save the way through text,
//! and its rules about replies and drops would have to be kept equal for ever.
//!
//! Pure. The connection is the matter of `signals/source/relay`.

mod message;
mod names;

use prost::Message;

pub use message::{
    BLACKLISTED, Dns, Endpoint, EventType, Experimental, FieldMask, Flow, FlowFilter,
    GetFlowsRequest, GetFlowsResponse, Icmp, Ip, Layer4, Layer7, LostEvent, NodeStatusEvent, Other,
    Ports, ServerStatusRequest, ServerStatusResponse, Tcp, TcpFlags, Timestamp, lost_source,
    node_state,
};

/// The methods that are called.
pub const GET_FLOWS: &str = "/observer.Observer/GetFlows";
/// See [`GET_FLOWS`].
pub const SERVER_STATUS: &str = "/observer.Observer/ServerStatus";

/// The fields of a flow that the decoder reads. Whole where a part could be absent: a server that
/// masks a part of `l7` sends an empty `l7` with every flow, and one that masks a part of `l4`
/// leaves the last flow's ports in it.
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

/// And those that Relay has had only since Cilium 1.11 or so. One list with the others: a server
/// that does not know a field refuses the whole mask, and is then asked without one.
pub const FIELDS_READ_TOO: [&str; 3] = ["trace_reason", "drop_reason_desc", "is_reply"];

/// Asks for all flows since `since` and from then on. Without those that the decoder skips anyway:
/// the receiving side's view, and what is neither forwarded nor dropped.
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
        // Where it stood until Cilium 1.17.
        experimental: mask.map(|mask| Experimental {
            field_mask: Some(mask),
        }),
    }
}

/// Reads a message. `None` for what is no such message.
#[must_use]
pub fn read(message: &[u8]) -> Option<GetFlowsResponse> {
    GetFlowsResponse::decode(message).ok()
}

impl GetFlowsResponse {
    /// Appends the line that an exporter would have written, with its end.
    pub fn write_line(&self, lines: &mut Vec<u8>) {
        let start = lines.len();
        // A Vec takes every byte, and the message has no map with keys that are no text.
        if serde_json::to_writer(&mut *lines, self).is_err() {
            lines.truncate(start);
            write_unreadable(&[], lines);
            return;
        }
        lines.push(b'\n');
    }
}

/// Appends a line that stands for a message which could not be read, so that it is counted and
/// shown as one that is malformed.
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

/// Bytes of an unreadable message that its line shows.
const SHOWN_BYTES_MAX: usize = 80;

/// Appends the line of a loss that Relay itself does not tell, because it happened between it and
/// its nodes or between it and us. How many records it took is not known: at least one.
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
