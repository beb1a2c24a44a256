//! The report and its formats: for a recorded Incident, and for one in which an adversary chose every text.

use serde_json::Value;

use super::story::Phase;
use super::{Colour, Lookup, ReportInput, Story, markdown, page, story, text};
use crate::limits;

const ROGUE: &str = include_str!("../../tests/samples/report/rogue.json");

/// A text that tries to get markup and commands into a report.
const PAYLOAD: &str = "</style></title></code><script>window.pwned=1</script>\"'><img src=x onerror=pwned()>`|$(id);\u{1b}[31m\u{202e}\u{200b}\n";

fn sample() -> Value {
    serde_json::from_str(ROGUE).unwrap()
}

fn input(sample: &Value) -> ReportInput {
    let part = |name: &str| sample[name].clone();
    ReportInput {
        incident: serde_json::from_value(part("incident")).unwrap(),
        run: Lookup::Found(serde_json::from_value(part("run")).unwrap()),
        pod: Lookup::Found(serde_json::from_value(part("pod")).unwrap()),
        policies: Lookup::Found(serde_json::from_value(part("policies")).unwrap()),
        now: sample["now"].as_str().unwrap().parse().unwrap(),
    }
}

fn story_with(change: impl FnOnce(&mut Value)) -> Story {
    let mut sample = sample();
    change(&mut sample);
    story(&input(&sample))
}

fn condition<'s>(sample: &'s mut Value, type_: &str) -> &'s mut Value {
    let conditions = sample["incident"]["status"]["conditions"]
        .as_array_mut()
        .unwrap();
    conditions
        .iter_mut()
        .find(|condition| condition["type"] == type_)
        .unwrap()
}

fn set_condition(sample: &mut Value, type_: &str, status: &str, reason: &str) {
    let found = condition(sample, type_);
    found["status"] = status.into();
    found["reason"] = reason.into();
}

/// Appends a payload to every text, except those that are parsed as a number, a time or a closed set of names.
fn poison(value: &mut Value, key: &str) {
    let closed = [
        "apiVersion",
        "type",
        "result",
        "time",
        "firstSeen",
        "lastSeen",
        "creationTimestamp",
        "since",
        "logTime",
        "lastPassed",
        "observedAt",
        "lastTransitionTime",
        "operator",
        "policyTypes",
        "verdict",
        "uid",
        "status",
        "now",
        "severity",
    ];
    match value {
        Value::String(text) if !closed.contains(&key) => {
            *text = format!("{text}{PAYLOAD}{}", "x".repeat(64 * 1024));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| poison(item, key)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, item)| poison(item, key)),
        _ => {}
    }
}

fn poisoned() -> Story {
    story_with(|sample| {
        for part in ["incident", "run", "pod"] {
            let mut value = sample[part].take();
            poison(&mut value, "");
            sample[part] = value;
        }
        // The labels are kept, so that the policies still select the pod. Only the names of the policies are poisoned.
        let labels = serde_json::json!({ "app": "rl-agent", "yellowjack.dev/quarantine": PAYLOAD });
        sample["pod"]["metadata"]["labels"] = labels;
        for policy in sample["policies"].as_array_mut().unwrap() {
            policy["metadata"]["name"] = format!("p{PAYLOAD}").into();
        }
    })
}

/// Terminal control and bidirectional characters.
fn is_treacherous(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Compares with tests/snapshots, where a change of a report is reviewed. `INSTA_UPDATE=always` rewrites the files.
fn check_snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "../../tests/snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!(name, text) });
}

#[test]
fn the_report_starts_with_what_happened_whether_it_is_contained_and_the_next_step() {
    let story = story_with(|_| {});
    check_snapshot("report_terminal", &text(&story, Colour::Plain, 100));
    check_snapshot("report_markdown", &markdown(&story));
}

#[test]
fn the_report_on_a_pod_that_is_not_contained_shows_the_obstacle() {
    let story = story_with(|sample| {
        set_condition(sample, "Contained", "False", "UnionWidened");
        set_condition(sample, "Verified", "Unknown", "SourceSilent");
        sample["incident"]["status"]["widenedBy"] = serde_json::json!(["allow-dns"]);
    });
    check_snapshot("report_not_contained", &text(&story, Colour::Plain, 100));
}

#[test]
fn lines_for_people_fit_the_terminal() {
    let text = text(&story_with(|_| {}), Colour::Plain, 60);
    let long: Vec<&str> = text
        .lines()
        .filter(|line| line.chars().count() > 60)
        // A command is copied as one line.
        .filter(|line| {
            let line = line.trim_start();
            !line.starts_with("kubectl") && !line.starts_with("yellowjack")
        })
        .collect();
    // A gauge and a word without a blank may be longer; sentences may not.
    assert!(
        long.iter()
            .all(|line| line.contains('█') || !line.trim().contains(' ')),
        "{long:#?}"
    );
}

#[test]
fn the_phase_follows_from_the_conditions() {
    for (contained, verified, expected) in [
        (("True", "Isolated"), ("True", "Verified"), Phase::Proven),
        (
            ("True", "Isolated"),
            ("Unknown", "AwaitingProof"),
            Phase::Unproven,
        ),
        (
            ("True", "Isolated"),
            ("Unknown", "SourceSilent"),
            Phase::Unproven,
        ),
        (
            ("True", "Isolated"),
            ("False", "ConnectionsSurvive"),
            Phase::Survives,
        ),
        (
            ("False", "UnionWidened"),
            ("Unknown", "AwaitingProof"),
            Phase::Uncontained,
        ),
        (
            ("False", "BreakerOpen"),
            ("Unknown", ""),
            Phase::Uncontained,
        ),
        (("False", "ObserveOnly"), ("Unknown", ""), Phase::Watched),
        (("False", "AlertOnly"), ("Unknown", ""), Phase::Watched),
    ] {
        let story = story_with(|sample| {
            set_condition(sample, "Contained", contained.0, contained.1);
            set_condition(sample, "Verified", verified.0, verified.1);
        });
        assert_eq!(story.phase, expected, "{contained:?} {verified:?}");
        assert!(!story.next.is_empty(), "{contained:?} {verified:?}");
    }
}

#[test]
fn without_any_status_nothing_is_claimed() {
    let story = story_with(|sample| sample["incident"]["status"] = Value::Null);
    assert_eq!(story.phase, Phase::Uncontained);
    assert!(
        story
            .answers
            .iter()
            .all(|answer| answer.answer == "unknown")
    );
    assert!(page(&story).is_ok());
}

#[test]
fn a_silent_source_is_never_reported_as_silence_of_the_pod() {
    let story = story_with(|sample| set_condition(sample, "Verified", "Unknown", "SourceSilent"));
    assert_eq!(story.next[0].title, "Bring the egress log back");
    assert!(
        story
            .caveats
            .iter()
            .any(|sentence| sentence.contains("silence is not evidence"))
    );
    assert!(!text(&story, Colour::Plain, 100).contains("VERIFIED"));
}

#[test]
fn policies_that_do_not_select_the_pod_are_left_out() {
    let story = story_with(|_| {});
    let names: Vec<_> = story
        .policies
        .selecting
        .iter()
        .map(|policy| policy.name.as_str())
        .collect();
    assert_eq!(names, ["allow-dns", "yellowjack-quarantine"]);
}

#[test]
fn a_closed_incident_has_no_next_step() {
    let story = story_with(|sample| {
        set_condition(sample, "Closed", "True", "Released");
        sample["incident"]["spec"]["disposition"] = serde_json::json!({ "verdict": "Release", "decidedBy": "ana", "justification": "our own port check" });
    });
    assert_eq!(story.phase, Phase::Closed);
    assert_eq!(story.summary, "Released by ana: our own port check");
    assert!(story.next.iter().all(|step| step.command.is_none()));
}

#[test]
fn a_later_pod_of_the_same_name_is_not_taken_for_this_one() {
    let story = story_with(|sample| {
        sample["pod"]["metadata"]["uid"] = "another".into();
        sample["run"]["metadata"]["uid"] = "another".into();
    });
    assert!(story.pod.now.contains("A later pod has its name"));
    assert_eq!(story.pod.quarantine, None);
    assert!(story.policies.selecting.is_empty());
    assert!(story.run_note.unwrap().contains("A later run has its name"));
}

#[test]
fn an_object_that_could_not_be_read_is_reported_and_not_assumed() {
    let mut input = input(&sample());
    input.policies = Lookup::Unread("forbidden".to_owned());
    input.pod = Lookup::Unread("forbidden".to_owned());
    let story = story(&input);
    assert!(
        story
            .caveats
            .iter()
            .any(|sentence| sentence.contains("pod could not be read"))
    );
    assert!(story.policies.selecting.is_empty());
    assert!(story.policies.note.is_some());
}

#[test]
fn the_timeline_is_in_order_and_shows_how_the_score_grew() {
    let story = story_with(|_| {});
    assert!(story.timeline.is_sorted_by_key(|event| event.time));
    let titles: Vec<_> = story
        .timeline
        .iter()
        .map(|event| event.title.as_str())
        .collect();
    let place = |wanted: &str| {
        titles
            .iter()
            .position(|title| title.starts_with(wanted))
            .unwrap_or_else(|| panic!("{wanted} in {titles:#?}"))
    };
    assert!(
        place("Score crossed the threshold of 13.8") < place("Score crossed the threshold of 20.0")
    );
    assert!(place("Score crossed the threshold of 20.0") < place("Isolate"));
    assert!(place("Isolate") < place("Traffic passed"));
    assert!(place("Traffic passed") < place("Suspend"));
}

#[test]
fn many_hosts_become_blocks_and_the_map_stays_bounded() {
    let story = story_with(|sample| {
        let evidence = &mut sample["incident"]["spec"]["evidence"];
        let entry = evidence[0].clone();
        let entries: Vec<Value> = (0..64)
            .map(|node| {
                let mut entry = entry.clone();
                entry["observer"] = format!("node-{node}").into();
                for (n, example) in entry["examples"]
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .enumerate()
                {
                    example["destination"] = format!("10.{node}.{n}.1").into();
                    example["port"] = (node * 10 + n).into();
                }
                entry
            })
            .collect();
        *evidence = entries.into();
    });
    let targets = &story.targets;
    assert_eq!(targets.row_is, "block");
    assert_eq!(
        (targets.rows.len(), targets.services.len()),
        (limits::TARGET_ROWS_MAX, limits::TARGET_COLUMNS_MAX)
    );
    assert_eq!(targets.shown + targets.left_out, 640);
    assert!(page(&story).unwrap().len() < 1024 * 1024);
}

#[test]
fn no_text_of_the_adversary_controls_a_terminal() {
    let story = poisoned();
    for text in [
        text(&story, Colour::Plain, 100),
        markdown(&story),
        serde_json::to_string_pretty(&story).unwrap(),
        page(&story).unwrap(),
    ] {
        let found = text.chars().find(|c| is_treacherous(*c));
        assert_eq!(
            found,
            None,
            "{}",
            text.chars().take(400).collect::<String>()
        );
        assert!(text.len() < 512 * 1024, "{} bytes", text.len());
    }
}

#[test]
fn no_text_of_the_adversary_becomes_markup() {
    let page = page(&poisoned()).unwrap();
    assert!(
        page.contains("&#60;script&#62;"),
        "the payload is shown as text"
    );
    assert!(!page.contains("<script"));
    assert!(!page.contains("<img"));
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(
        page.matches("</title>").count(),
        page.matches("<title").count()
    );
}

#[test]
fn no_text_of_the_adversary_becomes_a_command() {
    let story = poisoned();
    let commands: Vec<_> = story
        .next
        .iter()
        .filter_map(|step| step.command.as_ref())
        .collect();
    assert!(commands.is_empty(), "{commands:?}");
    let odd =
        story_with(|sample| sample["incident"]["spec"]["subject"]["name"] = "--all;reboot".into());
    let commands: Vec<_> = odd
        .next
        .iter()
        .filter_map(|step| step.command.as_ref())
        .collect();
    assert!(
        commands.iter().all(|command| !command.contains("reboot")),
        "{commands:?}"
    );
}

#[test]
fn markdown_keeps_text_from_the_cluster_in_code_spans() {
    let markdown = markdown(&poisoned());
    for line in markdown.lines().filter(|line| line.contains("<script")) {
        let before = line.split("<script").next().unwrap_or_default();
        assert_eq!(before.matches('`').count() % 2, 1, "{line}");
    }
}

#[test]
fn absurd_numbers_and_times_still_make_a_page() {
    let story = story_with(|sample| {
        let entry = &mut sample["incident"]["spec"]["evidence"][0];
        entry["score"] = 1e308.into();
        entry["threshold"] = 0.0.into();
        entry["firstSeen"] = "-009999-01-02T01:59:59Z".into();
        entry["contacts"] = i64::MAX.into();
        sample["incident"]["spec"]["evidence"][1]["lastSeen"] = "9999-12-30T22:00:00Z".into();
    });
    let page = page(&story).unwrap();
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    assert!(text(&story, Colour::Plain, 100).len() < 64 * 1024);
}

#[test]
fn colours_are_used_only_if_requested() {
    let story = story_with(|_| {});
    assert!(!text(&story, Colour::Plain, 100).contains('\u{1b}'));
    assert!(text(&story, Colour::Ansi, 100).contains("\u{1b}[1;32m✓ CONTAINED"));
}
