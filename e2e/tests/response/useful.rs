//! Logs that deliver lines which are of no use: a run says that it is not watched, why, and what to do first. In the
//! format that they are in, the same lines are a log that speaks.

use std::time::Duration;
use yellowjack::testing::api::AgentRun;

use serde_json::json;
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{ApiFixture, Fixture, HONEST_IP, LIMIT, with_node_agents};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{wait_for, with_namespace};

/// What is judged over five times as long is judged after 20 s.
const SHORT: &str = "4s";
const LONG: &str = "1m";

fn hubble_line(nth: u32, with_addresses: bool) -> String {
    let mut flow = json!({
        "time": jiff::Timestamp::now().to_string(),
        "verdict": "FORWARDED",
        "l4": { "TCP": { "source_port": 40_000 + nth, "destination_port": 443, "flags": { "SYN": true } } },
        "Type": "L3_L4",
        "node_name": "node-1",
        "event_type": { "type": 4, "sub_type": 3 },
        "traffic_direction": "EGRESS",
        "trace_observation_point": "TO_STACK",
        "is_reply": false,
    });
    if with_addresses && let Some(fields) = flow.as_object_mut() {
        let ip = json!({ "source": HONEST_IP, "destination": "203.0.113.80", "ipVersion": "IPv4" });
        fields.insert("IP".to_owned(), ip);
    }
    json!({ "flow": flow, "time": jiff::Timestamp::now().to_string() }).to_string()
}

/// As `nfdump -o json` writes flows.
fn netflow_line(nth: u32) -> String {
    json!({
        "type": "FLOW", "sampled": 0, "t_first": "2026-11-29T10:00:00.000",
        "t_last": "2026-11-29T10:00:01.000", "proto": 6, "src4_addr": HONEST_IP,
        "dst4_addr": "203.0.113.80", "src_port": 40_000 + nth, "dst_port": 443,
        "in_packets": 5, "in_bytes": 1_000,
    })
    .to_string()
}

/// A table of another program.
fn table_line(nth: u32) -> String {
    format!(
        "2026-11-29 10:00:{:02}\t{HONEST_IP}\t203.0.113.80\tALLOW\t{nth}",
        nth % 60
    )
}

/// What an application prints.
fn application_line(nth: u32) -> String {
    json!({ "level": "info", "msg": format!("hello {nth}"), "ts": "2026" }).to_string()
}

fn lines(line: impl Fn(u32) -> String) -> String {
    (0..50).map(|nth| line(nth) + "\n").collect()
}

/// A run whose controller reads these lines in this format, with this `--stale-after`.
async fn reading(
    (format, stale_after): (&str, &str),
    text: &str,
    body: impl AsyncFnOnce(&ApiFixture) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    with_namespace(async |env| {
        let log = EgressLog::create()?;
        log.append(text)?;
        let source = format!("{format}:{}", log.path().display());
        let flags = [
            "--source",
            &source,
            "--start-at",
            "beginning",
            "--stale-after",
            stale_after,
        ];
        body(&ApiFixture::start_with_log(env, log, &flags).await?).await
    })
    .await
}

/// SignalsFresh is False, names the log, the format and what it looks like, and the glance shows it.
async fn is_not_understood(fixture: &ApiFixture, format: &str, look: &str) -> anyhow::Result<()> {
    let said = fixture
        .run_condition("honest", "SignalsFresh", "False", "NotUnderstood")
        .await?;
    let path = fixture.log.path().display().to_string();
    let first = format!("{path} delivers lines, none of them readable as {format}");
    for part in [first.as_str(), look] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_hubble_file_that_is_read_as_zeek_is_named_and_read_as_hubble_it_is_watched()
-> anyhow::Result<()> {
    let text = lines(|nth| hubble_line(nth, true));
    reading(("zeek", LONG), &text, async |fixture| {
        fixture.sync().await?;
        is_not_understood(
            fixture,
            "zeek",
            "they look like hubble: name the format hubble",
        )
        .await?;
        // The guardrails stand, which is what Ready says; the column says that nothing is seen.
        fixture
            .run_condition("honest", "Ready", "True", "GuardrailsInPlace")
            .await?;
        let columns = fixture.env.kubectl(&["get", "ar", "honest"]).await?;
        let mut rows = columns
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let (heads, cells) = (
            rows.next().unwrap_or_default(),
            rows.next().unwrap_or_default(),
        );
        let watched = heads.iter().position(|head| *head == "WATCHED");
        assert_eq!(
            watched.and_then(|place| cells.get(place)),
            Some(&"False"),
            "{columns}"
        );
        Ok(())
    })
    .await?;
    reading(("hubble", LONG), &text, async |fixture| {
        fixture
            .run_condition("honest", "SignalsFresh", "True", "SourcesFresh")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_applications_log_and_flows_of_another_kind_are_not_taken_for_a_log()
-> anyhow::Result<()> {
    reading(
        ("hubble", LONG),
        &lines(application_line),
        async |fixture| {
            is_not_understood(fixture, "hubble", "they look like a program's own messages").await
        },
    )
    .await?;
    reading(("zeek", LONG), &lines(netflow_line), async |fixture| {
        is_not_understood(fixture, "zeek", "they look like JSON of another program").await
    })
    .await?;
    reading(("zeek", LONG), &lines(table_line), async |fixture| {
        is_not_understood(fixture, "zeek", "they look like columns between tabs").await
    })
    .await
}

#[tokio::test]
async fn flows_whose_addresses_were_masked_are_of_no_use_until_they_have_them_again()
-> anyhow::Result<()> {
    reading(("hubble", SHORT), "", async |fixture| {
        let mut nth = 0;
        let mut says = async |status: &str, with_addresses: bool| {
            wait_for(&format!("SignalsFresh={status}"), LIMIT, async || {
                nth += 1;
                let line = hubble_line(nth, with_addresses) + "\n";
                fixture
                    .log
                    .append(&line)
                    .map_err(|error| error.to_string())?;
                let run = fixture
                    .get::<AgentRun>("honest")
                    .await
                    .map_err(|error| error.to_string())?;
                let conditions = run
                    .status
                    .map(|status| status.conditions)
                    .unwrap_or_default();
                let fresh = conditions.into_iter().find(|c| c.type_ == "SignalsFresh");
                let fresh = fresh.ok_or_else(|| "no SignalsFresh".to_owned())?;
                let is_expected = fresh.status == status && fresh.reason != "FlowsStale";
                is_expected
                    .then_some(fresh.clone())
                    .ok_or(format!("{fresh:?}"))
            })
            .await
        };
        let masked = says("False", false).await?;
        assert_eq!(masked.reason, "NothingUsable", "{masked:?}");
        assert!(
            masked
                .message
                .contains("without addresses, ports or verdict"),
            "{masked:?}"
        );
        let whole = says("True", true).await?;
        assert_eq!(whole.reason, "SourcesFresh", "{whole:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_says_in_its_lease_that_its_log_is_not_understood() -> anyhow::Result<()> {
    with_node_agents(&["node-1"], &[], async |fixture| {
        let pod = build::pod_on_node("honest-0", "honest", "node-1")?;
        fixture.start_pod(&pod, HONEST_IP).await?;
        // Agents of this test read ulogd.
        fixture.log.append(&lines(|nth| hubble_line(nth, true)))?;
        let said = fixture
            .run_condition("honest", "SignalsFresh", "False", "NotUnderstood")
            .await?;
        for part in [
            "node-1: ",
            "none of them readable as ulogd",
            "they look like hubble",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        fixture.log.chatter(HONEST_IP, Duration::from_secs(20))?;
        fixture
            .run_condition("honest", "SignalsFresh", "True", "SourcesFresh")
            .await?;
        Ok(())
    })
    .await
}
