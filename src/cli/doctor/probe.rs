//! `doctor --probe`: does a network policy take effect, and does it cut a connection that stands? Two
//! pods in a namespace of their own; whatever happens, the namespace is removed again.
//!
//! It proves what plain NetworkPolicies do here, between two pods, in IPv4 or whatever comes first. It
//! does not touch the standing deny, whose label and name belong to the controller alone.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::LogParams;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::Context;
use super::check::{Check, Verdict};
use crate::cli::people::ask;
use crate::cli::probe_pod::{PORT, Try};
use crate::cluster::{ApiError, Conflicts, FieldManager, LeaderGate, Writer};
use crate::limits;
use crate::observability::chain;

const NAME: &str = "probe";
const WANTED: &str = "a NetworkPolicy stops new connections, and those that stand";
const SERVER: &str = "probe-server";
const CLIENT: &str = "probe-client";

/// So many tries in a row must fail until a deny counts as in force: a lost packet is none.
const IN_A_ROW: usize = 3;

/// So many tries a connection that stands is watched once the deny is in force.
const WATCHED: usize = 6;

/// How often the pods are looked at.
const POLL: Duration = Duration::from_millis(500);

pub(super) fn not_asked() -> Check {
    let found = "not tried: only --probe shows whether a policy takes effect here";
    Check::new(
        NAME,
        Verdict::Unknown,
        WANTED,
        found,
        "yellowjack doctor --probe",
    )
}

/// Why there is no result.
enum Stop {
    /// In words.
    Because(String),
    /// A signal came.
    Interrupted,
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Because(chain(&error))
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// New connections went on for so long.
    GoesOn(Duration),
    /// New connections ended after so long.
    Ends { after: Duration, held_is_cut: bool },
}

struct Probe<'a> {
    context: &'a Context<'a>,
    writer: Writer,
    namespace: String,
    image: String,
}

pub(super) async fn check(context: &Context<'_>, image: Option<String>) -> Check {
    let cannot =
        |found: String, todo: &str| Check::new(NAME, Verdict::Unknown, WANTED, found, todo);
    let Some(image) = image else {
        let todo = "name an image that holds this program with --probe-image";
        return cannot("no controller's Deployment names an image".to_owned(), todo);
    };
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else {
        return cannot("failed to listen for signals".to_owned(), "");
    };
    let limit = Duration::from_secs(limits::PEOPLE_TIMEOUT_S);
    let probe = Probe {
        context,
        writer: Writer::new(
            context.cluster.client.clone(),
            limit,
            LeaderGate::always_open(),
        ),
        namespace: format!(
            "yellowjack-probe-{:08x}",
            RandomState::new().hash_one(0) >> 32
        ),
        image,
    };
    let outcome = if let Err(error) = probe.make_namespace().await {
        Err(Stop::Because(chain(&error)))
    } else {
        tokio::select! {
            seen = probe.run() => seen,
            () = either(&mut interrupt, &mut terminate) => Err(Stop::Interrupted),
        }
    };
    let left = probe.remove_namespace().await;
    let mut check = match outcome {
        Ok(seen) => judge(seen),
        Err(Stop::Because(why)) => cannot(why, "look at the pods' events, or name another image"),
        Err(Stop::Interrupted) => cannot("interrupted".to_owned(), ""),
    };
    if let Err(error) = left {
        let name = &probe.namespace;
        check.verdict = Verdict::Fail;
        check.found = format!("{}; {name} is not removed: {}", check.found, chain(&error));
        check.todo = format!("kubectl delete namespace {name}");
    }
    check
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn judge(seen: Seen) -> Check {
    match seen {
        Seen::GoesOn(waited) => Check::new(
            NAME,
            Verdict::Fail,
            WANTED,
            format!(
                "a NetworkPolicy that denies everything was stored, and connections went on for {waited:.0?}"
            ),
            "the network enforces no policy: no isolation holds here; see the network plug-in",
        ),
        Seen::Ends {
            after,
            held_is_cut: true,
        } => Check::ok(
            NAME,
            WANTED,
            format!(
                "a deny took effect within {:.1} s and cut the connection that stood",
                after.as_secs_f64()
            ),
        ),
        Seen::Ends {
            after,
            held_is_cut: false,
        } => Check::new(
            NAME,
            Verdict::Warn,
            WANTED,
            format!(
                "a deny stopped new connections within {:.1} s; the one that stood went on",
                after.as_secs_f64()
            ),
            "let maxAction reach Suspend: a tunnel that stands survives the isolation here",
        ),
    }
}

impl Probe<'_> {
    async fn make_namespace(&self) -> Result<(), ApiError> {
        let namespace: Namespace = object(json!({
            "metadata": {
                "name": self.namespace,
                "labels": { "yellowjack.dev/probe": "true" },
            },
        }))?;
        let manager = FieldManager::person();
        self.writer
            .create_cluster_scoped(&manager, &namespace)
            .await
            .map(drop)
    }

    /// Also where it is not known whether it was made.
    async fn remove_namespace(&self) -> Result<(), ApiError> {
        self.writer
            .delete_cluster_scoped::<Namespace>(&self.namespace)
            .await
    }

    async fn run(&self) -> Result<Seen, Stop> {
        let limit = self.context.args.probe_limit;
        let deadline = Instant::now() + limit;
        self.make_pod(SERVER, &["probe-serve".to_owned()], deadline)
            .await?;
        let address = self.address_of(SERVER, deadline).await?;
        let target = std::net::SocketAddr::new(address, PORT).to_string();
        self.make_pod(CLIENT, &["probe-connect".to_owned(), target], deadline)
            .await?;
        self.wait_connected(deadline).await?;
        self.deny().await?;
        self.watch(Instant::now(), limit).await
    }

    /// The namespace's service account comes a moment after the namespace; until then pods are refused.
    async fn make_pod(&self, name: &str, args: &[String], deadline: Instant) -> Result<(), Stop> {
        let pod: Pod = object(pod_of(name, &self.image, args))?;
        let manager = FieldManager::person();
        loop {
            let made = self
                .writer
                .apply(&manager, &self.namespace, name, &pod, Conflicts::Respect)
                .await;
            match made {
                Ok(_) => return Ok(()),
                Err(ApiError::Refused(error)) if Instant::now() < deadline => {
                    let is_account = error.to_string().contains("serviceaccount");
                    if !is_account {
                        return Err(ApiError::Refused(error).into());
                    }
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn address_of(&self, name: &str, deadline: Instant) -> Result<IpAddr, Stop> {
        let api: Api<Pod> = Api::namespaced(self.context.cluster.client.clone(), &self.namespace);
        loop {
            let pod = ask("pods", api.get(name)).await;
            let pod = pod.map_err(|error| Stop::Because(chain(&error)))?;
            let status = pod.status.as_ref();
            let is_running = status.and_then(|status| status.phase.as_deref()) == Some("Running");
            let address = status.and_then(|status| status.pod_ip.as_ref()?.parse().ok());
            if let Some(address) = address.filter(|_| is_running) {
                return Ok(address);
            }
            if Instant::now() >= deadline {
                return Err(Stop::Because(format!(
                    "pod {name} does not run: {}",
                    why(&pod)
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn wait_connected(&self, deadline: Instant) -> Result<(), Stop> {
        self.address_of(CLIENT, deadline).await?;
        loop {
            let tries = self.tries().await;
            if tries.last().is_some_and(|last| last.new && last.held) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let said = if tries.is_empty() {
                    "said nothing"
                } else {
                    "did not reach the other"
                };
                return Err(Stop::Because(format!(
                    "without any policy the one pod {said}"
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn deny(&self) -> Result<(), Stop> {
        let name = "probe-deny";
        let policy: NetworkPolicy = object(json!({
            "metadata": { "name": name },
            "spec": {
                "podSelector": { "matchLabels": { "app": CLIENT } },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [],
                "egress": [],
            },
        }))?;
        let manager = FieldManager::person();
        self.writer
            .apply(&manager, &self.namespace, name, &policy, Conflicts::Respect)
            .await?;
        Ok(())
    }

    /// Looks on until the deny is in force, or its time is over.
    async fn watch(&self, denied: Instant, limit: Duration) -> Result<Seen, Stop> {
        let before = self.tries().await.last().map_or(0, |last| last.at_ms);
        loop {
            let tries = self.tries().await;
            let after: Vec<Try> = tries.into_iter().filter(|one| one.at_ms > before).collect();
            if let Some(seen) = in_force(&after, before) {
                return Ok(seen);
            }
            let waited = denied.elapsed();
            if waited >= limit {
                return Ok(Seen::GoesOn(waited));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the pod that tries said, oldest first. Without an answer there is nothing new.
    async fn tries(&self) -> Vec<Try> {
        let api: Api<Pod> = Api::namespaced(self.context.cluster.client.clone(), &self.namespace);
        let params = LogParams {
            limit_bytes: Some(limits::PROBE_LOG_BYTES_MAX),
            ..LogParams::default()
        };
        let text = ask("logs", api.logs(CLIENT, &params))
            .await
            .unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// Whether the tries since `before` show the deny in force, and long enough what becomes of the
/// connection that stood.
fn in_force(tries: &[Try], before: i64) -> Option<Seen> {
    let ends = tries
        .iter()
        .rposition(|one| one.new)
        .map_or(0, |last| last + 1);
    let ended = tries.get(ends..).unwrap_or_default();
    let first = ended.first()?;
    if ended.len() < IN_A_ROW {
        return None;
    }
    let held_is_cut = ended.iter().rev().take(IN_A_ROW).all(|one| !one.held);
    if !held_is_cut && ended.len() < WATCHED {
        return None;
    }
    let after = Duration::from_millis(u64::try_from(first.at_ms - before).unwrap_or(0));
    Some(Seen::Ends { after, held_is_cut })
}

/// Why a pod does not run, in Kubernetes' words.
fn why(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let waiting = containers.and_then(|all| all.first()?.state.as_ref()?.waiting.as_ref());
    if let Some(waiting) = waiting {
        let words = [&waiting.reason, &waiting.message];
        return words
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(": ");
    }
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let unmet = conditions
        .into_iter()
        .flatten()
        .find(|said| said.status != "True" && said.message.is_some());
    unmet
        .and_then(|said| said.message.clone())
        .or_else(|| status.and_then(|status| status.phase.clone()))
        .unwrap_or_else(|| "no node took it yet".to_owned())
}

fn pod_of(name: &str, image: &str, args: &[String]) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            // Should nobody be left who removes it.
            "activeDeadlineSeconds": limits::PROBE_LIFE_MAX.as_secs(),
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": args,
                "resources": {
                    "requests": { "cpu": "10m", "memory": "16Mi" },
                    "limits": { "cpu": "200m", "memory": "64Mi" },
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    })
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Result<K, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::Refused(kube::Error::SerdeError(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries a second apart from 1 s on: `n` new, `h` held, `b` both, `-` none.
    fn tries(letters: &str) -> Vec<Try> {
        let one = |(second, letter): (i64, char)| Try {
            at_ms: second * 1_000,
            new: matches!(letter, 'n' | 'b'),
            held: matches!(letter, 'h' | 'b'),
        };
        (1_i64..).zip(letters.chars()).map(one).collect()
    }

    fn seen(letters: &str) -> Option<(u64, bool)> {
        in_force(&tries(letters), 0).map(|seen| match seen {
            Seen::Ends { after, held_is_cut } => (after.as_secs(), held_is_cut),
            Seen::GoesOn(_) => unreachable!("only time says so"),
        })
    }

    #[test]
    fn one_lost_packet_is_no_deny() {
        assert_eq!(seen(""), None);
        assert_eq!(seen("bbhhb"), None);
        assert_eq!(seen("bb--"), None);
        assert_eq!(seen("bb---"), Some((3, true)));
    }

    #[test]
    fn a_connection_that_stands_is_watched_for_longer() {
        assert_eq!(seen("bhhhh"), None);
        assert_eq!(seen("bhhhhhh"), Some((2, false)));
        assert_eq!(seen("bhhh---"), Some((2, true)));
    }

    #[test]
    fn a_policy_without_effect_fails_and_a_survivor_is_to_know() {
        let verdict = |seen| judge(seen).verdict;
        let after = Duration::from_secs(1);
        assert_eq!(verdict(Seen::GoesOn(after)), Verdict::Fail);
        assert_eq!(
            verdict(Seen::Ends {
                after,
                held_is_cut: false
            }),
            Verdict::Warn
        );
        assert_eq!(
            verdict(Seen::Ends {
                after,
                held_is_cut: true
            }),
            Verdict::Ok
        );
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let pod =
            |status: Value| serde_json::from_value::<Pod>(json!({ "status": status })).unwrap();
        let waiting = json!({ "containerStatuses": [{ "name": "p", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "waiting": { "reason": "ErrImagePull", "message": "no such" } } }] });
        assert_eq!(why(&pod(waiting)), "ErrImagePull: no such");
        assert_eq!(why(&pod(json!({}))), "no node took it yet");
    }
}
