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
use futures::StreamExt;

use case::Case;
use compare::{Difference, Way};

/// Cases whose operators run at the same time. Most of a case's time is the wait for answers that do not come.
const AT_ONCE: usize = 8;

/// Differences of one case.
async fn run(case: &Case) -> anyhow::Result<Vec<Difference>> {
    let engine = engine::by_engine(case)?;
    let program = replayed::by_program(case).await?;
    let operator = live::by_operator(case, &engine).await?;
    let mut differences = Vec::new();
    for (way, outcome) in [
        (Way::Engine, &engine),
        (Way::Replay, &program),
        (Way::Operator, &operator),
    ] {
        differences.extend(compare::with_expected(case, way, outcome));
        differences.extend(compare::with_each_other(
            case,
            (Way::Engine, &engine),
            (way, outcome),
        ));
    }
    Ok(differences)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_comes_to_one_result_in_the_engine_in_replay_and_in_the_operator()
-> anyhow::Result<()> {
    yellowjack_e2e::binary()?;
    let started = Instant::now();
    let cases = case::all()?;
    let results: Vec<Vec<Difference>> = futures::stream::iter(&cases)
        .map(async |case| {
            let result = run(case).await;
            result.unwrap_or_else(|error| vec![compare::failed(case, &error)])
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut differences = results.concat();
    differences.sort();
    println!("figure parity.cases {}", cases.len());
    println!("figure parity.differences {}", differences.len());
    println!("figure parity.seconds {}", started.elapsed().as_secs());
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    ensure!(
        lines.is_empty(),
        "{} differences:\n{}",
        lines.len(),
        lines.join("\n")
    );
    Ok(())
}
