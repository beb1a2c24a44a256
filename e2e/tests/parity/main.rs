//! Parity: every case goes three ways and must come to one result: the engine as a library, `yellowjack replay`
//! as a program, and the shipped operator on a real API server, with pods and AgentRuns made from the case.
//!
//! Run by `make parity`. The cases are the folders of `tests/cases` and the inputs of `shared.json`, which lie in
//! the folder `cases` beside the large captures (`YELLOWJACK_SHARED`). Everything is asked from outside: programs,
//! files, the Kubernetes API and `/metrics`. A result that differs between two ways, or from what the case expects,
//! is printed with case, way and pod, and fails the test.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod case;
mod compare;
mod controls;
mod engine;
#[path = "../../../tests/cases/expected.rs"]
mod expected;
mod live;
mod recorded;
mod replayed;
mod samples;
mod world;

use std::time::Instant;

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt};

use case::Case;
use compare::{Difference, Way};

/// Cases whose operators run at the same time. Most of a case's time is the wait for answers that do not come.
const AT_ONCE: usize = 8;

/// The most cases that may be left out of the operator's way, each with its reason.
const LEFT_OUT_MAX: usize = 4;

/// What one case came to.
struct CaseResult {
    differences: Vec<Difference>,
    left_out: Option<String>,
}

async fn run(case: &Case) -> anyhow::Result<CaseResult> {
    let engine = engine::by_engine(case)?;
    let program = replayed::by_program(case).await?;
    let mut differences = compare::with_expected(case, Way::Engine, &engine);
    differences.extend(compare::with_expected(case, Way::Replay, &program));
    differences.extend(compare::with_each_other(
        case,
        (Way::Engine, &engine),
        (Way::Replay, &program),
    ));
    let left_out = case.not_live();
    if left_out.is_none() {
        let operator = live::by_operator(case, &engine).await?;
        differences.extend(compare::with_expected(case, Way::Operator, &operator));
        differences.extend(compare::with_each_other(
            case,
            (Way::Engine, &engine),
            (Way::Operator, &operator),
        ));
    }
    Ok(CaseResult {
        differences,
        left_out,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_comes_to_one_result_in_the_engine_in_replay_and_in_the_operator()
-> anyhow::Result<()> {
    yellowjack_e2e::binary()?;
    let started = Instant::now();
    let cases = case::all()?;
    let results: Vec<(String, CaseResult)> = futures::stream::iter(&cases)
        .map(async |case| {
            let result = run(case)
                .await
                .map_err(|error| error.context(format!("case {}", case.name)))?;
            anyhow::Ok((case.name.clone(), result))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let left_out: Vec<_> = results
        .iter()
        .filter_map(|(name, result)| Some(format!("  {name}: {}", result.left_out.as_ref()?)))
        .collect();
    let mut differences: Vec<_> = results
        .iter()
        .flat_map(|(_, result)| &result.differences)
        .collect();
    differences.sort();
    if !left_out.is_empty() {
        println!(
            "not played to the operator ({} of {}):\n{}",
            left_out.len(),
            cases.len(),
            left_out.join("\n")
        );
    }
    println!("figure parity.cases {}", cases.len());
    println!(
        "figure parity.operator_cases {}",
        cases.len() - left_out.len()
    );
    println!("figure parity.differences {}", differences.len());
    println!("figure parity.seconds {}", started.elapsed().as_secs());
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    ensure!(
        lines.is_empty(),
        "{} differences:\n{}",
        lines.len(),
        lines.join("\n")
    );
    ensure!(
        left_out.len() <= LEFT_OUT_MAX,
        "too many cases are left out of the operator's way: {left_out:?}"
    );
    Ok(())
}
