//! Who hears of an Incident: Events that kubectl shows, an alert at a stand-in for Alertmanager, and
//! a webhook, which hears it again where the operator was killed before it noted that.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::{Method, StatusCode};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use yellowjack::testing::observability::{Kind, Metric};
use yellowjack_e2e::fixture::{ApiFixture, Fixture, LIMIT, ROGUE_IP, SCANNED_HOSTS};
use yellowjack_e2e::proxy::{Fault, Matcher};
use yellowjack_e2e::{wait_for, with_namespace};

/// 32 bytes.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[derive(Clone, Debug)]
struct Heard {
    path: String,
    id: String,
    is_signed: bool,
    body: Value,
}

/// A server that accepts everything and keeps it.
struct Receiver {
    host: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    secret: tempfile::NamedTempFile,
    server: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let kept = Arc::clone(&heard);
        let router = Router::new().fallback(move |request: Request| {
            let kept = Arc::clone(&kept);
            async move {
                let (parts, body) = request.into_parts();
                let Ok(body) = to_bytes(body, 1 << 20).await else {
                    return StatusCode::BAD_REQUEST.into_response();
                };
                let header = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
                let heard = Heard {
                    path: parts.uri.path().to_owned(),
                    id: header("webhook-id").unwrap_or_default(),
                    is_signed: header("webhook-signature").is_some_and(|s| s.starts_with("v1,")),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(heard);
                StatusCode::OK.into_response()
            }
        });
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("receiver: {error}");
            }
        });
        let secret = tempfile::NamedTempFile::new()?;
        std::fs::write(secret.path(), SECRET)?;
        Ok(Self {
            host,
            heard,
            secret,
            server,
        })
    }

    fn flags(&self) -> Vec<String> {
        vec![
            format!("--alertmanager=http://{}/am", self.host),
            format!("--webhook=http://{}/hook", self.host),
            format!("--webhook-secret-file={}", self.secret.path().display()),
            "--cluster-name=test".to_owned(),
        ]
    }

    fn heard_at(&self, path: &str) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .iter()
            .filter(|heard| heard.path == path)
            .cloned()
            .collect()
    }

    /// The events at the webhook, once one of this kind is there.
    async fn told(&self, kind: &str) -> anyhow::Result<Vec<Heard>> {
        let wanted = format!("dev.yellowjack.incident.{kind}");
        wait_for(&format!("{kind} at the webhook"), LIMIT, async || {
            let heard = self.heard_at("/hook");
            let types: Vec<_> = heard
                .iter()
                .map(|heard| heard.body.get("type").cloned().unwrap_or_default())
                .collect();
            if types.contains(&json!(wanted)) {
                Ok(heard)
            } else {
                Err(format!("{types:?}"))
            }
        })
        .await
    }

    /// The newest alert, once it holds or once it has ended.
    async fn alert(&self, holds: bool) -> anyhow::Result<Value> {
        wait_for(
            &format!("an alert that holds: {holds}"),
            LIMIT,
            async || {
                let heard = self.heard_at("/am/api/v2/alerts");
                let alert = heard
                    .last()
                    .map(|heard| heard.body.get(0).cloned().unwrap_or_default());
                let ends = alert.as_ref().and_then(|alert| alert["endsAt"].as_str());
                let ends = ends.and_then(|text| text.parse::<Timestamp>().ok());
                match (alert.clone(), ends) {
                    (Some(alert), Some(ends)) if (ends > Timestamp::now()) == holds => Ok(alert),
                    _ => Err(format!("{alert:?}")),
                }
            },
        )
        .await
    }
}

/// Runs a test with a fixture whose operator tells this receiver.
async fn with_receiver<F>(more: &[&str], test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&mut ApiFixture, &Receiver) -> anyhow::Result<()>,
{
    with_namespace(async |env| {
        let receiver = Receiver::start().await?;
        let flags = receiver.flags();
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.extend_from_slice(more);
        let mut fixture = ApiFixture::start(env, &flags).await?;
        test(&mut fixture, &receiver).await
    })
    .await
}

/// The reasons of Events about an object, as kubectl shows them, once this one is among them.
async fn events_about(fixture: &ApiFixture, object: &str, reason: &str) -> anyhow::Result<String> {
    wait_for(&format!("{reason} about {object}"), LIMIT, async || {
        let shown = fixture.env.kubectl(&["events", "--for", object]).await;
        let shown = shown.map_err(|error| format!("{error:#}"))?;
        if shown.contains(reason) {
            Ok(shown)
        } else {
            Err(shown)
        }
    })
    .await
}

#[tokio::test]
async fn an_incident_is_told_in_events_to_alertmanager_and_to_a_webhook() -> anyhow::Result<()> {
    with_receiver(&[], async |fixture, receiver| {
        fixture
            .create_rogue_pod(json!({ "trace": { "episode": "e-9" } }))
            .await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        let name = incident.name_any();

        for (object, reason) in [
            ("pod/rogue".to_owned(), "IncidentDetected"),
            ("pod/rogue".to_owned(), "PodContained"),
            (format!("incident/{name}"), "PodContained"),
            ("agentrun/rogue".to_owned(), "PodContained"),
        ] {
            let shown = events_about(fixture, &object, reason).await?;
            assert!(shown.contains("Warning"), "{shown}");
        }

        let alert = receiver.alert(true).await?;
        assert_eq!(alert["labels"]["alertname"], "YellowjackIncident");
        assert_eq!(alert["labels"]["incident"], name.as_str());
        assert_eq!(alert["labels"]["cluster"], "test");
        assert_eq!(alert["annotations"]["trace_episode"], "e-9");

        let heard = receiver.told("contained").await?;
        assert!(heard.iter().all(|heard| heard.is_signed));
        assert_eq!(heard[0].body["type"], "dev.yellowjack.incident.detected");
        assert_eq!(heard[0].body["data"]["pod"]["name"], "rogue");
        assert_eq!(
            heard[0].body["data"]["evidence"][0]["signature"],
            "HorizontalScan"
        );

        fixture.decide(&incident, "Release").await?;
        receiver.told("released").await?;
        let ended = receiver.alert(false).await?;
        assert_eq!(ended["labels"], alert["labels"]);
        events_about(fixture, &format!("incident/{name}"), "IncidentReleased").await?;
        let noted = fixture
            .until_incident("rogue", "the release is noted as told", |incident| {
                let status = incident.status.as_ref();
                status.is_some_and(|status| status.notified.contains_key("Released"))
            })
            .await?;
        let status = noted.status.unwrap_or_default();
        assert!(
            status.notified.contains_key("Detected"),
            "{:?}",
            status.notified
        );
        let mut ids: Vec<String> = receiver
            .heard_at("/hook")
            .into_iter()
            .map(|h| h.id)
            .collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "each is told once");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_told_and_not_noted_before_a_kill_is_told_again_under_its_id() -> anyhow::Result<()>
{
    with_receiver(&[], async |fixture, receiver| {
        let notes = Matcher::method(Method::PATCH)
            .containing("/incidents/")
            .containing("notifier");
        let away = Fault::Reply(StatusCode::SERVICE_UNAVAILABLE);
        fixture.proxy.fail_times(notes, away, 100_000);
        fixture.isolated_rogue_pod().await?;
        let before = receiver.told("contained").await?;

        let flags = receiver.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        // Still without a way to record it, so that the killed operator could not either.
        fixture.restart(&flags).await?;
        fixture.proxy.clear();
        let detected = before.first().context("nothing was told")?.id.clone();
        wait_for("the same id again", LIMIT, async || {
            let heard = receiver.heard_at("/hook");
            let count = heard.iter().filter(|heard| heard.id == detected).count();
            if count >= 2 {
                Ok(())
            } else {
                Err(format!("{count} times"))
            }
        })
        .await?;
        fixture
            .until_incident("rogue", "noted as told", |incident| {
                let status = incident.status.as_ref();
                status.is_some_and(|status| status.notified.contains_key("Contained"))
            })
            .await?;
        Ok(())
    })
    .await
}

/// Every label that is served has a value of the list that docs/metrics.md is made from.
#[tokio::test]
async fn the_metrics_that_are_served_have_listed_labels_only() -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    drop(listener);
    with_receiver(&["--listen", &address], async |fixture, receiver| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        receiver.told("detected").await?;
        let url = format!("http://{address}/metrics").parse()?;
        let client = yellowjack::testing::cluster::connect_plain(&url)?;
        let text = client
            .request_text(http::Request::get("/metrics").body(Vec::new())?)
            .await?;
        let mut count = 0;
        for line in text.lines().filter(|line| line.starts_with("yellowjack_")) {
            let (name, labels) = line.split_once('{').unwrap_or((line, ""));
            let name = name.split(' ').next().unwrap_or_default();
            let metric = Metric::ALL.iter().find(|metric| {
                let suffixes: &[&str] = match metric.kind() {
                    Kind::Counter => &["_total"],
                    Kind::Gauge => &[""],
                    Kind::Histogram => &["_bucket", "_sum", "_count"],
                };
                let mut suffixes = suffixes.iter();
                suffixes.any(|suffix| format!("{}{suffix}", metric.name()) == name)
            });
            let metric = metric.with_context(|| format!("{name} is not listed"))?;
            let (labels, _) = labels.rsplit_once('}').unwrap_or_default();
            for (label, pair) in metric.labels().iter().zip(labels.split("\",")) {
                let (key, value) = pair.split_once("=\"").unwrap_or_default();
                assert_eq!(key, label.name, "{line}");
                let value = value.trim_end_matches('"');
                let is_listed = label.values.is_empty() || label.values.contains(&value);
                assert!(is_listed, "{line}");
            }
            count += 1;
        }
        assert!(count > 20, "{text}");
        assert!(
            text.contains("yellowjack_notifications_total{receiver=\"webhook\",result=\"sent\"}"),
            "{text}"
        );
        Ok(())
    })
    .await
}
