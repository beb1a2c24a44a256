//! Questions to the API server that are asked by creating an object which is not kept: who am I, who
//! may do what. Called by the command line; nothing is changed.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cluster::error::ApiError;
use crate::limits;

/// An action on a kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRequest<'a> {
    /// API group; empty for the core.
    pub group: &'a str,
    /// Resource, in the plural; with `/` and a subresource where one is meant.
    pub resource: &'a str,
    /// Verb.
    pub verb: &'a str,
    /// Name; empty for any.
    pub name: &'a str,
    /// Namespace; empty for all of them.
    pub namespace: &'a str,
}

impl AccessRequest<'_> {
    fn attributes(&self) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource,
            verb: Some(self.verb.to_owned()),
            name: given(self.name),
            namespace: given(self.namespace),
            ..ResourceAttributes::default()
        }
    }
}

/// The name by which the API server knows the caller.
pub async fn current_user(client: &Client) -> Result<Option<String>, ApiError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = post(&api, &SelfSubjectReview::default()).await?;
    let user = answer.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username))
}

/// Whether the caller may do this.
pub async fn may_current_user(client: &Client, deed: &AccessRequest<'_>) -> Result<bool, ApiError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(deed.attributes()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = post(&api, &question).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Whether this service account may do this. Asking takes a right of its own.
pub async fn may_service_account(
    client: &Client,
    namespace: &str,
    account: &str,
    deed: &AccessRequest<'_>,
) -> Result<bool, ApiError> {
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(deed.attributes()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = post(&api, &question).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn post<K>(api: &Api<K>, question: &K) -> Result<K, ApiError>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let limit = Duration::from_secs(limits::PEOPLE_TIMEOUT_S);
    let params = PostParams::default();
    tokio::time::timeout(limit, api.create(&params, question))
        .await
        .map_err(|_| ApiError::TimedOut(limit))?
        .map_err(ApiError::from)
}
