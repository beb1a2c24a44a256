//! The bounded queue of deferred lines. A pod can open connections a moment before the watch delivers its address,
//! and a scan that starts immediately must not be missed for that; or the pod is known, and its run or the pod that
//! it contacts is not.
//!
//! When the queue is full, the oldest lines are evicted. Used by `deferral`; takes every time as a parameter.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::limits;
use crate::respond::AckGuard;
use crate::signals::decode::Decoder;

/// A line to evaluate later.
#[derive(Debug)]
pub(super) struct DeferredLine {
    /// Number of its source.
    pub source: usize,
    /// Decoder in the state that the line needs.
    pub decoder: Decoder,
    /// The line.
    pub line: Vec<u8>,
    /// When it was read.
    pub since: Instant,
    /// Prevents the acknowledgement of its batch.
    #[allow(dead_code)] // held for its drop
    pub guard: Arc<AckGuard>,
}

/// Deferred lines, oldest first. Bounded by count and by bytes.
#[derive(Debug, Default)]
pub(super) struct DeferredLines {
    lines: VecDeque<DeferredLine>,
    bytes: usize,
}

impl DeferredLines {
    /// Adds a line; returns the older lines that were evicted for it.
    pub(super) fn push(&mut self, deferred: DeferredLine) -> Vec<DeferredLine> {
        self.bytes += deferred.line.len();
        self.lines.push_back(deferred);
        let mut dropped = Vec::new();
        while self.lines.len() > limits::DEFERRED_LINES_MAX
            || self.bytes > limits::DEFERRED_BYTES_MAX
        {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.line.len();
            dropped.push(oldest);
        }
        dropped
    }

    /// Number of deferred lines.
    pub(super) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Removes and returns all lines. The caller pushes those back that must wait longer.
    pub(super) fn take(&mut self) -> VecDeque<DeferredLine> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::decode::Format;

    fn line(bytes: usize) -> DeferredLine {
        DeferredLine {
            source: 0,
            decoder: Decoder::new(Format::Ulogd),
            line: vec![b'x'; bytes],
            since: Instant::now(),
            guard: Arc::new(AckGuard),
        }
    }

    #[test]
    fn the_oldest_lines_are_evicted_when_there_are_too_many_or_too_large_ones() {
        let mut lines = DeferredLines::default();
        let dropped: usize = (0..limits::DEFERRED_LINES_MAX + 3)
            .map(|_| lines.push(line(1)).len())
            .sum();
        assert_eq!(dropped, 3);
        assert_eq!(lines.take().len(), limits::DEFERRED_LINES_MAX);
        assert!(lines.push(line(limits::DEFERRED_BYTES_MAX)).is_empty());
        assert_eq!(lines.push(line(1)).len(), 1);
    }
}
