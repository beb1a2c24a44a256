//! Values of `--source`, and arguments about Hubble Relay.

use std::path::PathBuf;

use anyhow::Context;
use http::Uri;

use super::suggestion::did_you_mean;
use crate::operator::{LogLocation, LogSource, RELAY_PREFIX};
use crate::signals::decode::Format;
use crate::signals::source::relay::{RelayTarget, RelayTls};

/// Arguments about Hubble Relay.
#[derive(clap::Args, Debug, Default)]
#[allow(clippy::struct_field_names)] // the names of the flags
pub(super) struct RelayArgs {
    /// The certificate authority that signed the relay's certificate; required with https.
    #[arg(long, value_name = "FILE")]
    relay_ca: Option<PathBuf>,

    /// The client certificate, where the relay requires one. It is read again for each connection.
    #[arg(long, value_name = "FILE", requires_all = ["relay_key", "relay_ca"])]
    relay_cert: Option<PathBuf>,

    /// The private key of the client certificate.
    #[arg(long, value_name = "FILE", requires = "relay_cert")]
    relay_key: Option<PathBuf>,

    /// The name in the relay's certificate, if it is not the host's. Cilium's own certificate has
    /// `*.hubble-relay.cilium.io`.
    #[arg(long, value_name = "NAME", requires = "relay_ca")]
    relay_server_name: Option<String>,
}

impl RelayArgs {
    /// Adds the TLS settings to the relays among the sources.
    pub(super) fn add_tls(self, mut sources: Vec<LogSource>) -> anyhow::Result<Vec<LogSource>> {
        let tls = self.relay_ca.map(|ca| RelayTls {
            ca,
            server_name: self.relay_server_name,
            identity: self.relay_cert.zip(self.relay_key),
        });
        let mut has_relay = false;
        for source in &mut sources {
            let LogLocation::Relay(target) = &mut source.location else {
                continue;
            };
            has_relay = true;
            let with_tls = target.url.scheme_str() == Some("https");
            anyhow::ensure!(
                tls.is_some() || !with_tls,
                "{} wants --relay-ca, the authority that signed the relay's certificate",
                target.url
            );
            anyhow::ensure!(
                tls.is_none() || with_tls,
                "--relay-ca wants a relay with TLS, hubble-relay:https://HOST:PORT, got {}",
                target.url
            );
            target.tls.clone_from(&tls);
        }
        anyhow::ensure!(
            has_relay || tls.is_none(),
            "--relay-ca wants a source hubble-relay:https://HOST:PORT"
        );
        Ok(sources)
    }
}

/// Parses a value of `--source`.
pub(super) fn source(text: &str) -> Result<LogSource, String> {
    if let Some(address) = text.strip_prefix(RELAY_PREFIX) {
        let url = relay_url(address).map_err(|_| {
            format!("wants hubble-relay:HOST:PORT or hubble-relay:https://HOST:PORT, got {text:?}")
        })?;
        return Ok(LogSource {
            location: LogLocation::Relay(RelayTarget { url, tls: None }),
            format: Some(Format::Hubble),
        });
    }
    let (format, path) = match text.split_once(':') {
        Some((name, path)) if is_word(name) => match Format::from_name(name) {
            Some(format) => (Some(format), path),
            None => return Err(unknown_format(name, text)),
        },
        _ => (None, text),
    };
    if path.is_empty() {
        return Err(format!(
            "wants [FORMAT:]PATH, for example ulogd:/var/log/egress.json, got {text:?}"
        ));
    }
    Ok(LogSource {
        location: match path {
            "-" => LogLocation::Stdin,
            path => LogLocation::Path(PathBuf::from(path)),
        },
        format,
    })
}

/// Whether a prefix is meant as the name of a format rather than as a part of a path.
fn is_word(text: &str) -> bool {
    let is_of_a_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.bytes().all(is_of_a_word)
}

/// A prefix that is no format is a misspelling and not a part of a path: otherwise Yellowjack would wait for
/// a file that never appears.
fn unknown_format(name: &str, text: &str) -> String {
    let relay = RELAY_PREFIX.trim_end_matches(':');
    let names: Vec<&str> = Format::ALL
        .map(Format::name)
        .into_iter()
        .chain([relay])
        .collect();
    let near = did_you_mean(&name.to_ascii_lowercase(), names.iter().copied());
    let near = near.map(|near| format!("{near} ")).unwrap_or_default();
    format!(
        "{name:?} is no format: {near}The formats are {}; a file with such a name is given as ./{text}",
        names.join(", ")
    )
}

/// Parses `HOST:PORT`, optionally with `http://`, `grpc://` (the same) or `https://`. There is no default
/// port: Cilium's service has 80 or 443, Relay itself 4245.
fn relay_url(address: &str) -> anyhow::Result<Uri> {
    let (scheme, rest) = match address.split_once("://") {
        Some(("https", rest)) => ("https", rest),
        Some(("http" | "grpc", rest)) => ("http", rest),
        Some(_) => anyhow::bail!("another scheme"),
        None => ("http", address),
    };
    let url: Uri = format!("{scheme}://{}", rest.trim_end_matches('/')).parse()?;
    let host = url.authority().context("no host")?;
    anyhow::ensure!(!host.host().is_empty() && host.port_u16().is_some());
    anyhow::ensure!(!host.as_str().contains('@') && url.path() == "/" && url.query().is_none());
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(source: LogSource) -> PathBuf {
        match source.location {
            LogLocation::Path(path) => path,
            other => panic!("{other:?} is no path"),
        }
    }

    #[test]
    fn a_source_may_name_its_format() {
        let with = source("ulogd:/var/log/e.json").unwrap();
        assert_eq!(with.format, Some(Format::Ulogd));
        assert_eq!(path(with), PathBuf::from("/var/log/e.json"));
        for format in Format::ALL {
            let named = source(&format!("{}:/var/log/a", format.name())).unwrap();
            assert_eq!(named.format, Some(format));
        }
        let without = source("/var/log/a:b.json").unwrap();
        assert_eq!(without.format, None);
        assert_eq!(path(without), PathBuf::from("/var/log/a:b.json"));
        assert_eq!(source("hubble:-").unwrap().location, LogLocation::Stdin);
        assert!(source("zeek:").is_err());
    }

    #[test]
    fn a_slip_in_the_name_of_a_format_is_no_file() {
        for (text, near) in [
            ("hubbel:/var/log/a", "hubble"),
            ("Zeek:/var/log/a", "zeek"),
            ("ulog:-", "ulogd"),
            ("suricatta:eve.json", "suricata"),
            ("hubble_relay:host:80", "hubble-relay"),
        ] {
            let error = source(text).unwrap_err();
            assert!(error.contains(&format!("did you mean {near}")), "{error}");
            assert!(error.contains(&format!("./{text}")), "{error}");
        }
        let error = source("json:/var/log/a").unwrap_err();
        assert!(error.contains("The formats are hubble, zeek"), "{error}");
        let file = source("./hubbel:/x").unwrap();
        assert_eq!(path(file), PathBuf::from("./hubbel:/x"));
    }

    #[test]
    fn a_relay_has_a_host_and_a_port_and_perhaps_a_scheme() {
        for (text, url) in [
            (
                "hubble-relay:relay.kube-system:80",
                "http://relay.kube-system:80/",
            ),
            (
                "hubble-relay:grpc://10.0.0.1:4245/",
                "http://10.0.0.1:4245/",
            ),
            (
                "hubble-relay:https://[fd00::1]:443",
                "https://[fd00::1]:443/",
            ),
        ] {
            let found = source(text).unwrap();
            assert_eq!(found.format, Some(Format::Hubble));
            let LogLocation::Relay(target) = &found.location else {
                panic!("{text} is no relay");
            };
            assert_eq!(target.url.to_string(), url);
            assert!(
                url.contains(found.name().trim_start_matches(RELAY_PREFIX)),
                "{url}"
            );
        }
        for text in [
            "hubble-relay:",
            "hubble-relay:relay",
            "hubble-relay:ftp://relay:21",
            "hubble-relay:http://me:secret@relay:80",
            "hubble-relay:relay:80/path",
            "hubble-relay:relay:99999",
        ] {
            assert!(source(text).unwrap_err().contains("HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn tls_settings_apply_to_https_relays_only_and_are_required_there() {
        let add_tls = |url: &str, args: RelayArgs| args.add_tls(vec![source(url).unwrap()]);
        let with_ca = || RelayArgs {
            relay_ca: Some("ca.crt".into()),
            relay_server_name: Some("relay".into()),
            ..RelayArgs::default()
        };
        let sources = add_tls("hubble-relay:https://a:443", with_ca()).unwrap();
        let LogLocation::Relay(RelayTarget { tls: Some(tls), .. }) = &sources[0].location else {
            panic!("no TLS");
        };
        assert_eq!(tls.server_name.as_deref(), Some("relay"));
        assert_eq!(tls.identity, None);
        for (url, args) in [
            ("hubble-relay:https://a:443", RelayArgs::default()),
            ("hubble-relay:a:80", with_ca()),
            ("hubble:/var/log/a", with_ca()),
        ] {
            let error = add_tls(url, args).unwrap_err().to_string();
            assert!(error.contains("--relay-ca"), "{error}");
        }
    }
}
