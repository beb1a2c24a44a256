//! What keeps a response from becoming the outage: Observe, protected namespaces, the cap, the
//! circuit breaker, and the bounds of a single run.

use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{ActionKind, GuardrailPolicy, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, ROGUE_IP, SCANNED_HOSTS, action_results, has_condition,
    incident_conditions, with_fixture,
};
use yellowjack_e2e::with_namespace;

/// Pods that the breaker lets through, and one more than twice as many.
const CROSSINGS: u8 = 7;

/// A rogue pod scans; its Incident must say why nothing was done, and nothing may have been.
async fn is_left_alone(fixture: &ApiFixture, reason: &str) -> anyhow::Result<()> {
    fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
    let incident = fixture
        .incident_condition("rogue", "Contained", "False", reason)
        .await?;
    assert!(action_results(&incident, ActionKind::Isolate).is_empty());
    fixture.sync().await?;
    fixture.until_quarantine_label("rogue", None).await?;
    fixture
        .run_condition("rogue", "Suspicious", "True", "IncidentOpen")
        .await?;
    fixture
        .run_condition("rogue", "Quarantined", "False", "NotQuarantined")
        .await?;
    let labelled = fixture.write_positions(|write| {
        write.body.to_string().contains(labels::QUARANTINE) && write.path.contains("/pods/")
    });
    assert!(labelled.is_empty(), "a pod was written to");
    Ok(())
}

#[tokio::test]
async fn observe_all_records_and_does_nothing() -> anyhow::Result<()> {
    with_fixture(&["--observe-all"], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        is_left_alone(fixture, "ObserveOnly").await?;
        let incidents = fixture.incidents_of("rogue").await?;
        assert!(incidents[0].spec.evidence.iter().all(|e| e.observe_only));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_in_observe_mode_is_recorded_and_left_alone() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let observe = json!({ "detection": { "modes": { "scan": "Observe" } } });
        fixture.create_rogue_pod(observe).await?;
        is_left_alone(fixture, "ObserveOnly").await
    })
    .await
}

#[tokio::test]
async fn a_run_whose_max_action_is_alert_is_recorded_and_left_alone() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let alert = json!({ "response": { "maxAction": "Alert" } });
        fixture.create_rogue_pod(alert).await?;
        is_left_alone(fixture, "ActionLimited").await
    })
    .await
}

#[tokio::test]
async fn a_protected_namespace_is_left_alone() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let flags = ["--protected-namespace".to_owned(), env.namespace.clone()];
        let fixture = ApiFixture::start(env, &[&flags[0], &flags[1]]).await?;
        fixture.create_rogue_pod(json!({})).await?;
        is_left_alone(&fixture, "Protected").await
    })
    .await
}

/// More than the 35 failures on the Internet that a pod of the profile Standard may have, and fewer than the 70 of a Crawler.
const CRAWLED: u8 = 45;

#[tokio::test]
async fn a_profile_that_the_policy_does_not_allow_is_not_in_force() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let policies: Api<GuardrailPolicy> = Api::all(fixture.env.client.clone());
        let name = format!("{}-standard", fixture.env.namespace);
        let spec = json!({ "detection": { "allowedProfiles": ["Standard"] } });
        let strict = build::guardrail_policy(&name, &spec)?;
        policies.create(&PostParams::default(), &strict).await?;
        let outcome = async {
            let crawler = json!({ "detection": { "profile": "Crawler" } });
            fixture.create_run("crawler", crawler.clone()).await?;
            fixture
                .create_pod("crawler", "crawler", "10.244.1.67")
                .await?;
            let mut refused = crawler;
            refused["policy"] = json!(name);
            fixture.create_rogue_pod(refused).await?;
            let message = fixture
                .run_condition("rogue", "Accepted", "False", "ExceedsPolicy")
                .await?;
            assert!(message.contains("Standard is in force"), "{message}");
            let hosts: Vec<String> = (0..CRAWLED).map(|n| format!("9.{n}.0.1")).collect();
            // Findings are dealt with in order.
            fixture.log.ask_hosts("10.244.1.67", &hosts)?;
            fixture.log.ask_hosts(ROGUE_IP, &hosts)?;
            fixture.until_isolated("rogue").await?;
            assert!(fixture.incidents_of("crawler").await?.is_empty());
            anyhow::Ok(())
        }
        .await;
        policies.delete(&name, &DeleteParams::default()).await?;
        outcome
    })
    .await
}

#[tokio::test]
async fn a_run_with_a_disabled_signature_gets_no_incident() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let policies: Api<GuardrailPolicy> = Api::all(fixture.env.client.clone());
        let name = format!("{}-lax", fixture.env.namespace);
        let lax =
            build::guardrail_policy(&name, &json!({ "detection": { "minimum": "Disabled" } }))?;
        policies.create(&PostParams::default(), &lax).await?;
        let outcome = async {
            let off = json!({ "policy": name, "detection": { "modes": { "scan": "Disabled" } } });
            fixture.create_rogue_pod(off).await?;
            fixture
                .run_condition("rogue", "Accepted", "True", "Valid")
                .await?;
            fixture.create_run("other", json!({})).await?;
            fixture.create_pod("other", "other", "10.244.1.67").await?;
            fixture.sync().await?;
            fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
            // Findings are dealt with in order.
            fixture.log.scan_hosts("10.244.1.67", 0, SCANNED_HOSTS)?;
            fixture.until_isolated("other").await?;
            assert!(fixture.incidents_of("rogue").await?.is_empty());
            fixture
                .run_condition("rogue", "Suspicious", "False", "NoOpenIncidents")
                .await
        }
        .await;
        policies.delete(&name, &DeleteParams::default()).await?;
        outcome.map(drop)
    })
    .await
}

#[tokio::test]
async fn the_cap_holds_back_the_next_pod_until_one_is_released() -> anyhow::Result<()> {
    with_fixture(&["--max-quarantines", "1"], async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        fixture.create_pod("first", "rogue", "10.244.1.1").await?;
        fixture.create_pod("second", "rogue", "10.244.1.2").await?;
        fixture.sync().await?;
        fixture.log.scan_hosts("10.244.1.1", 0, SCANNED_HOSTS)?;
        let first = fixture.until_isolated("first").await?;
        fixture.log.scan_hosts("10.244.1.2", 0, SCANNED_HOSTS)?;
        fixture
            .incident_condition("second", "Contained", "False", "CapReached")
            .await?;
        fixture.until_quarantine_label("second", None).await?;
        fixture.decide(&first, "Release").await?;
        fixture.until_released("first").await?;
        let second = fixture.until_isolated("second").await?;
        fixture
            .until_quarantine_label("second", Some(&second.name_any()))
            .await
    })
    .await
}

#[tokio::test]
async fn when_many_pods_cross_at_once_the_breaker_opens_and_a_release_still_works()
-> anyhow::Result<()> {
    with_fixture(&["--breaker-pods", "5"], async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        let address = |number: u8| format!("10.244.1.{number}");
        for number in 1..=CROSSINGS {
            let name = format!("rogue-{number}");
            fixture.create_pod(&name, "rogue", &address(number)).await?;
        }
        fixture.sync().await?;
        fixture.log.scan_hosts(&address(1), 0, SCANNED_HOSTS)?;
        let first = fixture.until_isolated("rogue-1").await?;
        for number in 2..=CROSSINGS {
            fixture.log.scan_hosts(&address(number), 0, SCANNED_HOSTS)?;
        }
        // Whichever comes last sees more crossings than are acted on.
        let mut held_back = 0;
        for number in 2..=CROSSINGS {
            let incident = fixture
                .until_incident(&format!("rogue-{number}"), "a decision", |incident| {
                    let said = incident_conditions(incident);
                    has_condition(said, "Contained", "True", "Isolated")
                        || has_condition(said, "Contained", "False", "BreakerOpen")
                })
                .await?;
            if action_results(&incident, ActionKind::Isolate).is_empty() {
                held_back += 1;
                fixture
                    .until_quarantine_label(&incident.spec.subject.name, None)
                    .await?;
            }
        }
        assert!(held_back >= 1, "{held_back} of {CROSSINGS}");
        fixture.decide(&first, "Release").await?;
        fixture.until_released("rogue-1").await?;
        fixture.until_quarantine_label("rogue-1", None).await
    })
    .await
}

#[tokio::test]
async fn with_scope_run_every_pod_of_the_run_is_isolated_and_no_other() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let whole = json!({ "response": { "scope": "Run" } });
        fixture.create_rogue_pod(whole).await?;
        fixture
            .create_pod("accomplice", "rogue", "10.244.1.67")
            .await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        let name = incident.name_any();
        fixture.until_quarantine_label("rogue", Some(&name)).await?;
        fixture
            .until_quarantine_label("accomplice", Some(&name))
            .await?;
        fixture.until_quarantine_label("honest-1", None).await?;
        fixture.decide(&incident, "Release").await?;
        fixture.until_quarantine_label("rogue", None).await?;
        fixture.until_quarantine_label("accomplice", None).await
    })
    .await
}

#[tokio::test]
async fn an_alert_about_a_pod_that_is_gone_is_closed_and_one_about_a_pod_that_runs_is_not()
-> anyhow::Result<()> {
    with_fixture(&["--alert-ttl", "1s"], async |fixture| {
        let observe = json!({ "detection": { "modes": { "scan": "Observe" } } });
        fixture.create_run("rogue", observe).await?;
        for (pod, address) in [("gone", "10.244.1.1"), ("runs", "10.244.1.2")] {
            fixture.create_pod(pod, "rogue", address).await?;
        }
        fixture.sync().await?;
        fixture.log.scan_hosts("10.244.1.1", 0, SCANNED_HOSTS)?;
        fixture.log.scan_hosts("10.244.1.2", 0, SCANNED_HOSTS)?;
        for pod in ["gone", "runs"] {
            fixture
                .incident_condition(pod, "Contained", "False", "ObserveOnly")
                .await?;
        }
        fixture.delete_pod("gone").await?;
        let closed = fixture
            .incident_condition("gone", "Closed", "True", "PodGone")
            .await?;
        assert!(
            closed
                .status
                .is_some_and(|status| status.closed_at.is_some())
        );
        fixture
            .incident_condition("runs", "Closed", "False", "AwaitingHuman")
            .await
            .map(drop)
    })
    .await
}
