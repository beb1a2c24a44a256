//! A stream that is read to its end: standard input.
//!
//! Runs on the source's thread. Nothing can be read twice from a stream, so there are no
//! checkpoints, and acknowledging its batches does nothing.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::limits;

use super::health::{Count, SourceState};
use super::lines::LineBuffer;
use super::{Outlet, Position, Stopped};

/// Reads until the end, or until nobody wants the lines.
pub(super) fn run(stream: &mut impl BufRead, outlet: &Outlet) {
    outlet.health.set_state(SourceState::Reading);
    let state = match read(stream, outlet) {
        Ok(()) => SourceState::Ended,
        Err(error) => SourceState::Failed(error.to_string()),
    };
    outlet.health.set_state(state);
}

fn read(stream: &mut impl BufRead, outlet: &Outlet) -> io::Result<()> {
    let mut buffer = LineBuffer::default();
    let mut offset: u64 = 0;
    let acked = Arc::new(AtomicU64::new(0));
    let send = |bytes: Vec<u8>, offset: u64| -> Result<(), Stopped> {
        if bytes.is_empty() {
            return Ok(());
        }
        outlet.send(bytes, Position::new(Arc::clone(&acked), offset))
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
        outlet
            .health
            .count(Count::OversizedLines, buffer.take_oversized());
        if send(batch, offset).is_err() || outlet.is_over() {
            return Ok(());
        }
        if count == 0 {
            let rest = buffer.finish().unwrap_or_default();
            // Whoever stopped does not want the rest either.
            let _ = send(rest, offset);
            return Ok(());
        }
    }
}
