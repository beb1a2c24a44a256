//! Publishes the addresses of pods that ended, or are terminating, for node agents, in one ConfigMap beside the agents'
//! Leases. Only the leader writes it, only while there are agents, and only after a change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;

use super::Controller;
use crate::api::labels;
use crate::cluster::{ApiError, Conflicts, FieldManager, Pod, Reader, WatchEvent};
use crate::limits;
use crate::model::EventTime;
use crate::observability::chain;
use crate::pipeline::ended_pods::parse;
use crate::pipeline::pod_facts::{own_addresses, terminating_since};
use crate::signals::attribute::Index;

/// Name of the ConfigMap.
pub(crate) const ENDED_PODS_CONFIG_MAP: &str = "yellowjack-ended-pods";

/// Key of the list in it.
const LIST_KEY: &str = "addresses";

impl Controller {
    /// Adds a pod that ended to the list, and removes the addresses of one that lives.
    pub(super) fn update_ended_pods(&self, event: &WatchEvent<Pod>) {
        let now = EventTime::from(Timestamp::now());
        match event {
            WatchEvent::Changed { new, .. } => self.ended_pods.lock().observe(new, now),
            WatchEvent::Gone(pod) => self.ended_pods.lock().observe_deleted(pod, now),
            WatchEvent::Listed | WatchEvent::Malformed { .. } => {}
        }
    }

    /// Publishes the list whenever it has changed, and once at the start, so that agents know that there is one. Never
    /// returns.
    pub(super) async fn publish_ended_pods(&self) {
        let (mut is_failing, mut is_continued) = (false, false);
        loop {
            let agents = u32::try_from(self.agents().len()).unwrap_or(u32::MAX);
            let pause = limits::ENDED_PODS_PAUSE + limits::ENDED_PODS_PAUSE_PER_AGENT * agents;
            tokio::time::sleep(pause).await;
            if agents == 0 || !self.writer.may_act() {
                is_continued &= self.writer.may_act();
                continue;
            }
            let result = async {
                if !is_continued {
                    self.continue_ended_pods().await?;
                    is_continued = true;
                }
                self.publish_unpublished().await
            };
            match result.await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    let error = chain(&error);
                    if !is_failing {
                        tracing::warn!(
                            namespace = self.namespace,
                            name = ENDED_PODS_CONFIG_MAP,
                            error,
                            "Failed to read or write the list of pods that ended; node agents count failed contacts with them as a scan. Retrying."
                        );
                    }
                    is_failing = true;
                }
            }
        }
    }

    /// Takes over what the list of the former leader, or of this process before a restart, contains.
    async fn continue_ended_pods(&self) -> Result<(), ApiError> {
        let reader = Reader::new(self.writer.client().clone());
        let published: Option<ConfigMap> = reader
            .get_opt(&self.namespace, ENDED_PODS_CONFIG_MAP)
            .await?;
        let list = published.and_then(|map| map.data?.remove(LIST_KEY));
        let is_living = |pod: &Pod| !pod.has_ended() && terminating_since(pod).is_none();
        let living = self.stores.pods.state_filter(is_living);
        let living = living.iter().flat_map(|pod| own_addresses(pod)).collect();
        let now = EventTime::from(Timestamp::now());
        self.ended_pods
            .lock()
            .continue_list(list.as_deref(), &living, now);
        Ok(())
    }

    async fn publish_unpublished(&self) -> Result<(), ApiError> {
        let now = EventTime::from(Timestamp::now());
        let Some(list) = self.ended_pods.lock().take_unpublished(now) else {
            return Ok(());
        };
        let written = self.write_ended_pods(list).await;
        if written.is_err() {
            self.ended_pods.lock().set_unpublished();
        }
        written.map(drop)
    }

    async fn write_ended_pods(&self, list: String) -> Result<ConfigMap, ApiError> {
        let object = ConfigMap {
            metadata: ObjectMeta {
                name: Some(ENDED_PODS_CONFIG_MAP.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([(
                    labels::MANAGED_BY.to_owned(),
                    labels::MANAGED_BY_VALUE.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(LIST_KEY.to_owned(), list)])),
            ..ConfigMap::default()
        };
        self.writer
            .apply(
                &FieldManager::controller(),
                &self.namespace,
                ENDED_PODS_CONFIG_MAP,
                &object,
                Conflicts::TakeOver,
            )
            .await
    }
}

/// In a node agent: passes the published list to attribution.
pub(crate) fn read_ended_pods(event: &WatchEvent<ConfigMap>, index: &mut Index) {
    match event {
        WatchEvent::Changed { new, .. } => {
            let list = new.data.as_ref().and_then(|data| data.get(LIST_KEY));
            index.set_ended_elsewhere(list.map(|text| parse(text)));
        }
        WatchEvent::Gone(_) => index.set_ended_elsewhere(None::<std::iter::Empty<_>>),
        WatchEvent::Listed | WatchEvent::Malformed { .. } => {}
    }
}
