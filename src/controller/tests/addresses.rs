//! Tests of the addresses of a run's pods in its status.

use serde_json::json;

use super::super::addresses::addresses_of;
use super::super::validate::validate;
use super::{by_label, observed, of, run, with_pods};
use crate::api::PodAddresses;
use crate::cluster::Pod;
use crate::limits;

fn pod_on(name: &str, node: &str, ips: &[&str]) -> Pod {
    let listed: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    of(json!({
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("uid-{name}"), "labels": { "app": "agent" },
        },
        "spec": { "nodeName": node },
        "status": { "podIP": ips.first(), "podIPs": listed },
    }))
}

fn published(pods: impl IntoIterator<Item = Pod>) -> Option<PodAddresses> {
    addresses_of(&validate(&with_pods(observed(run("a", by_label())), pods)))
}

#[test]
fn the_list_has_the_own_addresses_of_pods_on_several_nodes() {
    let mut on_host = pod_on("h", "n2", &["192.0.2.1"]);
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    let mut other = pod_on("o", "n2", &["10.0.9.9"]);
    other.metadata.labels = None;
    let mut ended = pod_on("e", "n2", &["10.0.8.8"]);
    ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let starting = pod_on("s", "n3", &[]);
    let list = published([
        pod_on("p", "n2", &["10.0.1.1", "fd00::1"]),
        pod_on("q", "n1", &["10.0.0.1"]),
        on_host,
        other,
        ended,
        starting,
    ]);
    let expected = PodAddresses {
        pods: 2,
        addresses: ["10.0.0.1", "10.0.1.1", "fd00::1"].map(String::from).into(),
    };
    assert_eq!(list, Some(expected));
}

#[test]
fn a_run_on_one_node_needs_no_list() {
    let pods = ["p", "q"].map(|name| pod_on(name, "n1", &["10.0.0.1"]));
    assert_eq!(published(pods), None);
}

#[test]
fn the_list_is_bounded_and_contains_the_number_of_its_pods() {
    let pods = (0..limits::RUN_ADDRESSES_MAX + 5).map(|n| {
        let node = if n % 2 == 0 { "n1" } else { "n2" };
        pod_on(
            &format!("p{n}"),
            node,
            &[&format!("10.{}.{}.1", n / 250, n % 250)],
        )
    });
    let list = published(pods).unwrap();
    assert_eq!(list.addresses.len(), limits::RUN_ADDRESSES_MAX);
    assert_eq!(
        usize::try_from(list.pods).unwrap(),
        limits::RUN_ADDRESSES_MAX
    );
}
