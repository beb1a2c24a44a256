//! Access reviews: which user the caller is, and who may do what. A review is an object that is created
//! and not stored. Called by the command line; changes nothing.

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

/// The request that an access review checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessRequest<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Resource in the plural, with `/` and the subresource if there is one.
    pub resource: &'a str,
    /// The verb of the request.
    pub verb: &'a str,
    /// Name of the object; empty for any.
    pub name: &'a str,
    /// Namespace; empty for all.
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

/// The user name of the caller.
pub(crate) async fn current_user(client: &Client) -> Result<Option<String>, ApiError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = post(&api, &SelfSubjectReview::default()).await?;
    let user = answer.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username))
}

/// Whether the caller has permission for the request.
pub(crate) async fn may_current_user(
    client: &Client,
    request: &AccessRequest<'_>,
) -> Result<bool, ApiError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(request.attributes()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = post(&api, &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Whether a service account has permission for the request. The review itself needs a permission.
pub(crate) async fn may_service_account(
    client: &Client,
    namespace: &str,
    account: &str,
    request: &AccessRequest<'_>,
) -> Result<bool, ApiError> {
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(request.attributes()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = post(&api, &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn post<K>(api: &Api<K>, review: &K) -> Result<K, ApiError>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let limit = Duration::from_secs(limits::COMMAND_TIMEOUT_S);
    let params = PostParams::default();
    match tokio::time::timeout(limit, api.create(&params, review)).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(ApiError::TimedOut(limit)),
    }
}
