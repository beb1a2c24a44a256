//! Reverse tunnels: sessions that the pod opened and that the far side uses like a client.
//!
//! Called by `tunnel` for every change of a session. The known methods look at packets; a log of
//! connections shows only the outline: long, to a destination without a name or on the port of
//! SSH, the far side's short turns answered by the pod's longer ones. That is evidence, so this
//! alone is an alert. A shell that a pod opens to work on another host has it the other way round.

use super::super::mining::Around;
use super::super::names::NameClass;
use super::super::scope::Scope;
use super::super::session::{Session, is_web};
use crate::model::Transport;

/// A connection that lasts longer than this is a long one, and one of this length is rare. The two
/// are the lines that Slips and RITA draw.
const LONG_US: i64 = 1_500_000_000;
const VERY_LONG_US: i64 = 3_600_000_000;

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

/// The least that the far side says in a conversation, and how much more the pod says.
const CONVERSATION_BYTES_MIN: u64 = 2_000;
const INVERTED_RATIO: u64 = 3;
const INVERTED_RATIO_PER: u64 = 2;

/// Beyond this it is an upload, to which the far side only nods.
const UPLOAD_RATIO: u64 = 50;

/// An upload that is worth a word (Slips: 100 MB per flow).
const BULK_BYTES: u64 = 100_000_000;

/// Intervals that tell: a client thinks between its requests.
const INTERVALS_MIN: u32 = 5;

/// Ports of telemetry, queues and stores, whose clients send more than they get for hours.
const PUSH_PORTS: [u16; 14] = [
    25, 465, 514, 587, 873, 1883, 4317, 4318, 5671, 5672, 6514, 8883, 9092, 9093,
];

const SHELL_PORT: u16 = 22;

/// What the shape of a session adds, and the words for it.
pub(super) fn nats(session: &Session, is_listed: bool, around: Around<'_>) -> (f64, String) {
    let nothing = (0.0, String::new());
    let span_us = session.span_us();
    let target = session.target;
    let is_outside = around.config.scopes.classify(target.host) == Scope::Internet;
    if span_us < LONG_US || !session.has_volume || !is_outside {
        return nothing;
    }
    if target.transport != Transport::Tcp || PUSH_PORTS.contains(&target.port) {
        return nothing;
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
    let mut words = String::new();
    if is_inverted {
        nats += INVERTED_NATS;
        words.push_str(", the far side asks and the pod answers");
    }
    let intervals = session.intervals;
    let takes_turns = intervals.all >= INTERVALS_MIN
        && intervals.inverted * 2 >= intervals.all - intervals.idle
        && intervals.idle * 5 >= intervals.all;
    if takes_turns && intervals.inverted > 0 {
        nats += TURNS_NATS;
        words.push_str(", in turns with breaks");
    }
    if out >= BULK_BYTES {
        nats += BULK_NATS;
        words.push_str(", with more than 100 MB sent");
    }
    (nats + place_nats(session, is_listed, around), words)
}

/// What the port and the name add.
fn place_nats(session: &Session, is_listed: bool, around: Around<'_>) -> f64 {
    let port = session.target.port;
    let class = around.names.class(session.target.host);
    let is_named = matches!(class, Some(NameClass::Plain | NameClass::PoolLike));
    let mut nats = match port {
        SHELL_PORT => SHELL_PORT_NATS,
        port if is_web(port) => 0.0,
        _ => OTHER_PORT_NATS,
    };
    if !is_named && around.names.are_all_kept() {
        // On a port of the web a client says whom it wants; one that does not has something else.
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
