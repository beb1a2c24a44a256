//! The report as Markdown, for a ticket. Text from the cluster is in code spans, where no markup has an effect.

use super::story::{Story, offset};
use crate::model::escape::for_markdown;

/// The report as Markdown.
#[must_use]
pub(crate) fn markdown(story: &Story) -> String {
    let mut lines = head(story);
    lines.push("\n## What to do next\n".to_owned());
    for (number, step) in (1..).zip(&story.next) {
        lines.push(format!("{number}. **{}.** {}", step.title, step.why));
        if let Some(command) = &step.command {
            // A command contains no line break and no fence: its names are valid Kubernetes names.
            lines.push(format!("   ```\n   {command}\n   ```"));
        }
    }
    lines.push("\n## Why\n".to_owned());
    lines.extend(evidence(story));
    lines.push("\n## Timeline\n\n| UTC | after | what | detail |\n|---|---|---|---|".to_owned());
    let begin = story
        .timeline
        .first()
        .map_or(0, |event| event.time.micros());
    for event in &story.timeline {
        lines.push(format!(
            "| {} {} | {} | {} | {} |",
            event.time.day(),
            event.time.clock(),
            offset(event.time.micros().saturating_sub(begin)),
            for_markdown(&event.title),
            for_markdown(&event.detail),
        ));
    }
    lines.extend(rest(story));
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn head(story: &Story) -> Vec<String> {
    let mut lines = vec![
        format!("# {} {}\n", story.phase.sign(), story.phase_title),
        format!(
            "{}\n\n{}\n",
            for_markdown(&story.headline),
            for_markdown(&story.summary)
        ),
        "| question | answer | why |\n|---|---|---|".to_owned(),
    ];
    for answer in &story.answers {
        let why = format!("{}: {}", answer.reason, answer.sentence);
        lines.push(format!(
            "| {} | {} | {} |",
            answer.question,
            answer.answer,
            for_markdown(&why)
        ));
    }
    lines.push("\n| what | which |\n|---|---|".to_owned());
    let incident = format!("{}/{}", story.incident.namespace, story.incident.name);
    let mut row =
        |what: &str, which: &str| lines.push(format!("| {what} | {} |", for_markdown(which)));
    row("incident", &incident);
    if let Some(run) = &story.run {
        row("run", run);
    }
    row("pod", &format!("{} {}", story.pod.name, story.pod.uid));
    for (what, which) in [("node", &story.pod.node), ("owner", &story.pod.owner)] {
        if let Some(which) = which {
            row(what, which);
        }
    }
    for pair in &story.trace {
        row(&format!("trace: {}", pair.name), &pair.value);
    }
    lines
}

fn evidence(story: &Story) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in &story.evidence {
        lines.push(format!(
            "**{}**, {}: {:.1} nats, line {:.1}, {} contacts, seen by {}\n",
            for_markdown(&finding.title),
            for_markdown(&finding.severity),
            finding.score,
            finding.threshold,
            finding.contacts,
            for_markdown(&finding.node),
        ));
        lines.push(format!("{}\n", for_markdown(&finding.summary)));
        lines.extend(finding.why.iter().map(|sentence| format!("- {sentence}")));
        lines.extend(
            finding
                .against
                .iter()
                .map(|sentence| format!("- against it: {}", for_markdown(sentence))),
        );
        lines.push(String::new());
    }
    for technique in &story.techniques {
        lines.push(format!(
            "- {} {}",
            for_markdown(&technique.id),
            technique.name.as_deref().unwrap_or_default()
        ));
    }
    lines
}

fn rest(story: &Story) -> Vec<String> {
    let mut lines = vec!["\n## Network policies\n".to_owned()];
    for policy in &story.policies.selecting {
        let widens = if policy.widens {
            " **allows more**"
        } else {
            ""
        };
        let what = format!("{}: {}", policy.role, policy.allows.join("; "));
        lines.push(format!(
            "- {}{widens} {}",
            for_markdown(&policy.name),
            for_markdown(&what)
        ));
    }
    lines.extend(
        story
            .policies
            .note
            .iter()
            .map(|note| format!("- {}", for_markdown(note))),
    );
    if !story.restore.is_empty() {
        lines.push("\n## What a release restores\n".to_owned());
        for part in &story.restore {
            let what = format!(
                "{} {}: {} instead of {}",
                part.object, part.field, part.before, part.set
            );
            lines.push(format!("- {}", for_markdown(&what)));
        }
    }
    lines.push("\n## What this report cannot show\n".to_owned());
    lines.extend(story.caveats.iter().map(|sentence| format!("- {sentence}")));
    lines
}
