//! Reverse tunnels: sessions that the pod opened and that the remote side uses like a client.
//!
//! Called by `tunnel` for every change of a session. The known methods inspect packets; a log of connections shows only
//! the outline: a long connection, to a destination without a name or on the port of SSH, with short messages of the
//! remote side that the pod answers with longer ones. Such evidence alone is an alert. In a shell that a pod opens to
//! work on another host the directions are the other way round.

use crate::detect::context::TrafficContext;
use crate::detect::scope::Scope;
use crate::detect::session::names::NameClass;
use crate::detect::session::{Session, is_web};
use crate::model::Transport;

/// A connection longer than the first duration is long, and one longer than the second is rare. Slips and RITA use
/// these thresholds.
const LONG_US: i64 = 1_500_000_000;
const VERY_LONG_US: i64 = 3_600_000_000;

/// Connections that are reopened sooner than this are requests.
const PIECE_US: i64 = 300_000_000;

const LONG_NATS: f64 = 3.0;
const VERY_LONG_NATS: f64 = 4.0;
const INVERTED_NATS: f64 = 3.5;
const TURNS_NATS: f64 = 1.5;
const BULK_NATS: f64 = 1.0;
const SHELL_PORT_NATS: f64 = 2.5;
const OTHER_PORT_NATS: f64 = 1.0;
const UNNAMED_NATS: f64 = 1.0;
const UNNAMED_WEB_NATS: f64 = 2.0;
const PLAIN_NAME_NATS: f64 = 3.0;

/// Minimum number of bytes from the remote side in a conversation, and the ratio of the pod's bytes to them in a
/// reverse tunnel.
const CONVERSATION_BYTES_MIN: u64 = 2_000;
const INVERTED_RATIO: u64 = 3;
const INVERTED_RATIO_PER: u64 = 2;

/// With a higher ratio it is an upload that the remote side only acknowledges.
const UPLOAD_RATIO: u64 = 50;

/// A large upload (Slips: 100 MB per flow).
const BULK_BYTES: u64 = 100_000_000;

/// Minimum number of intervals for evidence: a client pauses between its requests.
const INTERVALS_MIN: u32 = 5;

/// Ports of telemetry, queues and databases. Their clients send more than they receive for hours.
const PUSH_PORTS: [u16; 14] = [
    25, 465, 514, 587, 873, 1883, 4317, 4318, 5671, 5672, 6514, 8883, 9092, 9093,
];

const SHELL_PORT: u16 = 22;

/// The nats of a session's shape, and their description.
pub(super) fn nats(
    session: &Session,
    is_listed: bool,
    context: TrafficContext<'_>,
) -> (f64, String) {
    let no_evidence = (0.0, String::new());
    let span_us = session.span_us();
    let target = session.target;
    let is_outside = context.config.scopes.classify(target.host) == Scope::Internet;
    // A series of short requests is no long connection.
    let is_long = span_us >= LONG_US && session.average_us() >= PIECE_US;
    if !is_long || !session.has_volume || !is_outside {
        return no_evidence;
    }
    if target.transport != Transport::Tcp || PUSH_PORTS.contains(&target.port) {
        return no_evidence;
    }
    let volume = session.volume();
    let (out, back) = (volume.bytes_out, volume.bytes_in);
    let is_conversation = back >= CONVERSATION_BYTES_MIN && out / UPLOAD_RATIO < back;
    let is_inverted = is_conversation
        && out.saturating_mul(INVERTED_RATIO_PER) >= back.saturating_mul(INVERTED_RATIO);
    let mut nats = if span_us >= VERY_LONG_US {
        VERY_LONG_NATS
    } else {
        LONG_NATS
    };
    let mut description = String::new();
    if is_inverted {
        nats += INVERTED_NATS;
        description.push_str(", the remote side sends requests and the pod answers");
    }
    let intervals = session.intervals;
    let takes_turns = intervals.all >= INTERVALS_MIN
        && intervals.inverted * 2 >= intervals.all - intervals.idle
        && intervals.idle * 5 >= intervals.all;
    if takes_turns && intervals.inverted > 0 {
        nats += TURNS_NATS;
        description.push_str(", in turns with breaks");
    }
    if out >= BULK_BYTES {
        nats += BULK_NATS;
        description.push_str(", with more than 100 MB sent");
    }
    (
        nats + destination_nats(session, is_listed, context),
        description,
    )
}

/// The nats of the port and the name.
fn destination_nats(session: &Session, is_listed: bool, context: TrafficContext<'_>) -> f64 {
    let port = session.target.port;
    let class = context.names.class(session.target.host);
    let is_named = matches!(class, Some(NameClass::Plain | NameClass::PoolLike));
    let mut nats = match port {
        SHELL_PORT => SHELL_PORT_NATS,
        port if is_web(port) => 0.0,
        _ => OTHER_PORT_NATS,
    };
    if !is_named && context.names.are_all_kept() {
        // On a port of the web a client names the server; one that does not uses another protocol.
        nats += if is_web(port) {
            UNNAMED_WEB_NATS
        } else {
            UNNAMED_NATS
        };
    }
    if is_named && port != SHELL_PORT && !is_listed {
        nats -= PLAIN_NAME_NATS;
    }
    nats
}
