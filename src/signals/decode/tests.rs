//! What holds for every format.

use std::path::PathBuf;

use super::*;

/// Recorded data that lies beside the repository; `None`, and said so, where it does not.
pub(super) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("YELLOWJACK_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not here (set YELLOWJACK_SHARED)",
        path.display()
    );
    None
}

/// The flow of a line, or a failed test that shows what came instead.
#[track_caller]
pub(super) fn flow(format: Format, line: &str) -> crate::model::Flow<'_> {
    match decode(format, line.as_bytes()) {
        Decoded::Signal(Signal::Flow(flow)) => flow,
        other => panic!("no flow but {other:?}: {line}"),
    }
}

#[test]
fn names_lead_back_to_formats() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("syslog"), None);
}

#[test]
fn a_line_that_is_no_record_is_told_apart_from_a_broken_one() {
    for format in Format::ALL {
        let check = |line: &[u8], expected: Decoded<'_>| {
            assert_eq!(
                decode(format, line),
                expected,
                "{}",
                String::from_utf8_lossy(line)
            );
        };
        check(b"", Decoded::Skipped(SkipReason::Blank));
        check(b" \r\n", Decoded::Skipped(SkipReason::Blank));
        check(b"{}", Decoded::Unknown);
        check(b"[1,2]", Decoded::Unknown);
        check(b"{\"level\":\"info\",\"msg\":\"hello\"}", Decoded::Unknown);
        check(b"hello", Decoded::Malformed(Malformed::NotJson));
        check(
            b"{\"a\":1} {\"b\":2}",
            Decoded::Malformed(Malformed::NotJson),
        );
        check(b"{\"a\":", Decoded::Malformed(Malformed::Truncated));
        check(b"{\"a\":\"\xff\"}", Decoded::Malformed(Malformed::NotUtf8));
        check(
            b"2026-02-24T08:43:39.07Z stdout P {\"flow\":{",
            Decoded::Malformed(Malformed::PartialLine),
        );
    }
}

#[test]
fn a_line_beyond_the_bound_is_not_even_read() {
    let line = vec![b' '; limits::LINE_BYTES_MAX + 1];
    for format in Format::ALL {
        assert_eq!(
            decode(format, &line),
            Decoded::Malformed(Malformed::TooLong)
        );
    }
}
