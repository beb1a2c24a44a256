//! `yellowjack replay` as a user calls it: JSON, text, exit codes.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn recording(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("e2e/recording")
        .join(file)
}

fn yellowjack(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yellowjack"));
    command
        .arg("replay")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Zeek lines of a host that tries so many others on one port.
fn zeek_scan(host_count: u32) -> String {
    let line = |n: u32| {
        format!(
            r#"{{"ts":{},"id.orig_h":"10.0.0.9","id.orig_p":{},"id.resp_h":"198.51.{}.{}","id.resp_p":23,"proto":"tcp","conn_state":"S0","history":"S","orig_pkts":1,"resp_pkts":0}}"#,
            1_700_000_000 + n,
            40_000 + n,
            n / 250,
            n % 250 + 1
        )
    };
    (0..host_count).map(line).collect::<Vec<_>>().join("\n")
}

/// The agreed keys are there. Others may be too.
fn assert_keys(value: &Value, agreed: &[&str]) {
    let object = value.as_object().unwrap();
    for key in agreed {
        assert!(object.contains_key(*key), "no {key} in {value:#}");
    }
}

#[test]
fn json_has_the_agreed_form() {
    let (log, labels) = (recording("egress.jsonl"), recording("labels.json"));
    let output = yellowjack(&["--output", "json", "--labels", path(&labels), path(&log)]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keys(&report, &["captures", "score"]);

    let capture = &report["captures"][0];
    assert_keys(capture, &["capture", "flows", "malformed", "subjects"]);
    assert_eq!(
        (&capture["capture"], &capture["malformed"]),
        (&"egress".into(), &0.into())
    );
    assert_eq!(capture["subjects"].as_array().unwrap().len(), 3);

    let rogue = &capture["subjects"][1];
    assert_keys(rogue, &["action", "findings", "subject", "verdict"]);
    assert_eq!(rogue["subject"], "10.244.0.66");
    assert_eq!(
        (&rogue["verdict"], &rogue["action"]),
        (&"Scan".into(), &"Quarantine".into())
    );
    let finding = &rogue["findings"][0];
    assert_keys(
        finding,
        &[
            "signature",
            "score",
            "first",
            "last",
            "contacts",
            "evidence",
            "against",
        ],
    );
    for list in ["evidence", "against"] {
        let sentences = finding[list].as_array().unwrap();
        assert!(sentences.iter().all(Value::is_string), "{list}");
    }
    assert_eq!(finding["techniques"], serde_json::json!(["T1046"]));
    assert!(finding["score"].as_f64() >= finding["threshold"].as_f64());
    let blind = finding["cannot_show"].as_array().unwrap();
    assert!(!blind.is_empty());
    assert!(finding["score"].as_f64().unwrap() > 20.0);
    assert!(finding["first"].as_str().unwrap().starts_with("2026-"));

    let honest = &capture["subjects"][0];
    assert_eq!(
        (&honest["verdict"], &honest["action"]),
        (&"Clean".into(), &"None".into())
    );

    let score = &report["score"];
    let mut keys: Vec<_> = score.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "first_action_contacts",
            "mining",
            "quarantined_benign",
            "scan",
            "subjects_benign"
        ]
    );
    assert!(score["first_action_contacts"].is_object());
    assert_eq!(
        (&score["quarantined_benign"], &score["subjects_benign"]),
        (&0.into(), &1.into())
    );
    assert_eq!(score["scan"], serde_json::json!({"found": 1, "of": 1}));
}

#[test]
fn text_says_what_when_why_and_why_not() {
    let log = recording("egress.jsonl");
    let output = yellowjack(&[path(&log)]);
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "10.244.0.66  Scan, action Quarantine",
        "HorizontalScan (T1046): alert at 2026-",
        "after 37",
        "Internet hosts were tried on tcp/22 within",
        "such as: 198.51.100.",
        "against it: ",
        "10.244.0.21  Clean, action None",
        "why not: highest walk at",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(text.lines().count() <= 40, "more than a screen:\n{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "too wide:\n{text}"
    );
}

#[test]
fn standard_input_is_a_capture() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_yellowjack"))
        .args(["replay", "--output", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(zeek_scan(40).as_bytes())
        .unwrap();
    let report: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(report["captures"][0]["capture"], "stdin");
    assert_eq!(report["captures"][0]["subjects"][0]["action"], "Quarantine");
    assert!(report.get("score").is_none(), "a score without labels");
}

#[test]
fn dns_answers_of_another_file_come_before_the_connections_that_they_explain() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("crawl");
    std::fs::create_dir(&capture).unwrap();
    std::fs::write(capture.join("conn.log"), zeek_scan(40)).unwrap();
    let answer = |n: u32| {
        format!(
            r#"{{"ts":{}.5,"id.orig_h":"10.0.0.9","id.orig_p":5000,"id.resp_h":"10.0.0.53","id.resp_p":53,"query":"dead{n}.example.net","answers":["198.51.0.{}"]}}"#,
            1_700_000_000 + n - 1,
            n + 1
        )
    };
    let answers: Vec<_> = (0..40).map(answer).collect();
    std::fs::write(capture.join("dns.log"), answers.join("\n")).unwrap();
    let output = yellowjack(&["--output", "json", path(folder.path())]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["captures"][0]["capture"], "crawl");
    assert_eq!(report["captures"][0]["flows"], 40);
    assert_eq!(report["captures"][0]["subjects"], serde_json::json!([]));
}

#[test]
fn pool_lists_are_added_up_and_their_bad_lines_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.txt"), folder.path().join("b.txt"));
    std::fs::write(&first, "# ours\nnot a name!\npool.example.net\n").unwrap();
    std::fs::write(&second, "203.0.113.133\n").unwrap();
    let log = recording("egress.jsonl");
    let output = yellowjack(&[
        "--pool-list",
        path(&first),
        "--pool-list",
        path(&second),
        path(&log),
    ]);
    assert!(output.status.success());
    let (text, notes) = (
        String::from_utf8(output.stdout),
        String::from_utf8(output.stderr),
    );
    assert!(text.unwrap().contains("10.244.0.67  Mining, action Alert"));
    assert!(notes.unwrap().contains("line 2"));
}

#[test]
fn broken_lines_are_counted_and_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("torn.log");
    let endless = "x".repeat(300 * 1024);
    let text = format!("{}\n{{\"ts\":\n{endless}\n", zeek_scan(40));
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(b"\xff\xfe\n");
    std::fs::write(&log, bytes).unwrap();
    let output = yellowjack(&["--output", "json", path(&log)]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["captures"][0]["malformed"], 3);
    assert_eq!(report["captures"][0]["subjects"][0]["action"], "Quarantine");
}

/// Calls replay with arguments that it cannot run with.
fn check_refusal(args: &[&str], code: i32, said: &str) {
    let output = yellowjack(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(said), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: a report all the same");
}

#[test]
fn bad_use_is_two() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        format!(
            "apiVersion: yellowjack.dev/v1alpha1\nkind: AgentRun\nmetadata: {{name: {name}}}\nspec: {{target: {{selector: {{matchLabels: {{app: a}}}}}}}}\n"
        )
    };
    let two = folder.path().join("two.yaml");
    std::fs::write(&two, format!("{}---\n{}", run("one"), run("two"))).unwrap();
    let runs = folder.path().join("runs.json");
    std::fs::write(&runs, r#"{"three": ["10.244.0.66"]}"#).unwrap();
    let (log, two, runs) = (recording("egress.jsonl"), path(&two), path(&runs));
    let log = path(&log);
    check_refusal(&[], 2, "PATH");
    check_refusal(&["--format", "pcap", log], 2, "--format");
    check_refusal(&["--output", "xml", log], 2, "--output");
    check_refusal(&["--no-such-flag", log], 2, "--no-such-flag");
    check_refusal(&["-", "-"], 2, "standard input can be read once");
    check_refusal(
        &["--policy", two, log],
        2,
        "hint: assign addresses to them with --runs",
    );
    check_refusal(
        &["--policy", two, "--runs", runs, log],
        2,
        "wanted an AgentRun for the run three",
    );
}

#[test]
fn unreadable_input_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let prose = write("prose.log", "Dear diary,\n");
    let torn = write("torn.txt", "[{\"capture\": ");
    let typo = write(
        "typo.yaml",
        "apiVersion: yellowjack.dev/v1alpha1\nkind: GuardrailPolicy\nmetadata: {name: default}\nspec: {detection: {modes: {scam: Observe}}}\n",
    );
    let empty = tempfile::tempdir().unwrap();
    let log = recording("egress.jsonl");
    let (log, torn) = (path(&log), path(&torn));
    for (args, said) in [
        (&["/no/such/file"][..], "failed to read /no/such/file"),
        (&[path(&prose)], "unable to detect the format"),
        (&[path(empty.path())], "unable to find a log"),
        (
            &["--labels", "/no/such/labels", log],
            "failed to read the labels /no/such",
        ),
        (&["--labels", torn, log], "failed to parse the labels"),
        (
            &["--pool-list", "/no/such/list", log],
            "failed to read the pool list",
        ),
        (
            &["--policy", "/no/such/policy", log],
            "failed to read the policy",
        ),
        (&["--policy", torn, log], "unable to use the policy"),
        (&["--policy", path(&typo), log], "spec.detection.modes.scam"),
        (&["--runs", torn, log], "failed to parse the runs"),
    ] {
        check_refusal(args, 1, said);
    }
}

/// A reader that leaves early, as `head` does, has seen enough.
#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_yellowjack"))
        .args([
            "replay",
            "--output",
            "json",
            path(&recording("egress.jsonl")),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
}

/// The finding of the rogue pod under this policy, and what would have been done.
fn rogue_under(policy: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, policy).unwrap();
    let log = recording("egress.jsonl");
    let output = yellowjack(&["--output", "json", "--policy", path(&file), path(&log)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let subjects = report["captures"][0]["subjects"].as_array().unwrap();
    let rogue = subjects
        .iter()
        .find(|subject| subject["subject"] == "10.244.0.66");
    rogue.cloned().unwrap_or(Value::Null)
}

#[test]
fn a_policy_decides_what_a_finding_leads_to() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: yellowjack.dev/v1alpha1\nkind: GuardrailPolicy\nmetadata: {{name: default}}\nspec: {spec}\n"
        )
    };
    let enforced = rogue_under(&policy("{}"));
    assert_eq!(enforced["action"], "Quarantine");
    let observed = rogue_under(&policy("{detection: {modes: {scan: Observe}}}"));
    assert_eq!(observed["action"], "Alert");
    assert_eq!(observed["findings"][0]["severity"], "Quarantine");
    assert_eq!(observed["findings"][0]["held_back"], "the mode is Observe");
    let capped = rogue_under(&policy("{response: {maxAction: Alert}}"));
    assert_eq!(capped["action"], "Alert");
    let disabled = rogue_under(&policy(
        "{detection: {minimum: Disabled, modes: {scan: Disabled}}}",
    ));
    assert_eq!(disabled, Value::Null, "a disabled signature was reported");
}

#[test]
fn an_agent_run_cannot_ask_for_less_than_its_policy() {
    let rogue = rogue_under(
        "apiVersion: yellowjack.dev/v1alpha1\nkind: GuardrailPolicy\nmetadata: {name: strict}\nspec: {detection: {minimum: Enforce}}\n---\napiVersion: yellowjack.dev/v1alpha1\nkind: AgentRun\nmetadata: {name: lax, namespace: rl}\nspec:\n  policy: strict\n  target: {selector: {matchLabels: {app: a}}}\n  detection: {modes: {scan: Disabled}}\n",
    );
    assert_eq!(rogue["action"], "Quarantine");
}

#[test]
fn markdown_has_a_summary_and_a_section_per_capture() {
    let (log, labels) = (recording("egress.jsonl"), recording("labels.json"));
    let output = yellowjack(&[
        "--output",
        "markdown",
        "--labels",
        path(&labels),
        path(&log),
    ]);
    let page = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "| `egress` | 2140 |",
        "## Score",
        "| captures with a scan quarantined | 1 of 1 |",
        "### 10.244.0.66: Scan, action Quarantine",
        "**HorizontalScan** (T1046)",
        "What this log cannot show:",
    ] {
        assert!(page.contains(expected), "no {expected:?} in:\n{page}");
    }
}

#[test]
fn a_report_that_no_terminal_reads_has_no_colours_and_no_progress() {
    let output = yellowjack(&[path(&recording("egress.jsonl"))]);
    assert!(!output.stdout.contains(&0x1b));
    assert_eq!(output.stderr, b"");
}

/// A capture of one pod: a long thin session with an unnamed host on 443, and a lookup of another
/// name; with samples that step up to a half with it. Returns the folder.
fn miner(folder: &Path, pod: &str) -> PathBuf {
    let conn = r#"{"ts":1700000100,"id.orig_h":"10.0.0.9","id.orig_p":40000,"id.resp_h":"198.51.100.7","id.resp_p":443,"proto":"tcp","conn_state":"SF","history":"ShADadFf","duration":1200.0,"orig_bytes":6000,"resp_bytes":40000,"orig_pkts":200,"resp_pkts":200}"#;
    let dns = r#"{"ts":1700000000,"id.orig_h":"10.0.0.9","id.orig_p":40001,"id.resp_h":"10.0.0.2","id.resp_p":53,"proto":"udp","query":"pypi.example.org","answers":["192.0.2.80"]}"#;
    std::fs::write(folder.join("conn.log"), conn).unwrap();
    std::fs::write(folder.join("dns.log"), dns).unwrap();
    let sample = |n: u64| {
        let cpu = if n < 13 { 0.06 } else { 0.52 };
        format!(
            r#"{{"time":{},"pod":"{pod}","cpu":{cpu}}}"#,
            1_700_000_000 + n * 10
        )
    };
    let samples: Vec<_> = (0..130).map(sample).collect();
    let path = folder.join("samples.jsonl");
    std::fs::write(&path, samples.join("\n")).unwrap();
    path
}

fn only_finding(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["captures"].as_array().unwrap().len(),
        1,
        "{report:#}"
    );
    report["captures"][0]["subjects"][0].clone()
}

#[test]
fn samples_of_the_processors_make_a_miner_of_a_thin_session() {
    let folder = tempfile::tempdir().unwrap();
    let samples = miner(folder.path(), "10.0.0.9");
    let args = [
        "--output",
        "json",
        "--samples",
        path(&samples),
        path(folder.path()),
    ];
    let subject = only_finding(&yellowjack(&args));
    assert_eq!(subject["verdict"], "Mining", "{subject:#}");
    assert_eq!(subject["action"], "Quarantine", "{subject:#}");
}

#[test]
fn samples_of_another_pod_are_held_against_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let samples = miner(folder.path(), "10.0.0.10");
    let args = [
        "--output",
        "json",
        "--samples",
        path(&samples),
        path(folder.path()),
    ];
    let subject = only_finding(&yellowjack(&args));
    assert_eq!(subject, Value::Null);
}

#[test]
fn a_listed_tunnel_service_is_said() {
    let folder = tempfile::tempdir().unwrap();
    miner(folder.path(), "10.0.0.9");
    std::fs::remove_file(folder.path().join("samples.jsonl")).unwrap();
    let list = folder.path().join("tunnels.txt");
    std::fs::write(&list, "example.org # for the test\n").unwrap();
    let args = [
        "--output",
        "json",
        "--tunnel-list",
        path(&list),
        path(folder.path()),
    ];
    let subject = only_finding(&yellowjack(&args));
    assert_eq!(subject["verdict"], "Tunnel", "{subject:#}");
    assert_eq!(subject["action"], "Alert", "{subject:#}");
}

#[test]
fn samples_that_cannot_be_read_end_it_with_1() {
    let log = recording("egress.jsonl");
    let output = yellowjack(&["--samples", "/nowhere/samples.jsonl", path(&log)]);
    assert_eq!(output.status.code(), Some(1));
}
