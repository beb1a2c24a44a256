//! The key by which the lines of several files are merged: their time, and names before connections.

use crate::model::{EventTime, Signal};
use crate::signals::decode::{Decoded, Decoder};

/// A TLS name is known some time after its connection began. It is merged before the connection all the
/// same, as in a live stream, where the record of a connection comes at its end.
const TLS_HEAD_START_US: i64 = 10_000_000;

/// When a record is due; at the same time, names come before connections.
pub(super) type MergeKey = (EventTime, u8);

/// The key of a line of a log. `None` for a line without a time.
pub(super) fn key_of_line(decoder: &Decoder, text: &[u8]) -> Option<MergeKey> {
    key_of_decoded(&decoder.decode(text))
}

/// The key of a decoded line.
pub(super) fn key_of_decoded(decoded: &Decoded<'_>) -> Option<MergeKey> {
    match decoded {
        Decoded::Signal(Signal::Dns(query)) => Some((query.time, 0)),
        Decoded::Signal(Signal::Tls(tls)) => Some((tls.time.plus_micros(-TLS_HEAD_START_US), 1)),
        Decoded::Signal(signal) => Some((signal.time(), 2)),
        _ => None,
    }
}
