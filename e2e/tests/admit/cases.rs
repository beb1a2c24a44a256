//! Runs cases against the server, all of them, and reports every one that went wrong.

use anyhow::{Context, ensure};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, ContactReport, GuardrailPolicy, Incident};
use yellowjack_e2e::TestEnv;

/// The kind that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AgentRun,
    GuardrailPolicy,
    Incident,
    ContactReport,
}

impl Kind {
    pub fn resource(self) -> ApiResource {
        match self {
            Self::AgentRun => ApiResource::erase::<AgentRun>(&()),
            Self::GuardrailPolicy => ApiResource::erase::<GuardrailPolicy>(&()),
            Self::Incident => ApiResource::erase::<Incident>(&()),
            Self::ContactReport => ApiResource::erase::<ContactReport>(&()),
        }
    }

    pub fn api(self, env: &TestEnv) -> Api<DynamicObject> {
        let (client, resource) = (env.client.clone(), self.resource());
        match self {
            Self::GuardrailPolicy => Api::all_with(client, &resource),
            _ => Api::namespaced_with(client, &env.namespace, &resource),
        }
    }

    pub fn object(self, name: &str, spec: &Value) -> DynamicObject {
        DynamicObject::new(name, &self.resource()).data(json!({ "spec": spec }))
    }
}

/// An object and what the server says to it.
pub struct Case {
    pub kind: Kind,
    pub name: String,
    pub what: &'static str,
    pub spec: Value,
    /// A part of the refusal; none where the object is admitted.
    pub refused: Option<&'static str>,
}

impl Case {
    pub fn admitted(kind: Kind, what: &'static str, spec: Value) -> Self {
        Self {
            kind,
            name: "case".to_owned(),
            what,
            spec,
            refused: None,
        }
    }

    pub fn refused(kind: Kind, what: &'static str, with: &'static str, spec: Value) -> Self {
        Self {
            kind,
            name: "case".to_owned(),
            what,
            spec,
            refused: Some(with),
        }
    }

    pub fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }
}

/// A change of a stored object, as a merge patch of its spec.
pub struct Change {
    pub kind: Kind,
    pub what: &'static str,
    pub before: Value,
    pub patch: Value,
    pub refused: Option<&'static str>,
}

/// Creates each case's object without storing it.
pub async fn check(env: &TestEnv, cases: Vec<Case>) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for case in cases {
        let answer = dry_create(env, case.kind, &case.name, &case.spec).await;
        wrong.extend(judge(case.kind, case.what, answer, case.refused));
    }
    report(&wrong)
}

/// Stores each change's object, and changes it without storing the change.
pub async fn check_changes(env: &TestEnv, changes: Vec<Change>) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for (number, change) in changes.into_iter().enumerate() {
        let api = change.kind.api(env);
        let name = format!("change-{number}");
        api.create(
            &PostParams::default(),
            &change.kind.object(&name, &change.before),
        )
        .await
        .with_context(|| format!("failed to store what comes before: {}", change.what))?;
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({ "spec": change.patch }));
        let answer = api.patch(&name, &params, &patch).await.map(|_| ());
        wrong.extend(judge(change.kind, change.what, answer, change.refused));
    }
    report(&wrong)
}

/// What the server says to an object that it does not store.
pub async fn dry_create(
    env: &TestEnv,
    kind: Kind,
    name: &str,
    spec: &Value,
) -> Result<(), kube::Error> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    kind.api(env)
        .create(&params, &kind.object(name, spec))
        .await
        .map(|_| ())
}

/// What is wrong with an answer; none where it is as expected.
pub fn judge(
    kind: Kind,
    what: &str,
    answer: Result<(), kube::Error>,
    refused: Option<&str>,
) -> Option<String> {
    match (answer, refused) {
        (Ok(()), None) => None,
        (Ok(()), Some(with)) => Some(format!(
            "{kind:?} {what}: admitted, not refused with {with:?}"
        )),
        (Err(kube::Error::Api(status)), Some(with))
            if status.code == 422 && status.message.contains(with) =>
        {
            None
        }
        (Err(error), expected) => Some(format!("{kind:?} {what}: expected {expected:?}: {error}")),
    }
}

pub fn report(wrong: &[String]) -> anyhow::Result<()> {
    ensure!(
        wrong.is_empty(),
        "{} cases went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}
