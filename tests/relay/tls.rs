//! Certificates for a relay and its callers, made anew for each test; and what becomes of a caller
//! with the wrong ones.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::transport::server::ServerTlsConfig;
use tonic::transport::{Certificate, Identity};
use yellowjack::testing::signals::source::SourceState;
use yellowjack::testing::signals::source::relay::RelayTls;

use crate::client::{Client, flow, now_ns};
use crate::server::{Relay, State};

/// The name in Cilium's certificates.
const NAME: &str = "ui.hubble-relay.cilium.io";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self, wants_certificate: bool) -> ServerTlsConfig {
        let (certificate, key) = self.sign(NAME);
        let config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if wants_certificate {
            config.client_ca_root(Certificate::from_pem(&self.pem))
        } else {
            config
        }
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn url(relay: &Relay) -> String {
    format!("https://{}", relay.address)
}

fn trust(ca: &Path) -> RelayTls {
    RelayTls {
        ca: ca.to_owned(),
        server_name: Some(NAME.into()),
        identity: None,
    }
}

async fn gets_flows(client: &mut Client, relay: &Relay) {
    let (time, message) = flow("c/a", now_ns(), 0, 1);
    relay.state.flow(time, message);
    client.take_flows(1).await;
    assert_eq!(client.ports, [1]);
}

async fn is_refused(client: &mut Client, relay: &Relay) {
    client
        .take_until("three refusals", |client| {
            client.count(|of| &of.reconnects) >= 3
        })
        .await;
    assert!(matches!(client.health().state, SourceState::Failed(_)));
    assert_eq!(relay.state.requests().len(), 0);
    assert!(client.ports.is_empty());
}

#[tokio::test]
async fn a_relay_with_tls_is_read_when_its_authority_and_its_name_are_right() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let ca = write(&folder, "ca.crt", &authority.pem);
    let relay = Relay::start(State::new(), Some(authority.server(false)));
    gets_flows(
        &mut Client::with(&url(&relay), Some(trust(&ca)), None),
        &relay,
    )
    .await;
}

#[tokio::test]
async fn a_relay_of_another_authority_or_name_is_not_read() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = Relay::start(State::new(), Some(authority.server(false)));
    let other = write(&folder, "other.crt", &Authority::new().pem);
    is_refused(
        &mut Client::with(&url(&relay), Some(trust(&other)), None),
        &relay,
    )
    .await;
    let mut tls = trust(&write(&folder, "ca.crt", &authority.pem));
    tls.server_name = Some("relay.example.com".into());
    is_refused(&mut Client::with(&url(&relay), Some(tls), None), &relay).await;
}

#[tokio::test]
async fn a_certificate_that_comes_later_is_used_without_a_restart() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = Relay::start(State::new(), Some(authority.server(true)));
    let ca = write(&folder, "ca.crt", &authority.pem);
    let without = || Client::with(&url(&relay), Some(trust(&ca)), None);
    is_refused(&mut without(), &relay).await;

    // Signed by somebody else, as after an authority was renewed.
    let (certificate, key) = Authority::new().sign("yellowjack");
    let mut tls = trust(&ca);
    tls.identity = Some((
        write(&folder, "tls.crt", &certificate),
        write(&folder, "tls.key", &key),
    ));
    let mut client = Client::with(&url(&relay), Some(tls), None);
    is_refused(&mut client, &relay).await;
    let (certificate, key) = authority.sign("yellowjack");
    write(&folder, "tls.key", &key);
    write(&folder, "tls.crt", &certificate);
    gets_flows(&mut client, &relay).await;
}
