//! Which contacts of which report the engine has taken in, so that a report that changes hands over
//! only what is new in it.

use std::collections::{HashMap, HashSet};

use kube::runtime::reflector::ObjectRef;

use crate::api::ContactReport;
use crate::detect::{Contribution, SharedContact};
use crate::model::Outcome;

/// A contact in one report: its target, and what became of it.
type Known = (u64, Outcome);

/// See the module. Bounded by the store of reports and by what a report holds.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    changed: HashSet<ObjectRef<ContactReport>>,
    /// By report: its UID, and what was taken from it.
    taken: HashMap<ObjectRef<ContactReport>, (String, HashSet<Known>)>,
}

impl Inbox {
    /// A report is new, changed or gone.
    pub(super) fn changed(&mut self, report: &ContactReport) {
        self.changed.insert(ObjectRef::from_obj(report));
    }

    /// The reports that changed, in a fixed order.
    pub(super) fn take_changed(&mut self) -> Vec<ObjectRef<ContactReport>> {
        let mut changed: Vec<_> = self.changed.drain().collect();
        changed.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        changed
    }

    /// The report cannot be taken in yet.
    pub(super) fn later(&mut self, reference: ObjectRef<ContactReport>) {
        self.changed.insert(reference);
    }

    /// The report is gone.
    pub(super) fn forget(&mut self, reference: &ObjectRef<ContactReport>) {
        self.taken.remove(reference);
    }

    /// What is new of a contribution, which from now on is taken in.
    pub(super) fn news(
        &mut self,
        reference: &ObjectRef<ContactReport>,
        report: &ContactReport,
        contribution: Contribution,
    ) -> Contribution {
        let uid = report.metadata.uid.clone().unwrap_or_default();
        let before = self.taken.remove(reference);
        let before = before.filter(|(known, _)| *known == uid);
        let before = before.map(|(_, contacts)| contacts).unwrap_or_default();
        let failed = contribution.failed.iter().map(|(_, contact)| contact);
        let now = failed.chain(&contribution.answered).map(known).collect();
        self.taken.insert(reference.clone(), (uid, now));
        let Contribution { failed, answered } = contribution;
        let is_new = |contact: &SharedContact| !before.contains(&known(contact));
        Contribution {
            failed: failed.into_iter().filter(|(_, c)| is_new(c)).collect(),
            answered: answered.into_iter().filter(is_new).collect(),
        }
    }
}

fn known(contact: &SharedContact) -> Known {
    (contact.target, contact.outcome)
}
