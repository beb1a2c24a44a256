//! A batch of lines on its way into the engine: decoded, attributed, counted by what became of each line.
//!
//! Part of the pipeline, which owns the engine.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::acknowledge::Unacknowledged;
use super::deferred_lines::Deferred;
use super::signal::Whose;
use super::{Pipeline, Progress, count, wall_clock};
use crate::model::{EventTime, Signal};
use crate::respond::{AckGuard, SourceProgress};
use crate::signals::decode::{Decoded, Decoder, SkipReason, Tracking};
use crate::signals::health::{LineFate, LineTally};
use crate::signals::source::Batch;

/// What is known of a batch while its lines are read.
struct Reading {
    source: usize,
    /// Held by the lines of this batch that wait.
    waiting: Arc<AckGuard>,
    guards: Vec<Weak<AckGuard>>,
    newest: EventTime,
    newest_alive: Option<EventTime>,
    tally: LineTally,
    /// Up to when the log had been read before a restart, until the first signal after it.
    restored: Option<EventTime>,
}

impl Pipeline {
    pub(super) fn take(&mut self, batch: &Batch, progress: &mut Progress) {
        self.start_anew();
        // Until the next tick counts them, what is in the batch counts as waiting.
        count(&self.counters.contacts_waiting);
        progress.clock.set(wall_clock());
        let source = batch.source.0;
        let waiting = Arc::new(AckGuard);
        let mut reading = Reading {
            source,
            guards: vec![Arc::downgrade(&waiting)],
            waiting,
            newest: EventTime::MIN,
            newest_alive: None,
            tally: LineTally::default(),
            restored: self.restored_time(source),
        };
        let mut known = progress.decoders.of(source, &batch.position);
        known = known.or_else(|| self.decoder_of(source, &batch.position));
        for line in batch.lines() {
            if known.is_none() {
                known = self.format_of(source, line).map(Decoder::new);
            }
            let Some(decoder) = &mut known else {
                count(&self.counters.unknown);
                reading.tally.add(LineFate::Unreadable(None), line);
                continue;
            };
            let (said, tracking) = decoder.decode_tracked(line);
            match said {
                Decoded::Signal(signal) => {
                    let said = (&signal, tracking);
                    self.take_signal((line, *decoder), said, &mut reading, progress);
                }
                Decoded::Skipped(reason) => self.skipped(reason, line, &mut reading.tally),
                Decoded::Unknown => {
                    count(&self.counters.unknown);
                    reading.tally.add(LineFate::Unreadable(None), line);
                }
                Decoded::Malformed(reason) => {
                    count(&self.counters.malformed);
                    let fate = LineFate::Unreadable(Some(reason));
                    reading.tally.add(fate, line);
                    self.sample(source, line, reason.name(), progress);
                }
            }
            decoder.learn(line);
        }
        if let Some(decoder) = known {
            progress.decoders.keep(source, &batch.position, decoder);
        }
        let now = Instant::now();
        let format = self.sources.get(source).and_then(|info| info.format);
        self.health.delivered(source, format, &reading.tally, now);
        let spoken = SourceProgress {
            log_time: reading.newest,
            alive_time: reading.newest_alive,
            at: now,
        };
        self.has_come(source, spoken, progress);
        progress.has_read(Unacknowledged {
            number: self.memory.took_batch(),
            has_waited: Arc::strong_count(&reading.waiting) > 1,
            position: batch.position.clone(),
            guards: reading.guards,
        });
    }

    /// A line that became a signal.
    fn take_signal(
        &mut self,
        (line, decoder): (&[u8], Decoder),
        (signal, tracking): (&Signal<'_>, Option<Tracking>),
        reading: &mut Reading,
        progress: &mut Progress,
    ) {
        let source = reading.source;
        count(&self.counters.signals);
        reading.newest = reading.newest.max(signal.time());
        self.find_gap(reading.restored.take(), signal.time());
        if decoder.format().shows_survivors(signal) {
            reading.newest_alive = reading.newest_alive.max(Some(signal.time()));
        }
        let subject = self.signal(source, (signal, true), progress, &mut reading.guards);
        if let Some(fate) = subject.fate() {
            reading.tally.add(fate, line);
        }
        if let Some(tracking) = tracking {
            self.dropped(source, (signal, tracking), progress, &mut reading.guards);
        }
        if !matches!(subject, Whose::NotKnownYet | Whose::NotDecidedYet) {
            return;
        }
        let deferred = Deferred {
            source,
            decoder,
            line: line.to_vec(),
            since: Instant::now(),
            guard: Arc::clone(&reading.waiting),
        };
        if subject == Whose::NotKnownYet {
            return self.defer(deferred, progress, &mut reading.tally);
        }
        let mut tallies = HashMap::new();
        self.wait_for_more(deferred, progress, &mut tallies);
        self.settle_tallies(tallies);
    }

    /// Counts a line that is understood and means nothing here.
    fn skipped(&self, reason: SkipReason, line: &[u8], tally: &mut LineTally) {
        self.counters.skipped.count(reason);
        if let Some(fate) = LineFate::skipped(reason) {
            tally.add(fate, line);
        }
    }
}
