//! Compressed logs: gzip and zstd, recognised by their first bytes and read as a stream.
//!
//! `replay` opens every log with [`open`]. Memory use is bounded regardless of what the headers of a file claim: no
//! file is read whole, a zstd window has a bound, and so does the decompressed size.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::limits;

/// Buffer for bytes that were read but not consumed yet.
const BUFFER_BYTES: usize = 256 * 1024;

/// How a log is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip, one member or several.
    Gzip,
    /// zstd, one frame or several.
    Zstd,
}

impl Compression {
    /// The compression of a file with these first bytes, regardless of its name.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            // A data frame, or a skippable frame before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The text of a log, decompressed if necessary.
pub fn open(input: impl Read + 'static) -> io::Result<Box<dyn BufRead>> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let compression = Compression::of(input.fill_buf()?);
    Ok(match compression {
        None => Box::new(input),
        Some(Compression::Gzip) => bounded(MultiGzDecoder::new(input)),
        Some(Compression::Zstd) => bounded(ZstdFrames::new(input)),
    })
}

fn bounded(inner: impl Read + 'static) -> Box<dyn BufRead> {
    let bounded = Bounded {
        inner,
        left: limits::DECOMPRESSED_BYTES_MAX,
    };
    Box::new(BufReader::with_capacity(BUFFER_BYTES, bounded))
}

/// Fails once the decompressed size exceeds the bound.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let max = limits::DECOMPRESSED_BYTES_MAX;
            io::Error::other(format!("it becomes more than {max} bytes"))
        })?;
        Ok(count)
    }
}

/// The frames of a file, one after another.
struct ZstdFrames<R: BufRead> {
    /// `None` after the last frame, and after an error.
    state: Option<ZstdState<R>>,
}

enum ZstdState<R: BufRead> {
    Between(R),
    Within(Box<FrameDecoder>, R),
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(input: R) -> Self {
        Self {
            state: Some(ZstdState::Between(input)),
        }
    }

    /// Starts the next frame; `None` at the end of the file.
    fn enter(mut input: R) -> io::Result<Option<ZstdState<R>>> {
        loop {
            if input.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(limits::ZSTD_WINDOW_BYTES_MAX);
            match decoder.init(&mut input) {
                Ok(()) => return Ok(Some(ZstdState::Within(Box::new(decoder), input))),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped =
                        io::copy(&mut input.by_ref().take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // Taken out, so that after an error there is no state from which reading could continue.
        while let Some(state) = self.state.take() {
            let (mut frame, mut input) = match state {
                ZstdState::Between(input) => {
                    self.state = Self::enter(input)?;
                    continue;
                }
                ZstdState::Within(frame, input) => (frame, input),
            };
            while frame.can_collect() == 0 && !frame.is_finished() {
                frame
                    .decode_blocks(&mut input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let count = frame.read(buffer)?;
            self.state = Some(if count > 0 {
                ZstdState::Within(frame, input)
            } else {
                ZstdState::Between(input)
            });
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        open(io::Cursor::new(bytes))?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn text_comes_out_whatever_it_was_packed_in() {
        for pack in [gzip, zstd, <[u8]>::to_vec] {
            assert_eq!(read(pack(b"one\ntwo\n")).unwrap(), b"one\ntwo\n");
        }
        assert_eq!(read(Vec::new()).unwrap(), b"");
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        for pack in [gzip, zstd] {
            let both = [pack(b"one\n"), pack(b"two\n")].concat();
            assert_eq!(read(both).unwrap(), b"one\ntwo\n");
        }
        let skipped = [
            &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
            &zstd(b"x"),
        ]
        .concat();
        assert_eq!(read(skipped).unwrap(), b"x");
    }

    #[test]
    fn a_file_that_is_cut_fails_behind_what_was_good() {
        let text = b"a line of some length\n".repeat(50_000);
        for pack in [gzip, zstd] {
            let mut packed = pack(&text);
            packed.truncate(packed.len() - 20);
            let mut reader = open(io::Cursor::new(packed)).unwrap();
            let mut found = Vec::new();
            assert!(reader.read_to_end(&mut found).is_err());
            assert!(text.starts_with(&found));
        }
    }

    #[test]
    fn a_bomb_is_a_stream_like_any_other() {
        let zeros = vec![0; 64 * 1024 * 1024];
        let bomb = gzip(&gzip(&zeros));
        assert!(bomb.len() < 1024);
        // One layer is decompressed; its content is not examined for further layers.
        assert!(read(bomb).unwrap().len() < 128 * 1024);
        let mut bounded = Bounded {
            inner: io::repeat(0),
            left: 1024 * 1024,
        };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("becomes more than"));
    }

    #[test]
    fn a_zstd_window_beyond_the_bound_is_refused_before_it_is_made() {
        // Magic, a descriptor without content size, a window of 2^41 bytes, an empty last block.
        let frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3, 1, 0, 0];
        assert!(read(frame).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(0_u8.., 0..200), kind in 0..2) {
            let mut packed = if kind == 0 { gzip(b"some text, some text") } else { zstd(b"some text, some text") };
            let _ = read(bytes.clone());
            if let Some(first) = bytes.first().copied() {
                let at = usize::from(first) % packed.len();
                packed[at] ^= 0x55;
            }
            let _ = read(packed.clone());
            packed.append(&mut bytes);
            let _ = read(packed);
        }
    }
}
