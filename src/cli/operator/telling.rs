//! Who tells people: the controller, and of several the one that leads.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Duty, Operator};
use crate::notify::Notifier;

impl Operator {
    /// Starts what tells people. An agent tells nobody: its findings are Incidents of the controller.
    pub(super) fn start_telling(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        let Duty::Controller(response) = &self.config.duty else {
            return Ok(());
        };
        // Of several controllers the one that leads tells.
        let gate = self.writer.gate().clone();
        let notifier = Notifier {
            stores: self.stores.clone(),
            writer: self.writer.clone(),
            settings: response.notify.as_ref().clone(),
            instance: std::env::var("HOSTNAME").unwrap_or_else(|_| "yellowjack".to_owned()),
            wakeup: self.wakeup.clone(),
            is_leader: Arc::new(move || gate.is_open()),
            counters: Arc::clone(&self.notified),
        };
        notifier.start(tasks)?;
        Ok(())
    }
}
