//! Invalid input and failures.

use super::*;

#[test]
fn a_log_that_vanishes_is_missing_and_is_read_when_it_returns() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..2));
    fs::remove_file(&path).unwrap();
    tail.until_state(&SourceState::Missing);
    write(&path, &text(2..4));
    tail.expect(&numbered(0..4));
    tail.until_state(&SourceState::Reading);
}

#[test]
fn a_folder_that_vanishes_with_its_log_is_missing_and_is_read_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs").join("a.log");
    let mut first = config(&path);
    first.checkpoint_dir = None;
    let mut tail = Tail::start(first);
    tail.until_state(&SourceState::Missing);
    fs::create_dir(path.parent().unwrap()).unwrap();
    write(&path, &text(0..2));
    tail.expect(&numbered(0..2));
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    tail.until_state(&SourceState::Missing);
    fs::create_dir(path.parent().unwrap()).unwrap();
    write(&path, &text(2..4));
    tail.expect(&numbered(0..4));
}

#[test]
fn lines_written_to_a_deleted_file_are_still_read() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..2));
    fs::remove_file(&path).unwrap();
    tail.until_state(&SourceState::Missing);
    writer.write_all(text(2..3).as_bytes()).unwrap();
    tail.expect(&numbered(0..3));
}

#[test]
fn what_is_no_regular_file_fails_without_being_opened_and_is_retried() {
    let (_folder, path) = log();
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut tail = Tail::of(&path);
    tail.until_state(&SourceState::Failed("not a regular file".to_owned()));
    drop(socket);
    fs::remove_file(&path).unwrap();
    write(&path, "one\n");
    tail.expect(&["one"]);
    tail.until_state(&SourceState::Reading);
}

#[test]
fn a_line_of_ten_mebibytes_is_dropped_and_counted_and_the_next_one_is_read() {
    let (_folder, path) = log();
    write(&path, "before\n");
    append(&path, &"x".repeat(10 * 1024 * 1024));
    append(&path, "\nafter\n");
    let mut tail = Tail::of(&path);
    tail.expect(&["before", "after"]);
    assert_eq!(tail.health().oversized_lines, 1);
    assert!(tail.health().bytes < 100);
}

#[test]
fn an_endless_line_does_not_hold_up_what_comes_after_a_rotation() {
    let (_folder, path) = log();
    write(&path, &"x".repeat(limits::LINE_BYTES_MAX * 3));
    let mut tail = Tail::of(&path);
    tail.until("oversized line", |tail| tail.health().oversized_lines == 1);
    fs::rename(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, "one\n");
    tail.expect(&["one"]);
    assert_eq!(tail.health().oversized_lines, 1);
}

#[test]
fn bytes_that_are_no_text_reach_the_decoder() {
    let (_folder, path) = log();
    fs::write(&path, b"\xff\xfe\x00\xff\nnext\n").unwrap();
    let mut tail = Tail::of(&path);
    let batch = tail.receiver.blocking_recv().unwrap();
    let lines: Vec<&[u8]> = batch.lines().collect();
    assert_eq!(lines, [b"\xff\xfe\x00\xff".as_slice(), b"next".as_slice()]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_counted_and_reading_continues() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let mut broken = config(&path);
    // A folder cannot be created below a file, not even by root.
    broken.checkpoint_dir = Some(path.join("checkpoints"));
    let mut tail = Tail::start(broken);
    tail.until("failures", |tail| tail.health().checkpoint_failures > 0);
    append(&path, &text(2..3));
    tail.expect(&numbered(0..3));
    tail.shutdown.cancel();
    let error = tail.handle.take().unwrap().close().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to write the checkpoint"),
        "{error}"
    );
}

#[test]
fn a_source_ends_when_its_receiver_is_dropped() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let tail = Tail::of(&path);
    drop(tail.receiver);
    let start = Instant::now();
    while tail.handle.as_ref().unwrap().health().state != SourceState::Ended {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}
