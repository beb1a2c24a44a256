//! Rotation while a source reads.

use super::*;

fn rename(path: &Path, name: &str) -> PathBuf {
    let backup = path.with_file_name(name);
    fs::rename(path, &backup).unwrap();
    backup
}

#[test]
fn rotation_by_rename_finishes_the_old_file_and_continues_with_the_new_one() {
    let (_folder, path) = log();
    write(&path, &text(0..3));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..3));
    // The last lines of the old file are written after the last poll, and before the rename.
    append(&path, &text(3..5));
    rename(&path, "a.log.1");
    write(&path, &text(5..7));
    tail.expect(&numbered(0..7));
    assert_eq!(tail.health().rotations, 1);
    append(&path, &text(7..8));
    tail.expect(&numbered(0..8));
}

#[test]
fn a_writer_that_still_has_the_old_file_open_is_read_to_the_end() {
    let (_folder, path) = log();
    write(&path, &text(0..1));
    let mut old = OpenOptions::new().append(true).open(&path).unwrap();
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..1));
    rename(&path, "a.log.1");
    write(&path, "");
    tail.until("rotation", |tail| tail.health().rotations == 1);
    old.write_all(text(1..2).as_bytes()).unwrap();
    tail.expect(&numbered(0..2));
    append(&path, &text(2..3));
    tail.expect(&numbered(0..3));
}

#[test]
fn an_unfinished_last_line_of_a_rotated_file_is_a_line() {
    let (_folder, path) = log();
    write(&path, "one\ntwo");
    let mut tail = Tail::of(&path);
    tail.expect(&["one"]);
    rename(&path, "a.log.1");
    write(&path, "");
    tail.expect(&["one", "two"]);
    append(&path, "three\n");
    tail.expect(&["one", "two", "three"]);
}

#[test]
fn generations_that_came_and_went_between_two_polls_are_read_in_order() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..2));
    // As lumberjack does, several times at once.
    for i in 1..5 {
        rename(&path, &format!("a-2026-02-24T08-43-39.00{i}.log"));
        write(&path, &text(2 * i..2 * i + 2));
    }
    tail.expect(&numbered(0..10));
}

#[test]
fn numbered_backups_that_move_up_are_not_read_again() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let mut tail = Tail::of(&path);
    for i in 1..8 {
        tail.expect(&numbered(0..2 * i));
        for number in (1..4).rev() {
            let from = path.with_file_name(format!("a.log.{number}"));
            if from.exists() {
                fs::rename(from, path.with_file_name(format!("a.log.{}", number + 1))).unwrap();
            }
        }
        rename(&path, "a.log.1");
        write(&path, &text(2 * i..2 * i + 2));
    }
    tail.expect(&numbered(0..16));
    assert_eq!(tail.health().gaps, 0);
}

#[test]
fn a_file_that_is_truncated_is_read_from_its_start_again() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    File::create(&path).unwrap();
    append(&path, &text(5..6));
    tail.expect(&numbered(0..6));
    assert_eq!(tail.health().truncations, 1);
}

#[test]
fn a_file_that_is_truncated_and_refilled_beyond_its_old_size_at_once_is_noticed() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    // One write for all of it: no poll can happen in between.
    write(&path, &text(5..50));
    tail.expect(&numbered(0..50));
    assert_eq!(tail.health().truncations, 1);
}

#[test]
fn a_file_that_is_refilled_to_the_same_size_is_noticed() {
    let (_folder, path) = log();
    write(&path, &text(100_000..100_005));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(100_000..100_005));
    let size = fs::metadata(&path).unwrap().len();
    write(&path, &text(100_005..100_010));
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
    tail.expect(&numbered(100_000..100_010));
}

#[test]
fn copytruncate_with_a_fast_refill_loses_and_repeats_nothing() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    // Lines that were not read yet when the file is copied and truncated are read from the copy.
    append(&path, &text(5..8));
    fs::copy(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, &text(8..40));
    tail.expect(&numbered(0..40));
    fs::rename(
        path.with_file_name("a.log.1"),
        path.with_file_name("a.log.2"),
    )
    .unwrap();
    append(&path, &text(40..41));
    fs::copy(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, &text(41..42));
    tail.expect(&numbered(0..42));
    // Nor later, when the copies are not read any more.
    append(&path, &text(42..43));
    tail.expect(&numbered(0..43));
}

#[test]
fn a_line_that_copytruncate_cuts_in_two_is_joined_again() {
    let (_folder, path) = log();
    let all = text(0..2);
    let (before, rest) = all.split_at(all.len() - 10);
    write(&path, before);
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..1));
    append(&path, rest);
    fs::copy(&path, path.with_file_name("a.log.1")).unwrap();
    write(&path, &text(2..3));
    tail.until("all lines", |tail| tail.lines.len() >= 3);
    tail.lines.sort();
    tail.expect(&numbered(0..3));
}

#[test]
fn a_hole_that_a_writer_leaves_after_copytruncate_is_no_line() {
    let (_folder, path) = log();
    let mut writer = File::create(&path).unwrap();
    writer.write_all(text(0..5).as_bytes()).unwrap();
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    fs::copy(&path, path.with_file_name("a.log.1")).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    // Without O_APPEND the writer continues at its old offset.
    writer.write_all(text(5..7).as_bytes()).unwrap();
    tail.expect(&numbered(0..7));
    assert_eq!(tail.health().oversized_lines, 0);
}

#[test]
fn a_manual_copy_of_a_log_is_not_read() {
    let (_folder, path) = log();
    write(&path, &text(0..5));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..5));
    fs::copy(&path, path.with_file_name("a.log.20260224")).unwrap();
    rename(&path, "a.log.1");
    write(&path, &text(5..6));
    tail.expect(&numbered(0..6));
    tail.until("finished file", |tail| tail.health().lag_bytes == 0);
    tail.expect(&numbered(0..6));
}

#[test]
fn a_log_that_gets_its_old_file_back_is_not_read_twice() {
    let (_folder, path) = log();
    write(&path, &text(0..2));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(0..2));
    let backup = rename(&path, "a.log.1");
    write(&path, &text(2..3));
    tail.expect(&numbered(0..3));
    fs::rename(&backup, &path).unwrap();
    append(&path, &text(3..4));
    tail.expect(&numbered(0..4));
}

#[test]
fn backups_from_before_the_first_start_are_left_alone() {
    let (_folder, path) = log();
    for i in 0..limits::BACKUPS_MAX {
        write(
            &path.with_file_name(format!("a.log.{}", i + 1)),
            &text(i..i + 1),
        );
    }
    write(&path, &text(100..101));
    let mut tail = Tail::of(&path);
    tail.expect(&numbered(100..101));
    rename(&path, "a.log.0");
    write(&path, &text(101..102));
    tail.expect(&numbered(100..102));
}
