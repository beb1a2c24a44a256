//! As much of Cilium's API as tests against an API server need, and what its agent writes there. The real Cilium is in
//! `node/engine`.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::fixture::LIMIT;
use crate::wait::wait_for;

/// A kind of `cilium.io/v2`: its name, the plural of its resource, and its scope.
const KINDS: [(&str, &str, &str); 3] = [
    ("CiliumEndpoint", "ciliumendpoints", "Namespaced"),
    ("CiliumNetworkPolicy", "ciliumnetworkpolicies", "Namespaced"),
    (
        "CiliumClusterwideNetworkPolicy",
        "ciliumclusterwidenetworkpolicies",
        "Cluster",
    ),
];

/// The definitions of these kinds, without the schemas that Cilium has for them.
#[must_use]
pub fn definitions() -> Vec<Value> {
    let definition = |(kind, plural, scope): &(&str, &str, &str)| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.cilium.io") },
            "spec": {
                "group": "cilium.io",
                "scope": scope,
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                "versions": [{
                    "name": "v2",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": true,
                    }},
                }],
            },
        })
    };
    KINDS.iter().map(definition).collect()
}

/// The objects of one of these kinds; `namespace` is empty for one without.
#[must_use]
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let plural = KINDS.iter().find(|(name, ..)| *name == kind);
    let plural = plural.map_or("", |(_, plural, _)| plural);
    let kind = GroupVersionKind::gvk("cilium.io", "v2", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

/// Has the API server serve these kinds.
pub async fn serve(client: &Client) -> anyhow::Result<()> {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("cilium").force();
    for definition in definitions() {
        let name = definition.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.context("a definition has a name")?;
        all.patch(name, &params, &Patch::Apply(&definition)).await?;
    }
    for (kind, ..) in KINDS {
        wait_for("a kind of Cilium to be served", LIMIT, async || {
            let list = api(client, "", kind).list(&ListParams::default()).await;
            list.map(drop).map_err(|error| error.to_string())
        })
        .await?;
    }
    Ok(())
}

/// Writes the endpoint of a pod with these labels as its identity, as Cilium's agent does.
pub async fn set_identity(
    client: &Client,
    namespace: &str,
    pod: &str,
    labels: &[(&str, &str)],
) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let uid = pods.get(pod).await?.uid().context("a pod has a UID")?;
    let own = labels
        .iter()
        .map(|(key, value)| format!("k8s:{key}={value}"));
    let added = [
        "k8s:io.cilium.k8s.policy.cluster=default".to_owned(),
        format!("k8s:io.kubernetes.pod.namespace={namespace}"),
    ];
    let endpoint = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEndpoint",
        "metadata": {
            "name": pod,
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid }],
        },
        "status": { "identity": {
            "id": 4711,
            "labels": own.chain(added).collect::<Vec<String>>(),
        } },
    });
    let params = PatchParams::apply("cilium").force();
    api(client, namespace, "CiliumEndpoint")
        .patch(pod, &params, &Patch::Apply(&endpoint))
        .await?;
    Ok(())
}
