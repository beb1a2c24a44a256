//! Where inputs begin: lines of every format from the repository's samples and recordings, and
//! from the folder beside it where there is one. Read once; used by `fuzz`.

use std::path::{Path, PathBuf};

use yellowjack::testing::signals::decode::{Format, MetricsFormat, sniff};

use crate::Target;

/// Lines that are taken from one file, spread over it. More than a sample has: its lines repeat
/// in a pattern, of which a step could meet one kind alone.
const LINES_PER_FILE_MAX: usize = 1_000;

/// Lines of one input for a target that reads several, without the first one.
const LINES_PER_PART: usize = 4;

/// Files with lines of any format, from the root of the repository.
const OWN_FILES: [&str; 7] = [
    "tests/samples/vpc/scan.log",
    "tests/samples/vpc/honest.log",
    "tests/samples/calico/scan.log",
    "tests/samples/calico/honest.log",
    "tests/samples/suricata/scan.json",
    "tests/samples/suricata/honest.json",
    "e2e/recording/egress.jsonl",
];

/// The same, from the folder beside it.
const SHARED_FILES: [&str; 3] = [
    "samples/hubble.jsonl",
    "samples/netfilter/nflog.json",
    "samples/netfilter/nfct.json",
];

/// Whole lines of shapes that no file of the repository has.
const LINES: [&str; 5] = [
    r#"{"flow":{"time":"2026-02-24T08:43:39.070396373Z","verdict":"FORWARDED","IP":{"source":"10.10.21.241","destination":"9.134.108.44"},"l4":{"TCP":{"source_port":58012,"destination_port":9922,"flags":{"SYN":true}}},"source":{"namespace":"a","pod_name":"b"},"destination_names":["x.example","y"],"event_type":{"type":4},"traffic_direction":"EGRESS","is_reply":false},"time":"2026-02-24T08:43:39Z"}"#,
    r#"{"flow":{"time":"2026-02-24T08:43:39Z","verdict":"FORWARDED","IP":{"source":"10.0.0.10","destination":"10.0.0.1"},"l7":{"type":"RESPONSE","dns":{"query":"a.example.","ips":["192.0.2.1"],"rcode":3}},"is_reply":true}}"#,
    r#"{"ts":1700828217.314165,"id.orig_h":"192.168.1.9","id.orig_p":50820,"id.resp_h":"45.33.32.156","id.resp_p":443,"proto":"tcp","duration":0.2069,"orig_bytes":0,"resp_bytes":0,"conn_state":"REJ","history":"Sr","orig_pkts":1,"resp_pkts":1}"#,
    r#"{"_path":"dns","ts":"2018-03-24T17:15:20.615923Z","id.orig_h":"10.0.0.7","id.orig_p":5353,"id.resp_h":"10.0.0.2","id.resp_p":53,"query":"a.example.","rcode":0,"answers":["203.0.113.133","2001:db8::1"]}"#,
    r#"{"ts":1,"id.orig_h":"10.0.0.7","id.orig_p":53,"id.resp_h":"10.0.0.2","id.resp_p":443,"server_name":"pool.example.net"}"#,
];

/// Samples in every form that is read.
const SAMPLES: [&str; 3] = [
    r#"{"time":1700000000.5,"pod":"10.244.0.5","cpu":0.5,"gpu":97}"#,
    r#"{"time":"2026-11-24T10:14:57Z","pod":"team-a/agent-0","cpu":1.97}"#,
    r#"{"time":1700000060,"pod":"10.244.0.5","gpu":{"DCGM_FI_PROF_SM_ACTIVE":0.99,"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE":0,"power_watts":310,"DCGM_FI_DEV_FB_USED":9223372036854775794}}"#,
];

/// Answers of each source of node metrics, with form feeds between them.
const KUBELET: &str = "# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace=\"team-a\",pod=\"agent-0\"} 4.67812 1790000000935
container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1e+02 1790000000000
node_cpu_usage_seconds_total 357.35491 1790000001000
\x0cpod_cpu_usage_seconds_total{namespace=\"team-a\",pod=\"agent-0\"} 14.2 1790000015935
container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 110 1790000015000
";
const DCGM: &str = "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-1\",hostname=\"n\",container=\"c\",namespace=\"n\",pod=\"p\"} 97
DCGM_FI_PROF_SM_ACTIVE{gpu=\"1\",UUID=\"GPU-2\",pod_name=\"q\",pod_namespace=\"n\",pod_uid=\"u\"} 0.99
DCGM_FI_DEV_FB_USED{gpu=\"1\",UUID=\"GPU-2\",GPU_I_ID=\"7\",namespace=\"n\",pod=\"q\\\"\"} 9223372036854775794
\x0cDCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"G\",job=\"j\",instance=\"i\",pod=\"x\",exported_pod=\"p\",exported_namespace=\"n\"} 5
";
const POD_METRICS: &str = r#"{"items":[{"metadata":{"name":"agent-0","namespace":"team-a"},"timestamp":"2026-09-21T14:13:20Z","window":"10.016s","containers":[{"name":"agent","usage":{"cpu":"337160596n","memory":"35664Ki"}},{"usage":{"cpu":"250m"}}]}]}"#;

/// Logs in Zeek's columns: the header has to come with the lines.
const COLUMNS: [&str; 2] = [
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\torig_bytes\tconn_state\thistory\torig_pkts\n1764403200.250000\t10.9.1.50\t52000\t10.30.0.4\t3389\ttcp\t0.5\t-\tREJ\tSr\t1\n#close\t2025-11-29\n",
    "#separator \\x7c\n#set_separator|;\n#path|dns\n#fields|ts|id_orig_h|id_orig_p|id_resp_h|id_resp_p|query|answers|rcode_name\n1764403200.25|10.9.1.50|5|10.96.0.10|53|a\\x7cb.example|192.0.2.1;TXT x\\x3b|NOERROR\n",
];

/// A few lines, by gzip and by zstd.
const COMPRESSED: [&[u8]; 2] = [
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x54\xc8\xc9\xcc\x4b\x55\xc8\x4f\x53\x48\x54\xc8\xc9\x4f\xe7\x4a\xcc\x4b\x51\x48\xcc\xcb\x2f\xc9\x48\x2d\x52\xc8\xcf\x4b\xe5\x02\x00\x59\x8d\x5a\x37\x20\x00\x00\x00",
    b"\x28\xb5\x2f\xfd\x20\x07\x39\x00\x00\x61\x20\x6c\x69\x6e\x65\x0a",
];

/// A pool list with one entry of each kind.
const POOLS: &str = "# pools\npool.example.org\n*.miner.example.net\n203.0.113.9:3333\n198.51.100.0/24\n2001:db8::/32\n[2001:db8::1]:443\n";

/// See the module.
#[derive(Debug)]
pub struct Corpus {
    logs: Vec<(Format, Vec<Vec<u8>>)>,
    pools: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads what is there. `root` is the root of the repository.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let shared = std::env::var_os("YELLOWJACK_SHARED")
            .map_or_else(|| root.join("../shared"), PathBuf::from);
        let own = OWN_FILES.iter().map(|file| root.join(file));
        let files = own.chain(SHARED_FILES.iter().map(|file| shared.join(file)));
        let mut logs: Vec<_> = files.map(|file| some_lines(&file)).collect();
        logs.extend(LINES.iter().map(|line| vec![line.as_bytes().to_vec()]));
        let logs = logs
            .into_iter()
            .filter_map(|lines| Some((sniff(lines.first()?)?, lines)))
            .collect();
        let recorded = std::fs::read(root.join("e2e/recording/pools.txt")).ok();
        let pools = recorded.into_iter().chain([POOLS.as_bytes().to_vec()]);
        Self {
            logs,
            pools: pools.collect(),
        }
    }

    /// The inputs that a target begins with.
    #[must_use]
    pub fn seeds(&self, target: Target) -> Vec<Vec<u8>> {
        let of = |wanted: Option<Format>| {
            let logs = self.logs.iter();
            logs.filter(move |(format, _)| wanted.is_none_or(|wanted| wanted == *format))
                .map(|(_, lines)| lines)
        };
        match target {
            Target::Line(format) => of(Some(format)).flatten().cloned().collect(),
            Target::Sniff => of(None).flatten().cloned().collect(),
            Target::Pools => self.pools.clone(),
            Target::Samples => SAMPLES
                .iter()
                .map(|line| line.as_bytes().to_vec())
                .collect(),
            Target::Metrics(format) => {
                let answers = match format {
                    MetricsFormat::Kubelet => KUBELET,
                    MetricsFormat::Dcgm => DCGM,
                    MetricsFormat::PodMetrics => POD_METRICS,
                };
                vec![answers.as_bytes().to_vec()]
            }
            Target::Compressed => COMPRESSED.map(<[u8]>::to_vec).to_vec(),
            Target::Log(format) => {
                let columns = COLUMNS.map(|log| log.as_bytes().to_vec());
                let columns = columns.into_iter().filter(|_| format == Format::Zeek);
                let lines = of(Some(format)).flat_map(|lines| parts(lines));
                lines.chain(columns).collect()
            }
        }
    }
}

/// A log in parts of a few lines, each behind the first line, which may be a header.
fn parts(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let Some((first, rest)) = lines.split_first() else {
        return Vec::new();
    };
    if rest.is_empty() {
        return vec![first.clone()];
    }
    let part = |lines: &[Vec<u8>]| [std::slice::from_ref(first), lines].concat().join(&b'\n');
    rest.chunks(LINES_PER_PART).map(part).collect()
}

fn some_lines(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let lines: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    let step = lines.len().div_ceil(LINES_PER_FILE_MAX).max(1);
    lines
        .into_iter()
        .step_by(step)
        .map(<[u8]>::to_vec)
        .collect()
}
