//! A stream that is read to its end: standard input.
//!
//! Runs on the thread of the source. A stream cannot be read twice, so there are no
//! checkpoints, and acknowledging its batches has no effect.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::limits;

use super::health::{Count, SourceState};
use super::lines::LineBuffer;
use super::{BatchSender, Position, Stopped};

/// Reads until the stream ends, or until no more lines are wanted.
pub(super) fn run(stream: &mut impl BufRead, output: &BatchSender) {
    output.health.set_state(SourceState::Reading);
    let state = match read(stream, output) {
        Ok(()) => SourceState::Ended,
        Err(error) => SourceState::Failed(error.to_string()),
    };
    output.health.set_state(state);
}

fn read(stream: &mut impl BufRead, output: &BatchSender) -> io::Result<()> {
    let mut buffer = LineBuffer::default();
    let mut offset: u64 = 0;
    let acked = Arc::new(AtomicU64::new(0));
    let send = |bytes: Vec<u8>, offset: u64| -> Result<(), Stopped> {
        if bytes.is_empty() {
            return Ok(());
        }
        output.send(bytes, Position::new(Arc::clone(&acked), offset))
    };
    loop {
        let mut count = 0;
        let batch = buffer.push(|bytes| {
            let fresh = loop {
                match stream.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            count = fresh.len().min(limits::READ_BYTES_MAX);
            bytes.extend_from_slice(fresh.get(..count).unwrap_or_default());
            Ok::<(), io::Error>(())
        })?;
        stream.consume(count);
        offset += count as u64;
        output
            .health
            .count(Count::OversizedLines, buffer.take_oversized());
        if send(batch, offset).is_err() || output.is_closed() {
            return Ok(());
        }
        if count == 0 {
            let rest = buffer.finish().unwrap_or_default();
            // After a stop the rest is not wanted either.
            let _ = send(rest, offset);
            return Ok(());
        }
    }
}
