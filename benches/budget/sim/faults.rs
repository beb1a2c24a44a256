//! What a log does to its records before anybody reads them: loss, doubles, another order, a clock
//! that jumps, an old part read again. Called by the bench and by the tests.

use yellowjack::testing::model::Signal;

use super::random::Random;
use super::tape::{Event, HOUR, MINUTE, SECOND, Word};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Spans of 10 to 60 s in which the producer loses most records, and says so.
    Loss,
    /// Every fifth record comes twice.
    Doubles,
    /// Records come up to 20 s late, each by another delay.
    Disorder,
    /// The node's clock is up to two hours off for a while, in both directions.
    ClockJump,
    /// An hour of the log is read again later, as after a lost checkpoint.
    OldPart,
}

impl Fault {
    pub const ALL: [Self; 5] = [
        Self::Loss,
        Self::Doubles,
        Self::Disorder,
        Self::ClockJump,
        Self::OldPart,
    ];

    /// The records as they would come with this fault.
    pub fn apply(self, mut events: Vec<Event>, random: &mut Random) -> Vec<Event> {
        match self {
            Self::Loss => lose(&mut events, |_| true, random),
            Self::Doubles => double(&mut events, random),
            Self::Disorder => {
                for event in events.iter_mut().filter(|event| event.is_record()) {
                    event.arrival += random.between(0, 20 * SECOND);
                }
            }
            Self::ClockJump => jump(&mut events, random),
            Self::OldPart => repeat(&mut events, random),
        }
        events.sort_by_key(|event| event.arrival);
        events
    }
}

fn end(events: &[Event]) -> i64 {
    events.last().map_or(0, |event| event.arrival)
}

/// Loses records of the pods that are meant.
pub fn lose(events: &mut Vec<Event>, is_meant: impl Fn(usize) -> bool, random: &mut Random) {
    let end = end(events);
    let mut from = random.gap(HOUR);
    while from < end {
        let until = from + random.between(10 * SECOND, MINUTE);
        let share = random.real(0.5, 0.95);
        let mut lost = std::collections::BTreeMap::<usize, u64>::new();
        events.retain(|event| {
            let is_lost = (from..until).contains(&event.arrival)
                && event.is_record()
                && is_meant(event.pod)
                && random.chance(share);
            if is_lost {
                *lost.entry(event.pod).or_default() += 1;
            }
            !is_lost
        });
        for (pod, count) in lost {
            let word = Word::Lost(count);
            // Hubble says it with the next record that fits.
            events.push(Event {
                arrival: until,
                pod,
                word,
            });
        }
        from = until + random.gap(HOUR);
    }
}

fn double(events: &mut Vec<Event>, random: &mut Random) {
    let doubles: Vec<Event> = events
        .iter()
        .filter(|event| event.is_record() && random.chance(0.2))
        .cloned()
        .collect();
    for mut event in doubles {
        event.arrival += random.between(0, MINUTE);
        events.push(event);
    }
}

fn jump(events: &mut [Event], random: &mut Random) {
    let end = end(events);
    let mut from = random.gap(4 * HOUR);
    while from < end {
        let until = from + random.between(MINUTE, 2 * HOUR);
        let shift = random.between(-2 * HOUR, 2 * HOUR);
        let hit = events
            .iter_mut()
            .filter(|event| (from..until).contains(&event.arrival));
        for event in hit {
            shift_time(event, shift);
        }
        from = until + random.gap(4 * HOUR);
    }
}

fn shift_time(event: &mut Event, shift: i64) {
    let Word::Signal(signal) = &mut event.word else {
        return;
    };
    if let Signal::Flow(flow) = signal {
        flow.time = flow.time.plus_micros(shift);
    } else if let Signal::Dns(query) = signal {
        query.time = query.time.plus_micros(shift);
    } else if let Signal::Tls(name) = signal {
        name.time = name.time.plus_micros(shift);
    }
}

fn repeat(events: &mut Vec<Event>, random: &mut Random) {
    let end = end(events);
    for _ in 0..3 {
        let from = random.between(0, end);
        let again = random.between(from, end).max(from + HOUR);
        let old: Vec<Event> = events
            .iter()
            .filter(|event| event.is_record() && (from..from + HOUR).contains(&event.arrival))
            .cloned()
            .collect();
        for (n, mut event) in old.into_iter().enumerate() {
            // A file is read faster than it was written: a record in 10 us.
            event.arrival = again + i64::try_from(n).unwrap_or_default() * 10;
            events.push(event);
        }
    }
}
