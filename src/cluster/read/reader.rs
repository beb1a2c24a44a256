//! Reads single objects and lists from the API server, each request with a time limit.
//!
//! For what a store does not hold, or where a lagging store would be wrong. Writes nothing.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, ObjectList, PartialObjectMeta};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::error::ApiError;
use crate::limits;

/// Reads from the API server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    client: Client,
}

impl Reader {
    /// A reader that uses this client.
    #[must_use]
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, for requests that no method here makes: pass them to [`read`].
    #[must_use]
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// A namespaced object; `None` if it does not exist.
    pub(crate) async fn get_opt<K>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        read(api.get_opt(name)).await
    }

    /// The metadata of namespaced objects.
    pub(crate) async fn list_metadata<K>(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Result<ObjectList<PartialObjectMeta<K>>, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        read(api.list_metadata(params)).await
    }
}

/// Waits for the response to one request, with the time limit of every request.
pub(crate) async fn read<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    let limit = Duration::from_secs(limits::API_TIMEOUT_S);
    match tokio::time::timeout(limit, request).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(ApiError::TimedOut(limit)),
    }
}
