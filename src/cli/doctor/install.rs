//! Checks of what is installed: the API server, the CRDs, the controller.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::check::{Check, Verdict};
use super::context::Context;
use crate::api;
use crate::cli::error::CommandError;
use crate::cli::read::{list, read};

/// ValidatingAdmissionPolicy is stable since this version, which the chart requires.
const MINOR_MIN: u32 = 30;

/// The API server.
pub(super) struct Server {
    pub(super) check: Check,
    /// Its version, as it reports it.
    pub(super) version: String,
}

/// The controller, as far as it can be read.
pub(super) struct Operator {
    pub(super) checks: Vec<Check>,
    /// Its service account.
    pub(super) account: String,
    /// Its image.
    pub(super) image: Option<String>,
}

pub(super) async fn server(context: &Context<'_>) -> Result<Server, CommandError> {
    let client = &context.cluster.client;
    let info = read("the API server's version", client.apiserver_version()).await?;
    Ok(Server {
        check: judge_version(&info.minor, &info.git_version),
        version: info.git_version,
    })
}

fn judge_version(minor: &str, version: &str) -> Check {
    let wanted = format!("Kubernetes 1.{MINOR_MIN} or newer");
    // Some vendors append a sign, as in 33+.
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let found = format!("{version}; this program is {}", env!("CARGO_PKG_VERSION"));
    match digits.parse::<u32>() {
        Ok(minor) if minor >= MINOR_MIN => Check::ok("api-server", wanted, found),
        Ok(_) => Check::new(
            "api-server",
            Verdict::Fail,
            wanted,
            found,
            "upgrade the cluster",
        ),
        Err(_) => Check::new("api-server", Verdict::Unknown, wanted, found, ""),
    }
}

pub(super) async fn crds(context: &Context<'_>) -> Vec<Check> {
    let api: Api<CustomResourceDefinition> = Api::all(context.cluster.client.clone());
    let mut checks = Vec::new();
    for wanted in api::crds() {
        let name = wanted.name_any();
        let sentence = format!("the CRD {name} in the version of this program");
        match read("customresourcedefinitions", api.get_opt(&name)).await {
            Ok(stored) => checks.push(judge_crd(&wanted, stored.as_ref())),
            Err(error) => checks.push(Check::cannot("crd", sentence, &error)),
        }
    }
    checks
}

fn judge_crd(
    wanted: &CustomResourceDefinition,
    stored: Option<&CustomResourceDefinition>,
) -> Check {
    let name = wanted.name_any();
    let sentence = format!("the CRD {name} in the version of this program");
    let todo =
        "install the CRDs of this version: yellowjack crds | kubectl apply --server-side -f -";
    let check = |verdict, found: String| Check::new("crd", verdict, sentence.clone(), found, todo);
    let Some(stored) = stored else {
        return check(Verdict::Fail, format!("{name} is not installed"));
    };
    let conditions = stored
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    if !conditions.any(|one| one.type_ == "Established" && one.status == "True") {
        return check(Verdict::Fail, format!("{name} is installed but not served"));
    }
    let schema = |crd: &CustomResourceDefinition| {
        let versions = crd.spec.versions.iter();
        let ours = versions
            .into_iter()
            .find(|version| version.name == api::VERSION && version.served);
        ours.and_then(|version| serde_json::to_value(&version.schema).ok())
    };
    match (schema(wanted), schema(stored)) {
        (_, None) => check(
            Verdict::Fail,
            format!("{name} does not serve {}", api::VERSION),
        ),
        (Some(ours), Some(theirs)) if is_same(&ours, &theirs) => {
            Check::ok("crd", sentence, format!("{name} is in this version"))
        }
        _ => check(
            Verdict::Warn,
            format!("{name} is in another version, so that some fields may be unknown"),
        ),
    }
}

/// Whether two schemas are equal. Nulls count as absent.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let count = |fields: &serde_json::Map<String, Value>| {
                fields.values().filter(|value| !value.is_null()).count()
            };
            count(a) == count(b)
                && a.iter()
                    .filter(|(_, value)| !value.is_null())
                    .all(|(name, value)| b.get(name).is_some_and(|other| is_same(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

pub(super) async fn operator(context: &Context<'_>) -> Operator {
    let namespace = &context.args.operator_namespace;
    let wanted = format!("a controller that is ready, in namespace {namespace}");
    let api: Api<Deployment> = Api::namespaced(context.cluster.client.clone(), namespace);
    let labels = "app.kubernetes.io/name=yellowjack,app.kubernetes.io/component=controller";
    let found = list("deployments", &api, ListParams::default().labels(labels)).await;
    let given = context.args.service_account.clone();
    let deployments = match found {
        Ok(found) => found.items,
        Err(error) => {
            return Operator {
                checks: vec![Check::cannot("controller", wanted, &error)],
                account: given,
                image: None,
            };
        }
    };
    let first = deployments.first();
    let pod = first.and_then(|found| found.spec.as_ref()?.template.spec.as_ref());
    let account = pod.and_then(|pod| pod.service_account_name.clone());
    let image = pod.and_then(|pod| pod.containers.first()?.image.clone());
    Operator {
        checks: vec![judge_operator(wanted, first, image.as_deref())],
        account: account.unwrap_or(given),
        image,
    }
}

fn judge_operator(wanted: String, found: Option<&Deployment>, image: Option<&str>) -> Check {
    let Some(found) = found else {
        let todo = "install it with the chart, or name its namespace with --operator-namespace; a \
                    controller that runs elsewhere is not seen";
        let found = "there is no Deployment of the chart in this namespace";
        return Check::new("controller", Verdict::Unknown, wanted, found, todo);
    };
    let name = found.name_any();
    let status = found.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let image = image.unwrap_or("no image");
    let own = env!("CARGO_PKG_VERSION");
    let theirs = found.labels().get("app.kubernetes.io/version");
    if ready == 0 {
        let todo = format!(
            "kubectl -n {} logs deployment/{name}",
            found.namespace().unwrap_or_default()
        );
        return Check::new(
            "controller",
            Verdict::Fail,
            wanted,
            format!("{name} ({image}) is not ready"),
            todo,
        );
    }
    if let Some(theirs) = theirs.filter(|theirs| *theirs != own) {
        let ready = format!("{name} is ready, of version {theirs}; this program is {own}");
        return Check::new(
            "controller",
            Verdict::Warn,
            wanted,
            ready,
            "use both in one version",
        );
    }
    Check::ok("controller", wanted, format!("{name} ({image}) is ready"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_old_cluster_fails_and_a_vendors_sign_is_ignored() {
        assert_eq!(judge_version("33+", "v1.33.1-gke").verdict, Verdict::Ok);
        assert_eq!(judge_version("29", "v1.29.0").verdict, Verdict::Fail);
        assert_eq!(judge_version("", "v?").verdict, Verdict::Unknown);
    }

    #[test]
    fn a_crd_of_another_version_is_distinguished_from_a_missing_one() {
        let wanted = api::crds().remove(0);
        assert_eq!(judge_crd(&wanted, None).verdict, Verdict::Fail);
        let mut stored = serde_json::to_value(&wanted).unwrap();
        let parse = |value: &Value| {
            serde_json::from_value::<CustomResourceDefinition>(value.clone()).unwrap()
        };
        assert_eq!(
            judge_crd(&wanted, Some(&parse(&stored))).verdict,
            Verdict::Fail
        );
        stored["status"] = json!({ "conditions": [{ "type": "Established", "status": "True" }] });
        assert_eq!(
            judge_crd(&wanted, Some(&parse(&stored))).verdict,
            Verdict::Ok
        );
        stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("older");
        assert_eq!(
            judge_crd(&wanted, Some(&parse(&stored))).verdict,
            Verdict::Warn
        );
    }

    #[test]
    fn a_controller_that_is_not_ready_fails_and_one_elsewhere_is_unknown() {
        let deployment = |ready| {
            serde_json::from_value::<Deployment>(json!({
                "metadata": { "name": "c", "labels": { "app.kubernetes.io/version": env!("CARGO_PKG_VERSION") } },
                "status": { "readyReplicas": ready },
            }))
            .unwrap()
        };
        let verdict =
            |found: Option<&Deployment>| judge_operator(String::new(), found, None).verdict;
        assert_eq!(verdict(None), Verdict::Unknown);
        assert_eq!(verdict(Some(&deployment(0))), Verdict::Fail);
        assert_eq!(verdict(Some(&deployment(1))), Verdict::Ok);
    }
}
