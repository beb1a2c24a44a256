//! Tests of saving and restoring: what is saved, what is restored after a restart, and what is set aside.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use sha2::{Digest, Sha256};

use super::*;
use crate::detect::{Attributed, Origin, Workload};
use crate::model::{Flow, Neighbour, Outcome, PodKey, RunKey, Signal, Subject, Transport};

/// The `nth` failed contact of a pod of a run; the findings that it leads to.
fn contact(engine: &mut Engine, pod: &str, nth: u8) -> Vec<Finding> {
    contact_with(engine, (pod, Outcome::Refused), nth)
}

fn contact_with(engine: &mut Engine, (pod, outcome): (&str, Outcome), nth: u8) -> Vec<Finding> {
    let signal = Signal::Flow(Flow {
        time: EventTime::from_seconds(1_700_000_000 + i64::from(nth), 0),
        source: IpAddr::from([10, 244, 0, 9]),
        source_port: 40_000,
        destination: IpAddr::from([10, 7, 0, nth]),
        destination_port: 22,
        transport: Transport::Tcp,
        outcome,
        is_inferred: false,
        forwarded: true,
        volume: None,
        destination_name: None,
        pod: None,
        node: None,
    });
    engine.step(&Attributed {
        signal: &signal,
        subject: &Subject {
            pod: PodKey::from(pod),
            run: Some(RunKey::from("agents/run")),
        },
        origin: Origin {
            source: 0,
            node: None,
        },
        neighbour: Neighbour::Stranger,
        workload: Workload::Standard,
    })
}

fn engine(pods: &[&str], contacts: u8) -> Engine {
    let mut engine = Engine::new(EngineConfig::default());
    for pod in pods {
        (0..contacts).for_each(|nth| drop(contact(&mut engine, pod, nth)));
    }
    engine
}

fn no_times() -> SourceTimes {
    HashMap::new()
}

fn save(folder: &Path, engine: &Engine) -> Arc<SavedStateCounters> {
    let counters = Arc::new(SavedStateCounters::default());
    let mut saver = StateSaver::in_folder(folder, Arc::clone(&counters));
    let batch = saver.add_batch();
    assert!(saver.saved_batch() < batch, "not before it is written");
    saver.finish(engine, &no_times);
    assert_eq!(saver.saved_batch(), batch);
    counters
}

fn load(folder: &Path) -> (Option<Restored>, SavedStateCounters) {
    let counters = SavedStateCounters::default();
    let restored = restore(folder, &EngineConfig::default(), &counters);
    (restored, counters)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_walk_continues_where_it_was_when_the_state_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let counters = save(folder.path(), &engine(&["a", "b"], 30));
    assert_eq!(counters.written.load(Ordering::Relaxed), 1);
    let file = folder.path().join(file::NAME);
    let about = std::fs::metadata(&file).unwrap();
    assert_eq!(
        about.permissions().mode() & 0o777,
        0o600,
        "it holds the key"
    );
    assert_eq!(about.len(), counters.bytes.load(Ordering::Relaxed));
    let (restored, counters) = load(folder.path());
    assert_eq!(counters.restored_pods.load(Ordering::Relaxed), 2);
    let mut restored = restored.unwrap().engine;
    let found = (30..35)
        .flat_map(|nth| contact(&mut restored, "a", nth))
        .count();
    assert!(found > 0, "35 in all");
    let mut fresh = engine(&[], 0);
    assert_eq!(
        (30..35)
            .flat_map(|nth| contact(&mut fresh, "a", nth))
            .count(),
        0
    );
}

#[test]
fn lines_that_are_read_again_do_not_count_twice() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &engine(&["a"], 30));
    let mut restored = load(folder.path()).0.unwrap().engine;
    let again = (0..30)
        .flat_map(|nth| contact(&mut restored, "a", nth))
        .count();
    assert_eq!(again, 0);
}

#[test]
fn a_pass_that_is_written_in_pieces_while_lines_arrive_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..3_000).map(|nth| format!("pod-{nth}")).collect();
    let pods: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut engine = engine(&pods, 12);
    let counters = Arc::new(SavedStateCounters::default());
    let mut saver = StateSaver::in_folder(folder.path(), Arc::clone(&counters));
    let batch = saver.add_batch();
    let (until, mut steps) = (Instant::now() + Duration::from_mins(1), 0);
    while saver.saved_batch() < batch {
        assert!(Instant::now() < until, "it is never written");
        saver.step(&engine, &no_times);
        steps = (steps + 1) % 20;
        drop(contact(&mut engine, "pod-0", 12 + steps));
        std::thread::yield_now();
    }
    let bytes = counters.bytes.load(Ordering::Relaxed);
    assert!(bytes > 2 * limits::STATE_SLICE_BYTES as u64, "{bytes}");
    assert_eq!(load(folder.path()).0.unwrap().engine.pod_count(), 3_000);
}

#[test]
fn a_finding_that_is_not_recorded_is_restored_and_one_that_is_recorded_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine(&[], 0);
    let findings: Vec<_> = (0..40)
        .flat_map(|nth| contact(&mut engine, "a", nth))
        .collect();
    let found = findings.into_iter().map(|finding| {
        AttributedFinding::from(Unrecorded {
            finding,
            namespace: "team".to_owned(),
            pod: "agent".to_owned(),
            node: None,
            ips: Vec::new(),
        })
    });
    let found: Vec<_> = found.collect();
    assert!(!found.is_empty());
    let mut saver = StateSaver::in_folder(folder.path(), Arc::default());
    for found in &found {
        saver.track_finding(found);
    }
    saver.add_batch();
    saver.finish(&engine, &no_times);
    let again = saver.resume_from(&load(folder.path()).0.unwrap());
    assert_eq!(again.len(), found.len());
    assert_eq!(
        again.first().unwrap().finding,
        found.first().unwrap().finding
    );
    drop(found);
    saver.add_batch();
    saver.finish(&engine, &no_times);
    assert!(
        saver
            .resume_from(&load(folder.path()).0.unwrap())
            .is_empty()
    );
}

#[test]
fn what_one_log_has_shown_does_not_count_for_another_that_has_its_number_now() {
    for (name, is_convicted) in [("flows", true), ("drops", false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Engine::new(EngineConfig::default());
        contact_with(&mut engine, ("other", Outcome::Answered), 0);
        let times = || HashMap::from([("flows".to_owned(), (0, EventTime::MIN))]);
        let mut saver = StateSaver::in_folder(folder.path(), Arc::default());
        saver.add_batch();
        saver.finish(&engine, &times);
        let mut restored = load(folder.path()).0.unwrap();
        restored.match_sources(&[name.to_owned()]);
        let mut engine = restored.engine;
        (1..45).for_each(|nth| drop(contact_with(&mut engine, ("silent", Outcome::Pending), nth)));
        let read_up_to = EventTime::from_seconds(1_700_000_100, 0);
        let found = engine.expire_pending(|_| Some(read_up_to));
        assert_eq!(!found.is_empty(), is_convicted, "{name}");
    }
}

/// A state with a valid checksum, whatever its content.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(32));
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

#[test]
fn a_state_that_cannot_be_used_is_counted_and_set_aside() {
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &engine(&["a", "b"], 30));
        std::fs::read(folder.path().join(file::NAME)).unwrap()
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        *bytes.get_mut(at).unwrap() ^= byte;
        bytes
    };
    let cases = [
        ("empty", Vec::new(), StateDefect::NotAState),
        ("something else", b"{}".repeat(100), StateDefect::NotAState),
        ("another layout", with(16, 1), StateDefect::OtherLayout),
        ("a flipped bit", with(60, 1), StateDefect::Damaged),
        (
            "a flipped bit of the sum",
            with(whole.len() - 1, 1),
            StateDefect::Damaged,
        ),
        (
            "cut short",
            whole[..whole.len() / 2].to_vec(),
            StateDefect::Damaged,
        ),
        (
            "cut in its head",
            whole[..30].to_vec(),
            StateDefect::Damaged,
        ),
        (
            "an absurd length",
            sealed(with(27, 0x7f)),
            StateDefect::OutOfBounds,
        ),
        (
            "a kind that is not known",
            sealed(with(28, 0x40)),
            StateDefect::OutOfBounds,
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (what, bytes, reason) in cases {
        std::fs::write(folder.path().join(file::NAME), bytes).unwrap();
        let (restored, counters) = load(folder.path());
        assert!(restored.is_none(), "{what}");
        let counted: Vec<_> = counters.unreadable.all().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [(reason, 1)], "{what}");
    }
    let expected = ["1", "2"].map(|nth| format!("{}.unreadable-{nth}", file::NAME));
    assert_eq!(names(folder.path()), expected, "no more than two");
    std::os::unix::fs::symlink("/dev/zero", folder.path().join(file::NAME)).unwrap();
    assert!(load(folder.path()).0.is_none(), "a link leads elsewhere");
}

#[test]
fn a_forged_state_with_a_valid_checksum_never_causes_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &engine(&["a", "b", "c"], 33));
    let path = folder.path().join(file::NAME);
    let whole = std::fs::read(&path).unwrap();
    let (mut random, mut accepted) = (7_u64, 0);
    for _ in 0..1_000 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let at = 28 + usize::try_from(random >> 33).unwrap() % (bytes.len() - 64);
            bytes[at] = random.to_le_bytes()[3];
        }
        std::fs::write(&path, sealed(bytes)).unwrap();
        if let Ok(Some(mut restored)) = file::load(&path, &EngineConfig::default()) {
            accepted += 1;
            for pod in ["a", "b"] {
                (30..45).for_each(|nth| drop(contact(&mut restored.engine, pod, nth)));
            }
            drop(
                restored
                    .engine
                    .expire_pending(|_| Some(EventTime::from_seconds(1_800_000_000, 0))),
            );
        }
    }
    assert!(accepted > 25, "most were refused: {accepted}");
}

#[test]
fn a_folder_that_cannot_be_written_delays_no_batch() {
    let folder = tempfile::tempdir().unwrap();
    let no_folder = folder.path().join("file");
    std::fs::write(&no_folder, "").unwrap();
    let counters = Arc::new(SavedStateCounters::default());
    let mut saver = StateSaver::in_folder(&no_folder, Arc::clone(&counters));
    let batch = saver.add_batch();
    saver.finish(&engine(&["a"], 3), &no_times);
    assert_eq!(saver.saved_batch(), batch);
    assert_eq!(counters.failed.load(Ordering::Relaxed), 1);
}

#[test]
fn without_a_folder_every_batch_counts_as_saved() {
    let mut saver = StateSaver::default();
    let number = saver.add_batch();
    assert!(saver.saved_batch() >= number);
    assert_eq!(saver.next_step_at(), None);
}

/// The definitions of everything that is saved, as the sources have them: without comments and spaces.
fn definitions() -> String {
    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root.join("detect"), &mut files);
    sources(&root.join("model"), &mut files);
    files.sort();
    // First, wherever the file is: an order by path would make a move look like another layout.
    files.insert(0, root.join("pipeline/saved_state/mod.rs"));
    let mut definitions = String::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        // An item ends before the next empty line at its own depth, which is where rustfmt leaves one.
        for item in text.split("\n\n").filter(|item| item.contains("Serialize")) {
            let is_import = |line: &&str| line.trim_start().starts_with("use ");
            let is_comment = |line: &&str| line.trim_start().starts_with("//");
            let lines = item
                .lines()
                .filter(|line| !is_import(line) && !is_comment(line));
            definitions.extend(lines.flat_map(str::split_whitespace));
        }
    }
    definitions
}

#[test]
fn the_layout_is_the_one_that_is_written_down() {
    let hash = Sha256::digest(definitions());
    let layout = u64::from_be_bytes(hash[..8].try_into().unwrap());
    assert_eq!(
        file::LAYOUT,
        layout,
        "a type of the saved state has changed: write {layout:#018x} into LAYOUT of pipeline/saved_state/file.rs, so that a \
         state of the older form is not read as one of the new"
    );
}
