//! The second way: `yellowjack replay`, as a user calls it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Stdio;

use anyhow::Context;
use serde_json::{Value, json};

use crate::case::Case;
use crate::compare::{Action, Outcome};
use crate::expected;

/// The program.
pub async fn by_program(case: &Case) -> anyhow::Result<Outcome> {
    let mut command = tokio::process::Command::new(yellowjack_e2e::binary()?);
    command
        .args(["replay", "--output", "json"])
        .stdin(Stdio::null());
    for (option, file) in &case.options {
        command.arg(option).arg(file);
    }
    let output = command
        .args(&case.paths)
        .output()
        .await
        .context("failed to run yellowjack replay")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "captures": [] }));
    Ok(Outcome {
        exit: output.status.code(),
        said: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
        ..outcome(&report)
    })
}

/// The report of all captures of a case as one.
fn outcome(report: &Value) -> Outcome {
    let captures = report["captures"].as_array().cloned().unwrap_or_default();
    let sum = |key: &str| {
        captures
            .iter()
            .filter_map(|capture| capture[key].as_u64())
            .sum::<u64>()
    };
    let subjects: Vec<_> = captures
        .iter()
        .flat_map(|capture| capture["subjects"].as_array().cloned().unwrap_or_default())
        .collect();
    let findings = subjects.iter().filter_map(|subject| {
        let pod: IpAddr = subject["subject"].as_str()?.parse().ok()?;
        let of_pod: BTreeMap<_, _> = subject["findings"]
            .as_array()?
            .iter()
            .filter_map(|finding| {
                Some((
                    finding["signature"].as_str()?.to_owned(),
                    Action::of(finding["action"].as_str()?),
                ))
            })
            .collect();
        (!of_pod.is_empty()).then_some((pod, of_pod))
    });
    let findings = findings.collect();
    let whole =
        json!({ "flows": sum("flows"), "malformed": sum("malformed"), "subjects": subjects });
    Outcome {
        findings,
        summary: expected::summary(&whole),
        ..Outcome::default()
    }
}
