//! What Helm makes of the chart, and whether the API server takes it.

use yellowjack_e2e::with_namespace;

use crate::helm::{apply, helm, root, template, values_files};

#[test]
fn helm_finds_nothing_to_say_about_the_chart() -> anyhow::Result<()> {
    for file in values_files()? {
        let file = file.map(|file| file.display().to_string());
        let mut arguments = vec!["lint", "--strict", "charts/yellowjack"];
        if let Some(file) = &file {
            arguments.extend(["--values", file]);
        }
        helm(&arguments)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_would_take_every_object_with_every_set_of_values() -> anyhow::Result<()> {
    with_namespace(async |env| {
        for file in values_files()? {
            let file = file.map(|file| file.display().to_string());
            let mut arguments = Vec::new();
            if let Some(file) = &file {
                arguments.extend(["--values", file]);
            }
            let rendered = template(&arguments)?;
            // A dry run needs a namespace that is there.
            let here = rendered.replace(
                "namespace: yellowjack-system",
                &format!("namespace: {}", env.namespace),
            );
            let said = apply(env.cluster, &here, &["--dry-run=server"]).await?;
            let count = rendered.matches("\nkind: ").count();
            assert_eq!(said.lines().count(), count, "{file:?}: {said}");
        }
        Ok(())
    })
    .await
}

#[test]
fn deploy_is_the_rendered_chart() -> anyhow::Result<()> {
    let stored = std::fs::read_to_string(root().join("deploy/yellowjack.yaml"))?;
    let rendered = template(&[])?;
    let same = stored
        .lines()
        .zip(rendered.lines())
        .take_while(|(a, b)| a == b);
    let line = same.count() + 1;
    assert!(
        stored == rendered,
        "deploy/yellowjack.yaml is out of date from line {line} on; run `make chart`"
    );
    Ok(())
}

#[test]
fn values_that_are_misspelt_or_would_do_harm_are_refused() {
    for (set, word) in [
        ("observeOnyl=true", "additional properties"),
        ("controller.replicas=9", "/controller/replicas"),
        (
            "controller.lease.duration=soon",
            "/controller/lease/duration",
        ),
        ("source.preset=hubble", "/source/preset"),
        ("source.preset=file", "/source/directory"),
        ("response.breakerShare=2", "/response/breakerShare"),
        ("image.digest=latest", "/image/digest"),
        ("cluster.podCidrs={10.0.0.1}", "/cluster/podCidrs"),
    ] {
        let refused = template(&["--set", set]).err();
        let refused = refused
            .map(|error| format!("{error:#}"))
            .unwrap_or_default();
        assert!(refused.contains(word), "{set}: {refused:?}");
    }
}

#[test]
fn one_value_makes_both_parts_observe_only() -> anyhow::Result<()> {
    let count = |set: &str| {
        Ok::<_, anyhow::Error>(template(&["--set", set])?.matches("--observe-all").count())
    };
    assert_eq!(count("observeOnly=true")?, 2);
    assert_eq!(count("observeOnly=false")?, 0);
    Ok(())
}

#[test]
fn the_starter_lists_reach_both_parts_unless_they_are_switched_off() -> anyhow::Result<()> {
    let flags = [
        "--starter-pool-list=/etc/yellowjack/lists/starter-pools.txt",
        "--starter-tunnel-list=/etc/yellowjack/lists/starter-tunnels.txt",
    ];
    let on = template(&[])?;
    for flag in flags {
        assert_eq!(on.matches(flag).count(), 2, "controller and agent: {flag}");
    }
    for (key, file) in [
        ("starter-pools.txt: |", "pools.txt"),
        ("starter-tunnels.txt: |", "tunnels.txt"),
    ] {
        assert_eq!(on.matches(key).count(), 1, "{key}");
        let list = root().join("charts/yellowjack/files/starter").join(file);
        for line in std::fs::read_to_string(list)?
            .lines()
            .filter(|line| !line.is_empty())
        {
            assert!(on.contains(line), "{file}: {line}");
        }
    }
    assert_eq!(on.matches("mountPath: /etc/yellowjack/lists").count(), 2);
    let off = template(&["--set", "detection.starterLists=false"])?;
    assert!(!off.contains("starter-") && !off.contains("/etc/yellowjack/lists"));
    let own = template(&[
        "--set",
        "detection.starterLists=false",
        "--set",
        "detection.poolList={a.example}",
    ])?;
    assert!(
        !own.contains("starter-") && own.contains("--pool-list=/etc/yellowjack/lists/pools.txt")
    );
    Ok(())
}

#[test]
fn no_role_reads_secrets_or_runs_commands_in_pods() -> anyhow::Result<()> {
    let rendered = template(&[
        "--show-only",
        "templates/rbac-controller.yaml",
        "--show-only",
        "templates/rbac-node.yaml",
        "--show-only",
        "templates/rbac-owners.yaml",
    ])?;
    let rules = rendered
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    for line in rules {
        for word in [
            "secrets",
            "exec",
            "attach",
            "nodes/proxy",
            "'*'",
            "\"*\"",
            "impersonate",
            "escalate",
            "bind]",
        ] {
            assert!(!line.contains(word), "{line}");
        }
    }
    Ok(())
}

#[test]
fn every_rule_says_why() -> anyhow::Result<()> {
    for part in ["controller", "node", "owners"] {
        let file = format!("charts/yellowjack/templates/rbac-{part}.yaml");
        let text = std::fs::read_to_string(root().join(&file))?;
        let mut before = "";
        for line in text.lines() {
            let is_rule = line.trim_start().starts_with("- apiGroups");
            // The owners of one kind after the other share the comment above the role.
            assert!(
                !is_rule || part == "owners" || before.trim_start().starts_with('#'),
                "{file}: {line}"
            );
            before = line;
        }
    }
    Ok(())
}

/// Alerts and ServiceMonitor need CRDs that no test server has; here they only must be rendered.
#[test]
fn monitoring_is_rendered_where_it_is_wanted() -> anyhow::Result<()> {
    let all = "metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true";
    let rendered = template(&[
        "--set",
        all,
        "--set",
        "metrics.prometheusRule.runbookUrl=https://example.com/",
    ])?;
    for text in [
        "kind: ServiceMonitor",
        "kind: PrometheusRule",
        "alert: YellowjackDown",
        "{{ $labels.node }}",
        "runbook_url: https://example.com/yellowjackdown",
        "grafana_dashboard: \"1\"",
    ] {
        assert!(rendered.contains(text), "{text}");
    }
    Ok(())
}

/// What comes behind a Service's address is what most engines judge.
#[test]
fn yellowjacks_own_policy_lets_out_what_the_values_make_it_ask() -> anyhow::Result<()> {
    let policy = ["--show-only", "templates/surroundings.yaml"];
    for (set, port) in [
        ("nodeMetrics.source=kubelet", "10250"),
        ("nodeMetrics.dcgmUrl=http://$(HOST_IP):9400/metrics", "9400"),
        ("networkPolicy.apiServerPorts={16443}", "16443"),
        (
            "source.preset=hubble-relay,source.relay.address=hubble-relay.kube-system:80",
            "4245",
        ),
    ] {
        let port = format!("{{ port: {port}, protocol: TCP }}");
        let opened = template(&[&policy[..], &["--set", set]].concat())?;
        assert!(opened.contains(&port), "{set}: {opened}");
        assert!(!template(&policy)?.contains(&port), "{set}");
    }
    Ok(())
}
