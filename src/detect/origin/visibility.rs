//! Visibility: what a log has recently shown, learned from its records about any pod.
//!
//! Stored by `origin` per log and node. A log that never shows answers makes every contact look unanswered, and a log
//! that shows only drops makes every pod look denied. A missing answer is therefore a failure only while the log shows
//! answers over that transport, and a denial has its full weight only while the log shows allowed flows. One answer to
//! any pod is enough for all of them: no pod can hide the answers to the others.
//!
//! An answer is a record of an answer, or a later packet of a connection on which the kernel has seen traffic in both
//! directions, if the log also contains the ends of connections: to the kernel, a ping that runs for hours is one
//! connection, and no other record shows its answers until it ends.
//!
//! What a log has shown is stored as a span of time. An unanswered contact gets its verdict if the log showed an answer
//! up to [`MARGIN_US`] before it or at any later time, with no gap between two answers longer than [`KEPT_US`]. A log
//! that stops showing answers thus makes no contact fail from a minute later on, and a scan in a quiet hour is detected
//! with the next answer to any pod.

use serde::{Deserialize, Serialize};

use crate::detect::config::ANSWER_WAIT_US;
use crate::detect::state::HashKey;
use crate::limits;
use crate::model::{EventTime, Flow, Outcome, Signal, Transport};

/// How long one answer proves that the log shows answers. The filter of an exporter is changed by people, who restart
/// the exporter; on a node with a few active pods, answers arrive every few seconds.
pub(in crate::detect) const KEPT_US: i64 = 600_000_000;

/// How long after the last answer, and how long before the first, a missing answer is still evidence. Short, because a
/// filter may have been changed in between.
const MARGIN_US: i64 = 60_000_000;

/// A SYN-ACK that only its own flags identify as an answer counts within this time after its SYN.
const SYN_ACK_WAIT_US: i64 = ANSWER_WAIT_US;

/// Number of consecutive contacts without a shown outcome from which on a log is reported to lack it. A few occur
/// before the first answer of any log.
const GAP_CONTACTS_MIN: u32 = 10;

/// How long a gap is reported after the last such contact.
const GAP_KEPT_US: i64 = 3_600_000_000;

/// Whether a log could have shown a record that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detect) enum Shown {
    /// It could not: it began to show such records later.
    No,
    /// Unknown: a later record of this kind may prove that it could.
    NotYet,
    /// It could.
    Yes,
}

/// A span of event time in which something was seen repeatedly.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Span {
    since: EventTime,
    last: EventTime,
}

impl Span {
    fn touches(self, time: EventTime) -> bool {
        time.micros_since(self.last) <= KEPT_US && self.since.micros_since(time) <= KEPT_US
    }

    fn covers(self, time: EventTime, after_us: i64) -> bool {
        time.micros_since(self.last) <= after_us && self.since.micros_since(time) <= MARGIN_US
    }
}

/// The span that was extended last, and the one before: contacts from the earlier one may still wait, and a clock that
/// was set back starts a new one.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Spans([Option<Span>; 2]);

impl Spans {
    fn extend(&mut self, time: EventTime) {
        let [newest, former] = &mut self.0;
        let touches = |span: &Option<Span>| span.is_some_and(|known| known.touches(time));
        if !touches(newest) {
            std::mem::swap(newest, former);
            if !touches(newest) {
                *newest = None;
            }
        }
        let span = newest.get_or_insert(Span {
            since: time,
            last: time,
        });
        span.since = span.since.min(time);
        span.last = span.last.max(time);
    }

    /// Start of the span that includes this time, if a span is extended by `after_us` after its last sign.
    fn since(self, time: EventTime, after_us: i64) -> Option<EventTime> {
        let mut spans = self.0.into_iter().flatten();
        let covering = spans.find(|span| span.covers(time, after_us));
        covering.map(|span| span.since)
    }

    /// Whether a span includes this time, or may still be extended to it.
    fn shows(self, time: EventTime) -> Shown {
        if self.since(time, MARGIN_US).is_some() {
            return Shown::Yes;
        }
        let is_before = |span: Span| span.since.micros_since(time) > MARGIN_US;
        match self.0 {
            [Some(newest), _] if is_before(newest) => Shown::No,
            _ => Shown::NotYet,
        }
    }
}

/// Something that a log does not show although verdicts depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VisibilityGap {
    /// Whether targets answer over this transport.
    Answers(Transport),
    /// Allowed flows over this transport.
    AllowedFlows(Transport),
}

impl std::fmt::Display for VisibilityGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answers(transport) => write!(f, "no answers over {}", transport.name()),
            Self::AllowedFlows(transport) => {
                write!(f, "no allowed flows over {}", transport.name())
            }
        }
    }
}

/// The visibility of one transport.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct TransportVisibility {
    answers: Spans,
    allowed: Spans,
    /// The last end of an unanswered connection.
    silent_end: Option<EventTime>,
    /// Contacts without a shown outcome since the last answer, and denials since the last allowed flow.
    missed: [MissedOutcomes; 2],
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct MissedOutcomes {
    count: u32,
    last: Option<EventTime>,
}

impl TransportVisibility {
    /// Whether the log has recently contained the ends of connections.
    fn has_ends(&self, now: EventTime) -> bool {
        self.silent_end
            .is_some_and(|end| (-KEPT_US..=KEPT_US).contains(&now.micros_since(end)))
    }
}

impl MissedOutcomes {
    fn count(&mut self, time: EventTime) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(Some(time));
    }

    fn is_reportable(self, now: EventTime) -> bool {
        let is_recent = |last: EventTime| now.micros_since(last) <= GAP_KEPT_US;
        self.count >= GAP_CONTACTS_MIN && self.last.is_some_and(is_recent)
    }
}

/// The latest SYN of one source address.
#[derive(Clone, Copy, Debug)]
struct RecordedSyn {
    ends: u64,
    time: EventTime,
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::detect) struct Visibility {
    by_transport: [TransportVisibility; 5],
    /// The latest SYNs, in a slot per hash of the source address, so that a pod that floods the log with SYNs replaces
    /// those of few others. Empty unless the log contains answers that are inferred from flags. Not saved: it covers
    /// ten seconds, and would be most of the state.
    #[serde(skip)]
    syns: Vec<Option<RecordedSyn>>,
    /// Time of the newest record.
    now: Option<EventTime>,
}

impl Visibility {
    /// Updates the visibility from a record about any pod.
    pub(in crate::detect) fn observe(&mut self, signal: &Signal<'_>, key: HashKey) {
        let Signal::Flow(flow) = signal else { return };
        self.now = self.now.max(Some(flow.time));
        // A record of a whole connection is written at its end.
        let lasted = flow.volume.map_or(0, |volume| volume.duration_us);
        let time = flow.time.plus_micros(i64::try_from(lasted).unwrap_or(0));
        let is_answer = matches!(flow.outcome, Outcome::Answered | Outcome::Refused);
        let is_proof = is_answer && (!flow.is_inferred || self.answers_recorded_syn(flow, key));
        if !self.syns.is_empty() && flow.outcome == Outcome::Pending {
            self.record_syn(flow, key);
        }
        let is_allowed = flow.forwarded && flow.outcome != Outcome::NotAnAttempt;
        let is_final = flow.volume.is_some_and(|volume| volume.is_final);
        let visibility = self.of_transport_mut(flow.transport);
        if flow.outcome == Outcome::Unanswered && is_final {
            visibility.silent_end = visibility.silent_end.max(Some(time));
        }
        if is_proof || (flow.outcome == Outcome::Established && visibility.has_ends(time)) {
            visibility.answers.extend(time);
            visibility.missed = Default::default();
        }
        if is_allowed && !flow.is_inferred {
            visibility.allowed.extend(time);
            let [_, denials] = &mut visibility.missed;
            *denials = MissedOutcomes::default();
        }
    }

    /// Whether the log could have shown an answer to a contact of this time.
    pub(in crate::detect) fn answers(&self, transport: Transport, time: EventTime) -> Shown {
        self.of_transport(transport).answers.shows(time)
    }

    /// Whether answers were visibility recently, as of this time.
    pub(in crate::detect) fn shows_answers(&self, transport: Transport, time: EventTime) -> bool {
        let answers = self.of_transport(transport).answers;
        answers.since(time, KEPT_US).is_some()
    }

    /// Start of the span in which allowed flows were visibility, if it includes this time.
    pub(in crate::detect) fn allowed_since(
        &self,
        transport: Transport,
        time: EventTime,
    ) -> Option<EventTime> {
        let since = self.of_transport(transport).allowed.since(time, KEPT_US);
        since.map(|since| since.plus_micros(-MARGIN_US))
    }

    /// Records a contact with an outcome that the log has not shown.
    pub(in crate::detect) fn record_gap(&mut self, gap: VisibilityGap, time: EventTime) {
        let (VisibilityGap::Answers(transport) | VisibilityGap::AllowedFlows(transport)) = gap;
        let [answers, allowed] = &mut self.of_transport_mut(transport).missed;
        match gap {
            VisibilityGap::Answers(_) => answers.count(time),
            VisibilityGap::AllowedFlows(_) => allowed.count(time),
        }
    }

    /// The gaps of this log, for TCP and UDP only: hardly any log contains answers over other transports all day.
    pub(in crate::detect) fn visibility_gaps(&self) -> impl Iterator<Item = VisibilityGap> + '_ {
        let transports = [Transport::Tcp, Transport::Udp];
        transports.into_iter().flat_map(|transport| {
            let [answers, allowed] = self.of_transport(transport).missed;
            let is_reportable =
                |missed: MissedOutcomes| self.now.is_some_and(|now| missed.is_reportable(now));
            [
                (VisibilityGap::Answers(transport), is_reportable(answers)),
                (
                    VisibilityGap::AllowedFlows(transport),
                    is_reportable(allowed),
                ),
            ]
            .into_iter()
            .filter_map(|(gap, is_reportable)| is_reportable.then_some(gap))
        })
    }

    fn of_transport(&self, transport: Transport) -> TransportVisibility {
        let visibility = self.by_transport.get(place(transport));
        visibility.copied().unwrap_or_default()
    }

    fn of_transport_mut(&mut self, transport: Transport) -> &mut TransportVisibility {
        let [tcp, udp, icmp, sctp, other] = &mut self.by_transport;
        match transport {
            Transport::Tcp => tcp,
            Transport::Udp => udp,
            Transport::Icmp => icmp,
            Transport::Sctp => sctp,
            Transport::Other(_) => other,
        }
    }

    fn record_syn(&mut self, flow: &Flow<'_>, key: HashKey) {
        let syn = RecordedSyn {
            ends: ends(flow, key),
            time: flow.time,
        };
        if let Some(slot) = self.slot(flow, key) {
            *slot = Some(syn);
        }
    }

    /// Whether the log contained the SYN that this SYN-ACK answers. A pod can send a SYN-ACK to any host; that alone
    /// must not prove that the log shows answers.
    fn answers_recorded_syn(&mut self, flow: &Flow<'_>, key: HashKey) -> bool {
        if self.syns.is_empty() {
            self.syns = vec![None; limits::SYN_SOURCE_SLOTS];
        }
        let ends = ends(flow, key);
        let syn = self.slot(flow, key).and_then(|slot| *slot);
        syn.is_some_and(|syn| {
            syn.ends == ends && (0..=SYN_ACK_WAIT_US).contains(&flow.time.micros_since(syn.time))
        })
    }

    fn slot(&mut self, flow: &Flow<'_>, key: HashKey) -> Option<&mut Option<RecordedSyn>> {
        let count = u64::try_from(self.syns.len())
            .ok()
            .filter(|count| *count > 0)?;
        let place = usize::try_from(key.host(flow.source) % count).ok()?;
        self.syns.get_mut(place)
    }
}

const fn place(transport: Transport) -> usize {
    match transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
        Transport::Icmp => 2,
        Transport::Sctp => 3,
        Transport::Other(_) => 4,
    }
}

/// Hash of the two endpoints of a connection.
fn ends(flow: &Flow<'_>, key: HashKey) -> u64 {
    let ports = (u64::from(flow.source_port) << 16) | u64::from(flow.destination_port);
    key.target(flow.source, ports) ^ key.target(flow.destination, ports).rotate_left(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Volume;

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(1_700_000_000 + second, 0)
    }

    fn flow(outcome: Outcome, second: i64) -> Flow<'static> {
        crate::detect::tests::flow("203.0.113.7", 443, outcome, second)
    }

    fn log(flows: &[Flow<'static>]) -> Visibility {
        let mut log = Visibility::default();
        for flow in flows {
            log.observe(&Signal::Flow(flow.clone()), HashKey::default());
        }
        log
    }

    fn answers(log: &Visibility, second: i64) -> Shown {
        log.answers(Transport::Tcp, at(second))
    }

    #[test]
    fn a_log_shows_answers_from_a_minute_before_the_first_to_a_minute_after_the_last() {
        let log = log(&[
            flow(Outcome::Answered, 1_000),
            flow(Outcome::Refused, 1_500),
        ]);
        assert_eq!(answers(&log, 900), Shown::No);
        for second in [940, 1_000, 1_250, 1_560] {
            assert_eq!(answers(&log, second), Shown::Yes, "{second}");
        }
        assert_eq!(answers(&log, 1_561), Shown::NotYet);
        assert_eq!(log.answers(Transport::Udp, at(1_000)), Shown::NotYet);
    }

    #[test]
    fn a_later_answer_proves_what_lies_between_and_not_what_lies_before_a_long_gap() {
        let mut log = log(&[flow(Outcome::Answered, 0)]);
        assert_eq!(answers(&log, 300), Shown::NotYet);
        let later = |second| Signal::Flow(flow(Outcome::Answered, second));
        log.observe(&later(600), HashKey::default());
        assert_eq!(answers(&log, 300), Shown::Yes);
        log.observe(&later(1_201), HashKey::default());
        assert_eq!(answers(&log, 900), Shown::No, "nothing for ten minutes");
        assert_eq!(answers(&log, 1_200), Shown::Yes);
        assert_eq!(answers(&log, 300), Shown::Yes, "as before the gap");
    }

    #[test]
    fn after_a_clock_was_set_back_a_log_shows_answers_as_before() {
        let log = log(&[
            flow(Outcome::Answered, 1_000_000),
            flow(Outcome::Answered, 5),
        ]);
        assert_eq!(answers(&log, 4), Shown::Yes);
        assert_eq!(answers(&log, 1_000_000), Shown::Yes);
    }

    #[test]
    fn attempts_denials_and_later_packets_are_no_answers() {
        let outcomes = [
            Outcome::Pending,
            Outcome::Unanswered,
            Outcome::Denied,
            Outcome::Unseen,
            Outcome::NotAnAttempt,
        ];
        for outcome in outcomes {
            let log = log(&[flow(outcome, 0)]);
            assert_eq!(answers(&log, 0), Shown::NotYet, "{outcome:?}");
        }
    }

    #[test]
    fn a_long_connection_shows_an_answer_at_its_end() {
        let ended = Flow {
            volume: Some(Volume {
                duration_us: 5_000_000_000,
                ..Volume::default()
            }),
            ..flow(Outcome::Answered, 0)
        };
        assert_eq!(answers(&log(&[ended]), 5_030), Shown::Yes);
    }

    #[test]
    fn a_connection_that_lives_on_shows_answers_in_a_log_that_has_the_ends_of_connections() {
        let living = |second| flow(Outcome::Established, second);
        let silent = |second, is_final| Flow {
            volume: Some(Volume {
                is_final,
                ..Volume::default()
            }),
            ..flow(Outcome::Unanswered, second)
        };
        assert_eq!(answers(&log(&[living(0), living(1)]), 0), Shown::NotYet);
        let packets_only = log(&[silent(0, false), living(1)]);
        assert_eq!(answers(&packets_only, 1), Shown::NotYet);
        let mut log = log(&[silent(0, true), living(1)]);
        assert_eq!(answers(&log, 0), Shown::Yes);
        assert_eq!(log.answers(Transport::Icmp, at(0)), Shown::NotYet);
        log.observe(&Signal::Flow(living(601)), HashKey::default());
        assert_eq!(answers(&log, 601), Shown::NotYet, "the ends stopped");
    }

    #[test]
    fn allowed_flows_are_remembered_for_ten_minutes_and_drops_are_none() {
        let denied = Flow {
            forwarded: false,
            ..flow(Outcome::Denied, 0)
        };
        let since = |log: &Visibility, second| log.allowed_since(Transport::Tcp, at(second));
        assert_eq!(since(&log(&[denied]), 0), None);
        let log = log(&[flow(Outcome::Pending, 0)]);
        assert_eq!(since(&log, 600), Some(at(-60)));
        assert_eq!(since(&log, 601), None);
        assert_eq!(since(&log, -61), None);
        assert_eq!(log.allowed_since(Transport::Udp, at(0)), None);
    }

    #[test]
    fn an_answer_that_only_flags_call_one_proves_it_only_for_a_syn_that_was_seen() {
        let answer = |second| Flow {
            is_inferred: true,
            ..flow(Outcome::Answered, second)
        };
        // The first SYN-ACK makes the log remember SYNs.
        let mut log = log(&[answer(0)]);
        let mut observe = |flow| log.observe(&Signal::Flow(flow), HashKey::default());
        observe(answer(1));
        observe(flow(Outcome::Pending, 2));
        let other = Flow {
            destination_port: 444,
            ..answer(3)
        };
        observe(other);
        observe(answer(13));
        assert_eq!(answers(&log, 2), Shown::NotYet, "too late, or of another");
        log.observe(&Signal::Flow(answer(3)), HashKey::default());
        assert_eq!(answers(&log, 2), Shown::Yes);
    }

    #[test]
    fn ten_contacts_without_an_outcome_are_reported_until_an_answer_comes() {
        let mut log = log(&[flow(Outcome::Pending, 0)]);
        let reported = |log: &Visibility| log.visibility_gaps().collect::<Vec<_>>();
        let gap = VisibilityGap::Answers(Transport::Tcp);
        for second in 0..9 {
            log.record_gap(gap, at(second));
        }
        assert_eq!(reported(&log), vec![]);
        log.record_gap(gap, at(9));
        assert_eq!(reported(&log), vec![gap]);
        log.observe(
            &Signal::Flow(flow(Outcome::Answered, 10)),
            HashKey::default(),
        );
        assert_eq!(reported(&log), vec![]);
    }

    #[test]
    fn a_gap_is_reported_for_an_hour_after_it_was_last_needed() {
        let mut log = log(&[flow(Outcome::Pending, 0)]);
        let gap = VisibilityGap::AllowedFlows(Transport::Udp);
        (0..10).for_each(|second| log.record_gap(gap, at(second)));
        assert_eq!(log.visibility_gaps().collect::<Vec<_>>(), vec![gap]);
        let later = flow(Outcome::Denied, 3_700);
        log.observe(&Signal::Flow(later), HashKey::default());
        assert_eq!(log.visibility_gaps().count(), 0);
    }
}
