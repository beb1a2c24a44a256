//! What to do next: the pressing thing first, then what the three words of a human would do.
//!
//! A command is made of names that Kubernetes allows, or not at all: it is there to be copied into
//! a shell, and the Incident's texts are whoever's (INV-6).

use super::Material;
use super::judged::worst;
use super::policies::ceiling_of;
use super::state::said;
use super::story::{NextStep, Stance};
use crate::api::{IncidentCondition, Reason, Verdict};
use crate::limits;

pub(super) fn steps(material: &Material, stance: Stance) -> Vec<NextStep> {
    let commands = Commands::of(material);
    let mut steps = match stance {
        Stance::Closed => return closed(),
        Stance::Ending => return ending(material, &commands),
        Stance::Proven => Vec::new(),
        Stance::Unproven => unproven(material, &commands),
        Stance::Survives => vec![commands.decide(
            "End it",
            "Connections survive the isolation, and no further rung of the ladder is allowed or left. This holds the owner and deletes the pod.",
            Verdict::Terminate,
        )],
        Stance::Uncontained | Stance::Watched => uncontained(material, &commands),
    };
    steps.push(commands.step(
        "Look at what the pod did",
        "Its own output from the first contact on, while the pod exists.",
        commands.logs(material),
    ));
    let is_confirmed = material.incident.spec.disposition.is_some();
    if !is_confirmed {
        steps.push(commands.decide(
            "It was right: keep the pod contained",
            "Says that a human has looked. It stays contained until a release.",
            Verdict::Confirm,
        ));
    }
    steps.push(commands.decide(
        "It was wrong: release",
        "Takes the quarantine off and sets back every field that was changed, and nothing else.",
        Verdict::Release,
    ));
    if stance != Stance::Survives {
        steps.push(commands.decide(
            "It was right: end the run",
            "Holds the owner and deletes the pod.",
            Verdict::Terminate,
        ));
    }
    steps
}

fn closed() -> Vec<NextStep> {
    vec![NextStep {
        title: "Nothing".to_owned(),
        why: "A human closed it. The record expires some time after; keep this report if you need it longer.".to_owned(),
        command: None,
    }]
}

fn ending(material: &Material, commands: &Commands) -> Vec<NextStep> {
    let incident = commands.incident.as_ref();
    let mut steps = vec![commands.step(
        "Wait until it is closed",
        "A human's word stands and is carried out step by step.",
        incident.map(|name| {
            format!(
                "kubectl -n {} wait --for=condition=Closed incident/{name} --timeout=2m",
                commands.namespace
            )
        }),
    )];
    let contained = said(&material.incident, IncidentCondition::Contained);
    if contained.1 == Reason::ActionFailed.name() {
        steps.push(commands.step(
            "Look at the operator's log",
            "An action failed and is tried again.",
            None,
        ));
    }
    steps
}

fn unproven(material: &Material, commands: &Commands) -> Vec<NextStep> {
    if said(&material.incident, IncidentCondition::Verified).1 == Reason::SourceSilent.name() {
        return vec![commands.step(
            "Bring the egress log back",
            "No source speaks, and silence proves nothing. Until a log speaks again nobody knows whether the traffic stopped.",
            commands.run.as_ref().map(|run| format!("kubectl -n {} get agentrun {run} -o yaml", commands.namespace)),
        )];
    }
    let wait = commands.incident.as_ref().map(|name| {
        format!(
            "kubectl -n {} wait --for=condition=Verified incident/{name} --timeout=2m",
            commands.namespace
        )
    });
    vec![commands.step(
        "Wait for the proof",
        "The log has to speak of others for 10 s without a word of this pod.",
        wait,
    )]
}

/// What stands in the way, by the reason.
fn uncontained(material: &Material, commands: &Commands) -> Vec<NextStep> {
    let (_, reason) = said(&material.incident, IncidentCondition::Contained);
    let known = Reason::ALL.iter().find(|known| known.name() == reason);
    let namespace = &commands.namespace;
    let policy = material
        .run
        .found()
        .map(ceiling_of)
        .filter(|name| is_name(name));
    let edit_policy = policy.map(|name| format!("kubectl edit guardrailpolicy {name}"));
    let step = match known {
        Some(Reason::UnionWidened) => {
            let names = material
                .incident
                .status
                .iter()
                .flat_map(|status| &status.widened_by);
            return names
                .take(limits::WIDENED_BY_MAX)
                .filter(|name| is_name(name))
                .map(|name| {
                    commands.step(
                        "Narrow this policy",
                        "Network policies add up, and this one lets the pod's traffic through.",
                        Some(format!("kubectl -n {namespace} edit networkpolicy {name}")),
                    )
                })
                .collect();
        }
        Some(Reason::ObserveOnly) => (
            "Decide whether to enforce",
            "The mode is Observe, so the traffic goes on. With Enforce the next finding leads to the response.",
            edit_policy,
        ),
        Some(Reason::ActionLimited) => (
            "Decide whether to let it go further",
            "maxAction of the run or its policy stops below isolation, so the traffic goes on.",
            edit_policy,
        ),
        Some(Reason::Protected) => (
            "Act by hand",
            "The namespace or pod is protected from automatic action.",
            None,
        ),
        Some(Reason::BreakerOpen) => (
            "Look at what the pods share",
            "Many pods crossed the line at once: DNS, the network plug-in or a registry may be down, and the findings wrong.",
            Some("kubectl get incidents -A".to_owned()),
        ),
        Some(Reason::CapReached) => (
            "Release what was wrong, or raise the cap",
            "As many pods are in quarantine as may be.",
            Some("kubectl get incidents -A".to_owned()),
        ),
        Some(Reason::ActionFailed) => (
            "Look at the operator's log",
            "An action failed and is tried again. What the API server said stands in the timeline.",
            None,
        ),
        Some(Reason::AlertOnly) => (
            "Look at the evidence",
            "It is worth a look and does not cross the line, so the pod is left alone.",
            None,
        ),
        _ => (
            "Wait for the operator",
            "It has not said yet what it does. If this stays so, look whether it runs.",
            None,
        ),
    };
    vec![commands.step(step.0, step.1, step.2)]
}

/// The names that commands are made of, where they are fit for it.
struct Commands {
    namespace: String,
    incident: Option<String>,
    pod: Option<String>,
    run: Option<String>,
}

impl Commands {
    fn of(material: &Material) -> Self {
        let incident = &material.incident;
        let fit = |name: Option<&String>| name.filter(|name| is_name(name)).cloned();
        let namespace = fit(incident.metadata.namespace.as_ref());
        // Without a namespace no name leads anywhere.
        let has_namespace = namespace.is_some();
        let scoped = |name: Option<String>| name.filter(|_| has_namespace);
        Self {
            incident: scoped(fit(incident.metadata.name.as_ref())),
            pod: scoped(fit(Some(&incident.spec.subject.name))),
            run: scoped(fit(incident.spec.run.as_ref().map(|run| &run.name))),
            namespace: namespace.unwrap_or_default(),
        }
    }

    #[allow(clippy::unused_self)] // reads as the other steps do
    fn step(&self, title: &str, why: &str, command: Option<String>) -> NextStep {
        NextStep {
            title: title.to_owned(),
            why: why.to_owned(),
            command,
        }
    }

    fn decide(&self, title: &str, why: &str, verdict: Verdict) -> NextStep {
        let word = match verdict {
            Verdict::Confirm => "confirm",
            Verdict::Release => "release",
            Verdict::Terminate => "terminate",
        };
        let command = self.incident.as_ref().map(|name| {
            let namespace = &self.namespace;
            format!("yellowjack {word} -n {namespace} {name} --why REASON")
        });
        self.step(title, why, command)
    }

    fn logs(&self, material: &Material) -> Option<String> {
        let pod = self
            .pod
            .as_ref()
            .filter(|_| material.pod.found().is_some())?;
        let first = worst(&material.incident)?.first_seen.0;
        let first = jiff::Timestamp::from_second(first.as_second()).unwrap_or(first);
        Some(format!(
            "kubectl -n {} logs {pod} --all-containers --timestamps --since-time={first}",
            self.namespace
        ))
    }
}

/// Whether it is a name as Kubernetes allows them, which no shell reads as anything else.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    text.len() <= 253
        && text.chars().all(is_plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
