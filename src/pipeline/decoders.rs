//! Decoders: one for each file of each source. Part of the pipeline.
//!
//! A folder may contain several logs, each with its own header. A log that is read from the middle after a restart has
//! its header at the beginning of the file, which the source provides.

use std::collections::HashMap;

use crate::limits;
use crate::signals::decode::Decoder;
use crate::signals::source::{Position, lines};

/// Decoders in use, with the headers they have read.
#[derive(Debug, Default)]
pub(super) struct Decoders {
    /// By source: its files, the most recently used last.
    by_source: HashMap<usize, Vec<(u64, Decoder)>>,
}

impl Decoders {
    /// Decoder of the file that a batch was read from. `None` while the format of the source is unknown.
    pub(super) fn of(&self, source: usize, position: &Position) -> Option<Decoder> {
        let files = self.by_source.get(&source)?;
        let known = files.iter().find(|(file, _)| *file == position.file());
        if let Some((_, decoder)) = known {
            return Some(*decoder);
        }
        let (_, latest) = files.last()?;
        Some(with_header(latest.for_next_file(), position))
    }

    /// Stores the decoder after a batch, because earlier lines affect how later ones are decoded.
    pub(super) fn keep(&mut self, source: usize, position: &Position, decoder: Decoder) {
        let files = self.by_source.entry(source).or_default();
        files.retain(|(file, _)| *file != position.file());
        if files.len() >= limits::FILE_DECODERS_MAX {
            files.remove(0);
        }
        files.push((position.file(), decoder));
    }
}

/// A decoder that has read the header of the file.
pub(super) fn with_header(mut decoder: Decoder, position: &Position) -> Decoder {
    for line in lines(position.header()) {
        decoder.learn_header(line);
    }
    decoder
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::signals::decode::{Decoded, Format};
    use crate::signals::source::{SourceConfig, SourceId, SourceKind, StartAt, channel, spawn};

    const CONN: &str = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n";
    const DNS: &str = "#separator \\x09\n#path\tdns\n#fields\tquery\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tanswers\n";

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Reads a folder of Zeek logs until this many records have arrived; returns how many were decoded.
    fn read(folder: &Path, checkpoints: &Path, record_count: usize) -> usize {
        let (sender, mut batches) = channel();
        let config = SourceConfig {
            start_at: StartAt::Beginning,
            checkpoint_dir: Some(checkpoints.to_owned()),
            ..SourceConfig::new(SourceId(0), "zeek", SourceKind::Path(folder.to_owned()))
        };
        let stop = CancellationToken::new();
        let handle = spawn(config, sender, stop.clone()).unwrap();
        let (mut decoders, mut seen, mut used) = (Decoders::default(), 0, 0);
        while seen < record_count {
            let batch = batches.blocking_recv().unwrap();
            let first = || with_header(Decoder::new(Format::Zeek), &batch.position);
            let mut decoder = decoders.of(0, &batch.position).unwrap_or_else(first);
            for line in batch.lines() {
                let is_used = matches!(decoder.decode(line), Decoded::Signal(_));
                seen += usize::from(line.first() != Some(&b'#'));
                used += usize::from(is_used);
                decoder.learn(line);
            }
            decoders.keep(0, &batch.position, decoder);
            batch.position.acknowledge();
        }
        stop.cancel();
        handle.close().unwrap();
        used
    }

    /// Two logs with different columns in one folder, and a restart in the middle of both.
    #[test]
    fn each_file_is_read_with_its_own_header_also_after_a_restart_in_its_middle() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = tempfile::tempdir().unwrap();
        let (conn, dns) = (
            folder.path().join("conn.log"),
            folder.path().join("dns.log"),
        );
        let flow = "1764403200.25\t10.9.1.50\t52000\t10.30.0.4\t3389\ttcp\tREJ\n";
        let query = "a.example\t1764403200.25\t10.9.1.50\t5\t10.96.0.10\t53\t192.0.2.1\n";
        append(&conn, &(CONN.to_owned() + flow));
        append(&dns, &(DNS.to_owned() + query));
        assert_eq!(read(folder.path(), checkpoints.path(), 2), 2);
        append(&conn, &flow.repeat(3));
        append(&dns, &query.repeat(2));
        assert_eq!(read(folder.path(), checkpoints.path(), 5), 5);
        // Rotated between two reads, with columns in another order.
        append(&conn, flow);
        std::fs::rename(&conn, folder.path().join("conn.log.1")).unwrap();
        let turned = CONN.replace("ts\tid.orig_h\tid.orig_p", "id.orig_p\tid.orig_h\tts");
        append(
            &conn,
            &(turned + "52000\t10.9.1.50\t1764403200.25\t10.30.0.4\t3389\ttcp\tREJ\n"),
        );
        assert_eq!(read(folder.path(), checkpoints.path(), 2), 2);
    }
}
