//! Bounds of notifications. Part of `limits`, which re-exports them.

/// Entries of evidence in one notification, of the 64 that an Incident may hold. With 3 examples of
/// 700 bytes, a summary of 512 and the rest, 8 take 24 KiB, twice that where every byte is escaped.
pub(crate) const NOTIFIED_EVIDENCE_MAX: usize = 8;

/// Examples of each of them.
pub(crate) const NOTIFIED_EXAMPLES_MAX: usize = 3;

/// Actions in one notification, the newest.
pub(crate) const NOTIFIED_ACTIONS_MAX: usize = 8;

/// Longest name in a notification, in bytes: a Kubernetes name has at most 253.
pub(crate) const NOTIFIED_NAME_BYTES_MAX: usize = 256;

/// Longest sentence in a notification, in bytes.
pub(crate) const NOTIFIED_TEXT_BYTES_MAX: usize = 512;

/// Longest note of an Event, in bytes; the API server takes 1,024.
pub(crate) const EVENT_NOTE_BYTES_MAX: usize = 1024;

/// Largest age of a transition that becomes an Event, in seconds: the time that a new leader needs to take over. Events
/// are for current problems.
pub(crate) const EVENT_AGE_MAX_S: i64 = 600;

/// Events that are kept as written, at about 100 bytes each: three for each of the eight transitions of some hundred
/// Incidents. When the list is full, some are written again; the API server already has them.
pub(crate) const EVENTS_WRITTEN_MAX: usize = 8_192;

/// Series of Events for which the count is increased. Other reporters keep about as many.
pub(crate) const EVENT_SERIES_MAX: usize = 1_024;

/// How long after its last occurrence the count of an Event is increased instead of writing a new Event, in seconds; as in
/// other reporters.
pub(crate) const EVENT_SERIES_S: i64 = 360;

/// Events per second, and burst. If the log of a run with 1,000 pods becomes stale, there must be no burst of writes;
/// the other Events are written later.
pub(crate) const EVENTS_PER_SECOND: f64 = 10.0;

/// Alerts that are sent to an Alertmanager; the cap of quarantines is 64 by default.
pub(crate) const ALERTS_MAX: usize = 1_024;

/// Alerts in one request: about 2 KiB each.
pub(crate) const ALERTS_PER_POST: usize = 64;

/// How often alerts are sent again, in seconds: as in Prometheus, because a restarted Alertmanager has lost them.
pub(crate) const ALERT_RESEND_S: u64 = 60;

/// How long an alert fires if it is not sent again, in seconds. Long enough for a restart of the controller or a new
/// leader: an alert must not be resolved because no replica monitors the Incident.
pub(crate) const ALERT_HOLDS_S: i64 = 900;

/// How long a resolved alert is still sent, in seconds; as in Prometheus.
pub(crate) const ALERT_RESOLVED_S: i64 = 900;

/// How long the delivery of a transition to a webhook is retried, in seconds: a day. Older transitions are not delivered
/// when a webhook is set up.
pub(crate) const NOTIFICATION_AGE_MAX_S: i64 = 86_400;

/// Notifications for which attempts are kept, at about 150 bytes each. Others wait in their Incidents.
pub(crate) const NOTIFICATIONS_MAX: usize = 4_096;

/// Spans in one request to a collector, at about 2 KiB each.
pub(crate) const SPANS_PER_POST: usize = 128;

/// Spans that are kept as sent, at about 50 bytes each: some 1,000 Incidents of ten minutes.
pub(crate) const SPANS_SENT_MAX: usize = 16_384;

/// Longest response that is read, in bytes. Only its status matters.
pub(crate) const NOTIFY_ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Longest request to a receiver, in seconds. Standard Webhooks recommends 15 to 30; a receiver that
/// needs longer must respond first and process the request later.
pub(crate) const NOTIFY_TIMEOUT_S: u64 = 10;

/// First and longest wait before a notification is retried, in milliseconds.
pub(crate) const NOTIFY_RETRY_MS: (u64, u64) = (1_000, 300_000);

/// Longest wait that a receiver may request, in seconds.
pub(crate) const RETRY_AFTER_MAX_S: u64 = 3_600;

/// Largest file with signing secrets, in bytes. Two secrets of 64 bytes have 200 in Base64.
pub(crate) const SECRET_BYTES_MAX: u64 = 4 * 1024;

/// Signing secrets that are used at once: a new one and the one that it replaces.
pub(crate) const SECRETS_MAX: usize = 2;

/// Upper bounds of the buckets of a latency histogram, in seconds. The isolation usually takes a few seconds, most of
/// which is the delay of the log; the last ones show isolations that a cap or a breaker held back.
pub(crate) const LATENCY_BUCKETS_S: [f64; 11] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// Receivers to which alerts are sent. An Alertmanager cluster has three members, or five.
pub(crate) const ALERTMANAGERS_MAX: usize = 8;

const _: () = assert!(ALERT_RESEND_S * 4 < ALERT_HOLDS_S.unsigned_abs());
const _: () = assert!(ALERTS_PER_POST <= ALERTS_MAX);
