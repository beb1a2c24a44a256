//! Rules over one Rust file: header, lengths, queues, sleeps, ignored tests (INV-3 in part).

use crate::source::{Breach, SourceFile, word_offsets};

/// As clippy.toml has it; here too, so that code which switches clippy's lint off is seen.
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;
/// Where a file may be longer for a reason, and where tests must stop.
const FILE_LINES_HARD_MAX: usize = 800;

/// Files over `FILE_LINES_MAX`, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Functions that wait between two looks at a state, each with a time limit. Everything else in
/// tests calls them.
const POLLING_HELPERS: [&str; 3] = ["wait_until", "wait_for", "wait_for_blocking"];

/// Where waiting is what the code is for.
const SLEEPERS: [(&str, &str); 4] = [
    (
        "e2e/src/bin/bench_",
        "they measure rest, which is time that passes",
    ),
    (
        "e2e/src/bench/",
        "what those programs share, with the time that passes",
    ),
    ("e2e/src/proxy/", "plays a slow API server"),
    ("e2e/src/recording.rs", "plays a log at its recorded pace"),
];

pub fn header_breaches(file: &SourceFile) -> Vec<Breach> {
    if file.text.starts_with("//!") {
        return Vec::new();
    }
    vec![file.breach(
        0,
        "the file does not begin with `//!`".to_owned(),
        "say what it is, who calls it and what it must not do",
    )]
}

pub fn function_length_breaches(file: &SourceFile) -> Vec<Breach> {
    file.functions
        .iter()
        .filter(|function| function.line_count > FUNCTION_LINES_MAX && !function.has_reason)
        .map(|function| Breach {
            path: file.path.clone(),
            line: function.line,
            what: format!(
                "`{}` has {} lines of code, more than {FUNCTION_LINES_MAX}",
                function.name, function.line_count
            ),
            fix: "split it by what it decides and what it does; a table of cases may stand under \
                  `#[allow(clippy::too_many_lines)] // why`"
                .to_owned(),
        })
        .collect()
}

pub fn file_length_breaches(file: &SourceFile) -> Vec<Breach> {
    let all_test = file.production.trim().is_empty();
    let has_reason = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    let count_max = if all_test || has_reason {
        FILE_LINES_HARD_MAX
    } else {
        FILE_LINES_MAX
    };
    let count = if all_test {
        file.text.lines().count()
    } else {
        file.production_line_count
    };
    if count <= count_max {
        return Vec::new();
    }
    vec![file.breach(
        0,
        format!("{count} lines outside tests, more than {count_max}"),
        "split it at a seam; a reason for more stands in LONG_FILES of tests/tidy/rules.rs",
    )]
}

pub fn unbounded_queue_breaches(file: &SourceFile) -> Vec<Breach> {
    let words = [
        "unbounded_channel",
        "UnboundedSender",
        "UnboundedReceiver",
        "mpsc::unbounded",
    ];
    words
        .iter()
        .flat_map(|word| {
            word_offsets(&file.code, word)
                .into_iter()
                .map(move |at| (word, at))
        })
        .map(|(word, at)| {
            file.breach(
                at,
                format!("`{word}`: a queue without a bound (INV-3)"),
                "use a bounded channel, with its size in src/limits.rs",
            )
        })
        .collect()
}

pub fn sleep_breaches(file: &SourceFile) -> Vec<Breach> {
    if SLEEPERS.iter().any(|(path, _)| file.path.starts_with(path)) {
        return Vec::new();
    }
    let helper = |at: usize| {
        let head = file.code.get(..at).unwrap_or_default();
        let function = head.rfind("fn ").and_then(|start| head.get(start + 3..));
        function.is_some_and(|rest| {
            POLLING_HELPERS
                .iter()
                .any(|name| word_offsets(rest, name).first() == Some(&0))
        })
    };
    word_offsets(&file.test_code, "sleep(")
        .into_iter()
        .chain(word_offsets(&file.test_code, "sleep_until("))
        .filter(|at| !helper(*at))
        .map(|at| {
            file.breach(
                at,
                "a test sleeps".to_owned(),
                "wait for the state itself, with a time limit (wait_until), or pause the clock",
            )
        })
        .collect()
}

pub fn ignored_test_breaches(file: &SourceFile) -> Vec<Breach> {
    // Split, so that a search for ignored tests does not find this file.
    [concat!("#[", "ignore"), "#[should_panic"]
        .iter()
        .flat_map(|word| file.code.match_indices(word))
        .map(|(at, word)| {
            file.breach(
                at,
                format!("`{word}]` on a test"),
                "assert what the code does today, and say in a comment what is wrong with it",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&SourceFile) -> Vec<Breach>, path: &str, text: &str, lines: &[usize]) {
        let found: Vec<usize> = rule(&SourceFile::new(path, text))
            .iter()
            .map(|b| b.line)
            .collect();
        assert_eq!(found, lines, "for {text:?}");
    }

    #[test]
    fn a_missing_header_is_found() {
        check(header_breaches, "src/a.rs", "// a\nuse b;", &[1]);
        check(header_breaches, "src/a.rs", "//! a", &[]);
    }

    #[test]
    fn a_long_function_is_found() {
        let body = |count: usize| format!("\nfn f() {{\n{}}}\n", "    a();\n".repeat(count));
        check(function_length_breaches, "src/a.rs", &body(71), &[2]);
        check(function_length_breaches, "src/a.rs", &body(70), &[]);
        let allowed = format!(
            "use a;\n#[allow(clippy::too_many_lines)] // why{}",
            body(71)
        );
        check(function_length_breaches, "src/a.rs", &allowed, &[]);
        let no_reason = format!("#[allow(clippy::too_many_lines)]{}", body(71));
        check(function_length_breaches, "src/a.rs", &no_reason, &[2]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let line = "const A: u8 = 1;\n";
        check(file_length_breaches, "src/a.rs", &line.repeat(601), &[1]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(300));
        check(
            file_length_breaches,
            "src/a.rs",
            &(line.repeat(600) + &tests),
            &[],
        );
        check(file_length_breaches, "tests/a.rs", &line.repeat(801), &[1]);
    }

    #[test]
    fn a_queue_without_a_bound_is_found() {
        check(
            unbounded_queue_breaches,
            "src/a.rs",
            "\nfn f() { mpsc::unbounded_channel(); }",
            &[2],
        );
        check(
            unbounded_queue_breaches,
            "src/a.rs",
            "// unbounded_channel\nfn f() { mpsc::channel(8); }",
            &[],
        );
    }

    #[test]
    fn a_sleeping_test_is_found_and_the_polling_helper_is_not() {
        check(
            sleep_breaches,
            "tests/a.rs",
            "async fn a() {\n sleep(second).await }",
            &[2],
        );
        check(
            sleep_breaches,
            "tests/a.rs",
            "fn wait_until(a: A) { loop { sleep(s) } }",
            &[],
        );
        check(sleep_breaches, "src/a.rs", "fn backoff() { sleep(s) }", &[]);
        check(
            sleep_breaches,
            "src/a.rs",
            "#[cfg(test)]\nmod tests { fn a() { t::sleep(s) } }",
            &[2],
        );
    }

    #[test]
    fn an_ignored_test_is_found() {
        check(
            ignored_test_breaches,
            "tests/a.rs",
            concat!("#[test]\n#[", "ignore = \"slow\"]\nfn a() {}"),
            &[2],
        );
    }
}
