//! A batch of lines: decoded, attributed, passed to the engine, and counted by result. Part of the pipeline.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::acknowledge::PendingBatch;
use super::attribution_result::AttributionResult;
use super::deferred_lines::DeferredLine;
use super::{Pipeline, PipelineState, count, wall_clock};
use crate::model::{EventTime, Signal};
use crate::respond::{AckGuard, SourceProgress};
use crate::signals::decode::{Decoded, Decoder, SkipReason, Tracking};
use crate::signals::health::{LineOutcome, LineTally};
use crate::signals::source::Batch;

/// Results of a batch while its lines are processed.
struct BatchResults {
    source: usize,
    /// Held by the deferred lines of this batch.
    deferral_guard: Arc<AckGuard>,
    guards: Vec<Weak<AckGuard>>,
    /// Time of the newest signal.
    newest: EventTime,
    /// Time of the newest record of an established connection.
    newest_alive: Option<EventTime>,
    tally: LineTally,
    /// Before the first signal after a restart: time up to which the log had been read when the state was saved.
    restored: Option<EventTime>,
}

impl Pipeline {
    /// Processes a batch and adds it to those that wait for acknowledgement.
    pub(super) fn process_batch(&mut self, batch: &Batch, state: &mut PipelineState) {
        self.apply_updates();
        // Until the next tick computes the exact number, each batch counts as one waiting contact.
        count(&self.counters.contacts_waiting);
        state.clock.set(wall_clock());
        let source = batch.source.0;
        let deferral_guard = Arc::new(AckGuard);
        let mut results = BatchResults {
            source,
            guards: vec![Arc::downgrade(&deferral_guard)],
            deferral_guard,
            newest: EventTime::MIN,
            newest_alive: None,
            tally: LineTally::default(),
            restored: self.restored_time(source),
        };
        let mut decoder = state.decoders.of(source, &batch.position);
        decoder = decoder.or_else(|| self.decoder_of(source, &batch.position));
        for line in batch.lines() {
            if decoder.is_none() {
                decoder = self.format_of(source, line).map(Decoder::new);
            }
            let Some(decoder) = &mut decoder else {
                count(&self.counters.unknown);
                results.tally.add(LineOutcome::Unreadable(None), line);
                continue;
            };
            let (result, tracking) = decoder.decode_with_conntrack(line);
            match result {
                Decoded::Signal(signal) => {
                    let signal = (&signal, tracking);
                    self.process_decoded((line, *decoder), signal, &mut results, state);
                }
                Decoded::Skipped(reason) => self.count_skipped(reason, line, &mut results.tally),
                Decoded::Unknown => {
                    count(&self.counters.unknown);
                    results.tally.add(LineOutcome::Unreadable(None), line);
                }
                Decoded::Malformed(reason) => {
                    count(&self.counters.malformed);
                    let fate = LineOutcome::Unreadable(Some(reason));
                    results.tally.add(fate, line);
                    self.log_malformed(source, line, reason.name(), state);
                }
            }
            decoder.learn(line);
        }
        if let Some(decoder) = decoder {
            state.decoders.keep(source, &batch.position, decoder);
        }
        let now = Instant::now();
        let format = self.sources.get(source).and_then(|info| info.format);
        self.health.delivered(source, format, &results.tally, now);
        let progress = SourceProgress {
            log_time: results.newest,
            alive_time: results.newest_alive,
            at: now,
        };
        self.record_progress(source, progress, state);
        state.add_pending(PendingBatch {
            number: self.saver.add_batch(),
            had_deferred_lines: Arc::strong_count(&results.deferral_guard) > 1,
            position: batch.position.clone(),
            guards: results.guards,
        });
    }

    /// Processes a line that was decoded into a signal.
    fn process_decoded(
        &mut self,
        (line, decoder): (&[u8], Decoder),
        (signal, tracking): (&Signal<'_>, Option<Tracking>),
        results: &mut BatchResults,
        state: &mut PipelineState,
    ) {
        let source = results.source;
        count(&self.counters.signals);
        results.newest = results.newest.max(signal.time());
        self.drop_waiting_after_gap(results.restored.take(), signal.time());
        if decoder.format().shows_survivors(signal) {
            results.newest_alive = results.newest_alive.max(Some(signal.time()));
        }
        let result = self.process_signal(source, (signal, true), state, &mut results.guards);
        if let Some(fate) = result.fate() {
            results.tally.add(fate, line);
        }
        if let Some(tracking) = tracking {
            self.process_confirmed_drops(source, (signal, tracking), state, &mut results.guards);
        }
        if !matches!(
            result,
            AttributionResult::AwaitsPod | AttributionResult::AwaitsContext
        ) {
            return;
        }
        let deferred = DeferredLine {
            source,
            decoder,
            line: line.to_vec(),
            since: Instant::now(),
            guard: Arc::clone(&results.deferral_guard),
        };
        if result == AttributionResult::AwaitsPod {
            return self.defer(deferred, state, &mut results.tally);
        }
        let mut tallies = HashMap::new();
        self.defer_for_context(deferred, state, &mut tallies);
        self.report_tallies(tallies);
    }

    /// Counts a line that was understood and is intentionally not used.
    fn count_skipped(&self, reason: SkipReason, line: &[u8], tally: &mut LineTally) {
        self.counters.skipped.count(reason);
        if let Some(fate) = LineOutcome::skipped(reason) {
            tally.add(fate, line);
        }
    }
}
