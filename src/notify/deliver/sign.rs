//! Signatures of the Standard Webhooks specification 1.0: HMAC-SHA256 over id, time and body.
//!
//! The secret is read from its file for each delivery, so that a mounted Secret can be rotated: two
//! lines are two secrets, and what is sent is signed with both.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use ring::hmac;
use tokio::io::AsyncReadExt;

use crate::limits;

const PREFIX: &str = "whsec_";

/// Signs deliveries with the secrets of a file.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    file: PathBuf,
}

/// A request cannot be signed. The messages never contain a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The file cannot be read.
    #[error("failed to read the webhook's secret from {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file contains something else.
    #[error(
        "unable to use the webhook's secret in {}: expected one or two lines of whsec_ and 24 to 64 bytes in Base64", file.display()
    )]
    Malformed {
        /// The file.
        file: PathBuf,
    },
    /// An id or a signature is not a valid header.
    #[error("unable to make a header of a signature")]
    Header(#[source] http::header::InvalidHeaderValue),
}

impl Signer {
    /// Signs with the current content of this file.
    #[must_use]
    pub(crate) const fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Checks that the file contains valid secrets.
    pub(crate) async fn check(&self) -> Result<(), SecretError> {
        self.keys().await.map(drop)
    }

    /// The signature headers of one delivery.
    pub(crate) async fn headers(
        &self,
        id: &str,
        second: i64,
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, SecretError> {
        let keys = self.keys().await?;
        let signatures: Vec<String> = keys.iter().map(|key| sign(key, id, second, body)).collect();
        let value = |text: &str| HeaderValue::from_str(text).map_err(SecretError::Header);
        Ok(vec![
            (HeaderName::from_static("webhook-id"), value(id)?),
            (
                HeaderName::from_static("webhook-timestamp"),
                value(&second.to_string())?,
            ),
            (
                HeaderName::from_static("webhook-signature"),
                value(&signatures.join(" "))?,
            ),
        ])
    }

    async fn keys(&self) -> Result<Vec<hmac::Key>, SecretError> {
        let text = read(&self.file).await.map_err(|source| SecretError::Read {
            file: self.file.clone(),
            source,
        })?;
        parse(&text).ok_or_else(|| SecretError::Malformed {
            file: self.file.clone(),
        })
    }
}

async fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(file).await?;
    file.take(limits::SECRET_BYTES_MAX)
        .read_to_string(&mut text)
        .await?;
    Ok(text)
}

fn parse(text: &str) -> Option<Vec<hmac::Key>> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    if lines.is_empty() || lines.len() > limits::SECRETS_MAX {
        return None;
    }
    lines.into_iter().map(key).collect()
}

fn key(line: &str) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?;
    (24..=64)
        .contains(&bytes.len())
        .then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn sign(key: &hmac::Key, id: &str, second: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{second}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn the_example_of_the_specification_has_the_expected_signature() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = sign(&key, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_secrets_as_in_the_specification_are_accepted() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(parse(&format!("{good}\n")).map(|keys| keys.len()), Some(1));
        let two = format!("{good}\n\n {good}");
        assert_eq!(parse(&two).map(|keys| keys.len()), Some(2));
        for bad in [
            "",
            "hunter2",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_not base64 at all, and long enough",
            &format!("{good}\n{good}\n{good}"),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
