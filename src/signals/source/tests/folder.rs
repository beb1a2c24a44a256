//! A folder of logs.

use super::*;

/// Lines of a tail that mention `log`.
fn of(tail: &Tail, log: &str) -> Vec<String> {
    let mine = tail.lines.iter().filter(|line| line.starts_with(log));
    mine.cloned().collect()
}

fn named(log: &str, lines: std::ops::Range<usize>) -> Vec<String> {
    numbered(lines)
        .into_iter()
        .map(|line| format!("{log} {line}"))
        .collect()
}

fn put(folder: &Path, log: &str, lines: std::ops::Range<usize>) {
    let text: String = named(log, lines)
        .into_iter()
        .map(|line| line + "\n")
        .collect();
    append(&folder.join(log), &text);
}

/// A folder of logs, and where its checkpoints are.
fn folder() -> (tempfile::TempDir, SourceConfig) {
    let root = tempfile::tempdir().unwrap();
    let logs = root.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let config = config(&logs);
    (root, config)
}

fn path(config: &SourceConfig) -> &Path {
    let SourceKind::Path(path) = &config.kind else {
        panic!("not a path");
    };
    path
}

#[track_caller]
fn expect(tail: &mut Tail, expected: &[(&str, std::ops::Range<usize>)]) {
    let count: usize = expected.iter().map(|(_, lines)| lines.len()).sum();
    tail.until(&format!("{count} lines"), |tail| tail.lines.len() >= count);
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(20) {
        tail.take();
    }
    for (log, lines) in expected {
        assert_eq!(of(tail, log), named(log, lines.clone()));
    }
    assert_eq!(tail.lines.len(), count);
}

#[test]
fn every_log_of_a_folder_is_followed_and_nothing_else() {
    let (_root, config) = folder();
    let logs = path(&config);
    put(logs, "conn.log", 0..2);
    put(logs, "dns.json", 0..3);
    put(logs, "old.log.gz", 0..3);
    put(logs, "notes.txt", 0..3);
    fs::create_dir(logs.join("sub.log")).unwrap();
    let mut tail = Tail::start(config.clone());
    tail.until("lines", |tail| tail.lines.len() >= 5);
    put(logs, "conn.log", 2..4);
    put(logs, "ssl.jsonl", 0..1);
    expect(
        &mut tail,
        &[("conn.log", 0..4), ("dns.json", 0..3), ("ssl.jsonl", 0..1)],
    );
}

#[test]
fn a_rotated_log_keeps_its_place_though_its_backup_looks_like_a_log_too() {
    let (_root, config) = folder();
    let logs = path(&config);
    put(logs, "conn.log", 0..2);
    put(logs, "dns.log", 0..2);
    let mut tail = Tail::start(config.clone());
    expect(&mut tail, &[("conn.log", 0..2), ("dns.log", 0..2)]);
    put(logs, "conn.log", 2..4);
    fs::rename(
        logs.join("conn.log"),
        logs.join("conn-2026-02-24T08-43-39.070.log"),
    )
    .unwrap();
    tail.until("missing log", |tail| tail.lines.len() >= 6);
    put(logs, "conn.log", 4..6);
    put(logs, "dns.log", 2..3);
    expect(&mut tail, &[("conn.log", 0..6), ("dns.log", 0..3)]);
}

#[test]
fn a_restart_continues_in_every_log_of_a_folder_and_finds_new_ones() {
    let (_root, config) = folder();
    let logs = path(&config);
    put(logs, "conn.log", 0..2);
    put(logs, "dns.log", 0..2);
    let mut tail = Tail::start(config.clone());
    expect(&mut tail, &[("conn.log", 0..2), ("dns.log", 0..2)]);
    tail.stop();
    put(logs, "conn.log", 2..3);
    fs::rename(logs.join("conn.log"), logs.join("conn.log.1")).unwrap();
    put(logs, "conn.log", 3..4);
    put(logs, "dns.log", 2..4);
    put(logs, "new.log", 0..2);
    let mut tail = Tail::start(config.clone());
    expect(
        &mut tail,
        &[("conn.log", 2..4), ("dns.log", 2..4), ("new.log", 0..2)],
    );
    tail.stop();
    let mut tail = Tail::start(config.clone());
    tail.until_state(&SourceState::Reading);
    expect(&mut tail, &[]);
}

#[test]
fn a_busy_log_does_not_keep_the_others_waiting() {
    let (_root, config) = folder();
    let logs = path(&config);
    // Far more than the queue holds, and the small log comes last by name.
    let line = "x".repeat(1023) + "\n";
    write(&logs.join("busy.log"), &line.repeat(16 * 1024));
    write(&logs.join("small.log"), "small\n");
    let mut tail = Tail::start(config.clone());
    tail.until("the small log", |tail| {
        tail.lines.iter().any(|line| line == "small")
    });
    assert!(
        tail.lines.len() < 1024,
        "{} lines came before",
        tail.lines.len()
    );
}

#[test]
fn a_folder_with_too_many_logs_is_read_up_to_the_bound_and_reports_it() {
    let (_root, config) = folder();
    let logs = path(&config);
    for i in 0..limits::FOLLOWED_FILES_MAX + 3 {
        write(&logs.join(format!("log{i:03}.log")), &format!("line {i}\n"));
    }
    let mut tail = Tail::start(config.clone());
    tail.until("count", |tail| tail.health().unfollowed > 0);
    tail.until("lines", |tail| {
        tail.lines.len() == limits::FOLLOWED_FILES_MAX
    });
    // Once they are deleted there is space for others.
    fs::remove_dir_all(logs).unwrap();
    fs::create_dir(logs).unwrap();
    write(&logs.join("other.log"), "other\n");
    tail.until("the other log", |tail| {
        tail.lines.iter().any(|line| line == "other")
    });
}

#[test]
fn a_folder_that_is_created_later_is_read() {
    let root = tempfile::tempdir().unwrap();
    let logs = root.path().join("logs");
    let mut tail = Tail::of(&logs);
    tail.until_state(&SourceState::Missing);
    fs::create_dir(&logs).unwrap();
    put(&logs, "conn.log", 0..2);
    expect(&mut tail, &[("conn.log", 0..2)]);
    tail.until_state(&SourceState::Reading);
}
