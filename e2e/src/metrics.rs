//! The API server's own request counters: how many writes there were, whoever made them.

use std::collections::BTreeMap;

use anyhow::Context;
use kube::Client;

/// Requests by verb and resource since the server's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts(BTreeMap<(String, String), u64>);

impl RequestCounts {
    /// Reads the counters.
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = client
            .request_text(request)
            .await
            .context("failed to read the metrics")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let Some((labels, value)) = rest.rsplit_once("} ") else {
                continue;
            };
            let (Some(verb), Some(resource)) = (label(labels, "verb"), label(labels, "resource"))
            else {
                continue;
            };
            // Counters are written as floats, in scientific form when they are large.
            let Ok(value) = value.trim().parse::<f64>() else {
                continue;
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let value = value as u64;
            *counts
                .entry((verb.to_owned(), resource.to_owned()))
                .or_insert(0) += value;
        }
        Self(counts)
    }

    /// Requests with one of these verbs (`POST`, `PUT`, `PATCH`, `APPLY`, `DELETE`, ...) for a
    /// resource; every resource where none is given.
    #[must_use]
    pub fn total(&self, verbs: &[&str], resource: Option<&str>) -> u64 {
        self.0
            .iter()
            .filter(|((verb, of), _)| {
                verbs.contains(&verb.as_str()) && resource.is_none_or(|wanted| wanted == of)
            })
            .map(|(_, count)| count)
            .sum()
    }

    /// Requests that change something.
    #[must_use]
    pub fn writes(&self, resource: Option<&str>) -> u64 {
        self.total(
            &[
                "POST",
                "PUT",
                "PATCH",
                "APPLY",
                "DELETE",
                "DELETECOLLECTION",
            ],
            resource,
        )
    }
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let is_ours = |label: &'a str| {
        label
            .strip_prefix(name)?
            .strip_prefix("=\"")?
            .strip_suffix('"')
    };
    labels.split(',').find_map(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_codes_and_leave_reads_out_of_writes() {
        let counts = RequestCounts::parse(concat!(
            "# TYPE apiserver_request_total counter\n",
            "apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"status\",verb=\"PATCH\"} 2\n",
            "apiserver_request_total{code=\"409\",resource=\"pods\",verb=\"PATCH\"} 1\n",
            "apiserver_request_total{code=\"201\",resource=\"jobs\",verb=\"POST\"} 1.5e+03\n",
            "apiserver_request_total{code=\"200\",resource=\"pods\",verb=\"LIST\"} 40\n",
        ));
        assert_eq!(counts.writes(Some("pods")), 3);
        assert_eq!(counts.writes(None), 1503);
        assert_eq!(counts.total(&["LIST"], None), 40);
    }
}
