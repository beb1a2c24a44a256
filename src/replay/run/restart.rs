//! A restored engine has the findings that the previous one would have had: each case, interrupted at random
//! lines.

use std::path::{Path, PathBuf};

use super::*;
use crate::replay::{SetupFiles, find_captures};

/// The engine after a restart: a new one with the saved state.
fn restarted(engine: &Engine, config: &crate::detect::EngineConfig) -> Engine {
    let (mut restored, mut saving, mut piece) =
        (Engine::new(config.clone()), engine.saving(), Vec::new());
    while engine.save_next(&mut saving, &mut piece).unwrap() {
        assert!(
            piece.len() <= limits::STATE_PIECE_BYTES_MAX,
            "{}",
            piece.len()
        );
        restored.restore(&piece).unwrap();
    }
    restored
}

/// The result of a case with a restart after this many lines on average. `None`: without restarts.
fn outcome(case: &Path, restart_every: Option<u64>) -> (String, u64) {
    let optional = |name: &str| Some(case.join(name)).filter(|path| path.is_file());
    let files = SetupFiles {
        pool_lists: optional("pools.txt").into_iter().collect(),
        policy: optional("policy.yaml"),
        runs: optional("runs.json"),
        ..SetupFiles::default()
    };
    let (setup, _) = Setup::read(&files).unwrap();
    let samples = optional("samples.jsonl");
    let captures = find_captures(&[case.to_owned()], samples.as_deref()).unwrap();
    let mut text = String::new();
    let (mut restart_count, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for capture in captures {
        let mut replay = Replay::new(&capture, &setup);
        Files::of(&capture, None).for_each_line(|source, line| {
            let result = replay.take(source, line);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if restart_every.is_some_and(|every| random.is_multiple_of(every)) {
                replay.engine = restarted(&replay.engine, &setup.config);
                restart_count += 1;
            }
            result
        });
        std::fmt::Write::write_fmt(
            &mut text,
            format_args!("{:#?}", replay.finish(&setup.labels)),
        )
        .unwrap();
    }
    (text, restart_count)
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let folders = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut cases: Vec<_> = folders(&root)
        .iter()
        .flat_map(|path| folders(path))
        .collect();
    cases.sort();
    cases
}

#[test]
fn a_restored_engine_gives_exactly_the_findings_of_the_one_before_in_every_case() {
    let cases = cases();
    assert!(cases.len() >= 20, "{}", cases.len());
    let mut restart_count = 0;
    for case in &cases {
        let (expected, _) = outcome(case, None);
        for every in [1, 30] {
            let (found, count) = outcome(case, Some(every));
            assert!(
                found == expected,
                "{}: restarts every {every} lines",
                case.display()
            );
            restart_count += count;
        }
    }
    assert!(restart_count > 3_000, "{restart_count}");
}
