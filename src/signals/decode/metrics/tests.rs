//! Tests of the readers with text as written by kubelets, exporters and the metrics API.

use super::*;
use crate::model::DeviceUse;

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> EventTime {
    EventTime::from_seconds(second, 0)
}

fn read(format: MetricsFormat, text: &str) -> MetricsRead {
    MetricsReader::new(format).read(text.as_bytes(), at(NOW))
}

fn named(read: &MetricsRead) -> Vec<(&str, Option<f64>)> {
    let name = |s: &'_ PodSample| s.sample.cpu.map(|cpu| (cpu * 1e6).round() / 1e6);
    read.samples
        .iter()
        .map(|s| (s.sample.pod.as_ref(), name(s)))
        .collect()
}

/// The response of a kubelet after so many seconds of half a core.
fn kubelet(second: i64) -> String {
    let (seconds, ms) = (second / 2, (NOW + second) * 1_000);
    format!(
        r#"# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{container="agent",namespace="team-a",pod="agent-0"}} {seconds} {ms}
container_cpu_usage_seconds_total{{container="proxy",namespace="team-a",pod="agent-0"}} 0.001 {ms}
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
container_memory_working_set_bytes{{container="agent",namespace="team-a",pod="agent-0"}} 1.9873792e+07 {ms}
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
container_start_time_seconds{{container="agent",namespace="team-a",pod="agent-0"}} 1.6332538e+09
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
node_cpu_usage_seconds_total 357.35491 {ms}
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
pod_cpu_usage_seconds_total{{namespace="team-a",pod="agent-0"}} {seconds} {ms}
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
resource_scrape_error 0
"#
    )
}

#[test]
fn two_texts_of_a_kubelet_give_a_pods_rate_on_the_texts_own_times() {
    let mut reader = MetricsReader::new(MetricsFormat::Kubelet);
    let first = reader.read(kubelet(0).as_bytes(), at(NOW));
    assert!(first.samples.is_empty() && first.has_new_data);
    let second = reader.read(kubelet(20).as_bytes(), at(NOW + 500));
    assert_eq!(named(&second), [("team-a/agent-0", Some(0.5))]);
    let sample = &second.samples[0];
    assert_eq!((sample.from, sample.sample.time), (at(NOW), at(NOW + 20)));
    assert_eq!((second.malformed, reader.counter_count()), (0, 1));
}

#[test]
fn a_kubelet_that_repeats_itself_is_no_new_data() {
    let mut reader = MetricsReader::new(MetricsFormat::Kubelet);
    for expected in [true, false, false] {
        let read = reader.read(kubelet(0).as_bytes(), at(NOW));
        assert_eq!((read.has_new_data, read.samples.len()), (expected, 0));
    }
    // The clock of the node was set back: the kubelet is active, although with an earlier time.
    assert!(reader.read(kubelet(-600).as_bytes(), at(NOW)).has_new_data);
    assert!(!reader.read(b"", at(NOW)).has_new_data);
}

#[test]
fn a_kubelet_without_pods_is_still_active() {
    let read = read(
        MetricsFormat::Kubelet,
        "node_cpu_usage_seconds_total 3.5e+02 1790000000000\n",
    );
    assert!(read.has_new_data && read.samples.is_empty());
}

#[test]
fn containers_add_up_where_the_pod_has_no_counter_and_one_that_restarts_is_no_dip() {
    let text = |second: i64, a: f64, b: f64| {
        let ms = (NOW + second) * 1_000;
        format!(
            "container_cpu_usage_seconds_total{{container=\"a\",namespace=\"n\",pod=\"p\"}} {a} {ms}\n\
             container_cpu_usage_seconds_total{{container=\"b\",namespace=\"n\",pod=\"p\"}} {b} {ms}\n"
        )
    };
    let mut reader = MetricsReader::new(MetricsFormat::Kubelet);
    let mut step = |second, a, b| {
        let read = reader.read(text(second, a, b).as_bytes(), at(NOW));
        read.samples
            .iter()
            .filter_map(|s| s.sample.cpu)
            .sum::<f64>()
    };
    assert!(step(0, 10.0, 100.0) < 0.01);
    assert!((step(10, 15.0, 110.0) - 1.5).abs() < 1e-9);
    assert!(step(20, 20.0, 0.5) < 0.01, "b restarted: nothing is known");
    assert!((step(30, 25.0, 10.5) - 1.5).abs() < 1e-9);
}

#[test]
fn broken_lines_are_counted_and_the_others_are_read() {
    let text = r#"pod_cpu_usage_seconds_total{namespace="n",pod="a"} 1 1790000000000
pod_cpu_usage_seconds_total{namespace="n",pod="a" 1 1790000000000
pod_cpu_usage_seconds_total{namespace="n",pod="b"} one
pod_cpu_usage_seconds_total{namespace="n"} 1
pod_cpu_usage_seconds_total{namespace="n",pod="a",pod="victim"} 1
pod_cpu_usage_seconds_total{namespace="n",pod="c"} 1 99999999999999999
pod_cpu_usage_seconds_total{namespace="n",pod=c} 1
pod_cpu_usage_seconds_total
unrelated{broken 1
"#;
    let mut reader = MetricsReader::new(MetricsFormat::Kubelet);
    let read = reader.read(text.as_bytes(), at(NOW));
    assert_eq!((read.malformed, reader.counter_count()), (7, 1));
}

#[test]
fn escapes_in_labels_are_undone() {
    let line = r#"m{a="x\\y\"z\n", b="é" , } +Inf"#;
    let series = exposition::Series::read(line, |_| true).unwrap().unwrap();
    assert_eq!(series.label("a"), Some("x\\y\"z\n"));
    assert_eq!(series.label("b"), Some("é"));
    assert_eq!((series.value, series.time), (f64::INFINITY, None));
}

#[test]
fn a_sample_with_a_time_to_come_is_left_out_and_counted() {
    let mut reader = MetricsReader::new(MetricsFormat::Kubelet);
    let _ = reader.read(kubelet(5_000).as_bytes(), at(NOW));
    let read = reader.read(kubelet(5_020).as_bytes(), at(NOW));
    assert_eq!((read.samples.len(), read.ahead), (0, 1));
}

/// One line of an exporter.
fn dcgm(name: &str, labels: &str, value: &str) -> String {
    format!(
        "DCGM_FI_{name}{{gpu=\"0\",UUID=\"GPU-604ac76c\",pci_bus_id=\"00000000:00:04.0\",device=\"nvidia0\",modelName=\"NVIDIA H100\",hostname=\"n1\"{labels}}} {value}\n"
    )
}

const OF_POD: &str = r#",container="train",namespace="team-a",pod="agent-0""#;

#[test]
fn the_figures_of_an_accelerator_are_its_pods() {
    let text = [
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n".to_owned(),
        dcgm("DEV_GPU_UTIL", OF_POD, "1"),
        dcgm("PROF_SM_ACTIVE", OF_POD, "0.990000"),
        dcgm("PROF_PIPE_TENSOR_ACTIVE", OF_POD, "0.000000"),
        dcgm("DEV_POWER_USAGE", OF_POD, "310.5"),
        dcgm("DEV_FB_USED", OF_POD, "9223372036854775794"),
        dcgm("PROF_PCIE_TX_BYTES", OF_POD, "1000"),
        dcgm("PROF_PCIE_RX_BYTES", OF_POD, "500"),
        dcgm("DEV_XID_ERRORS", OF_POD, "0"),
    ]
    .concat();
    let read = read(MetricsFormat::Dcgm, &text);
    assert!(read.has_new_data && read.malformed == 0);
    let [sample] = &read.samples[..] else {
        panic!("{read:?}");
    };
    assert_eq!(
        (sample.namespace.as_str(), sample.name.as_str()),
        ("team-a", "agent-0")
    );
    assert_eq!((sample.from, sample.sample.time), (at(NOW - 30), at(NOW)));
    let gpu = sample.sample.gpu.unwrap();
    assert_eq!(gpu.utilization, Some(0.01), "one percent, not all of it");
    assert_eq!((gpu.sm_active, gpu.tensor_active), (Some(0.99), Some(0.0)));
    assert_eq!((gpu.power_watts, gpu.memory_used_mib), (Some(310.5), None));
    assert_eq!(gpu.link_bytes_per_second, Some(1500.0));
}

#[test]
fn an_accelerator_of_several_pods_is_evidence_against_none_of_them() {
    let neighbour = r#",container="c",namespace="team-b",pod="honest",vgpu="1""#;
    let text = dcgm("PROF_SM_ACTIVE", OF_POD, "0.99") + &dcgm("PROF_SM_ACTIVE", neighbour, "0.99");
    let read = read(MetricsFormat::Dcgm, &text);
    assert_eq!((read.samples.len(), read.shared_gpus), (0, 1));
}

/// The text of an exporter that names one of the pods on a device.
fn alternating(pod: &str) -> String {
    let labels = format!(r#",container="c",namespace="team-a",pod="{pod}""#);
    dcgm("PROF_SM_ACTIVE", &labels, "0.97") + &dcgm("PROF_PIPE_TENSOR_ACTIVE", &labels, "0")
}

#[test]
fn a_device_that_each_answer_gives_to_another_pod_is_shared_and_its_samples_are_withdrawn() {
    let mut reader = MetricsReader::new(MetricsFormat::Dcgm);
    let mut read = |second: i64, pod: &str| {
        let read = reader.read(alternating(pod).as_bytes(), at(NOW + second));
        let named: Vec<_> = read.withdrawn.iter().map(|s| s.name.clone()).collect();
        (read.samples.len(), read.shared_gpus, named)
    };
    assert_eq!(read(0, "a"), (1, 0, vec![]));
    let withdrawn = vec!["b".to_owned(), "a".to_owned()];
    assert_eq!(read(15, "b"), (0, 1, withdrawn));
    assert_eq!(read(30, "b"), (0, 1, vec!["b".to_owned()]));
    // Ten minutes after the last change the device belongs to one pod again.
    assert_eq!(read(15 + 600, "b").0, 0);
    assert_eq!(read(15 + 601, "b"), (1, 0, vec![]));
}

#[test]
fn a_device_that_the_exporter_declares_shared_belongs_to_no_pod_even_with_one_pod_on_it() {
    let virtual_gpu = OF_POD.to_owned() + r#",vgpu="3""#;
    let replica = dcgm("PROF_SM_ACTIVE", OF_POD, "0.99").replace("GPU-604ac76c", "GPU-604ac76c::2");
    for text in [dcgm("PROF_SM_ACTIVE", &virtual_gpu, "0.99"), replica] {
        let read = read(MetricsFormat::Dcgm, &text);
        assert_eq!((read.samples.len(), read.shared_gpus), (0, 1), "{text}");
    }
}

#[test]
fn a_part_has_its_own_activity_and_not_the_power_and_links_of_the_whole_device() {
    let part = r#",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",namespace="n",pod="a""#;
    let text = dcgm("PROF_SM_ACTIVE", part, "0.9")
        + &dcgm("PROF_PIPE_TENSOR_ACTIVE", part, "0.3")
        + &dcgm("DEV_POWER_USAGE", part, "251.3")
        + &dcgm("PROF_PCIE_TX_BYTES", part, "9e8")
        + &dcgm("PROF_NVLINK_RX_BYTES", part, "9e8");
    let read = read(MetricsFormat::Dcgm, &text);
    let gpu = read.samples[0].sample.gpu.unwrap();
    assert_eq!((gpu.sm_active, gpu.tensor_active), (Some(0.9), Some(0.3)));
    assert_eq!((gpu.power_watts, gpu.link_bytes_per_second), (None, None));
    let whole = dcgm("DEV_POWER_USAGE", OF_POD, "251.3");
    let read = self::read(MetricsFormat::Dcgm, &whole);
    assert_eq!(read.samples[0].sample.gpu.unwrap().power_watts, Some(251.3));
}

#[test]
fn an_impossible_figure_is_left_out_and_counted_and_the_others_stay() {
    let text = dcgm("PROF_SM_ACTIVE", OF_POD, "0.97")
        + &dcgm("DEV_GPU_UTIL", OF_POD, "150")
        + &dcgm("DEV_POWER_USAGE", OF_POD, "-1")
        + &dcgm("PROF_DRAM_ACTIVE", OF_POD, "NaN")
        + &dcgm("PROF_PCIE_TX_BYTES", OF_POD, "1e18")
        + &dcgm("PROF_PIPE_TENSOR_ACTIVE", OF_POD, "0.1");
    let read = read(MetricsFormat::Dcgm, &text);
    assert_eq!((read.impossible, read.malformed), (4, 0));
    let gpu = read.samples[0].sample.gpu.unwrap();
    assert_eq!((gpu.sm_active, gpu.tensor_active), (Some(0.97), Some(0.1)));
    assert_eq!(
        (gpu.utilization, gpu.power_watts, gpu.dram_active),
        (None, None, None)
    );
}

#[test]
fn a_kubelets_impossible_counters_are_counted() {
    let text = |second: i64, seconds: &str| {
        let ms = (NOW + second) * 1_000;
        format!("pod_cpu_usage_seconds_total{{namespace=\"n\",pod=\"p\"}} {seconds} {ms}\n")
    };
    let mut reader = MetricsReader::new(MetricsFormat::Kubelet);
    let mut read = |second, seconds: &str| {
        let read = reader.read(text(second, seconds).as_bytes(), at(NOW + 100));
        (read.samples.len(), read.impossible)
    };
    assert_eq!(read(0, "10"), (0, 0));
    assert_eq!(read(10, "18446744074"), (0, 1));
    assert_eq!(read(20, "NaN"), (0, 1));
    assert_eq!(read(30, "-5"), (0, 1));
    assert_eq!(read(40, "10"), (0, 0));
    assert_eq!(read(50, "15"), (1, 0));
}

/// One line of AMD's exporter.
fn amd(name: &str, labels: &str, value: &str) -> String {
    format!(
        "{name}{{card_model=\"102\",card_series=\"AMD Instinct MI300X OAM\",card_vendor=\"AMD\",gpu_id=\"2\",gpu_partition_id=\"0\",gpu_uuid=\"ccff74a1-0000\",hostname=\"n1\",serial_number=\"6924\"{labels}}} {value}\n"
    )
}

#[test]
fn the_names_of_amds_exporter_are_read() {
    let labels =
        r#",container="c",namespace="team-a",pod="agent-0",gpu_compute_partition_type="spx""#;
    for prefix in ["", "amd_"] {
        let text: String = [
            ("gpu_gfx_activity", "99"),
            ("gpu_umc_activity", "70"),
            ("gpu_prof_sm_active", "97"),
            ("gpu_prof_tensor_active_percent", "0"),
            ("gpu_package_power", "612"),
            ("gpu_used_vram", "4096"),
            ("gpu_total_vram", "196592"),
            ("gpu_ecc_correct_total", "0"),
        ]
        .iter()
        .map(|(name, value)| amd(&format!("{prefix}{name}"), labels, value))
        .collect();
        let read = read(MetricsFormat::Dcgm, &text);
        assert_eq!(named(&read), [("team-a/agent-0", None)], "{prefix}");
        let gpu = read.samples[0].sample.gpu.unwrap();
        assert_eq!(gpu.device_use, DeviceUse::Exclusive);
        assert_eq!((gpu.utilization, gpu.sm_active), (Some(0.99), Some(0.97)));
        assert_eq!((gpu.tensor_active, gpu.dram_active), (Some(0.0), Some(0.7)));
        assert_eq!(
            (gpu.power_watts, gpu.memory_used_mib),
            (Some(612.0), Some(4096.0))
        );
    }
}

#[test]
fn a_partition_of_an_amd_device_has_no_power_of_its_own() {
    let labels = r#",namespace="n",pod="p",gpu_compute_partition_type="CPX""#;
    let text = amd("gpu_gfx_activity", labels, "99") + &amd("gpu_package_power", labels, "612");
    let read = read(MetricsFormat::Dcgm, &text);
    let gpu = read.samples[0].sample.gpu.unwrap();
    assert_eq!((gpu.utilization, gpu.power_watts), (Some(0.99), None));
}

#[test]
fn the_names_of_intels_exporter_are_read_and_its_tiles_are_not_added() {
    let line = |name: &str, more: &str, value: &str| {
        format!(
            "{name}{{uuid=\"01000000\",dev_name=\"Intel GPU\",pci_dev=\"0x56c0\",vendor=\"Intel\",pci_bdf=\"0000:4d:00.0\",node=\"n1\",kube_pod=\"agent-0\",kube_namespace=\"team-a\",kube_container=\"c\"{more}}} {value}\n"
        )
    };
    let text = line("xpum_engine_ratio", "", "0.98")
        + &line("xpum_engine_ratio", ",sub_dev=\"0\"", "0.5")
        + &line("xpum_eu_active_ratio", "", "0.9")
        + &line("xpum_power_watts", "", "118.5")
        + &line("xpum_memory_used_bytes", "", "1073741824")
        + &line("xpum_memory_bandwidth_ratio", "", "0.4");
    let read = read(MetricsFormat::Dcgm, &text);
    assert_eq!(named(&read), [("team-a/agent-0", None)]);
    let gpu = read.samples[0].sample.gpu.unwrap();
    assert_eq!((gpu.utilization, gpu.sm_active), (Some(0.98), Some(0.9)));
    assert_eq!(
        (gpu.power_watts, gpu.memory_used_mib),
        (Some(118.5), Some(1024.0))
    );
    // It has no figure for matrix operations, so it is no evidence.
    assert_eq!((gpu.dram_active, gpu.tensor_active), (Some(0.4), None));
}

#[test]
fn an_item_of_the_metrics_api_with_nothing_in_it_spoils_no_other() {
    let whole = r#"{"metadata":{"name":"ok","namespace":"n"},"timestamp":"2026-09-21T14:13:20Z","window":"15s","containers":[{"name":"a","usage":{"cpu":"250m"}}]}"#;
    for odd in [
        r#"{"metadata":{"name":"x","namespace":"n"},"timestamp":null,"window":"0s","containers":null}"#,
        r#"{"metadata":{"name":"x","namespace":"n"},"timestamp":"2026-09-21T14:13:20Z","window":null,"containers":null}"#,
        r#"{"metadata":{"name":null},"timestamp":5,"containers":{}}"#,
        r#"{"metadata":{"name":"x","namespace":"n"},"timestamp":"2026-09-21T14:13:20Z","containers":[{"name":"a","usage":null}]}"#,
        "null",
        "7",
    ] {
        for items in [format!("[{odd},{whole}]"), format!("[{whole},{odd}]")] {
            let text = format!(r#"{{"kind":"PodMetricsList","items":{items}}}"#);
            let read = read(MetricsFormat::PodMetrics, &text);
            assert_eq!(named(&read), [("n/ok", Some(0.25))], "{text}");
            assert_eq!(read.malformed, 1, "{text}");
        }
    }
    let none = read(MetricsFormat::PodMetrics, r#"{"items":null}"#);
    assert_eq!((none.malformed, none.samples.len()), (0, 0));
}

#[test]
fn a_use_that_no_machine_has_is_left_out_for_its_pod_alone() {
    let item = |name: &str, cpu: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n"}},"timestamp":"2026-09-21T14:13:20Z","window":"15s","containers":[{{"usage":{{"cpu":"{cpu}"}}}}]}}"#
        )
    };
    for cpu in ["18446744074", "18446744073709551615n", "-1", "NaN", "1e300"] {
        let text = format!(r#"{{"items":[{},{}]}}"#, item("odd", cpu), item("ok", "2"));
        let read = read(MetricsFormat::PodMetrics, &text);
        assert_eq!(named(&read), [("n/ok", Some(2.0))], "{cpu}");
        assert_eq!((read.impossible, read.malformed), (1, 0), "{cpu}");
    }
}

#[test]
fn parts_of_one_device_have_a_pod_each() {
    let part = |id: u8, pod: &str| {
        format!(r#",GPU_I_PROFILE="1g.10gb",GPU_I_ID="{id}",namespace="n",pod="{pod}""#)
    };
    let text = dcgm("PROF_GR_ENGINE_ACTIVE", &part(7, "a"), "0.9")
        + &dcgm("PROF_GR_ENGINE_ACTIVE", &part(8, "b"), "0.1");
    let read = read(MetricsFormat::Dcgm, &text);
    let gpu = |i: usize| read.samples[i].sample.gpu.unwrap().utilization;
    assert_eq!((read.samples.len(), read.shared_gpus), (2, 0));
    assert_eq!((gpu(0), gpu(1)), (Some(0.9), Some(0.1)));
}

#[test]
fn the_old_names_of_labels_and_the_uid_are_read() {
    let labels = r#",container_name="c",pod_namespace="n",pod_name="old",pod_uid="u-1""#;
    let read = read(MetricsFormat::Dcgm, &dcgm("PROF_SM_ACTIVE", labels, "0.5"));
    let [sample] = &read.samples[..] else {
        panic!("{read:?}");
    };
    assert_eq!(
        (sample.name.as_str(), sample.uid.as_deref()),
        ("old", Some("u-1"))
    );
}

#[test]
fn an_accelerator_without_a_pod_is_not_attributed() {
    let labels = r#",container="",namespace="",pod="""#;
    let read = read(MetricsFormat::Dcgm, &dcgm("PROF_SM_ACTIVE", labels, "0.99"));
    assert!(read.has_new_data && read.samples.is_empty());
}

#[test]
fn text_by_way_of_prometheus_never_names_the_exporter() {
    let scraped =
        r#",job="dcgm",instance="10.0.0.1:9400",namespace="gpu-operator",pod="dcgm-exporter-x""#;
    let of_user = format!(r#"{scraped},exported_namespace="team-a",exported_pod="agent-0""#);
    // Prometheus drops empty labels: a device without a pod has no `exported_pod` at all.
    let idle = read(
        MetricsFormat::Dcgm,
        &dcgm("PROF_SM_ACTIVE", scraped, "0.99"),
    );
    assert!(idle.samples.is_empty());
    let used = read(
        MetricsFormat::Dcgm,
        &dcgm("PROF_SM_ACTIVE", &of_user, "0.99"),
    );
    assert_eq!(named(&used), [("team-a/agent-0", None)]);
}

#[test]
fn a_pod_cannot_put_its_work_on_another_by_labels_of_its_own() {
    let forged = r#",namespace="team-a",pod="rogue",job="j",instance="i",exported_namespace="team-b",exported_pod="honest""#;
    let text = dcgm("PROF_SM_ACTIVE", forged, "0.99")
        + "DCGM_FI_PROF_SM_ACTIVE{gpu=\"1\",UUID=\"GPU-2\",namespace=\"\",pod=\"\"} 0\n";
    let read = read(MetricsFormat::Dcgm, &text);
    assert_eq!(named(&read), [("team-a/rogue", None)]);
}

#[test]
fn of_several_devices_the_one_that_looks_like_hashing_is_used() {
    let line = |gpu: u8, name: &str, value: &str| {
        format!(
            "DCGM_FI_{name}{{gpu=\"{gpu}\",UUID=\"GPU-{gpu}\",namespace=\"n\",pod=\"p\"}} {value}\n"
        )
    };
    let text = [
        line(0, "PROF_SM_ACTIVE", "0.95"),
        line(0, "PROF_PIPE_TENSOR_ACTIVE", "0.6"),
        line(1, "PROF_SM_ACTIVE", "0.97"),
        line(1, "PROF_PIPE_TENSOR_ACTIVE", "0"),
        line(2, "PROF_SM_ACTIVE", "0"),
        line(2, "PROF_PIPE_TENSOR_ACTIVE", "0"),
    ]
    .concat();
    let read = read(MetricsFormat::Dcgm, &text);
    assert_eq!(read.samples.len(), 1);
    assert_eq!(read.samples[0].sample.gpu.unwrap().sm_active, Some(0.97));
}

const POD_METRICS: &str = r#"{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[
{"metadata":{"name":"agent-0","namespace":"team-a","creationTimestamp":"2026-09-21T14:13:25Z","labels":{"app":"x"}},"timestamp":"2026-09-21T14:13:20Z","window":"10.016s","containers":[{"name":"agent","usage":{"cpu":"337160596n","memory":"35664Ki"}},{"name":"proxy","usage":{"cpu":"1m","memory":"0"}}]},
{"metadata":{"name":"empty","namespace":"team-a"},"timestamp":"2026-09-21T14:13:20Z","window":"30s","containers":[]},
{"metadata":{"name":"odd","namespace":"team-a"},"timestamp":"2026-09-21T14:13:20Z","window":"30s","containers":[{"name":"a","usage":{"cpu":"many"}}]}]}"#;

#[test]
fn the_metrics_api_gives_an_average_over_a_window_once() {
    let mut reader = MetricsReader::new(MetricsFormat::PodMetrics);
    let first = reader.read(POD_METRICS.as_bytes(), at(NOW));
    assert_eq!(named(&first), [("team-a/agent-0", Some(0.338_161))]);
    let sample = &first.samples[0];
    assert_eq!(sample.sample.time.micros_since(sample.from), 10_016_000);
    assert_eq!(
        (first.has_new_data, first.malformed, first.impossible),
        (true, 2, 0)
    );
    let again = reader.read(POD_METRICS.as_bytes(), at(NOW + 15));
    assert_eq!((again.has_new_data, again.samples.len()), (false, 0));
}

#[test]
fn an_answer_that_is_no_list_is_malformed_and_no_news() {
    for (format, body) in [
        (MetricsFormat::PodMetrics, "404 page not found"),
        (MetricsFormat::PodMetrics, r#"{"items":[{}]}"#),
        (MetricsFormat::PodMetrics, "{"),
        (MetricsFormat::Kubelet, "<html>"),
        (MetricsFormat::Dcgm, "<html>"),
    ] {
        let read = read(format, body);
        assert!(!read.has_new_data && read.samples.is_empty(), "{body}");
    }
    let read = MetricsReader::new(MetricsFormat::Kubelet).read(b"\xff", at(NOW));
    assert_eq!((read.malformed, read.has_new_data), (1, false));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bodies: Vec<Vec<u8>>) {
        for format in MetricsFormat::ALL {
            let mut reader = MetricsReader::new(format);
            for body in &bodies {
                let _ = reader.read(body, at(NOW));
            }
        }
    }

    #[test]
    fn a_text_that_is_cut_anywhere_is_survived(at_byte in 0_usize..1_200, format in 0_usize..3) {
        let text = [kubelet(0), dcgm("PROF_SM_ACTIVE", OF_POD, "0.99"), POD_METRICS.to_owned()];
        let text = &text[format];
        let cut = &text.as_bytes()[..at_byte.min(text.len())];
        let mut reader = MetricsReader::new(MetricsFormat::ALL[format]);
        let _ = reader.read(cut, at(NOW));
        let _ = reader.read(text.as_bytes(), at(NOW));
    }
}

#[test]
fn the_times_of_a_text_that_prometheus_hands_on_count_and_the_same_text_again_is_no_sample() {
    let mut reader = MetricsReader::new(MetricsFormat::Dcgm);
    let line = |ms: i64| {
        format!(
            "DCGM_FI_PROF_SM_ACTIVE{{UUID=\"GPU-1\",namespace=\"team-a\",pod=\"a\"}} 0.9 {ms}\n"
        )
    };
    let mut times = |text: &str, now: i64| {
        let read = reader.read(text.as_bytes(), EventTime::from_seconds(now, 0));
        let times = read.samples.iter().map(|sample| sample.sample.time);
        (read.has_new_data, times.collect::<Vec<_>>())
    };
    let at = |second| EventTime::from_seconds(second, 0);
    assert_eq!(times(&line(100_000), 500), (true, vec![at(100)]));
    assert_eq!(times(&line(100_000), 515), (false, Vec::new()));
    assert_eq!(times(&line(160_000), 530), (true, vec![at(160)]));
}
