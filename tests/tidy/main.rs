//! Checks of the source tree that the compiler does not make: dependency order, purity, headers,
//! lengths, wording of errors, leftovers, invariants.
//!
//! Run by `cargo test --test tidy`. Each test walks the files of the repository and reports every
//! breach at once, with its place and how to mend it; the rules themselves are functions over one
//! file, tested beside their code on small sources. Nothing here may need the network or a build.

mod graph;
mod invariants;
mod items;
mod layers;
mod paths;
mod rules;
mod source;
mod tree;
mod wording;
mod words;

use source::{Breach, SourceFile, TextFile};

/// Runs one rule over every Rust file and fails with all breaches.
fn check_rust(rule: fn(&SourceFile) -> Vec<Breach>) {
    let breaches: Vec<Breach> = tree::rust_files().iter().flat_map(rule).collect();
    report(&breaches);
}

/// Runs one rule over every file that people write and fails with all breaches.
fn check_text(rule: fn(&TextFile) -> Vec<Breach>) {
    let breaches: Vec<Breach> = tree::text_files().iter().flat_map(rule).collect();
    report(&breaches);
}

fn report(breaches: &[Breach]) {
    let lines: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} breach(es) of the house rules:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn modules_use_only_what_stands_to_their_left() {
    report(&layers::order_breaches(tree::rust_files()));
}

#[test]
fn files_use_each_other_in_no_circle() {
    report(&graph::circle_breaches(tree::rust_files()));
}

#[test]
fn pure_modules_see_no_client_clock_file_or_environment() {
    check_rust(layers::purity_breaches);
}

#[test]
fn only_the_cluster_module_writes_to_the_api_server() {
    check_rust(layers::write_breaches);
}

#[test]
fn every_file_says_what_it_is() {
    check_rust(rules::header_breaches);
}

#[test]
fn functions_fit_on_a_screen() {
    check_rust(rules::function_length_breaches);
}

#[test]
fn files_stay_readable_in_one_sitting() {
    check_rust(rules::file_length_breaches);
}

#[test]
fn every_queue_has_a_bound() {
    check_rust(rules::unbounded_queue_breaches);
}

#[test]
fn tests_wait_for_a_state_and_never_sleep() {
    check_rust(rules::sleep_breaches);
}

#[test]
fn no_test_is_ignored() {
    check_rust(rules::ignored_test_breaches);
}

#[test]
fn error_messages_read_as_one_chain() {
    check_rust(wording::error_message_breaches);
}

#[test]
fn words_are_those_of_the_field() {
    report(&words::breaches(tree::rust_files()));
}

#[test]
fn nothing_is_left_for_later() {
    check_text(wording::leftover_breaches);
}

#[test]
fn no_line_names_a_machine() {
    check_text(wording::machine_path_breaches);
}

#[test]
fn invariants_stand_in_the_docs_and_in_the_code() {
    let docs = tree::read(invariants::DOCS);
    report(&invariants::breaches(&docs, tree::rust_files()));
}

/// A rule over an empty tree always passes: this one fails when the walk finds nothing.
#[test]
fn the_walk_finds_the_source() {
    let files = tree::rust_files();
    for path in [
        "src/lib.rs",
        "src/model/flow.rs",
        "tests/tidy/main.rs",
        "e2e/src/lib.rs",
    ] {
        assert!(
            files.iter().any(|file| file.path == path),
            "{path} was not walked"
        );
    }
    let texts = tree::text_files();
    for path in ["Makefile", ".ci/run", "docs/architecture.md"] {
        assert!(
            texts.iter().any(|file| file.path == path),
            "{path} was not walked"
        );
    }
}
