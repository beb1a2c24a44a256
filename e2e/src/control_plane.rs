//! Starts etcd, the API server and the controller manager on free ports, with a data folder of their
//! own. Without a node (`cluster`) they listen on loopback and pods are stored, never run; for a node
//! (`node`) they serve its kubelet and pods too.
//!
//! Called by `cluster` and by `node`, once per process. Everything started here dies with the handle or with
//! this process (`supervise`).

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use crate::binaries::Binaries;
use crate::supervise::Supervised;
use crate::wait::wait_for;

/// A start takes 3 to 5 s on an idle machine of 2 cores, and the tests' own build may share it.
const READY_LIMIT: Duration = Duration::from_mins(2);
/// A port that was free can be taken before the server binds it; three in a row is not chance.
const ATTEMPTS_MAX: u32 = 3;
/// Test-only tokens: the server listens on loopback and lives as long as the tests.
const ADMIN_TOKEN: &str = "test-admin";
const CONTROLLER_TOKEN: &str = "test-controller-manager";
/// The controllers that tests without a node rely on. Left out above all: the pod garbage collector, which would
/// delete every pod whose node does not exist, and the node lifecycle.
const CONTROLLERS: &str = "namespace-controller,serviceaccount-controller,job-controller,\
    garbage-collector-controller,resourcequota-controller,deployment-controller,\
    replicaset-controller,statefulset-controller,ttl-after-finished-controller";

/// Clients that only a control plane with a node has: name of the kubeconfig, token, user, group.
const NODE_CLIENTS: [(&str, &str, &str, &str); 3] = [
    ("kubelet", "test-kubelet", "system:node:", "system:nodes"),
    ("scheduler", "test-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "test-kube-proxy", "system:kube-proxy", ""),
];

/// What a control plane must know of the node that it has.
#[derive(Debug, Clone, Copy)]
pub struct NodeIdentity<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The address at which pods and kubelet reach the API server.
    pub address: &'a str,
    /// Holds `kubelet-client.crt` and `.key`, which the kubelet trusts.
    pub certificates: &'a Path,
}

/// What stands before the point in the DER form of a P-256 public key (RFC 5480).
const P256_PUBLIC_KEY_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// Dropped in this order: clients of etcd first, etcd, which removes the folder, last.
    controller_manager: Option<Supervised>,
    api_server: Supervised,
    etcd: Supervised,
    folder: PathBuf,
    start_time: Duration,
}

impl ControlPlane {
    /// Starts it and waits until it serves. Blocks, and must not be called inside a runtime.
    pub fn start(binaries: &Binaries, node: Option<NodeIdentity<'_>>) -> anyhow::Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::try_start(binaries, node) {
                Err(error) if attempt < ATTEMPTS_MAX && format!("{error:#}").contains("in use") => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn try_start(binaries: &Binaries, node: Option<NodeIdentity<'_>>) -> anyhow::Result<Self> {
        let started = Instant::now();
        let folder = tempfile::Builder::new()
            .prefix("yellowjack-cluster-")
            .tempdir()
            .context("failed to make a folder for the control plane")?
            .keep();
        let ports = Ports::free(node.map_or("127.0.0.1", |node| node.address))?;
        write_credentials(&folder, node)?;
        let etcd = Supervised::start(
            &etcd_command(binaries, &folder, &ports),
            &folder.join("etcd.log"),
            Some(&folder),
        )?;
        let api_server = Supervised::start(
            &api_server_command(binaries, &folder, &ports, node),
            &folder.join("kube-apiserver.log"),
            None,
        )?;
        let mut plane = Self {
            controller_manager: None,
            api_server,
            etcd,
            folder,
            start_time: Duration::ZERO,
        };
        plane.wait_until_ready(binaries, &ports, node.is_some())?;
        plane.start_time = started.elapsed();
        Ok(plane)
    }

    fn wait_until_ready(
        &mut self,
        binaries: &Binaries,
        ports: &Ports,
        has_node: bool,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start a runtime")?;
        runtime.block_on(async {
            self.wait_for_api_server(ports).await?;
            if !binaries.has("kube-controller-manager") {
                eprintln!(
                    "control plane: no kube-controller-manager in KUBEBUILDER_ASSETS: Jobs make no \
                     pods and nothing is garbage-collected"
                );
                return Ok(());
            }
            let command = controller_manager_command(binaries, &self.folder, has_node);
            let log = self.folder.join("kube-controller-manager.log");
            self.controller_manager = Some(Supervised::start(&command, &log, None)?);
            self.wait_for_controllers().await
        })
    }

    async fn wait_for_api_server(&mut self, ports: &Ports) -> anyhow::Result<()> {
        let certificate = self.folder.join("certificates/apiserver.crt");
        let mut client = None;
        let ready = wait_for("the API server to be ready", READY_LIMIT, async || {
            if let Some(death) = self.death() {
                return Ok(Err(death));
            }
            if client.is_none() {
                if !certificate.exists() {
                    return Err("no certificate yet".to_owned());
                }
                self.write_kubeconfigs(ports)
                    .map_err(|error| format!("{error:#}"))?;
                let made = client_of(&self.kubeconfig()).await;
                client = Some(made.map_err(|error| format!("{error:#}"))?);
            }
            let Some(known) = &client else {
                return Err("no client yet".to_owned());
            };
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            let answer = known.request_text(request).await;
            if answer.is_err() {
                // It may have read the certificate while that was being written.
                client = None;
            }
            answer.map_err(|error| error.to_string()).map(Ok)
        })
        .await;
        self.judge(ready)
    }

    /// The first thing that the controllers make is each namespace's service account.
    async fn wait_for_controllers(&mut self) -> anyhow::Result<()> {
        let client = client_of(&self.kubeconfig()).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        let ready = wait_for("the controllers to work", READY_LIMIT, async || {
            if let Some(death) = self.death() {
                return Ok(Err(death));
            }
            accounts
                .get("default")
                .await
                .map_err(|error| error.to_string())
                .map(Ok)
        })
        .await;
        self.judge(ready)
    }

    /// The part that has ended, if one has: nobody should wait for the dead.
    fn death(&mut self) -> Option<String> {
        let parts = [
            ("etcd", Some(&mut self.etcd)),
            ("kube-apiserver", Some(&mut self.api_server)),
            ("kube-controller-manager", self.controller_manager.as_mut()),
        ];
        for (name, part) in parts {
            let Some(part) = part else { continue };
            if let Ok(Some(status)) = part.exited() {
                return Some(format!("{name} ended with {status}"));
            }
        }
        None
    }

    fn judge<T>(&self, waited: anyhow::Result<Result<T, String>>) -> anyhow::Result<()> {
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(death)) => Err(self.with_logs(anyhow!(death))),
            Err(error) => Err(self.with_logs(error)),
        }
    }

    fn with_logs(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = String::new();
        let servers = [&self.etcd, &self.api_server];
        for part in servers.into_iter().chain(&self.controller_manager) {
            text.push_str(&part.log_tail(12));
            text.push_str("\n---\n");
        }
        error.context(format!(
            "failed to start the control plane; its logs end with:\n{text}"
        ))
    }

    fn write_kubeconfigs(&self, ports: &Ports) -> anyhow::Result<()> {
        let certificate = std::fs::read(self.folder.join("certificates/apiserver.crt"))
            .context("failed to read the API server's certificate")?;
        let node_clients = NODE_CLIENTS.map(|(name, token, ..)| (name, token));
        let clients = [
            ("admin", ADMIN_TOKEN),
            ("controller-manager", CONTROLLER_TOKEN),
        ];
        for (name, token) in clients.into_iter().chain(node_clients) {
            let text = serde_json::json!({
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{ "name": "test", "cluster": {
                    "server": format!("https://{}:{}", ports.address, ports.api_server),
                    "certificate-authority-data":
                        base64::engine::general_purpose::STANDARD.encode(&certificate),
                }}],
                "users": [{ "name": "test", "user": { "token": token }}],
                "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" }}],
            });
            std::fs::write(self.kubeconfig_of(name), text.to_string())
                .with_context(|| format!("failed to write the kubeconfig of {name}"))?;
        }
        Ok(())
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("admin")
    }

    /// The kubeconfig of a part of the cluster.
    #[must_use]
    pub fn kubeconfig_of(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{part}.kubeconfig"))
    }

    /// How long the start took.
    #[must_use]
    pub const fn start_time(&self) -> Duration {
        self.start_time
    }

    /// The process ids of the parts, for tests that stop one.
    #[must_use]
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let parts = [
            ("etcd", Some(&self.etcd)),
            ("kube-apiserver", Some(&self.api_server)),
            ("kube-controller-manager", self.controller_manager.as_ref()),
        ];
        let pid = |(name, part): (_, Option<&Supervised>)| Some((name, part?.pid()?));
        parts.into_iter().filter_map(pid).collect()
    }

    /// Resident memory of each part, in bytes; 0 where it cannot be read.
    #[must_use]
    pub fn resident_bytes(&self) -> Vec<(&'static str, u64)> {
        let mut sizes = vec![
            ("etcd", resident_bytes(&self.etcd)),
            ("kube-apiserver", resident_bytes(&self.api_server)),
        ];
        if let Some(part) = &self.controller_manager {
            sizes.push(("kube-controller-manager", resident_bytes(part)));
        }
        sizes
    }
}

fn resident_bytes(part: &Supervised) -> u64 {
    part.pid().and_then(process_resident_bytes).unwrap_or(0)
}

/// `VmRSS` of a process, which the kernel gives in KiB.
#[must_use]
pub fn process_resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Where the parts listen.
struct Ports {
    /// The API server's address, which its certificate names.
    address: String,
    etcd_client: u16,
    etcd_peer: u16,
    api_server: u16,
}

impl Ports {
    fn free(address: &str) -> anyhow::Result<Self> {
        // All three are held until all are known, so that they differ.
        let bind = || TcpListener::bind("127.0.0.1:0").context("failed to find a free port");
        let port = |held: &TcpListener| {
            held.local_addr()
                .map(|address| address.port())
                .context("failed to read a port")
        };
        let (one, two, three) = (bind()?, bind()?, bind()?);
        Ok(Self {
            address: address.to_owned(),
            etcd_client: port(&one)?,
            etcd_peer: port(&two)?,
            api_server: port(&three)?,
        })
    }
}

fn write_credentials(folder: &Path, node: Option<NodeIdentity<'_>>) -> anyhow::Result<()> {
    let random = ring::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .map_err(|_| anyhow!("failed to make a service account key"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random)
        .map_err(|_| anyhow!("failed to read the service account key"))?;
    let public = [P256_PUBLIC_KEY_HEAD, pair.public_key().as_ref()].concat();
    let mut tokens = format!(
        "{ADMIN_TOKEN},admin,admin,system:masters\n\
         {CONTROLLER_TOKEN},system:kube-controller-manager,controllers,system:masters\n"
    );
    if let Some(node) = node {
        for (_, token, user, group) in NODE_CLIENTS {
            let user = if user.ends_with(':') {
                format!("{user}{}", node.name)
            } else {
                user.to_owned()
            };
            tokens += &[token, &user, &user, group].join(",");
            tokens.push('\n');
        }
    }
    let files = [
        ("service-account.key", pem("PRIVATE KEY", key.as_ref())),
        ("service-account.pub", pem("PUBLIC KEY", &public)),
        ("tokens.csv", tokens),
    ];
    for (file, text) in files {
        std::fs::write(folder.join(file), text)
            .with_context(|| format!("failed to write {file}"))?;
    }
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn etcd_command(binaries: &Binaries, folder: &Path, ports: &Ports) -> Command {
    let client = format!("http://127.0.0.1:{}", ports.etcd_client);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let mut command = binaries.command("etcd");
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // Test data need not survive a power cut.
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn");
    command
}

fn api_server_command(
    binaries: &Binaries,
    folder: &Path,
    ports: &Ports,
    node: Option<NodeIdentity<'_>>,
) -> Command {
    let mut command = binaries.command("kube-apiserver");
    command
        .arg(format!(
            "--etcd-servers=http://127.0.0.1:{}",
            ports.etcd_client
        ))
        .arg(format!("--secure-port={}", ports.api_server))
        .arg(format!(
            "--cert-dir={}",
            folder.join("certificates").display()
        ))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!(
            "--service-account-key-file={}",
            folder.join("service-account.pub").display()
        ))
        .arg(format!(
            "--service-account-signing-key-file={}",
            folder.join("service-account.key").display()
        ))
        .arg(format!(
            "--token-auth-file={}",
            folder.join("tokens.csv").display()
        ))
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg("--allow-privileged=true");
    if let Some(node) = node {
        let certificate = |file| node.certificates.join(file).display().to_string();
        command
            .arg("--bind-address=0.0.0.0")
            .arg(format!("--advertise-address={}", node.address))
            .arg("--authorization-mode=Node,RBAC")
            .arg("--enable-admission-plugins=NodeRestriction")
            .arg("--kubelet-preferred-address-types=InternalIP")
            .arg(format!(
                "--kubelet-client-certificate={}",
                certificate("kubelet-client.crt")
            ))
            .arg(format!(
                "--kubelet-client-key={}",
                certificate("kubelet-client.key")
            ));
    } else {
        command
            .arg("--bind-address=127.0.0.1")
            .arg("--authorization-mode=RBAC")
            // The address of a Service must not be loopback, and nothing here needs that Service.
            .arg("--endpoint-reconciler-type=none");
    }
    if !binaries.has("kube-controller-manager") {
        // Nobody makes service accounts then, and without one no pod would be admitted.
        command.arg("--disable-admission-plugins=ServiceAccount");
    }
    command
}

fn controller_manager_command(binaries: &Binaries, folder: &Path, has_node: bool) -> Command {
    let mut command = binaries.command("kube-controller-manager");
    command
        .arg(format!(
            "--kubeconfig={}",
            folder.join("controller-manager.kubeconfig").display()
        ))
        .arg("--leader-elect=false")
        .arg("--secure-port=0")
        .arg("--kube-api-qps=500")
        .arg("--kube-api-burst=1000");
    if has_node {
        // All of them; pods get the server's certificate from one.
        let certificate = folder.join("certificates/apiserver.crt");
        command.arg(format!("--root-ca-file={}", certificate.display()));
    } else {
        command.arg(format!("--controllers={CONTROLLERS}"));
    }
    command
}

/// A client of the server that a kubeconfig names.
pub async fn client_of(kubeconfig: &Path) -> anyhow::Result<Client> {
    let parsed = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("failed to read {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("failed to use {}", kubeconfig.display()))?;
    let Ok(client) = Client::try_from(config) else {
        bail!("failed to make a client of {}", kubeconfig.display());
    };
    Ok(client)
}
