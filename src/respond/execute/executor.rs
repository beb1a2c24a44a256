//! What every step needs: the ways to the API server, the rate of actions, and the outcome of a step.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::api::{
    ActionKind, ActionRecord, ActionResult, Capture, CiliumEnforcement, ObjectTarget,
};
use crate::cluster::{ApiError, Owners, RateLimiter, Reader, Stores, Writer};
use crate::observability::LatencyHistogram;
use crate::respond::plan::PodView;

/// What a step leaves to record, or its failure.
pub(in crate::respond) type StepOutcome = Result<Done, Box<Failed>>;

/// A step that failed.
#[derive(Debug)]
pub(in crate::respond) struct Failed {
    /// The action to record.
    pub record: ActionRecord,
    /// Why it failed.
    pub error: ApiError,
}

/// A step that was executed.
#[derive(Debug, Default)]
pub(in crate::respond) struct Done {
    /// The actions to record.
    pub records: Vec<ActionRecord>,
    /// The copy of a pod, if one was made.
    pub capture: Option<Capture>,
    /// How far Cilium enforces the isolation, if that changed.
    pub cilium: Option<CiliumEnforcement>,
    /// The step had no effect; plan again from a new snapshot.
    pub needs_retry: bool,
}

/// Executes the steps of plans.
pub(in crate::respond) struct Executor {
    pub stores: Stores,
    pub reader: Reader,
    pub writer: Writer,
    pub limiter: RateLimiter,
    pub owners: Arc<Owners>,
    pub isolation_latency: LatencyHistogram,
}

impl Executor {
    /// Waits until the rate of actions allows the next one.
    pub(crate) async fn wait_for_turn(&self) {
        let delay = self.limiter.reserve(Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// The complete pod as it is now; `None` if it is gone.
    pub(crate) async fn read_pod(
        &self,
        namespace: &str,
        pod: &PodView,
    ) -> Result<Option<Pod>, ApiError> {
        let found = self.reader.get_opt::<Pod>(namespace, &pod.name).await?;
        Ok(found.filter(|found| found.uid().as_deref() == Some(&pod.uid)))
    }

    /// The object that a restore entry or a suspension is about; `None` if it is gone.
    pub(crate) async fn read_target(
        &self,
        namespace: &str,
        target: &ObjectTarget,
    ) -> Result<Option<DynamicObject>, ApiError> {
        let ObjectTarget {
            api_version,
            kind,
            name,
            uid,
        } = target;
        let client = self.reader.client();
        let read = self.owners.get(client, namespace, api_version, kind, name);
        let found = read.await?;
        Ok(found.filter(|object| object.metadata.uid.as_ref() == Some(uid)))
    }
}

pub(super) fn record(
    kind: ActionKind,
    target: ObjectTarget,
    result: ActionResult,
    message: &str,
) -> ActionRecord {
    let message = crate::model::clip(message, 1024).to_owned();
    ActionRecord {
        kind,
        target,
        time: Time(Timestamp::now()),
        result,
        message,
    }
}

pub(super) fn done(record: ActionRecord) -> Done {
    Done {
        records: vec![record],
        ..Done::default()
    }
}

pub(super) fn needs_retry() -> Done {
    Done {
        needs_retry: true,
        ..Done::default()
    }
}

pub(super) fn failed(kind: ActionKind, target: ObjectTarget, error: ApiError) -> Box<Failed> {
    let message = crate::observability::chain(&error);
    Box::new(Failed {
        record: record(kind, target, ActionResult::Failed, &message),
        error,
    })
}
