//! Which contacts of which report the engine has received, so that a changed report contributes only its new contacts.

use std::collections::{HashMap, HashSet};

use kube::runtime::reflector::ObjectRef;

use crate::api::ContactReport;
use crate::detect::{Contribution, SharedContact};
use crate::model::Outcome;

/// Identifies a contact within a report: its target and outcome.
type ContactKey = (u64, Outcome);

/// Changed reports and received contacts. Bounded by the store of reports and the size of a report.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    changed: HashSet<ObjectRef<ContactReport>>,
    /// By report: its UID and the contacts that were received from it.
    received: HashMap<ObjectRef<ContactReport>, (String, HashSet<ContactKey>)>,
}

impl Inbox {
    /// Marks a report as added, changed or deleted.
    pub(super) fn changed(&mut self, report: &ContactReport) {
        self.changed.insert(ObjectRef::from_obj(report));
    }

    /// Removes and returns the marked reports, in a fixed order.
    pub(super) fn take_changed(&mut self) -> Vec<ObjectRef<ContactReport>> {
        let mut changed: Vec<_> = self.changed.drain().collect();
        changed.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        changed
    }

    /// Marks a report again that cannot be processed yet.
    pub(super) fn requeue(&mut self, reference: ObjectRef<ContactReport>) {
        self.changed.insert(reference);
    }

    /// Removes a deleted report.
    pub(super) fn forget(&mut self, reference: &ObjectRef<ContactReport>) {
        self.received.remove(reference);
    }

    /// The contacts of a contribution that are new in its report. They count as received from now on.
    pub(super) fn new_contacts(
        &mut self,
        reference: &ObjectRef<ContactReport>,
        report: &ContactReport,
        contribution: Contribution,
    ) -> Contribution {
        let uid = report.metadata.uid.clone().unwrap_or_default();
        let before = self.received.remove(reference);
        let before = before.filter(|(known, _)| *known == uid);
        let before = before.map(|(_, contacts)| contacts).unwrap_or_default();
        let failed = contribution.failed.iter().map(|(_, contact)| contact);
        let now = failed
            .chain(&contribution.answered)
            .map(contact_key)
            .collect();
        self.received.insert(reference.clone(), (uid, now));
        let Contribution { failed, answered } = contribution;
        let is_new = |contact: &SharedContact| !before.contains(&contact_key(contact));
        Contribution {
            failed: failed.into_iter().filter(|(_, c)| is_new(c)).collect(),
            answered: answered.into_iter().filter(is_new).collect(),
        }
    }
}

fn contact_key(contact: &SharedContact) -> ContactKey {
    (contact.target, contact.outcome)
}
