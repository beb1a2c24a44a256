//! Visibility: what a log has shown lately, learned from its records about anybody.
//!
//! Kept by `origin` per log and node. A log that never shows answers makes every contact look
//! unanswered, and one that shows drops only makes every pod look denied. So silence is a failure
//! only while answers over that transport are seen, and a denial counts in full only while allowed
//! flows are. One answer to anybody proves it for all: no pod can hide the answers of the others.
//!
//! An answer is a record that says so, or a later packet of a connection on which the kernel has seen
//! both sides speak, in a log that also has the ends of connections: a ping that goes on for hours is
//! one connection to the kernel, and its answers are in no other record until it ends.
//!
//! What was shown is kept as one stretch of time. A silent contact is judged when the log showed an
//! answer up to [`NEAR_US`] before it or at any time after it, as long as no gap between two answers
//! was longer than [`KEPT_US`]. So a log that stops showing answers convicts nobody a minute later,
//! and a scan at a quiet hour is judged with the next answer to anybody.

use serde::{Deserialize, Serialize};

use super::sketch::HashKey;
use crate::limits;
use crate::model::{EventTime, Flow, Outcome, Signal, Transport};

/// How long one answer stands for a log that shows answers. An exporter's filter is changed by people,
/// who restart it; on a node with a handful of pods that work, answers come every few seconds.
pub(super) const KEPT_US: i64 = 600_000_000;

/// How long after the last answer silence is still believed without a later one, and how long before
/// the first: short, because a filter may have been changed meanwhile.
const NEAR_US: i64 = 60_000_000;

/// How long after its SYN a SYN-ACK can answer it that only its own flags call an answer.
const MATCHED_US: i64 = super::contacts::ANSWER_WAIT_US;

/// Contacts in a row whose outcome was not shown from which on a log is said not to show it. A few
/// come before the first answer of any log.
const LACKING_MIN: u32 = 10;

/// How long that is said after the last such contact.
const LACKING_US: i64 = 3_600_000_000;

/// Whether a log could have shown the opposite of what is missing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    /// It could not: it began to show such records later.
    No,
    /// Not known: such a record may still come, and prove it.
    NotYet,
    /// It could.
    Yes,
}

/// A span of event time over which something was seen again and again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stretch {
    since: EventTime,
    last: EventTime,
}

impl Stretch {
    fn touches(self, time: EventTime) -> bool {
        time.micros_since(self.last) <= KEPT_US && self.since.micros_since(time) <= KEPT_US
    }

    fn covers(self, time: EventTime, after_us: i64) -> bool {
        time.micros_since(self.last) <= after_us && self.since.micros_since(time) <= NEAR_US
    }
}

/// The stretch that was extended last, and the one before: contacts of that one may still wait, and
/// a clock that was set back begins another.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Stretches([Option<Stretch>; 2]);

impl Stretches {
    fn extend(&mut self, time: EventTime) {
        let [newest, former] = &mut self.0;
        let touches = |stretch: &Option<Stretch>| stretch.is_some_and(|known| known.touches(time));
        if !touches(newest) {
            std::mem::swap(newest, former);
            if !touches(newest) {
                *newest = None;
            }
        }
        let stretch = newest.get_or_insert(Stretch {
            since: time,
            last: time,
        });
        stretch.since = stretch.since.min(time);
        stretch.last = stretch.last.max(time);
    }

    /// Since when it goes on at a time, if it goes on for so long after its last sign.
    fn since(self, time: EventTime, after_us: i64) -> Option<EventTime> {
        let mut stretches = self.0.into_iter().flatten();
        let covering = stretches.find(|stretch| stretch.covers(time, after_us));
        covering.map(|stretch| stretch.since)
    }

    /// Whether a time is covered, or may yet be.
    fn shows(self, time: EventTime) -> Shown {
        if self.since(time, NEAR_US).is_some() {
            return Shown::Yes;
        }
        let is_before = |stretch: Stretch| stretch.since.micros_since(time) > NEAR_US;
        match self.0 {
            [Some(newest), _] if is_before(newest) => Shown::No,
            _ => Shown::NotYet,
        }
    }
}

/// Something that a log would have to show and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lack {
    /// Whether targets answer over this transport.
    Answers(Transport),
    /// Flows over this transport that a policy lets pass.
    AllowedFlows(Transport),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answers(transport) => write!(f, "no answers over {}", transport.name()),
            Self::AllowedFlows(transport) => {
                write!(f, "no allowed flows over {}", transport.name())
            }
        }
    }
}

/// What is known about one transport.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Seen {
    answers: Stretches,
    allowed: Stretches,
    /// The last end of a connection that nobody answered.
    silent_end: Option<EventTime>,
    /// Contacts without a shown outcome since the last answer, and denials since the last allowed flow.
    lacking: [Lacking; 2],
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Lacking {
    count: u32,
    last: Option<EventTime>,
}

impl Seen {
    /// Whether the log has lately had the ends of connections.
    fn has_ends(&self, now: EventTime) -> bool {
        self.silent_end
            .is_some_and(|end| (-KEPT_US..=KEPT_US).contains(&now.micros_since(end)))
    }
}

impl Lacking {
    fn count(&mut self, time: EventTime) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(Some(time));
    }

    fn is_said(self, now: EventTime) -> bool {
        let is_late = |last: EventTime| now.micros_since(last) <= LACKING_US;
        self.count >= LACKING_MIN && self.last.is_some_and(is_late)
    }
}

/// The latest SYN of one source address.
#[derive(Clone, Copy, Debug)]
struct Asked {
    ends: u64,
    time: EventTime,
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Visibility {
    by_transport: [Seen; 5],
    /// The latest SYNs, each source at its own place, so that a pod that floods the log with SYNs
    /// hides those of few others. Empty unless the log has answers that are inferred from flags. Not
    /// kept over a restart: it holds ten seconds, and would be most of the state.
    #[serde(skip)]
    asked: Vec<Option<Asked>>,
    /// The newest record.
    now: Option<EventTime>,
}

impl Visibility {
    /// Learns from a record about anybody.
    pub(super) fn observe(&mut self, signal: &Signal<'_>, key: HashKey) {
        let Signal::Flow(flow) = signal else { return };
        self.now = self.now.max(Some(flow.time));
        // A record of a whole connection is written at its end.
        let lasted = flow.volume.map_or(0, |volume| volume.duration_us);
        let time = flow.time.plus_micros(i64::try_from(lasted).unwrap_or(0));
        let is_answer = matches!(flow.outcome, Outcome::Answered | Outcome::Refused);
        let is_proof = is_answer && (!flow.is_inferred || self.was_asked(flow, key));
        if !self.asked.is_empty() && flow.outcome == Outcome::Pending {
            self.ask(flow, key);
        }
        let is_allowed = flow.forwarded && flow.outcome != Outcome::NotAnAttempt;
        let is_final = flow.volume.is_some_and(|volume| volume.is_final);
        let seen = self.seen_mut(flow.transport);
        if flow.outcome == Outcome::Unanswered && is_final {
            seen.silent_end = seen.silent_end.max(Some(time));
        }
        if is_proof || (flow.outcome == Outcome::Established && seen.has_ends(time)) {
            seen.answers.extend(time);
            seen.lacking = Default::default();
        }
        if is_allowed && !flow.is_inferred {
            seen.allowed.extend(time);
            let [_, denials] = &mut seen.lacking;
            *denials = Lacking::default();
        }
    }

    /// Whether the log could have shown an answer to a contact of this time.
    pub(super) fn answers(&self, transport: Transport, time: EventTime) -> Shown {
        self.seen(transport).answers.shows(time)
    }

    /// Whether answers were seen lately before this time.
    pub(super) fn shows_answers(&self, transport: Transport, time: EventTime) -> bool {
        let answers = self.seen(transport).answers;
        answers.since(time, KEPT_US).is_some()
    }

    /// From when on allowed flows were seen, if they were lately at this time.
    pub(super) fn allowed_since(&self, transport: Transport, time: EventTime) -> Option<EventTime> {
        let since = self.seen(transport).allowed.since(time, KEPT_US);
        since.map(|since| since.plus_micros(-NEAR_US))
    }

    /// Notes a contact whose outcome the log has not shown.
    pub(super) fn lacks(&mut self, lack: Lack, time: EventTime) {
        let (Lack::Answers(transport) | Lack::AllowedFlows(transport)) = lack;
        let [answers, allowed] = &mut self.seen_mut(transport).lacking;
        match lack {
            Lack::Answers(_) => answers.count(time),
            Lack::AllowedFlows(_) => allowed.count(time),
        }
    }

    /// What the log does not show although it would be needed. Of TCP and UDP only: hardly any log
    /// has answers over the others all day.
    pub(super) fn lacking(&self) -> impl Iterator<Item = Lack> + '_ {
        let transports = [Transport::Tcp, Transport::Udp];
        transports.into_iter().flat_map(|transport| {
            let [answers, allowed] = self.seen(transport).lacking;
            let is_said = |lacking: Lacking| self.now.is_some_and(|now| lacking.is_said(now));
            [
                (Lack::Answers(transport), is_said(answers)),
                (Lack::AllowedFlows(transport), is_said(allowed)),
            ]
            .into_iter()
            .filter_map(|(lack, is_said)| is_said.then_some(lack))
        })
    }

    fn seen(&self, transport: Transport) -> Seen {
        let seen = self.by_transport.get(place(transport));
        seen.copied().unwrap_or_default()
    }

    fn seen_mut(&mut self, transport: Transport) -> &mut Seen {
        let [tcp, udp, icmp, sctp, other] = &mut self.by_transport;
        match transport {
            Transport::Tcp => tcp,
            Transport::Udp => udp,
            Transport::Icmp => icmp,
            Transport::Sctp => sctp,
            Transport::Other(_) => other,
        }
    }

    fn ask(&mut self, flow: &Flow<'_>, key: HashKey) {
        let asked = Asked {
            ends: ends(flow, key),
            time: flow.time,
        };
        if let Some(slot) = self.slot(flow, key) {
            *slot = Some(asked);
        }
    }

    /// Whether the log showed the SYN that this SYN-ACK answers. A pod can send a SYN-ACK to anybody;
    /// it must not prove by that alone that the log shows answers.
    fn was_asked(&mut self, flow: &Flow<'_>, key: HashKey) -> bool {
        if self.asked.is_empty() {
            self.asked = vec![None; limits::ASKED_SLOTS];
        }
        let ends = ends(flow, key);
        let asked = self.slot(flow, key).and_then(|slot| *slot);
        asked.is_some_and(|asked| {
            asked.ends == ends && (0..=MATCHED_US).contains(&flow.time.micros_since(asked.time))
        })
    }

    fn slot(&mut self, flow: &Flow<'_>, key: HashKey) -> Option<&mut Option<Asked>> {
        let count = u64::try_from(self.asked.len())
            .ok()
            .filter(|count| *count > 0)?;
        let place = usize::try_from(key.host(flow.source) % count).ok()?;
        self.asked.get_mut(place)
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

/// A hash of both ends of a connection.
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
        super::super::tests::flow("203.0.113.7", 443, outcome, second)
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
    fn ten_contacts_without_an_outcome_are_said_until_an_answer_comes() {
        let mut log = log(&[flow(Outcome::Pending, 0)]);
        let said = |log: &Visibility| log.lacking().collect::<Vec<_>>();
        let lack = Lack::Answers(Transport::Tcp);
        for second in 0..9 {
            log.lacks(lack, at(second));
        }
        assert_eq!(said(&log), vec![]);
        log.lacks(lack, at(9));
        assert_eq!(said(&log), vec![lack]);
        log.observe(
            &Signal::Flow(flow(Outcome::Answered, 10)),
            HashKey::default(),
        );
        assert_eq!(said(&log), vec![]);
    }

    #[test]
    fn what_is_lacking_is_forgotten_an_hour_after_it_was_last_needed() {
        let mut log = log(&[flow(Outcome::Pending, 0)]);
        let lack = Lack::AllowedFlows(Transport::Udp);
        (0..10).for_each(|second| log.lacks(lack, at(second)));
        assert_eq!(log.lacking().collect::<Vec<_>>(), vec![lack]);
        let later = flow(Outcome::Denied, 3_700);
        log.observe(&Signal::Flow(later), HashKey::default());
        assert_eq!(log.lacking().count(), 0);
    }
}
