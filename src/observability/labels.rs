//! Label values of metrics: one enum for each closed set, and counters by its values.
//!
//! The names in the metrics are derived from the variants, and so are the lists in docs/metrics.md. A set that a lower
//! layer counts with (`SkipReason`) is defined there.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use strum::{IntoStaticStr, VariantArray, VariantNames};

/// An enum with the values of a label as its variants.
pub(crate) trait LabelValue:
    Copy + fmt::Debug + PartialEq + Into<&'static str> + VariantArray + VariantNames
{
}

impl<T> LabelValue for T where
    T: Copy + fmt::Debug + PartialEq + Into<&'static str> + VariantArray + VariantNames
{
}

macro_rules! label_values {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $variant_doc:literal])* $variant:ident,)* })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, IntoStaticStr, PartialEq, Eq, Hash, PartialOrd, Ord, VariantArray, VariantNames)]
            #[strum(serialize_all = "snake_case")]
            pub enum $name {
                $($(#[doc = $variant_doc])* $variant,)*
            }
        )*
    };
}

label_values! {
    /// Results of decoding a line.
    LineResult {
        /// The line is a signal.
        Signal,
        /// The line is well-formed, and no signal on purpose.
        Skipped,
        /// The line is of a kind that the decoder does not know.
        Unknown,
        /// The line cannot be read.
        Malformed,
    }

    /// Usefulness of the lines of one log.
    LineUse {
        /// A signal of a known pod.
        Attributed,
        /// A header, statistics and the like.
        Neutral,
        /// Left out, or of no known pod.
        Unused,
        /// Not readable in the format of the log.
        Unreadable,
    }

    /// Reasons why no pod can be named for a signal.
    UnattributedReason {
        /// No pod had this address in the time that the index remembers.
        UnknownAddress,
        /// No pod had this name.
        UnknownName,
        /// The address is a node's, shared by all of its hostNetwork pods and its own processes.
        HostNetwork,
        /// The signal is older than the first pod that is known to have had the address.
        BeforePod,
        /// The pod that had the address had ended, and no other had it yet.
        AfterPod,
        /// Two pods can have had the address at that time.
        Ambiguous,
        /// The log names another pod than the one that had the address.
        HintContradicts,
        /// The clock of the log is ahead.
        Ahead,
        /// Too many lines waited for their pods.
        Overflowed,
    }

    /// Results of handling a finding.
    FindingResult {
        /// Written into an Incident.
        Recorded,
        /// The run's mode for the signature is `Disabled`.
        Disabled,
        /// The pod belongs to no run.
        WithoutRun,
        /// The write failed and was retried.
        Retried,
        /// The API server refused it for good.
        Refused,
        /// Too many findings waited.
        Overflowed,
    }

    /// Outcomes of writes to the API server.
    WriteOutcome {
        /// The API server accepted it.
        Accepted,
        /// The API server answered with an error.
        Rejected,
        /// There was no answer within the time limit.
        TimedOut,
        /// The write was not sent, because this process is not the leader.
        NotLeader,
    }

    /// Receivers of notifications.
    Receiver {
        /// Kubernetes Events.
        Events,
        /// Alertmanagers.
        Alertmanager,
        /// The webhook.
        Webhook,
        /// The collector of traces.
        Otlp,
    }

    /// Results of delivering a notification.
    DeliveryResult {
        /// The receiver accepted the request.
        Sent,
        /// The request failed and is retried.
        Failed,
        /// The notification is not retried any more.
        DeadLettered,
    }

    /// Entries that the index of addresses dropped because it was full.
    IndexDrop {
        /// A pod that had ended.
        EndedPod,
        /// An earlier pod of an address.
        EarlierHolder,
        /// A new entry.
        Refused,
    }

    /// Results of writing ContactReports.
    ReportResult {
        /// The report was written.
        Written,
        /// The write failed and is retried.
        Failed,
        /// Too many reports waited to be written.
        LeftOut,
        /// The store of reports was full.
        BeyondBound,
    }

    /// Results of reading contacts in the ContactReports of other nodes.
    ReportedContactResult {
        /// The contact was added.
        Taken,
        /// The pod was not found on that node, or the contact is invalid.
        Refused,
    }

    /// The places in Hubble at which records are lost.
    LossPlace {
        /// The ring buffer between kernel and agent.
        PerfRingBuffer,
        /// The queue of the observer.
        ObserverQueue,
        /// The ring buffer of Hubble.
        HubbleRingBuffer,
        /// A place that this version does not know.
        Unknown,
    }

    /// Results of saving the detection state.
    StateWriteResult {
        /// The state was saved.
        Written,
        /// The write failed.
        Failed,
    }

    /// Reasons why a saved detection state cannot be used.
    StateDefect {
        /// The file cannot be read.
        Unreadable,
        /// The file is something else.
        NotAState,
        /// Another version wrote it.
        OtherLayout,
        /// The checksum does not match.
        Damaged,
        /// The file is too large.
        TooLarge,
        /// A value in it is out of bounds.
        OutOfBounds,
    }

    /// Results of fetching node metrics.
    ScrapeResult {
        /// The text was new.
        News,
        /// The text was the same as before.
        Unchanged,
        /// The fetch failed.
        Failed,
        /// The queue was full.
        Overflowed,
    }

    /// Results of reading samples in node metrics.
    SampleResult {
        /// The sample belongs to a known pod.
        Attributed,
        /// The sample belongs to no known pod.
        Unattributed,
        /// The sample cannot be read.
        Malformed,
        /// Several pods share the accelerator.
        SharedGpu,
        /// There were too many pods.
        BeyondBound,
        /// The clock of the node is ahead.
        Ahead,
        /// The value is impossible.
        Impossible,
    }
}

/// Counters by the values of a label, since the start.
pub(crate) struct Counters<L> {
    counts: Box<[AtomicU64]>,
    values: std::marker::PhantomData<L>,
}

impl<L: LabelValue> Default for Counters<L> {
    fn default() -> Self {
        let values = <L as VariantArray>::VARIANTS.iter();
        Self {
            counts: values.map(|_| AtomicU64::new(0)).collect(),
            values: std::marker::PhantomData,
        }
    }
}

impl<L: LabelValue> Counters<L> {
    /// Counts one more.
    pub(crate) fn count(&self, value: L) {
        self.add(value, 1);
    }

    /// Counts several.
    pub(crate) fn add(&self, value: L, count: u64) {
        let mut values = <L as VariantArray>::VARIANTS.iter();
        let place = values.position(|known| *known == value);
        if let Some(counter) = place.and_then(|place| self.counts.get(place)) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The count of one value.
    #[must_use]
    pub(crate) fn of(&self, value: L) -> u64 {
        let found = self.all().find(|(known, _)| *known == value);
        found.map_or(0, |(_, count)| count)
    }

    /// Each value with its count.
    pub(crate) fn all(&self) -> impl Iterator<Item = (L, u64)> {
        let values = <L as VariantArray>::VARIANTS.iter().copied();
        values.zip(
            self.counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed)),
        )
    }

    /// The sum of all counts.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.all().map(|(_, count)| count).sum()
    }
}

impl<L: LabelValue> fmt::Debug for Counters<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_own_count() {
        let counters = Counters::default();
        counters.count(UnattributedReason::Ambiguous);
        counters.add(UnattributedReason::Ahead, 2);
        assert_eq!(counters.of(UnattributedReason::Ambiguous), 1);
        assert_eq!(counters.of(UnattributedReason::Ahead), 2);
        assert_eq!(counters.of(UnattributedReason::Overflowed), 0);
        assert_eq!(counters.total(), 3);
    }

    #[test]
    fn names_are_in_the_form_of_label_values() {
        let name: &str = UnattributedReason::HintContradicts.into();
        assert_eq!(name, "hint_contradicts");
    }
}
