//! The two judgements over a window of lines, with the time as a parameter.

use super::*;

const WINDOW: Duration = Duration::from_mins(5);
const STEP: Duration = Duration::from_secs(10);

const ULOGD: &[u8] = br#"{"oob.prefix": "", "src_ip": "10.0.0.1"}"#;

fn tally(lines: &[(LineOutcome, u64)]) -> LineTally {
    let mut tally = LineTally::default();
    for (fate, count) in lines {
        for _ in 0..*count {
            tally.add(*fate, ULOGD);
        }
    }
    tally
}

const BROKEN: LineOutcome = LineOutcome::Unreadable(Some(Malformed::NotJson));
const MASKED: LineOutcome = LineOutcome::Unused(Unused::Skipped(SkipReason::FieldsMissing));
const FOREIGN: LineOutcome = LineOutcome::Unused(Unused::UnknownAddress);

/// A log with a line every ten seconds, starting now.
struct Log {
    lines: Usefulness,
    now: Instant,
}

impl Log {
    fn new() -> Self {
        Self {
            lines: Usefulness::over(WINDOW),
            now: Instant::now(),
        }
    }

    /// The same lines every ten seconds for so long; how often the judgement changed.
    fn go_on(&mut self, span: Duration, lines: &[(LineOutcome, u64)]) -> usize {
        let until = self.now + span;
        let mut changes = 0;
        while self.now < until {
            let before = self.lines.problem().is_some();
            self.lines.note(&tally(lines), self.now);
            changes += usize::from(before != self.lines.problem().is_some());
            self.now += STEP;
        }
        changes
    }

    fn is_unreadable(&self) -> bool {
        matches!(self.lines.problem(), Some(LogProblem::NotUnderstood(_)))
    }

    fn is_unused(&self) -> bool {
        matches!(self.lines.problem(), Some(LogProblem::Unused(_)))
    }
}

#[test]
fn a_log_in_another_format_is_recognised_after_a_few_lines_and_named() {
    let mut log = Log::new();
    log.lines.note(&tally(&[(BROKEN, 4)]), log.now);
    assert_eq!(log.lines.problem(), None, "reading may begin inside a line");
    log.lines.note(&tally(&[(BROKEN, 1)]), log.now);
    let problem = log.lines.problem().unwrap();
    assert_eq!(
        problem.sentence("/x", Some(Format::Zeek)),
        "/x delivers lines, none of them readable as zeek; they look like ulogd: name the format ulogd"
    );
}

#[test]
fn a_log_that_is_read_again_is_believed_at_once() {
    let mut log = Log::new();
    log.go_on(WINDOW, &[(BROKEN, 5)]);
    assert!(log.is_unreadable());
    log.go_on(STEP * 11, &[(LineOutcome::Attributed, 5)]);
    assert_eq!(log.lines.problem(), None);
}

#[test]
fn a_file_that_turns_into_another_is_recognised_within_the_window() {
    let mut log = Log::new();
    log.go_on(WINDOW, &[(LineOutcome::Attributed, 100)]);
    log.go_on(WINDOW * 2, &[(BROKEN, 100)]);
    assert!(log.is_unreadable());
}

#[test]
fn some_good_lines_among_many_broken_ones_keep_a_log_and_are_worth_a_word() {
    let mut log = Log::new();
    let changes = log.go_on(WINDOW * 3, &[(BROKEN, 40), (LineOutcome::Attributed, 10)]);
    assert_eq!((changes, log.lines.problem()), (0, None));
    assert!(log.lines.is_partly_unreadable());
    log.go_on(WINDOW * 2, &[(LineOutcome::Attributed, 100), (BROKEN, 1)]);
    assert!(!log.lines.is_partly_unreadable());
}

#[test]
fn lines_without_the_required_fields_make_a_log_unusable_and_one_signal_disproves_it() {
    let mut masked = Log::new();
    masked.go_on(WINDOW, &[(MASKED, 10)]);
    assert!(masked.is_unused());
    let problem = masked.lines.problem().unwrap();
    let sentence = problem.sentence("/x", Some(Format::Hubble));
    assert!(
        sentence.contains("most are Hubble flows without addresses"),
        "{sentence}"
    );

    // A pod that floods the log with lines that are no signals, beside one that resolves a name now and then.
    let mut flooded = Log::new();
    for _ in 0..10 {
        flooded.go_on(WINDOW / 2, &[(MASKED, 10_000)]);
        flooded.go_on(STEP, &[(LineOutcome::Attributed, 1)]);
    }
    assert_eq!(flooded.lines.problem(), None);
}

#[test]
fn a_burst_of_useless_lines_decides_nothing() {
    let mut log = Log::new();
    log.go_on(STEP, &[(MASKED, 1_000_000)]);
    log.go_on(WINDOW * 2, &[(LineOutcome::Neutral, 1)]);
    assert_eq!(log.lines.problem(), None);
}

#[test]
fn a_quiet_log_of_headers_statistics_and_names_is_of_use() {
    let mut log = Log::new();
    let changes = log.go_on(WINDOW * 12, &[(LineOutcome::Neutral, 3)]);
    assert_eq!((changes, log.lines.problem()), (0, None));
    let rare = log.go_on(WINDOW * 12, &[(LineOutcome::Neutral, 1), (FOREIGN, 0)]);
    assert_eq!((rare, log.lines.problem()), (0, None));
}

#[test]
fn addresses_of_no_pod_are_of_no_use_and_the_way_back_has_another_line() {
    let mut log = Log::new();
    assert_eq!(log.go_on(WINDOW * 2, &[(FOREIGN, 50)]), 1);
    assert!(log.is_unused());
    // One line in two hundred is no way back, and the state does not change each time.
    let stray = &[(FOREIGN, 400), (LineOutcome::Attributed, 2)];
    assert_eq!(log.go_on(STEP, stray), 0);
    assert!(log.is_unused());
    let changes = log.go_on(WINDOW * 2, &[(FOREIGN, 50), (LineOutcome::Attributed, 50)]);
    assert_eq!((changes, log.lines.problem()), (1, None));
}

#[test]
fn the_reason_that_most_lines_have_is_the_one_that_is_given() {
    let mut log = Log::new();
    let ahead = LineOutcome::Unused(Unused::Ahead);
    log.go_on(WINDOW, &[(FOREIGN, 3), (ahead, 7)]);
    assert_eq!(log.lines.problem(), Some(LogProblem::Unused(Unused::Ahead)));
}

#[test]
fn a_sample_of_a_file_is_judged_by_the_same_lines() {
    let problem = |lines: &[(LineOutcome, u64)]| tally(lines).problem();
    assert!(matches!(
        problem(&[(BROKEN, 3)]),
        Some(LogProblem::NotUnderstood(_))
    ));
    assert_eq!(problem(&[(BROKEN, 3), (LineOutcome::Attributed, 1)]), None);
    assert_eq!(problem(&[(LineOutcome::Neutral, 1)]), None);
    assert_eq!(problem(&[]), None);
    assert!(matches!(
        problem(&[(MASKED, 1)]),
        Some(LogProblem::Unused(_))
    ));
    assert!(tally(&[(BROKEN, 1), (LineOutcome::Attributed, 9)]).is_partly_unreadable());
}

#[test]
fn what_is_kept_does_not_grow_with_the_lines() {
    let mut log = Log::new();
    let shapes: &[&[u8]] = &[ULOGD, b"x", br#"{"id.orig_h": 1}"#, br#"{"flow": {}}"#];
    for nth in 0..5_000_usize {
        let mut tally = LineTally::default();
        for shape in shapes {
            tally.add(BROKEN, shape);
            tally.add(LineOutcome::Unreadable(None), shape);
        }
        log.lines
            .note(&tally, log.now + STEP * u32::try_from(nth).unwrap());
    }
    assert!(log.lines.slots.len() <= SLOTS);
    assert!(
        log.lines
            .slots
            .iter()
            .all(|slot| slot.looks.0.len() <= LOOKS_MAX)
    );
}

#[test]
fn every_reason_describes_the_problem_and_the_remedy() {
    let skips = <SkipReason as strum::VariantArray>::VARIANTS
        .iter()
        .copied();
    let of_skips = skips.map(Unused::Skipped);
    let others = [
        Unused::UnknownAddress,
        Unused::HostNetwork,
        Unused::OtherTime,
        Unused::Ambiguous,
        Unused::Ahead,
    ];
    for why in of_skips.chain(others) {
        let sentence = LogProblem::Unused(why).sentence("/x", Some(Format::Hubble));
        let (fault, todo) = why.words(Some(Format::Hubble));
        assert!(
            sentence.contains(fault) && sentence.ends_with(todo),
            "{sentence}"
        );
    }
}
