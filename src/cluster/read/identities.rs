//! The security identities of pods on Cilium, from their CiliumEndpoints.

use std::collections::HashMap;

use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};

use super::reader::read;
use crate::cluster::error::ApiError;
use crate::guardrails::cilium::{CiliumKind, IdentityLabels};

/// The identities of pods of one namespace, given by name and UID. Those that Cilium does not manage, or has given no identity
/// yet, are absent. One request.
pub(crate) async fn read_identities(
    client: &Client,
    namespace: &str,
    pods: &[(&str, &str)],
) -> Result<HashMap<String, IdentityLabels>, ApiError> {
    let resource = CiliumKind::Endpoint.resource();
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let found: Vec<DynamicObject> = match pods {
        [] => Vec::new(),
        [(name, _)] => read(api.get_opt(name)).await?.into_iter().collect(),
        _ => read(api.list(&ListParams::default())).await?.items,
    };
    let identity = |endpoint: &DynamicObject| {
        // The agent makes the pod the owner of its endpoint: one of an earlier pod of the name is not meant.
        let is_owner = |uid: &str| {
            let mut owners = endpoint.owner_references().iter();
            owners.any(|owner| owner.uid == uid)
        };
        let (_, uid) = pods.iter().find(|(_, uid)| is_owner(uid))?;
        let labels = IdentityLabels::of_endpoint(&endpoint.data)?;
        Some(((*uid).to_owned(), labels))
    };
    Ok(found.iter().filter_map(identity).collect())
}
