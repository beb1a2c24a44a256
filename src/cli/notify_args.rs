//! Arguments of `controller` about notifications.

use std::path::PathBuf;

use anyhow::ensure;
use http::Uri;

use crate::limits;
use crate::model::Severity;
use crate::notify::payload::Format;
use crate::notify::{NotifySettings, WebhookSettings};

/// Arguments about notifications.
#[derive(clap::Args, Debug)]
pub(super) struct NotifyArgs {
    /// An Alertmanager, for example `http://alertmanager.monitoring:9093`. May be given several
    /// times: every member of an Alertmanager cluster must receive the alerts.
    #[arg(long = "alertmanager", value_name = "URL", value_parser = receiver)]
    alertmanagers: Vec<Uri>,

    /// A webhook that receives the transitions of Incidents as CloudEvents, signed according to Standard
    /// Webhooks.
    #[arg(long, value_name = "URL", value_parser = receiver, requires = "webhook_secret_file")]
    webhook: Option<Uri>,

    /// The file with the webhook's signing secret: `whsec_` and 24 to 64 bytes in Base64. A second
    /// line is a second secret, used while the secret is rotated.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_secret_file: Option<PathBuf>,

    /// The format of the data in the webhook's CloudEvents.
    #[arg(long, value_enum, default_value_t = Format::Cloudevents)]
    webhook_format: Format,

    /// An OpenTelemetry collector, for example `http://otel-collector:4318`: it receives the course of each
    /// Incident as a trace, by OTLP over HTTP in JSON.
    #[arg(long, value_name = "URL", value_parser = receiver)]
    otlp: Option<Uri>,

    /// The lowest level of findings that receivers are notified of.
    #[arg(long, value_enum, default_value_t = LevelArg::Alert)]
    notify_min_level: LevelArg,

    /// The certificate authorities of the receivers, in PEM, instead of those that the system trusts.
    #[arg(long, value_name = "FILE")]
    notify_ca_file: Option<PathBuf>,

    /// The name of this cluster in notifications: letters, digits, dots and hyphens.
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    cluster_name: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum LevelArg {
    /// All of them.
    Alert,
    /// Only those that crossed the quarantine threshold.
    Quarantine,
}

impl NotifyArgs {
    /// The settings.
    pub(super) fn settings(self) -> anyhow::Result<NotifySettings> {
        ensure!(
            self.alertmanagers.len() <= limits::ALERTMANAGERS_MAX,
            "wants at most {} --alertmanager, got {}",
            limits::ALERTMANAGERS_MAX,
            self.alertmanagers.len()
        );
        let webhook = self.webhook.zip(self.webhook_secret_file);
        Ok(NotifySettings {
            cluster: self.cluster_name,
            severity_min: Some(match self.notify_min_level {
                LevelArg::Alert => Severity::Alert,
                LevelArg::Quarantine => Severity::Quarantine,
            }),
            alertmanagers: self.alertmanagers,
            webhook: webhook.map(|(url, secret_file)| WebhookSettings {
                url,
                secret_file,
                format: self.webhook_format,
            }),
            otlp: self.otlp,
            ca_file: self.notify_ca_file,
        })
    }
}

/// Parses the URL of a receiver. Errors do not repeat it, because it may contain a credential.
fn receiver(text: &str) -> Result<Uri, String> {
    let wanted = || "wants http://HOST[:PORT][/PATH] or https://".to_owned();
    let uri: Uri = text.parse().map_err(|_| wanted())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().filter(|_| is_http).ok_or_else(wanted)?;
    if host.as_str().contains('@') {
        return Err(
            "wants a URL without a user or password, because flags are visible to others".into(),
        );
    }
    Ok(uri)
}

fn cluster_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if text.is_empty() || text.len() > 63 || !text.chars().all(is_plain) {
        return Err("wants 1 to 63 letters, digits, dots and hyphens".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_passwords_are_refused_and_not_repeated() {
        assert!(receiver("https://hooks.example.com/a?b=c").is_ok());
        for bad in [
            "alertmanager:9093",
            "/api",
            "ftp://a/",
            "https://ana:hunter2@example.com/",
        ] {
            let error = receiver(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_cluster_name_fits_into_a_url() {
        assert!(cluster_name("prod-eu.1").is_ok());
        for bad in ["", "a b", "a/../b", "a?b", &"a".repeat(64)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
    }
}
