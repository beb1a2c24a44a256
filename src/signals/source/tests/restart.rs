//! Changes to a log while it is not being read.

use super::*;

/// Reads `before`, stops, runs `change`, and starts again: the second start must yield
/// exactly `after`.
#[track_caller]
fn check(before: &str, change: impl FnOnce(&Path), after: &[String]) -> SourceHealth {
    let (_folder, path) = log();
    write(&path, before);
    let mut tail = Tail::of(&path);
    tail.until("first lines", |tail| {
        tail.lines.len() >= before.matches('\n').count()
    });
    tail.stop();
    change(&path);
    let mut tail = Tail::of(&path);
    tail.expect(after);
    let health = tail.health();
    tail.stop();
    // A third start finds nothing new.
    let mut tail = Tail::of(&path);
    tail.until_state(&SourceState::Reading);
    let nothing: [&str; 0] = [];
    tail.expect(&nothing);
    health
}

fn backup(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(name)
}

#[test]
fn a_restart_continues_where_it_stopped() {
    let health = check(
        &text(0..5),
        |path| append(path, &text(5..8)),
        &numbered(5..8),
    );
    assert_eq!(health.gaps, 0);
}

#[test]
fn a_restart_without_new_lines_gives_none() {
    check(&text(0..5), |_| {}, &[]);
}

#[test]
fn an_unfinished_line_is_read_whole_after_a_restart() {
    let line = text(5..6);
    let (first, second) = line.split_at(10);
    let before = text(0..5) + first;
    check(&before, |path| append(path, second), &numbered(5..6));
}

#[test]
fn a_file_that_was_rotated_between_two_runs_is_finished_first() {
    let change = |path: &Path| {
        append(path, &text(5..7));
        fs::rename(path, backup(path, "a.log.1")).unwrap();
        write(path, &text(7..9));
    };
    let health = check(&text(0..5), change, &numbered(5..9));
    assert_eq!(health.gaps, 0);
}

#[test]
fn a_file_that_was_rotated_several_times_between_two_runs_is_read_in_order() {
    let change = |path: &Path| {
        append(path, &text(5..7));
        for i in 0..4 {
            let name = format!("a-2026-02-24T08-43-3{i}.000.log");
            fs::rename(path, backup(path, &name)).unwrap();
            write(path, &text(7 + i..8 + i));
        }
    };
    check(&text(0..5), change, &numbered(5..11));
}

#[test]
fn a_rotated_file_is_found_under_any_name() {
    let change = |path: &Path| {
        append(path, &text(5..7));
        fs::rename(path, backup(path, "kept-by-a-user.txt")).unwrap();
        write(path, &text(7..9));
    };
    check(&text(0..5), change, &numbered(5..9));
}

#[test]
fn a_file_that_was_copied_and_truncated_between_two_runs_is_finished_in_its_copy() {
    let change = |path: &Path| {
        append(path, &text(5..7));
        fs::copy(path, backup(path, "a.log.1")).unwrap();
        write(path, &text(7..30));
    };
    let health = check(&text(0..5), change, &numbered(5..30));
    assert_eq!(health.gaps, 0);
}

#[test]
fn a_file_that_was_copied_and_truncated_twice_between_two_runs_is_read_in_order() {
    let change = |path: &Path| {
        append(path, &text(5..7));
        fs::copy(path, backup(path, "a.log.2")).unwrap();
        write(path, &text(7..30));
        fs::copy(path, backup(path, "a.log.1")).unwrap();
        write(path, &text(30..31));
    };
    check(&text(0..5), change, &numbered(5..31));
}

#[test]
fn a_file_that_was_truncated_between_two_runs_is_read_from_its_start_and_the_gap_is_counted() {
    let change = |path: &Path| write(path, &text(7..30));
    let health = check(&text(0..5), change, &numbered(7..30));
    assert_eq!(health.gaps, 1);
}

#[test]
fn a_rotated_file_that_is_gone_is_a_gap() {
    let change = |path: &Path| {
        fs::remove_file(path).unwrap();
        write(path, &text(7..9));
    };
    let health = check(&text(0..5), change, &numbered(7..9));
    assert_eq!(health.gaps, 1);
}

#[test]
fn a_new_file_with_the_inode_of_the_old_one_is_read_from_its_start() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    tail.stop();
    // The file system may or may not reuse the inode, so the checkpoint is edited
    // to contain the inode of the new file.
    fs::rename(&path, path.with_file_name("elsewhere")).unwrap();
    write(&path, &text(5..50));
    let inode_of = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).unwrap().ino().to_string()
    };
    let (old, new) = (inode_of(&path.with_file_name("elsewhere")), inode_of(&path));
    let checkpoint = checkpoint_of(&path);
    let saved = fs::read_to_string(&checkpoint).unwrap();
    write(&checkpoint, &saved.replace(&old, &new));
    fs::remove_file(path.with_file_name("elsewhere")).unwrap();
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(5..50));
    assert_eq!(tail.health().gaps, 1);
}

fn checkpoint_of(path: &Path) -> PathBuf {
    let folder = fs::read_dir(path.with_file_name("checkpoints")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn backups_that_were_read_stay_read_over_a_restart() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    fs::rename(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, &text(5..6));
    tail.expect(&numbered(0..6));
    tail.stop();
    fs::rename(
        path.with_file_name("a.log.1"),
        path.with_file_name("a.log.2"),
    )
    .unwrap();
    fs::rename(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, &text(6..7));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(6..7));
    assert_eq!(tail.health().gaps, 0);
}

#[test]
fn lines_that_were_not_acknowledged_are_sent_again() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    tail.is_acking = false;
    append(&path, &text(5..8));
    tail.expect(&numbered(0..8));
    // The same holds after a rotation, although the file was read to its end and closed.
    fs::rename(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, &text(8..9));
    tail.expect(&numbered(0..9));
    tail.stop();
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(5..9));
}

#[test]
fn lines_acknowledged_after_the_reader_stopped_count() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.is_acking = false;
    tail.expect(&numbered(0..5));
    tail.shutdown.cancel();
    tail.until_state(&SourceState::Ended);
    tail.unacked
        .drain(..)
        .for_each(|position| position.acknowledge());
    tail.stop();
    append(&path, &text(5..6));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(5..6));
}

#[test]
fn a_crash_repeats_what_was_not_in_a_checkpoint_and_loses_nothing() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut slow = config(&path);
    slow.pacing.checkpoint = Duration::from_hours(1);
    let mut tail = Tail::start(slow);
    tail.is_acking = false;
    tail.expect(&numbered(0..5));
    // The only checkpoint for an hour is the first one.
    let checkpoints = path.with_file_name("checkpoints");
    tail.until("checkpoint", |_| {
        checkpoints.exists() && fs::read_dir(&checkpoints).unwrap().count() == 1
    });
    tail.unacked
        .drain(..)
        .for_each(|position| position.acknowledge());
    tail.crash();
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
}

#[test]
fn a_checkpoint_is_written_while_reading() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    let size = format!("\"offset\":{}", text(0..5).len());
    let checkpoints = path.with_file_name("checkpoints");
    tail.until("checkpoint", |_| {
        checkpoints.exists()
            && fs::read_to_string(checkpoint_of(&path)).is_ok_and(|saved| saved.contains(&size))
    });
    tail.crash();
    append(&path, &text(5..6));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(5..6));
}

#[test]
fn a_damaged_checkpoint_costs_a_second_reading_and_never_lines() {
    for damage in [
        "",
        "{",
        "{\"version\":99,\"at_ms\":0,\"logs\":[]}",
        "\u{0}\u{0}\u{0}",
    ] {
        let (_folder, path) = log();
        write(&path, &text(0..5));
        let mut tail = Tail::of(&path);
        tail.expect(&numbered(0..5));
        tail.stop();
        write(&checkpoint_of(&path), damage);
        append(&path, &text(5..6));
        let mut end = config(&path);
        end.start_at = StartAt::End;
        let mut tail = Tail::start(end);
        tail.expect(&numbered(0..6));
        assert_eq!(tail.health().gaps, 1, "{damage}");
    }
}

#[test]
fn a_log_that_appeared_while_it_was_not_read_is_read_from_its_start() {
    let (_folder, path) = log();
    let mut end = config(&path);
    end.start_at = StartAt::End;
    let mut tail = Tail::start(end.clone());
    tail.until_state(&SourceState::Missing);
    tail.stop();
    write(&path, &text(0..3));
    let mut tail = Tail::start(end);
    tail.expect(&numbered(0..3));
}

#[test]
fn a_restart_inside_a_line_that_is_too_long_does_not_read_its_rest_as_a_line() {
    let (_folder, path) = log();
    write(
        &path,
        &("first\n".to_owned() + &"x".repeat(limits::LINE_BYTES_MAX * 2)),
    );
    let mut tail = Tail::of(&path);
    tail.until("oversized line", |tail| tail.health().oversized_lines == 1);
    tail.until("end of the file", |tail| tail.health().lag_bytes == 0);
    assert_eq!(tail.stop(), ["first"]);
    append(&path, "yyy\nlast\n");
    let mut tail = Tail::of(&path);
    tail.expect(&["last"]);
}
