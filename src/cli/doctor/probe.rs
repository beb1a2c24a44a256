//! `doctor --probe`: tests whether a NetworkPolicy takes effect, and whether it cuts established connections,
//! with two pods in a temporary namespace. The namespace is always removed.
//!
//! It tests plain NetworkPolicies between two pods, with the first address family of the cluster. It does not
//! test the ClusterNetworkPolicy, which only the controller may use.

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

use super::check::{Check, Verdict};
use super::context::Context;
use crate::cli::probe_pod::{Attempt, PORT};
use crate::cli::read::read;
use crate::cluster::{ApiError, Conflicts, FieldManager, LeaderGate, Writer};
use crate::limits;
use crate::observability::chain;

const NAME: &str = "probe";
const WANTED: &str = "a NetworkPolicy stops new and established connections";
const SERVER: &str = "probe-server";
const CLIENT: &str = "probe-client";

/// Failed attempts in a row until a deny counts as in force; a single one may be a lost packet.
const IN_A_ROW: usize = 3;

/// Attempts for which an established connection is watched once the deny is in force.
const WATCHED: usize = 6;

/// Pause between two reads of the pods.
const POLL: Duration = Duration::from_millis(500);

pub(super) fn not_requested() -> Check {
    let found = "not tested: only --probe shows whether a policy takes effect";
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
    /// An error, as text.
    Because(String),
    /// The user interrupted the probe.
    Interrupted,
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Because(chain(&error))
    }
}

/// The result of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeResult {
    /// New connections still succeeded after this time.
    NotEnforced(Duration),
    /// New connections failed after this time.
    Enforced {
        after: Duration,
        held_is_truncated: bool,
    },
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
        let todo = "give an image with this program with --probe-image";
        return cannot(
            "there is no Deployment of the controller with an image".to_owned(),
            todo,
        );
    };
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else {
        return cannot("failed to listen for signals".to_owned(), "");
    };
    let limit = Duration::from_secs(limits::COMMAND_TIMEOUT_S);
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
        Err(Stop::Because(why)) => cannot(why, "read the pods' events, or give another image"),
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

fn judge(seen: ProbeResult) -> Check {
    match seen {
        ProbeResult::NotEnforced(waited) => Check::new(
            NAME,
            Verdict::Fail,
            WANTED,
            format!(
                "a NetworkPolicy that denies everything was stored, but connections still succeeded after {waited:.0?}"
            ),
            "the network does not enforce policies, so that isolation has no effect; see the network plug-in",
        ),
        ProbeResult::Enforced {
            after,
            held_is_truncated: true,
        } => Check::ok(
            NAME,
            WANTED,
            format!(
                "a deny took effect within {:.1} s and cut the established connection",
                after.as_secs_f64()
            ),
        ),
        ProbeResult::Enforced {
            after,
            held_is_truncated: false,
        } => Check::new(
            NAME,
            Verdict::Warn,
            WANTED,
            format!(
                "a deny stopped new connections within {:.1} s; the established one continued",
                after.as_secs_f64()
            ),
            "set maxAction to Suspend: an established tunnel survives the isolation here",
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

    /// Also called when it is not known whether the namespace was created.
    async fn remove_namespace(&self) -> Result<(), ApiError> {
        self.writer
            .delete_cluster_scoped::<Namespace>(&self.namespace)
            .await
    }

    async fn run(&self) -> Result<ProbeResult, Stop> {
        let deadline = Instant::now() + limits::PROBE_START_MAX;
        self.make_pod(SERVER, &["probe-serve".to_owned()], deadline)
            .await?;
        let address = self.address_of(SERVER, deadline).await?;
        let target = std::net::SocketAddr::new(address, PORT).to_string();
        self.make_pod(CLIENT, &["probe-connect".to_owned(), target], deadline)
            .await?;
        self.wait_connected(deadline).await?;
        self.deny().await?;
        self.watch(Instant::now(), self.context.args.probe_limit)
            .await
    }

    /// The service account of a namespace is created after the namespace; until then pods are refused.
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
            let pod = read("pods", api.get(name)).await;
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
            let attempts = self.attempts().await;
            if attempts.last().is_some_and(|last| last.new && last.held) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let problem = if attempts.is_empty() {
                    "wrote no log"
                } else {
                    "did not reach the server"
                };
                return Err(Stop::Because(format!(
                    "without any policy the client {problem}"
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

    /// Waits until the deny is in force, or the time limit is over.
    async fn watch(&self, denied: Instant, limit: Duration) -> Result<ProbeResult, Stop> {
        let before = self.attempts().await.last().map_or(0, |last| last.at_ms);
        loop {
            let attempts = self.attempts().await;
            let after: Vec<Attempt> = attempts
                .into_iter()
                .filter(|one| one.at_ms > before)
                .collect();
            if let Some(seen) = in_force(&after, before) {
                return Ok(seen);
            }
            let waited = denied.elapsed();
            if waited >= limit {
                return Ok(ProbeResult::NotEnforced(waited));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The attempts in the client's log, oldest first. Empty where it cannot be read.
    async fn attempts(&self) -> Vec<Attempt> {
        let api: Api<Pod> = Api::namespaced(self.context.cluster.client.clone(), &self.namespace);
        let params = LogParams {
            limit_bytes: Some(limits::PROBE_LOG_BYTES_MAX),
            ..LogParams::default()
        };
        let text = read("logs", api.logs(CLIENT, &params))
            .await
            .unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// The result, once the attempts since `before` show that the deny is in force and what happens to the
/// established connection.
fn in_force(attempts: &[Attempt], before: i64) -> Option<ProbeResult> {
    let ends = attempts
        .iter()
        .rposition(|one| one.new)
        .map_or(0, |last| last + 1);
    let ended = attempts.get(ends..).unwrap_or_default();
    let first = ended.first()?;
    if ended.len() < IN_A_ROW {
        return None;
    }
    let held_is_truncated = ended.iter().rev().take(IN_A_ROW).all(|one| !one.held);
    if !held_is_truncated && ended.len() < WATCHED {
        return None;
    }
    let after = Duration::from_millis(u64::try_from(first.at_ms - before).unwrap_or(0));
    Some(ProbeResult::Enforced {
        after,
        held_is_truncated,
    })
}

/// Why a pod does not run, as Kubernetes reports it.
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
        .find(|one| one.status != "True" && one.message.is_some());
    unmet
        .and_then(|one| one.message.clone())
        .or_else(|| status.and_then(|status| status.phase.clone()))
        .unwrap_or_else(|| "it is not scheduled yet".to_owned())
}

fn pod_of(name: &str, image: &str, args: &[String]) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            // In case the pod is not removed.
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

    /// Attempts at 1 s, 2 s and so on: `n` new, `h` held, `b` both, `-` none.
    fn attempts(letters: &str) -> Vec<Attempt> {
        let one = |(second, letter): (i64, char)| Attempt {
            at_ms: second * 1_000,
            new: matches!(letter, 'n' | 'b'),
            held: matches!(letter, 'h' | 'b'),
        };
        (1_i64..).zip(letters.chars()).map(one).collect()
    }

    fn seen(letters: &str) -> Option<(u64, bool)> {
        in_force(&attempts(letters), 0).map(|seen| match seen {
            ProbeResult::Enforced {
                after,
                held_is_truncated,
            } => (after.as_secs(), held_is_truncated),
            ProbeResult::NotEnforced(_) => unreachable!("in_force returns only Enforced"),
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
    fn an_established_connection_is_watched_for_longer() {
        assert_eq!(seen("bhhhh"), None);
        assert_eq!(seen("bhhhhhh"), Some((2, false)));
        assert_eq!(seen("bhhh---"), Some((2, true)));
    }

    #[test]
    fn a_policy_without_effect_fails_and_a_surviving_connection_warns() {
        let verdict = |seen| judge(seen).verdict;
        let after = Duration::from_secs(1);
        assert_eq!(verdict(ProbeResult::NotEnforced(after)), Verdict::Fail);
        assert_eq!(
            verdict(ProbeResult::Enforced {
                after,
                held_is_truncated: false
            }),
            Verdict::Warn
        );
        assert_eq!(
            verdict(ProbeResult::Enforced {
                after,
                held_is_truncated: true
            }),
            Verdict::Ok
        );
    }

    #[test]
    fn the_reason_of_a_pod_that_does_not_run_is_reported() {
        let pod =
            |status: Value| serde_json::from_value::<Pod>(json!({ "status": status })).unwrap();
        let waiting = json!({ "containerStatuses": [{ "name": "p", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "waiting": { "reason": "ErrImagePull", "message": "no such" } } }] });
        assert_eq!(why(&pod(waiting)), "ErrImagePull: no such");
        assert_eq!(why(&pod(json!({}))), "it is not scheduled yet");
    }
}
