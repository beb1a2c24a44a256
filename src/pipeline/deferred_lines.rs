//! Lines that wait for what the API server does not say yet. A pod can open connections a moment before its address
//! reaches us, and a scan that begins at once must not be missed for that. Or the pod is known, and its run or the
//! pod that it contacts is not.
//!
//! Bounded: the oldest give way. Used by the pipeline alone; knows no clock but what it is given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::limits;
use crate::respond::AckGuard;
use crate::signals::decode::Decoder;

/// One line that waits.
#[derive(Debug)]
pub struct Deferred {
    /// Index of its source.
    pub source: usize,
    /// How it is read.
    pub decoder: Decoder,
    /// The line.
    pub line: Vec<u8>,
    /// When it came.
    pub since: Instant,
    /// Keeps its batch from being acknowledged.
    #[allow(dead_code)] // held, never read
    pub guard: Arc<AckGuard>,
}

/// The lines that wait, oldest first.
#[derive(Debug, Default)]
pub struct DeferredLines {
    lines: VecDeque<Deferred>,
    bytes: usize,
}

impl DeferredLines {
    /// Takes in a line; returns the older ones that gave way.
    pub fn push(&mut self, deferred: Deferred) -> Vec<Deferred> {
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

    /// How many there are.
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// All of them; what still waits afterwards is pushed again.
    pub fn take(&mut self) -> VecDeque<Deferred> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::decode::Format;

    fn line(bytes: usize) -> Deferred {
        Deferred {
            source: 0,
            decoder: Decoder::new(Format::Ulogd),
            line: vec![b'x'; bytes],
            since: Instant::now(),
            guard: Arc::new(AckGuard),
        }
    }

    #[test]
    fn the_oldest_give_way_when_there_are_too_many_or_too_large_ones() {
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
