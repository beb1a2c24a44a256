//! Generated files are in the repository and up to date.
//!
//! A file is written anew with the command that the failure names; never by hand. `make docs` runs
//! this test with `YELLOWJACK_WRITE_DOCS` set, which writes the pages instead of comparing them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use yellowjack::testing::api;
use yellowjack::testing::notify::events_section;
use yellowjack::testing::observability::{Kind, Metric, metrics_page};
use yellowjack::testing::signals::decode::blind_spots_page;

#[test]
fn crds_are_what_the_api_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut expected_names = Vec::new();
    for crd in api::crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let expected = api::crds_to_yaml(&crd).unwrap();
        let found = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        let line = first_different_line(&found, &expected);
        assert!(
            found == expected,
            "crds/{name} is out of date from line {line} on; run `make crds`"
        );
        expected_names.push(name);
    }
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    expected_names.sort();
    assert_eq!(
        names, expected_names,
        "crds/ holds the generated files and no others"
    );
}

/// `deploy/` is compared by the tests of the chart, which have Helm.
#[test]
fn the_chart_carries_the_same_crds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str| {
        let folder = root.join(folder);
        let entries = fs::read_dir(&folder).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap_or_default().to_owned();
                (name, fs::read_to_string(&path).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    assert!(
        read("crds") == read("charts/yellowjack/files/crds"),
        "charts/yellowjack/files/crds is out of date; run `make chart`"
    );
}

/// An alert on a metric that nobody serves never fires.
#[test]
fn alerts_and_dashboard_name_metrics_that_are_served() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/yellowjack");
    let served: BTreeSet<String> = Metric::ALL
        .iter()
        .map(|metric| served_name(*metric))
        .collect();
    for file in ["templates/monitoring.yaml", "files/dashboard.json"] {
        let text = fs::read_to_string(chart.join(file)).unwrap();
        let mut count = 0;
        for (at, _) in text.match_indices("yellowjack_") {
            let rest = text.get(at..).unwrap_or_default();
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let name = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            assert!(
                served.contains(name),
                "{file} names {name}, which is not served"
            );
            count += 1;
        }
        assert!(count > 10, "{file} names {count} metrics");
    }
}

fn served_name(metric: Metric) -> String {
    let suffix = if metric.kind() == Kind::Counter {
        "_total"
    } else {
        ""
    };
    format!("{}{suffix}", metric.name())
}

#[test]
fn the_page_on_blind_spots_is_what_the_decoders_declare() {
    check_page("docs/blind-spots.md", &blind_spots_page());
}

/// The part by hand stands above the mark, the help texts below it.
#[test]
fn the_page_on_the_command_line_has_every_help_text() {
    const MARK: &str = "<!-- from here on written by `make docs` -->\n";
    let path = "docs/cli.md";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let found = fs::read_to_string(&file).unwrap_or_default();
    let by_hand = found.split(MARK).next().unwrap_or_default();
    check_page(
        path,
        &format!("{by_hand}{MARK}{}", yellowjack::testing::cli::help_page()),
    );
}

#[test]
fn the_page_on_metrics_is_what_is_served() {
    check_page("docs/metrics.md", &metrics_page());
}

#[test]
fn the_page_on_conditions_is_what_the_enums_say() {
    let page = api::conditions_page() + &events_section();
    check_page("docs/conditions.md", &page);
}

/// Whoever is woken by an alert finds its section in the runbook by the link.
#[test]
fn every_alert_links_to_its_section_of_the_runbook() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/yellowjack");
    let text = fs::read_to_string(chart.join("templates/monitoring.yaml")).unwrap();
    let mut count = 0;
    for (alert, rest) in text.split("- alert: ").skip(1).map(|part| {
        let (name, rest) = part.split_once('\n').unwrap_or((part, ""));
        (name.trim().to_owned(), rest)
    }) {
        let link = format!("runbook_url: {{{{ . }}}}{}\n", alert.to_lowercase());
        assert!(rest.contains(&link), "{alert} has no link to its section");
        count += 1;
    }
    assert!(count > 10, "{count} alerts");
}

fn check_page(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("YELLOWJACK_WRITE_DOCS").is_some() {
        let written = fs::write(&file, expected);
        assert!(written.is_ok(), "unable to write {path}: {written:?}");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let line = first_different_line(&found, expected);
    assert!(
        found == expected,
        "{path} is out of date from line {line} on; run `make docs`"
    );
}

fn first_different_line(found: &str, expected: &str) -> usize {
    let same = found
        .lines()
        .zip(expected.lines())
        .take_while(|(a, b)| a == b);
    same.count() + 1
}
