//! Open Incidents made directly through the API, as an administrator or an observer with stolen credentials could.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::json;
use yellowjack::testing::api::Incident;

use super::CONCURRENCY;

/// What an Incident is about.
#[derive(Debug, Clone)]
pub struct OpenIncident {
    /// Its own name.
    pub name: String,
    /// Name of the pod that it is about.
    pub pod_name: String,
    /// UID of that pod.
    pub pod_uid: String,
    /// Whether its severity is `Quarantine`, and not `Alert`.
    pub is_actionable: bool,
}

impl OpenIncident {
    /// One about a pod that does not exist; half of them are actionable.
    #[must_use]
    pub fn without_pod(number: usize) -> Self {
        Self {
            name: format!("flood-{number}"),
            pod_name: format!("gone-{number}"),
            pod_uid: format!("00000000-0000-4000-8000-{number:012}"),
            is_actionable: number.is_multiple_of(2),
        }
    }

    fn object(&self) -> anyhow::Result<Incident> {
        let now = Timestamp::now();
        let severity = if self.is_actionable {
            "Quarantine"
        } else {
            "Alert"
        };
        let incident = serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "Incident",
            "metadata": { "name": self.name },
            "spec": {
                "subject": { "name": self.pod_name, "uid": self.pod_uid, "podIPs": ["192.0.2.2"] },
                "evidence": [{
                    "observer": "controller",
                    "signature": "HorizontalScan",
                    "severity": severity,
                    "score": 21.0,
                    "threshold": 20.0,
                    "firstSeen": now,
                    "lastSeen": now,
                    "contacts": 35,
                    "summary": "35 hosts were contacted on port 22 and refused.",
                }],
            },
        }))?;
        Ok(incident)
    }
}

/// Creates a namespace.
pub async fn create_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let namespace = Namespace {
        metadata,
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

/// Creates them in this namespace.
pub async fn create_incidents(
    client: &Client,
    namespace: &str,
    all: impl Iterator<Item = OpenIncident>,
) -> anyhow::Result<()> {
    let incidents: Api<Incident> = Api::namespaced(client.clone(), namespace);
    let create = async |open: OpenIncident| -> anyhow::Result<()> {
        let params = PostParams::default();
        incidents.create(&params, &open.object()?).await?;
        Ok(())
    };
    stream::iter(all.map(create))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}
