//! Checks of rights: those of the controller's service account and of the user, and the admission policies
//! that protect the quarantine from others.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::check::{Check, Verdict};
use super::clock::some;
use super::context::Context;
use crate::cli::error::CommandError;
use crate::cli::read::list;
use crate::cluster::{AccessRequest, ApiError, may_current_user, may_service_account};
use crate::observability::chain;

/// Group, resource and verb of the rights that the controller requires.
const REQUIRED: [(&str, &str, &str); 21] = [
    ("yellowjack.dev", "agentruns", "list"),
    ("yellowjack.dev", "agentruns", "watch"),
    ("yellowjack.dev", "agentruns/status", "patch"),
    ("yellowjack.dev", "guardrailpolicies", "list"),
    ("yellowjack.dev", "incidents", "list"),
    ("yellowjack.dev", "incidents", "watch"),
    ("yellowjack.dev", "incidents/status", "patch"),
    ("yellowjack.dev", "contactreports", "list"),
    ("yellowjack.dev", "contactreports", "watch"),
    ("yellowjack.dev", "contactreports/status", "patch"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("", "pods", "patch"),
    ("", "pods", "delete"),
    ("", "nodes", "list"),
    ("", "resourcequotas", "create"),
    ("", "limitranges", "create"),
    ("batch", "jobs", "patch"),
    ("networking.k8s.io", "networkpolicies", "list"),
    ("networking.k8s.io", "networkpolicies", "create"),
    ("networking.k8s.io", "networkpolicies", "patch"),
];

/// Optional rights, without which some owners cannot be suspended.
const OPTIONAL: [(&str, &str, &str); 4] = [
    ("apps", "deployments", "patch"),
    ("apps", "statefulsets", "patch"),
    ("batch", "cronjobs", "patch"),
    ("", "pods/resize", "patch"),
];

/// The suffixes of the names of the chart's admission policies.
const POLICIES: [&str; 6] = [
    "quarantine-label",
    "guardrails",
    "incidents",
    "contact-reports",
    "quarantined-debug",
    "quarantined-connect",
];

pub(super) async fn checks(context: &Context<'_>, account: &str) -> Vec<Check> {
    vec![
        of_controller(context, account).await,
        of_caller(context).await,
    ]
}

async fn of_controller(context: &Context<'_>, account: &str) -> Check {
    let namespace = &context.args.operator_namespace;
    let wanted =
        format!("the service account {namespace}/{account} has the rights of the controller");
    let (required, optional) = (
        missing(context, account, &REQUIRED).await,
        missing(context, account, &OPTIONAL).await,
    );
    match (required, optional) {
        (Ok(required), Ok(optional)) => judge_rights(wanted, &required, &optional),
        (Err(error), _) | (_, Err(error)) => {
            let todo = "reading the rights of another account needs create on subjectaccessreviews";
            let found = format!("not known: {}", chain(&error));
            Check::new("rbac", Verdict::Unknown, wanted, found, todo)
        }
    }
}

async fn missing(
    context: &Context<'_>,
    account: &str,
    rights: &[(&'static str, &'static str, &'static str)],
) -> Result<Vec<String>, ApiError> {
    let client = &context.cluster.client;
    let namespace = &context.args.operator_namespace;
    let mut missing = Vec::new();
    for (group, resource, verb) in rights {
        let request = AccessRequest {
            group,
            resource,
            verb,
            name: "",
            namespace: "",
        };
        if !may_service_account(client, namespace, account, &request).await? {
            let dot = if group.is_empty() { "" } else { "." };
            missing.push(format!("{verb} {resource}{dot}{group}"));
        }
    }
    Ok(missing)
}

fn judge_rights(wanted: String, required: &[String], optional: &[String]) -> Check {
    let names = |missing: &[String]| some(&missing.iter().map(String::as_str).collect::<Vec<_>>());
    if required.len() == REQUIRED.len() {
        let found = "it has none of the rights: is it the right account?";
        let todo = "name it with --operator-namespace and --service-account";
        return Check::new("rbac", Verdict::Unknown, wanted, found, todo);
    }
    if !required.is_empty() {
        let found = format!("it lacks: {}", names(required));
        let todo = "apply the chart's roles again";
        return Check::new("rbac", Verdict::Fail, wanted, found, todo);
    }
    if !optional.is_empty() {
        let found = format!("it has all required rights, but not: {}", names(optional));
        let todo = "set rbac.ownerLevers of the chart to suspend these owners too";
        return Check::new("rbac", Verdict::Warn, wanted, found, todo);
    }
    Check::ok("rbac", wanted, "it has all required rights")
}

async fn of_caller(context: &Context<'_>) -> Check {
    let wanted = "you may decide on Incidents of your namespace";
    let request = AccessRequest {
        group: "yellowjack.dev",
        resource: "incidents",
        verb: "patch",
        name: "",
        namespace: &context.cluster.namespace,
    };
    match may_current_user(&context.cluster.client, &request).await {
        Ok(true) => Check::ok(
            "you",
            wanted,
            "RBAC allows it; an admission policy may still refuse",
        ),
        Ok(false) => Check::new(
            "you",
            Verdict::Warn,
            wanted,
            format!(
                "you may not patch incidents in {}",
                context.cluster.namespace
            ),
            "releasing a pod needs this right",
        ),
        Err(error) => Check::new("you", Verdict::Unknown, wanted, chain(&error), ""),
    }
}

pub(super) async fn admission(context: &Context<'_>) -> Vec<Check> {
    let wanted = "admission policies protect the label, the guardrails and the Incidents";
    match policies(context).await {
        Ok((policies, denying)) => vec![judge_policies(wanted, &policies, &denying)],
        Err(error) => vec![Check::cannot("admission", wanted, &error)],
    }
}

/// The names of Yellowjack's policies, and of those with a binding that denies.
async fn policies(context: &Context<'_>) -> Result<(Vec<String>, Vec<String>), CommandError> {
    let client = &context.cluster.client;
    let ours = || ListParams::default().labels("app.kubernetes.io/name=yellowjack");
    let api: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let policies = list("validatingadmissionpolicies", &api, ours()).await?;
    let api: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let bindings = list("validatingadmissionpolicybindings", &api, ours()).await?;
    let denying = bindings.items.into_iter().filter_map(|binding| {
        let spec = binding.spec?;
        let denies = spec
            .validation_actions?
            .iter()
            .any(|action| action == "Deny");
        denies.then_some(spec.policy_name?)
    });
    let names = policies.items.iter().map(ResourceExt::name_any).collect();
    Ok((names, denying.collect()))
}

fn judge_policies(wanted: &str, policies: &[String], denying: &[String]) -> Check {
    let has =
        |names: &[String], end: &str| names.iter().any(|name| name.ends_with(&format!("-{end}")));
    let absent: Vec<&str> = POLICIES
        .into_iter()
        .filter(|end| !has(policies, end))
        .collect();
    let todo = "install the chart with admissionPolicies.enabled: without them anyone who may patch a pod \
                can remove the quarantine label";
    let check = |found: String| Check::new("admission", Verdict::Warn, wanted, found, todo);
    if absent.len() == POLICIES.len() {
        return check("no admission policy of Yellowjack is installed".to_owned());
    }
    if !absent.is_empty() {
        return check(format!("missing: {}", some(&absent)));
    }
    let idle: Vec<&str> = POLICIES
        .into_iter()
        .filter(|end| !has(denying, end))
        .collect();
    if !idle.is_empty() {
        return check(format!("installed, but not denying: {}", some(&idle)));
    }
    Check::ok(
        "admission",
        wanted,
        format!("{} policies deny", POLICIES.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_missing_right_fails_a_missing_optional_one_warns_and_none_means_another_account() {
        let verdict = |required: &[String], optional: &[String]| {
            judge_rights(String::new(), required, optional).verdict
        };
        assert_eq!(verdict(&[], &[]), Verdict::Ok);
        assert_eq!(
            verdict(&[], &owned(&["patch deployments.apps"])),
            Verdict::Warn
        );
        assert_eq!(verdict(&owned(&["patch pods"]), &[]), Verdict::Fail);
        assert_eq!(
            verdict(&vec![String::new(); REQUIRED.len()], &[]),
            Verdict::Unknown
        );
    }

    #[test]
    fn policies_count_only_where_a_binding_denies() {
        let all: Vec<String> = POLICIES
            .iter()
            .map(|end| format!("yellowjack-{end}"))
            .collect();
        assert_eq!(judge_policies("", &all, &all).verdict, Verdict::Ok);
        assert_eq!(judge_policies("", &all, &[]).verdict, Verdict::Warn);
        assert!(
            judge_policies("", &[], &[])
                .found
                .starts_with("no admission")
        );
        let some = all.get(1..).unwrap();
        assert_eq!(
            judge_policies("", some, some).found,
            "missing: quarantine-label"
        );
    }
}
